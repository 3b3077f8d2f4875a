//! The baseline: before a cut everybody hears everybody, nobody is heard whom the plan does not know, and etcd is well. Else what is
//! seen during the cut would prove nothing.

use super::waits::Waits;
use crate::{
    api::{
        ADDRESSES_UNREAD, ETCD, ETCD_DISK, ETCD_LEADER, Guards, NAMED, NodeRecord, NodeRecordStatus, Span, SpanKind,
        first,
    },
    fault::{Member, PortClass, ProbeTarget, RunPlan, Sample, Way},
};
use std::collections::BTreeMap;

/// Looks at each probe target, and datagrams on each way.
const SAMPLES: u32 = 3;
/// What was seen last this long before the end of its record, seconds, is no longer so.
const FRESH: f64 = 5.0;

/// What is still missing.
pub fn lacks(plan: &RunPlan, agents: &[NodeRecord], guards: &Guards) -> Option<Waits> {
    let sample = Sample::new(plan);
    let records: BTreeMap<&str, &NodeRecordStatus> =
        agents.iter().filter_map(|r| Some((r.spec.node.as_str(), r.status.as_ref()?))).collect();
    for sender in plan.members.iter().filter(|m| m.has_agent) {
        let Some(status) = records.get(sender.name.as_str()) else {
            return Some(Waits::Record { node: sender.name.clone() });
        };
        let targets = sample.targets_of(&sender.name);
        let port = |target: &&ProbeTarget| port_lacked(&sender.name, status, target);
        let lacked = |target: &&ProbeTarget| {
            // Not every address of an endpoint serves every port of it.
            target.same_service(&targets).all(|t| port(&t).is_some()).then(|| port(target)).flatten()
        };
        if let Some(waits) = targets.iter().find_map(lacked) {
            return Some(waits);
        }
        for receiver in sample.of(&sender.name).into_iter().filter_map(|name| plan.member(name)) {
            let heard =
                |way: &Way| records.get(receiver.name.as_str()).is_some_and(|s| hears(s, &way.subject(&sender.name)));
            // Not every network carries packets between pods' ranges; where the cut is about them it must.
            let needed = |way: &Way| !way.is_of_pods() || plan.ports.pods;
            if let Some(way) = plan.ways(sender, receiver).find(|way| needed(way) && !heard(way)) {
                let (receiver, sender) = (receiver.name.clone(), sender.name.clone());
                return Some(Waits::Datagrams { receiver, sender, way, port: plan.port_of(way) });
            }
        }
    }
    if guards.allow_unplaced_sources {
        return None;
    }
    if let Some((node, source)) = records.iter().find_map(|(node, status)| Some((node, stranger(status)?))) {
        return Some(Waits::Stranger { node: (*node).into(), source_address: source.into() });
    }
    records.iter().find_map(|(node, status)| misplaced(plan, node, status))
}

/// Which nodes have not heard the operator's pod on node `own` lately. Its heal packets take that way, and agents' datagrams say nothing of
/// it. `families` are the ways on which that pod can send at all.
pub fn deaf_to_operator(plan: &RunPlan, agents: &[NodeRecord], own: &str, families: &[Way]) -> Option<Waits> {
    let records: BTreeMap<&str, &NodeRecordStatus> =
        agents.iter().filter_map(|r| Some((r.spec.node.as_str(), r.status.as_ref()?))).collect();
    let those = |lacks: &dyn Fn(&Member) -> bool| {
        let nodes = plan.members.iter().filter(|m| m.has_agent).filter(|m| lacks(m));
        some(&nodes.map(|m| m.name.as_str()).collect::<Vec<_>>())
    };
    let no_way = |m: &Member| !families.iter().any(|way| way.destination(m).is_some());
    if let Some(nodes) = those(&no_way) {
        return Some(Waits::OperatorsFamily { own: own.into(), nodes });
    }
    families.iter().find_map(|way| {
        let subject = plan.operator_subject(own, *way);
        let heard = |m: &Member| records.get(m.name.as_str()).is_some_and(|s| hears(s, &subject));
        let nodes = those(&|m: &Member| way.destination(m).is_some() && !heard(m))?;
        Some(Waits::OperatorsDatagrams { nodes, own: own.into(), way: *way, port: plan.heal.port })
    })
}

