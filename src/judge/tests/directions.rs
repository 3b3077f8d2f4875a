//! What datagrams prove, direction by direction, and who is nobody's.

use super::{
    fixture::{CUT, END, Run, START, moment, passing, span},
    mutations::expect,
};
use crate::{
    api::{ADDRESSES, ADDRESSES_UNREAD, Check, Finding, FindingResult, Protocol, Span, SpanKind, Verdict},
    fault::{Block, Effect, PortClass},
};
use std::collections::BTreeSet;

const DATAGRAMS: &str = "isolated→rest: datagrams";

fn of(run: &Run, subject: &str) -> Finding {
    let findings = run.judge().findings;
    // Cut directions and others between two sides are told apart.
    let found =
        findings.iter().filter(|f| f.check == Check::FaultProven && f.subject == subject).max_by_key(|f| f.result);
    found.cloned().unwrap_or_else(|| panic!("no {subject} in {findings:#?}"))
}

#[test]
fn one_datagram_that_gets_through_contradicts_the_cut() {
    expect(
        |run| run.status("w2").spans.push(span(0.2, SpanKind::Heard, "w1/Ipv4", "heard", 30.0, 30.0)),
        Verdict::Inconclusive,
        &[(Check::FaultProven, DATAGRAMS, FindingResult::Violated)],
    );
}

#[test]
fn one_datagram_that_is_taken_inside_a_side_contradicts_it_too() {
    expect(
        |run| run.status("w2").spans.push(span(0.2, SpanKind::Lost, "w3/Ipv4", "lost", 30.0, 30.0)),
        Verdict::Inconclusive,
        &[(Check::FaultProven, "rest→rest: datagrams", FindingResult::Violated)],
    );
}

#[test]
fn silence_of_which_the_kernel_took_nothing_is_not_proven_to_be_ours() {
    expect(
        |run| run.rewrite("w2", SpanKind::Lost, "w1/Ipv4", &[]),
        Verdict::Inconclusive,
        &[(Check::FaultProven, DATAGRAMS, FindingResult::Inconclusive)],
    );
}

#[test]
fn a_kernel_that_does_not_count_leaves_it_open_and_says_why() {
    let mut run = passing();
    run.status("w2").unwatched = Some("the kernel is too old".into());
    let found = of(&run, DATAGRAMS);
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.evidence.contains("too old"), "{found:?}");
}

#[test]
fn the_onset_is_between_the_last_heard_and_the_first_lost_on_every_node() {
    let run = passing();
    let onset = crate::judge::judge(&run.evidence()).onset.unwrap();
    // Heard until 4 ms before the cut, lost from 6 ms after it; anchors are good for 3 ms and age by 200 µs/s.
    assert_eq!((onset.nodes, onset.first_us, onset.skew_us), (6, 1000, 0));
    assert!((18_000..=22_100).contains(&onset.error_us), "{onset:?}");
    assert_eq!(of(&run, "onset").result, FindingResult::Held);
}

#[test]
fn a_node_that_falls_silent_late_is_told() {
    let mut run = passing();
    for sender in ["cp1", "w1"] {
        let subject = format!("{sender}/Ipv4");
        run.rewrite("w2", SpanKind::Heard, &subject, &[("heard", START, 0.2), ("heard", CUT + 0.1, END)]);
        run.rewrite("w2", SpanKind::Lost, &subject, &[("lost", 0.21, CUT)]);
    }
    let found = of(&run, "onset");
    assert_eq!(found.result, FindingResult::Noted);
    assert!(
        found.observed.starts_with("6 nodes fell silent 1.0 ms to 205.0 ms after cutAt, 204.0 ms apart"),
        "{found:?}"
    );
    // Its last look at one that got through, and the first at one that did not.
    let [heard, lost] = ["w2: heard cp1/Ipv4 heard ", "; w2: lost cp1/Ipv4 lost "];
    assert!(found.evidence.starts_with(heard) && found.evidence.contains(lost), "{found:?}");
}

