//! What a full record lacks, in words: whoever reads of it knows which of a node's sources to doubt.

use crate::{api::NodeRecordStatus, predict::count};
use std::cmp::Reverse;

/// `5 spans left out (3 Probe, 2 Health)`, most of them first; `None` where none are. A record of an earlier version says of no kinds.
pub fn left_out(status: &NodeRecordStatus) -> Option<String> {
    let all = status.spans_left_out;
    let mut kinds: Vec<(&String, &u32)> = status.spans_left_out_by_kind.iter().collect();
    kinds.sort_by_key(|(_, spans)| Reverse(**spans));
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, spans)| format!("{spans} {kind}")).collect();
    let told = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    (all > 0).then(|| format!("{} left out{told}", count(all as usize, "span")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_was_left_out_is_told_by_kind_and_the_most_first() {
        let of = |all: u32, kinds: &[(&str, u32)]| {
            let kinds: BTreeMap<String, u32> = kinds.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
            let status = NodeRecordStatus { spans_left_out: all, spans_left_out_by_kind: kinds, ..Default::default() };
            left_out(&status)
        };
        assert_eq!(of(0, &[]), None);
        assert_eq!(of(1, &[]).as_deref(), Some("1 span left out"));
        let three = of(6, &[("Container", 1), ("Health", 2), ("Probe", 3)]);
        assert_eq!(three.as_deref(), Some("6 spans left out (3 Probe, 2 Health, 1 Container)"));
    }
}
