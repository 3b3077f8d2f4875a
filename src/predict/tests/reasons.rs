//! Each line's reason: where its timers come from, and every constant beside them.

use super::*;
use crate::topology::{Budget, Candidate, Lease};

const ELECTION: &str = "election timeout 1 s (--election-timeout of etcd-cp1)";
const CHECK: &str = "2 s (--etcd-healthcheck-timeout of cp1)";
const LEASE: [&str; 4] = ["(the Lease itself)", "RetryPeriod 2 s (RP)", "(JitterFactor)", "(ours)"];
const TOLD: [&str; 5] = ["(HTTP/2 pings", "TCP_RTO_MAX", "(MaxContainerBackOff)", "(the pods' own)", "(ours)"];
const READY: [&str; 6] =
    ["TCP_RTO_MAX", "(MaxContainerBackOff)", "(cmd/kubelet/app/server.go)", "(maxBackoff)", "10 s (RENEW)", "(ours)"];
const NODES: [&str; 4] = ["(GRACE)", "(PERIOD)", "(RATE)", "(ours)"];

/// The fixture's cluster with a source for every timer; with budgets, a Lease that a pod holds, and one whose holder an API server picks.
fn rich() -> Snapshot {
    let mut snapshot = upstream();
    for lease in &mut snapshot.leases {
        (lease.renew_deadline.source, lease.retry_period.source) = ("RD".into(), "RP".into());
    }
    let (cert, csi) = (snapshot.leases[0].clone(), snapshot.leases[0].clone());
    snapshot.leases.push(Lease {
        namespace: "cert-manager".into(),
        name: "cert".into(),
        holder: "cert-1_4c1b".into(),
        holder_node: Some("w1".into()),
        candidate_nodes: vec!["w2".into()],
        pods: vec![Candidate { pod: "cert-1".into(), node: "w1".into() }],
        ..cert
    });
    snapshot.leases.push(Lease { name: "csi".into(), strategy: Some("OldestEmulationVersion".into()), ..csi });
    let timers = &mut snapshot.timers;
    timers.node_monitor_grace.source = "GRACE".into();
    timers.node_monitor_period.source = "PERIOD".into();
    timers.node_eviction_rate.source = "RATE".into();
    timers.node_lease_renew.source = "RENEW".into();
    timers.etcd_election = Timer::read(1.0, "--election-timeout of etcd-cp1");
    timers.etcd_check = Some(Timer::read(2.0, "--etcd-healthcheck-timeout of cp1"));
    timers.liveness_period = Some(Timer::read(10.0, "periodSeconds"));
    timers.liveness_failures = Some(Timer::read(8.0, "failureThreshold"));
    timers.api_server_grace = Some(Timer::read(30.0, "terminationGrace"));
    let budget = |name: &str, healthy: &str| Budget {
        namespace: "default".into(),
        name: name.into(),
        desired_healthy: Some(1),
        healthy: vec![healthy.into()],
    };
    snapshot.budgets = vec![budget("db", "db-0"), budget("dns", "dns-5bc6f7d8f4-ccccc")];
    snapshot
}

/// What names nothing: no timer and no constant rules it. Each by its check and its subject, "" for all, with why that is so.
const WITHOUT: [(Check, &str, &str); 3] = [
    (Check::FaultProven, "network", "edges are counted"),
    (Check::LeaseStable, "kube-system/snapshot-controller", "who can renew a Lease keeps it"),
    (Check::WorkloadKept, "", "a kubelet ends no container because it is cut off, however long that is"),
];

