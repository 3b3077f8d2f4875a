//! What the cluster's owner allows, in the chart's `policy`: refused by the API server, or by the operator where it takes the cluster
//! to tell. And what an agent may write.

use crate::{
    controls::removed,
    harness::{AGENTS, Harness, repository},
    refusals::isolate,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use rackpartition::{
    agent::record_name,
    api::{NodeRecord, NodeRecordSpec, Observer, Phase},
};
use serde_json::json;
use std::{collections::HashMap, time::Duration};

/// Until every API server goes by a new policy.
const SOON: Duration = Duration::from_secs(30);

/// Nobody cuts r3 off by its name, nor anybody for longer than 40 s. Within that `owners` may do whatever they like, the group `sre` may
/// cut r1 off for half a minute, and nobody else anything.
const POLICY: [&str; 3] = [
    r#"policy.maxDuration="40s""#,
    r#"policy.protectedRacks=["r3"]"#,
    r#"policy.allowed=[{"groups": ["sre"], "racks": ["r1"], "maxDuration": "30s"}, {"groups": ["owners"]}]"#,
];

pub async fn who_may_run_what(h: &Harness) -> Result<()> {
    agents_write_their_own_nodes_records_only(h).await?;
    let binding = ["clusterrolebinding", "rackpartition-test-sre"];
    let create = ["--clusterrole", "rackpartition-runner", "--group", "sre", "--group", "owners", "--group", "others"];
    h.kubectl(&[&["create"], &binding[..], &create].concat()).await?;
    let told = told(h).await;
    // As it was for the next one, whatever of that fails.
    let unbound = h.kubectl(&[&["delete"], &binding[..]].concat()).await.map(drop);
    let chart = h.install_with(&[]).await;
    told.and(unbound).and(chart)
}

async fn told(h: &Harness) -> Result<()> {
    h.install_with(&POLICY).await?;
    let racks = |racks: &[&str], duration: &str| json!({"cut": {"isolate": {"racks": racks}}, "duration": duration});
    // What sre may, and more.
    let with = |more: serde_json::Value| {
        let mut spec = racks(&["r1"], "20s");
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let edges = json!({"cut": {"edges": [{"from": {"racks": ["r1"]}, "to": {"racks": ["r2"]}}]}, "duration": "20s"});
    let role = json!({"cut": {"isolate": {"role": "quorum-side"}}, "duration": "20s"});
    let (allowed, longest, protected) =
        ("policy.allowed of the chart", "policy.maxDuration of the chart", "policy.protectedRacks of the chart");
    let refused = [
        ("others", racks(&["r1"], "20s"), allowed),
        ("sre", racks(&["r2"], "20s"), allowed),
        ("sre", racks(&["r1", "r2"], "20s"), allowed),
        ("sre", racks(&["r1"], "31s"), allowed),
        ("sre", edges.clone(), allowed),
        ("sre", role.clone(), allowed),
        ("sre", json!({"cut": {"ring": {}}, "duration": "20s"}), allowed),
        ("sre", json!({"cut": {"chain": {"members": []}}, "duration": "20s"}), allowed),
        ("sre", with(json!({"rackLabel": "kubernetes.io/hostname"})), allowed),
        ("sre", with(json!({"endpoints": [{"name": "lb", "cidrs": ["198.18.0.9/32"], "rack": "r1"}]})), allowed),
        ("owners", racks(&["r1"], "41s"), longest),
        ("owners", racks(&["r3"], "20s"), protected),
        ("owners", racks(&["r1", "r3"], "20s"), protected),
    ];
    for (group, spec, says) in &refused {
        // Of several API servers one may go by the new policy before another does.
        h.until(&format!("{group} to be refused {spec}"), SOON, async |h: &Harness| {
            let why = try_as(h, group, spec).await?.unwrap_or_else(|| "was taken".into());
            ensure!(why.contains(says), "{why}");
            Ok(Some(()))
        })
        .await?;
    }
    let taken = [
        ("sre", racks(&["r1"], "30s")),
        ("owners", racks(&["r1", "r2"], "40s")),
        // Which racks these are takes the cluster to tell, so the operator does.
        ("owners", edges),
        ("owners", role),
        (
            "owners",
            json!({"rackLabel": "kubernetes.io/hostname", "cut": {"isolate": {"racks": ["r3"]}}, "duration": "20s"}),
        ),
    ];
    for (group, spec) in &taken {
        let why = try_as(h, group, spec).await?;
        ensure!(why.is_none(), "{group} {spec}: {why:?}");
    }

    for (value, says) in [
        (r#"policy.maxNodesPercent=33"#, "policy.maxNodesPercent"),
        (r#"policy.protectedNamespaces=["shop"]"#, "policy.protectedNamespaces"),
        (OPT_IN, "policy.optInLabel"),
    ] {
        let message = comes_to(h, value, Phase::Refused).await?;
        ensure!(message.contains(says), "{value}: {message}");
    }
    comes_to(h, r#"policy.maxNodesPercent=34"#, Phase::Arming).await?;
    opted_in(h).await?;
    protected_elsewhere(h).await
}

/// The label that says that a cluster may be cut, and the value of the chart by which it is asked for.
const OPT_IN_LABEL: &str = "example.com/may-be-cut";
const OPT_IN: &str = r#"policy.optInLabel="example.com/may-be-cut""#;

/// The cluster agrees to be cut.
async fn opted_in(h: &Harness) -> Result<()> {
    h.kubectl(&["label", "namespace", "kube-system", &format!("{OPT_IN_LABEL}=true")]).await?;
    let came = comes_to(h, OPT_IN, Phase::Arming).await;
    let taken_back = h.kubectl(&["label", "namespace", "kube-system", &format!("{OPT_IN_LABEL}-")]).await;
    came.and(taken_back).map(drop)
}

/// What is protected runs where nobody is cut off.
async fn protected_elsewhere(h: &Harness) -> Result<()> {
    let name = "elsewhere";
    let node = h.lab.nodes().iter().find(|n| n.rack == "r2" && !n.control_plane).context("no worker in r2")?;
    h.kubectl(&["create", "namespace", name]).await?;
    let came = async {
        let pods: Api<Pod> = Api::namespaced(h.client.clone(), name);
        let image = json!({"name": "pause", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent"});
        let spec = json!({"nodeName": node.name, "containers": [image], "terminationGracePeriodSeconds": 1});
        let pod = json!({"metadata": {"name": "protected"}, "spec": spec});
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        h.until("the protected pod to run", Duration::from_secs(60), async |_: &Harness| {
            let phase = pods.get("protected").await?.status.and_then(|s| s.phase);
            Ok((phase.as_deref() == Some("Running")).then_some(()))
        })
        .await?;
        comes_to(h, r#"policy.protectedNamespaces=["elsewhere"]"#, Phase::Arming).await
    }
    .await;
    let removed = h.kubectl(&["delete", "namespace", name]).await;
    came.and(removed).map(drop)
}

/// With this value of the chart, what is said to a run that isolates r1, by the time that it comes to this phase. One that arms is called
/// off before it cuts anybody.
async fn comes_to(h: &Harness, value: &str, phase: Phase) -> Result<String> {
    let name = "policy";
    h.install_with(&[value]).await?;
    h.create(name, isolate(&["r1"])).await?;
    let status = h.phase(name, &[phase], Duration::from_secs(90)).await.with_context(|| format!("with {value}"))?;
    if phase == Phase::Arming {
        h.abort(name).await?;
        let ended = h.phase(name, &[Phase::Aborted], Duration::from_secs(60)).await?;
        ensure!(ended.schedule.is_none(), "with {value}: called off only when it had a time, {:?}", ended.schedule);
    }
    h.delete(name).await?;
    h.gone(name, Duration::from_secs(60)).await?;
    Ok(status.message.unwrap_or_default())
}

/// Why somebody of this group may not create a run of this spec; `None` where they may. Nothing is created.
async fn try_as(h: &Harness, group: &str, spec: &serde_json::Value) -> Result<Option<String>> {
    let run = json!({
        "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
        "metadata": {"name": "tried"}, "spec": spec,
    });
    let file = repository(&format!("target/tried-{group}.json"));
    tokio::fs::write(&file, run.to_string()).await?;
    let words = ["create", "--dry-run=server", "--as", "somebody", "--as-group", group, "--filename", &file];
    Ok(h.kubectl(&words).await.err().map(|error| format!("{error:#}")))
}

/// What the API server puts into the token of a pod: the node that it is on.
const NODE_OF_POD: &str = "authentication.kubernetes.io/node-name";

/// Whoever has taken over the agent of one node can't write what another node saw, nor what the operator did, wherever that is.
async fn agents_write_their_own_nodes_records_only(h: &Harness) -> Result<()> {
    let [own, other] = [0, 1].map(|i| h.lab.nodes()[i].name.as_str());
    let written = [Observer::Agent, Observer::Operator].map(|observer| record_of(own, "who-may-write", observer));
    let records: Api<NodeRecord> = Api::namespaced(h.client.clone(), AGENTS);
    let mut tried = async {
        for record in &written {
            let created = records.create(&PostParams::default(), record).await;
            created.context("failed to create a record as the cluster's owner")?;
        }
        tried_by_agents(h, &written, other).await
    }
    .await;
    // Whatever came of that, and also where only one of them was made. What went wrong first is told.
    for record in &written {
        tried = tried.and(removed(h, &records, &record.name_any()).await);
    }
    tried
}

async fn tried_by_agents(h: &Harness, [written, operators]: &[NodeRecord; 2], other: &str) -> Result<()> {
    for node in [Some(other), None] {
        let records = records_as_an_agent_on(h, node).await?;
        h.until(&format!("an agent on {node:?} to be refused"), SOON, async |_: &Harness| {
            for why in try_to_write(&records, written).await {
                let why = why.unwrap_or_else(|| "was taken".into());
                ensure!(why.contains("an agent writes only its own node's records"), "{why}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    let records = records_as_an_agent_on(h, Some(&written.spec.node)).await?;
    let why = try_to_write(&records, written).await;
    ensure!(why.iter().all(Option::is_none), "an agent on the record's own node: {why:?}");
    for why in try_to_write(&records, operators).await {
        let why = why.unwrap_or_else(|| "was taken".into());
        ensure!(why.contains("an agent writes no record of the operator's"), "on the operator's own node: {why}");
    }
    // Of its own node, in the place of another's: of one whose name ends alike, or the operator's.
    let own = &written.spec.node;
    let alike = record_of(&format!("rack-{own}"), "who-may-create", Observer::Agent);
    let operators = record_of(own, "who-may-create", Observer::Operator);
    for name in [alike.name_any(), operators.name_any()] {
        let in_its_place = NodeRecord::new(&name, NodeRecordSpec::new("who-may-create", UID, own, Observer::Agent));
        let why = try_to_create(&records, &in_its_place).await.unwrap_or_else(|| "was taken".into());
        ensure!(why.contains("the name of an agent's record is its run's"), "{name}: {why}");
    }
    Ok(())
}

/// Why whoever asks may not write the status of this record, and why not create another one of its kind; `None` where it may. Nothing is
/// written.
async fn try_to_write(records: &Api<NodeRecord>, written: &NodeRecord) -> [Option<String>; 2] {
    let word = Patch::Merge(json!({"status": {"phase": "Armed"}}));
    let dry = PatchParams { dry_run: true, ..Default::default() };
    let patched = records.patch_status(&written.name_any(), &dry, &word).await;
    let another = record_of(&written.spec.node, "who-may-create", written.spec.observer);
    [patched.err().map(|e| e.to_string()), try_to_create(records, &another).await]
}

async fn try_to_create(records: &Api<NodeRecord>, record: &NodeRecord) -> Option<String> {
    let created = records.create(&PostParams { dry_run: true, ..Default::default() }, record).await;
    created.err().map(|e| e.to_string())
}

/// Of no run.
const UID: &str = "0a1b2c3d-4e5f-6789-abcd-ef0123456789";

/// Named as they are: an agent's record for its node, and the operator's for none.
fn record_of(node: &str, run: &str, observer: Observer) -> NodeRecord {
    let name = match observer {
        Observer::Agent => record_name(run, UID, node),
        Observer::Operator => format!("{run}-0a1b2c3d.operator"),
    };
    NodeRecord::new(&name, NodeRecordSpec::new(run, UID, node, observer))
}

/// The records as the agents' account reaches them, with the token of a pod on this node, or of no pod.
async fn records_as_an_agent_on(h: &Harness, node: Option<&str>) -> Result<Api<NodeRecord>> {
    let mut config = h.lab.client_config().await?;
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{AGENTS}:rackpartition-agent"));
    config.auth_info.impersonate_user_extra =
        node.map(|node| HashMap::from([(NODE_OF_POD.to_owned(), vec![node.to_owned()])]));
    Ok(Api::namespaced(Client::try_from(config)?, AGENTS))
}
