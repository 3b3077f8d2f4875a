//! Leases: who goes on leading, who takes over and when, and how long nobody or two lead.

use super::{
    bounds::{after_cut, at_most, lasts, prediction, throughout},
    constants::*,
    etcd::{dials_others, elections, loses_members, why_write_gap, write_gap},
    node::CONTROLLER_MANAGER,
    scene::Scene,
    timers::sourced,
    window::{Certainty, certainty, interval, seconds, window},
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::{Lease, Timer},
};

/// The Lease that the replicas of this operator elect with. It is handed over before a cut and so exempt from judgement.
pub const OWN_LEASE: &str = "rackpartition-operator";
/// The Lease by which API servers choose who elects for all others, where leader election is coordinated.
const COORDINATOR: &str = "kube-system/leader-election-controller";

/// One Lease and what becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseForecast {
    pub lease: Lease,
    /// The side of its holder.
    pub side: String,
    /// Its holder reaches no API server that can write.
    pub cut_off: bool,
    /// Whether another holder takes it while the cut lasts.
    pub moves: Certainty,
    /// When, seconds after the cut.
    pub takeover: Window,
    /// When the old holder stops at the latest and at the earliest, seconds after the cut.
    pub stop: Window,
    /// Seconds without a leader.
    pub gap: Window,
    /// Seconds with two leaders that client-go's election allows (it has no fencing).
    pub overlap: f64,
    /// Why nothing is predicted of it, though the node of its holder is known.
    pub unpredicted: Option<String>,
    /// Length of the cut, seconds.
    duration: f64,
    reason: String,
}

/// Longest wait of a holder for an answer, seconds.
fn late_answer(renew_deadline: f64) -> f64 {
    (renew_deadline / 2.0).max(ELECTION_MIN_CLIENT_TIMEOUT)
}

/// Whether a Lease elects a leader and is ours to judge. Nodes' heartbeats, identities of API servers (their holder changes
/// with every restart) and this operator's own Lease are not.
pub fn elects(lease: &Lease) -> bool {
    let identity = lease.namespace == "kube-system" && lease.name.starts_with("apiserver-");
    lease.namespace != "kube-node-lease" && !identity && lease.name != OWN_LEASE && !lease.holder.is_empty()
}

/// Every Lease that elects and whose holder's node is known.
pub fn leases(scene: &Scene<'_>) -> Vec<LeaseForecast> {
    let placed = |lease: &Lease| {
        let node = lease.holder_node.as_ref()?;
        let side = scene.sides.iter().find(|s| s.nodes.contains(node))?;
        Some(forecast(lease, scene, Some(side)))
    };
    scene.snapshot.leases.iter().filter(|l| elects(l)).filter_map(placed).collect()
}

/// The controller manager's Lease, where it leaves its holder or may: from then on a new one counts nodes' heartbeats anew.
pub fn manager(scene: &Scene<'_>, leases: &[LeaseForecast]) -> Option<LeaseForecast> {
    if let Some(known) = leases.iter().find(|l| l.lease.subject() == CONTROLLER_MANAGER) {
        return (!known.stays()).then(|| known.clone());
    }
    let unplaced = scene.snapshot.leases.iter().find(|l| elects(l) && l.subject() == CONTROLLER_MANAGER)?;
    Some(forecast(unplaced, scene, None))
}

/// Why nothing is said of who takes a Lease.
fn unpredicted(lease: &Lease) -> Option<String> {
    let why = || "it chooses one of the API servers, whose processes go on without it".into();
    (lease.strategy.is_none() && lease.subject() == COORDINATOR).then(why)
}

/// Longest time by which a coordinated election is later than one of client-go's, seconds: another API server takes over the
/// electing, looks at the Lease, and asks the candidates.
pub fn coordinated_later() -> f64 {
    let (duration, retry) = COORDINATOR_LEASE;
    duration + ELECTION_POLLS * retry * (1.0 + ELECTION_JITTER) + COORDINATED_LOOK + COORDINATED_ELECTION
}

