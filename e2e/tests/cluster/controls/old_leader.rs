//! Two schedulers that lead at once.

use super::{ended, into_the_cut, node, violated};
use crate::{
    example::one,
    harness::{Harness, told},
    refusals::example_spec,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use rackpartition::api::{Check, FindingResult, Verdict};
use serde_json::json;
use std::time::Duration;

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
    // Whatever came of that: the next scenario's schedulers are as they were.
    caught.and(leads_as_before(h, &old).await)
}

/// Whether a scheduler is up says nothing of which one it is, so that is waited for too. The run is over first: in its cut nobody hears
/// what runs there.
async fn leads_as_before(h: &Harness, node: &str) -> Result<()> {
    let put_back = h.lab.exec(node, &["bash", "-c", LEAD_AS_BEFORE]).await.map(drop);
    put_back.with_context(|| format!("failed to put the scheduler's manifest on {node} back"))?;
    let over = h.clear().await;
    over.and(scheduler_runs(h, node, false).await)
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
    h.no_tables(Duration::from_secs(30)).await
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
