//! What static pods of the control plane say beside their flags: versions and probes.

use super::{is, node_of};
use crate::{
    operator::flags::Flags,
    predict::constants::ETCD_CHECK_TIMEOUT,
    topology::{EndpointReconciler, Timer},
};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use std::collections::BTreeMap;

/// PreVote is on by default from this version of etcd on (CHANGELOG-3.5, #12770).
const WITH_PRE_VOTE: (u32, u32) = (3, 5);

/// Nodes of members of etcd that ask for votes without asking first whether they would get them. One whose version its image does not
/// tell is taken for a new one.
pub fn without_pre_vote(components: &[Pod]) -> Vec<String> {
    let asks_at_once = |pod: &&Pod| match Flags::of(pod).get("pre-vote") {
        Some(value) => value == "false",
        None => container(pod).and_then(|c| version(c.image.as_deref()?)).is_some_and(|v| v < WITH_PRE_VOTE),
    };
    components.iter().filter(|p| is(p, "etcd")).filter(asks_at_once).filter_map(node_of).collect()
}

/// How API servers keep the endpoints of the Service `kubernetes`; `None` where there is no pod of theirs that could be read. Of several
/// that differ the one counts that is not the default, of which less can be said.
pub fn endpoint_reconciler(components: &[Pod]) -> Option<EndpointReconciler> {
    let of = |pod: &Pod| match Flags::of(pod).get(RECONCILER) {
        Some("master-count") => EndpointReconciler::MasterCount,
        Some("none") => EndpointReconciler::None,
        _ => EndpointReconciler::Lease,
    };
    let all: Vec<EndpointReconciler> = components.iter().filter(|p| is(p, "kube-apiserver")).map(of).collect();
    all.iter().find(|r| **r != EndpointReconciler::Lease).or(all.first()).copied()
}

const RECONCILER: &str = "endpoint-reconciler-type";
/// Flags that a prediction reads and that should be the same wherever a component runs.
const COMMON: [(&str, &[&str]); 4] = [
    ("etcd", &["election-timeout"]),
    ("kube-apiserver", &["etcd-healthcheck-timeout", "etcd-readycheck-timeout", RECONCILER]),
    (
        "kube-controller-manager",
        &[
            "leader-elect-renew-deadline",
            "leader-elect-retry-period",
            "node-monitor-grace-period",
            "node-monitor-period",
            "node-eviction-rate",
            "secondary-node-eviction-rate",
            "unhealthy-zone-threshold",
            "large-cluster-size-threshold",
        ],
    ),
    ("kube-scheduler", &["leader-elect-renew-deadline", "leader-elect-retry-period"]),
];

/// Those of them on which the pods of one component do not agree, each in words: a prediction takes the first one's.
pub fn unlike_flags(components: &[Pod]) -> Vec<String> {
    let of = |(component, flags): (&str, &[&str])| {
        let pods: Vec<(String, Flags)> =
            components.iter().filter(|p| is(p, component)).map(|p| (p.name_any(), Flags::of(p))).collect();
        let unlike = |flag: &&str| {
            let mut by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (pod, flags) in &pods {
                by.entry(flags.get(flag).unwrap_or("not set")).or_default().push(pod);
            }
            let values: Vec<String> = by.iter().map(|(value, pods)| format!("{value} ({})", pods.join(", "))).collect();
            (values.len() > 1).then(|| format!("{component} --{flag}: {}", values.join(", ")))
        };
        flags.iter().filter_map(unlike).collect::<Vec<_>>()
    };
    COMMON.into_iter().flat_map(of).collect()
}

fn container(pod: &Pod) -> Option<&Container> {
    pod.spec.as_ref()?.containers.first()
}

