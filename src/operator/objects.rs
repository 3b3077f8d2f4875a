//! The objects of one run: its plan as a ConfigMap and its agents as a DaemonSet. Pure: builds, does not apply.

use super::settings::AgentSettings;
use crate::{
    api::{RUN_LABEL, RackPartition},
    fault::RunPlan,
    topology::Snapshot,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, LocalObjectReference},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Resource, ResourceExt,
    api::{ListParams, ObjectMeta},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{collections::BTreeMap, io::Read, path::Path};
use thiserror::Error;

/// Keys of the ConfigMap.
const PLAN_KEY: &str = RunPlan::FILE;
const SNAPSHOT_KEY: &str = "snapshot.json.gz";
/// Bytes of JSON that a snapshot may become: few bytes of a forged one would else fill the memory of whoever reads it. An object has at
/// most 1 MiB of them compressed, and what a cluster has compresses to some tenth.
const MOST: u64 = 32 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to read {key} of ConfigMap {map}: {why}")]
    Read { key: &'static str, map: String, why: String },
}

/// Name of everything a run owns: unique for each run, also where an earlier one had the same name.
pub fn name(run: &RackPartition) -> String {
    format!("rackpartition-{}-{}", run.name_any(), short_uid(run))
}

/// Name of the agents that look before there is a plan.
pub fn survey_name(run: &RackPartition) -> String {
    format!("{}-survey", name(run))
}

/// Name of the ConfigMap of one plan. Of two plans for a run, made by two replicas that both believed to lead, each keeps its
/// own, and the status says by its hash which one was armed.
pub fn plan_name(run: &RackPartition, hash: &str) -> String {
    format!("{}-{}", name(run), hash.chars().take(8).collect::<String>())
}

/// Name of the ConfigMap that keeps what a run was made of once it has ended.
pub fn journal_name(run: &RackPartition) -> String {
    format!("{}-journal", name(run))
}

/// Name of the operator's own record. No agent's: before a node's name stands a dash (`agent::record_name`), also before that of one that
/// is called `operator`.
pub fn record_name(run: &RackPartition) -> String {
    format!("{}-{}.operator", run.name_any(), short_uid(run))
}

/// Enough of the uid to tell two runs of one name apart.
fn short_uid(run: &RackPartition) -> String {
    run.uid().unwrap_or_default().chars().take(8).collect()
}

fn metadata(run: &RackPartition, namespace: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.into()),
        labels: Some(labels(run)),
        owner_references: Some(owner(run)),
        ..Default::default()
    }
}

/// Makes the API delete what a run owns with it.
pub fn owner(run: &RackPartition) -> Vec<OwnerReference> {
    run.controller_owner_ref(&()).into_iter().collect()
}

/// Labels of everything a run owns.
pub fn labels(run: &RackPartition) -> BTreeMap<String, String> {
    BTreeMap::from([
        (RUN_LABEL.into(), run.name_any()),
        ("app.kubernetes.io/name".into(), "rackpartition".into()),
        ("app.kubernetes.io/component".into(), "agent".into()),
        ("app.kubernetes.io/managed-by".into(), "rackpartition".into()),
    ])
}

/// Selects everything that a run owns.
pub fn of_run(run: &RackPartition) -> ListParams {
    ListParams::default().labels(&format!("{RUN_LABEL}={}", run.name_any()))
}

/// The agents' plan and the snapshot it was made of. Immutable: an agent can't be given another plan under way.
pub fn plan_map(run: &RackPartition, namespace: &str, plan: &RunPlan, snapshot: &Snapshot) -> ConfigMap {
    let plan_json = serde_json::to_string(plan).expect("plain data");
    // Compressed: it has every observed pod, and an object has at most 1 MiB.
    let mut snapshot_gz = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut snapshot_gz, snapshot).expect("plain data");
    let snapshot_gz = ByteString(snapshot_gz.finish().expect("memory"));
    ConfigMap {
        metadata: metadata(run, namespace, plan_name(run, &plan.hash())),
        immutable: Some(true),
        data: Some(BTreeMap::from([(PLAN_KEY.into(), plan_json)])),
        binary_data: Some(BTreeMap::from([(SNAPSHOT_KEY.into(), snapshot_gz)])),
    }
}

