//! Leases: who goes on leading, who takes over and when, and how long nobody or two lead.

use super::{
    constants::*,
    etcd::{dials_others, elections, loses_members, write_gap},
    node::CONTROLLER_MANAGER,
    scene::Scene,
    window::{Certainty, certainty, interval, seconds, window},
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::Lease,
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
        return (known.cut_off || known.unpredicted.is_some()).then(|| known.clone());
    }
    let unplaced = scene.snapshot.leases.iter().find(|l| elects(l) && l.subject() == CONTROLLER_MANAGER)?;
    Some(forecast(unplaced, scene, None))
}

/// Why a Lease is none of those whose holders and candidates go by client-go's rules.
fn unpredicted(lease: &Lease) -> Option<String> {
    match &lease.strategy {
        Some(strategy) => Some(format!(
            "its leader election is coordinated (strategy {strategy}): an API server picks its holder, by wall clocks and at any time"
        )),
        None if lease.subject() == COORDINATOR => {
            Some("it chooses one of the API servers, whose processes go on without it".into())
        }
        None => None,
    }
}

/// Longest time by which a coordinated election is later than one of client-go's, seconds: another API server takes over the
/// electing, looks at the Lease, and asks the candidates.
fn coordinated_later() -> f64 {
    let (duration, retry) = COORDINATOR_LEASE;
    duration + ELECTION_POLLS * retry * (1.0 + ELECTION_JITTER) + COORDINATED_LOOK + COORDINATED_ELECTION
}

/// Why a holder on a side that can write may not get through in time all the same.
fn stall(scene: &Scene<'_>, side: &Side, renew_deadline: f64) -> Option<String> {
    let election = elections(scene) * scene.election();
    let late = |what: &str, wait: f64| {
        (wait > renew_deadline).then(|| {
            format!("{what} may take {}, longer than the renew deadline ({})", seconds(wait), seconds(renew_deadline))
        })
    };
    let dialling = "dialling another member of etcd from the API server that its holder asks";
    let dials = dials_others(scene, side).then(|| late(dialling, ETCD_CLIENT_KEEPALIVE));
    let elects = loses_members(side).then(|| late("an election of etcd", election));
    dials.flatten().or(elects.flatten())
}

/// `side`: its holder's, where that is known.
fn forecast(lease: &Lease, scene: &Scene<'_>, side: Option<&Side>) -> LeaseForecast {
    let writable = Side::most_writable(scene.sides);
    let (ld, rd, rp) = (lease.lease_duration, lease.renew_deadline.seconds, lease.retry_period.seconds);
    let polls = ELECTION_POLLS * rp * (1.0 + ELECTION_JITTER);
    // A candidate's poll that would have seen the last renewal may fall into etcd's election.
    let slack = API_LATENCY + writable.first().map_or(0.0, |w| write_gap(scene, w));
    let late = late_answer(rd);
    let takeover = match lease.strategy {
        Some(_) => window(0.0, ld + polls + slack + coordinated_later()),
        None => window(ld - rp - API_LATENCY, ld + polls + slack),
    };
    let is_another = |n: &&String| lease.holder_node.as_ref() != Some(*n);
    let candidate =
        writable.iter().any(|w| lease.candidate_nodes.iter().filter(is_another).any(|n| w.nodes.contains(n)));
    let harmless = scene.duration < (rd - TCP_FIRST_RETRANSMISSION) / 2.0;
    // kubeadm's components ask the API server beside them.
    let reach =
        side.map_or(Prospect::Maybe, |side| if side.api_servers.is_empty() { side.served } else { side.writable });
    let stall = side.filter(|_| reach == Prospect::Yes).and_then(|side| stall(scene, side, rd));
    let (cut_off, unsure) = (reach != Prospect::Yes || stall.is_some(), reach == Prospect::Maybe || stall.is_some());
    let unpredicted = unpredicted(lease);
    let moves = match () {
        _ if unpredicted.is_some() => Certainty::May,
        _ if unsure && !harmless => Certainty::May,
        _ if !cut_off || harmless => Certainty::MustNot,
        _ if !candidate => Certainty::May,
        // Between "harmless" and the takeover's end a renewal may or may not come through, so it is never "must not".
        _ => certainty(&takeover, scene.duration, scene.duration).max(Certainty::May),
    };
    let reason = match (&unpredicted, stall) {
        (Some(why), _) => why.clone(),
        _ if !cut_off => "its holder is on the side that can write".into(),
        _ if harmless => format!("the cut is shorter than half the renew deadline ({})", seconds(rd)),
        (_, Some(why)) => why,
        _ if unsure => "whether its holder reaches an API server that can write depends on which member of etcd leads and on what gets \
                        through"
            .into(),
        _ if writable.is_empty() => "no side can write, so nobody can take it before the heal".into(),
        _ if !candidate => "no other candidate is known on the side that can write".into(),
        _ => format!(
            "last renewal up to {} before the cut, then LeaseDuration {}, then up to two polls of {} × 2.2 and {} for etcd and \
             the API; the old holder gives up after RetryPeriod + RenewDeadline ({} + {}), {} later if an answer was late",
            seconds(rp),
            seconds(ld),
            seconds(rp),
            seconds(slack),
            seconds(rp),
            seconds(rd),
            seconds(late)
        ),
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
        reason,
        lease: lease.clone(),
    }
}

impl LeaseForecast {
    pub fn predictions(&self) -> Vec<Prediction> {
        let of = |check, expected: String, window| Prediction {
            check,
            subject: self.lease.subject(),
            expected,
            window,
            reason: self.reason.clone(),
        };
        let node = self.lease.holder_node.as_deref().unwrap_or_default();
        if !self.cut_off {
            return vec![of(Check::LeaseStable, format!("stays with {node}"), None)];
        }
        let takeover = match self.moves {
            Certainty::Must => format!("leaves {node} within {}", interval(&self.takeover)),
            Certainty::May => {
                format!("stays with {node} or leaves it from {}", seconds(self.takeover.earliest_seconds))
            }
            Certainty::MustNot => format!("stays with {node}: the cut is too short"),
        };
        let mut all =
            vec![of(Check::LeaseTakeover, takeover, (self.moves != Certainty::MustNot).then_some(self.takeover))];
        if self.moves != Certainty::MustNot {
            let (ld, rd, rp) =
                (self.lease.lease_duration, self.lease.renew_deadline.seconds, self.lease.retry_period.seconds);
            let late = late_answer(rd);
            let margin = format!("LeaseDuration − RetryPeriod − RenewDeadline = {}", seconds(ld - rp - rd));
            let if_so = if self.moves == Certainty::Must { "" } else { "if it moves: " };
            all.push(Prediction {
                reason: format!("{margin}, {} less after a late answer; the polls and etcd come on top", seconds(late)),
                ..of(Check::LeaderGap, format!("{if_so}{} without a leader", interval(&self.gap)), None)
            });
            let overlap = match self.overlap {
                0.0 => "never two leaders".into(),
                bound => format!("no two leaders; up to {} only after a late answer", seconds(bound)),
            };
            all.push(Prediction {
                reason: format!("client-go fences nobody: an answer up to {} late against {margin}", seconds(late)),
                ..of(Check::LeaderOverlap, format!("{if_so}{overlap}"), None)
            });
        }
        all
    }
}
