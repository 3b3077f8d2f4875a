//! Each guard of a plan by itself. The operator stops at the first that refuses; whoever writes a run by hand wants to know all.

use crate::{
    api::{Guards, RackPartitionSpec, Side},
    fault::{Fault, Policy, Refusal, check_guards},
    report::{Guard, GuardResult},
    topology::Snapshot,
};
use std::time::Duration;

const CUT: &str = "spec.cut";
const MEMBERS: &str = "nodes and endpoints";
const ALL_RACKS: &str = "spec.guards.allowAllRacks";
const ETCD: &str = "members of etcd";
const QUORUM_LOSS: &str = "spec.guards.allowQuorumLoss";
const API_SERVER_LOSS: &str = "spec.guards.allowApiServerLoss";
const BASELINE: &str = "spec.guards.allowUnhealthyBaseline";
const OPERATOR: &str = "operator on the writable side";
const POLICY: &str = "policy of the chart";

/// In the order in which [`check_guards`] asks, for it says nothing of those behind the first that refuses.
const ORDER: [&str; 7] = [MEMBERS, ALL_RACKS, ETCD, QUORUM_LOSS, API_SERVER_LOSS, BASELINE, OPERATOR];

/// Whose refusal this is. One that no field opens and nobody else says is about the cluster's members.
fn guard_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::AllRacks => ALL_RACKS,
        Refusal::NoEtcd => ETCD,
        Refusal::QuorumLoss { .. } | Refusal::NoElection { .. } | Refusal::LeaderDeposed { .. } => QUORUM_LOSS,
        Refusal::ApiServerLoss | Refusal::ApiServerInDoubt { .. } => API_SERVER_LOSS,
        Refusal::NodeNotReady { .. } => BASELINE,
        Refusal::OperatorOnLosingSide { .. } => OPERATOR,
        _ => MEMBERS,
    }
}

/// What each guard says of a cut.
pub fn all(
    spec: &RackPartitionSpec,
    snapshot: &Snapshot,
    fault: &Fault,
    sides: &[Side],
    policy: &Policy,
) -> Vec<Guard> {
    let asked = |name: &str| check_guards(&opened_but(name, &spec.guards), snapshot, fault, sides).err();
    let of = |name: &str| match asked(name) {
        None => guard(name, GuardResult::LetsThrough, None),
        Some(refusal) if guard_of(&refusal) == name => refuses(name, &refusal),
        Some(refusal) if place(guard_of(&refusal)) < place(name) => unknown(name, &refusal.to_string()),
        // Another one, behind it.
        Some(_) => guard(name, GuardResult::LetsThrough, None),
    };
    let policy = match policy.check(Duration::from(spec.duration), snapshot, fault) {
        Ok(()) => guard(POLICY, GuardResult::LetsThrough, None),
        Err(refusal) => refuses(POLICY, &refusal),
    };
    let cut = guard(CUT, GuardResult::LetsThrough, None);
    std::iter::once(cut).chain(ORDER.into_iter().map(of)).chain([policy]).collect()
}

/// What is left to say where the cut stands for no edges.
pub fn of_no_cut(refusal: &Refusal) -> Vec<Guard> {
    let others = ORDER.into_iter().chain([POLICY]).map(|name| unknown(name, "the cut stands for no edges"));
    std::iter::once(refuses(CUT, refusal)).chain(others).collect()
}

/// Every guard that a field opens is open, but for this one: that is as the run has it.
fn opened_but(name: &str, guards: &Guards) -> Guards {
    Guards {
        allow_all_racks: name != ALL_RACKS || guards.allow_all_racks,
        allow_quorum_loss: name != QUORUM_LOSS || guards.allow_quorum_loss,
        allow_api_server_loss: name != API_SERVER_LOSS || guards.allow_api_server_loss,
        allow_unhealthy_baseline: name != BASELINE || guards.allow_unhealthy_baseline,
        ..guards.clone()
    }
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|other| *other == name)
}

fn guard(name: &str, result: GuardResult, message: Option<String>) -> Guard {
    Guard { name: name.to_owned(), result, message }
}