/// The passing run as one that loses this share, with so many lost in each cut direction beside 263 that were heard.
fn lossy_run(percent: u8, lost: u32) -> Run {
    let mut run = passing();
    run.plan.pattern.effect = Effect::LossPerPacket { percent };
    for node in run.plan.agents().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        let spans = &mut run.status(&node).spans;
        let cut: Vec<Span> = spans.iter().filter(|s| s.kind == SpanKind::Lost).cloned().collect();
        spans.retain(|s| s.kind != SpanKind::Lost);
        let heard =
            cut.iter().map(|s| Span { kind: SpanKind::Heard, state: "heard".into(), samples: 263, ..s.clone() });
        spans.extend(heard);
        spans.extend(cut.into_iter().filter(|_| lost > 0).map(|s| Span { samples: lost, ..s }));
    }
    run
}

#[test]
fn a_lossy_direction_is_told_from_a_silent_one() {
    assert_eq!(of(&lossy_run(30, 112), DATAGRAMS).result, FindingResult::Held, "112 of 375 are 30 %");
    assert_eq!(of(&lossy_run(30, 800), DATAGRAMS).result, FindingResult::Violated);
}

#[test]
fn of_a_lossy_cut_one_direction_may_be_spared() {
    let mut run = lossy_run(30, 112);
    let without: Vec<_> = run.status("w2").spans.iter().filter(|s| s.kind != SpanKind::Lost).cloned().collect();
    run.status("w2").spans = without;
    assert_eq!(of(&run, "rest→isolated: datagrams").result, FindingResult::Held);
    // A fifth of all that came from the isolated side was spared: that is no chance.
    assert_eq!(of(&run, DATAGRAMS).result, FindingResult::Violated);
}

#[test]
fn a_few_percent_of_loss_are_proven_by_what_the_kernels_took() {
    assert_eq!(of(&lossy_run(2, 7), DATAGRAMS).result, FindingResult::Held, "7 of 270");
    assert_eq!(of(&lossy_run(2, 0), DATAGRAMS).result, FindingResult::Inconclusive, "nothing was taken");
}

#[test]
fn a_live_direction_of_which_nothing_comes_for_a_while_is_open() {
    let quiet = |until: f64| {
        let mut run = passing();
        run.rewrite("w2", SpanKind::Heard, "w3/Ipv4", &[("heard", START, 20.0), ("heard", until, END)]);
        of(&run, "rest→rest: datagrams").result
    };
    assert_eq!([quiet(22.0), quiet(33.0)], [FindingResult::Held, FindingResult::Inconclusive]);
}

#[test]
fn a_pause_of_the_sender_itself_is_no_doubt() {
    let mut run = passing();
    run.status("w3").spans.retain(|s| s.kind != SpanKind::Probe);
    run.rewrite("w3", SpanKind::Probe, "w2/Kubelet", &[("open", START, 20.0), ("open", 33.0, END)]);
    run.rewrite("w2", SpanKind::Heard, "w3/Ipv4", &[("heard", START, 20.0), ("heard", 33.0, END)]);
    assert_eq!(of(&run, "rest→rest: datagrams").result, FindingResult::Held, "it was started anew");
}

/// The passing run with a link that is down for 30 s and up for 10 s, as the agents would have seen it, but for the second time down.
fn flapping(second: (f64, f64)) -> Run {
    let mut run = passing();
    run.plan.pattern.flap = Some((30.0, 10.0));
    for node in run.plan.agents().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        let cut: BTreeSet<(SpanKind, String)> = run
            .status(&node)
            .spans
            .iter()
            .filter(|s| s.kind == SpanKind::Lost || (s.kind == SpanKind::Probe && s.state == "silent"))
            .map(|s| (s.kind, s.subject.clone()))
            .collect();
        for (kind, subject) in cut {
            if kind == SpanKind::Probe {
                let down = |from, to| ("silent", from, to);
                let up = |from, to| ("open", from, to);
                let history = [
                    up(START, -0.5),
                    down(0.5, 29.5),
                    up(30.5, 39.5),
                    down(40.5, 69.5),
                    up(70.5, CUT),
                    up(CUT + 0.5, END),
                ];
                run.rewrite(&node, kind, &subject, &history);
            } else {
                let heard = [("heard", START, 0.0), ("heard", 30.0, 40.0), ("heard", 70.0, END)];
                run.rewrite(&node, SpanKind::Heard, &subject, &heard);
                run.rewrite(&node, kind, &subject, &[("lost", 0.0, 30.0), ("lost", second.0, second.1)]);
            }
        }
    }
    run
}

