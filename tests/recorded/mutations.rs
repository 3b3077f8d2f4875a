//! The example's recording, changed in one way at a time, as a cluster or an observer may go wrong: each change is found in what it
//! touches, and in nothing else.

use crate::{
    changes::{Change, NONE, OPEN, VIOLATED, WELL, WELL_OR_NONE, Whom, amiss, of_judgement},
    recording::{Recording, master, spans, worker},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use rackpartition::{
    api::{
        Check, ClockAnchor, Moment, NodeRecordStatus, Numbers, RaftRole, RaftState, STORE_HASH_AFTER, STORE_RAFT, Span,
        SpanKind, StoreHash, Verdict, register,
    },
    topology::Pod,
};

/// Far more than clocks may differ, and than anybody's measurement of them is uncertain, microseconds.
const STEP_US: i64 = 10_000_000;

/// Asserts that a change gives this verdict, and that of all findings it changes these and no others.
#[track_caller]
fn expect(seen: &Recording, changed: &Recording, verdict: Verdict, changes: &[Change]) {
    let (before, after) = (seen.judge(), changed.judge());
    let amiss = amiss(&of_judgement(&before), &of_judgement(&after), changes);
    assert!(amiss.is_empty(), "{amiss:#?}");
    assert_eq!(after.verdict, verdict);
}

#[test]
fn without_the_operators_record_nobody_knows_what_the_api_said() {
    let seen = Recording::example();
    let changed = Recording { operator: None, ..seen.clone() };
    let told = [
        Check::LostWrites,
        Check::LeaseTakeover,
        Check::LeaderGap,
        Check::LeaderOverlap,
        Check::NodeNotReady,
        Check::NodeTainted,
        Check::WorkloadOrphaned,
        Check::HealDamage,
        Check::Recovery,
        Check::HealProven,
    ];
    let mut changes: Vec<Change> = told.into_iter().map(|check| Change::every(check, WELL, OPEN)).collect();
    // Told only where something came of them, or nobody knows.
    for check in [Check::LeaseHistory, Check::EndpointsRemoved, Check::WorkloadEvicted, Check::WorkloadStuck] {
        changes.push(Change::every(check, WELL_OR_NONE, OPEN));
    }
    // What runs where only the runtimes know; what replaces what only the API.
    let copies = Whom::Kind("(Deployment)");
    changes.push(Change { check: Check::WorkloadDoubled, whom: copies, before: WELL, after: OPEN });
    // Of those that are cut off their own nodes tell.
    changes.push(Change::opens(Check::ApiWritable, &seen.side("rest").name));
    expect(&seen, &changed, Verdict::Inconclusive, &changes);
}

#[test]
fn without_a_workers_journal_nobody_knows_what_it_heard_and_ran() {
    let seen = Recording::example();
    let node = worker(seen.side("rest"));
    let mut changed = seen.clone();
    changed.agents.retain(|record| record.spec.node != node);
    let changes = [
        Change::opens(Check::FaultProven, "rest→isolated"),
        Change::opens(Check::FaultProven, "rest→rest"),
        Change::opens(Check::FaultProven, "isolated→rest: datagrams"),
        Change::opens(Check::FaultProven, "rest→rest: datagrams"),
        // A second one may have run there.
        Change::every(Check::WorkloadDoubled, WELL, OPEN),
        Change::opens(Check::WorkloadOrphaned, "all pods"),
        Change::opens(Check::Recovery, "milestones"),
        Change::opens(Check::HealProven, "all nodes"),
    ];
    expect(&seen, &changed, Verdict::Inconclusive, &changes);
}

#[test]
fn two_members_of_etcd_that_lead_in_one_term() {
    let seen = Recording::example();
    let changes = [Change::one(Check::EtcdLeaders, "etcd", WELL, VIOLATED)];
    expect(&seen, &with_two_leaders(&seen), Verdict::Fail, &changes);
}

/// A member that followed another one is once seen to lead in the same term.
fn with_two_leaders(seen: &Recording) -> Recording {
    let leading = raft(seen).filter(|(_, state, _)| state.role == RaftRole::Leads);
    let led: Vec<(&str, u64)> = leading.map(|(node, state, _)| (node, state.term)).collect();
    // Whoever led may have followed in the same term later, having noticed that nobody hears it.
    let another_led = |node: &str, term: u64| led.iter().any(|l| l.1 == term) && !led.contains(&(node, term));
    let (node, state, span) = raft(seen)
        .find(|&(node, state, _)| state.role == RaftRole::Follows && another_led(node, state.term))
        .expect("etcd was read, for which agents need agent.etcdCertificates");
    let leads = RaftState { role: RaftRole::Leads, ..state };
    let once = Span { state: leads.to_string(), from: span.to.clone(), samples: 1, ..span.clone() };
    let mut changed = seen.clone();
    changed.status(node).spans.push(once);
    changed
}

/// What members of etcd did in raft, and on which nodes.
fn raft(seen: &Recording) -> impl Iterator<Item = (&str, RaftState, &Span)> {
    seen.agents.iter().flat_map(|record| {
        let own = spans(record).iter().filter(|s| s.kind == SpanKind::Store && s.subject == STORE_RAFT);
        own.filter_map(move |span| Some((record.spec.node.as_str(), RaftState::parse(&span.state)?, span)))
    })
}

#[test]
fn a_member_of_etcd_that_holds_something_else_is_named() {
    let seen = Recording::example();
    let member = master(seen.side("isolated"));
    let changes = [
        Change::one(Check::StoreAgreement, "etcd", WELL, NONE),
        Change::one(Check::StoreAgreement, member, NONE, VIOLATED),
    ];
    expect(&seen, &with_another_hash(&seen, member), Verdict::Fail, &changes);
}

/// At the revisions at which the others hashed, too.
fn with_another_hash(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    for span in &mut changed.status(node).spans {
        if span.kind == SpanKind::Store
            && span.subject == STORE_HASH_AFTER
            && let Some(hash) = StoreHash::parse(&span.state)
        {
            span.state = StoreHash { hash: !hash.hash, ..hash }.to_string();
        }
    }
    changed
}

#[test]
fn a_twin_of_a_pod_of_a_stateful_set() {
    let seen = Recording::example();
    let pod = stateful_pod(&seen);
    let owner = pod.owner_name.as_deref().expect("a StatefulSet has a name");
    let owner = format!("{}/{owner} (StatefulSet)", pod.namespace);
    let changes = [Change::one(Check::WorkloadDoubled, owner, WELL, VIOLATED)];
    expect(&seen, &with_a_twin(&seen, pod), Verdict::Fail, &changes);
}

/// One that is cut off.
fn stateful_pod(seen: &Recording) -> &Pod {
    let cut_off = &seen.side("isolated").nodes;
    let mut pods = seen.snapshot.pods.iter().filter(|pod| cut_off.contains(&pod.node));
    pods.find(|pod| pod.owner_kind.as_deref() == Some("StatefulSet")).expect("a pod of a StatefulSet is cut off")
}

/// For a quarter of the cut a container of another pod of this name runs on the other side.
fn with_a_twin(seen: &Recording, pod: &Pod) -> Recording {
    let mut changed = seen.clone();
    let status = changed.status(worker(seen.side("rest")));
    let twin = Span {
        kind: SpanKind::Container,
        subject: format!("{}/{}", pod.subject(), pod.containers[0]),
        state: "exited".into(),
        from: moment_at(status, in_the_cut(seen, 1)),
        to: moment_at(status, in_the_cut(seen, 2)),
        samples: 1,
        uid: Some("twin".into()),
        id: Some("twin".into()),
        node: None,
        detail: None,
    };
    status.spans.push(twin);
    changed
}

#[test]
fn an_acknowledged_write_that_is_gone() {
    let seen = Recording::example();
    let node = master(seen.side("rest"));
    let changes = [Change::one(Check::LostWrites, "rest", WELL, VIOLATED)];
    expect(&seen, &with_a_lost_write(&seen, node), Verdict::Fail, &changes);
}

/// The first number that was acknowledged to the writer on this node is in none of the answers to the operator.
fn with_a_lost_write(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    let written = changed.status(node).spans.iter().filter(|s| s.kind == SpanKind::Register && s.subject == node);
    let acknowledged = written.filter(|s| s.state == "acknowledged").filter_map(numbers);
    let first = acknowledged.filter_map(|numbers| numbers.first()).min().expect("a write was acknowledged");
    let mut lost = Numbers::default();
    lost.insert(first);
    let operator = changed.operator.as_mut().and_then(|record| record.status.as_mut());
    for span in &mut operator.expect("the operator's record").spans {
        if span.kind == SpanKind::Reading && span.subject == node && span.state == register::READ {
            let there = numbers(span).expect("what is read of a register are numbers");
            span.detail = Some(there.without(&lost).to_string());
        }
    }
    changed
}

/// Those that a span's detail begins with.
fn numbers(span: &Span) -> Option<Numbers> {
    Numbers::parse(span.detail.as_deref()?.split(' ').next()?)
}

#[test]
fn a_clock_of_which_two_measurements_contradict_each_other() {
    let seen = Recording::example();
    // It has a member of etcd, an API server and both leaders, so that nearly everything is compared with it.
    let node = master(seen.side("isolated"));
    let changes = [
        Change::opens(Check::FaultProven, "isolated→isolated"),
        Change::opens(Check::FaultProven, "isolated→rest"),
        Change::opens(Check::FaultProven, "isolated→isolated: datagrams"),
        Change::opens(Check::FaultProven, "rest→isolated: datagrams"),
        Change::opens(Check::EtcdQuorum, "isolated"),
        Change::opens(Check::ApiWritable, "isolated"),
        Change::opens(Check::ApiServerReady, node),
        Change::opens(Check::StaleRead, "isolated"),
        Change::opens(Check::LostWrites, "isolated"),
        Change::every(Check::LeaderGap, WELL, OPEN),
        Change::every(Check::LeaderOverlap, WELL, OPEN),
        Change::opens(Check::Recovery, "milestones"),
    ];
    expect(&seen, &with_contradicting_anchors(&seen, node), Verdict::Inconclusive, &changes);
}

/// As when the operator's clock is stepped between two measurements.
fn with_contradicting_anchors(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    let anchors = &mut changed.status(node).clock.as_mut().expect("its clock").anchors;
    let last = anchors.last().expect("it was compared with the operator's").clone();
    anchors.push(ClockAnchor { offset_us: last.offset_us + STEP_US, ..last });
    changed
}

#[test]
fn a_wall_clock_that_was_stepped_while_it_timed_the_cut() {
    let seen = Recording::example();
    let node = worker(seen.side("rest"));
    // What it saw is timed by its monotonic clock. But its cut may have ended early.
    let changes = [Change::opens(Check::HealProven, "all nodes")];
    expect(&seen, &with_a_stepped_wall_clock(&seen, node), Verdict::Inconclusive, &changes);
}

/// From the middle of the cut on it is ahead, and whoever measured it later noticed.
fn with_a_stepped_wall_clock(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    let status = changed.status(node);
    let stepped_us = moment_at(status, in_the_cut(seen, 2)).boot_us;
    let is_later = |at: &Moment| at.boot_us >= stepped_us;
    for at in status.spans.iter_mut().flat_map(|span| [&mut span.from, &mut span.to]).filter(|at| is_later(at)) {
        at.wall = ahead(&at.wall);
    }
    let anchors = status.clock.iter_mut().flat_map(|clock| &mut clock.anchors);
    for anchor in anchors.filter(|anchor| is_later(&anchor.at)) {
        anchor.at.wall = ahead(&anchor.at.wall);
        anchor.offset_us -= STEP_US;
    }
    status.observed_until = status.observed_until.as_ref().map(ahead);
    changed
}

fn ahead(wall: &MicroTime) -> MicroTime {
    micro_time(wall.0.as_microsecond() + STEP_US)
}

/// So many quarters of the cut after its beginning, by the operator's wall clock, microseconds since 1970.
fn in_the_cut(seen: &Recording, quarters: i64) -> i64 {
    let (cut_us, heal_us) = (seen.schedule.cut_at.0.as_microsecond(), seen.schedule.heal_at.0.as_microsecond());
    cut_us + (heal_us - cut_us) * quarters / 4
}

/// The moment on an observer's machine when its own wall clock showed this, microseconds since 1970.
fn moment_at(status: &NodeRecordStatus, wall_us: i64) -> Moment {
    let known = &status.spans[0].to;
    Moment { boot_us: known.boot_us + wall_us - known.wall.0.as_microsecond(), wall: micro_time(wall_us) }
}

fn micro_time(us: i64) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(us).expect("in range"))
}
