//! Pods that are cut off: how long they run, when they are deleted and gone, when a second copy starts, and when a disruption budget is
//! crossed by that.

use super::{Measured, Ruler, Value, first_seen};
use crate::{
    api::{Bounds, Check},
    judge::{
        LAST_LOOK,
        heal_budgets::first_crossed,
        pods::{Container, is_deleted, reader},
        timeline::{Seen, overlap},
    },
    predict::{BudgetForecast, Certainty, Replacement, WorkloadForecast},
    topology::Pod,
};

impl<'c, 'a> Ruler<'c, 'a> {
    pub fn workload(&self, workload: &WorkloadForecast) -> Vec<Measured> {
        let mut all = self.evicted(workload);
        all.extend(self.kept(workload).map(|until| {
            let what = "its containers run";
            Measured::new(Check::WorkloadKept, workload.subject(), what, self.all_through(), until)
        }));
        all.extend(self.doubled(workload));
        all.extend(self.stuck(workload));
        all
    }

    fn evicted(&self, workload: &WorkloadForecast) -> Vec<Measured> {
        let eviction = workload.eviction.filter(|_| workload.evicted != Certainty::MustNot);
        let Some(eviction) = eviction else { return Vec::new() };
        let of = |pod: &Pod| {
            let (seen, at) = self.deletion(workload, pod)?;
            let (what, predicted) = (format!("{} deleted", pod.name), (Bounds::AfterCut, eviction));
            Some(Measured::new(Check::WorkloadEvicted, workload.subject(), what, predicted, first_seen(seen, at)))
        };
        workload.pods.iter().filter_map(of).collect()
    }

