//! etcd and the API servers behind it: quorum, leader and writes on every side.

use super::{constants::*, window::seconds};
use crate::{
    api::{Check, Prediction, Prospect, Side},
    topology::Snapshot,
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
    election: f64,
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
    election: f64,
}

/// Longest time that etcd's loss of its leader costs writers on the side with a quorum, seconds.
pub fn election_gap(election: f64) -> f64 {
    ETCD_ELECTIONS * election + ETCD_SLACK
}

/// Whether this side loses members of etcd to others, so that its leader may be lost: who leads can't be known beforehand.
fn loses_members(side: &Side) -> bool {
    side.etcd_members < side.etcd_total
}

/// What writers on this side may wait at the most, seconds.
pub fn write_gap(side: &Side, election: f64) -> f64 {
    if loses_members(side) { election_gap(election) } else { ETCD_SLACK }
}

/// Whether an API server of this side may be connected to a member of etcd that is cut off from it, and takes
/// [`ETCD_CLIENT_KEEPALIVE`] to dial another one. Stacked ones dial the member beside them.
pub fn dials_others(snapshot: &Snapshot, side: &Side) -> bool {
    let has_member = |server: &String| snapshot.etcd.iter().any(|m| m.node == *server);
    loses_members(side) && !side.api_servers.iter().all(has_member)
}

pub fn etcd(snapshot: &Snapshot, sides: &[Side]) -> Vec<EtcdForecast> {
    let election = snapshot.timers.etcd_election.seconds;
    let of = |side: &Side| {
        let members: Vec<_> =
            snapshot.etcd.iter().filter(|m| side.nodes.contains(&m.node)).map(|m| m.node.clone()).collect();
        // What its API servers can do, its members can; a side without an API server goes by its quorum.
        let leader = match (side.api_servers.is_empty(), side.quorum) {
            (false, _) => side.writable,
            (true, true) => Prospect::Maybe,
            (true, false) => Prospect::No,
        };
        let settled = match leader {
            Prospect::Yes | Prospect::Maybe => write_gap(side, election),
            // The old leader's step-down, then a read that had begun before it.
            Prospect::No => ETCD_ELECTIONS * election + ETCD_READ_TIMEOUT + 2.0 * election + API_LATENCY,
        };
        let (heard, total) = (side.etcd_members, side.etcd_total);
        EtcdForecast { side: side.name.clone(), members, leader, settled, heard, total, election }
    };
    sides.iter().map(of).filter(|f| !f.members.is_empty()).collect()
}

pub fn api(snapshot: &Snapshot, sides: &[Side]) -> Vec<ApiForecast> {
    let election = snapshot.timers.etcd_election.seconds;
    let of = |side: &Side| {
        let dials_others = dials_others(snapshot, side);
        let keepalive = if dials_others { ETCD_CLIENT_KEEPALIVE } else { 0.0 };
        ApiForecast {
            side: side.name.clone(),
            servers: side.api_servers.clone(),
            writable: side.writable,
            seconds: match side.writable {
                Prospect::No => LAST_ACKNOWLEDGEMENT.max(3.0 * election),
                _ => write_gap(side, election) + keepalive,
            },
            loses_etcd: loses_members(side),
            dials_others,
            election,
        }
    };
    sides.iter().map(of).filter(|f| !f.servers.is_empty()).collect()
}

impl EtcdForecast {
    pub fn prediction(&self) -> Prediction {
        let (have, total, need) = (self.heard, self.total, majority(self.total));
        let (expected, rule) = match self.leader {
            Prospect::Maybe => (
                "has a leader, has none, or both by turns".into(),
                "it depends on who leads and on what gets through".into(),
            ),
            Prospect::Yes => (
                format!("keeps its quorum; a new leader within {} if the old one is cut off", seconds(self.settled)),
                format!("3 × election timeout ({}) + {}", seconds(self.election), seconds(ETCD_SLACK)),
            ),
            Prospect::No => (
                format!("no leader from {} on until the heal", seconds(self.settled)),
                format!(
                    "3 × election timeout ({}), then the last linearizable read ({} + 2 elections)",
                    seconds(self.election),
                    seconds(ETCD_READ_TIMEOUT)
                ),
            ),
        };
        let reason = format!("{have} of {total} members within reach, a majority is {need}; {rule}");
        Prediction { check: Check::EtcdQuorum, subject: self.side.clone(), expected, window: None, reason }
    }
}

impl ApiForecast {
    pub fn prediction(&self) -> Prediction {
        let (expected, reason) = match (self.writable, self.loses_etcd) {
            (Prospect::Maybe, _) => (
                "writes acknowledged or not: not predicted".into(),
                "it depends on which member of etcd leads and on what gets through".into(),
            ),
            (Prospect::Yes, true) => (
                format!("writes acknowledged, none missing for longer than {}", seconds(self.seconds)),
                format!(
                    "etcd's leader may be cut off: 3 × election timeout ({}) + {}{}",
                    seconds(self.election),
                    seconds(ETCD_SLACK),
                    match self.dials_others {
                        true => format!(
                            "; so may the member that an API server is connected to: keepalive {}",
                            seconds(ETCD_CLIENT_KEEPALIVE)
                        ),
                        false => String::new(),
                    }
                ),
            ),
            (Prospect::Yes, false) => (
                format!("writes acknowledged, none missing for longer than {}", seconds(self.seconds)),
                "no etcd member is cut off from this side".into(),
            ),
            (Prospect::No, _) => (
                format!("no write acknowledged from {} on until the heal", seconds(self.seconds)),
                "no quorum of etcd within reach; what was in flight at the cut is answered or given up by then".into(),
            ),
        };
        Prediction { check: Check::ApiWritable, subject: self.side.clone(), expected, window: None, reason }
    }
}
