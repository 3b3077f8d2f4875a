//! stub
use crate::{api::*, fault::*, topology::Snapshot};
pub struct Evidence<'a> {
    pub spec: &'a RackPartitionSpec,
    pub snapshot: &'a Snapshot,
    pub fault: &'a Fault,
    pub plan: &'a RunPlan,
    pub sides: &'a [Side],
    pub schedule: &'a Schedule,
    pub operator: Option<&'a NodeRecord>,
    pub agents: &'a [NodeRecord],
}
pub struct Judgement {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
}
pub fn judge(_: &Evidence<'_>) -> Judgement {
    todo!()
}
pub fn injected(_: &Evidence<'_>) -> Finding {
    todo!()
}
