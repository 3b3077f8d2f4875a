//! Checks of the theory that no run makes, so that nobody takes a verdict for more than it is.

use crate::api::NotMade;

/// By their numbers in `docs/checks.md`, which says what each would be.
pub const NOT_SUPPORTED: [&str; 8] = ["C6", "C17", "C20", "C21", "C23", "C24", "C25", "C27"];

/// Of checks that are made, what is not looked at, in the words of the page.
pub const PARTS_NOT_SUPPORTED: [(&str, &str); 1] = [("C12", "a ReadWriteOnce volume mounted on two nodes")];

/// All of them, for programs and for a run's status.
pub fn unsupported() -> Vec<NotMade> {
    let of = |check: &str, reason: String| NotMade { check: check.into(), reason };
    let whole = NOT_SUPPORTED.iter().map(|check| of(check, "no run makes it (docs/checks.md)".into()));
    let looked_for = |part: &str| format!("no run looks for {part} (docs/checks.md)");
    let parts = PARTS_NOT_SUPPORTED.iter().map(|(check, part)| of(check, looked_for(part)));
    whole.chain(parts).collect()
}

/// A line for the end of a report, and one for each check of which a part is missing.
pub fn not_supported() -> String {
    let parts: String = PARTS_NOT_SUPPORTED.iter().map(|(check, part)| format!("\n- of {check}: {part}")).collect();
    format!("Not supported: {} (docs/checks.md){parts}", NOT_SUPPORTED.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Check;
    use serde_json::Value;
    use std::{collections::BTreeSet, path::Path};

    const PAGE: &str = include_str!("../../docs/checks.md");

    /// Cells of every check's row: number, what it asks, findings, code, tolerance and source.
    fn rows() -> Vec<Vec<&'static str>> {
        let is_check = |line: &&str| line.starts_with("| C") && line.as_bytes().get(3).is_some_and(u8::is_ascii_digit);
        PAGE.lines().filter(is_check).map(|l| l.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    /// What stands between backticks.
    fn named(cell: &str) -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Every name that a schema allows.
    fn names(schema: &Value) -> BTreeSet<String> {
        match schema {
            Value::Object(fields) => {
                let one = fields.get("const").into_iter();
                let several = fields.get("enum").and_then(Value::as_array).into_iter().flatten();
                let own = one.chain(several).filter_map(|name| name.as_str().map(str::to_owned));
                fields.values().flat_map(names).chain(own).collect()
            }
            Value::Array(all) => all.iter().flat_map(names).collect(),
            _ => BTreeSet::new(),
        }
    }

    #[test]
    fn every_check_of_the_theory_has_its_row() {
        let numbers: Vec<&str> = rows().iter().map(|row| row[0]).collect();
        let all: Vec<String> = (0..=27).map(|i| format!("C{i}")).collect();
        assert_eq!(numbers, all);
        assert!(rows().iter().all(|row| row.len() == 5), "a cell too many or too few");
    }

    #[test]
    fn what_is_not_supported_is_what_the_page_says() {
        let rows = rows();
        let of_page: Vec<&str> = rows.iter().filter(|row| row[2] == "not supported").map(|row| row[0]).collect();
        assert_eq!(of_page, NOT_SUPPORTED);
        let told: Vec<String> = unsupported().into_iter().map(|n| n.check).collect();
        assert_eq!(told[..of_page.len()], of_page[..]);
        assert!(not_supported().contains("C27") && not_supported().lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn parts_that_are_not_supported_are_what_the_page_says() {
        let rows = rows();
        let part = |row: &Vec<&'static str>| {
            let (_, after) = row[4].split_once("Not supported: ")?;
            Some((row[0], after.split_once('.').map_or(after, |(part, _)| part)))
        };
        let of_page: Vec<(&str, &str)> = rows.iter().filter_map(part).collect();
        assert_eq!(of_page, PARTS_NOT_SUPPORTED);
        let last = unsupported().pop().unwrap();
        assert_eq!((last.check.as_str(), last.reason.contains(PARTS_NOT_SUPPORTED[0].1)), ("C12", true));
        assert!(not_supported().ends_with("\n- of C12: a ReadWriteOnce volume mounted on two nodes"));
    }

    #[test]
    fn every_finding_belongs_to_a_check_and_every_file_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/judge");
        let mut told = BTreeSet::new();
        for row in rows().iter().filter(|row| row[2] != "not supported") {
            let (findings, files) = (named(row[2]), named(row[3]));
            assert!(!findings.is_empty() && !files.is_empty(), "{row:?}");
            for file in files {
                assert!(folder.join(&file).is_file(), "{}: there is no {file}", row[0]);
            }
            told.extend(findings);
        }
        let schema = serde_json::to_value(schemars::schema_for!(Check)).unwrap();
        assert_eq!(told, names(&schema));
    }
}
