//! Controls: faults of the cluster's own, which the tool must catch, and a run in which nothing happens, of which it must find nothing.

use crate::{
    example::one,
    harness::{AGENTS, Harness, seconds_until, told},
    refusals::{example_spec, isolate},
    runbook,
};
use anyhow::{Context, Result, bail, ensure};
use e2e::lab::RACK_LABEL;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, Pod},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use rackpartition::api::{Check, Finding, FindingResult, Phase, RackPartitionStatus, Schedule, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug, time::Duration};
use tokio::time::sleep;

/// Arming, a cut of up to 90 s, recovery of up to 3 minutes, judging.
const WHOLE_RUN: Duration = Duration::from_secs(480);
/// From a run's creation to its cut.
const ARMING: Duration = Duration::from_secs(150);
/// As `pgrep -f` knows it.
const ETCD: &str = "^etcd --";

const LEASE: &str = "kube-scheduler";
/// LeaseDuration and RenewDeadline of a scheduler that goes on leading by itself for most of a cut. Longer than the lab's, and within the
/// rules of client-go, so that it is a scheduler like any other.
const STUBBORN: [&str; 2] = ["65s", "60s"];

/// Starts this node's scheduler anew with these: $1 and $2. Its own manifest waits beside, whatever became of an earlier try.
const LEAD_FOR_LONG: &str = r#"
set -euo pipefail
manifest=/etc/kubernetes/manifests/kube-scheduler.yaml kept=/etc/kubernetes/parked/kube-scheduler.kept
mkdir -p "${kept%/*}"
[ -e "$kept" ] || cp "$manifest" "$kept"
sed -E -e "s/(--leader-elect-lease-duration)=.*/\1=$1/" -e "s/(--leader-elect-renew-deadline)=.*/\1=$2/" "$kept" > "$kept.next"
grep -q -e "--leader-elect-renew-deadline=$2" "$kept.next" || { echo "no such flag in $manifest" >&2; exit 1; }
mv "$kept.next" "$manifest"
"#;
const LEAD_AS_BEFORE: &str = r#"
manifest=/etc/kubernetes/manifests/kube-scheduler.yaml kept=/etc/kubernetes/parked/kube-scheduler.kept
[ ! -e "$kept" ] || mv "$kept" "$manifest"
"#;

/// Two schedulers that lead at once. The Lease is taken from one that is cut off, as by an elector that gives its Lease up before its work
/// has ended (client-go's `ReleaseOnCancel` wants it the other way round), and another one takes it by the rules. The first has nobody who
/// could tell it, and leads until its RenewDeadline.
pub async fn an_old_leader_that_does_not_stop(h: &Harness) -> Result<()> {
    let old = node(h, "r1", true)?;
    let caught = two_leaders_are_caught(h, &old).await;
    let mended = h.lab.exec(&old, &["bash", "-c", LEAD_AS_BEFORE]).await.map(drop);
    caught.and(mended.with_context(|| format!("failed to put the scheduler's manifest on {old} back")))?;
    scheduler_runs(h, &old, false).await?;
    h.no_tables(Duration::from_secs(30)).await
}

