//! etcd and the API servers behind it: quorum, leader and writes on every side.

use super::{
    bounds::{Bounded, at_most, prediction, throughout},
    constants::*,
    scene::Scene,
    timers::sourced,
    window::seconds,
};
use crate::{
    api::{Check, NAMED, Prediction, Prospect, Side, first},
    fault::{Leaderless, leaderless, members_led},
    topology::{Snapshot, Timer},
};

/// Smallest number of voters that is a majority (etcd FAQ).
pub fn majority(voters: u32) -> u32 {
    voters / 2 + 1
}

/// etcd on one side.
#[derive(Clone, Debug, PartialEq)]
pub struct EtcdForecast {
    pub side: String,
    /// Nodes of its members.
    pub members: Vec<String>,
    /// Whether they will have a leader.
    pub leader: Prospect,
    /// Seconds after the cut until which its health may differ from what `leader` says.
    pub settled: f64,
    heard: u32,
    total: u32,
    /// Length of the cut, seconds.
    duration: f64,
    election: Timer,
    /// Election timeouts until a new leader is there.
    elections: f64,
    /// Why etcd may have no leader for long, though a member hears a majority.
    leaderless: Option<Leaderless>,
}

/// The API servers of one side.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiForecast {
    pub side: String,
    pub servers: Vec<String>,
    pub writable: Prospect,
    /// On a writable side the longest time without an acknowledged write, seconds; on another one the time after the cut from
    /// which none is acknowledged.
    pub seconds: f64,
    loses_etcd: bool,
    /// An API server may be connected to a member that is cut off from it.
    dials_others: bool,
    /// Length of the cut, seconds.
    duration: f64,
    election: Timer,
    elections: f64,
}

/// Whether this side loses members of etcd to others, so that its leader may be lost: who leads can't be known beforehand.
pub fn loses_members(side: &Side) -> bool {
    side.etcd_members < side.etcd_total
}

/// Election timeouts until members that lost their leader have another one.
pub fn elections(scene: &Scene<'_>) -> f64 {
    ETCD_ELECTIONS + if old_leader_is_heard(scene) { ETCD_STEP_DOWN } else { 0.0 }
}

/// Whether a member that can't lead any more may still be heard by one that can: as long as it has not stepped down, its heartbeats
/// keep others from asking for votes (theory §7). Not so where two sides are deaf to each other.
fn old_leader_is_heard(scene: &Scene<'_>) -> bool {
    let of_quorum = |quorum: bool| {
        let sides = scene.sides.iter().filter(move |s| s.quorum == quorum);
        let is_member = |node: &&String| scene.snapshot.etcd.iter().any(|m| m.node == **node);
        sides.flat_map(|s| &s.nodes).filter(is_member).collect::<Vec<_>>()
    };
    let (losers, others) = (of_quorum(false), of_quorum(true));
    losers.iter().any(|from| others.iter().any(|to| !scene.fault.cuts(from, to)))
}

/// What writers on this side may wait at the most, seconds.
pub fn write_gap(scene: &Scene<'_>, side: &Side) -> f64 {
    match loses_members(side) {
        true => elections(scene) * scene.election() + ETCD_SLACK,
        false => ETCD_SLACK,
    }
}

/// The same in words.
pub fn why_write_gap(scene: &Scene<'_>, side: &Side) -> String {
    match loses_members(side) {
        true => election(elections(scene), &scene.snapshot.timers.etcd_election),
        false => disks(),
    }
}

/// Whether an API server of this side may be connected to a member of etcd that is cut off from it, and takes
/// [`ETCD_CLIENT_KEEPALIVE`] to dial another one. Stacked ones dial the member beside them.
pub fn dials_others(scene: &Scene<'_>, side: &Side) -> bool {
    let has_member = |server: &String| scene.snapshot.etcd.iter().any(|m| m.node == *server);
    loses_members(side) && !side.api_servers.iter().all(has_member)
}

pub fn etcd(scene: &Scene<'_>) -> Vec<EtcdForecast> {
    let (election, elections) = (scene.election(), elections(scene));
    let (led, leaderless) = (members_led(scene.snapshot, scene.fault), leaderless(scene.snapshot, scene.fault));
    let of = |side: &Side| {
        let members: Vec<_> =
            scene.snapshot.etcd.iter().filter(|m| side.nodes.contains(&m.node)).map(|m| m.node.clone()).collect();
        // Not what its API servers can do: where peers alone are cut they may write to other members than their own.
        let mut prospects = members.iter().filter_map(|member| led.get(member).copied());
        let first = prospects.next().unwrap_or_default();
        let leader = if prospects.all(|other| other == first) { first } else { Prospect::Maybe };
        let settled = match leader {
            Prospect::Yes | Prospect::Maybe => write_gap(scene, side),
            // The old leader's step-down, then a read that had begun before it.
            Prospect::No => ETCD_ELECTIONS * election + ETCD_READ_TIMEOUT + 2.0 * election + API_LATENCY,
        };
        EtcdForecast {
            side: side.name.clone(),
            members,
            leader,
            settled,
            heard: side.etcd_members,
            total: side.etcd_total,
            duration: scene.duration,
            election: scene.snapshot.timers.etcd_election.clone(),
            elections,
            leaderless: leaderless.clone(),
        }
    };
    scene.sides.iter().map(of).filter(|f| !f.members.is_empty()).collect()
}