/// The first of these names, and how many more there are; `None` where there are none.
fn some(names: &[&str]) -> Option<String> {
    (!names.is_empty()).then(|| first(names, NAMED))
}

/// A virtual address goes the way of the node that holds it, whatever the plan says. Which a node holds its kernel may not tell.
fn misplaced(plan: &RunPlan, node: &str, status: &NodeRecordStatus) -> Option<Waits> {
    let held = || status.spans.iter().filter(|s| s.kind == SpanKind::Address && is_fresh(status, s));
    if let Some(unread) = held().find(|s| s.state == ADDRESSES_UNREAD) {
        let why = unread.detail.clone().unwrap_or_default();
        return Some(Waits::Addresses { node: node.into(), why });
    }
    let (address, named) = held().map(|s| &s.subject).find_map(|a| Some((a, plan.mistaken(node, a.parse().ok()?)?)))?;
    let rack = plan.member(node).and_then(|m| m.rack.as_deref()).unwrap_or_default();
    Some(Waits::Misplaced {
        address: address.clone(),
        member: named.name.clone(),
        node: node.into(),
        rack: rack.into(),
    })
}

/// Why etcd is not known to be well. `members` are the nodes whose agents should see one beside them: silence is no health. `quiet` is
/// `spec.guards.etcdQuietFor`, seconds. What was before an agent's first look nobody knows, and it is over for as long when the wait is.
pub fn unrest<'a>(members: impl IntoIterator<Item = &'a str>, agents: &[NodeRecord], quiet: f64) -> Option<Waits> {
    let seen = agents.iter().find_map(|r| Some((&r.spec.node, trouble(r.status.as_ref()?, quiet)?)));
    if let Some((node, why)) = seen {
        let why = why.to_owned();
        return Some(Waits::EtcdUnwell { node: node.clone(), quiet_seconds: quiet, why, was_seen: true });
    }
    members.into_iter().find_map(|node| {
        let status = agents.iter().find(|r| r.spec.node == node).and_then(|r| r.status.as_ref());
        let why = unproven(status, quiet)?;
        Some(Waits::EtcdUnwell { node: node.into(), quiet_seconds: quiet, why, was_seen: false })
    })
}

/// What the member beside this agent did in the last `quiet` seconds.
fn trouble(status: &NodeRecordStatus, quiet: f64) -> Option<&'static str> {
    let words = |span: &Span| match (span.subject.as_str(), span.state.as_str()) {
        (ETCD, "alone") => Some("it knew no leader"),
        (ETCD_LEADER, "changed") => Some("its leader changed, or it was started anew"),
        (ETCD_DISK, "slow") => Some("a write to its log took longer than half a second"),
        _ => None,
    };
    let lately = status.spans.iter().filter(|s| s.kind == SpanKind::Etcd && age(status, s) <= quiet);
    lately.filter_map(words).next()
}

/// Why nobody can say that the member beside this agent has been well for `quiet` seconds.
fn unproven(status: Option<&NodeRecordStatus>, quiet: f64) -> Option<String> {
    let well_for = |subject, state| well_for(status?, subject, state);
    match well_for(ETCD_LEADER, "steady").zip(well_for(ETCD_DISK, "fast")) {
        None if status.is_some_and(was_answered) => Some("so far for 0 s".into()),
        None => Some("no word of it yet at 127.0.0.1:2381, kubeadm's --listen-metrics-urls".into()),
        Some((led, wrote)) if led.min(wrote) < quiet => Some(format!("so far for {:.0} s", led.min(wrote))),
        Some(_) => None,
    }
}

/// Whether the member beside this agent has told anything lately.
fn was_answered(status: &NodeRecordStatus) -> bool {
    status.spans.iter().any(|s| s.kind == SpanKind::Etcd && is_fresh(status, s))
}