/// The same in words.
pub fn why_coordinated_later() -> String {
    format!(
        "{} for another API server to begin to elect, to look and to ask the candidates (run_with_leaderelection.go, \
         leaderelection_controller.go)",
        seconds(coordinated_later())
    )
}

/// Why a holder on a side that can write may not get through in time all the same.
fn stall(scene: &Scene<'_>, side: &Side, renew_deadline: &Timer) -> Option<String> {
    let election = elections(scene) * scene.election();
    let late = |what: &str, wait: f64, source: &str| {
        let (wait_told, deadline) = (seconds(wait), sourced(renew_deadline));
        let told = || format!("{what} may take {wait_told} ({source}), longer than RenewDeadline {deadline}");
        (wait > renew_deadline.seconds).then(told)
    };
    let dialling = "dialling another member of etcd from the API server that its holder asks";
    let keepalive = "storage/storagebackend/factory/etcd3.go";
    let timeouts = format!("{} × election timeout, {}", elections(scene), scene.snapshot.timers.etcd_election.source);
    let dials = dials_others(scene, side).then(|| late(dialling, ETCD_CLIENT_KEEPALIVE, keepalive));
    let elects = loses_members(side).then(|| late("an election of etcd", election, &timeouts));
    dials.flatten().or(elects.flatten())
}

/// Whether a holder or a candidate on this side gets through to an API server that can write. kubeadm's components ask the one beside
/// them. A pod asks the Service `kubernetes`, which may pass it to any, and goes on with that connection for a while.
fn reach(scene: &Scene<'_>, lease: &Lease, side: &Side) -> Prospect {
    if lease.pods.is_empty() {
        return if side.api_servers.is_empty() { side.served } else { side.writable };
    }
    let is_heard = |s: &&Side| s.name == side.name || side.hears.contains(&s.name);
    let within = |name: &String| {
        let heard = scene.sides.iter().filter(is_heard);
        heard.filter(|s| s.writable == Prospect::Yes).any(|s| s.api_servers.contains(name))
    };
    match scene.snapshot.api_servers.iter().all(|server| within(&server.name)) {
        true => side.served,
        false => side.served.min(Prospect::Maybe),
    }
}

