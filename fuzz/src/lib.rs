//! What the targets share: from a run and a cluster to a verdict, as the operator goes, without any effect.

use rackpartition::{
    agent::rules_at,
    api::{
        NodeRecord, NodeRecordSpec, NodeRecordStatus, Observer, RackPartition, RackPartitionSpec, Schedule, Side,
    },
    fault::{Fault, PlanParts, RunPlan, check_guards, expand, sides},
    judge::{Evidence, judge},
    predict::predict,
    topology::Snapshot,
};
use std::time::Duration;

/// A run of the kind that people write, with every field of its spec that matters here.
pub fn run() -> RackPartition {
    serde_json::from_str(include_str!("../seeds/run/example.json")).expect("the seed")
}

/// Six nodes in three racks, as one was on the lab.
pub fn snapshot() -> Snapshot {
    serde_json::from_str(include_str!("../seeds/snapshot/lab.json")).expect("the seed")
}

/// Everything that follows from a run and a cluster before anybody is cut.
pub fn planned(spec: &RackPartitionSpec, snapshot: &Snapshot) -> Option<(Fault, Vec<Side>, RunPlan)> {
    let fault = expand(spec, snapshot).ok()?;
    let sides = sides(snapshot, &fault);
    let _ = check_guards(&spec.guards, snapshot, &fault, &sides);
    let length = Duration::from(spec.duration);
    predict(snapshot, &fault, &sides, length);
    let parts = PlanParts {
        run: "run".into(),
        run_uid: "0a1b-2c".into(),
        token: "0".repeat(32),
        duration_seconds: length.as_secs_f64(),
        longest_seconds: length.as_secs_f64() + 60.0,
        writable: Vec::new(),
    };
    let plan = RunPlan::new(snapshot, &fault, parts);
    for node in plan.agents() {
        rules_at(&plan, node);
        plan.windows_at(node, plan.duration_seconds);
    }
    let json = serde_json::to_vec(&plan).expect("plain data");
    assert_eq!(serde_json::from_slice::<RunPlan>(&json).ok().as_ref(), Some(&plan), "agents read what was written");
    Some((fault, sides, plan))
}

/// The verdict on what these two wrote down of a run that was cut.
pub fn judged(spec: &RackPartitionSpec, snapshot: &Snapshot, operator: NodeRecordStatus, agent: NodeRecordStatus) {
    let (fault, sides, plan) = planned(spec, snapshot).expect("the seeds make a plan");
    let schedule: Schedule = serde_json::from_str(include_str!("../seeds/schedule.json")).expect("the seed");
    let record = |node: &str, observer, status| {
        let spec = NodeRecordSpec::new("run", "0a1b-2c", node, observer);
        let mut record = NodeRecord { status: Some(status), ..NodeRecord::new(node, spec) };
        // One that can't be unpacked stays as it is, as with whoever judges.
        let _ = record.unpack();
        record
    };
    let node = plan.agents().into_iter().next().expect("a node").to_owned();
    let operator = record(&node, Observer::Operator, operator);
    let agents = [record(&node, Observer::Agent, agent)];
    let evidence = Evidence {
        spec,
        snapshot,
        fault: &fault,
        plan: &plan,
        sides: &sides,
        schedule: &schedule,
        operator: Some(&operator),
        agents: &agents,
    };
    let judgement = judge(&evidence);
    // Five nodes have written nothing down.
    assert_ne!(judgement.verdict, rackpartition::api::Verdict::Pass, "missing evidence is never Pass");
}
