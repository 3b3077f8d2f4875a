//! FaultProven: the network was cut where it should be and nowhere else, by probes and by the kernels' counters.

use super::{Case, Said, cite::some, datagrams, kernel, probes, unplaced};
use crate::{
    api::{Check, Finding, Protocol},
    fault::ProbeTarget,
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

/// Counters alone prove no edge: somebody must have looked across it, and with packets of each kind that the cut takes. Of a rehearsal,
/// which has none, every pair must have been alive all the time, and what was not looked at is open by itself.
fn unlooked(case: &Case<'_>) -> Option<Finding> {
    if case.evidence.plan.edges.is_empty() {
        return None;
    }
    let missing = Looks::new(case).missing(case);
    let what_to_do = "nothing there answered a connection before the cut, and no datagram of the agents goes there; \
                      spec.endpoints[].ports names what an endpoint serves";
    let open = || Said::open(format!("nobody looked at {}: {what_to_do}", some(&missing)));
    (!missing.is_empty()).then(|| open().about(Check::FaultProven, "edges", "all looked at"))
}

/// What was to be looked at across the cut, and what was: connections that were answered before it, and datagrams.
struct Looks<'a> {
    /// Pairs of members that hear nothing of each other any more, at least of what is cut.
    pairs: Vec<(&'a str, &'a str)>,
    answered: Vec<(&'a str, &'a ProbeTarget)>,
    directions: Vec<datagrams::Direction<'a>>,
}

impl<'a> Looks<'a> {
    fn new(case: &Case<'a>) -> Self {
        let plan = case.evidence.plan;
        let (mut pairs, mut answered) = (Vec::new(), Vec::new());
        for node in plan.agents() {
            let broken = case.places.sample.of(node).into_iter().filter(|other| case.places.breaks(node, other));
            pairs.extend(broken.map(|other| (node, other)));
            let targets = case.places.targets_of(node).iter().copied().filter(|t| case.places.breaks_tcp(node, t));
            answered.extend(targets.filter(|t| probes::has_answered(case, node, t)).map(|t| (node, t)));
        }
        let directions = datagrams::directions(case).into_iter().filter(|d| d.loss > 0.0).collect();
        Looks { pairs, answered, directions }
    }

    fn missing(&self, case: &Case<'_>) -> Vec<String> {
        match self.answered.is_empty() && self.directions.is_empty() {
            true => vec!["anything that is cut".into()],
            false => self.pairs_missing(case).into_iter().chain(self.kinds_missing(case)).collect(),
        }
    }

    /// Pairs of which nobody looked at one: of sides, as large clusters are sampled, and of each endpoint. Of a cut of some ports nobody
    /// knows who of them has a use for these.
    fn pairs_missing(&self, case: &Case<'_>) -> Vec<String> {
        let plan = case.evidence.plan;
        if !plan.ports.is_everything() {
            return Vec::new();
        }
        let place = |name: &str| match case.places.member(name) {
            Some(member) if member.has_agent => case.side_of(name).to_owned(),
            _ => name.to_owned(),
        };
        let pair = |a: &str, b: &str| {
            let (a, b) = (place(a), place(b));
            if a < b { (a, b) } else { (b, a) }
        };
        let probed = self.answered.iter().map(|(node, target)| pair(node, &target.member));
        let looked: BTreeSet<_> = probed.chain(self.directions.iter().map(|d| pair(d.sender, d.receiver))).collect();
        let cut: BTreeSet<_> = self.pairs.iter().map(|(a, b)| pair(a, b)).collect();
        cut.difference(&looked).map(|(a, b)| format!("{a}↔{b}")).collect()
    }

    /// Kinds of packets that the cut names and nobody looked with; but for a port that is known, and that nobody serves across the cut.
    fn kinds_missing(&self, case: &Case<'_>) -> Vec<String> {
        let plan = case.evidence.plan;
        let agents = plan.agents();
        let is_elsewhere = |port: u16| {
            let mut serving = plan.probes.iter().filter(|t| t.address.port() == port).peekable();
            let is_cut = |t: &ProbeTarget| agents.iter().any(|node| case.places.breaks(node, &t.member));
            serving.peek().is_some() && !serving.any(is_cut)
        };
        let is_looked = |protocol: Protocol, port: u16| match protocol {
            Protocol::Tcp => self.answered.iter().any(|(_, t)| t.address.port() == port) || is_elsewhere(port),
            Protocol::Udp => self.directions.iter().any(|d| plan.port_of(d.way) == port),
            Protocol::Sctp => false,
        };
        let ports = plan.ports.ports.iter().filter(|(protocol, port)| !is_looked(*protocol, *port));
        let pods = plan.ports.pods && !self.directions.iter().any(|d| d.way.is_of_pods());
        let named = ports.map(|(protocol, port)| format!("{protocol:?} {port}").to_uppercase());
        named.chain(pods.then(|| "pods' packets".to_owned())).collect()
    }
}