#[test]
fn every_window_of_a_cut_that_flaps_must_show_a_loss() {
    assert_eq!(of(&flapping((40.0, 70.0)), DATAGRAMS).result, FindingResult::Held);
    assert_eq!(
        of(&flapping((40.0, 40.1)), DATAGRAMS).result,
        FindingResult::Inconclusive,
        "nothing more in the second window"
    );
}

#[test]
fn a_link_that_flaps_must_come_up() {
    let mut run = flapping((40.0, 70.0));
    run.rewrite("w2", SpanKind::Lost, "w1/Ipv4", &[("lost", 0.0, 70.0)]);
    assert_eq!(of(&run, DATAGRAMS).result, FindingResult::Violated, "taken while it was up");
    let mut run = flapping((40.0, 70.0));
    run.rewrite("w2", SpanKind::Heard, "w1/Ipv4", &[("heard", START, 0.0), ("heard", 70.0, END)]);
    assert_eq!(of(&run, DATAGRAMS).result, FindingResult::Inconclusive, "nobody knows");
    const PORTS: &str = "rest→isolated";
    let mut run = flapping((40.0, 70.0));
    assert_eq!(of(&run, PORTS).result, FindingResult::Held);
    run.rewrite(
        "w2",
        SpanKind::Probe,
        "w1/Kubelet",
        &[("open", START, -0.5), ("silent", 0.5, 69.5), ("open", 70.5, END)],
    );
    assert_eq!(of(&run, PORTS).result, FindingResult::Violated, "still silent when it was up");
}

#[test]
fn a_kubelet_that_is_heard_in_between_may_end_pods_that_were_evicted() {
    let ended_in_the_cut = |mut run: Run| {
        let pod =
            run.status("w1").spans.iter_mut().find(|s| s.kind == SpanKind::Container && s.subject.contains("web-"));
        pod.expect("a container of the fixture").to = moment(0.2, 50.0);
        let kept = |f: &Finding| f.check == Check::WorkloadKept && f.subject.contains("web");
        run.judge().findings.into_iter().find(kept).map(|f| f.result)
    };
    assert_eq!(ended_in_the_cut(passing()), Some(FindingResult::Violated));
    assert_eq!(ended_in_the_cut(flapping((40.0, 70.0))), Some(FindingResult::Noted));
}

#[test]
fn a_rack_that_heals_early_must_be_heard_from_then_on() {
    let staggered = |from: f64| {
        let mut run = passing();
        run.plan.pattern.early_seconds = [("r2".to_owned(), 30.0)].into();
        for subject in ["cp1/Ipv4", "w1/Ipv4"] {
            run.rewrite("w2", SpanKind::Heard, subject, &[("heard", START, 0.0), ("heard", from, END)]);
            run.rewrite("w2", SpanKind::Lost, subject, &[("lost", 0.0, from)]);
            run.rewrite("cp2", SpanKind::Heard, subject, &[("heard", START, 0.0), ("heard", 45.0, END)]);
            run.rewrite("cp2", SpanKind::Lost, subject, &[("lost", 0.0, 45.0)]);
        }
        of(&run, DATAGRAMS).result
    };
    assert_eq!(staggered(45.0), FindingResult::Held);
    assert_eq!(staggered(55.0), FindingResult::Violated, "ten seconds late");
}

