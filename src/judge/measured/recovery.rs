//! After the heal: when the cluster is whole, and when each of its parts is normal again.

use super::{Measured, Ruler, Value, first_seen};
use crate::{
    api::{Bounds, CLUSTER_UNREAD, Check, SpanKind},
    judge::{milestones::steps, timeline::Seen},
    predict::Milestone,
};

impl Ruler<'_, '_> {
    pub fn recovery(&self) -> Vec<Measured> {
        let forecast = &self.case.forecast.recovery;
        let of = |subject: &str, what: &str, predicted, value| {
            Measured::new(Check::Recovery, subject, what, (Bounds::AfterHeal, predicted), value)
        };
        let whole = self.recovered().map(|at| of("cluster", "everything desired is actual", forecast.window, at));
        let part = |part: &Milestone| Some(of(part.what, "normal again", part.window, self.part(part.what)?));
        whole.into_iter().chain(forecast.milestones.iter().filter_map(part)).collect()
    }

    /// When it was last seen to wait, seconds after the heal. A look that was not answered says nothing of it, but that nobody knows how it
    /// was at the end.
    fn recovered(&self) -> Option<Value> {
        let of_cluster = self.operator.of_kind(SpanKind::Convergence).filter(|s| s.to >= self.heal);
        let mut spans: Vec<Seen<'_>> = of_cluster.copied().collect();
        spans.sort_by(|a, b| a.from.total_cmp(&b.from));
        spans.last().filter(|s| s.is("ok"))?;
        spans.retain(|s| !s.is(CLUSTER_UNREAD));
        let Some(waited) = spans.iter().rposition(|s| !s.is("ok")) else {
            return Some(Value { seconds: 0.0, error: self.operator.error });
        };
        let open = first_seen(&spans, waited + 1).error;
        Some(Value { seconds: (spans[waited].to - self.heal).max(0.0), error: open })
    }

    /// When the last of what a part is about was normal again, seconds after the heal; `None` where one was not, or is not known to have
    /// been.
    fn part(&self, name: &str) -> Option<Value> {
        let steps = steps(self.case, name).ok()?;
        let times = steps.iter().map(|step| Some(Value { seconds: step.at?, error: step.error }));
        Value::last(times.collect::<Option<Vec<Value>>>()?)
    }
}