async fn two_leaders_are_caught(h: &Harness, old: &str) -> Result<()> {
    let [duration, deadline] = STUBBORN;
    h.lab.exec(old, &["bash", "-c", LEAD_FOR_LONG, "lead-for-long", duration, deadline]).await?;
    scheduler_runs(h, old, true).await?;
    // It has been started anew, so another one may lead by now.
    h.lab.gather_leaders("r1").await?;
    let name = "old-leader";
    let mut spec = example_spec()?;
    spec["guards"] = json!({"maxClockError": "900ms"});
    h.create(name, spec).await?;
    into_the_cut(h, name, 2.0).await?;
    let new = another_takes_its_lease(h, old).await?;
    println!("  {new} leads beside the scheduler on {old}");
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let overlap = one(findings, Check::LeaderOverlap, "kube-system/kube-scheduler")?;
    let is_proven = overlap.result == FindingResult::Violated && overlap.observed.starts_with("two leaders for ");
    ensure!(is_proven, "two schedulers led unnoticed: {}", told(findings));
    // That its Lease was taken early is told of it too where the operator did not see in between that it was nobody's.
    let accused = violated(findings).find(|f| !f.subject.contains(LEASE));
    ensure!(accused.is_none(), "nothing was wrong with anybody but the schedulers: {}", told(findings));
    ensure!(status.verdict == Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    Ok(())
}

/// Waits until the API shows this node's scheduler ready, and stubborn or not.
async fn scheduler_runs(h: &Harness, node: &str, is_stubborn: bool) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "kube-system");
    let (name, flag) = (format!("kube-scheduler-{node}"), format!("--leader-elect-renew-deadline={}", STUBBORN[1]));
    h.until(&format!("{name} to run as it should"), Duration::from_secs(120), async |_: &Harness| {
        let Some(pod) = pods.get_opt(&name).await? else { return Ok(None) };
        let container = pod.spec.as_ref().and_then(|s| s.containers.first());
        let has_flag = container.and_then(|c| c.command.as_ref()).is_some_and(|words| words.contains(&flag));
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let is_ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        Ok((is_ready && has_flag == is_stubborn).then_some(()))
    })
    .await
}

/// Takes the Lease from the scheduler on this node for as long as it has it. Returns who has it then.
async fn another_takes_its_lease(h: &Harness, old: &str) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(h.client.clone(), "kube-system");
    let own = format!("{old}_");
    h.until("another scheduler to lead", Duration::from_secs(30), async |_: &Harness| {
        let lease = leases.get(LEASE).await?;
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
        if holder.starts_with(&own) {
            // On condition of the version, so that it is taken from nobody else.
            let version = json!({"resourceVersion": lease.resource_version()});
            let released = Patch::Merge(json!({"metadata": version, "spec": {"holderIdentity": null}}));
            leases.patch(LEASE, &PatchParams::default(), &released).await?;
            return Ok(None);
        }
        Ok(Some(holder).filter(|holder| !holder.is_empty()))
    })
    .await
}

const TWIN: &str = "twin";
const FIRST: &str = "twin-0";

/// A pod of a StatefulSet whose node can't be asked is deleted by force, which the documentation of StatefulSets warns of: another one of
/// its name starts elsewhere while it runs.
pub async fn a_twin_of_a_stateful_set(h: &Harness) -> Result<()> {
    // So that nobody who marks nodes and makes pods has to be replaced first.
    h.lab.gather_leaders("r2").await?;
    let sets: Api<StatefulSet> = Api::namespaced(h.client.clone(), "shop");
    sets.create(&PostParams::default(), &serde_json::from_value(set_that_may_go_elsewhere())?).await?;
    let caught = twin_is_caught(h).await;
    // One that could not be removed is told, and not in the place of what it was for.
    caught.and(removed(h, &sets, TWIN).await)
}

