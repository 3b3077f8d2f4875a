//! Members of etcd that lead together or hold different things.

use super::{
    fixture::{CUT, END, Run, START, passing, span},
    mutations::expect,
};
use crate::{
    api::{
        Check, Finding, FindingResult, STORE, STORE_ALARMS, STORE_HASH_AFTER, STORE_HASH_BEFORE, STORE_OFF,
        STORE_PANIC, STORE_RAFT, STORE_UNREAD, Span, SpanKind, Verdict,
    },
    fault::Effect,
    report::runbook,
    topology::EtcdMember,
};

const MEMBERS: [&str; 3] = ["cp1", "cp2", "cp3"];
/// What all hold after the heal.
const SAME: &str = "0a1b2c3d at 4711 from 4000";
const OTHER: &str = "ffffffff at 4711 from 4000";
/// When they were hashed, seconds after the cut.
const HASHED: f64 = CUT + 6.0;

/// What the agent of the passing run on this node saw of its member: cp2 leads throughout, cp1 is cut off and asks.
pub fn spans(node: &str) -> Vec<Span> {
    let raft = match node {
        "cp1" => vec![("follows 2", START, 1.0), ("asks 2", 1.5, CUT + 0.8), ("follows 2", CUT + 1.5, END)],
        "cp2" => vec![("leads 2", START, END)],
        "cp3" => vec![("follows 2", START, END)],
        _ => return Vec::new(),
    };
    let seen = |subject: &str, state: &str, from, to| span(0.2, SpanKind::Store, subject, state, from, to);
    let mut spans: Vec<Span> = raft.into_iter().map(|(state, from, to)| seen(STORE_RAFT, state, from, to)).collect();
    spans.iter_mut().for_each(|s| s.id = Some(id(node)));
    let detail = "version=3.6.5 revision=4800 applied=9 committed=9 size=41943040 used=23068672";
    spans.push(Span { detail: Some(detail.into()), ..seen(STORE_ALARMS, "none", START, END) });
    spans.push(seen(STORE_HASH_AFTER, SAME, HASHED, HASHED));
    spans
}

/// Of the member on this node.
fn id(node: &str) -> String {
    node.replace("cp", "c")
}

fn of(run: &Run, check: Check) -> Vec<Finding> {
    run.judge().findings.into_iter().filter(|f| f.check == check).collect()
}

fn results(run: &Run, check: Check) -> Vec<(String, FindingResult)> {
    of(run, check).into_iter().map(|f| (f.subject, f.result)).collect()
}

fn hash(run: &mut Run, node: &str, state: &str) {
    run.rewrite(node, SpanKind::Store, STORE_HASH_AFTER, &[(state, HASHED, HASHED)]);
}

/// cp1 led in term 1 until so many seconds after the cut, cp2 in term 2 from 1.2 s on.
fn two_terms(run: &mut Run, until: f64) {
    let old = [("leads 1", START, until), ("asks 1", until + 0.5, CUT + 0.8), ("follows 2", CUT + 1.5, END)];
    run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &old);
    run.rewrite("cp2", SpanKind::Store, STORE_RAFT, &[("follows 1", START, 0.8), ("leads 2", 1.2, END)]);
    run.rewrite("cp3", SpanKind::Store, STORE_RAFT, &[("follows 1", START, 0.8), ("follows 2", 1.2, END)]);
}

#[test]
fn two_that_lead_in_one_term_at_whatever_time() {
    let leads = |run: &mut Run, at: f64| {
        let history = [("follows 2", START, at - 1.0), ("leads 2", at, at), ("follows 2", at + 1.0, END)];
        run.rewrite("cp3", SpanKind::Store, STORE_RAFT, &history);
    };
    for at in [-20.0, 30.0, CUT + 20.0] {
        let amiss = [(Check::EtcdLeaders, "etcd", FindingResult::Violated)];
        expect(|run| leads(run, at), Verdict::Fail, &amiss);
    }
    let mut run = passing();
    leads(&mut run, 30.0);
    let found = &of(&run, Check::EtcdLeaders)[0];
    assert_eq!(found.observed, "cp2 and cp3 both led in term 2");
    assert!(found.evidence.contains("cp2: store") && found.evidence.contains("cp3: store"), "{found:?}");
}

