//! LeaderGap and LeaderOverlap: from the end of the old holder's process, by its container runtime or else by what it said of itself, to
//! the new holder's Lease.

use super::{
    Case, LAST_LOOK, Said,
    cite::{cite, when},
    lease::Takeover,
    lease_renewal::Renewal,
    pods::unread_container,
    timeline::{Seen, Track},
};
use crate::{
    api::{FindingResult, LEADER_UNREAD, LEADING, SpanKind},
    predict::{LeaseForecast, interval, seconds},
};

/// The end of a process on the operator's clock, seconds, each time give or take `error`. The operator's own error is in it where it is
/// compared with a takeover.
struct Ending<'s, 'a> {
    track: &'s Track<'a>,
    seen: &'s Seen<'a>,
    /// It went on at least until then.
    until: f64,
    /// It was over by then: at once by its runtime, and infinite where it was still running when it was last looked at.
    over: f64,
    error: f64,
    /// How long ago a look may be that says that it is still running, seconds.
    patience: f64,
}

impl Ending<'_, '_> {
    fn running(&self) -> bool {
        self.over.is_infinite()
    }
    fn ended(&self, heal: f64) -> String {
        match self.over > self.until {
            true => format!("between {} and {}", when(self.until, heal), when(self.over, heal)),
            false => when(self.until, heal),
        }
    }
}

/// Gap and overlap of one Lease.
pub fn judge(case: &Case<'_>, lease: &LeaseForecast, takeover: Option<&Takeover<'_, '_>>) -> (Said, Said) {
    let open = |why: String| (Said::open(why.clone()), Said::open(why));
    let ending = match ending(case, lease) {
        Ok(ending) => ending,
        Err(why) => return open(why),
    };
    let Some(takeover) = takeover else {
        return open("the Lease was not seen to move, so nothing can be measured".into());
    };
    if !ending.error.is_finite() {
        return open(format!("the clock of {} was not compared with the operator's", ending.track.who));
    }
    if ending.running() && ending.until < takeover.seen_new - ending.patience {
        let unknown = seconds(takeover.seen_new - ending.until);
        return open(format!(
            "{}: nothing is known for {unknown} before the takeover",
            cite(ending.track, ending.seen)
        ));
    }
    let ending = Ending { error: ending.error + takeover.error, ..ending };
    let clocks = format!("± {} of clocks", seconds(ending.error));
    let late = format!("{} after a late answer, {clocks}", seconds(lease.overlap));
    (gap(case, lease, takeover, &ending).tolerating(clocks), overlap(lease, takeover, &ending).tolerating(late))
}

/// Whether the old holder's process certainly went on until then, or led by its own word: seconds after the cut.
pub fn went_on(case: &Case<'_>, lease: &LeaseForecast, until: f64) -> bool {
    lease.tells_its_end() && ending(case, lease).is_ok_and(|end| end.until - end.error > until)
}

/// Until when the old holder's process led for certain and by when it was over, seconds after the cut, and the error of both. `None` where
/// it was not seen to end.
pub fn end(case: &Case<'_>, lease: &LeaseForecast) -> Option<(f64, f64, f64)> {
    let ending = ending(case, lease).ok().filter(|end| !end.running() && end.error.is_finite())?;
    Some((ending.until, ending.over, ending.error))
}

fn gap(case: &Case<'_>, lease: &LeaseForecast, takeover: &Takeover<'_, '_>, end: &Ending<'_, '_>) -> Said {
    let evidence = cite(end.track, end.seen);
    if end.running() {
        return Said::new(FindingResult::Noted, "none: the old holder's process went on", evidence);
    }
    let (least, most) = (takeover.seen_old - end.over - end.error, takeover.seen_new - end.until + end.error);
    let ended = format!("old process ended {}", end.ended(case.timeline.heal));
    let observed = match most {
        most if most <= 0.0 => format!("none; {ended}"),
        _ => format!("{}–{}; {ended}", seconds(least.max(0.0)).trim_end_matches(" s"), seconds(most)),
    };
    // Earlier than predicted is no harm: what would be, two leaders, is the other finding.
    let latest = lease.gap.latest_seconds;
    // A renewal that was written when nobody led any more makes candidates wait anew.
    let renewed = Renewal::seen(case, &lease.lease, takeover.old).until.filter(|until| *until > end.until - end.error);
    let observed = match renewed {
        Some(seen) if least > latest => {
            format!("{observed}; not counted from there, for a renewal was seen {}", when(seen, case.timeline.heal))
        }
        _ => observed,
    };
    let result = match (least > latest, most > latest) {
        (true, _) if renewed.is_some() => FindingResult::Inconclusive,
        (true, _) => FindingResult::Degraded,
        // By no more than clocks and polls.
        (false, true) => FindingResult::Noted,
        (false, false) => FindingResult::Held,
    };
    Said::new(result, observed, evidence)
}

