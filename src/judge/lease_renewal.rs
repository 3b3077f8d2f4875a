//! The last renewal of a Lease before somebody else took it, from which theory counts (§3.1): one that was long in coming may be written
//! long after the cut, and even after its holder has ended.

use super::{Case, timeline::Seen};
use crate::topology::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Between which times it was written, seconds after the cut. Neither is known of what an older version wrote down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renewal {
    /// Not before that: its holder began to renew then, by the clock of its node.
    pub after: Option<f64>,
    /// By then: the operator saw it.
    pub until: Option<f64>,
}

impl Renewal {
    /// `held`: the last look at its holder. Another renewal may have come before the next one.
    pub fn seen(case: &Case<'_>, lease: &Lease, held: &Seen<'_>) -> Self {
        let time = |name: &str| Some(MicroTime(held.span.told(name)?.parse().ok()?));
        let by_holder = |at: MicroTime| {
            let (at, error) = case.timeline.agent(lease.node_of(&held.span.state))?.read_wall(&at)?;
            Some(at - error)
        };
        let by_operator = |at: MicroTime| {
            let track = case.timeline.operator.as_ref()?;
            Some(track.after_cut(&at) + track.error)
        };
        Renewal { after: time("renewed").and_then(by_holder), until: time("seen").and_then(by_operator) }
    }
}
