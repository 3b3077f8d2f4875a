//! What the components of a node say, and its kernel's tables and their logs, whatever is in them: each reader takes it or leaves it.

use super::{
    etcd::{self, Counts},
    etcd_answers, etcd_panic,
    health::{self, Answer},
    leader_metrics::Search,
    listener,
};
use std::{
    io::{self, Cursor},
    net::{Ipv4Addr, SocketAddr},
};

/// Gives the same bytes to every reader; the names of those that understood them. Panics where one breaks a rule. For the fuzz target and
/// the test below.
pub fn read_any_answer(bytes: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let counts = Counts::of(&text).map(|counts| (counts.since(None), counts.since(Some(counts))));
    let lines = || text.lines().map(|line| Ok::<_, io::Error>(line.to_owned()));
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let took = [
        ("raft", etcd_answers::raft(&text).is_some()),
        ("status", etcd_answers::Status::read(&text).is_some_and(|status| !status.detail().is_empty())),
        ("hash", etcd_answers::hash(&text, 4711).is_some()),
        ("refusal", etcd_answers::refusal(&text).is_some()),
        ("gauges", etcd::state(&text).is_some()),
        ("counts", counts.is_some()),
        ("checks", names_checks(&text)),
        ("leads", leads(bytes)),
        ("listeners", listener::listeners(lines(), 10257).is_ok_and(|found| !found.is_empty())),
        ("other end", listener::taken(lines(), at(54321), at(10257)).is_ok_and(|found| found.is_some())),
        ("panic", has_panic(bytes)),
    ];
    took.into_iter().filter(|(_, took)| *took).map(|(reader, _)| reader).collect()
}

/// A detail has its length, whatever the answer's is.
fn names_checks(body: &str) -> bool {
    let detail = |code| health::judge(&Answer::Said { code, body: body.to_owned() }).1;
    let (well, failing) = (detail(200).unwrap_or_default(), detail(503).unwrap_or_default());
    let is_short = |detail: &str| detail.chars().count() <= health::DETAIL_LIMIT + 1;
    assert!(is_short(&well) && is_short(&failing), "{well:?} {failing:?}");
    !failing.starts_with("503")
}

/// A sample is the same however its lines are torn.
fn leads(metrics: &[u8]) -> bool {
    let told = |size: usize| {
        let mut search = Search::new("kube-scheduler");
        metrics.chunks(size).for_each(|piece| search.take(piece));
        search.end()
    };
    let whole = told(metrics.len().max(1));
    assert_eq!(told(7), whole);
    whole.is_some()
}

/// Nothing that was read is read again but what may be half of one.
fn has_panic(log: &[u8]) -> bool {
    let look = |from: u64| etcd_panic::search(Cursor::new(log), from).expect("memory can be read");
    let (found, next) = look(0);
    assert!(next <= log.len() as u64 && !(found && look(next).0), "{next} of {}", log.len());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no reader takes would teach a fuzzer little, and what no seed reaches is hardly fuzzed. The kernel's tables are as a machine with
    /// the least byte first writes them.
    #[cfg(target_endian = "little")]
    #[test]
    fn each_reader_understands_a_seed_of_the_fuzz_target_and_each_seed_has_a_reader() {
        use std::{collections::BTreeSet, fs};
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/answers");
        let mut all = BTreeSet::new();
        for seed in fs::read_dir(seeds).unwrap() {
            let path = seed.unwrap().path();
            let took = read_any_answer(&fs::read(&path).unwrap());
            assert!(!took.is_empty(), "nobody reads {}", path.display());
            all.extend(took);
        }
        let readers = BTreeSet::from([
            "raft",
            "status",
            "hash",
            "refusal",
            "gauges",
            "counts",
            "checks",
            "leads",
            "listeners",
            "other end",
            "panic",
        ]);
        assert_eq!(all, readers);
    }

    #[test]
    fn what_nobody_understands_is_left() {
        let long = "x".repeat(5000);
        for other in ["", "\n", "{}", "\0", "503", "ü", long.as_str()] {
            assert_eq!(read_any_answer(other.as_bytes()), [""; 0], "{other:?}");
        }
        assert!(read_any_answer(&[0xff, b'\n', 0xfe]).is_empty());
    }
}
