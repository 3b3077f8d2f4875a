//! A member of etcd that holds something else than the others.

use super::{ended, node, removed, violated};
use crate::{
    harness::{Harness, told},
    refusals::isolate,
    runbook,
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{Api, api::PostParams};
use rackpartition::api::{Check, Finding, Verdict};
use serde_json::json;
use std::time::Duration;

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
revision=${1:-$(e endpoint status | jq -er '.[0].Status.header.revision')}
# By itself, or nobody would notice that it failed; and a hash that is not there is none that is the same everywhere.
hash=$(e endpoint hashkv --rev="$revision" | jq -er '.[0].HashKV.hash')
echo "$revision $hash"
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