fn refuses(name: &str, refusal: &Refusal) -> Guard {
    guard(name, GuardResult::Refuses, Some(refusal.to_string()))
}

fn unknown(name: &str, why: &str) -> Guard {
    guard(name, GuardResult::Unknown, Some(format!("not asked, since {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::{expand, sides},
        judge::tests::fixture::snapshot,
    };
    use serde_json::{Value, json};

    fn isolate() -> Value {
        json!({"isolate": {"racks": ["r1"]}})
    }
    /// Every rack by itself.
    fn split() -> Value {
        json!({"split": {"groups": [{"racks": ["r1"], "endpoints": ["lb"]}, {"racks": ["r2"]}, {"racks": ["r3"]}]}})
    }

    /// Names of the guards that came out so.
    fn names(cut: Value, guards: Value, snapshot: &Snapshot, result: GuardResult) -> Vec<String> {
        let spec = json!({"cut": cut, "duration": "60s", "guards": guards});
        let spec: RackPartitionSpec = serde_json::from_value(spec).unwrap();
        let fault = expand(&spec, snapshot).unwrap();
        let said = all(&spec, snapshot, &fault, &sides(snapshot, &fault), &Policy::default());
        assert!(said.iter().all(|g| g.message.is_some() == (g.result != GuardResult::LetsThrough)), "{said:?}");
        said.into_iter().filter(|g| g.result == result).map(|g| g.name).collect()
    }

    fn refusing(cut: Value, guards: Value, snapshot: &Snapshot) -> Vec<String> {
        names(cut, guards, snapshot, GuardResult::Refuses)
    }

    #[test]
    fn every_guard_that_refuses_is_named_and_not_only_the_first() {
        assert!(refusing(isolate(), json!({}), &snapshot()).is_empty());
        assert_eq!(refusing(split(), json!({}), &snapshot()), [ALL_RACKS, QUORUM_LOSS]);
        assert_eq!(refusing(split(), json!({"allowAllRacks": true}), &snapshot()), [QUORUM_LOSS]);
        let mut unwell = snapshot();
        (unwell.nodes[5].ready, unwell.operators[0].ready) = (false, false);
        assert_eq!(refusing(isolate(), json!({}), &unwell), [BASELINE, OPERATOR]);
        assert_eq!(refusing(isolate(), json!({"allowUnhealthyBaseline": true}), &unwell), [OPERATOR]);
        let mut deaf = snapshot();
        deaf.api_servers.retain(|server| server.name == "cp1");
        assert_eq!(refusing(isolate(), json!({}), &deaf), [API_SERVER_LOSS]);
    }

    #[test]
    fn what_nobody_could_ask_is_not_let_through() {
        let mut unplaced = snapshot();
        unplaced.nodes[0].rack = None;
        assert_eq!(refusing(isolate(), json!({}), &unplaced), [MEMBERS]);
        let unasked = names(isolate(), json!({}), &unplaced, GuardResult::Unknown);
        assert_eq!(unasked, ORDER[1..]);
        let mut without_etcd = snapshot();
        without_etcd.etcd.clear();
        assert_eq!(refusing(split(), json!({}), &without_etcd), [ALL_RACKS, ETCD]);
        let unasked = names(isolate(), json!({}), &without_etcd, GuardResult::Unknown);
        assert_eq!(unasked, ORDER[3..]);
    }

    #[test]
    fn a_policy_is_asked_beside_the_guards() {
        let spec: RackPartitionSpec = serde_json::from_value(json!({"cut": isolate(), "duration": "60s"})).unwrap();
        let snapshot = snapshot();
        let policy = Policy { max_duration: Duration::from_secs(30), ..Policy::default() };
        let fault = expand(&spec, &snapshot).unwrap();
        let said = all(&spec, &snapshot, &fault, &sides(&snapshot, &fault), &policy);
        let refused: Vec<&Guard> = said.iter().filter(|g| g.result == GuardResult::Refuses).collect();
        assert_eq!(refused.len(), 1, "{said:?}");
        assert!(refused[0].name == POLICY && refused[0].message.as_ref().unwrap().contains("60 s"), "{refused:?}");
    }
}
