//! Cuts that last too long, and nodes of which nobody knows whether they healed.

use super::{
    fixture::{CUT, END, Run, START, moment, passing},
    mutations::expect,
};
use crate::api::{Check, Finding, FindingResult, Moment, RecordPhase, SpanKind, Verdict};
use k8s_openapi::jiff::SignedDuration;

#[test]
fn a_cut_that_lasts_too_long() {
    let too_long = [("open", START, -0.5), ("silent", 0.7, CUT + 20.0), ("open", CUT + 21.0, END)];
    let for_ever = [("open", START, -0.5), ("silent", 0.7, END)];
    let again = [("open", START, -0.5), ("silent", 0.7, 74.0), ("open", 76.0, 90.0), ("silent", 91.0, END)];
    let violated = FindingResult::Violated;
    // What never came back is no recovery either.
    let amiss = [(Check::Recovery, "milestones", violated), (Check::HealProven, "all nodes", violated)];
    for (history, amiss) in [(&too_long[..], &amiss[1..]), (&for_ever[..], &amiss[..]), (&again[..], &amiss[1..])] {
        expect(|run| run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", history), Verdict::Fail, amiss);
    }
    let mut run = passing();
    run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &too_long);
    assert_eq!(heal_of(&run).observed, "w1→w2/Kubelet still silent 20 s after the heal");
}

fn heal_of(run: &Run) -> Finding {
    run.judge().findings.into_iter().find(|f| f.check == Check::HealProven).unwrap()
}

#[test]
fn what_shows_that_all_healed_is_who_was_answered_last() {
    let mut run = passing();
    let late = [("open", START, -0.5), ("silent", 0.7, CUT + 2.0), ("open", CUT + 3.0, END)];
    run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &late);
    let found = heal_of(&run);
    assert_eq!(found.result, FindingResult::Held, "{found:?}");
    let words = "w1: phase Healed and no table in its kernel, by its record; w1: probe w2/Kubelet open ";
    assert!(found.evidence.starts_with(words), "{found:?}");
    let tolerance = found.tolerance.as_deref();
    assert_eq!(tolerance, Some("6.5 s for a connection, ± 0.5 s of clocks; 5 % of later looks, one at least"));
}

#[test]
fn a_port_that_refuses_or_is_restarted_after_the_heal() {
    let refuses = [("open", START, -0.5), ("silent", 0.7, 74.0), ("refused", 76.0, END)];
    let restarted = [
        ("open", START, -0.5),
        ("silent", 0.7, 76.0),
        ("open", 77.0, 90.0),
        ("silent", 91.0, 105.0),
        ("refused", 106.0, 110.0),
        ("open", 111.0, END),
    ];
    for history in [&refuses[..], &restarted] {
        expect(|run| run.rewrite("w2", SpanKind::Probe, "cp1/ApiServer", history), Verdict::Pass, &[]);
    }
}

#[test]
fn a_node_that_does_not_say_that_it_healed() {
    let amiss = [(Check::HealProven, "all nodes", FindingResult::Inconclusive)];
    for phase in [None, Some(RecordPhase::Loaded), Some(RecordPhase::Aborted), Some(RecordPhase::Unfit)] {
        expect(|run| run.status("w3").phase = phase, Verdict::Inconclusive, &amiss);
    }
    expect(|run| run.status("w3").kernel = None, Verdict::Inconclusive, &amiss);
    // It says so and that something was amiss.
    expect(|run| run.status("w3").message = Some("the node was rebooted".into()), Verdict::Inconclusive, &amiss);
}

#[test]
fn what_nobody_asked_after_the_heal_is_not_known_to_be_healed() {
    let history = |answered: &[(&str, f64, f64)]| {
        let mut run = passing();
        let cut = [("open", START, -0.5), ("silent", 0.7, CUT - 0.5)];
        run.rewrite("w1", SpanKind::Probe, "w2/Kubelet", &[&cut[..], answered].concat());
        let found = heal_of(&run);
        (found.result, found.observed)
    };
    let open = "w1: no answer of w2/Kubelet was seen after the heal".to_owned();
    // An answer right at the heal may have come before it by another clock, and a silence right after it is none.
    for after in [&[][..], &[("open", CUT, CUT + 0.2)], &[("silent", CUT + 0.5, CUT + 3.0)]] {
        assert_eq!(history(after), (FindingResult::Inconclusive, open.clone()), "{after:?}");
    }
    assert_eq!(history(&[("open", CUT + 0.5, CUT + 2.0)]).0, FindingResult::Held);
    let mut run = passing();
    run.status("w3").clock.as_mut().unwrap().anchors.clear();
    let found = heal_of(&run);
    assert_eq!(found.result, FindingResult::Inconclusive);
    assert_eq!(found.observed, "w3: its clock was not compared with the operator's");
}

