//! What an agent writes down of the member of etcd beside it: words that people read and that the judge reads again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Subjects of [`SpanKind::Store`](super::SpanKind::Store).
pub const STORE: &str = "store";
pub const STORE_RAFT: &str = "store/raft";
pub const STORE_ALARMS: &str = "store/alarms";
pub const STORE_HASH_BEFORE: &str = "store/hash/before";
pub const STORE_HASH_AFTER: &str = "store/hash/after";
pub const STORE_PANIC: &str = "store/panic";

/// States of [`STORE`]: the cluster's owner gave agents no certificates, or the member does not answer with them.
pub const STORE_OFF: &str = "off";
/// Also the state of a hash that could not be had.
pub const STORE_UNREAD: &str = "unread";

/// State of [`STORE_ALARMS`] where none is raised.
pub const NO_ALARM: &str = "none";
/// The alarm of a member whose store differs from the others' (`api/etcdserverpb/rpc.proto`, `AlarmType`).
pub const CORRUPT: &str = "CORRUPT";

/// Revisions of etcd at which every member hashes what it holds: hashes are comparable at one revision only. Each is the run's own
/// version when the operator first saw the run in that phase, so it is newer than everything before, and every member that follows the
/// leader gets there.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRevisions {
    /// While nodes were armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// After the heal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// What a member does in raft.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RaftRole {
    Leads,
    Follows,
    /// It asks for votes, or whether it would get them.
    Asks,
}

/// What a member does, and in which term. Both were read at once, so that together they are true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RaftState {
    pub role: RaftRole,
    pub term: u64,
}

impl RaftState {
    /// Reads a span's state back: `leads 7`.
    pub fn parse(state: &str) -> Option<Self> {
        let (role, term) = state.split_once(' ')?;
        let role = match role {
            "leads" => RaftRole::Leads,
            "follows" => RaftRole::Follows,
            "asks" => RaftRole::Asks,
            _ => return None,
        };
        Some(RaftState { role, term: term.parse().ok()? })
    }
}

impl fmt::Display for RaftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            RaftRole::Leads => "leads",
            RaftRole::Follows => "follows",
            RaftRole::Asks => "asks",
        };
        write!(f, "{role} {}", self.term)
    }
}

/// What a member holds, in one number. Comparable where revision and compact revision are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreHash {
    /// CRC-32 of all keys and values up to the revision (`server/storage/mvcc/hash.go`).
    pub hash: u32,
    pub revision: i64,
    /// What is older was thrown away.
    pub compact: i64,
}

impl StoreHash {
    /// Reads a span's state back: `0a1b2c3d at 4711 from 4000`.
    pub fn parse(state: &str) -> Option<Self> {
        let mut words = state.split(' ');
        let hash = u32::from_str_radix(words.next()?, 16).ok()?;
        let revision = words.next().filter(|w| *w == "at").and_then(|_| words.next())?.parse().ok()?;
        let compact = words.next().filter(|w| *w == "from").and_then(|_| words.next())?.parse().ok()?;
        words.next().is_none().then_some(StoreHash { hash, revision, compact })
    }
}

impl fmt::Display for StoreHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x} at {} from {}", self.hash, self.revision, self.compact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for role in [RaftRole::Leads, RaftRole::Follows, RaftRole::Asks] {
            let state = RaftState { role, term: 7 };
            assert_eq!(RaftState::parse(&state.to_string()), Some(state));
        }
        for (hash, compact) in [(0x0a1b_2c3d, 4000), (u32::MAX, -1), (0, 0)] {
            let state = StoreHash { hash, revision: 4711, compact };
            assert_eq!(StoreHash::parse(&state.to_string()), Some(state));
        }
        let hash = StoreHash { hash: 0x0a1b_2c3d, revision: 4711, compact: 40 };
        assert_eq!(hash.to_string(), "0a1b2c3d at 4711 from 40");
    }

    #[test]
    fn other_words_are_not_read() {
        for state in ["leads", "leads x", "rests 7", "leads 7 8", ""] {
            assert_eq!(RaftState::parse(state), None, "{state}");
        }
        for state in ["unread", "0a1b2c3d", "0a1b2c3d at 47", "0a1b2c3d at 47 from x", "x at 1 from 2", "0 at 1 by 2"] {
            assert_eq!(StoreHash::parse(state), None, "{state}");
        }
    }
}
