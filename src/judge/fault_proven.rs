//! FaultProven: the network was cut where it should be and nowhere else, by probes and by the kernels' counters.

use super::{Case, Said, cite::some, datagrams, kernel, probes, unplaced};
use crate::{
    api::{Check, Finding, Protocol},
    fault::{ProbeTarget, Sample},
};
use std::collections::BTreeSet;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = probes::check(case);
    findings.extend(datagrams::check(case));
    findings.extend(kernel::check(case));
    findings.extend(unplaced::check(case));
    findings.extend(unlooked(case));
    findings
}

/// Counters alone prove no edge: somebody must have looked across it, and with packets of each kind that the cut takes.
fn unlooked(case: &Case<'_>) -> Option<Finding> {
    let looks = Looks::new(case);
    let missing: Vec<String> = looks.pairs_missing(case).into_iter().chain(looks.kinds_missing(case)).collect();
    let what_to_do = "no component is known to listen there, and no datagram of the agents goes there; \
                      spec.endpoints[].ports names what an endpoint serves";
    let open = || Said::open(format!("nobody looked at {}: {what_to_do}", some(&missing)));
    (!missing.is_empty()).then(|| open().about(Check::FaultProven, "edges", "all looked at"))
}

/// What somebody looked at across the cut: connections that were answered before it, and datagrams.
struct Looks<'a> {
    targets: Vec<(&'a str, &'a ProbeTarget)>,
    directions: Vec<datagrams::Direction<'a>>,
    /// All that were to be looked at.
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Looks<'a> {
    fn new(case: &Case<'a>) -> Self {
        let plan = case.evidence.plan;
        let sample = Sample::new(plan);
        let targets = plan.agents().into_iter().flat_map(|node| {
            let cut = sample.targets_of(node).into_iter().filter(|t| plan.breaks_tcp(node, t));
            cut.filter(|t| probes::has_answered(case, node, t)).map(|t| (node, t)).collect::<Vec<_>>()
        });
        let directions = datagrams::directions(case).into_iter().filter(|d| d.loss > 0.0);
        let pairs = plan.agents().into_iter().flat_map(|node| {
            let broken = sample.of(node).into_iter().filter(move |other| plan.breaks(node, other));
            broken.map(move |other| (node, other))
        });
        Looks { targets: targets.collect(), directions: directions.collect(), pairs: pairs.collect() }
    }

    /// Pairs that hear nothing of each other any more and that nobody looked at: of sides, as large clusters are sampled, and of each
    /// endpoint. Of a cut of some ports nobody knows who of them has a use for these.
    fn pairs_missing(&self, case: &Case<'_>) -> Vec<String> {
        let plan = case.evidence.plan;
        if !plan.ports.is_everything() {
            return Vec::new();
        }
        let place = |name: &str| match plan.member(name) {
            Some(member) if member.has_agent => case.side_of(name).to_owned(),
            _ => name.to_owned(),
        };
        let pair = |a: &str, b: &str| {
            let (a, b) = (place(a), place(b));
            if a < b { (a, b) } else { (b, a) }
        };
        let probed = self.targets.iter().map(|(node, target)| pair(node, &target.member));
        let looked: BTreeSet<_> = probed.chain(self.directions.iter().map(|d| pair(d.sender, d.receiver))).collect();
        let cut = self.pairs.iter().map(|(a, b)| pair(a, b)).collect::<BTreeSet<_>>();
        cut.difference(&looked).map(|(a, b)| format!("{a}↔{b}")).collect()
    }

    /// Kinds of packets that the cut names and nobody looked with.
    fn kinds_missing(&self, case: &Case<'_>) -> Vec<String> {
        let plan = case.evidence.plan;
        let is_looked = |protocol: Protocol, port: u16| match protocol {
            Protocol::Tcp => self.targets.iter().any(|(_, t)| t.address.port() == port),
            Protocol::Udp => self.directions.iter().any(|d| plan.port_of(d.way) == port),
            Protocol::Sctp => false,
        };
        let ports = plan.ports.ports.iter().filter(|(protocol, port)| !is_looked(*protocol, *port));
        let pods = plan.ports.pods && !self.directions.iter().any(|d| d.way.is_of_pods());
        let named = ports.map(|(protocol, port)| format!("{protocol:?} {port}").to_uppercase());
        named.chain(pods.then(|| "pods' packets".to_owned())).collect()
    }
}
