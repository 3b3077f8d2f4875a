//! Runs on the lab, judged again from the journals that they left: as they are, and changed in one way at a time. `scripts/record` keeps a
//! run: each folder here is one.

mod changes;
mod mutations;
mod recording;

use changes::{amiss, of_judgement};
use rackpartition::{
    api::{Check, Prediction, Verdict, Window},
    judge::{Measured, Unmeasured, measured, predicted, unmeasured},
};
use recording::{Recording, Told};

/// Of a run as the scenario `upstreams_timers_are_predicted` makes it, where one is recorded: the scenario itself asks for it on the lab.
const UPSTREAM: &str = "upstream";

#[test]
fn every_recording_is_judged_as_it_is_written_beside_it() {
    let all = Recording::all();
    assert!(!all.is_empty(), "nothing is recorded: scripts/record keeps a run");
    for recording in all {
        let folder = recording.folder.display();
        let (written, said) = (Told::written(&recording.folder), Told::by_the_program(&recording.folder));
        let amiss = amiss(&written.results(), &said.results(), &[]);
        assert!(amiss.is_empty(), "{folder}: if that is right, scripts/record writes it down: {amiss:#?}");
        assert_eq!(said.verdict, written.verdict, "{folder}");
        // The mutations start from what the program says.
        let judgement = recording.judge();
        assert_eq!(of_judgement(&judgement), said.results(), "{folder}");
        assert_eq!(Some(judgement.verdict), said.verdict, "{folder}");
    }
}

#[test]
fn on_upstreams_timers_every_interval_contains_what_was_seen() {
    let run = Recording::all().into_iter().find(|r| r.folder.ends_with(UPSTREAM)).expect("a recording");
    assert_eq!(run.judge().verdict, Verdict::Pass);
    contains_all_that_was_seen(&run);
}

#[test]
fn every_interval_of_the_example_contains_what_was_seen() {
    contains_all_that_was_seen(&Recording::example());
}

#[track_caller]
fn contains_all_that_was_seen(run: &Recording) {
    let evidence = run.evidence();
    let (all, without) = (measured(&evidence), unmeasured(&evidence));
    let outside: Vec<&Measured> = all.iter().filter(|m| !m.is_within()).collect();
    assert!(!all.is_empty() && outside.is_empty(), "{outside:#?}");
    let unseen: Vec<&Unmeasured> = without.iter().filter(|line| line.why.is_none()).collect();
    assert!(unseen.is_empty(), "nothing was measured: {unseen:#?}");
}

#[test]
fn what_is_compared_with_what_was_seen_is_what_the_plan_told() {
    for run in Recording::all() {
        let (folder, told, all) = (run.folder.display(), run.told(), predicted(&run.evidence()));
        let is_told = |line: &&Prediction| told.iter().any(|t| (t.check, &t.subject) == (line.check, &line.subject));
        let compared: Vec<&Prediction> = all.iter().filter(|line| is_told(line) || !is_newer(line)).collect();
        let key = |line: &Prediction| (line.check, line.subject.clone(), line.bounds);
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (compared.iter().copied().map(key).collect(), told.iter().map(key).collect());
        assert_eq!(ours, theirs, "{folder}");
        for (line, told) in compared.into_iter().zip(told) {
            assert!(is_same(line.window, told.window), "{folder}: {told:#?} is now {line:#?}");
        }
    }
}

/// What a plan said in the words of another line when these runs were recorded: when an API server's container ends.
fn is_newer(line: &Prediction) -> bool {
    line.check == Check::ApiServerReady && line.subject.ends_with(": container")
}

/// But for what is left of a sum of tenths. Words may have changed since.
fn is_same(a: Option<Window>, b: Option<Window>) -> bool {
    let is_close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    match (a, b) {
        (Some(a), Some(b)) => {
            is_close(a.earliest_seconds, b.earliest_seconds) && is_close(a.latest_seconds, b.latest_seconds)
        }
        (a, b) => a.is_none() && b.is_none(),
    }
}