#[test]
fn two_that_lead_in_two_terms_for_as_long_as_a_leader_may_not_notice() {
    let mut run = passing();
    two_terms(&mut run, 2.0);
    let found = &of(&run, Check::EtcdLeaders)[0];
    assert_eq!((found.result, run.judge().verdict), (FindingResult::Held, Verdict::Pass), "{found:?}");
    assert!(found.observed.starts_with("cp1 in term 1 and cp2 in term 2 both led for 0.8 s"), "{found:?}");
    let late = [(Check::EtcdLeaders, "etcd", FindingResult::Degraded)];
    expect(|run| two_terms(run, 12.0), Verdict::Degraded, &late);
}

#[test]
fn whoever_leads_in_a_term_again_has_led_in_it_throughout() {
    // Nobody looked at cp1 for 13 s, and then it still led in its term.
    let away = |run: &mut Run| {
        two_terms(run, 2.0);
        let history = [
            ("leads 1", START, 2.0),
            ("leads 1", 15.0, 15.5),
            ("asks 1", 16.0, CUT + 0.8),
            ("follows 2", CUT + 1.5, END),
        ];
        run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &history);
    };
    expect(away, Verdict::Degraded, &[(Check::EtcdLeaders, "etcd", FindingResult::Degraded)]);
    // When somebody looked again it no longer did, and for how long it had nobody knows.
    let open = [(Check::EtcdLeaders, "etcd", FindingResult::Inconclusive)];
    let unknown = |run: &mut Run| {
        two_terms(run, 2.0);
        let history = [("leads 1", START, 2.0), ("asks 1", 16.0, CUT + 0.8), ("follows 2", CUT + 1.5, END)];
        run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &history);
    };
    expect(unknown, Verdict::Inconclusive, &open);
    // It ended soon after the cut.
    let mut run = passing();
    unknown(&mut run);
    run.status("cp1").spans.push(span(0.2, SpanKind::Health, "etcd", "down", 2.5, 15.5));
    assert_eq!(of(&run, Check::EtcdLeaders)[0].result, FindingResult::Held);
}

#[test]
fn a_member_at_which_nobody_looked_may_have_led() {
    let unseen = |run: &mut Run| {
        run.rewrite("cp3", SpanKind::Store, STORE_RAFT, &[("follows 2", START, 10.0), ("follows 2", 40.0, END)]);
    };
    expect(unseen, Verdict::Inconclusive, &[(Check::EtcdLeaders, "etcd", FindingResult::Inconclusive)]);
    // One that was not there did not.
    let mut run = passing();
    unseen(&mut run);
    run.status("cp3").spans.push(span(0.2, SpanKind::Health, "etcd", "down", 10.5, 39.5));
    assert_eq!(of(&run, Check::EtcdLeaders)[0].result, FindingResult::Held);
}

#[test]
fn a_member_that_does_not_follow_after_the_heal() {
    let stray = |run: &mut Run, from: f64| {
        let cut = [("follows 2", START, 1.0), ("asks 2", 1.5, from - 0.5)];
        let healed = [("asks 9", from, CUT + 86.0), ("follows 9", CUT + 87.0, END)];
        run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &[cut, healed].concat());
    };
    let amiss = [(Check::EtcdLeaders, "cp1", FindingResult::Violated)];
    let rejected = |run: &mut Run| {
        run.fault.pattern.effect = Effect::Reject;
        stray(run, CUT + 1.0);
    };
    expect(rejected, Verdict::Fail, &amiss);
    // Where packets vanished its streams may have to wait for TCP for as long again as the cut was.
    let waits = |run: &mut Run| {
        let cut = [("follows 2", START, 1.0), ("asks 2", 1.5, CUT + 86.0), ("follows 2", CUT + 87.0, END)];
        run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &cut);
    };
    expect(waits, Verdict::Pass, &[]);
    let open = [(Check::EtcdLeaders, "etcd after the heal", FindingResult::Inconclusive)];
    let late = |run: &mut Run| {
        let cut = [("follows 2", START, 1.0), ("asks 2", 1.5, CUT)];
        let healed = [("follows 2", CUT + 1.0, END - 6.0), ("asks 3", END - 5.0, END)];
        run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &[cut, healed].concat());
    };
    expect(late, Verdict::Inconclusive, &open);
}

