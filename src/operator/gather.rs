//! Reads the cluster into a [`Snapshot`].

mod budgets;
mod control_plane;
mod leases;

use super::{addresses, cni, flags::Flags, leases::NAMESPACE, locks};
use crate::{
    api::{Endpoint as SpecEndpoint, RackPartitionSpec, Traffic, TrafficClass},
    fault::{Policy, Refusal},
    predict::constants::{EVICTION_DEFAULTS, LARGE_ZONE_NODES, SECONDARY_EVICTION_RATE, UNHEALTHY_ZONE_SHARE},
    topology::{
        ApiServer, CONTROL_PLANE_ENDPOINT, Endpoint, KUBELET_PORT, Node, OperatorReplica, Pod, ProtectedPod, Snapshot,
        Timer, Timers,
    },
};
use ipnet::IpNet;
use k8s_openapi::{
    api::{
        coordination::v1 as coordination,
        core::v1::{self as core, ConfigMap, Namespace},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{Selector, SelectorExt},
};
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// Label of the control plane's static pods (kubeadm).
pub const COMPONENT: &str = "component";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// `LabelNodeDisruptionExclusion` of the node lifecycle controller.
const EXCLUDED_FROM_DISRUPTION: &str = "node.kubernetes.io/exclude-disruption";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to read {what}: {source}")]
    Read { what: &'static str, source: Box<kube::Error> },
    #[error("failed to understand {what}: {why}")]
    Understand { what: String, why: String },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Turns a client's error into one that says what was read.
pub fn read(what: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Read { what, source: Box::new(source) }
}

/// Reads everything a plan needs. `elected`: namespaces whose Leases are looked at beside those of `kube-system`.
///
/// # Errors
/// Where something can't be read; a [`Refusal`] where the control-plane endpoint or a member of etcd can't be placed.
pub async fn gather(
    client: &Client,
    spec: &RackPartitionSpec,
    namespace: &str,
    elected: &[String],
    policy: &Policy,
) -> Result<Snapshot, Error> {
    let all = ListParams::default();
    let mut endpoints = spec.endpoints.iter().map(spec_endpoint).collect::<Result<Vec<_>, _>>()?;
    let (mut nodes, components) = nodes(client, &spec.rack_label, policy, &endpoints).await?;
    cni::add_pod_ranges(client, &mut nodes).await?;
    let all_pods = Api::<core::Pod>::all(client.clone()).list(&all).await.map_err(read("pods"))?.items;
    add_pod_addresses(&all_pods, &mut nodes);
    let found = Api::<coordination::Lease>::namespaced(client.clone(), NAMESPACE);
    let mut found = found.list(&all).await.map_err(read("Leases"))?.items;
    let lacking = locks::without_lease(&found);
    let locked = locks::if_allowed(locks::read(client, &lacking).await).map_err(read("annotation locks"))?;
    let unread_locks = if locked.is_some() { Vec::new() } else { lacking.into_iter().map(String::from).collect() };
    found.extend(locked.into_iter().flatten().filter(|l| locks::is_renewed(l, Timestamp::now())));
    let (mut found, left_out) = leases::of_system(found, &components);
    let (of_others, mut unread_leases) = leases::of_others(client, elected).await?;
    found.extend(of_others);
    unread_leases.extend(left_out);
    let node_leases = Api::<coordination::Lease>::namespaced(client.clone(), "kube-node-lease");
    let node_leases = node_leases.list(&all).await.map_err(read("node Leases"))?.items;
    let operators = Api::<core::Pod>::namespaced(client.clone(), namespace);
    let operators = operators.list(&all.clone().labels(OPERATOR_LABELS)).await.map_err(read("operator pods"))?.items;
    endpoints.extend(control_plane_endpoint(client, &nodes, &endpoints).await?);
    let of_etcd = |t: &Traffic| matches!(t.class, Some(TrafficClass::EtcdPeer | TrafficClass::EtcdClient));
    let mut etcd = super::etcd::stacked(&components, spec.traffic.iter().any(of_etcd))?;
    if etcd.is_empty() {
        etcd = super::etcd::external(&components, &nodes, &mut endpoints).await?;
    }
    let known = leases::Known { nodes: &nodes, components: &components, pods: &all_pods };
    let leases = found.iter().filter_map(|lease| leases::lease(lease, &known)).collect();
    let pods = pods(client, spec).await?;
    Ok(Snapshot {
        rack_label: spec.rack_label.clone(),
        etcd,
        api_servers: api_servers(client, &nodes).await?,
        endpoints,
        leases,
        unread_locks,
        unread_leases,
        endpoint_reconciler: control_plane::endpoint_reconciler(&components),
        unlike_flags: control_plane::unlike_flags(&components),
        budgets: budgets::budgets(client, &pods, &all_pods).await?,
        without_pre_vote: control_plane::without_pre_vote(&components),
        pods,
        timers: timers(&components, &node_leases),
        operators: operators.iter().map(operator).collect(),
        protected_pods: all_pods.iter().filter_map(|p| protected(p, policy)).collect(),
        opted_in: opted_in(client, policy).await?,
        nodes,
    })
}

/// A pod of a protected namespace, unless it is one of those that are on every node.
fn protected(found: &core::Pod, policy: &Policy) -> Option<ProtectedPod> {
    let Pod { namespace, name, node, owner_kind, .. } = pod(found)?;
    let is_everywhere = matches!(owner_kind.as_deref(), Some("DaemonSet" | "Node"));
    let is_protected = policy.protected_namespaces.contains(&namespace) && !is_everywhere;
    is_protected.then_some(ProtectedPod { namespace, name, node })
}

/// Whether the cluster carries the label that is asked for.
async fn opted_in(client: &Client, policy: &Policy) -> Result<bool, Error> {
    if policy.opt_in_label.is_empty() {
        return Ok(false);
    }
    let system = ListParams::default().fields("metadata.name=kube-system");
    let namespaces = Api::<Namespace>::all(client.clone()).list(&system).await.map_err(read("kube-system"))?;
    Ok(namespaces.iter().any(|n| n.labels().get(&policy.opt_in_label).is_some_and(|v| v == "true")))
}

/// Selects the operator's own pods.
const OPERATOR_LABELS: &str = "app.kubernetes.io/name=rackpartition,app.kubernetes.io/component=operator";

/// All nodes with all their addresses, and the control plane's pods.
async fn nodes(
    client: &Client,
    rack_label: &str,
    policy: &Policy,
    endpoints: &[Endpoint],
) -> Result<(Vec<Node>, Vec<core::Pod>), Error> {
    let all = ListParams::default();
    let nodes = Api::<core::Node>::all(client.clone()).list(&all).await.map_err(read("nodes"))?.items;
    let mut nodes: Vec<Node> = nodes.iter().map(|n| node(n, rack_label, policy)).collect();
    let system = Api::<core::Pod>::namespaced(client.clone(), "kube-system");
    let components = system.list(&all.labels(COMPONENT)).await.map_err(read("control-plane pods"))?.items;
    addresses::add_of_components(&components, endpoints, &mut nodes);
    Ok((nodes, components))
}

fn node(node: &core::Node, rack_label: &str, policy: &Policy) -> Node {
    let status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    // Every address it is known by is cut; probes go to the first, so InternalIPs come first.
    let mut addresses = status.addresses.unwrap_or_default();
    addresses.sort_by_key(|a| a.type_ != "InternalIP");
    let internal =
        addresses.iter().filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect();
    let cidrs = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
    Node {
        name: node.name_any(),
        rack: node.labels().get(rack_label).filter(|r| !r.is_empty()).cloned(),
        protected: node.labels().get(&policy.rack_label).filter(|r| policy.protected_racks.contains(*r)).cloned(),
        zone: zone(node),
        excluded_from_disruption: node.labels().contains_key(EXCLUDED_FROM_DISRUPTION),
        kubelet_port: kubelet_port(status.daemon_endpoints.as_ref()),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        internal,
        addresses: addresses.iter().filter_map(|a| a.address.parse().ok()).collect(),
        pod_cidrs: cidrs.iter().filter_map(|c| c.parse().ok()).collect(),
        pods: Vec::new(),
    }
}

/// As the node lifecycle controller tells zones apart (component-helpers `GetZoneKey`).
fn zone(node: &core::Node) -> Option<String> {
    let label = |name: &str| node.labels().get(name).filter(|v| !v.is_empty());
    match (label(REGION), label(ZONE)) {
        (None, zone) => zone.cloned(),
        (Some(region), zone) => Some(format!("{region}/{}", zone.map(String::as_str).unwrap_or_default())),
    }
}

fn kubelet_port(endpoints: Option<&core::NodeDaemonEndpoints>) -> u16 {
    let port = endpoints.and_then(|e| u16::try_from(e.kubelet_endpoint.as_ref()?.port).ok());
    port.filter(|p| *p != 0).unwrap_or(KUBELET_PORT)
}

/// Addresses of pods that are in no pod range of their node: some CNIs give addresses from pools of their own. And of each node the
/// pod that is likely to stay longest: a DaemonSet's before others, the oldest before younger ones.
fn add_pod_addresses(pods: &[core::Pod], nodes: &mut [Node]) {
    let has_own_address = |p: &&core::Pod| p.spec.as_ref().is_none_or(|s| s.host_network != Some(true));
    // The address of one that has finished may be another one's by now.
    let mut pods: Vec<&core::Pod> = pods.iter().filter(has_own_address).filter(|p| !is_finished(p)).collect();
    let is_everywhere = |p: &core::Pod| controller(p).is_some_and(|o| o.kind == "DaemonSet");
    pods.sort_by_cached_key(|p| (!is_everywhere(p), p.creation_timestamp().map(|t| t.0), p.uid()));
    for pod in pods {
        let node = node_of(pod).and_then(|name| nodes.iter_mut().find(|n| n.name == name));
        let Some(node) = node else { continue };
        let addresses = pod.status.as_ref().and_then(|s| s.pod_ips.clone()).unwrap_or_default();
        for address in addresses.iter().filter_map(|a| a.ip.parse::<IpAddr>().ok()) {
            if !node.pod_cidrs.iter().any(|c| c.contains(&address)) {
                node.pod_cidrs.push(address.into());
            }
            if !node.pods.iter().any(|a| a.is_ipv4() == address.is_ipv4()) {
                node.pods.push(address);
            }
        }
    }
}

fn is(pod: &core::Pod, component: &str) -> bool {
    pod.labels().get(COMPONENT).is_some_and(|c| c == component)
}

/// The node that the pod runs on.
pub fn node_of(pod: &core::Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|s| s.node_name.clone())
}

/// API servers by their own addresses, from the endpoints of the `kubernetes` Service.
async fn api_servers(client: &Client, nodes: &[Node]) -> Result<Vec<ApiServer>, Error> {
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    let of_kubernetes = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = slices.list(&of_kubernetes).await.map_err(read("the endpoints of the kubernetes Service"))?;
    let mut servers = Vec::new();
    for slice in slices {
        let port = slice.ports.unwrap_or_default().first().and_then(|p| p.port).unwrap_or(6443) as u16;
        for address in slice.endpoints.iter().flat_map(|e| &e.addresses) {
            let address: IpAddr = address
                .parse()
                .map_err(|_| Error::Understand { what: format!("API server {address}"), why: "no address".into() })?;
            let name = nodes.iter().find(|n| n.addresses.contains(&address)).map(|n| n.name.clone());
            let name = name.unwrap_or_else(|| address.to_string());
            servers.push(ApiServer { name, address: SocketAddr::new(address, port) });
        }
    }
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(servers)
}

/// API servers for dialling, before there is any plan.
///
/// # Errors
/// Where nodes or endpoints can't be read.
pub async fn find_api_servers(client: &Client) -> Result<Vec<ApiServer>, Error> {
    // As a plan names them, or whoever compares the two would dial anew for ever.
    let (nodes, _) = nodes(client, ZONE, &Policy::default(), &[]).await?;
    api_servers(client, &nodes).await
}

fn spec_endpoint(endpoint: &SpecEndpoint) -> Result<Endpoint, Error> {
    let parse = |c: &String| {
        c.parse::<IpNet>().or_else(|_| c.parse::<IpAddr>().map(IpNet::from)).map_err(|e| Error::Understand {
            what: format!("spec.endpoints[{}].cidrs {c}", endpoint.name),
            why: e.to_string(),
        })
    };
    Ok(Endpoint {
        name: endpoint.name.clone(),
        rack: (endpoint.rack != "outside").then(|| endpoint.rack.clone()),
        cidrs: endpoint.cidrs.iter().map(parse).collect::<Result<_, _>>()?,
        ports: endpoint.ports.clone(),
        egress: endpoint.egress,
    })
}

/// kubeadm's `controlPlaneEndpoint` where it is no node: worker kubelets reach the API through it, round any cut between nodes.
async fn control_plane_endpoint(
    client: &Client,
    nodes: &[Node],
    known: &[Endpoint],
) -> Result<Option<Endpoint>, Error> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "kube-system");
    let Some(config) = maps.get_opt("kubeadm-config").await.map_err(read("kubeadm-config"))? else { return Ok(None) };
    let text = config.data.unwrap_or_default().remove("ClusterConfiguration").unwrap_or_default();
    let Some(endpoint) = text.lines().find_map(|l| l.strip_prefix("controlPlaneEndpoint:")).map(str::trim) else {
        return Ok(None);
    };
    match endpoint.trim_matches('"') {
        "" => Ok(None),
        endpoint => Ok(placed(endpoint, nodes, known).await?),
    }
}