/// `3.5` of `registry.k8s.io/etcd:3.5.21-0`; None where the tag is no version.
fn version(image: &str) -> Option<(u32, u32)> {
    let (_, tag) = image.split('@').next()?.rsplit_once(':')?;
    let mut parts = tag.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The longer of the two times that an API server's health checks wait for etcd.
pub fn etcd_check(api_server: &Flags) -> Timer {
    let timer = |flag| api_server.timer(flag, ETCD_CHECK_TIMEOUT, "apiserver server/options/etcd.go");
    let (health, ready) = (timer("etcd-healthcheck-timeout"), timer("etcd-readycheck-timeout"));
    if ready.seconds > health.seconds { ready } else { health }
}

/// The liveness probe of the first API server that has one. Kubernetes' defaults stand for what it leaves out.
#[derive(Debug, Default)]
pub struct Liveness {
    pub period: Option<Timer>,
    pub failures: Option<Timer>,
    pub grace: Option<Timer>,
}

impl Liveness {
    pub fn of(components: &[Pod]) -> Self {
        let probed = components.iter().filter(|p| is(p, "kube-apiserver")).find_map(|pod| {
            let probe = container(pod)?.liveness_probe.as_ref()?;
            Some((pod, probe))
        });
        let Some((pod, probe)) = probed else { return Liveness::default() };
        let of = |seconds: f64, field: &str| Some(Timer::read(seconds, format!("{field} of {}", pod.name_any())));
        let of_pod = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        Liveness {
            period: of(f64::from(probe.period_seconds.unwrap_or(10)), "livenessProbe.periodSeconds"),
            failures: of(f64::from(probe.failure_threshold.unwrap_or(3)), "livenessProbe.failureThreshold"),
            grace: of(
                probe.termination_grace_period_seconds.or(of_pod).unwrap_or(30) as f64,
                "terminationGracePeriodSeconds",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn etcd(node: &str, image: &str, command: &[&str]) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("etcd-{node}"), "labels": {"component": "etcd"}},
            "spec": {"nodeName": node, "containers": [{"name": "etcd", "image": image, "command": command}]},
        }))
        .unwrap()
    }

    #[test]
    fn pre_vote_by_flag_or_else_by_version() {
        let asks_at_once = |image, command: &[&str]| !without_pre_vote(&[etcd("n1", image, command)]).is_empty();
        assert!(asks_at_once("registry.k8s.io/etcd:3.4.13-0", &["etcd"]));
        assert!(!asks_at_once("registry.k8s.io/etcd:3.4.13-0", &["etcd", "--pre-vote=true"]));
        assert!(!asks_at_once("registry.k8s.io/etcd:3.5.21-0", &["etcd"]));
        assert!(asks_at_once("registry.k8s.io/etcd:v3.6.1", &["etcd", "--pre-vote=false"]));
        for unknown in ["example.com:5000/etcd", "etcd:latest", "etcd@sha256:00"] {
            assert!(!asks_at_once(unknown, &["etcd"]), "{unknown}");
        }
    }

    #[test]
    fn what_etcd_has_in_its_environment_counts_as_its_flags_do() {
        let with = |node: &str, command: &[&str], name: &str, value: &str| {
            let mut pod = etcd(node, "registry.k8s.io/etcd:3.5.21-0", command);
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.env = serde_json::from_value(json!([{"name": name, "value": value}])).unwrap();
            pod
        };
        assert_eq!(without_pre_vote(&[with("n1", &["etcd"], "ETCD_PRE_VOTE", "false")]), ["n1"]);
        let flag_first = with("n1", &["etcd", "--pre-vote=true"], "ETCD_PRE_VOTE", "false");
        assert!(without_pre_vote(&[flag_first]).is_empty());
        let by_flag = etcd("n2", "etcd", &["etcd", "--election-timeout=1000"]);
        let members = [with("n1", &["etcd"], "ETCD_ELECTION_TIMEOUT", "5000"), by_flag];
        assert_eq!(unlike_flags(&members), ["etcd --election-timeout: 1000 (etcd-n2), 5000 (etcd-n1)"]);
    }

    #[test]
    fn the_probe_is_read_and_what_it_leaves_out_is_the_default() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "kube-apiserver-n1", "labels": {"component": "kube-apiserver"}},
            "spec": {"terminationGracePeriodSeconds": 20, "containers": [
                {"name": "kube-apiserver", "livenessProbe": {"failureThreshold": 8, "periodSeconds": 5}}]},
        }))
        .unwrap();
        let probe = Liveness::of(std::slice::from_ref(&pod));
        let seconds = |timer: Option<Timer>| timer.map(|t| (t.seconds, t.assumed));
        assert_eq!(seconds(probe.period), Some((5.0, false)));
        assert_eq!(seconds(probe.failures), Some((8.0, false)));
        assert_eq!(seconds(probe.grace), Some((20.0, false)));
        assert!(Liveness::of(&[etcd("n1", "etcd:3.5.0", &["etcd"])]).period.is_none());
    }

    #[test]
    fn the_longer_of_two_waits_for_etcd_counts() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "kube-apiserver-n1"},
            "spec": {"containers": [{"name": "api", "command": ["kube-apiserver", "--etcd-readycheck-timeout=5s"]}]},
        }))
        .unwrap();
        assert_eq!(etcd_check(&Flags::of(&pod)).seconds, 5.0);
        let unknown = etcd_check(&Flags::default());
        assert_eq!((unknown.seconds, unknown.assumed), (2.0, true));
    }

    fn component(name: &str, node: &str, command: &[&str]) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{name}-{node}"), "labels": {"component": name}},
            "spec": {"nodeName": node, "containers": [{"name": name, "command": command}]},
        }))
        .unwrap()
    }

    #[test]
    fn who_keeps_the_endpoints_of_api_servers_is_read_of_their_flags() {
        let server = |node, command: &[&str]| component("kube-apiserver", node, command);
        let read = |pods: &[Pod]| endpoint_reconciler(pods);
        assert_eq!(read(&[component("etcd", "c1", &["--endpoint-reconciler-type=none"])]), None);
        let default = server("c1", &["kube-apiserver"]);
        assert_eq!(read(std::slice::from_ref(&default)), Some(EndpointReconciler::Lease));
        assert_eq!(read(&[server("c1", &["--endpoint-reconciler-type", "none"])]), Some(EndpointReconciler::None));
        let counting = server("c2", &["--endpoint-reconciler-type=master-count"]);
        assert_eq!(read(&[default, counting]), Some(EndpointReconciler::MasterCount));
    }

    #[test]
    fn pods_of_one_component_that_do_not_agree_are_told() {
        let manager = |node, command: &[&str]| component("kube-controller-manager", node, command);
        let pods = [
            manager("c1", &["--node-monitor-grace-period=40s", "--node-eviction-rate=1"]),
            manager("c2", &["--node-monitor-grace-period", "40s", "--node-eviction-rate=1"]),
            manager("c3", &["--bind-address=198.18.0.3", "--node-eviction-rate=1"]),
            component("etcd", "c1", &["--name=c1", "--election-timeout=1000"]),
            component("etcd", "c2", &["--name=c2", "--election-timeout=5000"]),
        ];
        let told = [
            "etcd --election-timeout: 1000 (etcd-c1), 5000 (etcd-c2)",
            "kube-controller-manager --node-monitor-grace-period: 40s (kube-controller-manager-c1, \
             kube-controller-manager-c2), not set (kube-controller-manager-c3)",
        ];
        assert_eq!(unlike_flags(&pods), told);
        assert!(unlike_flags(&pods[3..4]).is_empty());
    }
}
