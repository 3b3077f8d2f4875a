//! What is worked out from files: a plan and a judgement, for programs with the version of their format, and for people.

use super::{not_made, plan_text, unsupported};
use crate::{
    api::{Finding, NotMade, Onset, Plan, Prediction, Side, Verdict},
    fault::{Block, Pattern, Ports},
    judge::Judgement,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Format of a [`PlanReport`].
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PlanVersion {
    #[default]
    #[serde(rename = "rackpartition.io/plan/v1alpha1")]
    V1Alpha1,
}

/// What would be cut, what lets it through, and what theory says will happen.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    pub version: PlanVersion,
    /// Name of the run.
    pub run: String,
    /// The shape and who is named in it: `isolate r1`. Empty where the cut is refused.
    pub cut: String,
    pub sides: Vec<Side>,
    pub edges: Edges,
    /// Each role of the spec and the node it stands for.
    pub resolved_roles: BTreeMap<String, String>,
    /// In the order in which the operator asks them.
    pub guards: Vec<Guard>,
    pub prediction: Vec<Prediction>,
    /// What was assumed because it could not be read.
    pub assumptions: Vec<String>,
}

/// Who no longer hears whom.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edges {
    /// Pairs of members of which the second no longer hears the first.
    pub count: u32,
    /// The same as set products: every member of `to` no longer hears any member of `from`.
    pub blocks: Vec<Block>,
    /// The packets of an edge that are hit; all where nothing is named.
    pub ports: Ports,
    /// What becomes of them, and when.
    pub pattern: Pattern,
}

/// One guard and what it says of a plan.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// The field that opens it, or what it looks at where no field of the run does.
    pub name: String,
    pub result: GuardResult,
    /// Why it refuses and what to do, or why nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
pub enum GuardResult {
    LetsThrough,
    Refuses,
    /// One that comes before it refuses, and without an answer to that one there is none to this.
    Unknown,
}

impl PlanReport {
    /// Of a run whose cut stands for no edges: there is nothing to predict.
    pub fn refused(run: String, guards: Vec<Guard>) -> Self {
        PlanReport { run, guards, ..Self::default() }
    }

    /// Whether the operator would refuse it.
    pub fn is_refused(&self) -> bool {
        self.guards.iter().any(|g| g.result == GuardResult::Refuses)
    }

    fn plan(&self) -> Plan {
        Plan {
            cut: self.cut.clone(),
            sides: self.sides.clone(),
            edges: self.edges.count,
            resolved_roles: self.resolved_roles.clone(),
            prediction: self.prediction.clone(),
            assumptions: self.assumptions.clone(),
            ..Plan::default()
        }
    }
}

/// The plan and its guards, in at most `width` columns (100 by default).
pub fn plan_report_text(report: &PlanReport, width: Option<u16>) -> String {
    // A rehearsal has a plan, though without edges.
    let mut out = match report.cut.is_empty() {
        true => String::new(),
        false => format!("{}\n", plan_text(&report.plan(), width)),
    };
    out += "Guards:\n";
    for Guard { name, result, message } in &report.guards {
        let message = message.as_deref().unwrap_or_default();
        out += &match result {
            GuardResult::LetsThrough => format!("- {name}: lets through\n"),
            GuardResult::Refuses => format!("- {name}: REFUSES: {message}\n"),
            GuardResult::Unknown => format!("- {name}: not known: {message}\n"),
        };
    }
    out
}

/// Format of a [`JudgementReport`].
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize)]
pub enum JudgementVersion {
    #[default]
    #[serde(rename = "rackpartition.io/judgement/v1alpha1")]
    V1Alpha1,
}

/// What the records of a run show.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JudgementReport {
    pub version: JudgementVersion,
    /// Name of the run.
    pub run: String,
    /// Null where nothing was judged.
    pub verdict: Option<Verdict>,
    /// Why nothing was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_judged: Option<String>,
    /// Whether the fault was there, as one finding.
    pub injected: Option<Finding>,
    pub findings: Vec<Finding>,
    /// When the cut took effect, where that was seen.
    pub onset: Option<Onset>,
    /// Where the stores of etcd's members are found to differ: the way back, step by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Checks of which there is no finding, and what would make one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_looked_at: Vec<NotMade>,
    /// Checks, and parts of checks, that no run makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_supported: Vec<NotMade>,
}

impl JudgementReport {
    pub fn new(run: String, judgement: Judgement, runbook: Option<String>) -> Self {
        JudgementReport {
            run,
            verdict: Some(judgement.verdict),
            injected: Some(judgement.injected),
            not_looked_at: not_made(&judgement.findings),
            not_supported: unsupported(),
            findings: judgement.findings,
            onset: judgement.onset,
            runbook,
            ..Self::default()
        }
    }

    /// Of a run that there is nothing to judge of.
    pub fn not_judged(run: String, why: String) -> Self {
        JudgementReport { run, not_judged: Some(why), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Check, judge::tests::fixture::passing};

    #[test]
    fn a_judgement_says_what_it_does_not_speak_of() {
        let mut judgement = passing().judge();
        judgement.findings.retain(|f| f.check != Check::EtcdLeaders);
        let report = JudgementReport::new("run".into(), judgement, None);
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["notLookedAt"][0]["check"], "EtcdLeaders");
        assert_eq!(json["notSupported"][0]["check"], "C6");
        let nothing = serde_json::to_value(JudgementReport::not_judged("run".into(), "refused".into()));
        assert!(nothing.expect("plain data").get("notSupported").is_none());
    }
}