/// This host, with or without a port, as an endpoint; None where it is a node or in an endpoint that is known.
async fn placed(endpoint: &str, nodes: &[Node], known: &[Endpoint]) -> Result<Option<Endpoint>, Refusal> {
    let with_port = match endpoint.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 6443).to_string(),
        Err(_) if !endpoint.contains(':') => format!("{endpoint}:6443"),
        Err(_) => endpoint.to_owned(),
    };
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(&with_port).await {
        Ok(addresses) => addresses.collect(),
        Err(_) if is_told(&with_port, known) => return Ok(None),
        Err(error) => return Err(Refusal::UnresolvedEndpoint { endpoint: endpoint.into(), why: error.to_string() }),
    };
    let is_known = |a: &IpAddr| {
        nodes.iter().any(|n| n.addresses.contains(a)) || known.iter().any(|e| e.cidrs.iter().any(|c| c.contains(a)))
    };
    let mut cidrs: Vec<IpNet> = addresses.iter().map(|a| a.ip()).filter(|a| !is_known(a)).map(IpNet::from).collect();
    cidrs.sort_unstable();
    cidrs.dedup();
    let ports = addresses.iter().map(SocketAddr::port).take(1).collect();
    let name = CONTROL_PLANE_ENDPOINT.into();
    Ok((!cidrs.is_empty()).then_some(Endpoint { name, rack: None, cidrs, ports, egress: false }))
}