/// cp1 led in term 2 and was last looked at there; the others went on to term 3 then. The cut rejected, so that no stream had to wait for
/// TCP after it.
fn left_behind(run: &mut Run, last_look: f64, others: f64) {
    run.fault.pattern.effect = Effect::Reject;
    run.rewrite("cp1", SpanKind::Store, STORE_RAFT, &[("leads 2", START, last_look)]);
    run.rewrite("cp2", SpanKind::Store, STORE_RAFT, &[("follows 2", START, others - 1.0), ("leads 3", others, END)]);
    run.rewrite("cp3", SpanKind::Store, STORE_RAFT, &[("follows 2", START, others - 1.0), ("follows 3", others, END)]);
}

fn after_the_heal(run: &Run) -> (String, FindingResult, String) {
    let found = of(run, Check::EtcdLeaders).pop().unwrap();
    (found.subject, found.result, found.evidence)
}

#[test]
fn a_member_whose_term_the_others_left_at_the_end() {
    // An election in the last second, and a leader that hung before the others elected.
    for (last_look, others) in [(END - 0.9, END - 0.5), (END - 12.0, END - 11.0)] {
        let mut run = passing();
        left_behind(&mut run, last_look, others);
        let (subject, result, why) = after_the_heal(&run);
        assert_eq!((subject.as_str(), result), ("etcd after the heal", FindingResult::Inconclusive), "{why}");
        assert!(why.contains("cp1 leads in term 2, the others are in term 3") && why.ends_with("since"), "{why}");
    }
    // It was looked at for as long as it may take, and for longer.
    for (others, subject) in [(END - 9.0, "etcd after the heal"), (END - 12.0, "cp1")] {
        let mut run = passing();
        left_behind(&mut run, END, others);
        let (seen, result, why) = after_the_heal(&run);
        let expected = if subject == "cp1" { FindingResult::Violated } else { FindingResult::Inconclusive };
        assert_eq!((seen.as_str(), result), (subject, expected), "{why}");
    }
    // Those whom it should have followed were not looked at any more.
    let mut run = passing();
    left_behind(&mut run, END - 12.5, END - 12.0);
    run.rewrite("cp3", SpanKind::Store, STORE_RAFT, &[("follows 2", START, END - 12.5)]);
    let (subject, result, why) = after_the_heal(&run);
    assert_eq!((subject.as_str(), result), ("etcd after the heal", FindingResult::Inconclusive), "{why}");
}

#[test]
fn a_member_whose_clock_was_never_compared_is_not_held_against_the_times_of_others() {
    let mut run = passing();
    left_behind(&mut run, END, END - 12.0);
    run.status("cp1").clock.as_mut().unwrap().anchors.clear();
    let (subject, result, why) = after_the_heal(&run);
    assert_eq!((subject.as_str(), result), ("etcd after the heal", FindingResult::Inconclusive), "{why}");
    assert!(why.ends_with("its clock was not compared with the operator's"), "{why}");
}

#[test]
fn versions_that_may_hash_differently_are_not_compared() {
    let older = |run: &mut Run, node: &str| {
        let mut spans = run.status(node).spans.iter_mut();
        let alarms = spans.find(|s| s.subject == STORE_ALARMS).unwrap();
        alarms.detail = Some("version=3.5.21 used=23068672".into());
    };
    let upgraded = |run: &mut Run| {
        older(run, "cp1");
        hash(run, "cp1", OTHER);
    };
    let open = [(Check::StoreAgreement, "etcd", FindingResult::Inconclusive)];
    expect(upgraded, Verdict::Inconclusive, &open);
    let mut run = passing();
    upgraded(&mut run);
    let found = &of(&run, Check::StoreAgreement)[0];
    assert!(found.evidence.ends_with(": cp1 3.5.21, cp2 3.6.5, cp3 3.6.5"), "{found:?}");
    // One hash is one store, whatever the versions.
    expect(|run| older(run, "cp1"), Verdict::Pass, &[]);
    // Two of one version differ.
    let differ = |run: &mut Run| {
        older(run, "cp3");
        hash(run, "cp1", OTHER);
    };
    expect(differ, Verdict::Fail, &[(Check::StoreAgreement, "cp1", FindingResult::Violated)]);
}

