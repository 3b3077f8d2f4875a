//! Tables that stay readable in a terminal.

use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

/// Columns, where nobody says how many there are: kubectl's pages, CI logs and this project's README fit.
const WIDTH: u16 = 100;
/// Below this many columns every word would wrap.
const NARROWEST: u16 = 60;
/// Room for `kube-controller-manager` and `default/web (Deployment)` with a blank on either side.
const SUBJECT: u16 = 26;
/// Holds a number and its unit together while cells are wrapped.
const GLUE: char = '\u{a0}';

/// An empty table of at most so many columns.
pub fn table(header: &[&str], width: Option<u16>) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let width = width.unwrap_or(WIDTH).max(NARROWEST);
    table.set_width(width).set_header(header.to_vec());
    if let Some(subjects) = table.column_mut(1).filter(|_| width >= WIDTH) {
        subjects.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(SUBJECT)));
    }
    table
}

/// A cell whose numbers keep their units.
pub fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut digit = false;
    while let Some(c) = chars.next() {
        let unit = digit && c == ' ' && chars.peek() == Some(&'s');
        out.push(if unit { GLUE } else { c });
        digit = c.is_ascii_digit();
    }
    out
}

/// A table as text, without trailing blanks.
pub fn text(table: &Table) -> String {
    table.trim_fmt().replace(GLUE, " ")
}

/// A name without the namespace that most of what is judged lives in.
pub fn short(subject: &str) -> &str {
    subject.strip_prefix("kube-system/").unwrap_or(subject)
}
