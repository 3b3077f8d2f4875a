//! Which endpoints the operator follows: pods that the cut may take out of their EndpointSlices, and API servers that it may take out of
//! the Service `kubernetes`.

use crate::{
    api::{Prospect, Side},
    topology::{ApiServer, Pod, Snapshot},
};
use std::collections::{HashMap, HashSet};

/// The operator follows no more pods than this, since some of each node tell when the others leave. Each time that the API is silent for
/// long every one of them begins another span, of the 2,000 for which its record has room.
const FOLLOWED: usize = 20;

/// Pods whose EndpointSlices the operator follows: ready ones on sides that may not be served by an API server that can write, evenly over
/// their nodes; those that are on every node anyway come last.
pub fn followed_pods<'a>(snapshot: &'a Snapshot, sides: &[Side]) -> Vec<&'a Pod> {
    let losing = sides.iter().filter(|s| s.served != Prospect::Yes);
    let losing: HashSet<&str> = losing.flat_map(|s| s.nodes.iter().map(String::as_str)).collect();
    let mut of_node: HashMap<(bool, &str), usize> = HashMap::new();
    let mut ranked = Vec::new();
    for pod in snapshot.pods.iter().filter(|p| p.ready && losing.contains(p.node.as_str())) {
        let is_everywhere = matches!(pod.owner_kind.as_deref(), Some("DaemonSet" | "Node"));
        let rank = of_node.entry((is_everywhere, pod.node.as_str())).or_default();
        ranked.push((is_everywhere, *rank, pod));
        *rank += 1;
    }
    ranked.sort_by_key(|(is_everywhere, rank, _)| (*is_everywhere, *rank));
    ranked.into_iter().take(FOLLOWED).map(|(_, _, pod)| pod).collect()
}

/// API servers that the operator looks for among the endpoints of the Service `kubernetes`: those that may lose etcd.
pub fn followed_servers<'a>(snapshot: &'a Snapshot, sides: &[Side]) -> Vec<&'a ApiServer> {
    let loses = |s: &Side, server: &ApiServer| s.writable != Prospect::Yes && s.api_servers.contains(&server.name);
    snapshot.api_servers.iter().filter(|server| sides.iter().any(|s| loses(s, server))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    #[test]
    fn a_few_pods_of_every_node_are_followed_and_twenty_at_the_most() {
        let mut run = passing();
        let names = |snapshot: &Snapshot, sides: &[Side]| -> Vec<String> {
            followed_pods(snapshot, sides).into_iter().map(|p| p.name.clone()).collect()
        };
        assert_eq!(names(&run.snapshot, &run.sides), ["web-7d4b9c6f58-aaaaa", "db-0", "dns-5bc6f7d8f4-ccccc"]);
        let pod = run.snapshot.pods[0].clone();
        let of = |name: &str, node: &str, kind: &str| {
            let (name, node, owner_kind) = (name.into(), node.into(), Some(kind.into()));
            Pod { name, node, owner_kind, ..pod.clone() }
        };
        let many = (0..200).map(|i| of(&format!("many-{i}"), "w1", "ReplicaSet"));
        let few = [of("proxy", "cp1", "DaemonSet"), of("one", "cp1", "Job")];
        run.snapshot.pods = many.chain(few).collect();
        let followed = names(&run.snapshot, &run.sides);
        assert_eq!((followed.len(), &followed[..3]), (FOLLOWED, &["many-0", "one", "many-1"].map(String::from)[..]));
        run.snapshot.pods.iter_mut().for_each(|p| p.ready = false);
        assert!(names(&run.snapshot, &run.sides).is_empty());
    }

    #[test]
    fn only_servers_that_may_lose_etcd_are_looked_for() {
        let run = passing();
        let servers: Vec<&str> =
            followed_servers(&run.snapshot, &run.sides).into_iter().map(|s| s.name.as_str()).collect();
        assert_eq!(servers, ["cp1"]);
    }
}
