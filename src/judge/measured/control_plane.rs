//! etcd and the API servers: when each side is as predicted for good, for how long nobody can write, and how old answers get.

use super::{Measured, Ruler, Value, first_seen, window_to};
use crate::{
    api::{Bounds, Check, Prospect, SpanKind, Window},
    judge::{
        api_server::{first_end, unread},
        api_writable::longest_gap,
        etcd::BEFORE_HEAL,
        pairs::seen_by,
        stale_read::cache_behind,
        timeline::{Seen, Track, before_cut},
        tried::LOCAL_CANARY,
    },
    predict::{ApiForecast, ApiServerForecast, Certainty, EtcdForecast, StaleForecast},
};

impl Ruler<'_, '_> {
    /// From when on each member was as predicted of its side.
    pub fn etcd(&self, side: &EtcdForecast) -> Vec<Measured> {
        let (leads, how) = match side.leader {
            Prospect::Yes => (true, "healthy from then on"),
            Prospect::No => (false, "without a leader from then on"),
            Prospect::Maybe => return Vec::new(),
        };
        let settled = (Bounds::AfterCut, window_to(side.settled));
        let of = |node: &String| {
            let since = self.settled(seen_by(self.case, node).ok()?, leads)?;
            Some(Measured::new(Check::EtcdQuorum, &side.side, format!("{node} {how}"), settled, since))
        };
        side.members.iter().filter_map(of).collect()
    }

    /// From when on a member that was healthy before the cut had a leader at every look, or at none, seconds after it.
    fn settled(&self, track: &Track<'_>, leads: bool) -> Option<Value> {
        let spans = track.series(SpanKind::Health, "etcd");
        // One look near the heal may have been answered after it.
        let until = self.heal - self.case.edge(BEFORE_HEAL, track);
        before_cut(spans).filter(|s| s.is("ok"))?;
        if until <= 0.0 || !self.is_looked_at(spans, until) {
            return None;
        }
        let is_otherwise = |s: &Seen<'_>| s.from <= until && s.is("ok") != leads;
        let Some(last) = spans.iter().rposition(is_otherwise) else {
            return Some(Value { seconds: 0.0, error: track.error });
        };
        match spans.get(last + 1) {
            Some(next) if next.from <= until => Some(first_seen(spans, last + 1).after(0.0)),
            _ => Some(Value { seconds: self.heal, error: track.error }),
        }
    }

    /// Where writes work the longest time without one, and elsewhere the last one.
    pub fn writes(&self, side: &ApiForecast) -> Vec<Measured> {
        let of = |what: String, bounds, value| {
            Measured::new(Check::ApiWritable, &side.side, what, (bounds, window_to(side.seconds)), value)
        };
        match side.writable {
            Prospect::Yes => {
                let longest = longest_gap(self.case, side).ok().map(|(seconds, error)| Value { seconds, error });
                let what = "longest without an acknowledged write";
                longest.map(|longest| of(what.into(), Bounds::Length, longest)).into_iter().collect()
            }
            Prospect::No => {
                let last = |server: &String| {
                    let what = format!("{server}: last acknowledged write");
                    Some(of(what, Bounds::AfterCut, self.last_acknowledged(server)?))
                };
                side.servers.iter().filter_map(last).collect()
            }
            Prospect::Maybe => Vec::new(),
        }
    }

    /// By its own node, seconds after the cut; 0 where it was before that.
    fn last_acknowledged(&self, server: &str) -> Option<Value> {
        let track = seen_by(self.case, server).ok()?;
        let spans = track.series(SpanKind::Canary, server);
        // One that was begun before the heal may be acknowledged after it.
        let until = self.heal - self.case.edge(LOCAL_CANARY, track);
        if until <= 0.0 || !self.is_looked_at(spans, until) {
            return None;
        }
        let last = spans.iter().rfind(|s| s.is("acknowledged") && s.from <= until)?;
        Some(Value { seconds: last.to.clamp(0.0, self.heal), error: last.to_error })
    }

    pub fn api_server(&self, server: &ApiServerForecast) -> Vec<Measured> {
        let Some(track) = self.case.timeline.agent(&server.server) else { return Vec::new() };
        let of = |subject: String, what: &str, bounded: (Bounds, Window), value: Value| {
            Measured::new(Check::ApiServerReady, subject, what, bounded, value)
        };
        let lost = self.lost(track, SpanKind::Health, "kube-apiserver", |s| s.is("ok"));
        let unready = lost.filter(|_| server.not_ready != Certainty::MustNot);
        let within = (Bounds::AfterCut, server.readiness);
        let unready = unready.map(|at| of(server.server.clone(), "not ready", within, at));
        let first = first_end(self.case, track);
        let is_over = first.is_some();
        // Of one that is gone nobody knows when.
        let ended = first.filter(|end| !end.seen.is("gone")).map(|end| end.seen);
        let ended = ended.map(|s| Value { seconds: s.to, error: s.to_error });
        let container = match server.restarted {
            Certainty::MustNot => {
                let went_on = !is_over && unread(self.case, track).is_none();
                let until = ended.or_else(|| went_on.then(|| self.to_the_heal()));
                until.map(|until| of(server.container(), "its container runs", self.all_through(), until))
            }
            Certainty::May | Certainty::Must => {
                ended.map(|at| of(server.container(), "its container ended", (Bounds::AfterCut, server.restart), at))
            }
        };
        unready.into_iter().chain(container).collect()
    }

    /// How old what a side's API servers answered from their watch caches was.
    pub fn stale(&self, stale: &StaleForecast) -> Vec<Measured> {
        let evidence = &self.case.evidence;
        let Some(side) = evidence.sides.iter().find(|s| s.name == stale.side) else { return Vec::new() };
        let at_most = (Bounds::Length, window_to(stale.seconds));
        let of = |server: &str| {
            let (seconds, error) = cache_behind(self.case, side, server).ok()?;
            let (what, behind) = (format!("{server}: its watch cache behind"), Value { seconds, error });
            Some(Measured::new(Check::StaleRead, &stale.side, what, at_most, behind))
        };
        let read = evidence.plan.registers().filter(|node| stale.servers.iter().any(|s| s == node));
        read.filter_map(of).collect()
    }
}
