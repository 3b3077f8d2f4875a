//! Leases: when they move, and for how long nobody leads or two do.

use super::{Measured, Ruler, Value, window_to};
use crate::{
    api::{Bounds, Check, SpanKind},
    judge::{leadership::end, lease::taken},
    predict::{Certainty, LeaseForecast},
};

impl Ruler<'_, '_> {
    pub fn lease(&self, lease: &LeaseForecast) -> Vec<Measured> {
        let subject = lease.lease.subject();
        if lease.stays() || lease.moves == Certainty::MustNot {
            let check = if lease.stays() { Check::LeaseStable } else { Check::LeaseTakeover };
            let kept = self.stayed(self.operator, SpanKind::Lease, &subject, |s| s.is(&lease.lease.holder));
            let kept = kept.map(|until| Measured::new(check, &subject, "kept its holder", self.all_through(), until));
            return kept.into_iter().collect();
        }
        // Of one that an API server gives to somebody at any time only what the cut brings about has an interval.
        let Some(takeover) = taken(self.case, lease).filter(|_| lease.cut_off) else { return Vec::new() };
        let open = takeover.seen_new - takeover.seen_old + takeover.error;
        let at = Value { seconds: takeover.seen_new, error: open };
        let predicted = (Bounds::AfterCut, lease.takeover);
        let mut all = vec![Measured::new(Check::LeaseTakeover, &subject, "another one leads", predicted, at)];
        if let Some((until, over, error)) = end(self.case, lease).filter(|_| lease.counts_leaders()) {
            let lasted =
                |from: f64, to: f64| Value { seconds: (to - from).max(0.0), error: open + over - until + error };
            let (nobody, two) = (lasted(until, takeover.seen_new), lasted(takeover.seen_old, over));
            let at_most = (Bounds::Length, window_to(lease.overlap));
            all.push(Measured::new(Check::LeaderGap, &subject, "nobody leads", (Bounds::Length, lease.gap), nobody));
            all.push(Measured::new(Check::LeaderOverlap, &subject, "two lead", at_most, two));
        }
        all
    }
}
