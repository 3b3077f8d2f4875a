//! What was seen of each interval that was predicted, in numbers and without any tolerance: not whether a run passes, but how good its
//! predictions are. What was not seen to happen is not here, and has a finding. Nor are stale reads, of which only a limit is predicted.

use super::{
    Case, Evidence,
    node::{manager_start, turned},
    taint::UNREACHABLE,
    timeline::{Seen, Track, longest_hole},
};
use crate::{
    api::{Bounds, Check, ENDPOINT_PARTLY, ENDPOINT_READY, KUBERNETES_SERVICE, Prospect, SpanKind, Window},
    predict::{
        ApiForecast, ApiServerForecast, Certainty, EtcdForecast, LeaseForecast, Milestone, NodeForecast,
        ServiceForecast, WorkloadForecast, constants::SERVICE_RETURN,
    },
};

/// One interval and what was seen of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub check: Check,
    /// A node, a Lease, a side, a workload.
    pub subject: String,
    /// What happened, or what lasted.
    pub what: String,
    /// Seconds after the cut or the heal, or a length.
    pub bounds: Bounds,
    pub predicted: Window,
    /// When it was first seen so, or for how long it may have been so at the most; seconds as in the prediction.
    pub observed: f64,
}

impl Measured {
    /// Whether the interval has it, with nothing let pass.
    pub fn is_within(&self) -> bool {
        self.observed >= self.predicted.earliest_seconds && self.observed <= self.predicted.latest_seconds
    }

    fn new(
        check: Check,
        subject: impl Into<String>,
        what: impl Into<String>,
        (bounds, predicted): (Bounds, Window),
        observed: f64,
    ) -> Self {
        Measured { check, subject: subject.into(), what: what.into(), bounds, predicted, observed }
    }
}

/// Empty where the operator's record can't be relied on.
pub fn measured(evidence: &Evidence<'_>) -> Vec<Measured> {
    let case = Case::new(evidence);
    let Ok(operator) = case.operator() else { return Vec::new() };
    let ruler = Ruler { case: &case, operator, heal: case.timeline.heal };
    let forecast = &case.forecast;
    let mut all: Vec<Measured> = Vec::new();
    all.extend(forecast.etcd.iter().flat_map(|side| ruler.etcd(side)));
    all.extend(forecast.api.iter().filter_map(|side| ruler.writes(side)));
    all.extend(forecast.api_servers.iter().flat_map(|server| ruler.api_server(server)));
    all.extend(forecast.leases.iter().flat_map(|lease| ruler.lease(lease)));
    all.extend(forecast.nodes.iter().flat_map(|node| ruler.node(node)));
    all.extend(ruler.endpoints());
    all.extend(forecast.service.iter().flat_map(|server| ruler.service(server)));
    all.extend(forecast.workloads.iter().flat_map(|workload| ruler.workload(workload)));
    all.extend(ruler.recovery());
    all
}

/// What times are read from.
struct Ruler<'c, 'a> {
    case: &'c Case<'a>,
    operator: &'c Track<'a>,
    /// Seconds after the cut.
    heal: f64,
}