/// Whether somebody has said where the API is reached, whatever name it goes by: an endpoint that serves its port, or is called so.
fn is_told(with_port: &str, known: &[Endpoint]) -> bool {
    let port = with_port.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    known.iter().any(|e| e.name == CONTROL_PLANE_ENDPOINT || port.is_some_and(|port| e.ports.contains(&port)))
}

fn timers(components: &[core::Pod], node_leases: &[coordination::Lease]) -> Timers {
    let flags = |component| components.iter().find(|p| is(p, component)).map(Flags::of).unwrap_or_default();
    let (kcm, etcd) = (flags("kube-controller-manager"), flags("etcd"));
    let longest = node_leases.iter().filter_map(|l| l.spec.as_ref()?.lease_duration_seconds).max();
    let node_lifecycle = "pkg/controller/nodelifecycle/config/v1alpha1/defaults.go";
    let of_zones = |flag: &str, default| Some(kcm.number(flag, default, EVICTION_DEFAULTS));
    let probe = control_plane::Liveness::of(components);
    Timers {
        node_monitor_grace: kcm.timer("node-monitor-grace-period", 50.0, node_lifecycle),
        node_monitor_period: kcm.timer("node-monitor-period", 5.0, "cloud-provider/config/v1alpha1/defaults.go"),
        node_eviction_rate: kcm.number("node-eviction-rate", 0.1, "cmd/kube-controller-manager/app/options"),
        node_lease_renew: match longest {
            // The kubelet renews at a quarter of the Lease's duration (pkg/kubelet/kubelet.go, nodeLeaseRenewIntervalFraction).
            Some(seconds) => Timer::read(f64::from(seconds) / 4.0, "node Leases"),
            None => Timer::assumed(10.0, "pkg/kubelet/apis/config/v1beta1/defaults.go"),
        },
        etcd_election: etcd.milliseconds("election-timeout", 1.0, "etcd server/embed/config.go"),
        secondary_eviction_rate: of_zones("secondary-node-eviction-rate", SECONDARY_EVICTION_RATE),
        unhealthy_zone_share: of_zones("unhealthy-zone-threshold", UNHEALTHY_ZONE_SHARE),
        large_zone_nodes: of_zones("large-cluster-size-threshold", LARGE_ZONE_NODES),
        etcd_check: Some(control_plane::etcd_check(&flags("kube-apiserver"))),
        liveness_period: probe.period,
        liveness_failures: probe.failures,
        api_server_grace: probe.grace,
    }
}