/// What a run was made of, for as long as the run itself: plan and snapshot of the map that its agents got, without the secret. So it
/// may be where people read it.
///
/// # Errors
/// Where the agents' map holds no plan.
pub fn journal_map(run: &RackPartition, namespace: &str, armed: &ConfigMap) -> Result<ConfigMap, Error> {
    let plan = serde_json::to_string(&read_plan(armed)?.without_token()).expect("plain data");
    Ok(ConfigMap {
        metadata: metadata(run, namespace, journal_name(run)),
        immutable: Some(true),
        data: Some(BTreeMap::from([(PLAN_KEY.into(), plan)])),
        // As it is, compressed: so that it fits here too.
        binary_data: armed.binary_data.clone(),
    })
}

/// The plan as an earlier process of the operator wrote it.
///
/// # Errors
/// Where the ConfigMap holds no such thing.
pub fn read_plan(map: &ConfigMap) -> Result<RunPlan, Error> {
    parse(map, PLAN_KEY, map.data.as_ref().and_then(|d| d.get(PLAN_KEY)).map(|json| json.as_bytes()))
}

/// The snapshot that the plan was made of.
///
/// # Errors
/// Where the ConfigMap holds no such thing.
pub fn read_snapshot(map: &ConfigMap) -> Result<Snapshot, Error> {
    let compressed = map.binary_data.as_ref().and_then(|d| d.get(SNAPSHOT_KEY));
    let compressed = compressed.ok_or_else(|| unread(map, SNAPSHOT_KEY, "missing"))?;
    let mut json = Vec::new();
    // One byte more tells what is too much from what just fits.
    let read = GzDecoder::new(compressed.0.as_slice()).take(MOST + 1).read_to_end(&mut json);
    match read.map_err(|e| unread(map, SNAPSHOT_KEY, e))? as u64 {
        0..=MOST => parse(map, SNAPSHOT_KEY, Some(&json)),
        _ => Err(unread(map, SNAPSHOT_KEY, format!("it becomes more than {} MiB", MOST >> 20))),
    }
}

/// For the fuzz target: both readers of a plan's ConfigMap, on any bytes. The readers that took them.
#[cfg(any(test, fuzzing))]
pub fn read_anything(bytes: &[u8]) -> Vec<&'static str> {
    let map = ConfigMap {
        data: Some(BTreeMap::from([(PLAN_KEY.into(), String::from_utf8_lossy(bytes).into_owned())])),
        binary_data: Some(BTreeMap::from([(SNAPSHOT_KEY.into(), ByteString(bytes.to_vec()))])),
        ..ConfigMap::default()
    };
    let took = [("plan", read_plan(&map).is_ok()), ("snapshot", read_snapshot(&map).is_ok())];
    took.into_iter().filter(|(_, took)| *took).map(|(reader, _)| reader).collect()
}

fn parse<T: DeserializeOwned>(map: &ConfigMap, key: &'static str, json: Option<&[u8]>) -> Result<T, Error> {
    let json = json.ok_or_else(|| unread(map, key, "missing"))?;
    serde_json::from_slice(json).map_err(|e| unread(map, key, e))
}

fn unread(map: &ConfigMap, key: &'static str, why: impl ToString) -> Error {
    Error::Read { key, map: map.name_any(), why: why.to_string() }
}