#[test]
fn every_line_names_the_source_of_its_timers_and_constants() {
    use Check::*;
    let takeover = [&LEASE[..], &["10 s (RD)", ELECTION, "NewFromKubeconfig"]].concat();
    let picked = [&LEASE[..], &[ELECTION, "run_with_leaderelection.go", "leaderelection_controller.go"]].concat();
    let margin = ["LeaseDuration (the Lease itself)", "RetryPeriod (RP)", "RenewDeadline (RD)", "NewFromKubeconfig"];
    let taints = [&READY[..], &["(nodeStatusUpdateFrequency)", "every 5 s (PERIOD)", "(upstream's default)"]].concat();
    let unready = ["server/options/etcd.go", "factory/etcd3.go", CHECK, "(ours)"];
    let restart = ["factory/etcd3.go", CHECK, "(periodSeconds)", "(failureThreshold)", "30 s (terminationGrace)"];
    let stale = [
        "one is 1 s (--election-timeout of etcd-cp1)",
        "MsgCheckQuorum",
        "maxNoLeaderCnt",
        "MaxInternalErrorRetryDuration",
        "(ours)",
    ];
    let removed = [&READY[..5], &["`NodeNotReady`", "(theory C11)", "syncPeriod"]].concat();
    let dropped = ["DefaultEndpointReconcilerTTL", "DefaultEndpointReconcilerInterval", ELECTION, "(theory C11)"];
    // Every line has its row, by its subject or, with "", by its check alone.
    let table: Vec<(Check, &str, Vec<&str>)> = vec![
        (EtcdQuorum, "isolated", vec![ELECTION, "MsgCheckQuorum", "ReqTimeout", "(ours)"]),
        (EtcdQuorum, "rest", vec![ELECTION, "raft", "(ours)"]),
        (ApiWritable, "isolated", vec![ELECTION, "(ours)"]),
        (ApiWritable, "rest", vec![ELECTION, "raft", "(ours)"]),
        (ApiServerReady, "cp1", unready.to_vec()),
        (ApiServerReady, "cp1: container", restart.to_vec()),
        (StaleRead, "isolated", stale.to_vec()),
        (LeaseTakeover, "kube-system/csi", picked),
        (LeaseTakeover, "", takeover),
        (LeaderGap, "", [&margin[..], &["(JitterFactor)", "`LeaseTakeover`"]].concat()),
        (LeaderOverlap, "", margin.to_vec()),
        (NodeNotReady, "", NODES.to_vec()),
        (NodeTainted, "isolated: 2 nodes", NODES.to_vec()),
        (EndpointsRemoved, "isolated: 3 ready pods", removed),
        (EndpointsRemoved, "default/kubernetes/cp1", [&dropped[..], &["TCP_RTO_MAX", "(ours)"]].concat()),
        (WorkloadEvicted, "", vec!["`NodeTainted`: GRACE, PERIOD, RATE", "5 s of toleration (the pods' own)"]),
        (WorkloadDoubled, "default/web (Deployment)", vec!["`WorkloadEvicted`", "(ours)"]),
        (WorkloadDoubled, "default/db (StatefulSet)", vec!["`WorkloadEvicted`", "(pkg/controller/statefulset)"]),
        (WorkloadDoubled, "default/dns (Deployment)", vec!["GRACE, PERIOD, RATE", "300 s of toleration ("]),
        (WorkloadStuck, "", [&TOLD[..], &["`WorkloadEvicted`"]].concat()),
        (HealDamage, "", TOLD.to_vec()),
        (Recovery, "etcd", vec!["TCP_RTO_MAX", "kernel/time/timer.c", "theory C22"]),
        (Recovery, "API servers", vec!["TCP_RTO_MAX", "(MaxContainerBackOff)", "(ours)"]),
        (Recovery, "Leases", LEASE.to_vec()),
        (Recovery, "nodes", [&READY[..], &["(nodeStatusUpdateFrequency)"]].concat()),
        (Recovery, "taints", taints.clone()),
        (Recovery, "pods", [&READY[..], &["(syncPeriod)"]].concat()),
        // That of the part that is last.
        (Recovery, "cluster", [&taints[..], &["its longest part, taints: "]].concat()),
    ];
    let predictions = isolate(&rich(), &["r1"], 120).predictions;
    let is_of = |line: &Prediction, check: Check, subject: &str| {
        line.check == check && (subject.is_empty() || line.subject == subject)
    };
    for line in &predictions {
        let row = table.iter().find(|(check, subject, _)| is_of(line, *check, subject));
        let without = WITHOUT.iter().find(|(check, subject, _)| is_of(line, *check, subject));
        match (row, without) {
            (Some((.., named)), None) => {
                named.iter().for_each(|word| assert!(line.reason.contains(word), "{word} is not in {line:#?}"));
            }
            (None, Some((.., why))) => {
                let is_bare = times(&words(&line.reason)).is_empty() && !line.reason.contains('(');
                assert!(is_bare, "not so that {why}: {line:#?}");
            }
            _ => panic!("in one of the two tables each line has to be: {line:#?}"),
        }
    }
    let rows = table.iter().map(|(check, subject, _)| (*check, *subject));
    for (check, subject) in rows.chain(WITHOUT.iter().map(|(check, subject, _)| (*check, *subject))) {
        assert!(predictions.iter().any(|line| is_of(line, check, subject)), "no line is {check:?} of {subject}");
    }
}

