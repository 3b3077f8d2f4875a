//! What agents read of etcd's members by their client ports.

use super::{
    Case, cite,
    timeline::{Seen, Track},
};
use crate::api::{RaftState, STORE, STORE_ALARMS, STORE_OFF, STORE_RAFT, STORE_UNREAD, SpanKind};

/// A voter and what the agent beside it saw.
pub struct Voter<'c, 'a> {
    pub node: &'c str,
    track: Option<&'c Track<'a>>,
}

impl<'c, 'a> Voter<'c, 'a> {
    /// What was read of it, by time.
    pub fn seen(&self, subject: &str) -> &'c [Seen<'a>] {
        self.track.map_or(&[], |track| track.series(SpanKind::Store, subject))
    }

    /// Whether the times of what was read of it can be compared with nobody's.
    pub fn is_of_unknown_time(&self) -> bool {
        self.track.is_some_and(|track| !track.clock_known())
    }

    /// When nothing was there to be asked.
    pub fn down(&self) -> impl Iterator<Item = &'c Seen<'a>> + use<'c, 'a> {
        let health: &'c [Seen<'a>] = self.track.map_or(&[], |track| track.series(SpanKind::Health, "etcd"));
        health.iter().filter(|seen| seen.is("down"))
    }

    /// What it did in raft, by time.
    pub fn raft(&self) -> Vec<(RaftState, &'c Seen<'a>)> {
        self.seen(STORE_RAFT).iter().filter_map(|seen| Some((RaftState::parse(&seen.span.state)?, seen))).collect()
    }

    /// What it told of itself at that time, or at first.
    pub fn told(&self, name: &str, at: f64) -> Option<&'a str> {
        let all = self.seen(STORE_ALARMS);
        let seen = all.iter().rfind(|s| s.from <= at).or(all.first())?;
        seen.span.told(name)
    }

    pub fn cite(&self, seen: &Seen<'_>) -> String {
        self.track.map_or_else(String::new, |track| cite::cite(track, seen))
    }

    /// Why something of it was not seen.
    pub fn why_unseen(&self) -> String {
        let node = self.node;
        match (self.track, self.seen(STORE).last()) {
            (None, _) => format!("no record of {node}"),
            (_, Some(seen)) if seen.is(STORE_UNREAD) => {
                format!("{node}: {}", seen.span.detail.as_deref().unwrap_or("etcd did not answer"))
            }
            _ => format!("{node}: etcd was not read"),
        }
    }
}

/// All of them, whether agents were to read them or not.
pub fn members<'c, 'a>(case: &'c Case<'a>) -> Vec<Voter<'c, 'a>> {
    let members = case.evidence.snapshot.etcd.iter();
    members.map(|m| Voter { node: m.node.as_str(), track: case.timeline.agent(&m.node) }).collect()
}

/// The same; `None` where nobody was to look: the cluster's owner gave agents no certificates, or etcd is on no node. That is no
/// finding, since nothing was asked: reports name the check as one that was not made. An agent that was to look and has nothing to tell
/// is missing evidence.
pub fn voters<'c, 'a>(case: &'c Case<'a>) -> Option<Vec<Voter<'c, 'a>>> {
    let agents = case.evidence.plan.agents();
    let voters = members(case);
    let is_asked = voters.iter().any(|v| agents.contains(v.node));
    let is_off = voters.iter().any(|v| v.seen(STORE).iter().any(|s| s.is(STORE_OFF)));
    let is_read = voters.iter().any(|v| !v.seen(STORE_RAFT).is_empty() || !v.seen(STORE_ALARMS).is_empty());
    (is_asked && (is_read || !is_off)).then_some(voters)
}
