//! What was seen against what was predicted: records become a time line, a time line findings, and findings a verdict.

mod api_server;
mod api_writable;
mod cite;
mod clock;
mod datagrams;
mod depth;
mod endpoints;
mod etcd;
mod etcd_leaders;
mod etcd_members;
mod etcd_sizes;
mod etcd_store;
mod eviction;
mod fault_proven;
mod followed;
mod heal;
mod heal_budgets;
mod heal_control_plane;
mod heal_damage;
mod heal_nodes;
mod kernel;
mod leadership;
mod lease;
mod lease_history;
mod lease_renewal;
mod leases_again;
mod left_out;
mod loss;
mod lost_writes;
mod measured;
mod milestones;
mod node;
mod onset;
mod orphan;
mod pairs;
mod places;
mod pods;
mod pods_again;
mod probes;
mod ran;
mod ready;
mod recovery;
mod register;
mod said;
mod second_copy;
mod stale_read;
mod taint;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod tried;
mod unplaced;
mod verdict;
mod workload;
mod workload_doubled;
mod workload_identity;
mod workload_stuck;
mod workload_why;

pub use followed::{followed_pods, followed_servers};
pub use measured::{Measured, Unmeasured, measured, unmeasured};

use crate::{
    api::{
        Check, Expect, Finding, FindingResult, NodeRecord, Onset, Prediction, RackPartitionSpec, Schedule, Side,
        Verdict, Window,
    },
    fault::{Fault, RunPlan},
    observe::Recorder,
    predict::{Certainty, Forecast, constants::KUBELET_RECONNECT, predict, seconds},
    topology::{Pod, Snapshot},
};
use places::Places;
use pods::Pods;
use said::{Said, Slack};
use std::time::Duration;
use timeline::Timeline;

/// Everything a verdict rests on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub spec: &'a RackPartitionSpec,
    /// The cluster as it was when the run was planned.
    pub snapshot: &'a Snapshot,
    pub fault: &'a Fault,
    pub plan: &'a RunPlan,
    pub sides: &'a [Side],
    /// When the cut was, by the operator's wall clock.
    pub schedule: &'a Schedule,
    pub operator: Option<&'a NodeRecord>,
    pub agents: &'a [NodeRecord],
}

/// The answer and what it rests on, in the order of [`Check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    /// Whether the fault was there, as one finding: for the condition `Injected`.
    pub injected: Finding,
    /// When the cut took effect, where that was seen.
    pub onset: Option<Onset>,
}

/// What every check works on.
pub(crate) struct Case<'a> {
    pub evidence: Evidence<'a>,
    pub forecast: Forecast,
    pub timeline: Timeline<'a>,
    pub places: Places<'a>,
    pub pods: Pods<'a>,
}

impl<'a> Case<'a> {
    fn new(evidence: &Evidence<'a>) -> Self {
        let timeline = Timeline::new(evidence.schedule, evidence.operator, evidence.agents);
        let duration = Duration::from_secs_f64(timeline.heal.max(0.0));
        let predicted = |snapshot: &Snapshot| predict(snapshot, evidence.fault, evidence.sides, duration);
        let forecast = predicted(evidence.snapshot);
        let places = Places::new(evidence.plan, evidence.sides);
        let pods = Pods::new(evidence, &timeline);
        let mut case = Case { evidence: *evidence, forecast, timeline, places, pods };
        if let Some(there) = case.there_at_the_cut() {
            // What stood in for such a pod counts for its budget as well, so budgets stay as they were planned with.
            let budgets = std::mem::take(&mut case.forecast.budgets);
            case.forecast = Forecast { budgets, ..predicted(&there) };
        }
        case
    }
    /// The cluster without the pods that were over before the cut: these were not the cut's to keep, to evict or to end. `None` where there
    /// are none. Those of StatefulSets stay: their identities are watched whatever became of a pod that had one.
    fn there_at_the_cut(&self) -> Option<Snapshot> {
        self.operator().ok()?;
        let is_over =
            |pod: &Pod| pod.owner_kind.as_deref() != Some("StatefulSet") && self.pods.is_over_before_the_cut(&pod.uid);
        self.evidence.snapshot.pods.iter().any(is_over).then(|| {
            let mut there = self.evidence.snapshot.clone();
            there.pods.retain(|pod| !is_over(pod));
            there
        })
    }
    /// How far from the ends of the cut what this node saw may be either way: every node cuts by its own clock, and these may differ by
    /// what the run allowed. `own`: what the kind of look adds, seconds.
    pub fn slack(&self, own: f64, track: &timeline::Track<'_>) -> Slack {
        Slack { own, clocks: track.error + self.allowed_clock_error() }
    }
    /// The same in seconds.
    pub fn edge(&self, own: f64, track: &timeline::Track<'_>) -> f64 {
        self.slack(own, track).sum()
    }
    /// The operator's record, if its times can be read to within what the run allowed.
    pub fn operator(&self) -> Result<&timeline::Track<'a>, String> {
        let track = self.timeline.operator.as_ref().ok_or("no record of the operator")?;
        // What is missing in a full record would look as if it had gone.
        if let Some(left_out) = left_out::left_out(track.status) {
            return Err(format!("operator: its record is full, {left_out}"));
        }
        match track.error {
            error if error <= self.allowed_clock_error() => Ok(track),
            error if error.is_finite() => Err(format!(
                "operator: another replica went on, or the clock was stepped, and its times may be off by {}",
                seconds(error)
            )),
            _ => Err("operator: another replica went on, or the clock was stepped, by nobody knows how much".into()),
        }
    }
    /// By how much the clocks may differ, seconds.
    pub fn allowed_clock_error(&self) -> f64 {
        Duration::from(self.evidence.spec.guards.max_clock_error).as_secs_f64()
    }
    /// By when every kubelet is heard again at the latest, seconds after the cut: where API servers lost etcd, once they answer.
    pub fn all_heard(&self) -> f64 {
        self.timeline.heal + self.forecast.recovery.kubelets_told
    }
    /// Until when something that is predicted for this interval is put down to the cut, seconds after it: later it has another reason.
    /// Kubelets are heard again soon after the heal as a rule. Where API servers lost etcd it may take minutes, and by then somebody else
    /// may have had a reason as well: so long only what is in the interval counts.
    pub fn last_of_the_cut(&self, predicted: &Window) -> f64 {
        (self.timeline.heal + KUBELET_RECONNECT).max(predicted.latest_seconds.min(self.all_heard()))
    }
    /// Whether what was so at the look `before`, and otherwise at the look `after`, is put down to the cut (seconds after it). `certainty`:
    /// of its coming within what is `predicted`. What should not come accuses by coming, so it must have come in time for certain; what may
    /// or must accuses by not coming, so that it may have come in time is enough.
    pub fn is_of_the_cut(&self, certainty: Certainty, predicted: &Window, (before, after): (f64, f64)) -> bool {
        match certainty {
            Certainty::MustNot => after <= self.timeline.heal + KUBELET_RECONNECT,
            Certainty::May | Certainty::Must => before <= self.last_of_the_cut(predicted),
        }
    }
    /// Name of the side a member is on; `outside` for what is no node and heard by both.
    pub fn side_of(&self, member: &str) -> &'a str {
        self.places.side_of(member)
    }
    /// For how long anybody looked after the heal, seconds.
    pub fn watched(&self) -> f64 {
        self.timeline.end - self.timeline.heal
    }
    /// What the user accepts of one of `spec.expect`'s times, seconds.
    pub fn accepted(&self, of: fn(&Expect) -> Option<kube::core::Duration>) -> Option<f64> {
        of(&self.evidence.spec.expect).map(|accepted| Duration::from(accepted).as_secs_f64())
    }
}