/// One agent on every node of the plan, whatever its taints, and nowhere else.
pub fn daemon_set(run: &RackPartition, namespace: &str, plan: &RunPlan, settings: &AgentSettings) -> DaemonSet {
    let labels = BTreeMap::from([(RUN_LABEL, run.name_any())]);
    let mut env = vec![
        json!({"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}),
        json!({"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
        json!({"name": "LEADER_METRICS", "value": settings.leader_metrics.to_string()}),
    ];
    let mut mounts = vec![
        json!({"name": "plan", "mountPath": "/etc/rackpartition", "readOnly": true}),
        json!({"name": "state", "mountPath": "/var/lib/rackpartition"}),
        json!({"name": "ready", "mountPath": "/run/rackpartition"}),
    ];
    let mut volumes = vec![
        json!({"name": "plan", "configMap": {"name": plan_name(run, &plan.hash()), "items": [{"key": PLAN_KEY, "path": PLAN_KEY}]}}),
        json!({"name": "state", "hostPath": {"path": settings.state_dir, "type": "DirectoryOrCreate"}}),
        json!({"name": "ready", "emptyDir": {"medium": "Memory"}}),
    ];
    let socket = Path::new(&settings.runtime_socket);
    if let (Some(directory), Some(file)) = (socket.parent(), socket.file_name()) {
        // The directory and not the socket, so that a runtime's restart does not leave a dead inode.
        volumes.push(json!({"name": "runtime", "hostPath": {"path": directory, "type": "Directory"}}));
        mounts.push(json!({"name": "runtime", "mountPath": "/run/runtime", "readOnly": true}));
        env.push(json!({"name": "RUNTIME_SOCKET", "value": Path::new("/run/runtime").join(file)}));
    }
    let folders = [
        ("etcd-certificates", &settings.etcd_certificates, "/run/etcd-certificates", "ETCD_CERTIFICATES"),
        ("pod-logs", &settings.pod_logs, "/run/pod-logs", "POD_LOGS"),
    ];
    for (name, folder, mounted, variable) in folders.into_iter().filter(|(_, folder, ..)| !folder.is_empty()) {
        // Of no type: a node without the folder has nothing to read there, and must not keep the run from starting.
        volumes.push(json!({"name": name, "hostPath": {"path": folder}}));
        mounts.push(json!({"name": name, "mountPath": mounted, "readOnly": true}));
        env.push(json!({"name": variable, "value": mounted}));
    }
    let mut security = json!({
        "runAsUser": 0, "privileged": settings.privileged, "readOnlyRootFilesystem": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !settings.privileged {
        security["allowPrivilegeEscalation"] = json!(false);
        security["capabilities"] = json!({"drop": ["ALL"], "add": ["NET_ADMIN"]});
    }
    let secrets: Vec<_> = settings
        .image_pull_secrets
        .iter()
        .filter(|s| !s.is_empty())
        .map(|s| LocalObjectReference { name: s.clone() })
        .collect();
    // By node name and not by rack: the nodes were frozen when the plan was made. A field term takes one value, and terms are
    // alternatives.
    let terms: Vec<_> = plan
        .agents()
        .into_iter()
        .map(|n| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]}))
        .collect();
    let spec = json!({
        "selector": {"matchLabels": labels},
        // Nothing is ever rolled out: a run's agents are one plan's.
        "updateStrategy": {"type": "OnDelete"},
        "template": {
            "metadata": {"labels": self::labels(run)},
            "spec": {
                "serviceAccountName": settings.service_account,
                "hostNetwork": true,
                "priorityClassName": "system-node-critical",
                "terminationGracePeriodSeconds": 5,
                "tolerations": [{"operator": "Exists"}],
                "imagePullSecrets": secrets,
                "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
                }},
                "containers": [{
                    "name": "agent",
                    "image": settings.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "args": ["agent"],
                    "env": env,
                    "securityContext": security,
                    "readinessProbe": {
                        "exec": {"command": ["/rackpartition", "agent-ready"]},
                        "periodSeconds": 2, "timeoutSeconds": 5
                    },
                    "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "128Mi"}},
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            }
        }
    });
    DaemonSet {
        metadata: metadata(run, namespace, name(run)),
        spec: Some(serde_json::from_value(spec).expect("a DaemonSet's spec")),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;
    use clap::Parser;
    use std::fs;

    /// The operator's command line, of which only this part is asked for.
    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        agent: AgentSettings,
    }

    /// What is put on nodes, as the settings' own defaults have it: for people to read, and for `scripts/score` to look at.
    #[test]
    fn the_agents_daemon_set_is_generated() {
        let passed = passing();
        let mut run = RackPartition::new("isolate-r1", passed.spec.clone());
        run.metadata.uid = Some("c0ffee00-1a2b-4c3d-8e4f-5a6b7c8d9e0f".into());
        let CommandLine { agent } = CommandLine::parse_from(["operator", "--agent-image", "rackpartition:0.1.0"]);
        let set = daemon_set(&run, &agent.agent_namespace, &passed.plan, &agent);
        // What is in the plan is not what this is about.
        let hash = passed.plan.hash().chars().take(8).collect::<String>();
        let json = serde_json::to_string(&set).unwrap().replace(&hash, "0a1b2c3d");
        let set: serde_json::Value = serde_json::from_str(&json).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/agents.yaml");
        if std::env::var_os("RACKPARTITION_GENERATE").is_some() {
            let yaml = serde_saphyr::to_string(&set).unwrap();
            let head = "# What the operator puts on nodes for a run.\n# Generated by `make generate`. Do not edit.\n";
            fs::write(&path, format!("{head}{yaml}")).unwrap();
        }
        let committed: serde_json::Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert!(committed == set, "{} is not what a run gets: run `make generate`", path.display());
    }

    #[test]
    fn what_is_kept_is_the_same_without_the_secret() {
        let passed = passing();
        let run = RackPartition::new("run", passed.spec.clone());
        let mut plan = passed.plan.clone();
        plan.heal.token = "0123456789abcdef0123456789abcdef".into();
        let armed = plan_map(&run, "agents", &plan, &passed.snapshot);
        assert!(serde_json::to_string(&armed).unwrap().contains(&plan.heal.token));
        let kept = journal_map(&run, "operator", &armed).unwrap();
        assert!(!serde_json::to_string(&kept).unwrap().contains(&plan.heal.token));
        assert_eq!(read_plan(&kept).unwrap().hash(), plan.hash());
        assert_eq!(read_snapshot(&kept).unwrap(), passed.snapshot);
        assert_eq!((kept.namespace().as_deref(), kept.immutable), (Some("operator"), Some(true)));
        assert!(journal_map(&run, "operator", &ConfigMap::default()).is_err(), "nothing is kept of nothing");
    }

    #[test]
    fn a_snapshot_that_would_fill_the_memory_is_refused() {
        let gzip = |bytes: u64| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            let mut blanks = std::io::repeat(b' ').take(bytes - 2);
            std::io::copy(&mut blanks, &mut gzip).unwrap();
            std::io::Write::write_all(&mut gzip, b"{}").unwrap();
            gzip.finish().unwrap()
        };
        let read = |bytes: u64| {
            let data = BTreeMap::from([(SNAPSHOT_KEY.into(), ByteString(gzip(bytes)))]);
            read_snapshot(&ConfigMap { binary_data: Some(data), ..ConfigMap::default() })
        };
        assert_eq!(read(1024).unwrap(), Snapshot::default());
        let error = read(MOST + 1).unwrap_err().to_string();
        assert!(error.ends_with("it becomes more than 32 MiB"), "{error}");
    }

    #[test]
    fn agents_are_told_whether_to_ask_who_leads() {
        let passed = passing();
        let run = RackPartition::new("run", passed.spec.clone());
        for leader_metrics in [false, true] {
            let settings = AgentSettings { leader_metrics, ..AgentSettings::plain() };
            let set = serde_json::to_value(daemon_set(&run, "agents", &passed.plan, &settings)).unwrap();
            let env = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
            let told = env.iter().find(|variable| variable["name"] == "LEADER_METRICS").unwrap();
            assert_eq!(told["value"], leader_metrics.to_string());
        }
    }

    #[test]
    fn folders_of_a_node_are_mounted_where_the_owner_says_so_and_read_only() {
        let passed = passing();
        let run = RackPartition::new("run", passed.spec.clone());
        let pod = |settings: &AgentSettings| {
            let set = daemon_set(&run, "agents", &passed.plan, settings);
            serde_json::to_value(set).unwrap()["spec"]["template"]["spec"].clone()
        };
        let named = |list: &serde_json::Value, name: &str| {
            list.as_array().unwrap().iter().find(|item| item["name"] == name).cloned()
        };
        let plain = pod(&AgentSettings::plain());
        let read = pod(&AgentSettings {
            etcd_certificates: "/etc/kubernetes/pki/etcd".into(),
            pod_logs: "/var/log/pods".into(),
            ..AgentSettings::plain()
        });
        for (name, folder, variable) in [
            ("etcd-certificates", "/etc/kubernetes/pki/etcd", "ETCD_CERTIFICATES"),
            ("pod-logs", "/var/log/pods", "POD_LOGS"),
        ] {
            assert_eq!(named(&plain["volumes"], name), None);
            // Of no type: a kubelet would not start the agent on a node that lacks the folder.
            let volume = named(&read["volumes"], name).unwrap();
            assert_eq!(volume["hostPath"], json!({"path": folder}));
            let mount = named(&read["containers"][0]["volumeMounts"], name).unwrap();
            assert_eq!(mount["readOnly"], true);
            let told = named(&read["containers"][0]["env"], variable).unwrap();
            assert_eq!(told["value"], mount["mountPath"]);
        }
    }
}
