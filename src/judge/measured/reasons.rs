//! Which lines have an interval and no measurement, and of which of them nothing can be measured.

use super::{
    Measured, all,
    nodes::{nodes_of, pods_of},
};
use crate::{
    api::{Bounds, Check, ENDPOINT_NONE, KUBERNETES_SERVICE, Prediction, Prospect, SpanKind},
    judge::{Case, Evidence, milestones::steps, timeline::before_cut},
    predict::{Certainty, LeaseForecast},
};

/// A line of the prediction that has an interval, and of which nothing was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Unmeasured {
    pub check: Check,
    pub subject: String,
    /// Why nothing can be; `None` where something should have been.
    pub why: Option<&'static str>,
}

/// Whether something is so of a line, by the case and by what was measured of other lines.
type IsSo = fn(&Case<'_>, &[Measured], &Prediction) -> bool;

/// Everything of which nothing can be measured, and why. The first that is so counts.
const REASONS: [(IsSo, &str); 9] = [
    (is_unsteady, "the cut is not steady: what a whole one would do may happen or not"),
    (is_of_the_network, "no timer rules it: each pair is silent all through the cut or is not, as its finding tells"),
    (is_either, "nothing is predicted that could be missed: whatever is seen is within it"),
    (is_picked, "an API server picks its holder, at any time"),
    (need_not_be, "it may happen in the cut or not, and was not seen to"),
    (is_unselected, "no Service selects any of them"),
    (is_unread, "no agent runs beside its API servers, so that nobody reads through them"),
    (is_unwatched, "nobody watched for so long after the heal"),
    (has_nothing_to_see, "nothing of it can be seen to come back: it was not well before the cut, or pods hold it"),
];

/// Lines without a measurement, in their order.
pub fn unmeasured(evidence: &Evidence<'_>) -> Vec<Unmeasured> {
    let case = Case::new(evidence);
    let measured = all(&case);
    let of = |line: &Prediction| {
        let why = REASONS.iter().find(|(is_so, _)| is_so(&case, &measured, line)).map(|(_, why)| *why);
        Unmeasured { check: line.check, subject: line.subject.clone(), why }
    };
    let lines = case.forecast.predictions.iter().filter(|line| line.window.is_some());
    lines.filter(|line| !measured.iter().any(|m| answers(m, line))).map(of).collect()
}

/// What is so throughout is measured by when it began as well.
fn answers(measured: &Measured, line: &Prediction) -> bool {
    let is_its = measured.check == line.check && measured.subject == line.subject;
    is_its && (line.bounds == Some(Bounds::Throughout) || line.bounds == Some(measured.bounds))
}

fn is_unsteady(case: &Case<'_>, _: &[Measured], _: &Prediction) -> bool {
    !case.evidence.plan.pattern.is_steady()
}

fn is_of_the_network(_: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    line.check == Check::FaultProven
}

/// It depends on who leads etcd.
fn is_either(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    let (etcd, api) = (&case.forecast.etcd, &case.forecast.api);
    match line.check {
        Check::EtcdQuorum => etcd.iter().any(|s| s.side == line.subject && s.leader == Prospect::Maybe),
        Check::ApiWritable => api.iter().any(|s| s.side == line.subject && s.writable == Prospect::Maybe),
        _ => false,
    }
}

fn is_picked(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    line.check == Check::LeaseTakeover && of_lease(case, line, LeaseForecast::is_coordinated)
}

fn of_lease(case: &Case<'_>, line: &Prediction, is_so: impl Fn(&LeaseForecast) -> bool) -> bool {
    case.forecast.leases.iter().any(|lease| lease.lease.subject() == line.subject && is_so(lease))
}

/// What may happen and need not, the surest of a line that is about several; for how long a Lease is nobody's only where it was not seen to
/// move.
fn need_not_be(case: &Case<'_>, measured: &[Measured], line: &Prediction) -> bool {
    let (forecast, subject) = (&case.forecast, line.subject.as_str());
    let may = |certainty: Certainty| certainty == Certainty::May;
    let mut workloads = forecast.workloads.iter().filter(|w| w.subject() == subject);
    match line.check {
        Check::ApiServerReady => forecast
            .api_servers
            .iter()
            .any(|s| (s.server == subject && may(s.not_ready)) || (s.container() == subject && may(s.restarted))),
        Check::LeaseTakeover => of_lease(case, line, |lease| may(lease.moves)),
        Check::LeaderGap | Check::LeaderOverlap => {
            let has_moved = measured.iter().any(|m| m.check == Check::LeaseTakeover && m.subject == subject);
            !has_moved && of_lease(case, line, |lease| may(lease.moves))
        }
        Check::NodeNotReady => forecast.nodes.iter().any(|n| n.node == subject && may(n.not_ready)),
        Check::NodeTainted => {
            let nodes = forecast.nodes.iter().filter(|n| nodes_of(case, &n.side) == subject);
            nodes.map(|n| n.tainted).max().is_some_and(may)
        }
        Check::EndpointsRemoved => {
            let nodes = forecast.endpoints.iter().filter(|n| pods_of(case, &n.side) == subject);
            let is_its = |server: &str| format!("{KUBERNETES_SERVICE}/{server}") == subject;
            let servers = forecast.service.iter().filter(|s| is_its(&s.server));
            nodes.map(|n| n.leave).chain(servers.map(|s| s.dropped)).max().is_some_and(may)
        }
        Check::WorkloadEvicted | Check::WorkloadStuck => workloads.any(|w| may(w.evicted)),
        Check::WorkloadDoubled => workloads.any(|w| may(w.doubled)),
        Check::HealDamage => forecast.budgets.iter().any(|b| b.title() == subject && may(b.crossed)),
        _ => false,
    }
}

/// As the operator saw their endpoints before the cut.
fn is_unselected(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    let Ok(operator) = case.operator() else { return false };
    if line.check != Check::EndpointsRemoved {
        return false;
    }
    let nodes = case.forecast.endpoints.iter().filter(|n| pods_of(case, &n.side) == line.subject);
    let before = |pod: &String| before_cut(operator.series(SpanKind::Endpoint, pod));
    let seen: Vec<_> = nodes.flat_map(|n| &n.pods).filter_map(before).collect();
    !seen.is_empty() && seen.iter().all(|s| s.is(ENDPOINT_NONE))
}

fn is_unread(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    let of_line = case.forecast.stale.iter().find(|s| s.side == line.subject);
    let is_read = |server: &String| case.evidence.plan.registers().any(|node| node == server);
    line.check == Check::StaleRead && of_line.is_some_and(|s| !s.servers.iter().any(is_read))
}

/// That a budget is not crossed is known only of the time for which its pods were watched.
fn is_unwatched(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    let is_beyond = line.window.is_some_and(|w| w.latest_seconds > case.timeline.end);
    line.check == Check::HealDamage && line.bounds == Some(Bounds::Throughout) && is_beyond
}

fn has_nothing_to_see(case: &Case<'_>, _: &[Measured], line: &Prediction) -> bool {
    line.check == Check::Recovery && steps(case, &line.subject).is_ok_and(|steps| steps.is_empty())
}
