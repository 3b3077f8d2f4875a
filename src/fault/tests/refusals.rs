//! Every refusal says what would let the run begin, in the names under which people find it.

use super::{
    Refusal,
    remedy::Remedy::{self, Chart, Deed, Run},
};
use std::{collections::HashSet, mem::discriminant};

fn refusals() -> Vec<(Refusal, Remedy)> {
    use Refusal::*;
    let s = str::to_owned;
    vec![
        (NoConstructor, Run("spec.cut")),
        (Empty { cut: s("isolate r1") }, Run("spec.cut")),
        (Overlap { name: s("n1") }, Run("spec.cut")),
        (Unplaced { name: s("lb") }, Run("spec.cut")),
        (Unenforced { from: s("lb"), to: s("etcd-a") }, Run("spec.endpoints[].egress")),
        (NoSuchTraffic, Run("spec.traffic")),
        (EndpointOverNode { endpoint: s("lb"), node: s("n1") }, Run("spec.endpoints[].cidrs")),
        (NoBridge, Run("spec.cut.bridge")),
        (NoSuchRing { members: 7, why: s("why") }, Run("spec.cut.ring.members")),
        (NoSuchMember { kind: "node", name: s("n9") }, Run("spec.endpoints")),
        (StaggerTooLong { needed_seconds: 20.0, length_seconds: 10.0 }, Run("spec.stagger")),
        (NoSuchLabel { label: s("rack") }, Run("spec.rackLabel")),
        (NoSuchRack { rack: s("r9"), label: s("rack"), known: s("r1") }, Run("spec.rackLabel")),
        (UnresolvedRole { role: s("etcd-leader"), why: s("why") }, Run("spec.cut")),
        (AllRacks, Run("spec.guards.allowAllRacks")),
        (QuorumLoss { total: 3, split: s("1, 1, 1") }, Run("spec.guards.allowQuorumLoss")),
        (NoElection { members: s("n2") }, Run("spec.guards.allowQuorumLoss")),
        (LeaderDeposed { members: s("n1") }, Run("spec.guards.allowQuorumLoss")),
        (ApiServerLoss, Run("spec.guards.allowApiServerLoss")),
        (ApiServerInDoubt { leader: s("n2") }, Run("spec.guards.allowApiServerLoss")),
        (TooManyNodes { count: 2, total: 3, most_percent: 50 }, Chart("policy.maxNodesPercent")),
        (ProtectedRack { rack: s("r1"), node: s("n1") }, Chart("policy.protectedRacks")),
        (
            ProtectedNamespace { namespace: s("pay"), pod: s("db-0"), node: s("n1") },
            Chart("policy.protectedNamespaces"),
        ),
        (TooLong { seconds: 61.0, most_seconds: 60.0 }, Chart("policy.maxDuration")),
        (NotOptedIn { label: s("chaos") }, Chart("policy.optInLabel")),
        (NoEtcd, Deed("static pods in kube-system")),
        (UnresolvedEtcd { url: s("https://a:2379"), why: s("why") }, Deed("name it there by its address")),
        (EtcdPorts { node: s("n1"), flag: "advertise-client-urls", ports: s("1, 2") }, Run("spec.traffic")),
        (NodeWithoutRack { node: s("n1"), label: s("rack") }, Run("spec.rackLabel")),
        (NodeNotReady { node: s("n1") }, Run("spec.guards.allowUnhealthyBaseline")),
        (NodeWithoutAddress { node: s("n1") }, Deed("its kubelet")),
        (OperatorOnLosingSide { nodes: s("n1") }, Chart("operator.replicas")),
        (AnotherRun { other: s("first"), phase: s("Cut") }, Deed("kubectl delete rackpartition first")),
        (UnresolvedEndpoint { endpoint: s("cp:6443"), why: s("why") }, Run("spec.endpoints")),
    ]
}

#[test]
fn every_refusal_names_what_would_allow_it() {
    let refusals = refusals();
    let kinds: HashSet<_> = refusals.iter().map(|(refusal, _)| discriminant(refusal)).collect();
    let all = include_str!("../guard.rs").matches("#[error(").count();
    assert_eq!((kinds.len(), refusals.len()), (all, all), "each kind once, and none is missing");
    for (refusal, remedy) in refusals {
        remedy.is_in(&refusal.to_string());
    }
}

#[test]
fn the_fields_that_refusals_name_are_there() {
    refusals().into_iter().for_each(|(_, remedy)| remedy.is_there());
}