/// `side`: its holder's, where that is known.
fn forecast(lease: &Lease, scene: &Scene<'_>, side: Option<&Side>) -> LeaseForecast {
    let writable = Side::most_writable(scene.sides);
    let (ld, rd, rp) = (lease.lease_duration, lease.renew_deadline.seconds, lease.retry_period.seconds);
    let polls = ELECTION_POLLS * rp * (1.0 + ELECTION_JITTER);
    // A candidate's poll that would have seen the last renewal may fall into etcd's election.
    let slack = API_LATENCY + writable.first().map_or(0.0, |w| write_gap(scene, w));
    let why_slack = why_slack(scene, writable.first().copied(), slack);
    let late = late_answer(rd);
    let takeover = match lease.strategy {
        Some(_) => window(0.0, ld + polls + slack + coordinated_later()),
        None => window(ld - rp - API_LATENCY, ld + polls + slack),
    };
    let is_another = |n: &&String| lease.holder_node.as_ref() != Some(*n);
    let has_one = |w: &&&Side| lease.candidate_nodes.iter().filter(is_another).any(|n| w.nodes.contains(n));
    let candidate = writable.iter().any(|w| has_one(&w));
    // Pods may have to wait for their connections to end first.
    let is_sure =
        lease.pods.is_empty() || writable.iter().filter(has_one).any(|w| reach(scene, lease, w) == Prospect::Yes);
    let harmless = scene.duration < (rd - TCP_FIRST_RETRANSMISSION) / 2.0;
    let reach = side.map_or(Prospect::Maybe, |side| reach(scene, lease, side));
    let stall = side.filter(|_| reach == Prospect::Yes).and_then(|side| stall(scene, side, &lease.renew_deadline));
    let (cut_off, unsure) = (reach != Prospect::Yes || stall.is_some(), reach == Prospect::Maybe || stall.is_some());
    let unpredicted = unpredicted(lease);
    let moves = match () {
        _ if unpredicted.is_some() || lease.strategy.is_some() => Certainty::May,
        _ if unsure && !harmless => Certainty::May,
        _ if !cut_off || harmless => Certainty::MustNot,
        _ if !candidate || !is_sure => Certainty::May,
        // Between "harmless" and the takeover's end a renewal may or may not come through, so it is never "must not".
        _ => certainty(&takeover, scene.duration, scene.duration).max(Certainty::May),
    };
    let arithmetic = || {
        format!(
            "last renewal up to RetryPeriod {} and {} for an answer (ours) before the cut, then LeaseDuration {} (the Lease itself), then \
             up to two polls of RetryPeriod × 2.2 (JitterFactor) and {why_slack}; the old holder gives up after RetryPeriod + \
             RenewDeadline {}, {} later if an answer was late (half of RenewDeadline, NewFromKubeconfig)",
            sourced(&lease.retry_period),
            seconds(API_LATENCY),
            seconds(ld),
            sourced(&lease.renew_deadline),
            seconds(late)
        )
    };
    let if_so = |why: &str| format!("{why}; if it moves: {}", arithmetic());
    let reason = match (&unpredicted, stall) {
        (Some(why), _) => why.clone(),
        _ if lease.strategy.is_some() => coordinated(lease, &why_slack),
        _ if !cut_off => "its holder is on the side that can write".into(),
        _ if harmless => format!(
            "the cut is shorter than half of RenewDeadline {} less {} (TCP_RTO_MIN)",
            sourced(&lease.renew_deadline),
            seconds(TCP_FIRST_RETRANSMISSION)
        ),
        (_, Some(why)) => if_so(&why),
        _ if !lease.pods.is_empty() && (unsure || candidate && !is_sure) => if_so(
            "pods ask the Service `kubernetes`, which passes them to any API server: one that is cut off from them, or can't write, \
             keeps them until their connections end",
        ),
        _ if unsure => if_so(
            "whether its holder reaches an API server that can write depends on which member of etcd leads and on what gets through",
        ),
        _ if writable.is_empty() => "no side can write, so nobody can take it before the heal".into(),
        _ if !candidate => if_so("no other candidate is known on the side that can write"),
        _ => arithmetic(),
    };
    LeaseForecast {
        side: side.map(|s| s.name.clone()).unwrap_or_default(),
        cut_off,
        moves,
        takeover,
        stop: window(rd - API_LATENCY, rd + rp + late),
        gap: window(ld - rp - rd - late, ld + polls + slack - rd),
        overlap: (late - (ld - rp - rd)).max(0.0),
        unpredicted,
        duration: scene.duration,
        reason,
        lease: lease.clone(),
    }
}

/// What etcd and the API may take, in words. `side`: one that can write; `slack`: seconds.
fn why_slack(scene: &Scene<'_>, side: Option<&Side>, slack: f64) -> String {
    match side {
        Some(side) => format!(
            "{} for etcd and the API: {} + {} for an answer (ours)",
            seconds(slack),
            why_write_gap(scene, side),
            seconds(API_LATENCY)
        ),
        None => format!("{} for the API (ours)", seconds(slack)),
    }
}

/// How a Lease is taken that an API server gives to somebody (KEP-4355). `why_slack`: for etcd and the API.
fn coordinated(lease: &Lease, why_slack: &str) -> String {
    format!(
        "its leader election is coordinated (strategy {}): an API server picks its holder, by wall clocks and at any time; where \
         its holder is lost, after LeaseDuration {} (the Lease itself), two polls of RetryPeriod {} × 2.2 (JitterFactor), {why_slack}, \
         and {}",
        lease.strategy.as_deref().unwrap_or_default(),
        seconds(lease.lease_duration),
        sourced(&lease.retry_period),
        why_coordinated_later()
    )
}

impl LeaseForecast {
    /// Whether an API server picks its holder, at any time: by a choice of its own, and not because the one before was lost.
    pub fn is_coordinated(&self) -> bool {
        self.lease.strategy.is_some()
    }

    /// Whether its holder is to keep it.
    pub fn stays(&self) -> bool {
        !self.cut_off && !self.is_coordinated()
    }

