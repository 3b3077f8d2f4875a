//! Runs: made, waited for and taken away, and what is theirs.

use super::{AGENTS, Harness, repository, wait::LOAD_BALANCER};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use rackpartition::api::{NodeRecord, Observer, Phase, RUN_LABEL, RackPartition, RackPartitionStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, time::Duration};

impl Harness {
    pub fn runs(&self) -> Api<RackPartition> {
        Api::all(self.client.clone())
    }

    /// Creates a run of this spec.
    pub async fn create(&self, name: &str, spec: Value) -> Result<RackPartition> {
        let run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": {"name": name}, "spec": spec,
        });
        self.create_run(&serde_json::from_value(run)?).await
    }

    /// Creates a run, until an API server has taken it or refused it.
    async fn create_run(&self, run: &RackPartition) -> Result<RackPartition> {
        let name = run.name_any();
        let what = format!("run {name} to be taken");
        let answer = self.until(&what, LOAD_BALANCER, async |h: &Harness| {
            match h.runs().create(&PostParams::default(), run).await {
                // An earlier try whose answer was lost.
                Err(kube::Error::Api(answer)) if answer.is_already_exists() => Ok(Some(h.runs().get(&name).await)),
                Err(kube::Error::Api(answer)) if answer.code >= 500 || answer.code == 429 => {
                    Err(kube::Error::Api(answer).into())
                }
                Err(kube::Error::Api(answer)) => Ok(Some(Err(kube::Error::Api(answer)))),
                other => Ok(Some(Ok(other?))),
            }
        });
        answer.await?.with_context(|| format!("failed to create run {name}"))
    }

    /// The run in a file of the repository.
    pub async fn create_from(&self, file: &str) -> Result<String> {
        let text = std::fs::read_to_string(repository(file))?;
        let run: RackPartition = serde_saphyr::from_str(&text)?;
        Ok(self.create_run(&run).await?.name_any())
    }

    /// Waits for one of these phases; another final phase on the way is an error.
    pub async fn phase(&self, name: &str, wanted: &[Phase], deadline: Duration) -> Result<RackPartitionStatus> {
        let status = self
            .until(&format!("run {name} to be {wanted:?}"), deadline, async |h: &Harness| {
                let status = h.runs().get_status(name).await?.status.unwrap_or_default();
                let there = status.phase.is_some_and(|p| wanted.contains(&p) || p.is_final());
                Ok(there.then_some(status))
            })
            .await?;
        let phase = status.phase.context("no phase")?;
        ensure!(wanted.contains(&phase), "run {name} is {phase:?}: {}", status.message.clone().unwrap_or_default());
        Ok(status)
    }

    /// Asks for the run's end, until an API server has taken it.
    pub async fn abort(&self, name: &str) -> Result<()> {
        self.until(&format!("the abort of {name} to be taken"), LOAD_BALANCER, async |h: &Harness| {
            let abort = Patch::Merge(json!({"spec": {"abort": true}}));
            Ok(Some(h.runs().patch(name, &PatchParams::default(), &abort).await.map(drop)?))
        })
        .await
    }

    /// Deletes the run, until an API server has taken it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.until(&format!("the deletion of {name} to be taken"), LOAD_BALANCER, async |h: &Harness| {
            match h.runs().delete(name, &Default::default()).await {
                Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(Some(())),
                other => Ok(Some(other.map(drop)?)),
            }
        })
        .await
    }

    pub async fn gone(&self, name: &str, deadline: Duration) -> Result<()> {
        self.until(&format!("run {name} to be gone"), deadline, async |h: &Harness| {
            Ok(h.runs().get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Nothing that a run of this name owned is there, in any namespace. The run itself is gone, so it is the cluster's garbage collector
    /// that takes the rest away.
    pub async fn nothing_left(&self, run: &str, deadline: Duration) -> Result<()> {
        self.until(&format!("all of run {run} to be gone"), deadline, async |h: &Harness| {
            let left = [
                h.owned::<DaemonSet>(run).await?,
                h.owned::<ConfigMap>(run).await?,
                h.owned::<Lease>(run).await?,
                h.owned::<NodeRecord>(run).await?,
            ]
            .concat();
            ensure!(left.is_empty(), "left of run {run}: {}", left.join(", "));
            Ok(Some(()))
        })
        .await
    }

    /// Objects of this kind that belong to the run.
    async fn owned<K>(&self, run: &str) -> Result<Vec<String>>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let found = Api::<K>::all(self.client.clone()).list(&of_run(run)).await?;
        Ok(found.iter().map(|object| format!("{} {}", K::kind(&()), object.name_any())).collect())
    }

    /// The record of this run that the agent on `node` wrote.
    pub async fn record(&self, run: &str, node: &str) -> Result<NodeRecord> {
        self.until(&format!("the record of {node} in run {run}"), LOAD_BALANCER, async |h: &Harness| {
            Ok(h.records(run).await?.into_iter().find(|r| r.spec.node == node))
        })
        .await
    }

    /// The agents' records of this run, and of an earlier one of its name that are on their way out.
    pub async fn records(&self, run: &str) -> Result<Vec<NodeRecord>> {
        let records: Api<NodeRecord> = Api::namespaced(self.client.clone(), AGENTS);
        let mut records = records.list(&of_run(run)).await?.items;
        records.retain(|r| r.spec.observer == Observer::Agent);
        records.iter_mut().try_for_each(NodeRecord::unpack)?;
        Ok(records)
    }

    /// How many pods of agents this run has.
    pub async fn agents(&self, run: &str) -> Result<usize> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), AGENTS);
        Ok(pods.list(&of_run(run)).await?.items.len())
    }
}

/// Selects what belongs to the run of this name.
fn of_run(run: &str) -> ListParams {
    ListParams::default().labels(&format!("{RUN_LABEL}={run}"))
}