impl<'a> Ruler<'_, 'a> {
    /// When something that was well before the cut was first not, seconds after it and before the heal.
    fn lost(&self, track: &Track<'_>, kind: SpanKind, subject: &str, well: impl Fn(&Seen<'_>) -> bool) -> Option<f64> {
        let spans = track.series(kind, subject);
        spans.iter().rfind(|s| s.from <= 0.0).filter(|s| well(s))?;
        spans.iter().find(|s| s.from > 0.0 && s.from <= self.heal && !well(s)).map(|s| s.from)
    }

    /// When something that was well before the cut was first so after the heal, seconds after that.
    fn back(&self, track: &Track<'_>, kind: SpanKind, subject: &str, well: impl Fn(&Seen<'_>) -> bool) -> Option<f64> {
        let spans = track.series(kind, subject);
        spans.iter().rfind(|s| s.from <= 0.0).filter(|s| well(s))?;
        spans.iter().find(|s| s.to >= self.heal && well(s)).map(|s| (s.from - self.heal).max(0.0))
    }

    fn etcd(&self, side: &EtcdForecast) -> Vec<Measured> {
        if side.leader != Prospect::No {
            return Vec::new();
        }
        let settled = window_to(side.settled);
        let of = |node: &String| {
            let lost = self.lost(self.case.timeline.agent(node)?, SpanKind::Health, "etcd", |s| s.is("ok"))?;
            let what = format!("{node} without a leader");
            Some(Measured::new(Check::EtcdQuorum, &side.side, what, (Bounds::AfterCut, settled), lost))
        };
        side.members.iter().filter_map(of).collect()
    }

    /// Where the operator could try them all.
    fn writes(&self, side: &ApiForecast) -> Option<Measured> {
        let is_away = |server: &String| self.case.evidence.plan.breaks(self.operator.node, server);
        if side.writable != Prospect::Yes || side.servers.iter().any(is_away) {
            return None;
        }
        let tried = side.servers.iter().flat_map(|server| self.operator.series(SpanKind::Canary, server));
        let written: Vec<Seen<'a>> = tried.filter(|s| s.is("acknowledged")).copied().collect();
        // The last one before the cut, so that a gap over its edge counts in full.
        let start = written.iter().filter(|s| s.from <= 0.0).map(|s| s.to.min(0.0)).reduce(f64::max)?;
        let (gap, predicted) = (longest_hole(&written, start, self.heal), window_to(side.seconds));
        let what = "longest without an acknowledged write";
        Some(Measured::new(Check::ApiWritable, &side.side, what, (Bounds::Length, predicted), gap))
    }

    fn api_server(&self, server: &ApiServerForecast) -> Vec<Measured> {
        let Some(track) = self.case.timeline.agent(&server.server) else { return Vec::new() };
        let of = |what: &str, predicted: Window, at: f64| {
            Measured::new(Check::ApiServerReady, &server.server, what, (Bounds::AfterCut, predicted), at)
        };
        let lost = self.lost(track, SpanKind::Health, "kube-apiserver", |s| s.is("ok"));
        let unready = lost.filter(|_| server.not_ready != Certainty::MustNot);
        let is_own = |s: &&Seen<'_>| {
            let subject = s.span.subject.as_str();
            subject.starts_with("kube-system/kube-apiserver-") && subject.ends_with("/kube-apiserver")
        };
        let has_ended = |s: &&Seen<'_>| !s.is("running") && s.to > 0.0 && s.to <= self.heal;
        let ended = track.of_kind(SpanKind::Container).filter(is_own).filter(has_ended).map(|s| s.to);
        let ended = ended.min_by(f64::total_cmp).filter(|_| server.restarted != Certainty::MustNot);
        let unready = unready.map(|at| of("not ready", server.readiness, at));
        unready.into_iter().chain(ended.map(|at| of("its container ended", server.restart, at))).collect()
    }

    fn lease(&self, lease: &LeaseForecast) -> Vec<Measured> {
        let subject = lease.lease.subject();
        let is_new = |s: &&Seen<'_>| {
            let is_held = !s.span.state.is_empty() && !s.is(&lease.lease.holder);
            is_held && s.from > 0.0 && s.from <= self.heal
        };
        let is_predicted = lease.cut_off && lease.moves != Certainty::MustNot;
        let taken = self.operator.series(SpanKind::Lease, &subject).iter().find(is_new).filter(|_| is_predicted);
        let Some(taken) = taken.map(|s| s.from) else { return Vec::new() };
        let takeover = (Bounds::AfterCut, lease.takeover);
        let takeover = Measured::new(Check::LeaseTakeover, &subject, "another one leads", takeover, taken);
        let gap = self.ended(lease).filter(|_| lease.counts_leaders()).map(|ended| {
            let led = (taken - ended).max(0.0);
            Measured::new(Check::LeaderGap, &subject, "nobody leads", (Bounds::Length, lease.gap), led)
        });
        std::iter::once(takeover).chain(gap).collect()
    }

    /// When the old holder's container ended, seconds after the cut. A component's is named like its Lease.
    fn ended(&self, lease: &LeaseForecast) -> Option<f64> {
        let track = self.case.timeline.agent(lease.lease.holder_node.as_deref()?)?;
        let (namespace, container) = (format!("{}/", lease.lease.namespace), format!("/{}", lease.lease.name));
        let is_process = |s: &&Seen<'_>| {
            let is_its = s.span.subject.starts_with(&namespace) && s.span.subject.ends_with(&container);
            is_its && s.is("exited") && s.from <= 0.0 && s.to > 0.0
        };
        track.of_kind(SpanKind::Container).find(is_process).map(|s| s.to)
    }

    fn node(&self, node: &NodeForecast) -> Vec<Measured> {
        let of = |check, what: &str, bounded, at| Measured::new(check, &node.node, what, bounded, at);
        let mut all = Vec::new();
        if let Some(at) = self.not_ready(node).filter(|_| node.not_ready != Certainty::MustNot) {
            all.push(of(Check::NodeNotReady, "NotReady", (Bounds::AfterCut, node.window), at));
            let started = manager_start(self.case, self.operator);
            all.extend(node.after_takeover.zip(started).map(|(after, start)| {
                let what = "from the new controller manager's Lease to NotReady";
                of(Check::NodeNotReady, what, (Bounds::Length, after), at - start)
            }));
        }
        let clean = |s: &Seen<'_>| !s.span.state.contains(UNREACHABLE);
        let tainted = self.lost(self.operator, SpanKind::Taint, &node.node, clean);
        let tainted = tainted.filter(|_| node.tainted != Certainty::MustNot);
        all.extend(tainted.map(|at| of(Check::NodeTainted, "tainted", (Bounds::AfterCut, node.taint), at)));
        all
    }

    /// By the condition's own word, where that is between two looks.
    fn not_ready(&self, node: &NodeForecast) -> Option<f64> {
        let spans = self.operator.series(SpanKind::Node, &node.node);
        let at = spans.iter().position(|s| s.from > 0.0 && s.from <= self.heal && !s.is("True"))?;
        let (before, after) = (spans.get(at.checked_sub(1)?)?, spans.get(at)?);
        Some(turned(self.case, self.operator, before, after).map_or(after.from, |(_, until)| until))
    }

    fn endpoints(&self) -> Vec<Measured> {
        let mut all = Vec::new();
        for node in self.case.forecast.endpoints.iter().filter(|n| n.leave != Certainty::MustNot) {
            let left = |pod: &String| {
                let at = self.lost(self.operator, SpanKind::Endpoint, pod, is_there)?;
                let what = format!("{pod} left");
                Some(Measured::new(Check::EndpointsRemoved, &node.side, what, (Bounds::AfterCut, node.window), at))
            };
            all.extend(node.pods.iter().filter_map(left));
        }
        all
    }

    fn service(&self, server: &ServiceForecast) -> Vec<Measured> {
        let subject = format!("{KUBERNETES_SERVICE}/{}", server.server);
        let lost = self.lost(self.operator, SpanKind::Endpoint, &subject, is_there);
        let Some(lost) = lost.filter(|_| server.dropped != Certainty::MustNot) else { return Vec::new() };
        let of = |what: &str, bounded, at| Measured::new(Check::EndpointsRemoved, &subject, what, bounded, at);
        let left = of("left", (Bounds::AfterCut, server.window), lost);
        let back = self.back(self.operator, SpanKind::Endpoint, &subject, |s| s.is(ENDPOINT_READY)).map(|back| {
            // Or so long after it wrote again.
            let mut writes = self.operator.series(SpanKind::Canary, &server.server).iter();
            let wrote = writes.rfind(|s| s.is("acknowledged") && s.from <= self.heal + back);
            let wrote = wrote.map_or(0.0, |s| (s.from - self.heal).max(0.0) + SERVICE_RETURN);
            let predicted = Window { latest_seconds: server.back.latest_seconds.max(wrote), ..server.back };
            of("back", (Bounds::AfterHeal, predicted), back)
        });
        std::iter::once(left).chain(back).collect()
    }

    fn workload(&self, workload: &WorkloadForecast) -> Vec<Measured> {
        let of = |check, what: String, predicted, at| {
            Measured::new(check, workload.subject(), what, (Bounds::AfterCut, predicted), at)
        };
        let mut all = Vec::new();
        if let Some(eviction) = workload.eviction.filter(|_| workload.evicted != Certainty::MustNot) {
            // Later than this it is deleted for another reason.
            let latest = self.case.last_of_the_cut(&eviction);
            let is_deleted = |s: &&Seen<'_>| s.from > 0.0 && s.from <= latest && s.span.state.ends_with("/Terminating");
            for pod in &workload.pods {
                let deleted = self.case.pods.api_pod(&pod.uid).and_then(|p| p.seen.iter().find(is_deleted));
                let what = || format!("{} deleted", pod.name);
                all.extend(deleted.map(|s| of(Check::WorkloadEvicted, what(), eviction, s.from)));
            }
        }
        if let Some(copy) = workload.copy.filter(|_| workload.doubled != Certainty::MustNot) {
            let new = self.case.pods.of_owner(workload).filter(|p| self.case.pods.planned_pod(p.uid).is_none());
            for pod in new {
                let started = self.case.pods.containers(pod.uid).iter().map(|c| c.seen.from);
                let started = started.min_by(f64::total_cmp).filter(|at| *at > 0.0 && *at <= self.heal);
                let what = || format!("{} started", pod.subject);
                all.extend(started.map(|at| of(Check::WorkloadDoubled, what(), copy, at)));
            }
        }
        all
    }

    fn recovery(&self) -> Vec<Measured> {
        let forecast = &self.case.forecast.recovery;
        let of = |subject: &str, what: &str, predicted, at| {
            Measured::new(Check::Recovery, subject, what, (Bounds::AfterHeal, predicted), at)
        };
        let whole = self.recovered().map(|at| of("cluster", "everything desired is actual", forecast.window, at));
        let part = |part: &Milestone| Some(of(part.what, "normal again", part.window, self.part(part.what)?));
        whole.into_iter().chain(forecast.milestones.iter().filter_map(part)).collect()
    }

    /// When it was last seen to wait, seconds after the heal.
    fn recovered(&self) -> Option<f64> {
        let mut spans: Vec<_> = self.operator.of_kind(SpanKind::Convergence).filter(|s| s.to >= self.heal).collect();
        spans.sort_by(|a, b| a.from.total_cmp(&b.from));
        spans.last().filter(|s| s.is("ok"))?;
        let waited = spans.iter().rfind(|s| !s.is("ok"));
        Some(waited.map_or(0.0, |s| (s.to - self.heal).max(0.0)))
    }

    /// When the last of what a part is about was normal again, seconds after the heal; of parts that are seen by themselves.
    fn part(&self, name: &str) -> Option<f64> {
        let forecast = &self.case.forecast;
        let members = forecast.etcd.iter().flat_map(|side| &side.members);
        let servers = forecast.api.iter().flat_map(|side| &side.servers);
        match name {
            "etcd" => last(members.filter_map(|node| self.by_agent(node, SpanKind::Health, "etcd", "ok"))),
            "API servers" => last(servers.filter_map(|s| self.by_agent(s, SpanKind::Canary, s, "acknowledged"))),
            "nodes" => self.by_operator(SpanKind::Node, |s| s.is("True")),
            "taints" => self.by_operator(SpanKind::Taint, |s| !s.span.state.contains("node.kubernetes.io/")),
            _ => None,
        }
    }

    fn by_agent(&self, node: &str, kind: SpanKind, subject: &str, state: &str) -> Option<f64> {
        self.back(self.case.timeline.agent(node)?, kind, subject, |s| s.is(state))
    }

    fn by_operator(&self, kind: SpanKind, well: fn(&Seen<'_>) -> bool) -> Option<f64> {
        let nodes = self.case.forecast.nodes.iter();
        last(nodes.filter_map(|node| self.back(self.operator, kind, &node.node, well)))
    }
}

