//! A second pod of one StatefulSet name, where the first one is not on the side that is cut off.

use super::{
    fixture::{END, Run, START, container, passing, pod},
    mutations::expect,
};
use crate::api::{Check, FindingResult, Verdict};

const KV: &str = "default/kv (StatefulSet)";

/// A pod of a StatefulSet on the side that is heard, planned with and running.
fn on_the_rest(run: &mut Run, name: &str, uid: &str, owner: &str) {
    let mut planned = run.snapshot.pods.iter().find(|p| p.uid == "db-1").expect("a pod of the fixture").clone();
    (planned.name, planned.uid, planned.node) = (name.into(), uid.into(), "w2".into());
    planned.owner_name = Some(owner.into());
    let subject = planned.subject();
    run.snapshot.pods.push(planned);
    let seen = pod(&subject, uid, "w2", &format!("StatefulSet/{owner}"), "Running/Ready", START, END);
    run.operator_status().spans.push(seen);
    run.status("w2").spans.push(container(&format!("{subject}/app"), uid, "running", -600.0, END));
}

#[test]
fn a_twin_that_a_kubelet_without_the_api_starts() {
    let alone = |run: &mut Run| on_the_rest(run, "kv-0", "kv-0-a", "kv");
    expect(alone, Verdict::Pass, &[]);
    let mut run = passing();
    alone(&mut run);
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadDoubled && f.subject == KV);
    assert_eq!(found.map(|f| f.result), Some(FindingResult::Held), "{findings:#?}");
    let twin = |run: &mut Run| {
        alone(run);
        run.status("w1").spans.push(container("default/kv-0/app", "kv-0-b", "running", 50.0, END));
    };
    expect(twin, Verdict::Fail, &[(Check::WorkloadDoubled, KV, FindingResult::Violated)]);
    // Of a StatefulSet that has another pod on the side that is cut off.
    let sibling = |run: &mut Run| {
        on_the_rest(run, "db-1", "db-1-a", "db");
        run.status("w1").spans.push(container("default/db-1/app", "db-1-b", "running", 50.0, END));
    };
    let amiss = [(Check::WorkloadDoubled, "default/db (StatefulSet)", FindingResult::Violated)];
    expect(sibling, Verdict::Fail, &amiss);
}

#[test]
fn whether_there_was_a_twin_nobody_knows_where_a_runtime_is_not_read() {
    let mut run = passing();
    on_the_rest(&mut run, "kv-0", "kv-0-a", "kv");
    run.status("w3").reads_containers = false;
    let result = |run: &Run| {
        let findings = run.judge().findings;
        findings.into_iter().find(|f| f.check == Check::WorkloadDoubled && f.subject == KV).map(|f| f.result)
    };
    assert_eq!(result(&run), Some(FindingResult::Inconclusive));
    // One that never ran has no twin to be looked for.
    let mut pending = passing();
    let seen = pod("default/kv-0", "kv-0-a", "", "StatefulSet/kv", "Pending/NotReady", START, END);
    pending.operator_status().spans.push(seen);
    assert_eq!(result(&pending), None);
}
