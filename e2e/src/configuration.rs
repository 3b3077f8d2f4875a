//! What kind is told: `lab/cluster.yaml`, the profile's timers, and what the options add.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cache;
use crate::etcd::Etcd;
use crate::image::NodeImage;
use crate::options::{Options, Profile};

/// Pods have the upper half of each range of which nodes have the lower one; a /64 for each node, 256 of them.
const PODS_IPV6: &str = "fd00:198:19::/56";

/// Where kubeadm's documentation has the certificates of an external etcd, on every master.
const PKI: &str = "/etc/kubernetes/pki";

/// The pair with which API servers show who they are; kubeadm's name for it.
const CLIENT: &str = "apiserver-etcd-client";

/// The whole configuration; `etcd` is needed as soon as kind is to use it.
///
/// # Errors
/// When a file of `e2e/lab` is gone or malformed.
pub fn configuration(options: &Options, image: &NodeImage, etcd: Option<&Etcd>) -> Result<Value> {
    let mut cluster = base()?;
    let plan = options.topology.plan();
    cluster["nodes"] = Value::Array(plan.kind_nodes());
    if options.dual_stack {
        cluster["networking"]["ipFamily"] = json!("dual");
        cluster["networking"]["podSubnet"] = json!(pod_subnets(options)?);
    }
    if image.built {
        cluster["networking"]["disableDefaultCNI"] = json!(true);
    }
    let patches = cluster["kubeadmConfigPatches"].as_array_mut().context("lab/cluster.yaml has no patches")?;
    patches.extend(timers(options.profile)?);
    if plan.masters_work() {
        for kind in ["InitConfiguration", "JoinConfiguration"] {
            // An empty list: none at all would mean kubeadm's own taint.
            patches.push(patch(&json!({"kind": kind, "nodeRegistration": {"taints": []}})));
        }
    }
    if let Some(etcd) = etcd {
        patches.push(external_etcd(etcd));
        let masters = cluster["nodes"].as_array_mut().context("no nodes")?.iter_mut().take(plan.masters.len());
        for (index, node) in masters.enumerate() {
            node["extraMounts"] = mounts(&etcd.certificates, index == 0);
        }
    }
    Ok(cluster)
}

/// The addresses of pods, as Kubernetes writes them: one range for each family.
///
/// # Errors
/// When `lab/cluster.yaml` is gone or malformed.
pub fn pod_subnets(options: &Options) -> Result<String> {
    let cluster = base()?;
    let subnet = cluster["networking"]["podSubnet"].as_str().context("lab/cluster.yaml has no podSubnet")?;
    Ok(if options.dual_stack { format!("{subnet},{PODS_IPV6}") } else { subnet.to_owned() })
}

fn base() -> Result<Value> {
    parse("cluster.yaml")
}

fn timers(profile: Profile) -> Result<Vec<Value>> {
    let timers = parse(&format!("profiles/{}.yaml", profile.name()))?;
    Ok(timers["kubeadmConfigPatches"].as_array().cloned().unwrap_or_default())
}

fn parse(file: &str) -> Result<Value> {
    serde_saphyr::from_str(&cache::read(file)?).with_context(|| format!("failed to parse lab/{file}"))
}

/// kind wants patches as text; JSON is YAML.
fn patch(value: &Value) -> Value {
    Value::String(value.to_string())
}

fn external_etcd(etcd: &Etcd) -> Value {
    let endpoints: Vec<_> = etcd.members.iter().map(|member| member.client_url()).collect();
    patch(&json!({
        "kind": "ClusterConfiguration",
        "etcd": {
            // In a merge, null takes away what lab/cluster.yaml says of etcd on the masters.
            "local": null,
            "external": {
                "endpoints": endpoints,
                "caFile": format!("{PKI}/etcd/ca.crt"),
                "certFile": format!("{PKI}/{CLIENT}.crt"),
                "keyFile": format!("{PKI}/{CLIENT}.key"),
            },
        },
    }))
}

