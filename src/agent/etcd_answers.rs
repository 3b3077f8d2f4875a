//! What a member of etcd answers, read. Numbers of 64 bits are strings in its JSON, and what is zero is left out.

use crate::api::{NO_ALARM, RaftRole, RaftState, StoreHash};
use serde::Deserialize;
use serde_json::Value;

/// Raft as the member itself sees it. Unlike the answer of `/v3/maintenance/status` it is of one moment: there the term is that of
/// the last entry that was applied (`server/etcdserver/server.go`, setTerm in apply), so that a member that has just been elected says
/// for a moment that it leads in its predecessor's term.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Raft {
    /// The member's id, in hexadecimal as people know it from `etcdctl member list`.
    pub member: String,
    /// Its leader's, `0` where it knows none.
    pub leader: String,
    pub state: RaftState,
    pub committed: u64,
    pub applied: u64,
}

/// From `/debug/vars`: the variable `raft.status` (`server/etcdserver/raft.go`; the JSON is `go.etcd.io/raft/v3`, status.go).
pub fn raft(vars: &str) -> Option<Raft> {
    #[derive(Deserialize)]
    struct Vars {
        #[serde(rename = "raft.status")]
        raft: Option<Status>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        id: String,
        lead: String,
        raft_state: String,
        term: u64,
        commit: u64,
        applied: u64,
    }
    let status = serde_json::from_str::<Vars>(vars).ok()?.raft?;
    let role = match status.raft_state.as_str() {
        "StateLeader" => RaftRole::Leads,
        "StateFollower" => RaftRole::Follows,
        "StateCandidate" | "StatePreCandidate" => RaftRole::Asks,
        _ => return None,
    };
    Some(Raft {
        member: status.id,
        leader: status.lead,
        state: RaftState { role, term: status.term },
        committed: status.commit,
        applied: status.applied,
    })
}

/// What matters of `/v3/maintenance/status` beside raft.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    pub version: String,
    pub revision: i64,
    pub applied: i64,
    pub committed: i64,
    /// Bytes of the file, and those of them that hold anything.
    pub size: i64,
    pub used: i64,
    /// As a span's state: `none`, or each with the id of its member.
    pub alarms: String,
}

impl Status {
    pub fn read(answer: &str) -> Option<Self> {
        let answer: Value = serde_json::from_str(answer).ok()?;
        let header = answer.get("header")?;
        let errors = answer.get("errors").and_then(Value::as_array);
        Some(Status {
            version: answer.get("version").and_then(Value::as_str).unwrap_or_default().to_owned(),
            revision: number(header, "revision"),
            applied: number(&answer, "raftAppliedIndex"),
            committed: number(&answer, "raftIndex"),
            size: number(&answer, "dbSize"),
            used: number(&answer, "dbSizeInUse"),
            alarms: alarms(errors.into_iter().flatten().filter_map(Value::as_str)),
        })
    }

    /// For people, and for the judge, who reads `used`.
    pub fn detail(&self) -> String {
        let Status { version, revision, applied, committed, size, used, .. } = self;
        format!("version={version} revision={revision} applied={applied} committed={committed} size={size} used={used}")
    }
}

/// Alarms among what is amiss with a member: each is `memberID:1234 alarm:CORRUPT`, with as many blanks as it pleases
/// (`api/etcdserverpb`, AlarmMember as text). All members know of all alarms, and an alarm of nobody in particular has no id. They are
/// read here because `/v3/maintenance/alarm` writes to etcd's log even where it only asks.
fn alarms<'a>(errors: impl Iterator<Item = &'a str>) -> String {
    let alarm = |error: &str| {
        let word = |name: &str| error.split_whitespace().find_map(|w| w.strip_prefix(name)).map(str::to_owned);
        let id = word("memberID:").and_then(|id| id.parse::<u64>().ok()).unwrap_or_default();
        Some(format!("{} {id:x}", word("alarm:")?))
    };
    let mut alarms: Vec<String> = errors.filter_map(alarm).collect();
    alarms.sort();
    if alarms.is_empty() { NO_ALARM.into() } else { alarms.join(", ") }
}

