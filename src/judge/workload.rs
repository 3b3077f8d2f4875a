//! WorkloadKept: containers on the cut side went on running, by the container runtime of their node.

use super::{
    Case, LAST_LOOK, Said,
    cite::{cite, some, when},
    pods::reader,
    timeline::{Seen, Track},
};
use crate::{
    api::{Check, Finding, FindingResult},
    predict::{Certainty, WorkloadForecast, count, seconds},
    topology::Pod,
};

/// What is said of a container that ended where nobody restarts it.
const FINISHED: &str = "may have finished by itself: its pods are not restarted";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let of = |owner: &WorkloadForecast| {
        let predicted = format!("keeps running on the cut side ({})", count(owner.pods.len(), "pod"));
        kept(case, owner).about(Check::WorkloadKept, owner.subject(), predicted)
    };
    case.forecast.workloads.iter().map(of).collect()
}

fn kept(case: &Case<'_>, owner: &WorkloadForecast) -> Said {
    let (mut ended, mut excused, mut evidence, mut watched) = (Vec::new(), Vec::new(), String::new(), 0);
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
                    if ended.is_empty() && excused.is_empty() {
                        evidence = cite(track, seen);
                    }
                }
                Ok(Fate::Ended(seen)) => {
                    let words = format!("{}/{container} ended {}", pod.name, when(seen.to, case.timeline.heal));
                    evidence = cite(track, seen);
                    match () {
                        _ if may_end(case, owner, pod) => excused.push(words),
                        _ if owner.may_finish() => excused.push(format!("{words}, {FINISHED}")),
                        _ => ended.push(words),
                    }
                }
                Ok(Fate::NotRunning) => {}
                Err(why) => return Said::open(why),
            }
        }
    }
    match (ended.is_empty(), excused.is_empty()) {
        (false, _) => Said::new(FindingResult::Violated, some(&ended), evidence),
        (true, false) => Said::new(FindingResult::Noted, some(&excused), evidence),
        _ if watched == 0 => Said::new(FindingResult::Noted, "nothing ran at the cut", evidence),
        _ => Said::new(FindingResult::Held, format!("{} ran through the cut", count(watched, "container")), evidence),
    }
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
    let leads = case.forecast.leases.iter().any(|l| l.cut_off && l.lease.holder.starts_with(&pod.name));
    leads || case.evidence.snapshot.operators.iter().any(|o| o.pod == pod.name)
}