/// Pods of the observed workloads that have a node.
async fn pods(client: &Client, spec: &RackPartitionSpec) -> Result<Vec<Pod>, Error> {
    let found = watched_pods(client, spec).await?;
    Ok(found.iter().filter_map(pod).collect())
}

/// The observed workloads' pods as the API has them.
///
/// # Errors
/// Where they can't be read, or a selector is malformed.
pub async fn watched_pods(client: &Client, spec: &RackPartitionSpec) -> Result<Vec<core::Pod>, Error> {
    let selector = |s: &_, what: &str| {
        Selector::try_from(Clone::clone(s))
            .map_err(|e: kube::core::ParseExpressionError| Error::Understand { what: what.into(), why: e.to_string() })
    };
    let namespaces_wanted = selector(&spec.workloads.namespace_selector, "spec.workloads.namespaceSelector")?;
    let pods_wanted = selector(&spec.workloads.label_selector, "spec.workloads.labelSelector")?;
    let params = ListParams::default().labels_from(&pods_wanted);
    if namespaces_wanted.selects_all() {
        return Ok(Api::<core::Pod>::all(client.clone()).list(&params).await.map_err(read("pods"))?.items);
    }
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespaces = namespaces.list(&ListParams::default()).await.map_err(read("namespaces"))?;
    let mut pods = Vec::new();
    for namespace in namespaces.items.iter().filter(|n| namespaces_wanted.matches(n.labels())) {
        let api = Api::<core::Pod>::namespaced(client.clone(), &namespace.name_any());
        pods.extend(api.list(&params).await.map_err(read("pods"))?.items);
    }
    Ok(pods)
}

