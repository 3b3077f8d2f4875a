//! Tables that stay readable in a terminal.

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};

/// Columns, where nobody says how many there are: kubectl's pages, CI logs and this project's README fit.
const WIDTH: u16 = 100;
/// Below this many columns every word would wrap.
const NARROWEST: u16 = 60;

/// An empty table of at most so many columns.
pub fn table(header: &[&str], width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width.unwrap_or(WIDTH).max(NARROWEST)).set_header(header.to_vec());
    table
}

/// A table as text, without trailing blanks.
pub fn text(table: &Table) -> String {
    table.trim_fmt()
}
