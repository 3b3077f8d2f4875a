//! The baseline: before a cut everybody hears everybody, and nobody is heard whom the plan does not know. Else what is seen during
//! the cut would prove nothing.

use crate::{
    api::{ETCD_DISK, ETCD_LEADER, Guards, NodeRecord, NodeRecordStatus, Span, SpanKind},
    fault::{ProbeTarget, RunPlan, Sample, Way},
};
use std::collections::BTreeMap;

/// Looks at each probe target, and datagrams on each way.
const SAMPLES: u32 = 3;
/// What was seen last this long before the end of its record, seconds, is no longer so.
const FRESH: f64 = 5.0;
/// For so long etcd has had no election and no slow write before anybody is cut, seconds: as many looks as tell a lasting trouble from
/// one write, and no longer than arming usually takes. Ours.
const QUIET: f64 = 15.0;

/// What is still missing, as a reason and a sentence.
pub fn lacks(plan: &RunPlan, agents: &[NodeRecord], guards: &Guards) -> Option<(&'static str, String)> {
    let sample = Sample::new(plan);
    let records: BTreeMap<&str, &NodeRecordStatus> =
        agents.iter().filter_map(|r| Some((r.spec.node.as_str(), r.status.as_ref()?))).collect();
    for sender in plan.members.iter().filter(|m| m.has_agent) {
        let Some(status) = records.get(sender.name.as_str()) else {
            return Some(("NoBaseline", format!("the record of {}", sender.name)));
        };
        let targets = sample.targets_of(&sender.name);
        let port = |target: &&ProbeTarget| port_lacked(&sender.name, status, target);
        let lacked = |target: &&ProbeTarget| {
            // Not every address of an endpoint serves every port of it.
            target.same_service(&targets).all(|t| port(&t).is_some()).then(|| port(target)).flatten()
        };
        if let Some(why) = targets.iter().find_map(lacked) {
            return Some(("NoBaseline", why));
        }
        for receiver in sample.of(&sender.name).into_iter().filter_map(|name| plan.member(name)) {
            let heard =
                |way: &Way| records.get(receiver.name.as_str()).is_some_and(|s| hears(s, &way.subject(&sender.name)));
            // Not every network carries packets between pods' ranges; where the cut is about them it must.
            let needed = |way: &Way| !way.is_of_pods() || plan.ports.pods;
            if let Some(way) = plan.ways(sender, receiver).find(|way| needed(way) && !heard(way)) {
                return Some(("NoBaseline", not_heard(plan, &sender.name, &receiver.name, way)));
            }
        }
    }
    if guards.allow_unplaced_sources {
        return None;
    }
    if let Some((node, source)) = records.iter().find_map(|(node, status)| Some((node, stranger(status)?))) {
        let advice =
            "name it in spec.endpoints, with its rack if it is in one, or set spec.guards.allowUnplacedSources";
        return Some((
            "UnplacedSources",
            format!("{node} to hear nobody but members of the plan, and it hears {source}: {advice}"),
        ));
    }
    records.iter().find_map(|(node, status)| Some(("UnplacedSources", misplaced(plan, node, status)?)))
}

/// A virtual address goes the way of the node that holds it, whatever the plan says.
fn misplaced(plan: &RunPlan, node: &str, status: &NodeRecordStatus) -> Option<String> {
    let held = status.spans.iter().filter(|s| s.kind == SpanKind::Address && is_fresh(status, s));
    let (address, named) = held.map(|s| &s.subject).find_map(|a| Some((a, plan.mistaken(node, a.parse().ok()?)?)))?;
    let rack = plan.member(node).and_then(|m| m.rack.as_deref()).unwrap_or_default();
    Some(format!(
        "{address} of {} to be where the plan has it: {node} holds it, in rack {rack}, and its packets would go by the cut; give \
         it that rack in spec.endpoints, or set spec.guards.allowUnplacedSources",
        named.name
    ))
}

/// Why etcd is not well, as the nodes of its members saw it lately.
pub fn unrest(agents: &[NodeRecord]) -> Option<String> {
    let words = |span: &Span| match (span.subject.as_str(), span.state.as_str()) {
        (ETCD_LEADER, "changed") => Some("its leader changed"),
        (ETCD_DISK, "slow") => Some("a write to its log took longer than half a second"),
        _ => None,
    };
    agents.iter().find_map(|record| {
        let status = record.status.as_ref()?;
        let lately = status.spans.iter().filter(|s| s.kind == SpanKind::Etcd && age(status, s) <= QUIET);
        let why = lately.filter_map(words).next()?;
        Some(format!("etcd on {} to be well for {QUIET} s ({why})", record.spec.node))
    })
}

fn port_lacked(node: &str, status: &NodeRecordStatus, target: &ProbeTarget) -> Option<String> {
    let subject = target.subject();
    let latest = status.spans.iter().rfind(|s| s.kind == SpanKind::Probe && s.subject == subject);
    match latest {
        Some(span) if span.state == "open" && span.samples >= SAMPLES => None,
        Some(span) if span.state != "open" => Some(format!(
            "{node} to reach {subject} at {} (now {}): a firewall, or a component that is down",
            target.address, span.state
        )),
        _ => Some(format!("the baseline of {node}")),
    }
}

fn hears(status: &NodeRecordStatus, subject: &str) -> bool {
    let latest = status.spans.iter().rfind(|s| s.kind == SpanKind::Heard && s.subject == subject);
    latest.is_some_and(|s| s.samples >= SAMPLES && is_fresh(status, s))
}

fn not_heard(plan: &RunPlan, sender: &str, receiver: &str, way: Way) -> String {
    let port = plan.heal.port;
    match way.is_of_pods() {
        false => format!(
            "{receiver} to hear {sender} by {way:?} (UDP port {port}; what stops that would stop heal packets too)"
        ),
        true => {
            format!("{receiver} to hear pods of {sender} by {way:?} (UDP port {port}, between the nodes' pod ranges)")
        }
    }
}

fn stranger(status: &NodeRecordStatus) -> Option<&str> {
    // Also one that spoke once: it will again, and then it is too late to say who it is.
    status.spans.iter().find(|s| s.kind == SpanKind::Stranger).map(|s| s.subject.as_str())
}

fn is_fresh(status: &NodeRecordStatus, span: &Span) -> bool {
    age(status, span) <= FRESH
}

/// Seconds from a span's last look to the end of its record.
fn age(status: &NodeRecordStatus, span: &Span) -> f64 {
    let until = status.observed_until.as_ref().map(|t| t.0.as_microsecond());
    until.map_or(f64::INFINITY, |until| (until - span.to.wall.0.as_microsecond()) as f64 / 1e6)
}
