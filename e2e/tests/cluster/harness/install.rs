//! The chart and the workload in the cluster.

use super::{ARM_DEADLINE, Harness, IMAGE, repository};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use std::{collections::BTreeSet, time::Duration};

impl Harness {
    pub(super) async fn install(&self) -> Result<()> {
        self.install_with(&[]).await
    }

    /// A replica of the operator in each rack, for cuts after which only one of many can write.
    pub async fn install_everywhere(&self) -> Result<()> {
        let racks: BTreeSet<&str> = self.lab.nodes().iter().map(|n| n.rack.as_str()).collect();
        self.install_with(&[&format!("operator.replicas={}", racks.len())]).await
    }

    /// The chart with values of a scenario's own, as `--set-json` takes them.
    pub async fn install_with(&self, values: &[&str]) -> Result<()> {
        let chart = repository("charts/rackpartition");
        let mut words =
            vec!["upgrade", "--install", "rackpartition", &chart, "--wait", "--timeout", "3m", "--reset-values"];
        let deadline = format!("agent.armDeadline={}s", ARM_DEADLINE.as_secs());
        // Under the same name another image would not be taken up by pods that are there.
        let id = self.lab.engine().image_id(IMAGE).await.context("the image is gone")?;
        let image = format!("operator.podAnnotations.image={}", id.replace(':', "-"));
        // Not by default, and what is reviewed and looked at here.
        let leaders = "agent.leaderMetrics=true";
        for value in ["image.repository=rackpartition", "image.tag=dev", &deadline, &image, leaders] {
            words.extend(["--set", value]);
        }
        values.iter().for_each(|value| words.extend(["--set-json", value]));
        self.run(&self.tools.helm, &words).await.map(drop)
    }

    pub async fn workload_is_ready(&self) -> Result<()> {
        for what in ["deployment/web", "statefulset/db"] {
            self.kubectl(&["--namespace", "shop", "rollout", "status", what, "--timeout=3m"]).await?;
        }
        Ok(())
    }

    /// One pod of each set in every rack again: nothing moves a Deployment's pods back by itself, and the scheduler only prefers
    /// to spread them.
    pub async fn spread_workload(&self) -> Result<()> {
        for _ in 0..5 {
            self.kubectl(&["--namespace", "shop", "rollout", "restart", "deployment/web"]).await?;
            self.workload_is_ready().await?;
            let pods = self
                .until("old pods to be gone", Duration::from_secs(60), async |h: &Harness| {
                    let pods: Api<Pod> = Api::namespaced(h.client.clone(), "shop");
                    let pods = pods.list(&ListParams::default()).await?.items;
                    Ok(pods.iter().all(|p| p.metadata.deletion_timestamp.is_none()).then_some(pods))
                })
                .await?;
            let nodes_of = |app: &str| {
                let of_app = pods.iter().filter(|p| p.labels().get("app").is_some_and(|a| a == app));
                of_app.filter_map(|p| p.spec.as_ref()?.node_name.clone()).collect::<BTreeSet<_>>().len()
            };
            let racks = self.lab.nodes().iter().map(|n| &n.rack).collect::<BTreeSet<_>>().len();
            // Three replicas each.
            if nodes_of("web") == racks.min(3) && nodes_of("db") == racks.min(3) {
                return Ok(());
            }
        }
        bail!("the scheduler does not spread the workload over the racks")
    }
}
