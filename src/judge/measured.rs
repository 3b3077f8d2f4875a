//! What was seen of each interval that was predicted, in numbers and without any tolerance: not whether a run passes, but how good its
//! predictions are. What was not seen to happen is not here, and has a finding. Of which lines nothing can be measured, and why, is in
//! `reasons`.

mod control_plane;
mod leases;
mod nodes;
mod reasons;
mod recovery;
#[cfg(test)]
mod tests;
mod workloads;

pub use reasons::{Unmeasured, unmeasured};

use super::{
    Case, Evidence, MAX_UNWATCHED,
    timeline::{Seen, Track, before_cut, longest_hole},
};
use crate::api::{Bounds, Check, SpanKind, Window};

/// One interval and what was seen of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub check: Check,
    /// As the predicted line has it: a node, a Lease, a side, a workload.
    pub subject: String,
    /// What happened, or what lasted.
    pub what: String,
    /// Seconds after the cut or the heal, or a length.
    pub bounds: Bounds,
    pub predicted: Window,
    /// When it was first seen so, or for how long it may have been so at the most; seconds as in the prediction. Of what is so throughout:
    /// until when it was.
    pub observed: f64,
    /// By how much looks and clocks leave that open, seconds.
    pub error: f64,
}

impl Measured {
    /// Whether the interval has it, with nothing let pass.
    pub fn is_within(&self) -> bool {
        match self.bounds {
            Bounds::Throughout => self.observed >= self.predicted.latest_seconds,
            Bounds::AfterCut | Bounds::AfterHeal | Bounds::Length => {
                self.observed >= self.predicted.earliest_seconds && self.observed <= self.predicted.latest_seconds
            }
        }
    }

    fn new(
        check: Check,
        subject: impl Into<String>,
        what: impl Into<String>,
        (bounds, predicted): (Bounds, Window),
        value: Value,
    ) -> Self {
        let Value { seconds: observed, error } = value;
        Measured { check, subject: subject.into(), what: what.into(), bounds, predicted, observed, error }
    }
}

/// Empty where the operator's record can't be relied on.
pub fn measured(evidence: &Evidence<'_>) -> Vec<Measured> {
    all(&Case::new(evidence))
}

fn all(case: &Case<'_>) -> Vec<Measured> {
    let Ok(operator) = case.operator() else { return Vec::new() };
    let ruler = Ruler { case, operator, heal: case.timeline.heal };
    let forecast = &case.forecast;
    let mut all: Vec<Measured> = Vec::new();
    all.extend(forecast.etcd.iter().flat_map(|side| ruler.etcd(side)));
    all.extend(forecast.api.iter().flat_map(|side| ruler.writes(side)));
    all.extend(forecast.api_servers.iter().flat_map(|server| ruler.api_server(server)));
    all.extend(forecast.stale.iter().flat_map(|side| ruler.stale(side)));
    all.extend(forecast.leases.iter().flat_map(|lease| ruler.lease(lease)));
    all.extend(forecast.nodes.iter().flat_map(|node| ruler.node(node)));
    all.extend(forecast.endpoints.iter().flat_map(|node| ruler.endpoints(node)));
    all.extend(forecast.service.iter().flat_map(|server| ruler.service(server)));
    all.extend(forecast.workloads.iter().flat_map(|workload| ruler.workload(workload)));
    all.extend(forecast.budgets.iter().filter_map(|budget| ruler.budget(budget)));
    all.extend(ruler.recovery());
    all
}

/// A moment or a length, and by how much looks and clocks leave it open: seconds.
#[derive(Clone, Copy, Debug)]
struct Value {
    seconds: f64,
    error: f64,
}

impl Value {
    /// The same counted from then on, and nothing before it.
    fn after(self, start: f64) -> Self {
        Value { seconds: (self.seconds - start).max(0.0), ..self }
    }

    /// Of several the first one.
    fn first(all: impl IntoIterator<Item = Value>) -> Option<Self> {
        all.into_iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }

    /// Of several the last one.
    fn last(all: impl IntoIterator<Item = Value>) -> Option<Self> {
        all.into_iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

/// What times are read from.
struct Ruler<'c, 'a> {
    case: &'c Case<'a>,
    operator: &'c Track<'a>,
    /// Seconds after the cut.
    heal: f64,
}

impl Ruler<'_, '_> {
    /// When something that was well before the cut was first not, seconds after it and before the heal.
    fn lost(
        &self,
        track: &Track<'_>,
        kind: SpanKind,
        subject: &str,
        well: impl Fn(&Seen<'_>) -> bool,
    ) -> Option<Value> {
        let spans = well_before(track, kind, subject, &well)?;
        let at = spans.iter().position(|s| s.from > 0.0 && s.from <= self.heal && !well(s))?;
        Some(first_seen(spans, at))
    }

    /// When something that was well before the cut was first so after the heal, seconds after that.
    fn back(
        &self,
        track: &Track<'_>,
        kind: SpanKind,
        subject: &str,
        well: impl Fn(&Seen<'_>) -> bool,
    ) -> Option<Value> {
        let spans = well_before(track, kind, subject, &well)?;
        let at = spans.iter().position(|s| s.to >= self.heal && well(s))?;
        Some(first_seen(spans, at).after(self.heal))
    }

    /// Until when something that was well before the cut was so in it, seconds after it. `None` as well where nobody looked for long.
    fn stayed(
        &self,
        track: &Track<'_>,
        kind: SpanKind,
        subject: &str,
        well: impl Fn(&Seen<'_>) -> bool,
    ) -> Option<Value> {
        let spans = well_before(track, kind, subject, &well)?;
        let whole = || self.is_looked_at(spans, self.heal).then(|| self.to_the_heal());
        self.lost(track, kind, subject, well).or_else(whole)
    }

    /// Whether somebody looked from the cut until then, seconds after it.
    fn is_looked_at(&self, spans: &[Seen<'_>], until: f64) -> bool {
        longest_hole(spans, 0.0, until) <= MAX_UNWATCHED
    }

    /// Of what was so until the cut was over.
    fn to_the_heal(&self) -> Value {
        Value { seconds: self.heal, error: self.operator.error }
    }

    /// From the cut to the heal.
    fn all_through(&self) -> (Bounds, Window) {
        (Bounds::Throughout, window_to(self.heal))
    }
}

/// The series of something that was well before the cut.
fn well_before<'t, 'a>(
    track: &'t Track<'a>,
    kind: SpanKind,
    subject: &str,
    well: impl Fn(&Seen<'_>) -> bool,
) -> Option<&'t [Seen<'a>]> {
    let spans = track.series(kind, subject);
    before_cut(spans).filter(|s| well(s)).map(|_| spans)
}

/// When what one span says was first seen. Nobody looked since the one before it.
fn first_seen(spans: &[Seen<'_>], at: usize) -> Value {
    let seen = &spans[at];
    let unwatched = at.checked_sub(1).map_or(0.0, |before| (seen.from - spans[before].to).max(0.0));
    Value { seconds: seen.from, error: seen.from_error + unwatched }
}

fn window_to(latest_seconds: f64) -> Window {
    Window { earliest_seconds: 0.0, latest_seconds }
}
