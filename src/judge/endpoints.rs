//! EndpointsRemoved: when pods of nodes that no writable side hears leave the EndpointSlices of their Services, and API servers that lost
//! etcd the Service `kubernetes`, and when they are back; by what the operator saw.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{cite, when},
    followed::followed_pods,
    heal_damage::LOOK,
    node::TOLERANCE,
    pods::{Gone, is_active, is_ready},
    timeline::{Seen, Track, before_cut, longest_hole},
};
use crate::{
    api::{
        Check, ENDPOINT_NONE, ENDPOINT_PARTLY, ENDPOINT_READY, Finding, FindingResult, KUBERNETES_SERVICE, SpanKind,
        Window,
    },
    predict::{
        Certainty, EndpointsForecast, ServiceForecast,
        constants::{ENDPOINT_SLICE_UPDATE, SERVICE_RETURN},
        count, interval,
    },
    topology::Pod,
};
use std::collections::BTreeMap;

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let followed = followed_pods(case.evidence.snapshot, case.evidence.sides);
    let mut sides: BTreeMap<&str, Vec<&EndpointsForecast>> = BTreeMap::new();
    for node in &case.forecast.endpoints {
        sides.entry(&node.side).or_default().push(node);
    }
    let pods = sides.into_iter().filter_map(|(side, nodes)| {
        let said = of_side(case, &nodes, &followed)?;
        Some(about(case, said, format!("{side}: {}", count(ready_pods(&nodes), "ready pod"))))
    });
    let servers = case.forecast.service.iter().map(|server| {
        let subject = format!("{KUBERNETES_SERVICE}/{}", server.server);
        about(case, of_server(case, server, &subject), subject)
    });
    pods.chain(servers).collect()
}

fn about(case: &Case<'_>, said: Said, subject: String) -> Finding {
    let mut predictions = case.forecast.predictions.iter();
    let predicted = predictions.find(|p| p.check == Check::EndpointsRemoved && p.subject == subject);
    let predicted = predicted.map_or(String::new(), |p| p.expected.clone());
    said.about(Check::EndpointsRemoved, subject, predicted)
}

/// `None` where no Service selects any of the pods.
fn of_side(case: &Case<'_>, nodes: &[&EndpointsForecast], followed: &[&Pod]) -> Option<Said> {
    let track = match case.operator() {
        Ok(track) => track,
        Err(why) => return Some(Said::open(why)),
    };
    let (mut all, mut unready, mut looked_at) = (Vec::new(), Vec::new(), 0);
    for node in nodes {
        for pod in followed.iter().filter(|p| p.node == node.node && node.pods.contains(&p.subject())) {
            looked_at += 1;
            let spans = track.series(SpanKind::Endpoint, &pod.subject());
            match before_cut(spans) {
                // No Service selects it.
                Some(before) if before.is(ENDPOINT_NONE) => {}
                Some(before) if !is_there(before) => unready.push(not_ready(track, before)),
                _ => all.push(of_pod(case, track, node, pod, spans)),
            }
        }
    }
    if looked_at == 0 {
        return Some(Said::open("operator: it followed none of them"));
    }
    // Only where no other one is left is that a reason to know nothing.
    let mut said = Said::worst(all).or_else(|| Some(Said::open(unready.first()?.clone())))?;
    if !unready.is_empty() {
        said.observed += &format!("; {} not ready before the cut left out", count(unready.len(), "pod"));
    }
    let ready = ready_pods(nodes);
    if looked_at < ready {
        said.observed += &format!("; {looked_at} of {ready} were followed");
    }
    Some(said)
}

fn ready_pods(nodes: &[&EndpointsForecast]) -> usize {
    nodes.iter().map(|n| n.pods.len()).sum()
}

fn of_pod(case: &Case<'_>, track: &Track<'_>, node: &EndpointsForecast, pod: &Pod, spans: &[Seen<'_>]) -> Said {
    let said = pod_due(case, node, pod).and_then(|due| {
        let deleted = case.pods.api_pod(&pod.uid).and_then(|p| p.seen.iter().find(|s| !is_active(s)));
        let deleted = deleted.map(|s| s.from);
        let expected = Expected { name: &pod.name, leave: node.leave, window: node.window, deleted, due };
        judged(case, track, spans, &expected)
    });
    said.unwrap_or_else(Said::open)
}

fn of_server(case: &Case<'_>, server: &ServiceForecast, subject: &str) -> Said {
    let said = case.operator().and_then(|track| {
        let spans = track.series(SpanKind::Endpoint, subject);
        let due = Some(server_due(case, track, server));
        let (leave, window) = (server.dropped, server.window);
        let expected = Expected { name: &server.server, leave, window, deleted: None, due };
        judged(case, track, spans, &expected)
    });
    said.unwrap_or_else(Said::open)
}

/// What is predicted of one endpoint.
struct Expected<'p> {
    name: &'p str,
    leave: Certainty,
    /// When, seconds after the cut.
    window: Window,
    /// When it was first seen being deleted or ended, seconds after the cut: for that it leaves as well.
    deleted: Option<f64>,
    /// `None` where it need not be back.
    due: Option<Due>,
}