fn pod(pod: &core::Pod) -> Option<Pod> {
    let spec = pod.spec.as_ref()?;
    if is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let owner = controller(pod);
    Some(Pod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node: spec.node_name.clone()?,
        owner_kind: owner.map(|o| o.kind.clone()),
        owner_name: owner.map(|o| o.name.clone()),
        ready: is_ready(pod),
        restart_always: spec.restart_policy.as_deref().unwrap_or("Always") == "Always",
        tolerates_unreachable: tolerated(spec.tolerations.as_deref().unwrap_or_default()),
        grace_period: spec.termination_grace_period_seconds.unwrap_or(30) as f64,
        containers: spec.containers.iter().map(|c| c.name.clone()).collect(),
    })
}

/// For how long `node.kubernetes.io/unreachable:NoExecute` is tolerated, seconds; None: for ever. Of several tolerations of one taint the
/// first one counts: the least time is that over several taints (`GetMatchingTolerations`, pkg/apis/core/v1/helper/helpers.go).
fn tolerated(tolerations: &[core::Toleration]) -> Option<f64> {
    let is_any = |told: &Option<String>, of_taint: &str| told.as_deref().is_none_or(|t| t.is_empty() || t == of_taint);
    // The taint has no value (`ToleratesTaint`).
    let has_its_value = |t: &core::Toleration| match t.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => t.value.as_deref().unwrap_or_default().is_empty(),
        Some(_) => false,
    };
    let is_of_taint = |t: &core::Toleration| is_any(&t.effect, "NoExecute") && is_any(&t.key, UNREACHABLE);
    match tolerations.iter().find(|t| is_of_taint(t) && has_its_value(t)) {
        // Less than none is none.
        Some(toleration) => toleration.toleration_seconds.map(|s| s.max(0) as f64),
        None => Some(0.0),
    }
}

fn is_finished(pod: &core::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.is_some_and(|p| p == "Succeeded" || p == "Failed")
}

fn controller(pod: &core::Pod) -> Option<&OwnerReference> {
    pod.owner_references().iter().find(|o| o.controller == Some(true))
}

