//! Registers of the synthetic run, and registers that tell of a cluster that forgets, makes up or serves what is old.

use super::{
    fixture::{CUT, END, Run, START, moment, passing, span},
    mutations::expect,
};
use crate::api::{
    Check, FindingResult, Span, SpanKind, Verdict,
    register::{BACKWARDS, CACHED, CONSISTENT, GONE, READ, STALEST, subject},
};

const HELD: FindingResult = FindingResult::Held;
const NOTED: FindingResult = FindingResult::Noted;
const VIOLATED: FindingResult = FindingResult::Violated;
const UNKNOWN: FindingResult = FindingResult::Inconclusive;

/// Seconds by which the clock of each node is behind the operator's, as in the fixture.
const BEHIND: f64 = 0.2;

/// State, detail, and from when to when.
type Stretch<'a> = (&'a str, &'a str, f64, f64);

/// The register of the isolated node: 31 to 66 were tried in the cut, and 67 by a version that 66 might have changed.
const ISOLATED: [Stretch<'static>; 4] = [
    ("acknowledged", "1-30", START + 0.02, -0.98),
    ("unknown", "31-66", 2.0, CUT - 1.0),
    ("failed", "67 409 Conflict", CUT + 1.0, CUT + 1.0),
    ("acknowledged", "68-156", CUT + 2.0, END),
];
/// That of the others: 31 was under way when etcd lost its leader.
const REST: [Stretch<'static>; 3] =
    [("acknowledged", "1-30", START + 0.02, -0.98), ("unknown", "31", 2.0, 2.0), ("acknowledged", "32-254", 2.4, END)];
/// All of them read that of cp2.
const READ_ALL_ALONG: [Stretch<'static>; 1] = [(READ, "n=254", START + 0.5, END)];

fn series(behind: f64, kind: SpanKind, subject: &str, history: &[Stretch<'_>]) -> Vec<Span> {
    let of = |(state, detail, from, to): &Stretch<'_>| Span {
        // Of a register the first number, and of readings nothing.
        id: (kind == SpanKind::Register).then(|| detail.chars().take_while(char::is_ascii_digit).collect()),
        detail: Some((*detail).into()),
        ..span(behind, kind, subject, state, *from, *to)
    };
    history.iter().map(of).collect()
}

/// What the agent of a node wrote down.
pub fn spans(node: &str) -> Vec<Span> {
    let of = |written: &[Stretch<'_>], consistent: &[Stretch<'_>], cached: &[Stretch<'_>]| {
        let mut all = series(BEHIND, SpanKind::Register, node, written);
        all.extend(series(BEHIND, SpanKind::Reading, &subject("cp2", CONSISTENT), consistent));
        all.extend(series(BEHIND, SpanKind::Reading, &subject("cp2", CACHED), cached));
        all.push(stalest(CONSISTENT, 0.5, 2.4));
        all
    };
    let cut_off = |last: f64| {
        let silent = ("failed", "no answer in time", last + 1.0, CUT - 0.5);
        [(READ, "n=30", START + 0.5, last), silent, (READ, "n=254", CUT + 0.5, END)]
    };
    match node {
        // Its watch cache went on answering until its etcd's leader was known to be lost.
        "cp1" => of(&ISOLATED, &cut_off(-0.5), &cut_off(2.5)),
        "cp2" | "cp3" => of(&REST, &READ_ALL_ALONG, &READ_ALL_ALONG),
        _ => Vec::new(),
    }
}

/// The stalest answer: 30 was read at `asked`, and 32 acknowledged at `next`, both in seconds after the cut.
fn stalest(way: &str, asked: f64, next: f64) -> Span {
    let acknowledged = moment(BEHIND, next).wall.0;
    let detail = format!("n=30 next=32 acknowledged={acknowledged:.6}");
    let found = span(BEHIND, SpanKind::Reading, &subject("cp2", way), READ, asked, asked);
    Span { id: Some(STALEST.into()), detail: Some(detail), ..found }
}

/// What the operator read.
pub fn read_back() -> Vec<Span> {
    let there = [("cp1", "1-30,68-156"), ("cp2", "1-254"), ("cp3", "1-30,32-254")];
    let of = |(node, numbers)| series(0.0, SpanKind::Reading, node, &[(READ, numbers, START, END)]);
    there.into_iter().flat_map(of).collect()
}

/// Replaces what a node wrote down of a register, or the operator (`None`) read.
fn rewrite(run: &mut Run, node: Option<&str>, kind: SpanKind, subject: &str, history: &[Stretch<'_>]) {
    let (spans, behind) = match node {
        Some(node) => (&mut run.status(node).spans, BEHIND),
        None => (&mut run.operator_status().spans, 0.0),
    };
    spans.retain(|s| s.kind != kind || s.subject != subject);
    spans.extend(series(behind, kind, subject, history));
}

/// The run with something else in a register at the end.
#[track_caller]
fn with_register(node: &str, state: &str, numbers: &str, verdict: Verdict, amiss: &[(Check, &str, FindingResult)]) {
    expect(|run| rewrite(run, None, SpanKind::Reading, node, &[(state, numbers, START, END)]), verdict, amiss);
}

fn found(run: &Run, check: Check, subject: &str) -> (FindingResult, String) {
    let findings = run.judge().findings;
    let found = findings.into_iter().find(|f| f.check == check && f.subject == subject).expect("a finding");
    (found.result, found.observed)
}

#[test]
fn what_is_told_of_a_run_that_passes() {
    let run = passing();
    let of = |check, subject| found(&run, check, subject).1;
    assert_eq!(of(Check::LostWrites, "isolated"), "cp1: 119 acknowledged, 1 refused, 36 unknown and 0 of them there");
    assert_eq!(
        of(Check::LostWrites, "rest"),
        "cp2: 253 acknowledged, 0 refused, 1 unknown and 1 of them there, \
        cp3: 253 acknowledged, 0 refused, 1 unknown and 0 of them there"
    );
    assert_eq!(of(Check::StaleRead, "isolated"), "cp1: no stale read, its watch cache up to 0.1 s behind");
}

#[test]
fn an_acknowledged_write_that_is_gone() {
    let lost = [(Check::LostWrites, "rest", VIOLATED)];
    for there in ["1-57,59-254", "2-254", "1-30,33-254", "1-100"] {
        with_register("cp2", READ, there, Verdict::Fail, &lost);
    }
    with_register("cp3", GONE, "", Verdict::Fail, &lost);
    with_register("cp1", READ, "1-29,68-156", Verdict::Fail, &[(Check::LostWrites, "isolated", VIOLATED)]);
    let mut run = passing();
    rewrite(&mut run, None, SpanKind::Reading, "cp2", &[(READ, "1-57,60-254", START, END)]);
    assert_eq!(found(&run, Check::LostWrites, "rest").1, "cp2: acknowledged and lost: 58-59");
}

#[test]
fn what_was_acknowledged_while_it_was_read_may_be_in_it_or_not() {
    // Read within the two seconds before the end, when 252 to 254 were acknowledged.
    with_register("cp2", READ, "1-251", Verdict::Pass, &[]);
    with_register("cp2", READ, "1-245", Verdict::Fail, &[(Check::LostWrites, "rest", VIOLATED)]);
}

#[test]
fn a_refused_write_that_came_true() {
    with_register("cp1", READ, "1-30,67-156", Verdict::Fail, &[(Check::LostWrites, "isolated", VIOLATED)]);
    let mut run = passing();
    rewrite(&mut run, None, SpanKind::Reading, "cp1", &[(READ, "1-29,67-156", START, END)]);
    let told = "cp1: acknowledged and lost: 30; refused and there all the same: 67";
    assert_eq!(found(&run, Check::LostWrites, "isolated").1, told);
}

#[test]
fn a_write_of_which_nobody_knows_may_come_true() {
    with_register("cp1", READ, "1-30,40,68-156", Verdict::Pass, &[]);
    with_register("cp2", READ, "1-30,32-254", Verdict::Pass, &[]);
}

#[test]
fn a_register_that_was_not_read_back_or_not_written() {
    let open = |side| [(Check::LostWrites, side, UNKNOWN)];
    for until in [CUT, CUT + 2.0] {
        let early = |run: &mut Run| {
            rewrite(run, None, SpanKind::Reading, "cp3", &[(READ, "1-30", START, until)]);
        };
        expect(early, Verdict::Inconclusive, &open("rest"));
    }
    // In the cut nothing was tried for 20 s.
    let paused = [REST[0], REST[1], ("acknowledged", "32-40", 2.4, 11.0), ("acknowledged", "41-164", 31.0, END)];
    let pause = |run: &mut Run| rewrite(run, Some("cp3"), SpanKind::Register, "cp3", &paused);
    expect(pause, Verdict::Inconclusive, &open("rest"));
    let history = [("acknowledged", "?", 0.0, END)];
    let garbled = |run: &mut Run| rewrite(run, Some("cp1"), SpanKind::Register, "cp1", &history);
    expect(garbled, Verdict::Inconclusive, &open("isolated"));
}

/// The run with another answer of the isolated API server to consistent reads.
#[track_caller]
fn with_stalest(asked: f64, next: f64, verdict: Verdict, amiss: &[(Check, &str, FindingResult)]) {
    let change = |run: &mut Run| {
        let spans = &mut run.status("cp1").spans;
        spans.retain(|s| s.id.as_deref() != Some(STALEST));
        spans.push(stalest(CONSISTENT, asked, next));
    };
    expect(change, verdict, amiss);
}

#[test]
fn a_stale_consistent_read() {
    let stale = [(Check::StaleRead, "isolated", VIOLATED)];
    with_stalest(10.0, 2.4, Verdict::Fail, &stale);
    with_stalest(2.5, 2.4, Verdict::Fail, &stale);
    // By no more than the clocks' error.
    with_stalest(2.402, 2.4, Verdict::Pass, &[]);
    let mut run = passing();
    run.status("cp1").spans.push(stalest(CONSISTENT, 10.0, 2.4));
    let (result, observed) = found(&run, Check::StaleRead, "isolated");
    let told = "cp1: a consistent read 10 s after the cut lacked what had been acknowledged 7.6 s before";
    assert_eq!((result, observed.as_str()), (VIOLATED, told));
}

#[test]
fn a_stale_consistent_read_of_which_no_later_answer_tells() {
    let until = |number: &'static str, last: f64| {
        move |run: &mut Run| {
            let history = [(READ, number, START, last), ("failed", "timeout", last + 1.0, END)];
            rewrite(run, Some("cp3"), SpanKind::Reading, &subject("cp2", CONSISTENT), &history);
        }
    };
    let stale = [(Check::StaleRead, "rest", VIOLATED)];
    // 32 is the first that was acknowledged in the cut, and there the record is exact.
    expect(until("n=30", 2.5), Verdict::Fail, &stale);
    expect(until("n=30", 2.4), Verdict::Pass, &[]);
    // In the middle of a stretch it says when 61 was acknowledged at the latest: 193 more followed, one a second.
    expect(until("n=60", 34.0), Verdict::Fail, &stale);
    expect(until("n=60", 32.0), Verdict::Pass, &[]);
}

#[test]
fn consistent_reads_that_go_back() {
    let back = |way: &'static str| {
        move |run: &mut Run| {
            let seen = span(BEHIND, SpanKind::Reading, &subject("cp2", way), BACKWARDS, 40.0, 40.0);
            run.status("cp3").spans.push(Span { detail: Some("n=50 after=60".into()), ..seen });
        }
    };
    expect(back(CONSISTENT), Verdict::Fail, &[(Check::StaleRead, "rest", VIOLATED)]);
    // A cache promises nothing of that kind.
    expect(back(CACHED), Verdict::Pass, &[]);
}

#[test]
fn a_watch_cache_that_is_old_is_told() {
    let mut run = passing();
    // It asks for its watch for 30 s after its etcd has ended it; predicted are 36 s.
    for (asked, result, told) in [(5.0, HELD, "2.6 s"), (33.4, HELD, "31 s"), (60.0, NOTED, "57.6 s")] {
        run.status("cp1").spans.push(stalest(CACHED, asked, 2.4));
        let observed = format!("cp1: no stale read, its watch cache up to {told} behind");
        assert_eq!(found(&run, Check::StaleRead, "isolated"), (result, observed));
        assert_eq!(run.judge().verdict, Verdict::Pass);
    }
}

#[test]
fn reads_that_nobody_answered_or_tried() {
    let open = [(Check::StaleRead, "rest", UNKNOWN)];
    for way in [CONSISTENT, CACHED] {
        for history in [
            &[("failed", "403 Forbidden", START, END)][..],
            &[(READ, "n=30", START, 1.0), (READ, "n=254", 20.0, END)],
            &[],
        ] {
            let change = |run: &mut Run| rewrite(run, Some("cp3"), SpanKind::Reading, &subject("cp2", way), history);
            expect(change, Verdict::Inconclusive, &open);
        }
    }
}

#[test]
fn what_was_read_and_written_before_the_cut_says_nothing_of_the_cut() {
    let before = [(READ, "n=30", START + 0.5, -5.0), ("failed", "timeout", -4.0, END)];
    let unread = |run: &mut Run| {
        for way in [CONSISTENT, CACHED] {
            rewrite(run, Some("cp3"), SpanKind::Reading, &subject("cp2", way), &before);
        }
    };
    expect(unread, Verdict::Inconclusive, &[(Check::StaleRead, "rest", UNKNOWN)]);
    let unwritten = |run: &mut Run| {
        let written = [REST[0], ("unknown", "31-103", 2.0, CUT - 1.0), ("acknowledged", "104-253", CUT + 2.0, END)];
        rewrite(run, Some("cp3"), SpanKind::Register, "cp3", &written);
        rewrite(run, None, SpanKind::Reading, "cp3", &[(READ, "1-30,104-253", START, END)]);
    };
    expect(unwritten, Verdict::Inconclusive, &[(Check::LostWrites, "rest", UNKNOWN)]);
    // Whoever is cut off need not answer, and then it is told that nothing was.
    let mut run = passing();
    let refused =
        [(READ, "n=30", START + 0.5, -1.0), ("failed", "timeout", 0.0, CUT - 0.5), (READ, "n=254", CUT + 0.5, END)];
    for way in [CONSISTENT, CACHED] {
        rewrite(&mut run, Some("cp1"), SpanKind::Reading, &subject("cp2", way), &refused);
    }
    let told = "cp1: no read was answered in the cut that could be stale";
    assert_eq!(found(&run, Check::StaleRead, "isolated"), (NOTED, told.into()));
}

#[test]
fn where_nothing_is_written_nothing_can_be_stale() {
    let mut run = passing();
    let written = [REST[0], ("unknown", "31-66", 2.0, CUT - 1.0), ("acknowledged", "67-155", CUT + 2.0, END)];
    rewrite(&mut run, Some("cp2"), SpanKind::Register, "cp2", &written);
    for status in run.agents.iter_mut().filter_map(|r| r.status.as_mut()) {
        status.spans.retain(|s| s.kind != SpanKind::Reading || s.id.is_none());
        for span in status.spans.iter_mut().filter(|s| s.kind == SpanKind::Reading && s.state == READ) {
            let newest = if span.to.boot_us < moment(0.0, CUT).boot_us { "n=30" } else { "n=155" };
            span.detail = Some(newest.into());
        }
    }
    for side in ["isolated", "rest"] {
        let (result, observed) = found(&run, Check::StaleRead, side);
        assert_eq!(result, NOTED, "{observed}");
        assert!(observed.contains("nothing was acknowledged in the cut"), "{observed}");
    }
}

#[test]
fn records_of_agents_that_kept_no_register() {
    let older = |run: &mut Run| {
        let all = run.agents.iter_mut().chain(run.operator.as_mut()).filter_map(|r| r.status.as_mut());
        all.for_each(|s| s.spans.retain(|s| ![SpanKind::Register, SpanKind::Reading].contains(&s.kind)));
    };
    let open = [
        (Check::StaleRead, "isolated", UNKNOWN),
        (Check::StaleRead, "rest", UNKNOWN),
        (Check::LostWrites, "isolated", UNKNOWN),
        (Check::LostWrites, "rest", UNKNOWN),
    ];
    expect(older, Verdict::Inconclusive, &open);
    let mut run = passing();
    older(&mut run);
    let evidence = |check| {
        let findings = run.judge().findings;
        findings.into_iter().find(|f| f.check == check).map(|f| f.evidence).unwrap()
    };
    assert_eq!(evidence(Check::StaleRead), "cp1: no register was read through its API server");
    assert_eq!(evidence(Check::LostWrites), "cp1: no numbered write is in its record");
}

#[test]
fn without_an_api_server_on_a_node_there_is_nothing_to_say() {
    let mut run = passing();
    run.plan.api_servers.clear();
    let findings = run.judge().findings;
    assert!(!findings.iter().any(|f| [Check::StaleRead, Check::LostWrites].contains(&f.check)), "{findings:#?}");
}
