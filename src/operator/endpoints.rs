//! Who is behind Services as the API has it: pods that the cut may take out of their EndpointSlices, and API servers that it may take
//! out of the Service `kubernetes`. Lists and no watches; `convergence.rs` says why.

use super::{
    context::Context,
    observer::{Record, every, look},
};
use crate::{
    api::{ENDPOINT_NONE, ENDPOINT_PARTLY, ENDPOINT_READY, ENDPOINT_UNREADY, KUBERNETES_SERVICE, Side, SpanKind},
    judge::{followed_pods, followed_servers},
    observe::Observation,
    topology::{ApiServer, Pod, Snapshot},
};
use futures::future::try_join_all;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

/// With the deadline of a look it stays below [`crate::observe::Recorder::MAX_GAP`], and well below what is tolerated (5 s).
const PERIOD: Duration = Duration::from_secs(2);
/// Made of what a Service selects, and not by anybody's hand (EndpointSlice controller, `reconciler.go`).
const OF_SELECTORS: &str = "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io";
/// Names the Service of an EndpointSlice.
const SERVICE: &str = "kubernetes.io/service-name";
/// The Service of the API servers themselves, which they write down by themselves.
const KUBERNETES: &str = "kubernetes";

/// Looks until dropped, or not at all where the cut takes nobody out. The first look finds the Services that have any of the pods, and
/// from then on only theirs are read. A pod in none of them stays `none`: no Service selects it, or it was deleted before another replica
/// went on, and then nobody has its uid again.
pub async fn watch_services(ctx: Arc<Context>, snapshot: Snapshot, sides: Vec<Side>, record: Record) {
    let (pods, servers) = (followed_pods(&snapshot, &sides), followed_servers(&snapshot, &sides));
    let (mut wanted, mut is_first) = (in_namespaces(&pods), true);
    let of_kubernetes = ("default".to_owned(), format!("{SERVICE}={KUBERNETES}"));
    let mut ticks = every(PERIOD);
    while !wanted.is_empty() || !servers.is_empty() {
        ticks.tick().await;
        let lists = wanted.iter().chain((!servers.is_empty()).then_some(&of_kubernetes));
        let answers = try_join_all(lists.map(|(namespace, labels)| list(&ctx.client, namespace, labels)));
        let Some(answers) = look("EndpointSlices", answers).await else { continue };
        let slices: Vec<EndpointSlice> = answers.into_iter().flatten().collect();
        let found = of_pods(&slices);
        for pod in &pods {
            let state = pod_state(found.get(pod.uid.as_str()).copied());
            let seen = Observation { node: Some(pod.node.clone()), ..Observation::new(pod.subject(), state) };
            record.observe(SpanKind::Endpoint, seen);
        }
        for server in &servers {
            let subject = format!("{KUBERNETES_SERVICE}/{}", server.name);
            record.observe(SpanKind::Endpoint, Observation::new(subject, server_state(&slices, server)));
        }
        if is_first {
            (wanted, is_first) = (of_services(&slices, &pods), false);
        }
    }
}

/// Of no version, so that it is what a majority of etcd has: a cache that is cut off is behind, and which API server answers may change in
/// a run. And of no limit: with one an API server asks etcd instead of its own cache, which it has brought up to date for such a list
/// (`shouldDelegateList`, `apiserver/pkg/storage/cacher`).
async fn list(client: &Client, namespace: &str, labels: &str) -> kube::Result<Vec<EndpointSlice>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    Ok(slices.list(&ListParams::default().labels(labels)).await?.items)
}

/// Where these pods may be: namespaces, each with a selector of labels.
fn in_namespaces(pods: &[&Pod]) -> Vec<(String, String)> {
    let namespaces: BTreeSet<&str> = pods.iter().map(|p| p.namespace.as_str()).collect();
    namespaces.into_iter().map(|namespace| (namespace.to_owned(), OF_SELECTORS.to_owned())).collect()
}

/// The same where it is known which Services have them.
fn of_services(slices: &[EndpointSlice], pods: &[&Pod]) -> Vec<(String, String)> {
    let followed: BTreeSet<&str> = pods.iter().map(|p| p.uid.as_str()).collect();
    let mut services: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for slice in slices {
        let has_one = slice.endpoints.iter().filter_map(uid_of).any(|uid| followed.contains(uid));
        if let Some(service) = slice.labels().get(SERVICE).filter(|_| has_one) {
            services.entry(slice.namespace().unwrap_or_default()).or_default().insert(service);
        }
    }
    let selector = |names: BTreeSet<&str>| {
        let names: Vec<&str> = names.into_iter().collect();
        format!("{OF_SELECTORS},{SERVICE} in ({})", names.join(","))
    };
    services.into_iter().map(|(namespace, names)| (namespace, selector(names))).collect()
}