/// A master's share of the certificates. kind copies etcd's authority from the first master to the others, knowing nothing of an
/// etcd outside, so only the first may have it mounted.
fn mounts(certificates: &Path, first: bool) -> Value {
    let mount = |name: &str| {
        let host = certificates.join(name);
        json!({"hostPath": host, "containerPath": format!("{PKI}/{name}"), "readOnly": true})
    };
    let mut mounts = vec![mount(&format!("{CLIENT}.crt")), mount(&format!("{CLIENT}.key"))];
    if first {
        mounts.extend([mount("etcd/ca.crt"), mount("etcd/ca.key")]);
    }
    Value::Array(mounts)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::etcd::Member;
    use crate::topology::Topology;

    fn image(built: bool) -> NodeImage {
        NodeImage { reference: "node".to_owned(), built }
    }

    fn of(topology: Topology) -> Value {
        configuration(&Options { topology, ..Options::default() }, &image(true), None).unwrap()
    }

    /// `cp:r1` or `w:r1` for each node.
    fn nodes(configuration: &Value) -> String {
        let nodes = configuration["nodes"].as_array().unwrap().iter().map(|node| {
            let role = if node["role"] == "control-plane" { "cp" } else { "w" };
            format!("{role}:{}", node["labels"]["topology.kubernetes.io/zone"].as_str().unwrap())
        });
        nodes.collect::<Vec<_>>().join(" ")
    }

    fn patches(configuration: &Value) -> Vec<Value> {
        let patches = configuration["kubeadmConfigPatches"].as_array().unwrap().iter();
        patches.map(|text| serde_saphyr::from_str(text.as_str().unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_profile_adds_its_patches_and_a_built_image_brings_no_network() {
        let of =
            |profile, built| configuration(&Options { profile, ..Options::default() }, &image(built), None).unwrap();
        let (upstream, short) = (of(Profile::Upstream, false), of(Profile::Short, true));
        assert_eq!((patches(&upstream).len(), patches(&short).len()), (2, 5));
        assert_eq!(upstream["networking"]["disableDefaultCNI"], Value::Null);
        assert_eq!(short["networking"]["disableDefaultCNI"], Value::Bool(true));
        assert_eq!(short["nodes"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn the_default_is_the_file_as_it_is() {
        let options = Options { profile: Profile::Upstream, ..Options::default() };
        assert_eq!(configuration(&options, &image(false), None).unwrap(), base().unwrap());
    }

    #[test]
    fn every_topology_has_its_nodes_in_their_racks() {
        for (topology, expected) in [
            (Topology::ThreeRacks, "cp:r1 cp:r2 cp:r3 w:r1 w:r2 w:r3"),
            (Topology::TwoRacksExternalEtcd, "cp:r1 cp:r2 w:r1 w:r2"),
            (Topology::FiveRacks, "cp:r1 cp:r2 cp:r3 cp:r4 cp:r5"),
            (Topology::OneMaster, "cp:r1 w:r1 w:r2 w:r3"),
            (Topology::TwoMasters, "cp:r1 cp:r2 w:r1 w:r2"),
            (Topology::TwoMastersOneRack, "cp:r1 cp:r1 w:r1 w:r2"),
            (Topology::ThreeMastersTwoRacks, "cp:r1 cp:r1 cp:r2 w:r1 w:r2"),
        ] {
            assert_eq!(nodes(&of(topology)), expected, "{}", topology.name());
        }
    }

    #[test]
    fn masters_without_workers_take_workloads_and_no_others_do() {
        for topology in Topology::value_variants() {
            let untainted =
                patches(&of(*topology)).iter().filter(|p| p["nodeRegistration"]["taints"] == json!([])).count();
            assert_eq!(untainted, if topology.plan().workers.is_empty() { 2 } else { 0 }, "{}", topology.name());
        }
        assert!(patches(&of(Topology::FiveRacks)).iter().any(|p| p["kind"] == "InitConfiguration"));
    }

    #[test]
    fn dual_stack_has_a_range_of_each_family_whatever_the_topology() {
        for topology in Topology::value_variants() {
            let options = Options { topology: *topology, dual_stack: true, ..Options::default() };
            let dual = configuration(&options, &image(true), None).unwrap();
            assert_eq!(dual["networking"]["ipFamily"], "dual");
            assert_eq!(dual["networking"]["podSubnet"], "198.19.0.0/16,fd00:198:19::/56");
            assert_eq!(dual["nodes"], of(*topology)["nodes"]);
        }
    }

    #[test]
    fn an_external_etcd_takes_the_place_of_the_masters_own() {
        let member = |name: &str, address| Member { name: name.to_owned(), rack: "r1", address };
        let etcd = Etcd {
            members: vec![member("x-etcd", [198, 18, 255, 253].into()), member("x-etcd2", [198, 18, 255, 254].into())],
            certificates: "/pki".into(),
        };
        let options = Options { topology: Topology::TwoRacksExternalEtcd, ..Options::default() };
        let configuration = configuration(&options, &image(true), Some(&etcd)).unwrap();
        let last = patches(&configuration).pop().unwrap();
        assert_eq!(last["etcd"]["local"], Value::Null);
        assert!(last["etcd"].as_object().unwrap().contains_key("local"));
        let external = &last["etcd"]["external"];
        assert_eq!(external["endpoints"], json!(["https://198.18.255.253:2379", "https://198.18.255.254:2379"]));
        let files = |index: usize| -> Vec<String> {
            let mounts = configuration["nodes"][index]["extraMounts"].as_array().cloned().unwrap_or_default();
            let inside = |mount: &Value| mount["containerPath"].as_str().unwrap().replace(PKI, "");
            mounts.iter().map(inside).collect()
        };
        let pair = ["/apiserver-etcd-client.crt", "/apiserver-etcd-client.key"];
        assert_eq!(files(0), [&pair[..], &["/etcd/ca.crt", "/etcd/ca.key"]].concat());
        assert_eq!(files(1), pair);
        assert!(files(2).is_empty() && files(3).is_empty(), "workers have no business with etcd");
        let named: Vec<_> =
            ["caFile", "certFile", "keyFile"].map(|key| external[key].as_str().unwrap().replace(PKI, "")).into();
        assert!(named.iter().all(|file| files(0).contains(file)));
    }
}