/// Until when something that left must be back, seconds after the cut.
struct Due {
    at: f64,
    /// Why it may have more time than that, as far as anybody knows.
    doubt: Option<String>,
}

/// A pod is back when its kubelet has put it right, or a moment after it was ready again. It need not be where it was deleted, or is not
/// ready itself: that is for other checks.
///
/// # Errors
/// Where nobody saw it after the heal.
fn pod_due(case: &Case<'_>, node: &EndpointsForecast, pod: &Pod) -> Result<Option<Due>, String> {
    let heal = case.timeline.heal;
    let usual = heal + node.back.latest_seconds;
    let unseen = || format!("operator: pod {} was not seen after the heal", pod.subject());
    let api = case.pods.api_pod(&pod.uid).ok_or_else(unseen)?;
    if !api.seen.iter().all(is_active) {
        return Ok(None);
    }
    match case.pods.gone(api) {
        Gone::By(_) => return Ok(None),
        Gone::Unlisted(_) => {
            let doubt = format!("operator: pod {} was deleted or is no longer selected", pod.subject());
            return Ok(Some(Due { at: usual, doubt: Some(doubt) }));
        }
        Gone::No if api.last() < heal => return Err(unseen()),
        Gone::No => {}
    }
    let ready = api.seen.iter().find(|s| s.to >= heal && is_ready(s));
    Ok(ready.map(|s| Due { at: usual.max(s.from.max(heal) + ENDPOINT_SLICE_UPDATE), doubt: None }))
}

/// An API server is back soon after the heal, or after it writes again: it may have had to be started anew, and one that is being ended
/// at the heal may write for a moment before that.
fn server_due(case: &Case<'_>, operator: &Track<'_>, server: &ServiceForecast) -> Due {
    let heal = case.timeline.heal;
    let usual = heal + server.back.latest_seconds;
    let mut writes = operator.series(SpanKind::Canary, &server.server).iter().filter(|s| s.to >= heal).peekable();
    if writes.peek().is_none() {
        let doubt = format!("operator: no write through {} was tried after the heal", server.server);
        return Due { at: usual, doubt: Some(doubt) };
    }
    // From when on it did not write. That it stops again when it had to be back is no excuse.
    let (mut at, mut silent) = (usual, Some(heal));
    for write in writes {
        match (silent, write.is("acknowledged")) {
            (Some(from), true) if from < at => {
                at = at.max(write.from.max(heal) + SERVICE_RETURN);
                silent = None;
            }
            (_, true) => silent = None,
            (None, false) => silent = Some(write.from),
            (Some(_), false) => {}
        }
    }
    // As long as it does not write it can't come back.
    Due { at: if silent.is_some_and(|from| from < at) { f64::INFINITY } else { at }, doubt: None }
}