fn overlap(lease: &LeaseForecast, takeover: &Takeover<'_, '_>, end: &Ending<'_, '_>) -> Said {
    let definite = end.until - end.error - takeover.seen_new;
    let possible = end.over + end.error - takeover.seen_old;
    let margin = || seconds(takeover.seen_old - end.over - end.error);
    let (result, observed) = match lease.overlap {
        bound if definite > bound => {
            (FindingResult::Violated, format!("two leaders for {} or longer", seconds(definite)))
        }
        _ if possible <= 0.0 => (FindingResult::Held, format!("none, by {} or more", margin())),
        _ if definite > 0.0 && end.running() => {
            (FindingResult::Inconclusive, format!("two leaders for {} or longer", seconds(definite)))
        }
        // Documented, as client-go fences nobody, and not even proven.
        bound if possible <= bound && definite <= 0.0 => {
            let by = if end.over > end.until { "clocks and samples" } else { "the clocks' error" };
            (FindingResult::Held, format!("none proven; at most {} by {by}", seconds(possible)))
        }
        bound if possible <= bound => {
            let least = seconds(definite);
            (FindingResult::Noted, format!("two leaders for {}–{}", least.trim_end_matches(" s"), seconds(possible)))
        }
        bound => {
            let allowed = interval(&crate::api::Window { earliest_seconds: 0.0, latest_seconds: bound });
            let proven = if definite > 0.0 { "" } else { "none proven; " };
            let most = if end.running() { "longer".into() } else { seconds(possible) };
            (FindingResult::Inconclusive, format!("{proven}at most {most}, more than {allowed}, by clocks and samples"))
        }
    };
    Said::new(result, observed, cite(end.track, end.seen))
}

fn ending<'s, 'a>(case: &'s Case<'a>, lease: &LeaseForecast) -> Result<Ending<'s, 'a>, String> {
    let node = lease.lease.holder_node.as_deref().unwrap_or_default();
    let track = case.timeline.agent(node).ok_or_else(|| format!("no record of {node}"))?;
    by_runtime(track, lease).or_else(|why| by_itself(track, lease).ok_or(why))
}

fn by_runtime<'s, 'a>(track: &'s Track<'a>, lease: &LeaseForecast) -> Result<Ending<'s, 'a>, String> {
    let node = track.node;
    if !track.status.reads_containers {
        return Err(format!("{node}: the container runtime is not read"));
    }
    // Which may be the holder's.
    if let Some(why) = unread_container(track) {
        return Err(why);
    }
    let process = |s: &&Seen<'_>| is_holder(s, lease) && s.from <= 0.0 && (s.to > 0.0 || !s.is("exited"));
    let seen =
        track.of_kind(SpanKind::Container).filter(process).max_by(|a, b| a.to.total_cmp(&b.to)).ok_or_else(|| {
            format!("{node}: the container of {} was not seen running at the cut", lease.lease.holder)
        })?;
    if seen.is("gone") {
        return Err(format!("{}: its end was not seen", cite(track, seen)));
    }
    let error = if track.clock_known() { seen.to_error } else { f64::INFINITY };
    let over = if seen.is("exited") { seen.to } else { f64::INFINITY };
    Ok(Ending { track, seen, until: seen.to, over, error, patience: LAST_LOOK })
}

/// By its own metric: it led for as long as it said so at every look from before the cut on, and it was over when another process or
/// nobody listened in its place. That it no longer says so is no end: while client-go releases a Lease (`release` in
/// `tools/leaderelection/leaderelection.go`, up to RenewDeadline) the metric is 0 and what it leads goes on.
fn by_itself<'s, 'a>(track: &'s Track<'a>, lease: &LeaseForecast) -> Option<Ending<'s, 'a>> {
    if lease.lease.namespace != "kube-system" {
        return None;
    }
    let spans = track.series(SpanKind::LeaderMetric, &lease.lease.name);
    let (_, from_cut) = spans.split_at(spans.iter().rposition(|s| s.from <= 0.0)?);
    let first = from_cut.first().filter(|s| s.is(LEADING) && s.span.id.is_some())?;
    let is_same = |s: &&Seen<'_>| s.span.id == first.span.id;
    let over = from_cut.iter().find(|s| !is_same(s));
    let said = from_cut.iter().take_while(is_same).filter(|s| !s.is(LEADER_UNREAD)).take_while(|s| s.is(LEADING));
    // Whoever was silent for longer may have lost it and led anew.
    let seen = said.fold(first, |seen, later| if later.from - seen.to > LAST_LOOK { seen } else { later });
    let error = over.map_or(seen.to_error, |over| seen.to_error.max(over.from_error));
    let error = if track.clock_known() { error } else { f64::INFINITY };
    let over = over.map_or(f64::INFINITY, |over| over.from.max(seen.to));
    Some(Ending { track, seen, until: seen.to, over, error, patience: 0.0 })
}

/// Whether a container is the holder: a component's is named like its Lease, another's pod is named by the identity.
fn is_holder(seen: &Seen<'_>, lease: &LeaseForecast) -> bool {
    let mut parts = seen.span.subject.split('/');
    let (Some(namespace), Some(pod), Some(container)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    namespace == lease.lease.namespace && (container == lease.lease.name || lease.lease.holder.starts_with(pod))
}
