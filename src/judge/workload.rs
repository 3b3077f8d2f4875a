//! WorkloadKept: containers on the cut side went on running, by the container runtime of their node.

use super::{
    Case, LAST_LOOK, Said,
    cite::{cite, when},
    pods::reader,
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{Certainty, WorkloadForecast, count, seconds},
    topology::{Lease, Pod, host_of},
};

/// What is said of a container that ended well where nobody restarts it.
const FINISHED: &str = "may have finished by itself: its pods are not restarted";
/// And of one that was killed though its pod was to stay.
const UNWELL: &str = "its liveness probe may need who is cut off";
/// What its runtime calls the exit code of a container that ended well.
const WELL: &str = "0";
/// And those of one that was killed, as its kubelet does it: 128 and the number of SIGKILL or SIGTERM.
const KILLED: [&str; 2] = ["137", "143"];

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |owner: &WorkloadForecast| {
        let predicted = format!("keeps running on the cut side ({})", count(owner.pods.len(), "pod"));
        kept(case, owner).about(Check::WorkloadKept, owner.subject(), predicted)
    };
    case.forecast.workloads.iter().map(of).collect()
}

fn kept(case: &Case<'_>, owner: &WorkloadForecast) -> Said {
    let (mut ended, mut kept, mut watched) = (Vec::new(), None, 0);
    for pod in &owner.pods {
        let track = match reader(&case.timeline, &pod.node) {
            Ok(track) if track.clock_known() => track,
            Ok(track) => return Said::open(format!("the clock of {} was not compared with the operator's", track.who)),
            Err(why) => return Said::open(why),
        };
        for container in &pod.containers {
            match container_kept(case, track, pod, container) {
                Ok(Fate::Kept(seen)) => {
                    watched += 1;
                    kept = Some(cite(track, seen));
                }
                Ok(Fate::Ended(seen)) => ended.push(said_of_end(case, owner, (pod, container), (track, seen))),
                Ok(Fate::NotRunning) => {}
                Err(why) => return Said::open(why),
            }
        }
    }
    let said = Said::worst(ended).unwrap_or_else(|| match kept {
        None => Said::new(FindingResult::Noted, "nothing ran at the cut", ""),
        Some(kept) => {
            Said::new(FindingResult::Held, format!("{} ran through the cut", count(watched, "container")), kept)
        }
    });
    said.tolerating(format!("none, but {} of clocks before the heal", seconds(case.allowed_clock_error())))
}

/// What is said of a container of a pod that ended in the cut.
fn said_of_end(
    case: &Case<'_>,
    owner: &WorkloadForecast,
    (pod, container): (&Pod, &str),
    (track, seen): (&Track<'_>, &Seen<'_>),
) -> Said {
    let ended = format!("{}/{container} ended {}", pod.name, when(seen.to, case.timeline.heal));
    let code = seen.span.told("exit");
    let with = code.filter(|code| *code != WELL).map_or(String::new(), |code| format!(" with exit code {code}"));
    let (result, observed) = match (owner.may_finish(), code) {
        _ if is_out_of_memory(seen) => {
            (FindingResult::Noted, format!("{ended}: it needed more memory than it may have"))
        }
        _ if may_end(case, owner, pod) => (FindingResult::Noted, format!("{ended}{with}")),
        (true, Some(WELL)) => (FindingResult::Noted, format!("{ended}, {FINISHED}")),
        (_, None) => (FindingResult::Inconclusive, format!("{ended}, and how is not known")),
        // A kubelet ends it by a signal, and this is none.
        (_, Some(code)) if code != WELL && !KILLED.contains(&code) => {
            (FindingResult::Noted, format!("{ended}: failed by itself, exit code {code}"))
        }
        (false, Some(code)) if is_started_again(case, track, pod, seen) => match code {
            WELL => (FindingResult::Noted, format!("{ended} and was started again")),
            _ => (FindingResult::Degraded, format!("{ended}{with} and was started again: {UNWELL}")),
        },
        _ => (FindingResult::Violated, format!("{ended}{with}")),
    };
    Said::new(result, observed, cite(track, seen))
}

/// Whether a container of this pod's was started on this node after this one had ended: nobody had told the kubelet to end the pod.
fn is_started_again(case: &Case<'_>, track: &Track<'_>, pod: &Pod, ended: &Seen<'_>) -> bool {
    let own = case.pods.containers(&pod.uid).iter().filter(|c| c.node == track.node).map(|c| &c.seen);
    own.filter(|s| s.span.subject == ended.span.subject).any(|s| s.from >= ended.to)
}

/// The kernel killed it, as its runtime says, and no kubelet.
fn is_out_of_memory(seen: &Seen<'_>) -> bool {
    seen.span.detail.as_deref().is_some_and(|detail| detail.contains("OOMKilled"))
}

enum Fate<'c, 'a> {
    Kept(&'c Seen<'a>),
    Ended(&'c Seen<'a>),
    /// It had ended before the cut.
    NotRunning,
}

fn container_kept<'c, 'a>(
    case: &'c Case<'a>,
    track: &Track<'a>,
    pod: &Pod,
    name: &str,
) -> Result<Fate<'c, 'a>, String> {
    let subject = format!("{}/{name}", pod.subject());
    let own = || case.pods.containers(&pod.uid).iter().filter(|c| c.node == track.node).map(|c| &c.seen);
    let of = || own().filter(|s| s.span.subject == subject);
    if of().next().is_none() {
        return Err(format!("{}: container {subject} was never seen", track.who));
    }
    let heal = case.timeline.heal;
    // Its node heals by its own clock, and may have heard that it is to end that much before the common instant.
    let own_heal = heal - case.allowed_clock_error();
    let Some(seen) = of().filter(|s| s.from <= 0.0).max_by(|a, b| a.to.total_cmp(&b.to)) else {
        return Err(format!("{}: container {subject} was not seen at the cut", track.who));
    };
    match seen.is("exited") {
        true if seen.to < -seen.to_error => Ok(Fate::NotRunning),
        true if seen.to < seen.to_error => Err(format!("{}: before or in the cut, by the clocks", cite(track, seen))),
        true if seen.to + seen.to_error < own_heal => Ok(Fate::Ended(seen)),
        // Seen running after the heal it was kept, whatever became of it then.
        false if seen.is("gone") && seen.to < heal + seen.to_error => {
            Err(format!("{}: its end was not seen", cite(track, seen)))
        }
        false if seen.to < heal - LAST_LOOK => {
            let unwatched = seconds(heal - seen.to);
            Err(format!("{}: container {subject} was not looked at for the last {unwatched} of the cut", track.who))
        }
        _ => Ok(Fate::Kept(seen)),
    }
}

/// A process that leads by a Lease ends when it loses it, and replicas of this operator hand over. A kubelet that is heard now and then
/// is told that its pods are evicted, and ends them.
fn may_end(case: &Case<'_>, owner: &WorkloadForecast, pod: &Pod) -> bool {
    if !case.evidence.plan.pattern.is_steady() && owner.evicted != Certainty::MustNot {
        return true;
    }
    let is_holder = |l: &Lease| l.namespace == pod.namespace && host_of(&l.holder) == pod.name;
    let leads = case.forecast.leases.iter().any(|l| l.cut_off && is_holder(&l.lease));
    leads || case.evidence.snapshot.operators.iter().any(|o| o.pod == pod.name)
}
