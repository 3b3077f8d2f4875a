//! Recovery, step by step: after the heal the network is whole, then etcd, the API servers, Leases, the nodes and their taints, and pods,
//! each with its time. A step that takes longer than usual is told; one that is never seen is no recovery.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::cite,
    leases_again,
    pairs::seen_by,
    pods_again, probes,
    recovery::never_well,
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::seconds,
};

/// In the order in which they come back, and as predictions call them. No timer of the cluster rules the first: fresh connections are
/// answered at once, or their next try is.
const PARTS: [&str; 7] = [NETWORK, "etcd", "API servers", "Leases", "nodes", "taints", "pods"];
const NETWORK: &str = "network";

/// One step for one thing.
pub struct Step {
    /// Seconds after the heal; `None`: not by the end of watching.
    pub at: Option<f64>,
    /// Error of that, seconds.
    pub error: f64,
    pub evidence: String,
}

impl Step {
    /// The first time after the heal that `track` saw it well; `None` where it was well at no look before the cut, and so has nothing to
    /// come back to. What came well as close to the cut as clocks can tell may have been so before it.
    ///
    /// # Errors
    /// Where nobody looked after the heal, or it did not come back and nobody knows whether it was well before the cut or at the end.
    fn of(
        case: &Case<'_>,
        track: &Track<'_>,
        (kind, subject): (SpanKind, &str),
        well: impl Fn(&Seen<'_>) -> bool,
    ) -> Result<Option<Self>, String> {
        let (heal, edge) = (case.timeline.heal, case.edge(0.0, track));
        let spans = track.series(kind, subject);
        let was_well = spans.iter().any(|s| s.from <= edge && well(s));
        if !was_well && spans.iter().any(|s| s.from <= -edge) {
            return Ok(None);
        }
        let Some(last) = spans.iter().rfind(|s| s.to >= heal) else {
            return Err(format!("{}: {kind:?} of {subject} was not seen after the heal", track.who));
        };
        let first = spans.iter().find(|s| s.to >= heal && well(s));
        if first.is_none() && !was_well {
            return Err(format!("{}: {kind:?} of {subject} was not seen before the cut", track.who));
        }
        // It may have come back when nobody looked any more.
        if first.is_none() && last.to < case.timeline.end - MAX_UNWATCHED {
            return Err(format!("{}: not looked at until the end", cite(track, last)));
        }
        Ok(Some(Step {
            at: first.map(|s| (s.from - heal).max(0.0)),
            error: track.error,
            evidence: cite(track, first.unwrap_or(last)),
        }))
    }
}

/// The last of all that a step is about.
struct Milestone {
    name: &'static str,
    /// Seconds after the heal by which it is usual.
    usual: f64,
    last: Step,
}

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let usual = PARTS.map(|name| format!("{name} {}", seconds(usual(case, name))));
    let predicted = format!("{} after the heal at the latest", usual.join(", "));
    let clocks = seconds(case.allowed_clock_error());
    let said = judged(case).tolerating(format!("± {clocks} of clocks, and each observer's error"));
    vec![said.about(Check::Recovery, "milestones", predicted)]
}

fn judged(case: &Case<'_>) -> Said {
    let (mut reached, mut open) = (Vec::new(), None);
    for name in PARTS {
        match steps(case, name) {
            Err(why) => {
                open.get_or_insert(why);
            }
            Ok(steps) => reached.extend(last(steps).map(|last| Milestone { name, usual: usual(case, name), last })),
        }
    }
    said(case, &reached, open)
}

/// What was seen of one part: none of what was not well before the cut.
///
/// # Errors
/// With what is missing.
pub fn steps(case: &Case<'_>, part: &str) -> Result<Vec<Step>, String> {
    match part {
        NETWORK => network(case),
        "etcd" => etcd(case),
        "API servers" => api_servers(case),
        "Leases" => leases_again::steps(case),
        "nodes" => of_nodes(case, SpanKind::Node, |s| s.is("True")),
        "taints" => of_nodes(case, SpanKind::Taint, |s| !s.span.state.contains("node.kubernetes.io/")),
        "pods" => pods_again::steps(case),
        other => Err(format!("{other} is no part of the recovery")),
    }
}

