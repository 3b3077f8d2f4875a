//! What others wrote into a cluster's objects, or answer, as text, whatever it is: each reader takes it or leaves it.

use super::{addresses, alarms, etcd, flags::Flags, locks, objects};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use reqwest::StatusCode;
use std::collections::BTreeMap;

/// One that is a time, and read as often as any.
const FLAG: &str = "node-monitor-grace-period";

/// Gives the same bytes to every reader; the names of those that understood them. Panics where one breaks a rule. For the fuzz target and
/// the test below.
pub fn read_any_object(bytes: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let took = [
        ("flags", has_timer(&text)),
        ("lock", is_lock(&text)),
        ("ports", !etcd::ports_in(&text).is_empty()),
        ("addresses", addresses::addresses_in(&text).next().is_some()),
        ("series", alarms::series(StatusCode::OK, bytes).is_ok()),
    ];
    let took = took.into_iter().filter(|(_, took)| *took).map(|(reader, _)| reader);
    took.chain(objects::read_anything(bytes)).collect()
}

/// A timer is a number that JSON can hold, or nobody could read the snapshot that it is in.
fn has_timer(words: &str) -> bool {
    let command = words.split_whitespace().map(str::to_owned).collect();
    let container = Container { command: Some(command), ..Container::default() };
    let flags = Flags::of(&Pod {
        metadata: ObjectMeta { name: Some("kube-controller-manager-n1".into()), ..ObjectMeta::default() },
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        ..Pod::default()
    });
    let read = [flags.timer(FLAG, 50.0, ""), flags.milliseconds(FLAG, 50.0, ""), flags.number(FLAG, 50.0, "")];
    assert!(read.iter().all(|timer| timer.seconds.is_finite() && timer.seconds >= 0.0), "{read:?}");
    flags.get(FLAG).is_some() && !read[0].assumed
}

fn is_lock(annotation: &str) -> bool {
    let annotations = BTreeMap::from([(locks::LOCK.to_owned(), annotation.to_owned())]);
    let metadata = ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() };
    let Some(lease) = locks::as_lease("kube-scheduler", "endpoints", &metadata) else { return false };
    let _ = [Timestamp::MIN, Timestamp::MAX].map(|now| locks::is_renewed(&lease, now));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs};

    /// What no reader takes would teach a fuzzer little, and what no seed reaches is hardly fuzzed.
    #[test]
    fn each_reader_understands_a_seed_of_the_fuzz_target_and_each_seed_has_a_reader() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/objects");
        let mut all = BTreeSet::new();
        for seed in fs::read_dir(seeds).unwrap() {
            let path = seed.unwrap().path();
            let took = read_any_object(&fs::read(&path).unwrap());
            assert!(!took.is_empty(), "nobody reads {}", path.display());
            all.extend(took);
        }
        let readers = BTreeSet::from(["flags", "lock", "ports", "addresses", "series", "plan", "snapshot"]);
        assert_eq!(all, readers);
    }

    #[test]
    fn what_nobody_understands_is_left() {
        for other in ["", "\n", "{}", "\0", "--", "https://", "ü"] {
            assert_eq!(read_any_object(other.as_bytes()), [""; 0], "{other:?}");
        }
    }
}
