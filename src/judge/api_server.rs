//! ApiServerReady: API servers that no majority of etcd reaches say that they are not ready, and their kubelets start them anew; by what
//! the agents beside them saw.

use super::{
    Case, MAX_UNWATCHED, Said, Slack,
    cite::{cite, when},
    etcd::BEFORE_HEAL,
    node::TOLERANCE,
    pairs::seen_by,
    pods::{reader, unlooked_at},
    timeline::{Seen, Track, before_cut, longest_hole},
};
use crate::{
    api::{Check, Finding, FindingResult, SpanKind},
    predict::{ApiServerForecast, Certainty, interval, seconds},
};

/// As spans call it.
const COMPONENT: &str = "kube-apiserver";
const UNREAD: &str = "whether it was started anew is not known";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |server: &ApiServerForecast| {
        let said = judged(case, server).unwrap_or_else(Said::open);
        said.about(Check::ApiServerReady, &server.server, server.expected())
    };
    case.forecast.api_servers.iter().map(of).collect()
}

/// # Errors
/// With what is missing.
fn judged(case: &Case<'_>, server: &ApiServerForecast) -> Result<Said, String> {
    let track = seen_by(case, &server.server)?;
    let slack = case.slack(TOLERANCE, track);
    let (ready, started) = (readiness(case, track, server, slack)?, restart(case, track, server, slack));
    let evidence = if started.result > ready.result { started.evidence } else { ready.evidence };
    let said =
        Said::new(ready.result.max(started.result), format!("{}; {}", ready.observed, started.observed), evidence);
    Ok(said.tolerating(format!("{slack}, and {} for an answer", seconds(BEFORE_HEAL))))
}

fn readiness(case: &Case<'_>, track: &Track<'_>, server: &ApiServerForecast, slack: Slack) -> Result<Said, String> {
    let (heal, node) = (case.timeline.heal, track.node);
    let spans = track.series(SpanKind::Health, COMPONENT);
    let before = before_cut(spans).ok_or_else(|| format!("{node}: its API server was not seen before the cut"))?;
    if !before.is("ok") {
        // One that tells nobody without a token says 401.
        let said = before.span.detail.as_deref().map_or(String::new(), |d| format!(" ({d})"));
        return Err(format!("{}{said}: it was not ready before the cut, as far as it says", cite(track, before)));
    }
    if longest_hole(spans, 0.0, heal) > MAX_UNWATCHED {
        return Err(format!("{node}: its API server was not seen all through the cut"));
    }
    let Some(at) = spans.iter().position(|s| s.from > 0.0 && s.from <= heal && !s.is("ok")) else {
        let (result, observed) = match server.not_ready {
            Certainty::Must => (FindingResult::Degraded, "ready all through the cut"),
            _ => (FindingResult::Held, "stayed ready"),
        };
        return Ok(Said::new(result, observed, cite(track, before)));
    };
    let (lost, seen_ready) = (&spans[at], spans[at - 1].to);
    let edge = case.edge(BEFORE_HEAL, track);
    let again = spans[at..].iter().find(|s| s.is("ok") && s.from < heal - edge);
    let observed = format!("not ready from {}", when(lost.from, heal));
    let limit = server.readiness.latest_seconds;
    Ok(match again {
        Some(again) => {
            let observed = format!("{observed}, ready again {}", when(again.from, heal));
            Said::new(FindingResult::Degraded, observed, cite(track, again))
        }
        None if seen_ready > limit + slack.sum() + BEFORE_HEAL => {
            Said::new(FindingResult::Degraded, format!("{observed}, later than {}", seconds(limit)), cite(track, lost))
        }
        None => Said::new(FindingResult::Held, observed, cite(track, lost)),
    })
}

/// The end of a container, seconds after the cut: after the one and not after the other, its clock's error in both.
pub struct End<'c, 'a> {
    pub seen: &'c Seen<'a>,
    pub after: f64,
    pub until: f64,
}

impl End<'_, '_> {
    fn is_certainly_between(&self, from: f64, to: f64) -> bool {
        self.after > from && self.until <= to
    }
}