/// The pod that an endpoint is.
fn uid_of(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

/// By the uid of each pod, how many EndpointSlices have it, and in how many of them it is ready.
fn of_pods(slices: &[EndpointSlice]) -> HashMap<&str, (usize, usize)> {
    let mut found: HashMap<&str, (usize, usize)> = HashMap::new();
    for endpoint in slices.iter().flat_map(|s| &s.endpoints) {
        let Some(uid) = uid_of(endpoint) else { continue };
        let (ready, all) = found.entry(uid).or_default();
        *ready += usize::from(is_ready(endpoint));
        *all += 1;
    }
    found
}

/// `found`: in how many EndpointSlices it is ready, of how many that have it.
fn pod_state(found: Option<(usize, usize)>) -> &'static str {
    match found {
        None => ENDPOINT_NONE,
        Some((0, _)) => ENDPOINT_UNREADY,
        Some((ready, all)) if ready == all => ENDPOINT_READY,
        Some(_) => ENDPOINT_PARTLY,
    }
}

/// A Service may publish addresses that are not ready, which are `ready` then and not `serving`. What is not said is true.
fn is_ready(endpoint: &Endpoint) -> bool {
    let said = endpoint.conditions.as_ref();
    said.and_then(|c| c.ready).unwrap_or(true) && said.and_then(|c| c.serving).unwrap_or(true)
}

fn server_state(slices: &[EndpointSlice], server: &ApiServer) -> &'static str {
    let of_kubernetes = |s: &&EndpointSlice| {
        s.namespace().as_deref() == Some("default") && s.labels().get(SERVICE).is_some_and(|name| name == KUBERNETES)
    };
    let ready = slices.iter().filter(of_kubernetes).flat_map(|s| &s.endpoints).filter(|e| is_ready(e));
    let mut addresses = ready.flat_map(|e| &e.addresses).filter_map(|a| a.parse::<IpAddr>().ok());
    if addresses.any(|a| a == server.address.ip()) { ENDPOINT_READY } else { ENDPOINT_NONE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(namespace: &str, service: &str, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": format!("{service}-x"), "namespace": namespace, "labels": {SERVICE: service}},
            "addressType": "IPv4",
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn pod(uid: &str, conditions: Value) -> Value {
        let pod = json!({"kind": "Pod", "name": uid, "namespace": "shop", "uid": uid});
        json!({"addresses": ["198.19.0.1"], "conditions": conditions, "targetRef": pod})
    }

    #[test]
    fn a_pod_is_what_the_slices_of_all_its_services_say() {
        let (ready, unready) = (json!({"ready": true, "serving": true}), json!({"ready": false, "serving": false}));
        // As a Service writes it that publishes addresses which are not ready.
        let published = json!({"ready": true, "serving": false});
        let slices = [
            slice("shop", "web", json!([pod("both", ready.clone()), pod("one", ready), pod("out", unready.clone())])),
            slice("shop", "all", json!([pod("both", json!({})), pod("one", unready), pod("published", published)])),
            slice("shop", "by-hand", json!([{"addresses": ["198.19.0.9"]}])),
        ];
        let found = of_pods(&slices);
        let states = ["both", "one", "out", "published", "in-none"].map(|uid| pod_state(found.get(uid).copied()));
        assert_eq!(states, [ENDPOINT_READY, ENDPOINT_PARTLY, ENDPOINT_UNREADY, ENDPOINT_UNREADY, ENDPOINT_NONE]);
    }

    #[test]
    fn only_services_that_have_a_followed_pod_are_read_on() {
        let of = |namespace: &str, uid: &str| Pod { namespace: namespace.into(), uid: uid.into(), ..Pod::default() };
        let followed = [of("shop", "web-1"), of("shop", "db-1"), of("dns", "dns-1")];
        let followed: Vec<&Pod> = followed.iter().collect();
        let whole = |namespace: &str| (namespace.to_owned(), OF_SELECTORS.to_owned());
        assert_eq!(in_namespaces(&followed), [whole("dns"), whole("shop")]);
        let slices = [
            slice("shop", "web", json!([pod("web-1", json!({})), pod("web-2", json!({}))])),
            slice("shop", "all", json!([pod("db-1", json!({"ready": false}))])),
            slice("shop", "all", json!([pod("web-1", json!({}))])),
            slice("shop", "other", json!([pod("web-2", json!({})), {"addresses": ["198.19.0.9"]}])),
            slice("default", KUBERNETES, json!([{"addresses": ["198.18.0.1"]}])),
        ];
        let selector = format!("{OF_SELECTORS},kubernetes.io/service-name in (all,web)");
        assert_eq!(of_services(&slices, &followed), [("shop".to_owned(), selector)]);
        assert!(of_services(&[], &followed).is_empty());
    }

    #[test]
    fn an_api_server_is_looked_for_in_its_own_service_only() {
        let server = ApiServer { name: "cp1".into(), address: "198.18.0.1:6443".parse().unwrap() };
        let of = |namespace: &str, service: &str, address: &str| {
            server_state(&[slice(namespace, service, json!([{"addresses": [address]}]))], &server)
        };
        assert_eq!(of("default", KUBERNETES, "198.18.0.1"), ENDPOINT_READY);
        assert_eq!(of("default", KUBERNETES, "198.18.0.2"), ENDPOINT_NONE);
        assert_eq!(of("default", "web", "198.18.0.1"), ENDPOINT_NONE);
        assert_eq!(of("shop", KUBERNETES, "198.18.0.1"), ENDPOINT_NONE);
    }
}
