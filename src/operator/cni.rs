//! Ranges from which a CNI gives addresses to a node's pods, where it does not keep to the node's `podCIDRs`.

use super::gather::{Error, read};
use crate::topology::Node;
use ipnet::IpNet;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

/// Objects in which a CNI says which node has which range.
struct Source {
    what: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    read: fn(&DynamicObject) -> (String, Vec<IpNet>),
}

const SOURCES: [Source; 2] = [
    Source {
        what: "Calico's blocks",
        group: "crd.projectcalico.org",
        version: "v1",
        kind: "BlockAffinity",
        plural: "blockaffinities",
        read: calico,
    },
    Source {
        what: "Cilium's nodes",
        group: "cilium.io",
        version: "v2",
        kind: "CiliumNode",
        plural: "ciliumnodes",
        read: cilium,
    },
];

/// Adds to each node what the CNIs' objects say.
///
/// # Errors
/// Where objects are there and can't be read.
pub async fn add_pod_ranges(client: &Client, nodes: &mut [Node]) -> Result<(), Error> {
    for source in &SOURCES {
        let (group, version) = (source.group.into(), source.version.into());
        let resource = ApiResource {
            api_version: format!("{}/{}", source.group, source.version),
            group,
            version,
            kind: source.kind.into(),
            plural: source.plural.into(),
        };
        let objects = match Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await
        {
            // Another CNI: the API server knows no such group, and says so in plain text.
            Err(kube::Error::Api(answer)) if answer.code == 404 => continue,
            objects => objects.map_err(read(source.what))?,
        };
        let mut of_nodes: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
        for (name, ranges) in objects.items.iter().map(source.read) {
            of_nodes.entry(name).or_default().extend(ranges);
        }
        for node in nodes.iter_mut() {
            use_ranges(&mut node.pod_cidrs, of_nodes.remove(&node.name).unwrap_or_default());
        }
    }
    Ok(())
}

/// What the CNI says takes the place of `spec.podCIDRs`: where it does not use those, another node's pods may have addresses in
/// them. Single addresses say nothing of ranges.
fn use_ranges(known: &mut Vec<IpNet>, ranges: Vec<IpNet>) {
    let is_range = |net: &IpNet| net.prefix_len() < net.max_prefix_len();
    let same_family = |a: &IpNet, b: &IpNet| a.max_prefix_len() == b.max_prefix_len();
    known.retain(|old| !ranges.iter().any(|new| is_range(new) && same_family(old, new)));
    for range in ranges {
        if !known.iter().any(|known| known.contains(&range)) {
            // In front: what the CNI uses is what probes between pods should use.
            known.insert(0, range);
        }
    }
}

/// `spec.node` and `spec.cidr` (`lib/apis/crd.projectcalico.org/v1`).
fn calico(block: &DynamicObject) -> (String, Vec<IpNet>) {
    let text = |key: &str| block.data["spec"][key].as_str();
    let deleted = text("deleted") == Some("true");
    let range = text("cidr").filter(|_| !deleted).and_then(|c| c.parse().ok());
    (text("node").unwrap_or_default().into(), range.into_iter().collect())
}

/// `spec.ipam.podCIDRs`, the ranges of its pools, and the addresses that the node itself uses towards pods (`pkg/k8s/apis/cilium.io/v2`).
fn cilium(node: &DynamicObject) -> (String, Vec<IpNet>) {
    let spec = &node.data["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let pools = list(&spec["ipam"]["pools"]["allocated"]).into_iter().flat_map(|pool| list(&pool["cidrs"]));
    let ranges = list(&spec["ipam"]["podCIDRs"]).into_iter().chain(pools).filter_map(|c| c.as_str()?.parse().ok());
    let internal = list(&spec["addresses"]).into_iter().filter(|a| a["type"] == "CiliumInternalIP");
    let internal = internal.filter_map(|a| a["ip"].as_str()?.parse::<IpAddr>().ok()).map(IpNet::from);
    (node.name_any(), ranges.chain(internal).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|c| c.parse().unwrap()).collect()
    }

    #[test]
    fn what_the_cni_says_takes_the_place_of_the_nodes_own_ranges() {
        let mut known = nets(&["198.19.1.0/24", "fd00:1::/64"]);
        use_ranges(&mut known, nets(&["198.19.7.0/26", "198.19.9.64/26", "198.19.9.70/32"]));
        assert_eq!(known, nets(&["198.19.9.64/26", "198.19.7.0/26", "fd00:1::/64"]), "of the family that it names");
        let mut same = nets(&["198.19.1.0/24"]);
        use_ranges(&mut same, nets(&["198.19.1.0/24", "198.19.1.7/32"]));
        assert_eq!(same, nets(&["198.19.1.0/24"]));
        use_ranges(&mut same, nets(&["198.19.5.7/32"]));
        assert_eq!(same, nets(&["198.19.5.7/32", "198.19.1.0/24"]), "a single address takes nothing away");
        use_ranges(&mut same, Vec::new());
        assert_eq!(same.len(), 2);
    }

    #[test]
    fn calico_says_one_range_at_a_time_and_takes_it_back() {
        let block = |deleted: &str| {
            object(json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity",
                "metadata": {"name": "w1-198-19-5-0-26"},
                "spec": {"cidr": "198.19.5.0/26", "node": "w1", "state": "confirmed", "deleted": deleted}}))
        };
        assert_eq!(calico(&block("false")), ("w1".into(), nets(&["198.19.5.0/26"])));
        assert_eq!(calico(&block("true")), ("w1".into(), vec![]));
    }

    #[test]
    fn cilium_says_its_ranges_and_its_own_address_there() {
        let node = object(json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "w1"},
            "spec": {"ipam": {"podCIDRs": ["198.19.5.0/24"], "pools": {"allocated": [{"pool": "a", "cidrs": ["fd00:5::/64"]}]}}, "addresses": [
                {"type": "InternalIP", "ip": "198.18.0.5"}, {"type": "CiliumInternalIP", "ip": "198.19.9.77"}]}}));
        assert_eq!(cilium(&node), ("w1".into(), nets(&["198.19.5.0/24", "fd00:5::/64", "198.19.9.77/32"])));
    }

    #[test]
    fn what_says_nothing_is_nobodys() {
        let empty = object(json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "w1"}}));
        assert_eq!((calico(&empty), cilium(&empty)), ((String::new(), vec![]), ("w1".into(), vec![])));
    }
}