    /// Whether at the heal nobody may renew it: its holder may have lost it, or could not write any more than others. `is_written`:
    /// whether some side may be able to write in the cut.
    pub fn may_be_left(&self, is_written: bool) -> bool {
        self.cut_off && (self.moves != Certainty::MustNot || !is_written)
    }

    /// Whether it is predicted, and judged, for how long nobody leads by it, and for how long two do.
    pub fn counts_leaders(&self) -> bool {
        self.tells_its_end() && !self.is_coordinated()
    }

    /// Whether somebody writes down when its old holder stops to lead. A component of the control plane ends with its Lease; of a pod that
    /// others have made nobody knows which of its containers leads, nor whether that ends.
    pub fn tells_its_end(&self) -> bool {
        self.lease.pods.is_empty()
    }

    /// What of it is compared with nothing.
    pub fn unjudged(&self) -> Option<String> {
        let subject = self.lease.subject();
        match () {
            () if self.stays() || self.moves == Certainty::MustNot || self.counts_leaders() => None,
            () if self.is_coordinated() => Some(format!(
                "{subject}: for how long nobody leads or two do if it moves, which is not predicted either: whoever picks its holder \
                 goes by wall clocks"
            )),
            () => Some(format!(
                "{subject}: if it moves, {} without a leader, and two for {} at the most: nobody writes down when a pod stops to lead, or \
                 leads again after the heal",
                interval(&self.gap),
                seconds(self.overlap)
            )),
        }
    }

    pub fn predictions(&self) -> Vec<Prediction> {
        let subject = self.lease.subject();
        let of = |check, expected: String, bounded| prediction(check, &subject, expected, bounded, &self.reason);
        let node = self.lease.holder_node.as_deref().unwrap_or_default();
        let all_through = throughout(0.0, self.duration);
        if self.stays() {
            return vec![of(Check::LeaseStable, format!("stays with {node}"), all_through)];
        }
        let (takeover, bounded) = match self.moves {
            Certainty::Must => (format!("leaves {node} within {}", interval(&self.takeover)), after_cut(self.takeover)),
            Certainty::May => (
                format!("stays with {node} or leaves it from {}", seconds(self.takeover.earliest_seconds)),
                after_cut(self.takeover),
            ),
            Certainty::MustNot => (format!("stays with {node}: the cut is too short"), all_through),
        };
        let mut all = vec![of(Check::LeaseTakeover, takeover, bounded)];
        if self.moves != Certainty::MustNot && self.counts_leaders() {
            all.extend(self.leaders());
        }
        all
    }

    /// For how long nobody leads by it, and for how long two do.
    fn leaders(&self) -> [Prediction; 2] {
        let (ld, rd, rp) = (self.lease.lease_duration, &self.lease.renew_deadline, &self.lease.retry_period);
        let late = seconds(late_answer(rd.seconds));
        let margin = format!(
            "LeaseDuration (the Lease itself) − RetryPeriod ({}) − RenewDeadline ({}) = {}",
            rp.source,
            rd.source,
            seconds(ld - rp.seconds - rd.seconds)
        );
        let if_so = if self.moves == Certainty::Must { "" } else { "if it moves: " };
        let overlap = match self.overlap {
            0.0 => "never two leaders".into(),
            bound => format!("no two leaders; up to {} only after a late answer", seconds(bound)),
        };
        let gap = format!("{if_so}{} without a leader", interval(&self.gap));
        let half = "half of RenewDeadline, NewFromKubeconfig";
        let on_top = "polls (JitterFactor) and etcd on top, as `LeaseTakeover` has them";
        let why = format!("{margin}, {late} less after a late answer ({half}); {on_top}");
        let gap = prediction(Check::LeaderGap, self.lease.subject(), gap, lasts(self.gap), why);
        let why = format!("client-go fences nobody: an answer up to {late} late ({half}) against {margin}");
        let overlap = format!("{if_so}{overlap}");
        [gap, prediction(Check::LeaderOverlap, self.lease.subject(), overlap, at_most(self.overlap), why)]
    }
}
