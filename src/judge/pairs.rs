//! What was seen of many pairs of members, as one finding for each kind of pair.

use super::{
    Case, Said,
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{count, seconds},
};

/// What was seen of one pair.
pub enum Outcome {
    /// `known`: from when to when it was seen so, seconds after the cut, where that is one interval.
    AsPlanned {
        example: String,
        stray: u32,
        known: Option<(f64, f64)>,
    },
    Contradicted {
        what: String,
    },
    Unseen {
        why: String,
    },
}

/// Pairs of one kind.
#[derive(Default)]
pub struct Group {
    as_planned: usize,
    stray: u32,
    /// From when to when it was seen of all of them, seconds after the cut.
    known: Option<(f64, f64)>,
    /// What was seen; of a stray rather than of the rest.
    example: Option<String>,
    contradicted: Vec<String>,
    unseen: Vec<String>,
}

impl Group {
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::AsPlanned { example, stray, known } => {
                self.as_planned += 1;
                let both = |a: (f64, f64), b: (f64, f64)| (a.0.max(b.0), a.1.min(b.1));
                self.known = self.known.zip(known).map_or(self.known.or(known), |(a, b)| Some(both(a, b)));
                if self.example.is_none() || (stray > 0 && self.stray == 0) {
                    self.example = Some(example);
                }
                self.stray += stray;
            }
            Outcome::Contradicted { what } => self.contradicted.push(what),
            Outcome::Unseen { why } => self.unseen.push(why),
        }
    }

    /// `what`: one of the pairs. It should be `state` during the cut, and `at_other_times` follows in the sentence.
    /// `tolerance`: what is let pass, in words.
    pub fn finding(
        self,
        subject: String,
        what: &str,
        (state, at_other_times): (&str, &str),
        tolerance: String,
    ) -> Finding {
        let total = self.as_planned + self.contradicted.len() + self.unseen.len();
        let mut observed = format!("{} of {total} {state}", self.as_planned);
        if let Some((from, to)) = self.known.filter(|(from, to)| from < to) {
            observed += &format!(" from {} to {}", seconds(from).trim_end_matches(" s"), seconds(to));
        }
        if self.stray > 0 {
            observed += &format!(", {}", count(self.stray as usize, "stray timeout"));
        }
        let said = match (self.contradicted.first(), self.unseen.first()) {
            (Some(first), _) => Said::new(FindingResult::Violated, observed, first.clone()),
            (None, Some(first)) => Said::new(FindingResult::Inconclusive, observed, first.clone()),
            (None, None) => {
                let result = if self.stray > 0 { FindingResult::Noted } else { FindingResult::Held };
                Said::new(result, observed, self.example.unwrap_or_default())
            }
        };
        let predicted = format!("{} {state}{at_other_times}", count(total, what));
        said.tolerating(tolerance).about(Check::FaultProven, subject, predicted)
    }
}

/// From the first to the last of these spans, seconds after the cut; `None` for a cut that comes and goes or loses only some.
pub fn known<'s, 'a: 's>(case: &Case<'_>, spans: impl Iterator<Item = &'s Seen<'a>>) -> Option<(f64, f64)> {
    if !case.evidence.plan.pattern.is_steady() {
        return None;
    }
    spans.map(|s| (s.from, s.to)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// The record of a node, if its times can be told.
///
/// # Errors
/// With what is missing.
pub fn seen_by<'c, 'a>(case: &'c Case<'a>, node: &str) -> Result<&'c Track<'a>, String> {
    match case.timeline.agent(node) {
        None => Err(format!("no record of {node}")),
        Some(track) if !track.clock_known() => Err(format!("the clock of {node} was not compared with the operator's")),
        Some(track) => Ok(track),
    }
}