/// One pod, in r1 if that has room. Unlike those of the example's StatefulSet it has no place that it must go back to.
fn set_that_may_go_elsewhere() -> Value {
    let labels = json!({"app": TWIN});
    let in_r1 = json!({"matchExpressions": [{"key": RACK_LABEL, "operator": "In", "values": ["r1"]}]});
    let prefers = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": in_r1}]});
    let container = json!({
        "name": "pause", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let pod = json!({
        "affinity": {"nodeAffinity": prefers}, "containers": [container], "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": TWIN},
        "spec": {
            "serviceName": "db", "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

async fn twin_is_caught(h: &Harness) -> Result<()> {
    let worker = node(h, "r1", false)?;
    let old = twin(h, Duration::from_secs(60), |_| true).await?;
    ensure!(node_of(&old) == worker, "the scheduler put {FIRST} on {}, which is not cut off", node_of(&old));
    let uid = old.uid().context("no uid")?;
    let name = "twin";
    let mut spec = isolate(&["r1"]);
    spec["duration"] = json!("90s");
    spec["recovery"] = json!("2m");
    spec["workloads"] = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}});
    h.create(name, spec).await?;
    into_the_cut(h, name, 0.0).await?;
    // Else it might be bound to the same node again, and wait there.
    unreachable(h, &worker).await?;
    delete_by_force(h, &uid).await?;
    let new = twin(h, Duration::from_secs(40), |pod| pod.uid().as_ref() != Some(&uid)).await?;
    println!("  {FIRST} runs on {} beside the one on {worker}", node_of(&new));
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let doubled: Vec<&Finding> = violated(findings).filter(|f| f.check == Check::WorkloadDoubled).collect();
    let is_caught = matches!(doubled[..], [found] if found.subject.contains(TWIN));
    ensure!(is_caught, "of two pods called {FIRST}, and of nobody else, both ran: {}", told(findings));
    ensure!(status.verdict == Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    h.no_tables(Duration::from_secs(30)).await
}

/// The pod of that name, as soon as it runs and is the one that is meant.
async fn twin(h: &Harness, deadline: Duration, is_meant: impl Fn(&Pod) -> bool) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
    h.until(&format!("{FIRST} to run"), deadline, async |_: &Harness| {
        let runs = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        Ok(pods.get_opt(FIRST).await?.filter(|pod| runs(pod) && is_meant(pod)))
    })
    .await
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

async fn unreachable(h: &Harness, node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(h.client.clone());
    h.until(&format!("{node} to be tainted"), Duration::from_secs(60), async |_: &Harness| {
        let taints = nodes.get(node).await?.spec.and_then(|s| s.taints).unwrap_or_default();
        let is_closed = taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == "NoSchedule");
        Ok(is_closed.then_some(()))
    })
    .await
}

/// What `kubectl delete pod --force --grace-period=0` asks for, of the pod of this uid only: asked a second time it would take the new one.
async fn delete_by_force(h: &Harness, uid: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let by_force = DeleteParams::default().grace_period(0).preconditions(only);
    h.until(&format!("{FIRST} to be deleted"), Duration::from_secs(40), async |_: &Harness| {
        match pods.delete(FIRST, &by_force).await {
            // Gone, or another one is there already.
            Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => Ok(Some(())),
            other => Ok(Some(other.map(drop)?)),
        }
    })
    .await
}

/// Until when a member of etcd hangs, seconds after the cut: for longer than a watch cache may be behind (36 s: within 5 s of the cut it
/// learns that there is no leader, it asks on for 30 s, and 1 s for the answer), and not for so long that its API server gives the
/// connection up (40 s: keepalive of 30 s, and 10 s for the answer). The member ends its watches only then, some seconds later, and the
/// cache goes on for another half a minute. Let go too late, its cache has answered up to the 40 s.
const HANGS_UNTIL: f64 = 38.0;

/// An API server whose member of etcd hangs is not told that anything was lost, and goes on answering from what it knows. Meanwhile the
/// others go on writing.
pub async fn stale_reads_on_the_losing_side(h: &Harness) -> Result<()> {
    h.lab.gather_leaders("r2").await?;
    // Where etcd leads on, others write from the first second of the cut on, and it is then that what is read gets old.
    let rack = if rack_of_etcd_leader(h).await? == "r1" { "r3" } else { "r1" };
    let name = "stale-reads";
    let mut spec = isolate(&[rack]);
    spec["duration"] = json!("60s");
    h.create(name, spec).await?;
    // Before its member ends the watches, which it does three seconds after it lost its leader.
    let schedule = into_the_cut(h, name, 0.5).await?;
    while_held(h, &node(h, rack, true)?, ETCD, async {
        let left = seconds_until(schedule.cut_at.0) + HANGS_UNTIL;
        sleep(Duration::from_secs_f64(left.max(0.0))).await;
        Ok(())
    })
    .await?;
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let stale = one(findings, Check::StaleRead, "isolated")?;
    let seconds = |text: &str, words: &str| seconds_after(text, words).with_context(|| format!("no {words:?}: {text}"));
    let behind = seconds(&stale.observed, "its watch cache up to ")?;
    let allowed = seconds(&stale.predicted, "the watch cache at most ")?;
    ensure!(behind > allowed, "no more than {behind} s behind, and {allowed} s may be: {}", told(findings));
    // A consistent read that was stale would be Violated. A cache may be old, and one that is older than predicted is told.
    ensure!(stale.result == FindingResult::Noted, "what was stale is not told: {}", told(findings));
    let wrong = violated(findings).find(|f| f.check == Check::StaleRead);
    ensure!(wrong.is_none(), "a consistent read was stale: {}", told(findings));
    // By itself it is no reason to fail a cluster.
    ensure!(status.verdict != Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    println!("  a watch cache {behind} s behind, of {allowed} s");
    h.no_tables(Duration::from_secs(30)).await
}

/// By its members' own metrics.
async fn rack_of_etcd_leader(h: &Harness) -> Result<String> {
    let script = "curl -s -m 2 http://127.0.0.1:2381/metrics | grep '^etcd_server_is_leader ' || true";
    h.until("etcd to have a leader", Duration::from_secs(30), async |h: &Harness| {
        for node in h.lab.nodes().iter().filter(|n| n.control_plane) {
            if h.lab.exec(&node.name, &["bash", "-c", script]).await?.trim() == "etcd_server_is_leader 1" {
                return Ok(Some(node.rack.clone()));
            }
        }
        Ok(None)
    })
    .await
}

/// The number before ` s` and behind these words, as of `its watch cache up to 38.1 s behind`.
fn seconds_after(text: &str, words: &str) -> Option<f64> {
    text.split(words).nth(1)?.split(" s").next()?.parse().ok()
}

/// Lets agents read etcd with the certificates that kubeadm makes.
const CERTIFICATES: &str = r#"agent.etcdCertificates="/etc/kubernetes/pki/etcd""#;
const MAP: &str = "control";
/// What is written, and what one member holds instead: of the same length, for it is put into that member's file.
const WRITTEN: &str = "as-it-was-written-to-all-members";
const ALTERED: &str = "as-it-stands-in-one-member-alone";
const _: () = assert!(WRITTEN.len() == ALTERED.len());

/// With etcd stopped on this node, puts $2 in place of $1 into its store, whose pages have no checksums. A member that checks itself when
/// it starts, as kubeadm asks of it, would not start with that, so $3 says whether it is to check. It may be begun again wherever it ended;
/// where a killed test left it, the next lab puts the manifest back (`e2e::leaders`).
const ALTER: &str = r#"
set -euo pipefail
manifests=/etc/kubernetes/manifests parked=/etc/kubernetes/parked
mkdir -p "$parked"
[ ! -e "$manifests/etcd.yaml" ] || mv "$manifests/etcd.yaml" "$parked/"
for _ in {1..120}; do pgrep -f '^etcd --' > /dev/null || break; sleep 0.5; done
! pgrep -f '^etcd --' > /dev/null || { echo 'etcd does not end' >&2; exit 1; }
store=$(sed -n 's/^ *- --data-dir=//p' "$parked/etcd.yaml")/member/snap/db
LC_ALL=C sed -i "s/$1/$2/g" "$store"
LC_ALL=C grep -q -a -F -e "$2" "$store" || { echo "$store holds no $2" >&2; exit 1; }
sed -i -E "s/(InitialCorruptCheck|initial-corrupt-check)=[a-z]+/\1=$3/" "$parked/etcd.yaml"
mv "$parked/etcd.yaml" "$manifests/"
for _ in {1..240}; do
  health=$(curl -s -m 2 http://127.0.0.1:2381/health || true)
  [[ $health != *'"health":"true"'* ]] || exit 0
  sleep 0.5
done
echo "etcd is not back: $health" >&2
exit 1
"#;

/// What one member holds at a revision, $1, or at its latest: the revision and the hash.
const HASH: &str = r#"
set -euo pipefail
e() {
  crictl exec "$(crictl ps -q --name '^etcd$')" etcdctl --endpoints=https://127.0.0.1:2379 --write-out=json \
    --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
    --key=/etc/kubernetes/pki/etcd/server.key "$@"
}
revision=${1:-$(e endpoint status | jq -r '.[0].Status.header.revision')}
echo "$revision $(e endpoint hashkv --rev="$revision" | jq -r '.[0].HashKV.hash')"
"#;

/// What a runbook took away from this node, $1, and did not bring back; and what it kept goes. Where it got so far that the member is no
/// longer one of the cluster, nothing brings it back, and `lab up` makes another cluster.
const PUT_BACK: &str = r#"
set -euo pipefail
manifests=/etc/kubernetes/manifests kept=/root/etcd-$1
data=$({ cat "$manifests/etcd.yaml" "$kept/etcd.yaml" 2> /dev/null || true; } | sed -n 's/^ *- --data-dir=//p' | head -n 1)
rm -f "${data:?no manifest of etcd}/before-rebuild.db"
[ -e "$kept" ] || exit 0
[ -e "$data/member" ] || [ ! -e "$kept/member" ] || mv "$kept/member" "$data/member"
for name in etcd kube-apiserver; do
  [ ! -e "$kept/$name.yaml" ] || mv "$kept/$name.yaml" "$manifests/"
done
rm -r "$kept"
"#;

/// One value in the store of one member is another one than all others hold, as after a fault of its disk. The run names the member, and
/// the runbook that it prints is run as it is printed.
pub async fn an_altered_member_of_etcd(h: &Harness) -> Result<()> {
    let member = node(h, "r2", true)?;
    let maps: Api<ConfigMap> = Api::namespaced(h.client.clone(), "shop");
    let mended = async {
        h.install_with(&[CERTIFICATES]).await?;
        let map = json!({"metadata": {"name": MAP}, "data": {"value": WRITTEN}});
        maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
        let begun = Timestamp::now();
        alter(h, &member, WRITTEN, ALTERED, false).await?;
        etcd_is_listed_again(h, &member, begun).await?;
        // Its API server was without etcd for a while.
        h.clear().await?;
        let way_back = altered_member_is_caught(h, &member).await?;
        runbook::run(h, &way_back).await?;
        all_hold_the_same(h).await
    }
    .await;
    // Whatever came of that: with the run over, or a third member might be missing, all is put back. A member that was rebuilt is only
    // started anew, and checks itself against the others as it does so.
    let kept = put_back(h).await;
    let over = h.clear().await;
    let store = alter(h, &member, ALTERED, WRITTEN, true).await;
    let map = removed(h, &maps, MAP).await;
    let chart = h.install_with(&[]).await;
    mended.and(kept).and(over).and(store).and(map).and(chart)
}

/// A member is planned with by its pod, of which the API has none for a while after its manifest was away.
async fn etcd_is_listed_again(h: &Harness, member: &str, since: Timestamp) -> Result<()> {
    let pod = format!("etcd-{member}");
    let started = "jsonpath={.status.containerStatuses[*].state.running.startedAt}";
    h.until(&format!("{pod} in the API"), Duration::from_secs(90), async |h: &Harness| {
        let at = h.kubectl(&["--namespace", "kube-system", "get", "pod", &pod, "--output", started]).await?;
        let at: Option<Timestamp> = at.trim().parse().ok();
        Ok(at.filter(|at| *at > since).map(drop))
    })
    .await
}

/// Asks each member on its own node.
async fn all_hold_the_same(h: &Harness) -> Result<()> {
    let masters: Vec<&str> = h.lab.nodes().iter().filter(|n| n.control_plane).map(|n| n.name.as_str()).collect();
    let first = masters.first().context("no control-plane node")?;
    h.until("etcd to hold one and the same everywhere", Duration::from_secs(30), async |h: &Harness| {
        let told = h.lab.exec(first, &["bash", "-c", HASH, "hash"]).await?;
        let (revision, _) = told.split_once(' ').with_context(|| format!("no revision: {told}"))?;
        for master in &masters[1..] {
            let other = h.lab.exec(master, &["bash", "-c", HASH, "hash", revision]).await?;
            ensure!(other == told, "{first} holds {told}, and {master} {other}");
        }
        println!("  {} members hold {told}", masters.len());
        Ok(Some(()))
    })
    .await
}

async fn put_back(h: &Harness) -> Result<()> {
    let mut put = Ok(());
    for master in h.lab.nodes().iter().filter(|n| n.control_plane) {
        let done = h.lab.exec(&master.name, &["bash", "-c", PUT_BACK, "put-back", &master.name]).await.map(drop);
        put = put.and(done.with_context(|| format!("failed to put back what the runbook took from {}", master.name)));
    }
    put
}

async fn alter(h: &Harness, node: &str, from: &str, to: &str, checks_itself: bool) -> Result<()> {
    let words = ["bash", "-c", ALTER, "alter", from, to, if checks_itself { "true" } else { "false" }];
    let altered = h.lab.exec(node, &words).await;
    altered.map(drop).with_context(|| format!("failed to put {to} into etcd's store on {node}"))
}

/// Returns the way back.
async fn altered_member_is_caught(h: &Harness, member: &str) -> Result<String> {
    let name = "altered-member";
    h.create(name, isolate(&["r1"])).await?;
    let status = ended(h, name).await?;
    let findings = &status.findings;
    let accused: Vec<&Finding> = violated(findings).filter(|f| f.check == Check::StoreAgreement).collect();
    let is_caught = matches!(accused[..], [found] if found.subject == member);
    ensure!(is_caught, "{member}, and nobody else, holds something else: {}", told(findings));
    // By its hash: an alarm or a panic would be told of it as well.
    let compared = |said: &str| said.starts_with("holds ") && said.contains(" where ") && said.contains(" hold ");
    let is_compared = accused.iter().any(|found| found.observed.split("; ").any(compared));
    ensure!(is_compared, "nobody compared it with the others: {}", told(findings));
    ensure!(status.verdict == Some(Verdict::Fail), "{:?}: {}", status.verdict, told(findings));
    let way_back = status.runbook.context("no runbook")?;
    for words in [format!("etcd on {member}\n"), "member remove".into(), format!("member add {member} --peer-urls=")] {
        ensure!(way_back.contains(&words), "no {words:?} in\n{way_back}");
    }
    h.no_tables(Duration::from_secs(30)).await?;
    Ok(way_back)
}

/// The example without its cut.
pub async fn a_rehearsal(h: &Harness) -> Result<()> {
    h.spread_workload().await?;
    h.lab.gather_leaders("r1").await?;
    let before = started(h).await?;
    let name = "rehearsal";
    let mut spec = example_spec()?;
    spec["rehearsal"] = json!(true);
    h.create(name, spec).await?;
    let schedule = h.phase(name, &[Phase::Cut], ARMING).await?.schedule.context("no schedule")?;
    for node in h.lab.nodes() {
        let tables = h.tables_on(&node.name).await?;
        let is_armed = tables.iter().any(|table| table.contains("inet rackpartition-"));
        ensure!(is_armed, "{} is not armed: {tables:?}", node.name);
    }
    h.all_hear_each_other().await.context("in a rehearsal")?;
    ensure!(seconds_until(schedule.heal_at.0) > 0.0, "looked for too long: the windows are over");
    let status = ended(h, name).await?;
    let findings = &status.findings;
    ensure!(status.verdict == Some(Verdict::Pass), "{:?}: {}", status.verdict, told(findings));
    // One connection that timed out on a busy machine is told of any pair that is not cut, and nothing that happened.
    let is_stray = |f: &&Finding| {
        f.check == Check::FaultProven && f.result == FindingResult::Noted && f.observed.contains("stray timeout")
    };
    let odd: Vec<Finding> =
        findings.iter().filter(|f| f.result != FindingResult::Held && !is_stray(f)).cloned().collect();
    ensure!(odd.is_empty(), "found where nothing happened: {}", told(&odd));
    let plan = status.plan.as_ref().context("no plan")?;
    let is_said = plan.cut == "rehearsal of isolate r1" && plan.edges == 0;
    ensure!(is_said, "{}: {} edges", plan.cut, plan.edges);
    ensure!(status.onset.is_none(), "nobody fell silent: {:?}", status.onset);
    let is_injected = status.conditions.iter().find(|c| c.type_ == "Injected").map(|c| c.status.as_str());
    ensure!(is_injected == Some("False"), "nothing was injected: {is_injected:?}");
    let after = started(h).await?;
    ensure!(after == before, "pods were made or started anew: {before:?} and then {after:?}");
    h.no_tables(Duration::from_secs(30)).await
}

/// Every pod but agents', with its uid and how often its containers were started anew.
async fn started(h: &Harness) -> Result<BTreeMap<String, (String, i32)>> {
    let pods: Api<Pod> = Api::all(h.client.clone());
    let pods = h.until("the pods", Duration::from_secs(30), async |_: &Harness| {
        Ok(Some(pods.list(&ListParams::default()).await?.items))
    });
    let of = |pod: Pod| {
        let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        let restarts: i32 = containers.iter().map(|c| c.restart_count).sum();
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        (name, (pod.uid().unwrap_or_default(), restarts))
    };
    let is_agent = |pod: &Pod| pod.namespace().as_deref() == Some(AGENTS);
    Ok(pods.await?.into_iter().filter(|pod| !is_agent(pod)).map(of).collect())
}

/// Deletes what a scenario has made, until an API server has taken it.
async fn removed<K>(h: &Harness, of: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    h.until(&format!("{name} to be removed"), Duration::from_secs(45), async |_: &Harness| {
        match of.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(Some(())),
            other => Ok(Some(other.map(drop)?)),
        }
    })
    .await
}

/// The node of this kind in a rack.
fn node(h: &Harness, rack: &str, control_plane: bool) -> Result<String> {
    let found = h.lab.nodes().iter().find(|n| n.rack == rack && n.control_plane == control_plane);
    Ok(found.with_context(|| format!("{rack} has no such node"))?.name.clone())
}

/// Waits until so many seconds after the beginning of the cut.
async fn into_the_cut(h: &Harness, name: &str, seconds: f64) -> Result<Schedule> {
    let status = h.phase(name, &[Phase::Scheduled, Phase::Cut], ARMING).await?;
    let schedule = status.schedule.context("no schedule")?;
    let left = seconds_until(schedule.cut_at.0) + seconds;
    let late = -left;
    ensure!(late < 1.0, "the cut was seen {late:.1} s too late");
    sleep(Duration::from_secs_f64(left.max(0.0))).await;
    Ok(schedule)
}

/// Holds a process, as `pgrep -f` knows it, for as long as `meanwhile` takes. Whatever comes of that, it goes on afterwards.
async fn while_held(h: &Harness, node: &str, process: &str, meanwhile: impl Future<Output = Result<()>>) -> Result<()> {
    let ended = match h.lab.exec(node, &["pkill", "-STOP", "-f", process]).await {
        Ok(_) => meanwhile.await,
        Err(error) => Err(error.context(format!("failed to hold {process} on {node}"))),
    };
    // What is gone, which `pkill` ends with 1 for, need not go on.
    let script = r#"pkill -CONT -f "$1" || [ $? = 1 ]"#;
    let what = format!("{process} on {node} to go on");
    let released = h.until(&what, Duration::from_secs(30), async |h: &Harness| {
        h.lab.exec(node, &["bash", "-c", script, "go-on", process]).await.map(Some)
    });
    ended.and(released.await.map(drop))
}

/// The run when it is judged.
async fn ended(h: &Harness, name: &str) -> Result<RackPartitionStatus> {
    let status = h.phase(name, &[Phase::Done], WHOLE_RUN).await?;
    println!("{}", rackpartition::report::findings_table(&status, Some(160)));
    if status.findings.is_empty() {
        bail!("{name} was judged without a finding");
    }
    Ok(status)
}

fn violated(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|f| f.result == FindingResult::Violated)
}
