//! Why more of a workload ran than were planned with: in place of pods that went, or because more were wanted.

use super::{
    Case,
    pods::{ApiPod, Gone, is_active},
};
use crate::predict::WorkloadForecast;

/// Why a controller made pods beside those that were planned with. How many it was to have nobody watches.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// None of those that were cut off was being deleted, had ended or was gone: then none is made in its place.
    Wanted,
    Unseen,
    /// One of them was.
    InPlace,
}

/// Asked are those of the cut side: whatever takes the place of another one is no copy of what was cut off.
pub fn why_made(case: &Case<'_>, owner: &WorkloadForecast, found: &[&ApiPod<'_>]) -> Why {
    let all = owner.pods.iter().flat_map(|old| found.iter().map(move |new| beside(case, new, &old.uid)));
    // More than were planned with, and no new pod: whatever that is, nobody wanted it.
    all.max().unwrap_or(Why::InPlace)
}

/// What became of a pod that was cut off, by its uid, when a new one was made.
fn beside(case: &Case<'_>, new: &ApiPod<'_>, uid: &str) -> Why {
    let Some(old) = case.pods.api_pod(uid) else { return Why::Unseen };
    match old.seen.last() {
        // Whoever is being deleted or has ended stays so.
        _ if old.seen.iter().any(|s| is_active(s) && s.to >= new.first()) => Why::Wanted,
        Some(last) if is_active(last) && !matches!(case.pods.gone(old), Gone::By(_)) => Why::Unseen,
        _ => Why::InPlace,
    }
}