/// The wall clock of w3 is so many seconds ahead `when` this holds, in seconds after the cut. By the boot clock nothing changes.
fn stepped(run: &mut Run, seconds: f64, when: impl Fn(f64) -> bool) {
    let is_off = |at: &Moment| when((at.boot_us - moment(0.0, 0.0).boot_us) as f64 / 1e6);
    let by = SignedDuration::from_micros((seconds * 1e6) as i64);
    let status = run.status("w3");
    let spans = status.spans.iter_mut().flat_map(|s| [&mut s.from, &mut s.to]);
    spans.filter(|at| is_off(at)).for_each(|at| at.wall.0 += by);
    for anchor in status.clock.iter_mut().flat_map(|c| &mut c.anchors).filter(|a| is_off(&a.at)) {
        anchor.at.wall.0 += by;
        anchor.offset_us -= by.as_micros() as i64;
    }
    if let Some(until) = status.observed_until.as_mut().filter(|_| when(END)) {
        until.0 += by;
    }
}

#[test]
fn a_wall_clock_that_was_stepped_in_the_cut() {
    let amiss = [(Check::HealProven, "all nodes", FindingResult::Inconclusive)];
    // Every clock of the fixture is 0.2 s behind, and 0.5 s are allowed.
    for (seconds, how) in [(3600.0, "3599.8 s ahead of"), (-3600.0, "3600.2 s behind"), (1.0, "0.8 s ahead of")] {
        expect(|run| stepped(run, seconds, |at| at > 30.0), Verdict::Inconclusive, &amiss);
        let mut run = passing();
        stepped(&mut run, seconds, |at| at > 30.0);
        let said = format!("w3: its wall clock was stepped, 74.5 s after the cut it was {how} the operator's");
        assert_eq!(heal_of(&run).observed, format!("{said}: its cut may have ended early"));
    }
    // No further from the operator's than any clock may be.
    expect(|run| stepped(run, 0.6, |at| at > 30.0), Verdict::Pass, &[]);
}

#[test]
fn a_wall_clock_that_was_stepped_while_nobody_looked() {
    let mut run = passing();
    stepped(&mut run, 3600.0, |at| at > 30.0);
    let in_the_cut = |at: &Moment| (1..=(CUT * 1e6) as i64).contains(&(at.boot_us - moment(0.0, 0.0).boot_us));
    run.status("w3").spans.retain(|s| !in_the_cut(&s.from) && !in_the_cut(&s.to));
    let heal = heal_of(&run);
    assert_eq!(heal.result, FindingResult::Inconclusive);
    assert!(heal.observed.contains("it was 3599.8 s ahead of the operator's"), "{heal:?}");
}

#[test]
fn a_wall_clock_that_was_in_step_in_the_cut() {
    // Put right before the cut, or stepped when it was over.
    expect(|run| stepped(run, -3600.0, |at| at < -10.0), Verdict::Pass, &[]);
    expect(|run| stepped(run, 3600.0, |at| at > CUT + 1.0), Verdict::Pass, &[]);
}

#[test]
fn a_record_of_the_operator_that_ends_early_is_not_complete() {
    let ends = |at: Option<f64>| {
        let mut run = passing();
        run.operator_status().observed_until = at.map(|at| moment(0.0, at).wall);
        let found = heal_of(&run);
        (found.result, found.observed)
    };
    let early = "operator: its record ends 100 s before the end of watching";
    assert_eq!(ends(Some(END - 100.0)), (FindingResult::Inconclusive, early.to_owned()));
    let unsaid = "operator: its record does not say until when it watched";
    assert_eq!(ends(None), (FindingResult::Inconclusive, unsaid.to_owned()));
    // Another replica went on, or wrote its last just before the end.
    assert_eq!(ends(Some(END - 10.0)).0, FindingResult::Held);
}