#[test]
fn two_of_another_version_are_compared_with_each_other_and_with_nobody_else() {
    let mut run = passing();
    let member = run.snapshot.etcd[0].clone();
    for node in ["w1", "w2"] {
        run.snapshot.etcd.push(EtcdMember { node: node.into(), ..member.clone() });
        let seen = spans("cp3").into_iter().map(|s| Span { id: Some(node.into()), ..s });
        run.status(node).spans.extend(seen);
        let mut spans = run.status(node).spans.iter_mut();
        let alarms = spans.find(|s| s.subject == STORE_ALARMS).unwrap();
        alarms.detail = Some("version=3.5.21 used=23068672".into());
    }
    hash(&mut run, "w1", OTHER);
    hash(&mut run, "w2", "0000beef at 4711 from 4000");
    let found = of(&run, Check::StoreAgreement);
    let told: Vec<_> = found.iter().map(|f| (f.subject.as_str(), f.result)).collect();
    let unknown = FindingResult::Inconclusive;
    assert_eq!(told, [("etcd", FindingResult::Violated), ("w1", unknown), ("w2", unknown)], "{found:#?}");
    let both = "members of one version differ, and not the majority's: w1 ffffffff | w2 0000beef";
    assert_eq!(found[0].observed, both);
    // One that is of the majority's version is named, with those that it was compared with.
    let mut spans = run.status("w2").spans.iter_mut();
    spans.find(|s| s.subject == STORE_ALARMS).unwrap().detail = Some("version=3.6.5 used=23068672".into());
    let found = of(&run, Check::StoreAgreement);
    let told: Vec<_> = found.iter().map(|f| (f.subject.as_str(), f.result)).collect();
    assert_eq!(told, [("w2", FindingResult::Violated), ("w1", unknown)], "{found:#?}");
    assert!(found[0].observed.starts_with("holds 0000beef where cp1, cp2, cp3 hold 0a1b2c3d"), "{found:#?}");
}

#[test]
fn one_that_holds_something_else_is_named() {
    let amiss = [(Check::StoreAgreement, "cp1", FindingResult::Violated)];
    expect(|run| hash(run, "cp1", OTHER), Verdict::Fail, &amiss);
    let mut run = passing();
    hash(&mut run, "cp1", OTHER);
    let found = &of(&run, Check::StoreAgreement)[0];
    assert_eq!(found.observed, "holds ffffffff where cp2, cp3 hold 0a1b2c3d, 22.0 MiB in use");
    assert!(found.evidence.contains(OTHER) && found.evidence.contains(SAME), "{found:?}");
}

#[test]
fn where_no_majority_agrees_nobody_is_named() {
    let three = |run: &mut Run| {
        hash(run, "cp1", OTHER);
        hash(run, "cp2", "00000001 at 4711 from 4000");
    };
    expect(three, Verdict::Fail, &[(Check::StoreAgreement, "etcd", FindingResult::Violated)]);
    let one_unknown = |run: &mut Run| {
        hash(run, "cp1", OTHER);
        run.rewrite("cp3", SpanKind::Store, STORE_HASH_AFTER, &[]);
    };
    expect(
        one_unknown,
        Verdict::Fail,
        &[
            (Check::StoreAgreement, "etcd", FindingResult::Violated),
            (Check::StoreAgreement, "cp3", FindingResult::Inconclusive),
        ],
    );
}

#[test]
fn only_what_is_comparable_is_compared() {
    // Another was thrown away in between.
    let between = |run: &mut Run| hash(run, "cp1", "ffffffff at 4711 from 4600");
    let open = [(Check::StoreAgreement, "etcd", FindingResult::Inconclusive)];
    expect(between, Verdict::Inconclusive, &open);
    let twice = |run: &mut Run, of_cp2: &str| {
        between(run);
        for node in MEMBERS {
            let state = if node == "cp2" { of_cp2 } else { "ffffffff at 4711 from 4600" };
            let second = span(0.2, SpanKind::Store, STORE_HASH_AFTER, state, HASHED + 20.0, HASHED + 20.0);
            run.status(node).spans.push(second);
        }
    };
    expect(|run| twice(run, "ffffffff at 4711 from 4600"), Verdict::Pass, &[]);
    let amiss = [(Check::StoreAgreement, "cp2", FindingResult::Violated)];
    expect(|run| twice(run, "0a1b2c3d at 4711 from 4600"), Verdict::Fail, &amiss);
}