/// For how many seconds a member has been seen in this state, up to now; `None` where it is not, or nobody looks any more.
fn well_for(status: &NodeRecordStatus, subject: &str, state: &str) -> Option<f64> {
    let mut newest_first = status.spans.iter().rev().filter(|s| s.kind == SpanKind::Etcd && s.subject == subject);
    let latest = newest_first.next().filter(|s| s.state == state && is_fresh(status, s))?;
    // What is first said of a state is said of the time since the look before.
    let since_us = newest_first.next().map_or(latest.from.boot_us, |before| before.to.boot_us);
    Some((latest.to.boot_us - since_us) as f64 / 1e6)
}

fn port_lacked(node: &str, status: &NodeRecordStatus, target: &ProbeTarget) -> Option<Waits> {
    let subject = target.subject();
    let latest = status.spans.iter().rfind(|s| s.kind == SpanKind::Probe && s.subject == subject);
    // Nobody has to listen on a port only because the cut names it.
    let is_named = target.class == PortClass::Named;
    let node = node.to_owned();
    match latest {
        Some(span) if (span.state == "open" || is_named) && span.samples >= SAMPLES => None,
        Some(span) if span.state != "open" && !is_named => {
            let (address, state) = (target.address, span.state.clone());
            Some(match target.class {
                PortClass::Endpoint => Waits::EndpointPort { node, subject, address, state },
                _ => Waits::Port { node, subject, address, state },
            })
        }
        _ => Some(Waits::Probes { node }),
    }
}