fn words(reason: &str) -> Vec<&str> {
    reason.split(' ').collect()
}

/// Where a time stands among these words: `5 s`, `6–7.5 s`.
fn times(words: &[&str]) -> Vec<usize> {
    let is_time = |at: &usize| {
        let is_number = words[*at].trim_start_matches('(').starts_with(|c: char| c.is_ascii_digit());
        is_number && words.get(at + 1).is_some_and(|unit| unit.trim_end_matches([',', ';', ':', ')']) == "s")
    };
    (0..words.len()).filter(is_time).collect()
}

/// The times in a reason behind which, before the next one, stands neither a source in parentheses nor, after a colon, what they are made
/// of. What comes of numbers before it stands after "=".
fn unsourced(reason: &str) -> Vec<String> {
    let words = words(reason);
    let times = times(&words);
    let ends = times.iter().skip(1).copied().chain([words.len()]);
    let of = |(at, end): (usize, usize)| {
        let behind = words[at + 1..end].join(" ");
        let is_result = at > 0 && words[at - 1] == "=";
        let is_sourced = is_result || behind.contains(['(', ')', ':']);
        (!is_sourced).then(|| format!("{} {behind}", words[at]))
    };
    times.iter().copied().zip(ends).filter_map(of).collect()
}

#[test]
fn a_time_without_a_source_is_found() {
    assert_eq!(unsourced("a 5 s (ours), b 6–7.5 s: 3 s (x), then 3 s (y) = 4 s, or (2 s, z)"), Vec::<String>::new());
    assert_eq!(unsourced("a 5 s, b 6 s (ours), c 7 s; d"), ["5 s, b", "7 s; d"]);
}

#[test]
fn behind_every_time_of_a_reason_stands_where_it_comes_from() {
    let of = |snapshot: &Snapshot, spec: serde_json::Value, seconds: u64| {
        let fault = fault::expand(&serde_json::from_value(spec).unwrap(), snapshot).unwrap();
        predict(snapshot, &fault, &fault::sides(snapshot, &fault), Duration::from_secs(seconds)).predictions
    };
    let cut = |cut: serde_json::Value| serde_json::json!({"cut": cut, "duration": "60s"});
    let isolated = || cut(serde_json::json!({"isolate": {"racks": ["r1"]}}));
    let bridged = cut(serde_json::json!({"bridge": {"groups": [{"racks": ["r1"]}, {"racks": ["r3"]}]}}));
    let deaf = serde_json::json!({"from": {"racks": ["r2", "r3"]}, "to": {"racks": ["r1"]}, "both": false});
    // No side can write.
    let mut halves = rich();
    halves.etcd.retain(|m| m.node != "cp3");
    // A controller manager that is alone; etcd's elections that take longer than a RenewDeadline.
    let mut alone = rich();
    alone.leases.iter_mut().for_each(|l| l.candidate_nodes.clear());
    let mut slow = rich();
    slow.timers.etcd_election.seconds = 5.0;
    // Pods that take longer to end than anything else does to come back.
    let mut patient = rich();
    patient.pods.iter_mut().for_each(|p| p.grace_period = 900.0);
    let (rich, calm) = (rich(), leaders_elsewhere(rich()));
    // From a cut that is over before anything comes of it to one in which everything does.
    let lengths = [1, 12, 60, 120, 440];
    let mut lines: Vec<Prediction> = Vec::new();
    for seconds in lengths {
        for snapshot in [&rich, &calm, &halves, &alone, &slow, &patient, &snapshot()] {
            lines.extend(of(snapshot, isolated(), seconds));
        }
        lines.extend(of(&rich, bridged.clone(), seconds));
        lines.extend(of(&rich, cut(serde_json::json!({"edges": [deaf.clone()]})), seconds));
    }
    for line in &lines {
        assert_eq!(unsourced(&line.reason), Vec::<String>::new(), "{line:#?}");
    }
}