fn last(times: impl Iterator<Item = f64>) -> Option<f64> {
    times.reduce(f64::max)
}

fn window_to(latest_seconds: f64) -> Window {
    Window { earliest_seconds: 0.0, latest_seconds }
}

fn is_there(seen: &Seen<'_>) -> bool {
    seen.is(ENDPOINT_READY) || seen.is(ENDPOINT_PARTLY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::FindingResult,
        judge::tests::fixture::{END, START, passing},
    };

    #[test]
    fn every_interval_of_the_run_that_passes_contains_what_was_seen() {
        let all = measured(&passing().evidence());
        let outside: Vec<&Measured> = all.iter().filter(|m| !m.is_within()).collect();
        assert!(outside.is_empty(), "{outside:#?}");
        let of = |check: Check| all.iter().filter(|m| m.check == check).count();
        // Two leaders; two nodes, each also from the new controller manager's Lease on; three pods, and an API server that left and is back;
        // the cluster and four parts.
        for (check, count) in [
            (Check::EtcdQuorum, 1),
            (Check::ApiWritable, 1),
            (Check::ApiServerReady, 1),
            (Check::LeaseTakeover, 2),
            (Check::LeaderGap, 2),
            (Check::NodeNotReady, 4),
            (Check::NodeTainted, 2),
            (Check::EndpointsRemoved, 5),
            (Check::WorkloadEvicted, 2),
            (Check::WorkloadDoubled, 1),
            (Check::Recovery, 5),
        ] {
            assert_eq!(of(check), count, "{check:?}: {all:#?}");
        }
        let at = |check: Check, what: &str| all.iter().find(|m| m.check == check && m.what == what).unwrap().observed;
        assert!((at(Check::LeaderGap, "nobody leads") - 4.4).abs() < 0.05, "{all:#?}");
        assert!((at(Check::EndpointsRemoved, "back") - 8.5).abs() < 0.05, "{all:#?}");
    }

    #[test]
    fn what_a_finding_lets_pass_is_outside_all_the_same() {
        let mut run = passing();
        // Predicted up to 49.4 s.
        let history = [("none", START, 49.5), ("node.kubernetes.io/unreachable", 50.0, 81.0), ("none", 81.5, END)];
        run.rewrite_operator(SpanKind::Taint, "w1", &history);
        let findings = run.judge().findings;
        assert!(findings.iter().filter(|f| f.check == Check::NodeTainted).all(|f| f.result == FindingResult::Held));
        let all = measured(&run.evidence());
        let outside: Vec<_> = all.iter().filter(|m| !m.is_within()).map(|m| (m.check, m.subject.as_str())).collect();
        assert_eq!(outside, [(Check::NodeTainted, "w1")]);
    }

    #[test]
    fn without_the_operators_record_nothing_is_measured() {
        let mut run = passing();
        run.operator = None;
        assert!(measured(&run.evidence()).is_empty());
    }
}
