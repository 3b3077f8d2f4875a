//! What is due in a run before anybody looks at its nodes: deletion comes before abort, and abort before the phase.

use super::may_have_touched;
use crate::api::{FINALIZER, Phase, RackPartition};

/// What is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing: it is over and nothing is left of it.
    Nothing,
    /// The finalizer, before anything is touched.
    Hold,
    /// It has ended, or is deleted and had not begun: wait for the nodes, then let the object go.
    WindUp,
    /// It ends early, for this reason.
    Abort(&'static str),
    /// The step of its phase.
    Step,
}

pub fn due(run: &RackPartition) -> Due {
    let phase = run.status.as_ref().and_then(|s| s.phase);
    let is_final = phase.is_some_and(Phase::is_final);
    match (run.metadata.deletion_timestamp.is_some(), is_held(run)) {
        (true, false) => Due::Nothing,
        (false, false) if is_final => Due::Nothing,
        (false, false) => Due::Hold,
        (_, true) if is_final => Due::WindUp,
        (true, true) if may_have_touched(phase) => Due::Abort("aborted: the object is being deleted"),
        (true, true) => Due::WindUp,
        (false, true) if run.spec.abort => Due::Abort("aborted by spec.abort"),
        (false, true) => Due::Step,
    }
}

/// Whether something of the run may still be on the nodes.
pub fn is_held(run: &RackPartition) -> bool {
    run.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(metadata: Value, abort: bool, phase: Option<Phase>) -> RackPartition {
        let spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s", "abort": abort});
        serde_json::from_value(json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": metadata, "spec": spec, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn deletion_comes_before_abort_and_abort_before_the_phase() {
        let of = |deleted: bool, held: bool, abort, phase| {
            let at = deleted.then_some("2026-01-01T00:00:00Z");
            let finalizers: &[&str] = if held { &[FINALIZER] } else { &[] };
            due(&run(json!({"name": "run", "deletionTimestamp": at, "finalizers": finalizers}), abort, phase))
        };
        for phase in [Phase::Arming, Phase::Scheduled, Phase::Cut, Phase::Recovering, Phase::Judging] {
            assert_eq!(of(false, true, false, Some(phase)), Due::Step);
            assert_eq!(of(false, true, true, Some(phase)), Due::Abort("aborted by spec.abort"));
            assert_eq!(of(true, true, true, Some(phase)), Due::Abort("aborted: the object is being deleted"));
            assert_eq!(of(false, false, true, Some(phase)), Due::Hold);
        }
        for phase in [Phase::Done, Phase::Refused, Phase::Aborted].map(Some) {
            assert_eq!((of(false, true, true, phase), of(true, true, false, phase)), (Due::WindUp, Due::WindUp));
            assert_eq!((of(false, false, true, phase), of(true, false, false, phase)), (Due::Nothing, Due::Nothing));
        }
        assert_eq!(of(false, false, false, None), Due::Hold);
        assert_eq!((of(false, true, false, None), of(true, true, true, None)), (Due::Step, Due::WindUp));
    }
}
