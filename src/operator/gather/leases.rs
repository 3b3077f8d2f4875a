//! Leases: who holds each, on which node that is, and who may take it.

use super::{Error, Flags, controller, is, is_finished, node_of, read};
use crate::{
    operator::{
        leases::{MOST, NAMESPACE, PAGE, is_judged, page},
        locks::if_allowed,
    },
    topology::{Candidate, Lease, Node, Timer, host_of},
};
use k8s_openapi::api::{coordination::v1 as coordination, core::v1::Pod};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;

/// Namespaces whose Leases are read whatever is asked for: the control plane's, and those of nodes, on which nobody is elected.
const READ_ANYWAY: [&str; 2] = [NAMESPACE, "kube-node-lease"];
/// LeaseDuration, RenewDeadline and RetryPeriod of whoever sets none, seconds (`RecommendedDefaultLeaderElectionConfiguration`; those of
/// controller-runtime are the same).
const USUAL: (f64, f64, f64) = (15.0, 10.0, 2.0);
const USUAL_SOURCE: &str = "component-base/config/v1alpha1/defaults.go";

/// What is known of a cluster beside its Leases.
pub struct Known<'a> {
    pub nodes: &'a [Node],
    /// The control plane's pods.
    pub components: &'a [Pod],
    /// All pods of the cluster.
    pub pods: &'a [Pod],
}

/// The Leases of namespaces beside `kube-system` that somebody was elected on, and what was left out of them, in words. One whose Leases
/// may not be read stops no run: it may have been deleted, and with it the right.
///
/// # Errors
/// Where the API does not answer.
pub async fn of_others(
    client: &Client,
    namespaces: &[String],
) -> Result<(Vec<coordination::Lease>, Vec<String>), Error> {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    // Each once, and without the nodes' heartbeats.
    let others: BTreeSet<&str> = namespaces.iter().map(String::as_str).filter(|n| !READ_ANYWAY.contains(n)).collect();
    for namespace in others {
        let leases: Api<coordination::Lease> = Api::namespaced(client.clone(), namespace);
        let Some(list) = if_allowed(leases.list(&page()).await).map_err(read("Leases"))? else {
            unread.push(format!("{namespace}: its Leases may not be read"));
            continue;
        };
        if list.metadata.continue_.as_deref().is_some_and(|more| !more.is_empty()) {
            unread.push(format!("{namespace}: its Leases after the first {PAGE} are left out"));
        }
        found.extend(list.items.into_iter().filter(is_held));
    }
    if found.len() > MOST {
        let left_out = found.split_off(MOST);
        let all = MOST + left_out.len();
        unread.push(format!("{} of {all} Leases outside of {NAMESPACE} are left out", left_out.len()));
    }
    Ok((found, unread))
}

/// Of the Leases of `kube-system` those that somebody was elected on, the control plane's own first, and what was left out of them, in
/// words.
pub fn of_system(found: Vec<coordination::Lease>, components: &[Pod]) -> (Vec<coordination::Lease>, Option<String>) {
    let is_own = |lease: &coordination::Lease| components.iter().any(|p| is(p, &lease.name_any()));
    let mut found: Vec<coordination::Lease> = found.into_iter().filter(is_held).collect();
    found.sort_by_key(|lease| !is_own(lease));
    let all = found.len();
    found.truncate(MOST);
    let left_out = all - found.len();
    (found, (left_out > 0).then(|| format!("{left_out} of {all} Leases of {NAMESPACE} are left out")))
}

fn is_held(lease: &coordination::Lease) -> bool {
    is_judged(lease) && holder(lease).is_some()
}