/// Seconds after the heal: a part's own time where that is predicted, else the whole's.
fn usual(case: &Case<'_>, name: &str) -> f64 {
    let recovery = &case.forecast.recovery;
    let of_part = recovery.milestones.iter().find(|m| m.what == name).map(|m| m.window.latest_seconds);
    match name {
        NETWORK => probes::EDGE + probes::HEAL_SLACK,
        _ => of_part.unwrap_or(recovery.window.latest_seconds),
    }
}

/// The latest step; one that was never seen is later than all.
fn last(steps: Vec<Step>) -> Option<Step> {
    let at = |step: &Step| step.at.unwrap_or(f64::INFINITY);
    steps.into_iter().max_by(|a, b| at(a).total_cmp(&at(b)))
}

fn said(case: &Case<'_>, reached: &[Milestone], open: Option<String>) -> Said {
    let mut words: Vec<String> = Vec::new();
    let (mut worst, mut evidence) = (FindingResult::Held, None);
    for milestone in reached {
        let (result, told) = judge(case, milestone);
        words.push(told);
        if evidence.is_none() || result > worst {
            evidence = Some(milestone.last.evidence.clone());
        }
        worst = worst.max(result);
    }
    let observed = format!("{} after the heal", words.join(", "));
    match (open, evidence) {
        (Some(why), _) if worst < FindingResult::Violated => {
            let observed = if words.is_empty() { "not known".into() } else { observed };
            Said::new(FindingResult::Inconclusive, observed, why)
        }
        (_, Some(evidence)) => Said::new(worst, observed, evidence),
        // There was nothing that could be seen to come back.
        (_, None) => Said::new(FindingResult::Noted, "nothing was cut that could be seen", "the plan"),
    }
}

fn judge(case: &Case<'_>, milestone: &Milestone) -> (FindingResult, String) {
    let Milestone { name, usual, last } = milestone;
    let unsure = last.error + case.allowed_clock_error();
    match last.at {
        Some(at) if at > usual + unsure => {
            (FindingResult::Noted, format!("{name} {}, {} is usual", seconds(at), seconds(*usual)))
        }
        Some(at) => (FindingResult::Held, format!("{name} {}", seconds(at))),
        None => {
            let accepted = case.accepted(|e| e.recovered_within).unwrap_or(0.0);
            let result = never_well(case, usual.max(accepted), unsure);
            (result, format!("{name} not by the end of watching, {}", seconds(case.watched())))
        }
    }
}

/// Every pair that was cut and is served.
fn network(case: &Case<'_>) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for node in case.evidence.plan.agents() {
        for target in probes::cut_targets(case, node) {
            let well = |s: &Seen<'_>| probes::is_through(case, s);
            steps.extend(Step::of(case, seen_by(case, node)?, (SpanKind::Probe, &target.subject()), well)?);
        }
    }
    Ok(steps)
}

/// Members that agents look at.
fn etcd(case: &Case<'_>) -> Result<Vec<Step>, String> {
    let members = case.forecast.etcd.iter().flat_map(|side| &side.members);
    let of = |node: &str| Step::of(case, seen_by(case, node)?, (SpanKind::Health, "etcd"), |s| s.is("ok"));
    members.filter_map(|node| of(node).transpose()).collect()
}

/// By the writes of their own nodes.
fn api_servers(case: &Case<'_>) -> Result<Vec<Step>, String> {
    let servers = case.forecast.api.iter().flat_map(|side| &side.servers);
    let acknowledged = |s: &Seen<'_>| s.is("acknowledged");
    let of = |node: &str| Step::of(case, seen_by(case, node)?, (SpanKind::Canary, node), acknowledged);
    servers.filter_map(|node| of(node).transpose()).collect()
}

/// Nodes that no writable side heard.
fn of_nodes(case: &Case<'_>, kind: SpanKind, well: fn(&Seen<'_>) -> bool) -> Result<Vec<Step>, String> {
    let operator = case.operator()?;
    case.forecast.nodes.iter().filter_map(|n| Step::of(case, operator, (kind, &n.node), well).transpose()).collect()
}
