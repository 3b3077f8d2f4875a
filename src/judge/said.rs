//! What a check says of something, and how far that may be off and still be as predicted.

use super::cite;
use crate::{
    api::{Check, Finding, FindingResult},
    predict::seconds,
};
use std::fmt;

/// How far something may be off and still be as predicted, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slack {
    /// Of the thing itself and of how it is looked at.
    pub own: f64,
    /// Of the clocks that are compared.
    pub clocks: f64,
}

impl Slack {
    pub fn sum(self) -> f64 {
        self.own + self.clocks
    }
}

impl fmt::Display for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, clocks) = (seconds(self.own), seconds(self.clocks));
        match (self.own > 0.0, self.clocks.is_finite()) {
            (_, false) => write!(f, "± {own}, and the clocks were not compared"),
            (true, true) => write!(f, "± {own} and {clocks} of clocks"),
            (false, true) => write!(f, "± {clocks} of clocks"),
        }
    }
}

/// What a check says about one subject.
pub(crate) struct Said {
    pub result: FindingResult,
    pub observed: String,
    pub evidence: String,
    tolerance: Option<String>,
}

impl Said {
    pub fn new(result: FindingResult, observed: impl Into<String>, evidence: impl Into<String>) -> Self {
        Said { result, observed: observed.into(), evidence: evidence.into(), tolerance: None }
    }
    /// With what was let pass, in words made of the numbers that decided.
    pub fn tolerating(self, tolerance: impl Into<String>) -> Self {
        Said { tolerance: Some(tolerance.into()), ..self }
    }
    /// Evidence is missing: `why` says which.
    pub fn open(why: impl Into<String>) -> Self {
        Said::new(FindingResult::Inconclusive, "not known", why)
    }
    /// Of several the worst result, and what was seen of those that it is true of; `None` of none.
    pub fn worst(all: Vec<Said>) -> Option<Said> {
        let result = all.iter().map(|said| said.result).max()?;
        let of_worst: Vec<Said> = all.into_iter().filter(|said| said.result == result).collect();
        let mut observed: Vec<String> = of_worst.iter().map(|said| said.observed.clone()).collect();
        observed.dedup();
        Some(Said { observed: cite::some(&observed), ..of_worst.into_iter().next()? })
    }
    pub fn about(self, check: Check, subject: impl Into<String>, predicted: impl Into<String>) -> Finding {
        let (subject, predicted) = (subject.into(), predicted.into());
        let Said { result, observed, evidence, tolerance } = self;
        Finding { check, subject, predicted, observed, result, tolerance, evidence }
    }
}