fn holder(lease: &coordination::Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// A Lease that somebody was elected on.
pub fn lease(lease: &coordination::Lease, known: &Known<'_>) -> Option<Lease> {
    let (spec, holder) = (lease.spec.as_ref()?, holder(lease).filter(|_| is_judged(lease))?);
    let (namespace, name, host) = (lease.namespace().unwrap_or_default(), lease.name_any(), host_of(holder));
    let is_component = |p: &&Pod| namespace == NAMESPACE && is(p, &name);
    let components: Vec<&Pod> = known.components.iter().filter(is_component).collect();
    let pods = if components.is_empty() { candidates(known.pods, &namespace, host) } else { Vec::new() };
    let timers = Timers::of(spec.lease_duration_seconds, components.first().copied());
    let mut candidate_nodes: Vec<String> = match components.is_empty() {
        true => pods.iter().filter(|p| p.pod != host).map(|p| p.node.clone()).collect(),
        false => components.iter().filter_map(|p| node_of(p)).collect(),
    };
    let holder_node = placed(host, &pods, known.nodes);
    candidate_nodes.retain(|node| Some(node) != holder_node.as_ref());
    candidate_nodes.sort_unstable();
    candidate_nodes.dedup();
    Some(Lease {
        holder_node,
        candidate_nodes,
        pods,
        transitions: spec.lease_transitions.unwrap_or_default(),
        lease_duration: timers.duration,
        renew_deadline: timers.renew_deadline,
        retry_period: timers.retry_period,
        strategy: spec.strategy.clone().filter(|s| !s.is_empty()),
        holder: holder.to_owned(),
        namespace,
        name,
    })
}

/// The pod of this name, and those that have the same controller: replicas of one Deployment at one revision, or of one StatefulSet; of
/// those of a DaemonSet no more than of all Leases. Empty where there is no such pod, or it is ending anyway.
fn candidates(pods: &[Pod], namespace: &str, name: &str) -> Vec<Candidate> {
    let lives = |p: &&Pod| p.namespace().as_deref() == Some(namespace) && is_live(p);
    let Some(holder) = pods.iter().filter(lives).find(|p| p.name_any() == name) else { return Vec::new() };
    let of = |pod: &Pod| controller(pod).map(|owner| owner.uid.clone());
    let is_sibling = |p: &&Pod| p.name_any() == name || (of(p).is_some() && of(p) == of(holder));
    let candidate = |p: &Pod| Some(Candidate { pod: p.name_any(), node: node_of(p)? });
    let mut all: Vec<Candidate> = pods.iter().filter(lives).filter(is_sibling).filter_map(candidate).collect();
    all.sort_by_key(|p| p.pod != name);
    all.truncate(MOST);
    all
}

fn is_live(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none() && node_of(pod).is_some()
}

/// The node of that name, or of the pod of that name. Where there are both, and they are two, nobody knows.
fn placed(host: &str, pods: &[Candidate], nodes: &[Node]) -> Option<String> {
    let node = nodes.iter().find(|n| n.name == host).map(|n| &n.name);
    let of_pod = pods.iter().find(|p| p.pod == host).map(|p| &p.node);
    match (node, of_pod) {
        (Some(node), Some(of_pod)) => (node == of_pod).then(|| node.clone()),
        (node, of_pod) => node.or(of_pod).cloned(),
    }
}

/// How long it takes to lose and to take it, seconds.
struct Timers {
    duration: f64,
    renew_deadline: Timer,
    retry_period: Timer,
}

impl Timers {
    /// `duration`: what the Lease itself says. `component`: a pod of the control plane whose Lease it is.
    fn of(duration: Option<i32>, component: Option<&Pod>) -> Self {
        let (usual, deadline, retry) = USUAL;
        let told = duration.filter(|seconds| *seconds > 0).map(f64::from);
        let duration = told.unwrap_or(usual);
        let (renew_deadline, retry_period) = match component.map(Flags::of) {
            Some(flags) => {
                let timer = |flag, default| flags.timer(flag, default, USUAL_SOURCE);
                (timer("leader-elect-renew-deadline", deadline), timer("leader-elect-retry-period", retry))
            }
            // Nobody can be asked: an operator may have it in its code.
            None => {
                let of = if told.is_some() { "its LeaseDuration" } else { "a LeaseDuration that it does not tell" };
                let assumed = |part: f64| {
                    let usually = format!("client-go's defaults of {usual}, {deadline} and {retry} s, {USUAL_SOURCE}");
                    let source = format!("{part}/{usual} of {of}, {duration} s, as by {usually}");
                    Timer::assumed(duration * part / usual, source)
                };
                (assumed(deadline), assumed(retry))
            }
        };
        Timers { duration, renew_deadline, retry_period }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::gather::COMPONENT;
    use serde_json::{Value, json};

    fn held(namespace: &str, name: &str, holder: &str) -> coordination::Lease {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 60, "leaseTransitions": 2},
        }))
        .unwrap()
    }

    /// A pod of `shop` whose controller has this uid.
    fn pod(name: &str, node: &str, owner: &str, more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"namespace": "shop", "name": name, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"name": "manager"}]},
        });
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(pod).unwrap()
    }

    fn node(name: &str) -> Node {
        Node { name: name.into(), ..Node::default() }
    }

    fn found(lease: &coordination::Lease, components: &[Pod], pods: &[Pod]) -> Option<Lease> {
        let nodes = ["c1", "w1", "w2"].map(node);
        super::lease(lease, &Known { nodes: &nodes, components, pods })
    }

    #[test]
    fn a_holder_is_the_pod_of_its_name_and_its_siblings_are_candidates() {
        let none = || json!({});
        let pods = [
            pod("cert-1", "w1", "a", none()),
            pod("cert-2", "w2", "a", none()),
            pod("cert-10", "c1", "b", none()),
            pod("cert-3", "c1", "a", json!({"status": {"phase": "Failed"}})),
        ];
        for holder in ["cert-1", "cert-1_4c1b", "cert-1_4c1b_more"] {
            let lease = found(&held("shop", "cert", holder), &[], &pods).unwrap();
            assert_eq!(lease.holder_node.as_deref(), Some("w1"));
            assert_eq!(lease.candidate_nodes, ["w2"]);
            assert_eq!(lease.pods.iter().map(|p| p.pod.as_str()).collect::<Vec<_>>(), ["cert-1", "cert-2"]);
            assert_eq!((lease.node_of("cert-2_9f"), lease.node_of("cert-7_9f")), ("w2", "cert-7"));
        }
        // By a part of a name, in another namespace, and by a name that it made up.
        for (namespace, holder) in [("shop", "cert"), ("shop", "cert-1-controller"), ("other", "cert-1")] {
            let lease = found(&held(namespace, "cert", holder), &[], &pods).unwrap();
            assert_eq!((lease.holder_node, lease.pods.len()), (None, 0), "{namespace} {holder}");
        }
        assert_eq!(found(&held("shop", "cert", "cert-10"), &[], &pods).unwrap().pods.len(), 1, "it is alone");
    }

    #[test]
    fn a_holder_that_may_be_a_node_or_a_pod_is_nowhere() {
        let pods = |node: &str| [pod("w1", node, "a", json!({})), pod("w2", "w2", "a", json!({}))];
        let place = |on: &str| found(&held("shop", "db", "w1_1"), &[], &pods(on)).unwrap().holder_node;
        assert_eq!((place("c1"), place("w1").as_deref()), (None, Some("w1")));
    }

    #[test]
    fn of_too_many_leases_the_control_planes_own_stay() {
        let name = |lease: &coordination::Lease| lease.name_any();
        let metadata = json!({"namespace": "kube-system", "name": "s", "labels": {COMPONENT: "kube-scheduler"}});
        let components = [pod("", "c1", "", json!({"metadata": metadata}))];
        let of_nodes = (0..MOST + 20).map(|i| held("kube-system", &format!("driver-w{i:03}"), "w1"));
        let all = of_nodes.chain([held("kube-system", "kube-scheduler", "c1_7"), held("kube-system", "nobodys", "")]);
        let (kept, left_out) = of_system(all.collect(), &components);
        assert_eq!((kept.len(), name(&kept[0]).as_str()), (MOST, "kube-scheduler"));
        assert_eq!(name(&kept[1]), "driver-w000", "then by name");
        assert_eq!(left_out.as_deref(), Some("21 of 121 Leases of kube-system are left out"));
        let one = vec![held("kube-system", "kube-scheduler", "c1_7")];
        assert_eq!(of_system(one.clone(), &components), (one, None));
    }

    #[test]
    fn a_component_is_on_the_node_of_its_name_and_its_pods_tell_its_timers() {
        let component = |node: &str| {
            let labels = json!({"metadata": {"namespace": "kube-system", "name": format!("kube-scheduler-{node}"),
                "labels": {COMPONENT: "kube-scheduler"}}});
            let mut pod = pod("", node, "", labels);
            pod.spec.as_mut().unwrap().containers[0].command = Some(vec!["--leader-elect-retry-period=5s".into()]);
            pod
        };
        let components = ["c1", "w1"].map(component);
        let lease = found(&held("kube-system", "kube-scheduler", "c1_7"), &components, &components).unwrap();
        assert_eq!((lease.holder_node.as_deref(), lease.pods.len()), (Some("c1"), 0));
        assert_eq!(lease.candidate_nodes, ["w1"]);
        assert_eq!((lease.retry_period.seconds, lease.retry_period.assumed), (5.0, false));
        assert_eq!((lease.renew_deadline.seconds, lease.renew_deadline.assumed), (10.0, false));
        // Another scheduler, elsewhere.
        let other = found(&held("shop", "kube-scheduler", "c1_7"), &components, &components).unwrap();
        assert!(other.candidate_nodes.is_empty() && other.retry_period.assumed);
    }

    #[test]
    fn what_only_the_holder_knows_is_assumed_by_its_lease_duration() {
        let timers = |duration| {
            let Timers { duration, renew_deadline, retry_period } = Timers::of(duration, None);
            assert!(renew_deadline.assumed && retry_period.assumed);
            assert!(renew_deadline.source.contains("client-go's defaults"), "{}", renew_deadline.source);
            (duration, renew_deadline.seconds, retry_period.seconds)
        };
        assert_eq!(timers(Some(15)), (15.0, 10.0, 2.0));
        assert_eq!(timers(Some(60)), (60.0, 40.0, 8.0));
        assert_eq!(timers(None), (15.0, 10.0, 2.0));
        assert_eq!(timers(Some(0)), (15.0, 10.0, 2.0));
        assert!(Timers::of(None, None).renew_deadline.source.contains("does not tell"));
    }

    #[test]
    fn nobody_is_elected_on_a_lease_without_a_holder_nor_on_ours() {
        assert_eq!(found(&held("shop", "cert", ""), &[], &[]), None);
        for own in ["rackpartition-operator", "rackpartition-canary-c1", "rackpartition-register-1a2b-c1"] {
            assert_eq!(found(&held("shop", own, "c1"), &[], &[]), None, "{own}");
        }
        let mut identity = held("kube-system", "apiserver-x", "c1");
        identity.labels_mut().insert("apiserver.kubernetes.io/identity".into(), "kube-apiserver".into());
        assert_eq!(found(&identity, &[], &[]), None);
    }
}
