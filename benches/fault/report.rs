//! The figures for people and for programs.

use crate::figure::{Better, Figure};
use anyhow::Context;
use comfy_table::Table;
use serde_json::{Value, json};
use std::path::Path;

pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json");

pub fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "median", "worst", "n", "target", "met"]);
    for f in figures {
        table.add_row([
            f.name.clone(),
            format!("{} {}", number(f.median()), f.unit),
            format!("{} {}", number(f.worst()), f.unit),
            f.samples.len().to_string(),
            target(f).unwrap_or_default(),
            met(f).into(),
        ]);
    }
    table
}

/// # Errors
/// Where the file cannot be written.
pub fn write(figures: &[Figure], path: &str) -> anyhow::Result<()> {
    let objects: Vec<Value> = figures.iter().map(object).collect();
    let what = || format!("failed to write {path}");
    if let Some(parent) = Path::new(path).parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    std::fs::write(path, format!("{:#}\n", Value::from(objects))).with_context(what)
}

fn object(f: &Figure) -> Value {
    let compared_with: Vec<String> =
        target(f).map(|t| format!("target: {t}")).into_iter().chain(f.beside.clone()).collect();
    json!({
        "name": f.name,
        "unit": f.unit,
        // The median of the samples.
        "value": f.median(),
        "worst": f.worst(),
        "samples": f.samples.len(),
        "compared_with": compared_with,
        "target": f.target,
        "met": f.meets(f.median()),
        "worst_met": f.meets(f.worst()),
    })
}

fn target(f: &Figure) -> Option<String> {
    let bound = match f.better {
        Better::Lower => "at most",
        Better::Higher => "at least",
    };
    f.target.map(|t| format!("{bound} {t} {}", f.unit))
}

fn met(f: &Figure) -> &'static str {
    match (f.meets(f.median()), f.meets(f.worst())) {
        (Some(true), Some(true)) => "yes",
        (Some(true), _) => "by the median only",
        (Some(false), _) => "no",
        (None, _) => "",
    }
}

/// Three significant digits, more only before the point.
fn number(n: f64) -> String {
    match n.abs() {
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        a if a >= 1.0 => format!("{n:.2}"),
        _ => format!("{n:.3}"),
    }
}
