//! StoreAgreement, how much members have in use. Stores that hold the same may have different sizes, since pages that compaction frees come
//! back at their own time, so a size by itself is told and accuses nobody.

use super::{Said, cite::some, etcd_members::Voter};
use crate::{
    api::{Check, Finding, FindingResult, STORE_ALARMS},
    predict::majority,
};

/// Sizes in use may differ by this factor and by so many bytes without a word. Ours.
const FACTOR: i64 = 2;
const SLACK: i64 = 16 << 20;

/// What is to be told of sizes.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Members whose size is far from that of a majority, each as a finding.
    pub outlying: Vec<Finding>,
    /// Where some are far from each other, and nobody can say which of them are unusual.
    pub apart: Option<String>,
}

/// One member and the bytes it has in use.
type Size<'v, 'c, 'a> = (&'v Voter<'c, 'a>, i64);

pub fn compare(voters: &[Voter<'_, '_>]) -> Sizes {
    let sizes: Vec<Size<'_, '_, '_>> = voters.iter().filter_map(|v| Some((v, used(v)?))).collect();
    let enough = majority(u32::try_from(voters.len()).unwrap_or(u32::MAX)) as usize;
    // Most members are alike, so any of those is the measure for the others.
    let alike = |own: i64| sizes.iter().filter(move |(_, other)| !are_far(own, *other));
    let usual = sizes.iter().map(|(_, own)| *own).find(|own| alike(*own).count() >= enough);
    let Some(usual) = usual else {
        let is_apart = sizes.iter().any(|(_, own)| alike(*own).count() < sizes.len());
        return Sizes { apart: is_apart.then(|| format!("in use are {}", list(&sizes))), ..Sizes::default() };
    };
    let (far, others): (Vec<_>, Vec<_>) = sizes.iter().copied().partition(|(_, own)| are_far(*own, usual));
    Sizes { outlying: far.iter().map(|size| outlying(size, &others)).collect(), apart: None }
}

fn are_far(one: i64, other: i64) -> bool {
    let (least, most) = (one.min(other), one.max(other));
    most > FACTOR.saturating_mul(least) && most.saturating_sub(least) > SLACK
}

fn outlying((voter, bytes): &Size<'_, '_, '_>, others: &[Size<'_, '_, '_>]) -> Finding {
    let observed = format!("{} in use, the others have {}", mebibytes(*bytes), list(others));
    let evidence = voter.seen(STORE_ALARMS).last().map_or_else(String::new, |seen| voter.cite(seen));
    let tolerance = format!("a factor of {FACTOR}, or {}", mebibytes(SLACK));
    let said = Said::new(FindingResult::Noted, observed, evidence).tolerating(tolerance);
    said.about(Check::StoreAgreement, voter.node, "about as much in use as by the others")
}

/// Bytes in use when a member was last asked.
fn used(voter: &Voter<'_, '_>) -> Option<i64> {
    voter.told("used", f64::INFINITY)?.parse().ok()
}

/// A member's size, behind what else is told of it.
pub fn told(voter: &Voter<'_, '_>) -> String {
    used(voter).map_or_else(String::new, |bytes| format!(", {} in use", mebibytes(bytes)))
}

fn list(sizes: &[Size<'_, '_, '_>]) -> String {
    let all: Vec<String> = sizes.iter().map(|(v, bytes)| format!("{} {}", v.node, mebibytes(*bytes))).collect();
    some(&all)
}

fn mebibytes(bytes: i64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