    /// What the API said of a pod, and from where on it was being deleted for the cut.
    fn deletion(&self, workload: &WorkloadForecast, pod: &Pod) -> Option<(&'c [Seen<'a>], usize)> {
        // Later than this it is deleted for another reason.
        let latest = workload.eviction.map_or(self.heal, |eviction| self.case.last_of_the_cut(&eviction));
        let seen = self.case.pods.api_pod(&pod.uid)?.seen.as_slice();
        let at = seen.iter().position(|s| s.from > 0.0 && s.from <= latest && is_deleted(s))?;
        Some((seen, at))
    }

    /// Until when all containers ran in the cut that ran before it, seconds after it.
    fn kept(&self, workload: &WorkloadForecast) -> Option<Value> {
        let mut ends = Vec::new();
        for pod in &workload.pods {
            reader(&self.case.timeline, &pod.node).ok().filter(|track| track.clock_known())?;
            // Those that only prepare a pod have ended when it runs.
            let named = |c: &&Container<'_>| pod.containers.iter().any(|name| name == c.name());
            let ran = self.case.pods.containers(&pod.uid).iter().filter(named).map(|c| &c.seen);
            for seen in ran.filter(|s| s.from <= 0.0) {
                let goes_on = seen.to >= self.heal || (seen.is("running") && seen.to >= self.heal - LAST_LOOK);
                match () {
                    () if goes_on => ends.push(Value { seconds: self.heal, error: seen.to_error }),
                    // What became of it was not seen.
                    () if !seen.is("exited") => return None,
                    () if seen.to > 0.0 => ends.push(Value { seconds: seen.to, error: seen.to_error }),
                    () => {}
                }
            }
        }
        Value::first(ends)
    }

    fn doubled(&self, workload: &WorkloadForecast) -> Vec<Measured> {
        let of = |what: String, bounded, value| {
            Measured::new(Check::WorkloadDoubled, workload.subject(), what, bounded, value)
        };
        // What runs once may run on any node a second time.
        let is_read = self.case.pods.unread().is_none() && self.case.pods.unlooked(self.heal).is_none();
        let only_one = |second: Option<Value>| is_read.then(|| second.unwrap_or_else(|| self.to_the_heal()));
        let copy = workload.copy.filter(|_| workload.doubled != Certainty::MustNot);
        match (workload.replacement, copy) {
            (Replacement::Nobody, _) => Vec::new(),
            (Replacement::Waits, _) => {
                let until = only_one(self.two_of_one_name(workload));
                until.map(|until| of("one of each name".into(), self.all_through(), until)).into_iter().collect()
            }
            (Replacement::AtOnce, None) => {
                let until = only_one(Value::first(self.copies(workload).into_iter().map(|(_, start)| start)));
                until.map(|until| of("no second copy".into(), self.all_through(), until)).into_iter().collect()
            }
            (Replacement::AtOnce, Some(copy)) => {
                let started = self.copies(workload).into_iter();
                started.map(|(pod, start)| of(format!("{pod} started"), (Bounds::AfterCut, copy), start)).collect()
            }
        }
    }

    /// Pods that were not planned with, and when their first container started, seconds after the cut and before the heal.
    fn copies(&self, workload: &WorkloadForecast) -> Vec<(&'a str, Value)> {
        let pods = &self.case.pods;
        let mut all = Vec::new();
        for pod in pods.of_owner(workload).filter(|p| pods.planned_pod(p.uid).is_none()) {
            let starts = pods.containers(pod.uid).iter().map(|c| &c.seen);
            let start = Value::first(starts.map(|s| Value { seconds: s.from, error: s.from_error }));
            let start = start.filter(|start| start.seconds > 0.0 && start.seconds <= self.heal);
            all.extend(start.map(|start| (pod.subject, start)));
        }
        all
    }

    /// When two pods of one name first ran at the same time, or may have by the clocks, seconds after the cut and before the heal.
    fn two_of_one_name(&self, workload: &WorkloadForecast) -> Option<Value> {
        let mut starts = Vec::new();
        for pod in &workload.pods {
            let all = self.case.pods.containers_named(&pod.subject());
            for (i, one) in all.iter().enumerate() {
                for other in all[i + 1..].iter().filter(|other| other.uid() != one.uid()) {
                    let (_, possible) = overlap(&one.seen, &other.seen, one.node == other.node);
                    let later = if one.seen.from > other.seen.from { &one.seen } else { &other.seen };
                    if possible > 0.0 && later.from > 0.0 && later.from <= self.heal {
                        starts.push(Value { seconds: later.from, error: later.from_error });
                    }
                }
            }
        }
        Value::first(starts)
    }

    /// When deleted pods are gone for which nobody stands in, or until when none is deleted.
    fn stuck(&self, workload: &WorkloadForecast) -> Vec<Measured> {
        let line = workload.predictions().into_iter().find(|p| p.check == Check::WorkloadStuck);
        let Some(predicted) = line.and_then(|p| p.bounds.zip(p.window)) else { return Vec::new() };
        let of = |what: String, bounded, value| {
            Measured::new(Check::WorkloadStuck, workload.subject(), what, bounded, value)
        };
        if workload.evicted == Certainty::MustNot {
            let until = self.undeleted(workload);
            return until.map(|until| of("not deleted".into(), self.all_through(), until)).into_iter().collect();
        }
        let gone = |pod: &Pod| {
            let (seen, at) = self.deletion(workload, pod)?;
            let last = seen[at..].iter().rfind(|s| is_deleted(s))?;
            let gone = self.case.pods.next_look(last.to)?;
            let gone = Value { seconds: gone, error: gone - last.to + last.to_error };
            Some(of(format!("{} gone", pod.name), predicted, gone.after(self.heal)))
        };
        workload.pods.iter().filter_map(gone).collect()
    }

    /// Until when none of its pods was being deleted, seconds after the cut.
    fn undeleted(&self, workload: &WorkloadForecast) -> Option<Value> {
        let of = |pod: &Pod| {
            let seen = self.case.pods.api_pod(&pod.uid)?.seen.as_slice();
            match seen.iter().position(|s| s.from > 0.0 && s.from <= self.heal && is_deleted(s)) {
                Some(at) => Some(first_seen(seen, at)),
                None => self.is_looked_at(seen, self.heal).then(|| self.to_the_heal()),
            }
        };
        Value::first(workload.pods.iter().map(of).collect::<Option<Vec<Value>>>()?)
    }

    /// When a budget is crossed by the heal, or until when it is not.
    pub fn budget(&self, budget: &BudgetForecast) -> Option<Measured> {
        let line = budget.prediction()?;
        let (bounds, window) = line.bounds.zip(line.window)?;
        let of = |what: &str, value| Measured::new(line.check, budget.title(), what, (bounds, window), value);
        let end = self.case.timeline.end;
        if bounds != Bounds::Throughout {
            let (seconds, error) = first_crossed(self.case, budget, end).ok()??;
            return Some(of("crossed", Value { seconds, error }.after(self.heal)));
        }
        let until = window.latest_seconds;
        let crossed = first_crossed(self.case, budget, until.min(end)).ok()?;
        // Nobody watched for so long.
        let kept = (until <= end).then_some((until, self.operator.error));
        let (seconds, error) = crossed.or(kept)?;
        Some(of("not crossed", Value { seconds, error }))
    }
}