#[test]
fn what_nobody_looked_at_is_named() {
    let edges = |change: fn(&mut Run)| {
        let mut run = passing();
        change(&mut run);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.subject == "edges" && f.check == Check::FaultProven);
        found.map(|f| (f.result, f.evidence))
    };
    assert_eq!(edges(|_| {}), None);
    let says = |found: Option<(FindingResult, String)>, words: &str| {
        let (result, why) = found.unwrap_or_else(|| panic!("no finding for {words}"));
        assert_eq!(result, FindingResult::Inconclusive);
        assert!(why.contains(words), "{why}");
    };
    let unserved = edges(|run| run.plan.probes.retain(|t| t.class != PortClass::Endpoint));
    says(unserved, "nobody looked at isolated↔lb");
    let ports = edges(|run| run.plan.ports.ports = [(Protocol::Tcp, 10250), (Protocol::Sctp, 9)].into());
    says(ports, "nobody looked at SCTP 9");
    // Workers have no reason to ask etcd, but it is there, across the cut.
    let of_a_worker = edges(|run| {
        let w1 = BTreeSet::from(["w1".to_owned()]);
        let rest: BTreeSet<String> = run.plan.agents().into_iter().filter(|n| *n != "w1").map(str::to_owned).collect();
        run.plan.edges = vec![Block { from: w1.clone(), to: rest.clone() }, Block { from: rest, to: w1 }];
        run.plan.ports.ports = [(Protocol::Tcp, 10250), (Protocol::Tcp, 2379)].into();
    });
    says(of_a_worker, "nobody looked at TCP 2379:");
}

#[test]
fn on_an_overlay_pods_datagrams_fall_silent_in_those_of_nodes() {
    let overlay = |about_pods: bool, heard_in_the_cut: bool| {
        let mut run = passing();
        let range = |i: usize| format!("198.19.{i}.0/24").parse().unwrap();
        run.plan
            .members
            .iter_mut()
            .enumerate()
            .filter(|(_, m)| m.has_agent)
            .for_each(|(i, m)| m.pod_cidrs = vec![range(i)]);
        run.plan.ports.pods = about_pods;
        let plan = run.plan.clone();
        for node in plan.agents() {
            for sender in plan.agents().into_iter().filter(|s| *s != node) {
                let broken = plan.cuts(sender, node) && !heard_in_the_cut;
                let history: &[_] =
                    if broken { &[("heard", START, 0.0), ("heard", CUT, END)] } else { &[("heard", START, END)] };
                run.rewrite(node, SpanKind::Heard, &format!("{sender}/PodIpv4"), history);
                if about_pods {
                    // Only pods' traffic is hit.
                    run.rewrite(node, SpanKind::Heard, &format!("{sender}/Ipv4"), &[("heard", START, END)]);
                    run.rewrite(node, SpanKind::Lost, &format!("{sender}/Ipv4"), &[]);
                }
            }
        }
        of(&run, DATAGRAMS).result
    };
    assert_eq!(overlay(false, false), FindingResult::Held, "inside of what the cut took");
    assert_eq!(overlay(false, true), FindingResult::Violated, "pods went on hearing each other");
    assert_eq!(overlay(true, false), FindingResult::Inconclusive, "a cut of pods' traffic must take them itself");
}