#[test]
fn a_hash_that_could_not_be_had_is_open_and_says_why() {
    let mut run = passing();
    run.rewrite("cp2", SpanKind::Store, STORE_HASH_AFTER, &[(STORE_UNREAD, HASHED, END)]);
    let spans = run.status("cp2").spans.iter_mut();
    spans.filter(|s| s.subject == STORE_HASH_AFTER).for_each(|s| s.detail = Some("no answer in time".into()));
    let found = &of(&run, Check::StoreAgreement)[0];
    assert_eq!((found.result, run.judge().verdict), (FindingResult::Inconclusive, Verdict::Inconclusive));
    assert_eq!(found.evidence, "cp2: not hashed: no answer in time");
}

#[test]
fn an_alarm_of_etcd_itself_names_the_member() {
    let alarm = |run: &mut Run, state: &str| {
        for node in MEMBERS {
            run.rewrite(node, SpanKind::Store, STORE_ALARMS, &[("none", START, 40.0), (state, 41.0, END)]);
        }
    };
    let amiss = |subject| [(Check::StoreAgreement, subject, FindingResult::Violated)];
    // The hashes agree all the same.
    let mut run = passing();
    alarm(&mut run, "CORRUPT c1");
    let expected = [("cp1".to_owned(), FindingResult::Violated), ("etcd".to_owned(), FindingResult::Held)];
    assert_eq!(results(&run, Check::StoreAgreement), expected);
    assert_eq!(of(&run, Check::StoreAgreement)[0].observed, "alarm CORRUPT, seen 41 s after the cut");
    expect(|run| alarm(run, "CORRUPT c1"), Verdict::Fail, &amiss("cp1"));
    expect(|run| alarm(run, "CORRUPT 0"), Verdict::Fail, &amiss("etcd"));
    expect(|run| alarm(run, "NOSPACE c1"), Verdict::Pass, &[]);
    expect(
        |run| run.rewrite("cp3", SpanKind::Store, STORE_ALARMS, &[("none", START, 10.0)]),
        Verdict::Inconclusive,
        &[(Check::StoreAgreement, "etcd", FindingResult::Inconclusive)],
    );
}

#[test]
fn a_panic_over_a_broken_store_names_its_member() {
    let panic = |run: &mut Run| {
        let seen = span(0.2, SpanKind::Store, STORE_PANIC, "kube-apiserver", 80.0, 80.0);
        let detail = Some("failed to unmarshal mvccpb.KeyValue".into());
        run.status("cp3").spans.push(Span { detail, ..seen });
    };
    expect(panic, Verdict::Fail, &[(Check::StoreAgreement, "cp3", FindingResult::Violated)]);
    // In logs it is found without a certificate. Of the others nobody knows then what they hold.
    let alone = |run: &mut Run| {
        without_certificates(run);
        panic(run);
    };
    let amiss = [
        (Check::StoreAgreement, "cp3", FindingResult::Violated),
        (Check::StoreAgreement, "etcd", FindingResult::Inconclusive),
    ];
    expect(alone, Verdict::Fail, &amiss);
    let mut run = passing();
    alone(&mut run);
    let text = runbook(&run.snapshot, &run.judge().findings).unwrap();
    assert!(text.starts_with("The way back for etcd on cp3\n"), "{text}");
    assert!(text.contains("their stores were not compared in this run"), "{text}");
    assert!(!text.contains("members, and nothing speaks against them"), "{text}");
}

#[test]
fn what_differed_before_the_cut_is_told_as_such() {
    let before = |run: &mut Run, of_cp1: &str| {
        for node in MEMBERS {
            let state = if node == "cp1" { of_cp1 } else { "00000007 at 4000 from 3000" };
            run.rewrite(node, SpanKind::Store, STORE_HASH_BEFORE, &[(state, -15.0, -15.0)]);
        }
    };
    let mut run = passing();
    before(&mut run, "00000007 at 4000 from 3000");
    let same = &of(&run, Check::StoreAgreement)[0];
    assert_eq!(same.observed, "3 members hold the same at revision 4711, and before the cut at 4000");
    before(&mut run, "00000008 at 4000 from 3000");
    let differs = &of(&run, Check::StoreAgreement)[0];
    assert_eq!((differs.subject.as_str(), differs.result), ("cp1", FindingResult::Violated));
    assert!(differs.observed.ends_with(", before the cut already"), "{differs:?}");
}

