//! Between two cells: nothing of the last one is left, and the cluster is whole for the next one, without a kubelet's patience.

use crate::harness::Harness;
use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks at what waits.
const PERIOD: Duration = Duration::from_secs(2);

/// A container that ended, so many times: it is started again once, and then it is another one.
type Ended = (String, String, i32);

/// Clears. Meanwhile whatever a kubelet would start only after a while is started at once: of what a run leaves behind nothing is asked
/// any more by now.
pub async fn whole_again(h: &Harness) -> Result<()> {
    tokio::select! {
        cleared = h.clear() => cleared,
        never = without_back_off(h) => never,
    }
}

/// A kubelet that begins anew has forgotten whom it lets wait (`crashLoopBackOff` of `pkg/kubelet/kubelet.go` is in memory). What can't be
/// done so is left to its patience. Never returns.
async fn without_back_off(h: &Harness) -> Result<()> {
    let mut begun = BTreeSet::new();
    loop {
        for (node, ended) in waiting(h).await.unwrap_or_default() {
            let is_new = !ended.is_subset(&begun);
            begun.extend(ended);
            if is_new {
                let _ = h.lab.exec(&node, &["systemctl", "restart", "kubelet"]).await;
            }
        }
        sleep(PERIOD).await;
    }
}

/// By node, the containers that its kubelet lets wait.
async fn waiting(h: &Harness) -> Result<BTreeMap<String, BTreeSet<Ended>>> {
    let pods: Api<Pod> = Api::all(h.client.clone());
    let mut waiting: BTreeMap<String, BTreeSet<Ended>> = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await? {
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) else { continue };
        let containers = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        for container in containers {
            let state = container.state.as_ref().and_then(|s| s.waiting.as_ref());
            if state.and_then(|w| w.reason.as_deref()) == Some("CrashLoopBackOff") {
                let ended = (pod.uid().unwrap_or_default(), container.name.clone(), container.restart_count);
                waiting.entry(node.clone()).or_default().insert(ended);
            }
        }
    }
    Ok(waiting)
}
