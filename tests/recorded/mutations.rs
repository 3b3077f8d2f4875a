//! The example's recording, changed in one way at a time, as a cluster or an observer may go wrong: each change is found in what it
//! touches, and in nothing else.

use crate::{
    changes::{Change, NONE, OPEN, VIOLATED, WELL, WELL_OR_NONE, Whom, amiss, of_judgement},
    recording::{Recording, master, spans, worker},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use rackpartition::{
    api::{
        CORRUPT, Check, ClockAnchor, Finding, Moment, NodeRecordStatus, Numbers, RaftRole, RaftState, STORE_ALARMS,
        STORE_HASH_AFTER, STORE_RAFT, Span, SpanKind, StoreHash, Verdict, register,
    },
    judge::Judgement,
    topology::Pod,
};

/// Far more than clocks may differ, and than anybody's measurement of them is uncertain, microseconds.
const STEP_US: i64 = 10_000_000;

/// Asserts that a change gives this verdict, and that of all findings it changes these and no others. Returns what is said then.
#[track_caller]
fn expect(seen: &Recording, changed: &Recording, verdict: Verdict, changes: &[Change]) -> Judgement {
    let (before, after) = (seen.judge(), changed.judge());
    let amiss = amiss(&of_judgement(&before), &of_judgement(&after), changes);
    assert!(amiss.is_empty(), "{amiss:#?}");
    assert_eq!(after.verdict, verdict);
    after
}

/// Asserts that the first finding of this says all of these, and that its evidence names all of those.
#[track_caller]
fn says(judgement: &Judgement, (check, subject): (Check, &str), words: &[&str], evidence: &[&str]) {
    let is_it = |f: &&Finding| f.check == check && f.subject == subject;
    let found = judgement.findings.iter().find(is_it).expect("a finding");
    words.iter().for_each(|word| assert!(found.observed.contains(word), "{word}: {found:?}"));
    evidence.iter().for_each(|word| assert!(found.evidence.contains(word), "{word}: {found:?}"));
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
    // After the heal masters tell of etcd and of writes as well.
    changes.extend(["workloads of the cut side", "nodes that were heard"].map(|s| Change::opens(Check::HealDamage, s)));
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
    let judgement = expect(&seen, &changed, Verdict::Inconclusive, &changes);
    says(&judgement, (Check::HealProven, "all nodes"), &[node, "no record"], &[]);
}

/// The one that theory is built on (§0.10): what went on where nobody could look from outside.
#[test]
fn without_a_cut_off_workers_journal_nobody_knows_what_went_on_there() {
    let seen = Recording::example();
    let node = worker(seen.side("isolated"));
    let mut changed = seen.clone();
    changed.agents.retain(|record| record.spec.node != node);
    let changes = [
        Change::opens(Check::FaultProven, "isolated→isolated"),
        Change::opens(Check::FaultProven, "isolated→rest"),
        Change::opens(Check::FaultProven, "isolated→isolated: datagrams"),
        Change::opens(Check::FaultProven, "rest→isolated: datagrams"),
        // Of those that are left.
        Change::one(Check::FaultProven, "onset", WELL, WELL),
        // The API may say what it likes of them: whether they ran only their own node's runtime knows.
        Change::every(Check::WorkloadKept, WELL, OPEN),
        Change::every(Check::WorkloadDoubled, WELL, OPEN),
        Change::opens(Check::WorkloadOrphaned, "all pods"),
        Change::opens(Check::HealDamage, "workloads of the cut side"),
        Change::opens(Check::Recovery, "milestones"),
        Change::opens(Check::HealProven, "all nodes"),
    ];
    let judgement = expect(&seen, &changed, Verdict::Inconclusive, &changes);
    says(&judgement, (Check::WorkloadKept, "shop/db (StatefulSet)"), &["not known"], &["no record of ", node]);
}

#[test]
fn an_agent_whose_node_was_rebooted_in_the_cut() {
    let seen = Recording::example();
    let node = worker(seen.side("rest"));
    let changes = [
        // Nobody knows that it heard anybody before the cut.
        Change::opens(Check::FaultProven, "rest→isolated"),
        Change::opens(Check::FaultProven, "rest→rest"),
        Change::opens(Check::FaultProven, "isolated→rest: datagrams"),
        Change::opens(Check::FaultProven, "rest→rest: datagrams"),
        Change::one(Check::FaultProven, "onset", WELL, WELL),
        Change::opens(Check::HealProven, "all nodes"),
    ];
    let judgement = expect(&seen, &after_a_reboot(&seen, node), Verdict::Inconclusive, &changes);
    says(&judgement, (Check::HealProven, "all nodes"), &[node, "rebooted"], &[]);
}

/// From the middle of the cut on: what was seen before is lost, and the monotonic clock begins anew. What its runtime knows of containers
/// it knows as before.
fn after_a_reboot(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    let status = changed.status(node);
    let started = moment_at(status, in_the_cut(seen, 2));
    let is_later = |at: &Moment| at.boot_us >= started.boot_us;
    status.spans.retain(|span| span.kind == SpanKind::Container || is_later(&span.to));
    for span in status.spans.iter_mut().filter(|span| span.kind != SpanKind::Container && !is_later(&span.from)) {
        span.from = started.clone();
    }
    let anchors = &mut status.clock.as_mut().expect("its clock").anchors;
    anchors.retain(|anchor| is_later(&anchor.at));
    let looks = status.spans.iter_mut().flat_map(|span| [&mut span.from, &mut span.to]);
    looks.chain(anchors.iter_mut().map(|anchor| &mut anchor.at)).for_each(|at| at.boot_us -= started.boot_us);
    status.boot_id = Some("another".into());
    status.message = Some("the node was rebooted during the run: what was seen before is lost".into());
    changed
}

#[test]
fn two_members_of_etcd_that_lead_in_one_term() {
    let seen = Recording::example();
    let changes = [Change::one(Check::EtcdLeaders, "etcd", WELL, VIOLATED)];
    let (changed, node, term) = with_two_leaders(&seen);
    let judgement = expect(&seen, &changed, Verdict::Fail, &changes);
    let in_one_term = format!(" both led in term {term}");
    says(&judgement, (Check::EtcdLeaders, "etcd"), &[&node, &in_one_term], &[&format!("{node}: store")]);
}

/// A member that followed another one is once seen to lead in the same term. With the node of that member, and the term.
fn with_two_leaders(seen: &Recording) -> (Recording, String, u64) {
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
    (changed, node.to_owned(), state.term)
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
    let judgement = expect(&seen, &with_another_hash(&seen, member), Verdict::Fail, &changes);
    let others = master(seen.side("rest"));
    says(&judgement, (Check::StoreAgreement, member), &["holds ", " where ", others, " hold "], &[member]);
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
fn a_member_of_etcd_of_which_the_others_raise_an_alarm() {
    let seen = Recording::example();
    let member = master(seen.side("isolated"));
    // The hashes, which are the same, are told as well.
    let changes = [Change::one(Check::StoreAgreement, member, NONE, VIOLATED)];
    let judgement = expect(&seen, &with_an_alarm(&seen, member), Verdict::Fail, &changes);
    says(&judgement, (Check::StoreAgreement, member), &["alarm CORRUPT"], &["store"]);
}

/// Every member tells of it from the heal on.
fn with_an_alarm(seen: &Recording, node: &str) -> Recording {
    let of_member = raft(seen).find(|(of, ..)| *of == node).expect("etcd was read");
    let raised = format!("{CORRUPT} {}", of_member.2.id.as_deref().expect("a member has an id"));
    let mut changed = seen.clone();
    for master in seen.sides.iter().flat_map(|side| &side.api_servers) {
        let status = changed.status(master);
        let healed = moment_at(status, in_the_cut(seen, 4));
        let alarms = status.spans.iter_mut().filter(|s| s.kind == SpanKind::Store && s.subject == STORE_ALARMS);
        let last = alarms.max_by_key(|s| s.to.boot_us).expect("its alarms were read");
        let after = Span { state: raised.clone(), from: healed.clone(), ..last.clone() };
        last.to = healed;
        status.spans.push(after);
    }
    changed
}

#[test]
fn a_twin_of_a_pod_of_a_stateful_set() {
    let seen = Recording::example();
    let pod = stateful_pod(&seen);
    let owner = pod.owner_name.as_deref().expect("a StatefulSet has a name");
    let owner = format!("{}/{owner} (StatefulSet)", pod.namespace);
    let changes = [Change::one(Check::WorkloadDoubled, &owner, WELL, VIOLATED)];
    let judgement = expect(&seen, &with_a_twin(&seen, pod), Verdict::Fail, &changes);
    let both = [pod.node.as_str(), worker(seen.side("rest"))];
    says(&judgement, (Check::WorkloadDoubled, owner.as_str()), &["two of ", &pod.name, " ran for "], &both);
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
    let (changed, number) = with_a_lost_write(&seen, node);
    let judgement = expect(&seen, &changed, Verdict::Fail, &changes);
    says(&judgement, (Check::LostWrites, "rest"), &[node, &format!("acknowledged and lost: {number}")], &[]);
}

/// The first number that was acknowledged to the writer on this node is in none of the answers to the operator.
fn with_a_lost_write(seen: &Recording, node: &str) -> (Recording, u64) {
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
    (changed, first)
}

#[test]
fn a_consistent_read_that_lacks_what_was_acknowledged() {
    let seen = Recording::example();
    let node = master(seen.side("rest"));
    let changes = [Change::one(Check::StaleRead, "rest", WELL, VIOLATED)];
    let judgement = expect(&seen, &with_a_stale_read(&seen, node), Verdict::Fail, &changes);
    says(&judgement, (Check::StaleRead, "rest"), &[node, "a consistent read", " lacked what "], &[node]);
}

/// In the middle of the cut one of the answers to the agent on this node is the first that there ever was.
fn with_a_stale_read(seen: &Recording, node: &str) -> Recording {
    let mut changed = seen.clone();
    let status = changed.status(node);
    let at = moment_at(status, in_the_cut(seen, 2));
    let is_consistent = |s: &&Span| {
        let way = s.subject.rsplit_once('/').map(|(_, way)| way);
        s.kind == SpanKind::Reading && s.state == register::READ && way == Some(register::CONSISTENT)
    };
    let answered = status.spans.iter().find(is_consistent).expect("a consistent read was answered").clone();
    let first = Span { from: at.clone(), to: at, samples: 1, detail: Some("n=1".into()), ..answered };
    status.spans.push(first);
    changed
}

#[test]
fn a_lease_that_is_taken_while_it_is_valid() {
    let seen = Recording::example();
    let lease = "kube-system/kube-scheduler";
    let changes = [
        Change::one(Check::LeaseTakeover, lease, WELL, VIOLATED),
        // The old one goes on until it gives up by itself.
        Change::one(Check::LeaderOverlap, lease, WELL, VIOLATED),
    ];
    let judgement = expect(&seen, &taken_early(&seen, lease), Verdict::Fail, &changes);
    says(&judgement, (Check::LeaseTakeover, lease), &[" leads from ", ", before "], &["operator"]);
    says(&judgement, (Check::LeaderOverlap, lease), &["two leaders for "], &[master(seen.side("isolated"))]);
}

/// Within three seconds of the cut.
fn taken_early(seen: &Recording, lease: &str) -> Recording {
    let mut changed = seen.clone();
    let status = changed.operator.as_mut().and_then(|record| record.status.as_mut()).expect("the operator's record");
    let after_cut = |milliseconds: i64| in_the_cut(seen, 0) + milliseconds * 1000;
    let (until, from) = (moment_at(status, after_cut(2000)), moment_at(status, after_cut(3000)));
    let mut history: Vec<&mut Span> =
        status.spans.iter_mut().filter(|s| s.kind == SpanKind::Lease && s.subject == lease).collect();
    history.sort_by_key(|s| s.from.boot_us);
    let [old, new] = &mut history[..] else { panic!("it moved once") };
    let transitions = new.told("transitions").expect("it counts").to_owned();
    let acquired = micro_time(after_cut(2500)).0;
    old.to = until;
    new.from = from;
    new.detail = Some(format!("transitions={transitions} acquired={acquired}"));
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
        // Whom it follows it may have followed before the heal.
        Change::opens(Check::EtcdLeaders, "etcd after the heal"),
        Change::opens(Check::ApiWritable, "isolated"),
        Change::opens(Check::ApiServerReady, node),
        Change::opens(Check::StaleRead, "isolated"),
        Change::opens(Check::LostWrites, "isolated"),
        Change::every(Check::LeaderGap, WELL, OPEN),
        Change::every(Check::LeaderOverlap, WELL, OPEN),
        Change::opens(Check::Recovery, "milestones"),
        // Nobody knows when it was heard again.
        Change::opens(Check::HealProven, "all nodes"),
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