/// Judges a run.
pub fn judge(evidence: &Evidence<'_>) -> Judgement {
    let case = Case::new(evidence);
    let told = onset::onset(&case);
    let fault: Vec<Finding> = fault_proven::check(&case).into_iter().chain(onset::check(told.as_ref())).collect();
    let injected = match evidence.plan.edges.is_empty() {
        true => verdict::not_injected(&fault),
        false => verdict::joined(&fault),
    };
    let checks: [fn(&Case<'_>) -> Vec<Finding>; 22] = [
        etcd::check,
        etcd_leaders::check,
        etcd_store::check,
        api_writable::check,
        api_server::check,
        stale_read::check,
        lost_writes::check,
        lease::check,
        lease_history::check,
        node::check,
        taint::check,
        endpoints::check,
        eviction::check,
        workload::check,
        workload_doubled::check,
        workload_identity::check,
        orphan::check,
        workload_stuck::check,
        heal_damage::check,
        recovery::check,
        milestones::check,
        heal::check,
    ];
    let mut findings: Vec<Finding> = fault.into_iter().chain(checks.iter().flat_map(|check| check(&case))).collect();
    // Of a rehearsal everything is predicted: that nothing happens.
    if !evidence.plan.pattern.is_steady() && !evidence.plan.edges.is_empty() {
        findings.iter_mut().for_each(not_predicted);
    }
    findings.sort_by_key(|f| f.check);
    Judgement { verdict: verdict::verdict(&findings), findings, injected, onset: told.map(|told| told.onset) }
}

/// The lines that a run is compared with: of its cut for as long as it was, and of the pods that were there.
pub fn predicted(evidence: &Evidence<'_>) -> Vec<Prediction> {
    Case::new(evidence).forecast.predictions
}

/// Times of a cut that loses packets or comes and goes are not predicted, so missing them is told and not held against anybody.
/// What must hold in any network stays: that nobody takes a Lease early, leads twice or runs a StatefulSet's pod twice.
fn not_predicted(finding: &mut Finding) {
    let timed = [
        Check::EtcdQuorum,
        Check::ApiWritable,
        Check::LeaseStable,
        Check::LeaderGap,
        Check::NodeNotReady,
        Check::NodeTainted,
        Check::EndpointsRemoved,
        Check::WorkloadEvicted,
    ];
    let amiss = [FindingResult::Degraded, FindingResult::Violated];
    if timed.contains(&finding.check) && amiss.contains(&finding.result) {
        finding.result = FindingResult::Noted;
        finding.observed += "; not predicted for a cut that is not steady";
    }
}

/// Longest time, seconds, for which nobody may have looked without a finding about "never" being open: an agent that was killed
/// is back within it (image present, first restart without back-off).
pub(crate) const MAX_UNWATCHED: f64 = 15.0;

/// A container said to be running was looked at no longer ago than this, seconds; else nobody knows whether it went on. Between two looks
/// that make one span no more may lie.
pub(crate) const LAST_LOOK: f64 = Recorder::MAX_GAP.as_secs_f64();
