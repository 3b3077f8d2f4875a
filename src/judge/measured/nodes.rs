//! Nodes that no writable side hears: when they are NotReady and tainted, and when what runs there leaves its Services and is back.

use super::{Measured, Ruler, Value, first_seen};
use crate::{
    api::{Bounds, Check, ENDPOINT_READY, KUBERNETES_SERVICE, SpanKind, Window},
    judge::{
        Case,
        endpoints::is_there,
        node::{manager_start, turned},
        pods::{Gone, is_active},
        taint::UNREACHABLE,
        timeline::Seen,
    },
    predict::{Certainty, EndpointsForecast, NodeForecast, ServiceForecast, constants::SERVICE_RETURN, count},
};

/// All nodes of a side, as their line calls them.
pub fn nodes_of(case: &Case<'_>, side: &str) -> String {
    let nodes = case.forecast.nodes.iter().filter(|n| n.side == side);
    format!("{side}: {}", count(nodes.count(), "node"))
}

/// All ready pods of such nodes, as their line calls them.
pub fn pods_of(case: &Case<'_>, side: &str) -> String {
    let pods = case.forecast.endpoints.iter().filter(|n| n.side == side).map(|n| n.pods.len());
    format!("{side}: {}", count(pods.sum(), "ready pod"))
}

impl Ruler<'_, '_> {
    pub fn node(&self, node: &NodeForecast) -> Vec<Measured> {
        let mut all = self.ready(node);
        let clean = |s: &Seen<'_>| !s.span.state.contains(UNREACHABLE);
        let (side, name) = (nodes_of(self.case, &node.side), &node.node);
        let of = |what: String, bounded, value| Measured::new(Check::NodeTainted, &side, what, bounded, value);
        all.extend(match node.tainted {
            Certainty::MustNot => {
                let kept = self.stayed(self.operator, SpanKind::Taint, name, clean);
                kept.map(|until| of(format!("{name} not tainted"), self.all_through(), until))
            }
            _ => {
                let tainted = self.lost(self.operator, SpanKind::Taint, name, clean);
                tainted.map(|at| of(format!("{name} tainted"), (Bounds::AfterCut, node.taint), at))
            }
        });
        all
    }

    fn ready(&self, node: &NodeForecast) -> Vec<Measured> {
        let of = |what: &str, bounded, value| Measured::new(Check::NodeNotReady, &node.node, what, bounded, value);
        if node.not_ready == Certainty::MustNot {
            let kept = self.stayed(self.operator, SpanKind::Node, &node.node, |s| s.is("True"));
            return kept.map(|until| of("Ready", self.all_through(), until)).into_iter().collect();
        }
        let Some(at) = self.not_ready(node) else { return Vec::new() };
        let started = manager_start(self.case, self.operator);
        let counted = node.after_takeover.zip(started).map(|(after, start)| {
            let what = "from the new controller manager's Lease to NotReady";
            of(what, (Bounds::Length, after), Value { seconds: at.seconds - start, ..at })
        });
        std::iter::once(of("NotReady", (Bounds::AfterCut, node.window), at)).chain(counted).collect()
    }

    /// By the condition's own word, where that is between two looks.
    fn not_ready(&self, node: &NodeForecast) -> Option<Value> {
        let spans = self.operator.series(SpanKind::Node, &node.node);
        let at = spans.iter().position(|s| s.from > 0.0 && s.from <= self.heal && !s.is("True"))?;
        let before = spans.get(at.checked_sub(1)?)?;
        let turned = turned(self.case, self.operator, before, &spans[at]);
        let by_its_word = turned.map(|(from, until)| Value { seconds: until, error: until - from });
        Some(by_its_word.unwrap_or_else(|| first_seen(spans, at)))
    }

    /// Ready pods of a node.
    pub fn endpoints(&self, node: &EndpointsForecast) -> Vec<Measured> {
        let side = pods_of(self.case, &node.side);
        let of = |what: String, bounded, value| Measured::new(Check::EndpointsRemoved, &side, what, bounded, value);
        let mut all = Vec::new();
        for pod in &node.pods {
            if node.leave == Certainty::MustNot {
                let kept = self.stayed(self.operator, SpanKind::Endpoint, pod, is_there);
                all.extend(kept.map(|until| of(format!("{pod} stayed"), self.all_through(), until)));
                continue;
            }
            let Some(left) = self.lost(self.operator, SpanKind::Endpoint, pod, is_there) else { continue };
            all.push(of(format!("{pod} left"), (Bounds::AfterCut, node.window), left));
            // An evicted one need not be back, and another one may have its name.
            let back = self.back(self.operator, SpanKind::Endpoint, pod, |s| s.is(ENDPOINT_READY));
            let back = back.filter(|_| self.is_kept(pod));
            all.extend(back.map(|at| of(format!("{pod} back"), (Bounds::AfterHeal, node.back), at)));
        }
        all
    }

    /// Whether a pod was there to the end of watching, and not being deleted.
    fn is_kept(&self, pod: &str) -> bool {
        let planned = self.case.evidence.snapshot.pods.iter().find(|p| p.subject() == pod);
        let in_api = planned.and_then(|p| self.case.pods.api_pod(&p.uid));
        in_api.is_some_and(|p| p.seen.iter().all(is_active) && self.case.pods.gone(p) == Gone::No)
    }

    /// An API server among the endpoints of the Service `kubernetes`.
    pub fn service(&self, server: &ServiceForecast) -> Vec<Measured> {
        let subject = format!("{KUBERNETES_SERVICE}/{}", server.server);
        let of = |what: &str, bounded, value| Measured::new(Check::EndpointsRemoved, &subject, what, bounded, value);
        if server.dropped == Certainty::MustNot {
            let kept = self.stayed(self.operator, SpanKind::Endpoint, &subject, is_there);
            return kept.map(|until| of("stayed", self.all_through(), until)).into_iter().collect();
        }
        let Some(lost) = self.lost(self.operator, SpanKind::Endpoint, &subject, is_there) else { return Vec::new() };
        let left = of("left", (Bounds::AfterCut, server.window), lost);
        let back = self.back(self.operator, SpanKind::Endpoint, &subject, |s| s.is(ENDPOINT_READY)).map(|back| {
            // Or so long after it wrote again.
            let mut writes = self.operator.series(SpanKind::Canary, &server.server).iter();
            let wrote = writes.rfind(|s| s.is("acknowledged") && s.from <= self.heal + back.seconds);
            let wrote = wrote.map_or(0.0, |s| (s.from - self.heal).max(0.0) + SERVICE_RETURN);
            let predicted = Window { latest_seconds: server.back.latest_seconds.max(wrote), ..server.back };
            of("back", (Bounds::AfterHeal, predicted), back)
        });
        std::iter::once(left).chain(back).collect()
    }
}
