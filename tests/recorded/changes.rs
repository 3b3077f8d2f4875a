//! What differs between two judgements, and whether it is what should and nothing else.

use rackpartition::{
    api::{Check, FindingResult},
    judge::Judgement,
};
use std::collections::{BTreeMap, BTreeSet};

/// Results by check and subject. Of some subjects there are several: one of what is cut there and one of what is not.
pub type Results = BTreeMap<(Check, String), Vec<FindingResult>>;

pub fn results<'f>(findings: impl Iterator<Item = (Check, &'f str, FindingResult)>) -> Results {
    let mut results = Results::new();
    for (check, subject, result) in findings {
        results.entry((check, subject.to_owned())).or_default().push(result);
    }
    results.values_mut().for_each(|all| all.sort());
    results
}

pub fn of_judgement(judgement: &Judgement) -> Results {
    results(judgement.findings.iter().map(|f| (f.check, f.subject.as_str(), f.result)))
}

/// How a finding may have come out; `None`: there is none.
pub type Outcomes = &'static [Option<FindingResult>];

pub const NONE: Outcomes = &[None];
pub const WELL: Outcomes = &[Some(FindingResult::Held), Some(FindingResult::Noted)];
pub const WELL_OR_NONE: Outcomes = &[None, Some(FindingResult::Held), Some(FindingResult::Noted)];
pub const OPEN: Outcomes = &[Some(FindingResult::Inconclusive)];
pub const VIOLATED: Outcomes = &[Some(FindingResult::Violated)];

#[derive(Debug)]
pub enum Whom {
    /// Whatever the check is about.
    Every,
    One(String),
    /// Whose subject ends so: workloads of one kind.
    Kind(&'static str),
}

/// What becomes of all findings of one check about somebody.
#[derive(Debug)]
pub struct Change {
    pub check: Check,
    pub whom: Whom,
    pub before: Outcomes,
    pub after: Outcomes,
}

impl Change {
    pub fn every(check: Check, before: Outcomes, after: Outcomes) -> Self {
        Change { check, whom: Whom::Every, before, after }
    }
    pub fn one(check: Check, subject: impl Into<String>, before: Outcomes, after: Outcomes) -> Self {
        Change { check, whom: Whom::One(subject.into()), before, after }
    }
    /// What was well is not known any more.
    pub fn opens(check: Check, subject: impl Into<String>) -> Self {
        Change::one(check, subject, WELL, OPEN)
    }

    fn is_about(&self, (check, subject): &(Check, String)) -> bool {
        let is_whom = match &self.whom {
            Whom::Every => true,
            Whom::One(name) => subject == name,
            Whom::Kind(kind) => subject.ends_with(*kind),
        };
        self.check == *check && is_whom
    }
}

/// In words what these changes don't say, and those of them that did not come; nothing where they say all.
pub fn amiss(before: &Results, after: &Results, changes: &[Change]) -> Vec<String> {
    let subjects: BTreeSet<&(Check, String)> = before.keys().chain(after.keys()).collect();
    let differs = |about: &&&(Check, String)| {
        let (was, is) = (of(before, about), of(after, about));
        !match changes.iter().find(|change| change.is_about(about)) {
            Some(change) => fits(was, change.before) && fits(is, change.after),
            None => was == is,
        }
    };
    let told = |about: &&(Check, String)| {
        let (check, subject) = about;
        format!("{check:?} {subject}: {:?} became {:?}", of(before, about), of(after, about))
    };
    let missing = changes.iter().filter(|change| !subjects.iter().any(|about| change.is_about(about)));
    let missing = missing.map(|change| format!("there is no finding of {change:?}"));
    subjects.iter().filter(differs).map(told).chain(missing).collect()
}

fn of<'r>(results: &'r Results, about: &(Check, String)) -> &'r [FindingResult] {
    results.get(about).map_or(&[], Vec::as_slice)
}

fn fits(results: &[FindingResult], outcomes: Outcomes) -> bool {
    match results {
        [] => outcomes.contains(&None),
        all => all.iter().all(|result| outcomes.contains(&Some(*result))),
    }
}

#[test]
fn whatever_differs_otherwise_is_told() {
    use FindingResult::{Held, Inconclusive, Violated};
    let of = |cluster: FindingResult, step: FindingResult| {
        results([(Check::Recovery, "cluster", cluster), (Check::Recovery, "milestones", step)].into_iter())
    };
    let (before, changes) = (of(Held, Held), [Change::opens(Check::Recovery, "cluster")]);
    assert!(amiss(&before, &of(Inconclusive, Held), &changes).is_empty());
    for after in [of(Held, Held), of(Violated, Held), of(Inconclusive, Violated)] {
        assert_eq!(amiss(&before, &after, &changes).len(), 1, "{after:?}");
    }
    let nobody = [Change::one(Check::HealDamage, "cluster", NONE, VIOLATED)];
    assert!(amiss(&before, &before, &nobody)[0].starts_with("there is no finding of"));
}
