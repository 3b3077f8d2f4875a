//! Leases: who goes on leading, who takes over and when, and how long nobody or two lead.

use super::{
    constants::*,
    etcd::{dials_others, write_gap},
    window::{Certainty, certainty, interval, seconds, window},
};
use crate::{
    api::{Check, Prediction, Prospect, Side, Window},
    topology::{Lease, Snapshot},
};

/// The Lease that the replicas of this operator elect with. It is handed over before a cut and so exempt from judgement.
pub const OWN_LEASE: &str = "rackpartition-operator";

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

pub fn leases(snapshot: &Snapshot, sides: &[Side], duration: f64) -> Vec<LeaseForecast> {
    snapshot.leases.iter().filter(|l| elects(l)).filter_map(|l| forecast(l, snapshot, sides, duration)).collect()
}

fn forecast(lease: &Lease, snapshot: &Snapshot, sides: &[Side], duration: f64) -> Option<LeaseForecast> {
    let node = lease.holder_node.as_ref()?;
    let side = sides.iter().find(|s| s.nodes.contains(node))?;
    let writable = Side::most_writable(sides);
    let (ld, rd, rp) = (lease.lease_duration, lease.renew_deadline.seconds, lease.retry_period.seconds);
    let polls = ELECTION_POLLS * rp * (1.0 + ELECTION_JITTER);
    // A candidate's poll that would have seen the last renewal may fall into etcd's election.
    let slack = API_LATENCY + writable.first().map_or(0.0, |w| write_gap(w, snapshot.timers.etcd_election.seconds));
    let late = late_answer(rd);
    let takeover = window(ld - rp - API_LATENCY, ld + polls + slack);
    let candidate = writable.iter().any(|w| lease.candidate_nodes.iter().any(|n| w.nodes.contains(n) && n != node));
    let harmless = duration < (rd - TCP_FIRST_RETRANSMISSION) / 2.0;
    // kubeadm's components ask the API server beside them.
    let reach = if side.api_servers.is_empty() { side.served } else { side.writable };
    let stalls = reach == Prospect::Yes && dials_others(snapshot, side) && ETCD_CLIENT_KEEPALIVE > rd;
    let (cut_off, unsure) = (reach != Prospect::Yes || stalls, reach == Prospect::Maybe || stalls);
    let moves = match () {
        _ if unsure && !harmless => Certainty::May,
        _ if !cut_off || harmless => Certainty::MustNot,
        _ if !candidate => Certainty::May,
        // Between "harmless" and the takeover's end a renewal may or may not come through, so it is never "must not".
        _ => certainty(&takeover, duration, duration).max(Certainty::May),
    };
    let reason = match () {
        _ if !cut_off => "its holder is on the side that can write".into(),
        _ if harmless => format!("the cut is shorter than half the renew deadline ({})", seconds(rd)),
        _ if stalls => format!(
            "the API server that its holder asks may take {} to dial another member of etcd, longer than the renew deadline ({})",
            seconds(ETCD_CLIENT_KEEPALIVE),
            seconds(rd)
        ),
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
    Some(LeaseForecast {
        side: side.name.clone(),
        cut_off,
        moves,
        takeover,
        stop: window(rd - API_LATENCY, rd + rp + late),
        gap: window(ld - rp - rd - late, ld + polls + slack - rd),
        overlap: (late - (ld - rp - rd)).max(0.0),
        reason,
        lease: lease.clone(),
    })
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