/// Whether the pod's Ready condition is True.
pub fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn operator(pod: &core::Pod) -> OperatorReplica {
    OperatorReplica { pod: pod.name_any(), node: node_of(pod).unwrap_or_default(), ready: is_ready(pod) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_two_regions_are_two() {
        let of = |labels: serde_json::Value| {
            let node = serde_json::json!({"metadata": {"name": "n1", "labels": labels}});
            zone(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(of(serde_json::json!({})), None);
        assert_eq!(of(serde_json::json!({ZONE: "a"})).as_deref(), Some("a"));
        assert_eq!(of(serde_json::json!({ZONE: "a", REGION: "north"})).as_deref(), Some("north/a"));
        assert_eq!(of(serde_json::json!({REGION: "north"})).as_deref(), Some("north/"));
    }

    #[test]
    fn the_first_toleration_that_matches_the_taint_counts() {
        use serde_json::{Value, json};
        let of = |tolerations: &Value| tolerated(&serde_json::from_value::<Vec<_>>(tolerations.clone()).unwrap());
        let all = || json!({"operator": "Exists"});
        let lasting = |seconds: i64| json!({"key": UNREACHABLE, "effect": "NoExecute", "operator": "Exists", "tolerationSeconds": seconds});
        #[rustfmt::skip]
        let table = [
            (json!([]), Some(0.0)),
            (json!([all()]), None),
            (json!([lasting(300)]), Some(300.0)),
            (json!([lasting(-1)]), Some(0.0)),
            (json!([all(), lasting(300)]), None),
            (json!([lasting(300), all()]), Some(300.0)),
            (json!([lasting(300), lasting(30)]), Some(300.0)),
            (json!([{"key": UNREACHABLE, "operator": "Equal"}]), None),
            (json!([{"key": UNREACHABLE, "value": "x"}, lasting(30)]), Some(30.0)),
            (json!([{"key": UNREACHABLE, "operator": "Gt", "value": "1"}]), Some(0.0)),
            (json!([{"key": UNREACHABLE, "effect": "NoSchedule", "operator": "Exists"}]), Some(0.0)),
            (json!([{"key": "example.com/other", "operator": "Exists"}]), Some(0.0)),
        ];
        for (tolerations, seconds) in &table {
            assert_eq!(of(tolerations), *seconds, "{tolerations}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_nobody_can_find_must_be_told_and_no_other_does() {
        let known = |name: &str, ports: &[u16]| {
            [Endpoint {
                name: name.into(),
                cidrs: vec!["198.18.0.40/32".parse().unwrap()],
                ports: ports.into(),
                ..Default::default()
            }]
        };
        for (endpoint, known) in [
            ("cp.invalid:8443", known("balancer", &[80, 8443])),
            ("cp.invalid", known("balancer", &[6443])),
            ("cp.invalid:8443", known(CONTROL_PLANE_ENDPOINT, &[])),
        ] {
            assert_eq!(placed(endpoint, &[], &known).await, Ok(None), "{endpoint} is {known:?}");
        }
        for known in [&known("etcd-a", &[2379, 2380])[..], &known("balancer", &[])[..], &[]] {
            let refused = placed("cp.invalid:8443", &[], known).await.unwrap_err().to_string();
            assert!(refused.contains("cp.invalid:8443") && refused.contains("spec.endpoints"), "{refused}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_with_an_address_is_one_unless_it_is_known() {
        let node = Node { addresses: vec!["198.18.0.2".parse().unwrap()], ..Default::default() };
        let found = placed("198.18.0.40:8443", std::slice::from_ref(&node), &[]).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.ports.as_slice()), (CONTROL_PLANE_ENDPOINT, &[8443][..]));
        assert_eq!(found.cidrs, ["198.18.0.40/32".parse::<IpNet>().unwrap()]);
        assert_eq!(placed("198.18.0.2", &[node], &[]).await, Ok(None), "a node");
        assert_eq!(placed("[fd00::40]:6443", &[], &[found]).await.unwrap().unwrap().ports, [6443], "another one");
        for without_port in ["fd00::40", "[fd00::40]"] {
            let found = placed(without_port, &[], &[]).await.unwrap().unwrap();
            assert_eq!(found.cidrs, ["fd00::40/128".parse::<IpNet>().unwrap()], "{without_port}");
            assert_eq!(found.ports, [6443], "{without_port}");
        }
    }
}