fn hears(status: &NodeRecordStatus, subject: &str) -> bool {
    let latest = status.spans.iter().rfind(|s| s.kind == SpanKind::Heard && s.subject == subject);
    latest.is_some_and(|s| s.samples >= SAMPLES && is_fresh(status, s))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ADDRESSES, NodeRecordSpec, Observer},
        observe::{before, now},
    };
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::SignedDuration};
    use std::time::Duration;

    /// What the agent on c1 wrote down of the member beside it: subject, state, and from how long to how long ago, seconds.
    fn record(spans: &[(&str, &str, u64, u64)]) -> NodeRecord {
        let until = now();
        let ago = |seconds| before(&until, Duration::from_secs(seconds));
        let span = |(subject, state, from, to): &(&str, &str, u64, u64)| {
            Span::bare(SpanKind::Etcd, *subject, state, ago(*from), ago(*to))
        };
        let status = NodeRecordStatus {
            spans: spans.iter().map(span).collect(),
            observed_until: Some(until.wall.clone()),
            ..Default::default()
        };
        NodeRecord {
            status: Some(status),
            ..NodeRecord::new("c1", NodeRecordSpec::new("r", "u", "c1", Observer::Agent))
        }
    }

    /// What a run asks for that says nothing.
    const QUIET: f64 = 15.0;

    fn waits(spans: &[(&str, &str, u64, u64)]) -> Option<Waits> {
        unrest(["c1"], &[record(spans)], QUIET)
    }

    fn assert_waits(spans: &[(&str, &str, u64, u64)], reason: &str, words: &str) {
        let waits = waits(spans).unwrap_or_else(|| panic!("{spans:?} was taken for well"));
        let sentence = waits.to_string();
        assert_eq!(waits.reason(), reason, "{sentence}");
        let head = "etcd on c1 to be well for 15 s (spec.guards.etcdQuietFor): ";
        assert!(sentence.starts_with(head) && sentence.contains(words), "{sentence}");
    }

    const FAST: (&str, &str, u64, u64) = (ETCD_DISK, "fast", 20, 0);

    #[test]
    fn a_member_is_well_once_it_was_seen_so_for_long_enough() {
        assert_eq!(waits(&[(ETCD_LEADER, "steady", 20, 0), FAST]), None);
        assert_eq!(waits(&[(ETCD_LEADER, "unknown", 15, 15), (ETCD_LEADER, "steady", 13, 0), FAST]), None);
        assert_waits(&[(ETCD_LEADER, "steady", 10, 0), FAST], "NoBaseline", "so far for 10 s");
        assert_waits(&[(ETCD_LEADER, "steady", 20, 0), (ETCD_DISK, "fast", 4, 0)], "NoBaseline", "so far for 4 s");
        // An agent that was started anew begins anew.
        let again =
            [(ETCD_LEADER, "steady", 30, 8), (ETCD_LEADER, "unknown", 6, 6), (ETCD_LEADER, "steady", 4, 0), FAST];
        assert_waits(&again, "NoBaseline", "so far for 6 s");
        let first = [(ETCD_LEADER, "unknown", 1, 1), (ETCD_DISK, "unknown", 1, 1)];
        assert_waits(&first, "NoBaseline", "so far for 0 s");
    }

    #[test]
    fn what_a_member_did_lately_is_told_until_it_is_over() {
        let changed = |ago: u64| [(ETCD_LEADER, "changed", ago, ago), (ETCD_LEADER, "steady", ago - 2, 0), FAST];
        assert_waits(&changed(10), "UnhealthyBaseline", "its leader changed");
        assert_eq!(waits(&changed(16)), None);
        let slow = [(ETCD_LEADER, "steady", 20, 0), (ETCD_DISK, "fast", 20, 6), (ETCD_DISK, "slow", 4, 4)];
        assert_waits(&slow, "UnhealthyBaseline", "longer than half a second");
        let alone = [(ETCD, "alone", 3, 1), (ETCD_LEADER, "steady", 20, 0), FAST];
        assert_waits(&alone, "UnhealthyBaseline", "no leader");
    }

    /// Also of a member that was started, or changed its leader, just before its first look: what was then is over for as long.
    #[test]
    fn a_run_that_asks_for_longer_is_cut_no_sooner_after_the_first_look() {
        let waits = |first: u64, quiet: f64| {
            let spans = [(ETCD_LEADER, "unknown", first, first), (ETCD_DISK, "unknown", first, first)];
            let since = [(ETCD_LEADER, "steady", first - 2, 0), (ETCD_DISK, "fast", first - 2, 0)];
            unrest(["c1"], &[record(&[spans, since].concat())], quiet)
        };
        assert_eq!(waits(16, QUIET), None);
        let unproven = waits(16, 60.0).expect("not watched for a minute");
        let sentence = unproven.to_string();
        assert_eq!(unproven.reason(), "NoBaseline");
        assert!(sentence.contains("well for 60 s (spec.guards.etcdQuietFor): so far for 16 s"), "{sentence}");
        assert_eq!(waits(61, 60.0), None);
        let slow = [(ETCD_LEADER, "steady", 90, 0), (ETCD_DISK, "slow", 40, 40), (ETCD_DISK, "fast", 38, 0)];
        assert_eq!(unrest(["c1"], &[record(&slow)], QUIET), None);
        let waits = unrest(["c1"], &[record(&slow)], 60.0);
        let reason = waits.map(|waits| waits.reason());
        assert_eq!(reason, Some("UnhealthyBaseline"), "forty seconds ago is within the last minute");
    }

    #[test]
    fn silence_is_no_health_where_a_member_should_be() {
        assert_waits(&[], "NoBaseline", "no word of it yet at 127.0.0.1:2381");
        let since_long = [(ETCD_LEADER, "steady", 60, 30), (ETCD_DISK, "fast", 60, 30)];
        assert_waits(&since_long, "NoBaseline", "no word of it");
        let well = [record(&[(ETCD_LEADER, "steady", 20, 0), FAST])];
        assert!(unrest(["c1", "c2"], &well, QUIET).is_some(), "no record of c2");
        assert_eq!(unrest([], &[record(&[])], QUIET), None, "nobody waits for members that have no agent beside them");
    }

    /// The record of a node that hears these subjects.
    fn hearing(node: &str, subjects: &[&str]) -> NodeRecord {
        let mut heard = record(&subjects.iter().map(|s| (*s, "heard", 4, 0)).collect::<Vec<_>>());
        heard.spec.node = node.into();
        for span in heard.status.iter_mut().flat_map(|status| &mut status.spans) {
            (span.kind, span.samples) = (SpanKind::Heard, SAMPLES);
        }
        heard
    }

    fn plan_of_two() -> RunPlan {
        serde_json::from_value(serde_json::json!({
            "run": "r", "runUid": "u", "edges": [],
            "members": [
                {"name": "w1", "hasAgent": true, "cidrs": [], "healAddresses": ["198.18.0.1", "fd00::1"]},
                {"name": "w2", "hasAgent": true, "cidrs": [], "healAddresses": ["198.18.0.2"]},
                {"name": "lb", "hasAgent": false, "cidrs": [], "healAddresses": []},
            ],
            "heal": {"port": 40441, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        }))
        .unwrap()
    }

    #[test]
    fn every_node_must_hear_the_operator_in_each_family_that_both_have() {
        let plan = plan_of_two();
        let waits = |agents: &[NodeRecord], families: &[Way]| {
            deaf_to_operator(&plan, agents, "w2", families).map(|waits| waits.to_string()).unwrap_or_default()
        };
        let (v4, v6) = ("operator on w2/Ipv4", "operator on w2/Ipv6");
        assert_eq!(waits(&[hearing("w1", &[v4, v6]), hearing("w2", &[v4])], &Way::OF_HEAL), "");
        let only_v4 = [hearing("w1", &[v4]), hearing("w2", &[v4])];
        assert_eq!(waits(&only_v4, &[Way::Ipv4]), "", "its pod has no other");
        let deaf = waits(&only_v4, &Way::OF_HEAL);
        assert!(deaf.starts_with("w1 to hear the operator's pod on w2 by Ipv6: ") && deaf.contains("40441"), "{deaf}");
        let none = waits(&only_v4, &[Way::Ipv6]);
        assert!(none.starts_with("the operator's pod on w2 to have a way to w2: "), "{none}");
        assert!(waits(&only_v4, &[]).contains("a way to w1, w2: "));
        // No record, nothing heard, heard of the leader before, heard once, heard long ago.
        let once = |mut agent: NodeRecord| {
            agent.status.iter_mut().flat_map(|s| &mut s.spans).for_each(|span| span.samples = 1);
            agent
        };
        let mut long_ago = hearing("w1", &[v4]);
        let until = &mut long_ago.status.as_mut().unwrap().observed_until;
        *until = until.as_ref().map(|at| MicroTime(at.0 + SignedDuration::from_secs(6)));
        for w1 in [hearing("w1", &[]), hearing("w1", &["operator on w1/Ipv4"]), once(hearing("w1", &[v4])), long_ago] {
            let sentence = waits(&[w1, hearing("w2", &[v4])], &[Way::Ipv4]);
            assert!(sentence.starts_with("w1 to hear "), "{sentence}");
        }
        assert!(waits(&[], &[Way::Ipv4]).starts_with("w1, w2 to hear "));
    }

    #[test]
    fn a_node_whose_kernel_does_not_tell_its_addresses_is_waited_for() {
        let waits = |from: u64, to: u64| {
            let mut unread = record(&[(ADDRESSES, ADDRESSES_UNREAD, from, to)]);
            for span in unread.status.iter_mut().flat_map(|status| &mut status.spans) {
                (span.kind, span.detail) = (SpanKind::Address, Some("out of memory".into()));
            }
            misplaced(&plan_of_two(), "w1", unread.status.as_ref().unwrap())
        };
        let unread = waits(4, 1).expect("nobody knows which it holds");
        let sentence = unread.to_string();
        assert_eq!(unread.reason(), "NoBaseline");
        assert!(
            sentence.starts_with("the kernel of w1 to tell ") && sentence.contains("(out of memory)"),
            "{sentence}"
        );
        assert_eq!(waits(20, 9), None, "it does now");
    }

    #[test]
    fn of_many_names_the_first_are_told() {
        let names: Vec<String> = (0..12).map(|i| format!("w{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(some(&names).unwrap(), "w0, w1, w2, w3, w4, w5, w6, w7, w8, w9 and 2 more");
        assert_eq!((some(&names[..2]).unwrap().as_str(), some(&[])), ("w0, w1", None));
    }
}
