//! What stays of a run that has ended: what it was made of, without its secret, for as long as the run.

use crate::{
    agents::Agents,
    cluster::{Cluster, GOOD, of_run},
    replica::{NAMESPACE, Replica},
    wait::{SOON, until},
};
use clap::{Args, FromArgMatches};
use k8s_openapi::api::{
    core::v1::{ConfigMap, ResourceQuota},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use rackpartition::{
    api::{Phase, RUN_LABEL, RackPartition},
    cli::{self, ExportArgs},
    fault::expand,
    operator::{journal_name, read_plan, read_snapshot},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tokio::time::timeout;

fn journals(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

async fn journal_of(cluster: &Cluster, run: &str) -> Option<ConfigMap> {
    journals(cluster).list(&of_run(run)).await.expect("an answer").items.pop()
}

/// As people call it, with every default.
async fn export(cluster: &Cluster, run: &str, to: &Path) -> anyhow::Result<()> {
    let words = ["export", run, "--to", to.to_str().expect("a path")];
    let matches = ExportArgs::augment_args(clap::Command::new("export")).try_get_matches_from(words);
    let args = ExportArgs::from_arg_matches(&matches.expect("a call")).expect("its arguments");
    timeout(SOON * 3, cli::export(&cluster.client, &args)).await.expect("an export in time")
}

fn judge(folder: &Path) -> Output {
    let mut judge = Command::new(env!("CARGO_BIN_EXE_rackpartition"));
    judge.args(["judge", "-o", "json", "--journals"]).arg(folder).output().expect("the program")
}

#[tokio::test]
async fn an_ended_run_can_be_exported_and_its_secret_is_gone() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    let token = cluster.plan_of("run").await.expect("a plan").heal.token;
    let _agents = Agents::play(&cluster, "run", &[]);
    cluster.until_phase("run", &[Phase::Cut]).await;
    assert!(journal_of(&cluster, "run").await.is_none(), "nothing is kept before the end");
    let folder = tempfile::tempdir().expect("a folder");
    let (waited, at_once) = (folder.path().join("waited"), folder.path().join("at-once"));
    let (exported, _) = tokio::join!(export(&cluster, "run", &waited), cluster.until_phase("run", &[Phase::Done]));
    exported.expect("one that waits for the end");
    let run = cluster.until_wound_up("run").await.expect("a run with a verdict stays");
    is_kept_without(&cluster, &run, &token).await;

    export(&cluster, "run", &at_once).await.expect("one of a run that has ended");
    for folder in [&waited, &at_once] {
        for file in ["run.yaml", "snapshot.json", "plan.json"] {
            let text = fs::read_to_string(folder.join(file)).expect("a file");
            assert!(!text.contains(&token), "{file}");
        }
        assert_eq!(fs::read_dir(folder.join("records")).expect("records").count(), 7);
        let judged = judge(folder);
        assert_ne!(judged.status.code(), Some(i32::from(cli::EXIT_ERROR)), "{judged:?}");
        let judgement: Value = serde_json::from_slice(&judged.stdout).expect("a judgement");
        assert!(judgement["run"] == "run" && judgement["verdict"].is_string(), "{judgement:#}");
    }
    // The secret is gone, and yet another plan than the one that was armed is told.
    let path = at_once.join("plan.json");
    let mut plan: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("a plan");
    plan["longestSeconds"] = json!(1.0);
    fs::write(&path, plan.to_string()).expect("another plan");
    let refused = judge(&at_once);
    assert_eq!(refused.status.code(), Some(i32::from(cli::EXIT_ERROR)), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("by its hash"), "{refused:?}");
}

/// Plan and snapshot are those of the run, and its token is in no ConfigMap of the cluster.
async fn is_kept_without(cluster: &Cluster, run: &RackPartition, token: &str) {
    let kept = journal_of(cluster, "run").await.expect("what the run was made of");
    assert_eq!(kept.name_any(), journal_name(run));
    assert_eq!(kept.owner_references().first().map(|o| &o.uid), run.metadata.uid.as_ref(), "it goes with the run");
    assert_eq!(kept.immutable, Some(true));
    let (plan, snapshot) = (read_plan(&kept).expect("a plan"), read_snapshot(&kept).expect("a snapshot"));
    let armed = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.as_str());
    assert_eq!(Some(plan.hash().as_str()), armed);
    assert!(plan.heal.token_bytes().is_err(), "nobody is healed by what is kept");
    assert_eq!(expand(&run.spec, &snapshot).expect("the cut of that time").blocks, plan.edges);
    assert!(!serde_json::to_string(&snapshot).expect("plain data").contains(token), "it is compressed in the map");
    let maps = Api::<ConfigMap>::all(cluster.client.clone()).list(&ListParams::default()).await.expect("an answer");
    for map in maps.items {
        assert!(!serde_json::to_string(&map).expect("plain data").contains(token), "{}", map.name_any());
    }
}

#[tokio::test]
async fn a_run_ends_and_its_secret_goes_whatever_becomes_of_what_is_kept() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);

    // All that it owns goes with it.
    cluster.begin("deleted", json!({})).await;
    cluster.until_phase("deleted", &[Phase::Arming]).await;
    cluster.delete("deleted").await;
    assert!(journal_of(&cluster, "deleted").await.is_none());

    // An operator died between writing and deleting.
    let run = cluster.begin("again", json!({})).await;
    cluster.until_phase("again", &[Phase::Arming]).await;
    let metadata = json!({"name": journal_name(&run), "labels": {RUN_LABEL: "again"}});
    let earlier = json!({"metadata": metadata, "data": {"plan.json": "of an earlier attempt"}});
    cluster.create(&journals(&cluster), earlier).await;
    abort(&cluster, "again").await;
    let data = journal_of(&cluster, "again").await.expect("the earlier one").data.expect("what is in it");
    assert_eq!(data.get("plan.json").map(String::as_str), Some("of an earlier attempt"));

    // Admission goes by the status, which nobody else writes here.
    let none = json!({"count/configmaps": "0"});
    let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), NAMESPACE);
    cluster.create(&quotas, json!({"metadata": {"name": "none"}, "spec": {"hard": none}})).await;
    let status = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
    quotas.patch_status("none", &PatchParams::default(), &status).await.expect("a quota's status");
    cluster.begin("refused", json!({})).await;
    cluster.until_phase("refused", &[Phase::Arming]).await;
    abort(&cluster, "refused").await;
    assert!(journal_of(&cluster, "refused").await.is_none(), "the quota lets nobody write it");
    let events = Api::<Event>::all(cluster.client.clone());
    let note = until("a word that nothing is kept", SOON, || async {
        let told = events.list(&ListParams::default()).await.ok()?.items;
        told.into_iter().find(|e| e.reason.as_deref() == Some("NotKept"))?.note
    })
    .await;
    assert!(note.contains("quota"), "{note}");
    let folder = tempfile::tempdir().expect("a folder");
    let error = export(&cluster, "refused", &folder.path().join("journals")).await.expect_err("nothing to export");
    assert!(error.to_string().contains("NotKept"), "{error:#}");
}

/// Ends a run that arms, and waits until nothing of it is left but what stays; its plan among that is an error.
async fn abort(cluster: &Cluster, run: &str) {
    cluster.patch(run, json!({"spec": {"abort": true}})).await.expect("an abort");
    cluster.until_phase(run, &[Phase::Aborted]).await;
    cluster.until_wound_up(run).await.expect("an aborted run stays");
}