#[test]
fn pods_whose_packets_never_come_to_the_hook_leave_it_open_and_are_named() {
    // Of each direction that is cut: whether the kernel took what was for the range, and what it saw of datagrams to a pod.
    let found = |range_is_taken: bool, to_pods: &[(SpanKind, &'static str, f64, f64)]| {
        let mut run = passing();
        for (i, member) in run.plan.members.iter_mut().enumerate().filter(|(_, m)| m.has_agent) {
            member.pod_cidrs = vec![format!("198.19.{i}.0/24").parse().unwrap()];
            member.pods = vec![format!("198.19.{i}.7").parse().unwrap()];
        }
        let plan = run.plan.clone();
        for node in plan.agents() {
            for sender in plan.agents().into_iter().filter(|s| *s != node) {
                let (range, live) = (format!("{sender}/PodIpv4"), format!("{sender}/LivePodIpv4"));
                let whole = [("heard", START, END)];
                let (heard, lost) = ([("heard", START, 0.0), ("heard", CUT, END)], [("lost", 0.1, CUT)]);
                let is_cut = plan.cuts(sender, node);
                run.rewrite(node, SpanKind::Heard, &range, if is_cut { &heard } else { &whole });
                if is_cut && range_is_taken {
                    run.rewrite(node, SpanKind::Lost, &range, &lost);
                }
                for (kind, state, from, to) in to_pods.iter().filter(|_| is_cut) {
                    run.status(node).spans.push(span(0.2, *kind, &live, state, *from, *to));
                }
            }
        }
        of(&run, DATAGRAMS)
    };
    let round = found(true, &[]);
    assert_eq!(round.result, FindingResult::Inconclusive);
    assert!(round.evidence.contains("go round it"), "{round:?}");
    assert_eq!(found(false, &[]).result, FindingResult::Held, "an overlay: both in packets between nodes");
    assert_eq!(
        found(true, &[(SpanKind::Heard, "heard", START, -1.0)]).result,
        FindingResult::Held,
        "a pod that went away"
    );
    let through = found(true, &[(SpanKind::Heard, "heard", START, END)]);
    assert_eq!(through.result, FindingResult::Violated, "{through:?}");
}

#[test]
fn whoever_is_not_in_the_plan_is_named() {
    let stranger = |at: f64| {
        let mut run = passing();
        run.status("w2").spans.push(span(0.2, SpanKind::Stranger, "198.18.0.77", "heard", at, at + 1.0));
        run.status("w1").spans.push(span(0.2, SpanKind::Address, "198.18.0.77", "held", START, END));
        run
    };
    let found = of(&stranger(20.0), "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.observed.contains("198.18.0.77 (an interface of w1 has it)"), "{found:?}");
    let mut allowed = stranger(20.0);
    allowed.spec.guards.allow_unplaced_sources = true;
    assert_eq!(of(&allowed, "unplaced").result, FindingResult::Noted, "knowingly");
    let before = stranger(-20.0).judge().findings;
    assert!(!before.iter().any(|f| f.subject == "unplaced"), "only the cut matters: {before:#?}");
}

#[test]
fn an_address_that_the_plan_has_elsewhere_is_named_with_the_node_that_held_it() {
    let held_from = |node: &str, from: f64, to: f64| {
        let mut run = passing();
        for address in ["198.18.0.9", "198.18.0.99"] {
            run.status(node).spans.push(span(0.2, SpanKind::Address, address, "held", from, to));
        }
        run
    };
    let held_by = |node: &str| held_from(node, START, END);
    let found = of(&held_by("w1"), "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.observed.contains("198.18.0.9 of lb (an interface of w1 had it)"), "{found:?}");
    let mut allowed = held_by("w1");
    allowed.spec.guards.allow_unplaced_sources = true;
    assert_eq!(of(&allowed, "unplaced").result, FindingResult::Noted);
    let after = held_from("w1", CUT + 20.0, END).judge().findings;
    assert!(!after.iter().any(|f| f.subject == "unplaced"), "only the cut matters: {after:#?}");
    // To w2 the cut does as to the load balancer.
    let outside = held_by("w2").judge().findings;
    assert!(!outside.iter().any(|f| f.subject == "unplaced"), "{outside:#?}");
}

#[test]
fn addresses_that_a_kernel_does_not_tell_may_be_anybodys() {
    let unread = |from: f64, to: f64| {
        let mut run = passing();
        let failed = span(0.2, SpanKind::Address, ADDRESSES, ADDRESSES_UNREAD, from, to);
        run.status("w1").spans.push(Span { detail: Some("out of memory".into()), ..failed });
        run
    };
    let found = of(&unread(20.0, 24.0), "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert_eq!(found.observed, "addresses not read: those of w1 (out of memory)");
    let mut allowed = unread(20.0, 24.0);
    allowed.spec.guards.allow_unplaced_sources = true;
    assert_eq!(of(&allowed, "unplaced").result, FindingResult::Noted);
    let before = unread(START, -5.0).judge().findings;
    assert!(!before.iter().any(|f| f.subject == "unplaced"), "only the cut matters: {before:#?}");
}

#[test]
fn a_node_that_joins_during_the_cut_is_named_whatever_is_allowed() {
    let mut run = passing();
    run.spec.guards.allow_unplaced_sources = true;
    run.operator_status().spans.push(span(0.0, SpanKind::Node, "w9", "True", 20.0, END));
    let found = of(&run, "unplaced");
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert!(found.observed.contains("joined: node w9"), "{found:?}");
}