pub fn api(scene: &Scene<'_>) -> Vec<ApiForecast> {
    let (election, elections) = (scene.election(), elections(scene));
    let of = |side: &Side| {
        let dials_others = dials_others(scene, side);
        let keepalive = if dials_others { ETCD_CLIENT_KEEPALIVE } else { 0.0 };
        ApiForecast {
            side: side.name.clone(),
            servers: side.api_servers.clone(),
            writable: side.writable,
            seconds: match side.writable {
                Prospect::No => LAST_ACKNOWLEDGEMENT.max(3.0 * election),
                _ => write_gap(scene, side) + keepalive,
            },
            loses_etcd: loses_members(side),
            dials_others,
            duration: scene.duration,
            election: scene.snapshot.timers.etcd_election.clone(),
            elections,
        }
    };
    scene.sides.iter().map(of).filter(|f| !f.servers.is_empty()).collect()
}

impl EtcdForecast {
    pub fn prediction(&self) -> Prediction {
        let (have, total, need) = (self.heard, self.total, majority(self.total));
        let (expected, bounded, rule) = match self.leader {
            Prospect::Maybe => {
                let (expected, rule) = self.in_doubt();
                (expected.into(), throughout(0.0, self.duration), rule)
            }
            Prospect::Yes => (
                format!("keeps its quorum; a new leader within {} if the old one is cut off", seconds(self.settled)),
                throughout(self.settled, self.duration),
                if have < total { election(self.elections, &self.election) } else { undisturbed() },
            ),
            Prospect::No => (
                format!("no leader from {} on until the heal", seconds(self.settled)),
                throughout(self.settled, self.duration),
                format!(
                    "{ETCD_ELECTIONS} × election timeout {}, by when the old leader has stepped down (MsgCheckQuorum), then the \
                     last linearizable read ({} + 2 elections, etcd ReqTimeout) and {} for the answer (ours)",
                    sourced(&self.election),
                    seconds(ETCD_READ_TIMEOUT),
                    seconds(API_LATENCY)
                ),
            ),
        };
        let reason = format!("{have} of {total} members within reach, a majority is {need}; {rule}");
        prediction(Check::EtcdQuorum, &self.side, expected, bounded, reason)
    }

    /// What is expected where nobody knows whether there is a leader, and why.
    fn in_doubt(&self) -> (&'static str, String) {
        match &self.leaderless {
            Some(Leaderless::Unelectable { members }) => (
                "has a leader, or none until the heal",
                format!(
                    "{} alone can win, and others, who can't, may have longer logs and don't vote for shorter ones (raft §5.4.1)",
                    first(members, NAMED)
                ),
            ),
            Some(Leaderless::Deposed { members }) => (
                "has leaders by turns",
                format!(
                    "{} ask for votes without PreVote and may depose a leader that they don't hear, again and again \
                     (etcd --pre-vote)",
                    first(members, NAMED)
                ),
            ),
            None => {
                ("has a leader, has none, or both by turns", "it depends on who leads and on what gets through".into())
            }
        }
    }
}

/// Members beside which no agent runs, since they are no nodes: nobody looks whether they are well before the cut.
pub fn unwatched(snapshot: &Snapshot) -> Option<String> {
    let members = snapshot.etcd.iter().map(|m| m.node.as_str());
    let external: Vec<&str> = members.filter(|node| snapshot.node(node).is_none()).collect();
    let told = || {
        format!(
            "etcd on {} is well before the cut: no agent is beside a member that is no node, so guards.etcdQuietFor does not look at it",
            first(&external, NAMED)
        )
    };
    (!external.is_empty()).then(told)
}

/// How long members may go without a leader, in words.
fn election(elections: f64, timeout: &Timer) -> String {
    let heard = match elections > ETCD_ELECTIONS {
        true => format!(", {ETCD_STEP_DOWN} more while the old leader is still heard, MsgCheckQuorum"),
        false => String::new(),
    };
    let timeout = sourced(timeout);
    format!("{elections} × election timeout {timeout} (raft: 1 to 2, one more after a split vote{heard}) + {}", disks())
}

/// The same where no member is cut off.
fn undisturbed() -> String {
    format!("no etcd member is cut off from this side; {}", disks())
}

fn disks() -> String {
    format!("{} for disks and dialling (ours)", seconds(ETCD_SLACK))
}

impl ApiForecast {
    pub fn prediction(&self) -> Prediction {
        let (expected, bounded, reason) = self.told();
        prediction(Check::ApiWritable, &self.side, expected, bounded, reason)
    }

    /// What is expected, within which bounds, and why.
    fn told(&self) -> (String, Bounded, String) {
        let missing = format!("writes acknowledged, none missing for longer than {}", seconds(self.seconds));
        match (self.writable, self.loses_etcd) {
            (Prospect::Maybe, _) => (
                "writes acknowledged or not: not predicted".into(),
                throughout(0.0, self.duration),
                "it depends on which member of etcd leads and on what gets through".into(),
            ),
            (Prospect::Yes, true) => (
                missing,
                at_most(self.seconds),
                format!(
                    "etcd's leader may be cut off: {}{}",
                    election(self.elections, &self.election),
                    match self.dials_others {
                        true => format!(
                            "; so may the member that an API server is connected to: keepalive {} \
                             (storage/storagebackend/factory/etcd3.go)",
                            seconds(ETCD_CLIENT_KEEPALIVE)
                        ),
                        false => String::new(),
                    }
                ),
            ),
            (Prospect::Yes, false) => (missing, at_most(self.seconds), undisturbed()),
            (Prospect::No, _) => (
                format!("no write acknowledged from {} on until the heal", seconds(self.seconds)),
                throughout(self.seconds, self.duration),
                format!(
                    "no quorum of etcd within reach; what was in flight at the cut is answered or given up by then: {} (ours), \
                     or {ETCD_ELECTIONS} × election timeout {} where that is longer",
                    seconds(LAST_ACKNOWLEDGEMENT),
                    sourced(&self.election)
                ),
            ),
        }
    }
}
