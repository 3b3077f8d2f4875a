//! Waiting: for a condition, for an API server that answers, and for a cluster that is whole.

use super::Harness;
use anyhow::{Result, bail};
use kube::{ResourceExt, api::ListParams};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const POLL: Duration = Duration::from_millis(250);
/// Until kind's load balancer sends nobody to a server that is cut off: three checks, each 2 s after the last, and each given up
/// after 5 s (its configuration), twice.
pub const LOAD_BALANCER: Duration = Duration::from_secs(42);

impl Harness {
    /// Waits until the condition gives a value. A failed look is looked at again: the API server asked may be the cut one.
    pub async fn until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl AsyncFnMut(&Harness) -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut last = None;
        loop {
            match tokio::time::timeout(Duration::from_secs(5), look(self)).await {
                Ok(Ok(Some(value))) => return Ok(value),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
            if begun.elapsed() > deadline {
                bail!("waited {} s for {what}; last error: {last:?}", deadline.as_secs());
            }
            sleep(POLL).await;
        }
    }

    /// Looks until an API server answers: one that was cut off is on its way back for a while, and says so.
    pub async fn look(&self, words: &[&str]) -> Result<String> {
        self.until(&format!("kubectl {}", words.join(" ")), LOAD_BALANCER, async |h: &Harness| {
            Ok(Some(h.kubectl(words).await?))
        })
        .await
    }

    /// Removes every run and waits until nothing is left of them.
    pub async fn clear(&self) -> Result<()> {
        let runs = self.until("the runs", LOAD_BALANCER, async |h: &Harness| {
            Ok(Some(h.runs().list(&ListParams::default()).await?))
        });
        for run in runs.await? {
            let name = run.name_any();
            let _ = self.delete(&name).await;
            self.gone(&name, Duration::from_secs(150)).await?;
        }
        self.no_tables(Duration::from_secs(30)).await?;
        // A run begins from a healthy baseline, and the next scenario's too.
        self.until("the cluster to be whole again", Duration::from_secs(300), async |h: &Harness| {
            let nodes = h.kubectl(&["get", "nodes", "--no-headers"]).await?;
            let columns = "jsonpath={range .items[*]}{.status.replicas}{.status.desiredNumberScheduled} {.status.readyReplicas}{.status.numberReady}{\"\\n\"}{end}";
            let sets = ["--namespace", "kube-system", "get", "deployments,daemonsets", "--output", columns];
            let system = h.kubectl(&sets).await?;
            // Operators and agents too: one that was killed may be waiting to be started again, another one is on its way out.
            let pods = h.kubectl(&["get", "pods", "--all-namespaces", "--no-headers"]).await?;
            let is_up = |words: &[&str]| words.get(3) == Some(&"Running") && words[2].split_once('/').is_some_and(|(a, b)| a == b);
            let pods_ready = pods.lines().all(|l| is_up(&l.split_whitespace().collect::<Vec<_>>()));
            let nodes_ready = nodes.lines().all(|l| l.split_whitespace().nth(1) == Some("Ready"));
            let system_ready = system.lines().all(|l| l.split_once(' ').is_some_and(|(wanted, has)| wanted == has));
            Ok((nodes_ready && system_ready && pods_ready).then_some(()))
        })
        .await
    }
}