/// # Errors
/// With what was not seen.
fn judged(case: &Case<'_>, track: &Track<'_>, spans: &[Seen<'_>], expected: &Expected<'_>) -> Result<Said, String> {
    let (heal, name) = (case.timeline.heal, expected.name);
    let before = before_cut(spans);
    let before = before.ok_or_else(|| format!("operator: the endpoints of {name} were not seen before the cut"))?;
    if !is_there(before) {
        return Err(not_ready(track, before));
    }
    if longest_hole(spans, 0.0, heal) > MAX_UNWATCHED {
        return Err(format!("operator: the endpoints of {name} were not seen all through the cut"));
    }
    // Later than this it leaves for another reason.
    let last = match expected.leave {
        Certainty::MustNot => heal,
        _ => case.last_of_the_cut(&expected.window),
    };
    let at = spans.iter().position(|s| s.from > 0.0 && !is_there(s)).filter(|at| spans[*at].from <= last);
    let Some(at) = at else {
        let result = if expected.leave == Certainty::Must { FindingResult::Degraded } else { FindingResult::Held };
        let last = spans.iter().rfind(|s| s.meets(0.0, heal)).unwrap_or(before);
        return Ok(Said::new(result, format!("{name} stayed"), cite(track, last)));
    };
    let slack = case.slack(TOLERANCE, track);
    let left = left(case, track, spans, at, expected).tolerating(slack.to_string());
    let Some(due) = &expected.due else { return Ok(left) };
    let back = back(case, track, &spans[at..], due);
    let evidence = if back.result > left.result { back.evidence } else { left.evidence };
    let observed = format!("{} and {}", left.observed, back.observed);
    Ok(Said::new(left.result.max(back.result), observed, evidence).tolerating(slack.to_string()))
}

pub fn is_there(seen: &Seen<'_>) -> bool {
    seen.is(ENDPOINT_READY) || seen.is(ENDPOINT_PARTLY)
}

fn not_ready(track: &Track<'_>, before: &Seen<'_>) -> String {
    format!("{}: it was not ready before the cut", cite(track, before))
}

/// `at`: the span in which it is gone.
fn left(case: &Case<'_>, track: &Track<'_>, spans: &[Seen<'_>], at: usize, expected: &Expected<'_>) -> Said {
    let (gone, last_there, window) = (&spans[at], spans[at - 1].to, &expected.window);
    let mut observed = format!("{} left {}", expected.name, when(gone.from, case.timeline.heal));
    // It was first seen gone at `from`, and not at the look before.
    let unsure = case.edge(TOLERANCE, track);
    let (is_early, is_late) =
        (gone.from < window.earliest_seconds - unsure, last_there > window.latest_seconds + unsure);
    // Pods and EndpointSlices are looked at by themselves: what came first may have been seen last.
    let was_deleted = expected.deleted.is_some_and(|at| at <= gone.from + LOOK);
    let result = match expected.leave {
        // Whether it should have been is for other checks. One that had to leave before is late all the same.
        leave if was_deleted && (is_early || leave != Certainty::Must) => {
            observed += ", being deleted";
            FindingResult::Noted
        }
        Certainty::MustNot => FindingResult::Degraded,
        _ if is_early || is_late => {
            observed += &format!(", outside of {}", interval(window));
            FindingResult::Degraded
        }
        _ => FindingResult::Held,
    };
    Said::new(result, observed, cite(track, gone))
}

/// `spans`: from the first on in which it is gone.
fn back(case: &Case<'_>, track: &Track<'_>, spans: &[Seen<'_>], due: &Due) -> Said {
    let heal = case.timeline.heal;
    let latest = due.at + case.edge(TOLERANCE, track);
    // A lateness that may have its reason is none that anybody knows of.
    let late = |observed: String, seen: &Seen<'_>| match &due.doubt {
        None => Said::new(FindingResult::Degraded, observed, cite(track, seen)),
        Some(doubt) => Said::new(FindingResult::Inconclusive, observed, doubt.clone()),
    };
    let Some(at) = spans.iter().position(|s| s.is(ENDPOINT_READY) && s.to >= heal) else {
        let Some(last) = spans.last() else { return Said::open("operator: nothing was seen after it left") };
        return match last.to > latest {
            true => late("was not back by the end of watching".into(), last),
            false => Said::new(FindingResult::Inconclusive, "was not back when it was last seen", cite(track, last)),
        };
    };
    let (still_gone, returned) = (spans[..at].last().map_or(0.0, |s| s.to), &spans[at]);
    let observed = format!("was back {}", when(returned.from, heal));
    match () {
        _ if still_gone > latest => late(format!("{observed}, later than {}", when(due.at, heal)), returned),
        _ if returned.from > latest && returned.from - still_gone > MAX_UNWATCHED => {
            let why = format!("{}: not seen for long before", cite(track, returned));
            Said::new(FindingResult::Inconclusive, observed, why)
        }
        _ => Said::new(FindingResult::Held, observed, cite(track, returned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    #[test]
    fn pods_that_nobody_follows_are_open() {
        let run = passing();
        let evidence = run.evidence();
        let case = Case::new(&evidence);
        let nodes: Vec<&EndpointsForecast> = case.forecast.endpoints.iter().collect();
        let said = of_side(&case, &nodes, &[]).unwrap();
        assert_eq!((said.result, said.observed.as_str()), (FindingResult::Inconclusive, "not known"));
        assert_eq!(said.evidence, "operator: it followed none of them");
    }
}