/// From `/v3/maintenance/hashkv`, asked for this revision.
pub fn hash(answer: &str, revision: i64) -> Option<StoreHash> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    // Older ones don't say for which revision: the one that was asked for, or they refuse.
    let of = answer.get("hash_revision").map_or(revision, |_| number(&answer, "hash_revision"));
    let hash = u32::try_from(number(&answer, "hash")).ok()?;
    let told = answer.get("header").is_some() && of == revision;
    told.then(|| StoreHash { hash, revision, compact: number(&answer, "compact_revision") })
}

fn number(of: &Value, name: &str) -> i64 {
    let value = of.get(name);
    let number = value.and_then(|v| v.as_i64().or_else(|| v.as_str()?.parse().ok()));
    number.unwrap_or_default()
}

/// Why a member did not do what it was asked, in its own words.
pub fn refusal(answer: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let words = answer.get("message").or(answer.get("error"))?.as_str()?;
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_is_read_from_the_variables() {
        let vars = |state: &str, lead: &str| {
            format!(
                r#"{{
"cmdline": ["etcd","--name=cp1"],
"memstats": {{"Alloc":1,"GCCPUFraction":0.1}},
"raft.status": {{"id":"8e9e05c52164694d","term":7,"vote":"8e9e05c52164694d","commit":12,"lead":"{lead}",
  "raftState":"{state}","applied":11,"progress":{{}},"leadtransferee":"0"}}
}}"#
            )
        };
        let read = raft(&vars("StateLeader", "8e9e05c52164694d")).unwrap();
        assert_eq!((read.member.as_str(), read.leader.as_str()), ("8e9e05c52164694d", "8e9e05c52164694d"));
        assert_eq!((read.state.to_string().as_str(), read.committed, read.applied), ("leads 7", 12, 11));
        for (state, words) in
            [("StateFollower", "follows 7"), ("StateCandidate", "asks 7"), ("StatePreCandidate", "asks 7")]
        {
            assert_eq!(raft(&vars(state, "0")).unwrap().state.to_string(), words);
        }
        assert_eq!(raft(&vars("StateOfTheArt", "0")), None);
        assert_eq!(raft(r#"{"raft.status": null}"#), None, "not yet started");
        assert_eq!((raft("{}"), raft("404 page not found")), (None, None));
    }

    #[test]
    fn a_status_has_sizes_and_alarms() {
        let answer = r#"{"header":{"cluster_id":"1","member_id":"2","revision":"4711","raft_term":"7"},"version":"3.6.5",
            "dbSize":"41943040","leader":"2","raftIndex":"12","raftTerm":"7","raftAppliedIndex":"11","dbSizeInUse":"23068672",
            "errors":["etcdserver: no leader","memberID:10276657743932975437 alarm:NOSPACE ","alarm:CORRUPT  memberID:255"]}"#;
        let status = Status::read(answer).unwrap();
        assert_eq!(status.alarms, "CORRUPT ff, NOSPACE 8e9e05c52164694d");
        assert_eq!(status.detail(), "version=3.6.5 revision=4711 applied=11 committed=12 size=41943040 used=23068672");
        let young = Status::read(r#"{"header":{"revision":"1"}}"#).unwrap();
        assert_eq!((young.alarms.as_str(), young.used), ("none", 0));
        assert_eq!(Status::read(r#"{"error":"Not Found","code":5,"message":"Not Found"}"#), None);
        assert_eq!(alarms(["alarm:CORRUPT "].into_iter()), "CORRUPT 0", "nobody in particular");
    }

    #[test]
    fn a_hash_is_of_the_revision_that_was_asked_for() {
        let new =
            r#"{"header":{"revision":"4800"},"hash":3735928559,"compact_revision":"4000","hash_revision":"4711"}"#;
        assert_eq!(hash(new, 4711).unwrap().to_string(), "deadbeef at 4711 from 4000");
        assert_eq!(hash(new, 4712), None);
        let old = r#"{"header":{"revision":"4800"},"hash":7,"compact_revision":"-1"}"#;
        assert_eq!(hash(old, 4711).unwrap().to_string(), "00000007 at 4711 from -1");
        let refused = r#"{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}"#;
        assert_eq!(hash(refused, 4711), None);
        assert!(refusal(refused).unwrap().ends_with("future revision"));
        assert_eq!(refusal("404 page not found"), None);
    }
}