/// When its containers ended that may have ended while the cut lasted, by the container runtime and in order. Of one that is gone nobody
/// knows when: at the latest when the next one began.
fn ends<'c, 'a>(case: &Case<'_>, track: &'c Track<'a>) -> Vec<End<'c, 'a>> {
    let is_own = |s: &&Seen<'_>| {
        let subject = s.span.subject.as_str();
        subject.starts_with("kube-system/kube-apiserver-") && subject.ends_with("/kube-apiserver")
    };
    let own: Vec<&'c Seen<'a>> = track.of_kind(SpanKind::Container).filter(is_own).collect();
    let next = |seen: &Seen<'_>| {
        let later = own.iter().filter(|s| s.span.id != seen.span.id && s.from >= seen.to);
        later.map(|s| s.from + s.from_error).fold(f64::INFINITY, f64::min)
    };
    let end = |seen: &'c Seen<'a>| {
        let until = if seen.is("gone") { next(seen) } else { seen.to + seen.to_error };
        End { seen, after: seen.to - seen.to_error, until }
    };
    let ended = own.iter().copied().filter(|s| !s.is("running")).map(end);
    let mut ends: Vec<End<'c, 'a>> = ended.filter(|e| e.until > 0.0 && e.after < case.timeline.heal).collect();
    ends.sort_by(|a, b| a.seen.to.total_cmp(&b.seen.to));
    ends
}

/// The first end of its container that was in the cut for certain.
pub fn first_end<'c, 'a>(case: &Case<'_>, track: &'c Track<'a>) -> Option<End<'c, 'a>> {
    ends(case, track).into_iter().find(|end| end.is_certainly_between(0.0, case.timeline.heal))
}

/// Why it is not known whether its container went on until the heal.
pub fn unread(case: &Case<'_>, track: &Track<'_>) -> Option<String> {
    let heal = case.timeline.heal;
    let doubt = |end: &End<'_, '_>| format!("{}: its end may be in the cut", cite(track, end.seen));
    let unread = reader(&case.timeline, track.node).err().or_else(|| unlooked_at(track, heal, heal));
    unread.or_else(|| ends(case, track).first().map(doubt))
}

/// Whether and when it was started anew while the cut lasted.
fn restart(case: &Case<'_>, track: &Track<'_>, server: &ApiServerForecast, slack: Slack) -> Said {
    let heal = case.timeline.heal;
    let Some(first) = first_end(case, track) else {
        return match (server.restarted, unread(case, track)) {
            // Either would be as predicted.
            (Certainty::May, Some(_)) => Said::new(FindingResult::Held, UNREAD, ""),
            (Certainty::Must | Certainty::MustNot, Some(why)) => Said::new(FindingResult::Inconclusive, UNREAD, why),
            (Certainty::Must, None) => {
                let last = track.series(SpanKind::Health, COMPONENT).last();
                let evidence = last.map_or(String::new(), |s| cite(track, s));
                Said::new(FindingResult::Degraded, "not started anew", evidence)
            }
            (Certainty::May | Certainty::MustNot, None) => Said::new(FindingResult::Held, "not started anew", ""),
        };
    };
    let (window, unsure) = (&server.restart, slack.sum());
    let (earliest, latest) = (window.earliest_seconds - unsure, window.latest_seconds + unsure);
    let ended = when(first.seen.to, heal);
    let observed = match first.seen.is("gone") {
        true => format!("its container ended, last seen {ended}"),
        false => format!("its container ended {ended}"),
    };
    let evidence = cite(track, first.seen);
    match server.restarted {
        Certainty::MustNot => Said::new(FindingResult::Degraded, observed, evidence),
        _ if first.until < earliest || first.after > latest => {
            Said::new(FindingResult::Degraded, format!("{observed}, outside of {}", interval(window)), evidence)
        }
        _ if first.after < earliest || first.until > latest => {
            let observed = format!("{observed}, perhaps outside of {}", interval(window));
            Said::new(FindingResult::Noted, observed, evidence)
        }
        _ => Said::new(FindingResult::Held, observed, evidence),
    }
}