#[test]
fn a_hash_that_may_have_been_taken_in_the_cut_is_none_of_before_it() {
    let hashed = |of_cp1: &str, at: f64| {
        let mut run = passing();
        for (node, state, at) in [("cp1", of_cp1, at), ("cp2", SAME, -15.0), ("cp3", SAME, -15.0)] {
            run.rewrite(node, SpanKind::Store, STORE_HASH_BEFORE, &[(state, at, at)]);
        }
        of(&run, Check::StoreAgreement).remove(0)
    };
    assert!(hashed(SAME, -15.0).observed.ends_with(", and before the cut at 4711"));
    assert!(hashed(OTHER, -15.0).observed.ends_with(", before the cut already"));
    // Its clock may be half a second off.
    for at in [-0.3, 3.0] {
        let same = hashed(SAME, at);
        assert_eq!(same.result, FindingResult::Held, "{same:?}");
        assert_eq!(same.observed, "3 members hold the same at revision 4711");
        // Whenever it was: what differs at one revision differs.
        let differs = hashed(OTHER, at);
        assert_eq!((differs.subject.as_str(), differs.result), ("cp1", FindingResult::Violated));
        assert!(!differs.observed.contains("before the cut"), "{differs:?}");
    }
}

#[test]
fn sizes_that_differ_by_far_are_noted() {
    let mut run = passing();
    let alarms = run.status("cp3").spans.iter_mut().find(|s| s.subject == STORE_ALARMS).unwrap();
    alarms.detail = Some("version=3.6.5 used=67108864".into());
    let expected = [("etcd".to_owned(), FindingResult::Held), ("cp3".to_owned(), FindingResult::Noted)];
    assert_eq!((results(&run, Check::StoreAgreement), run.judge().verdict), (expected.to_vec(), Verdict::Pass));
    let found = of(&run, Check::StoreAgreement).pop().unwrap();
    assert_eq!(found.observed, "64.0 MiB in use, the others have cp1 22.0 MiB, cp2 22.0 MiB");
    assert_eq!(runbook(&run.snapshot, &run.judge().findings), None, "a size by itself is no reason to rebuild anybody");
    // Also where the stores themselves could not be compared.
    hash(&mut run, "cp1", "ffffffff at 4711 from 4600");
    let expected = [("etcd".to_owned(), FindingResult::Inconclusive), ("cp3".to_owned(), FindingResult::Noted)];
    assert_eq!(results(&run, Check::StoreAgreement), expected);
    // Of one that holds something else it is told with that.
    hash(&mut run, "cp1", SAME);
    hash(&mut run, "cp3", OTHER);
    assert_eq!(results(&run, Check::StoreAgreement), [("cp3".to_owned(), FindingResult::Violated)]);
    // Which one of three is unusual nobody can say.
    hash(&mut run, "cp3", SAME);
    let alarms = run.status("cp2").spans.iter_mut().find(|s| s.subject == STORE_ALARMS).unwrap();
    alarms.detail = Some("version=3.6.5 used=671088640".into());
    assert_eq!(results(&run, Check::StoreAgreement), [("etcd".to_owned(), FindingResult::Noted)]);
    let observed = of(&run, Check::StoreAgreement).pop().unwrap().observed;
    assert!(observed.ends_with("; in use are cp1 22.0 MiB, cp2 640.0 MiB, cp3 64.0 MiB"), "{observed}");
}

/// As where the cluster's owner gave agents none.
fn without_certificates(run: &mut Run) {
    for node in MEMBERS {
        let spans = &mut run.status(node).spans;
        spans.retain(|s| s.kind != SpanKind::Store);
        spans.push(span(0.2, SpanKind::Store, STORE, STORE_OFF, START, START));
    }
}

#[test]
fn where_nobody_was_to_look_there_is_no_finding() {
    let mut run = passing();
    without_certificates(&mut run);
    assert_eq!(run.judge().verdict, Verdict::Pass);
    assert!(of(&run, Check::EtcdLeaders).is_empty() && of(&run, Check::StoreAgreement).is_empty());
    // Whoever was to look and says nothing is missing evidence.
    for node in MEMBERS {
        run.status(node).spans.retain(|s| s.kind != SpanKind::Store);
    }
    let open = |check| results(&run, check).iter().any(|(_, result)| *result == FindingResult::Inconclusive);
    assert!(open(Check::EtcdLeaders) && open(Check::StoreAgreement));
}
