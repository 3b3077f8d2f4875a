//! Every sentence of a run that arms says what would let it cut, in the names under which people find it.

use super::{Stops, Waits};
use crate::{
    api::{RackPartitionSpec, RackPartitionStatus, conditions},
    course::{arming, later, refused},
    fault::{
        Way,
        tests::remedy::Remedy::{self, Chart, Deed, Run},
    },
    judge::tests::fixture::passing,
    operator::clocks::Spread,
};
use k8s_openapi::jiff::Timestamp;
use std::{collections::HashSet, mem::discriminant};

/// Where no field does without.
const NONE: Remedy = Deed("no field of the spec");

fn s(text: &str) -> String {
    text.into()
}

fn waits() -> Vec<(Waits, Remedy)> {
    let address = "198.18.0.1:10250".parse().unwrap();
    let spread = Spread { largest_us: 900_000, worst: s("w1"), ahead_us: -800_000, error_us: 1000 };
    let (way, port) = (Way::Ipv4, 40441);
    let datagrams = |way| Waits::Datagrams { receiver: s("w1"), sender: s("w2"), way, port };
    let etcd = |why, was_seen| Waits::EtcdUnwell { node: s("c1"), quiet_seconds: 15.0, why: s(why), was_seen };
    vec![
        (Waits::Agent { node: s("w1"), why: s("its pod a is Pending") }, Chart("agent.armDeadline")),
        (Waits::ClockUnmeasured { node: s("w1") }, NONE),
        (Waits::ClocksOutOfStep { spread, allowed_us: 500_000 }, Run("spec.guards.maxClockError")),
        (Waits::EtcdLeader, Run("spec.cut")),
        (Waits::Record { node: s("w1") }, NONE),
        (Waits::Probes { node: s("w1") }, NONE),
        (Waits::Port { node: s("w1"), subject: s("w2/Kubelet"), address, state: s("silent") }, NONE),
        (
            Waits::EndpointPort { node: s("w1"), subject: s("lb/a"), address, state: s("silent") },
            Run("spec.endpoints[].ports"),
        ),
        (datagrams(way), NONE),
        (datagrams(Way::PodIpv4), Run("spec.traffic")),
        (datagrams(Way::PortIpv4), Run("spec.traffic")),
        (Waits::Stranger { node: s("w1"), source_address: s("198.18.0.99") }, Run("spec.guards.allowUnplacedSources")),
        (
            Waits::Misplaced { address: s("198.18.0.100"), member: s("vip"), node: s("w1"), rack: s("r1") },
            Run("spec.guards.allowUnplacedSources"),
        ),
        (Waits::Addresses { node: s("w1"), why: s("out of memory") }, Run("spec.guards.allowUnplacedSources")),
        (Waits::OperatorsFamily { own: s("w1"), nodes: s("w2") }, NONE),
        (Waits::OperatorsDatagrams { nodes: s("w2"), own: s("w1"), way, port }, NONE),
        (Waits::Alarms, Run("spec.abortWhen")),
        (Waits::Alarm { why: s("it answers 503") }, Run("spec.abortWhen")),
        (etcd("its leader changed", true), Run("spec.guards.allowUnhealthyBaseline")),
        (etcd("no word of it yet", false), Run("spec.guards.etcdQuietFor")),
        (Waits::Cluster, Run("spec.guards.allowUnhealthyBaseline")),
        (Waits::ClusterUnwell { what: s("node c3 to be Ready") }, Run("spec.guards.allowUnhealthyBaseline")),
    ]
}

fn stops() -> Vec<(Stops, Remedy)> {
    vec![
        (Stops::Unfit { node: s("w1"), why: s("the kernel has no nftables") }, NONE),
        (Stops::Unwatched { node: s("w1"), why: s("why") }, NONE),
        (Stops::LeaderMoved { was: s("c1"), leads: s("c2") }, Run("spec.cut")),
        (Stops::NoSuccessor { nodes: s("w1") }, Chart("operator.replicas")),
    ]
}

/// What people read once the run has waited for too long.
fn in_vain(waits: &Waits) -> String {
    let (now, mut status) = (Timestamp::now(), RackPartitionStatus::default());
    conditions::set(&mut status.conditions, conditions::ARMED, "False", "Arming", "", None, later(now, -61.0));
    let spec: RackPartitionSpec = passing().spec;
    let next = arming(&spec, status, Some((waits.reason(), waits.to_string())), 60.0, now);
    next.status.message.unwrap_or_default()
}

#[test]
fn every_sentence_of_arming_names_what_would_allow_the_cut_or_says_that_nothing_does() {
    let (waits, stops) = (waits(), stops());
    let kinds = waits.iter().map(|(waits, _)| discriminant(waits)).collect::<HashSet<_>>().len()
        + stops.iter().map(|(stops, _)| discriminant(stops)).collect::<HashSet<_>>().len();
    let all = include_str!("../waits.rs").matches("#[error(").count();
    assert_eq!(kinds, all, "none is missing");
    for (waits, remedy) in waits {
        let sentence = in_vain(&waits);
        assert!(sentence.starts_with("not ready to cut after 60 s: waiting for "), "{sentence}");
        remedy.is_in(&sentence);
    }
    for (stops, remedy) in stops {
        let next = refused(RackPartitionStatus::default(), stops.to_string(), Timestamp::now());
        remedy.is_in(&next.status.message.unwrap_or_default());
    }
}

#[test]
fn the_fields_that_sentences_of_arming_name_are_there() {
    let all = waits().into_iter().map(|(_, remedy)| remedy).chain(stops().into_iter().map(|(_, remedy)| remedy));
    all.for_each(|remedy| remedy.is_there());
}
