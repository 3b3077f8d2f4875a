//! The cluster with the chart installed, and what scenarios do with it.

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    lab::{Lab, Node},
    options::Options,
    tools::{self, Tools},
};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use rackpartition::{
    api::{Finding, NodeRecord, Observer, Phase, RUN_LABEL, RackPartition, RackPartitionStatus},
    connection::Route,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fmt::Debug,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{process::Command, time::sleep};

/// Not the demo's, so that a test never removes what somebody is looking at.
pub const CLUSTER: &str = "rackpartition-test";
/// Built by `make image`.
pub const IMAGE: &str = "rackpartition:dev";
pub const OPERATORS: &str = "rackpartition";
pub const AGENTS: &str = "rackpartition-agents";
/// Processes on nodes, as `pgrep -f` knows them.
pub const AGENT: &str = "^/rackpartition agent";
pub const OPERATOR: &str = "^/rackpartition operator";
/// Short, for the runs that wait for it.
pub const ARM_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);
/// Until kind's load balancer sends nobody to a server that is cut off: three checks, each 2 s after the last, and each given up
/// after 5 s (its configuration), twice.
const LOAD_BALANCER: Duration = Duration::from_secs(42);

/// Connects to the kubelet at each of these addresses; whoever refuses was reached. One behind the other: the first that is not reached is
/// named.
const REACH: &str = r#"
for address; do
  answer=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/$1/10250"' connect "$address" 2>&1) || [[ $answer == *refused* ]] ||
    { echo "$address: ${answer:-no answer}" >&2; exit 1; }
done
"#;

pub struct Harness {
    pub lab: Lab,
    pub client: Client,
    tools: Tools,
}

impl Harness {
    /// Cluster, image, chart and workload.
    pub async fn set_up(options: &Options) -> Result<Self> {
        let tools = tools::ensure().await?;
        let lab = Lab::up_with(CLUSTER, options).await?;
        lab.load_image(IMAGE).await.context("is the image built? `make image` does it")?;
        // The product's own connections: the load balancer takes seconds to notice that a server is cut off, and a request that ended
        // there has a deadline, and the next one a new connection.
        let client = Route::new(lab.client_config().await?, &[]).client();
        let harness = Harness { lab, client, tools };
        harness.install().await?;
        harness.kubectl(&["apply", "--filename", &repository("examples/workload.yaml")]).await?;
        harness.workload_is_ready().await?;
        Ok(harness)
    }

    async fn install(&self) -> Result<()> {
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

    pub async fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.run(&self.tools.kubectl, words).await
    }

    /// Looks until an API server answers: one that was cut off is on its way back for a while, and says so.
    pub async fn look(&self, words: &[&str]) -> Result<String> {
        self.until(&format!("kubectl {}", words.join(" ")), LOAD_BALANCER, async |h: &Harness| {
            Ok(Some(h.kubectl(words).await?))
        })
        .await
    }

    async fn run(&self, program: &Path, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(words).env("KUBECONFIG", self.lab.kubeconfig()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("failed to run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{} {}: {}{}",
            program.display(),
            words.join(" "),
            text,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
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

    /// Tables of ours on a node, by `nft` in the node itself.
    pub async fn tables_on(&self, node: &str) -> Result<Vec<String>> {
        let tables = self.lab.exec(node, &["nft", "list", "tables"]).await?;
        Ok(tables.lines().filter(|l| l.contains("inet rackpartition")).map(str::to_owned).collect())
    }

    /// No table of ours on any node, by the deadline.
    pub async fn no_tables(&self, deadline: Duration) -> Result<()> {
        self.until("every table of ours to be gone", deadline, async |h: &Harness| {
            for node in h.lab.nodes() {
                let tables = h.tables_on(&node.name).await?;
                ensure!(tables.is_empty(), "{}: {tables:?}", node.name);
            }
            Ok(Some(()))
        })
        .await
    }

    /// Packets pass between every node and every kubelet's port: nothing of ours has effect any more. One that is not up yet refuses,
    /// which is an answer.
    pub async fn all_hear_each_other(&self) -> Result<()> {
        self.hear_each_other_but(&[]).await
    }

    /// The same of all nodes but these, in each family that they have.
    pub async fn hear_each_other_but(&self, silent: &[&str]) -> Result<()> {
        let nodes = || self.lab.nodes().iter().filter(|n| !silent.contains(&n.name.as_str()));
        for from in nodes() {
            let others = nodes().flat_map(|to| to.addresses.iter().map(String::as_str));
            let words: Vec<&str> = ["bash", "-c", REACH, "reach"].into_iter().chain(others).collect();
            let reached = self.lab.exec(&from.name, &words).await;
            reached.with_context(|| format!("{} does not reach every node", from.name))?;
        }
        Ok(())
    }

    /// The node on which the operator leads.
    pub async fn operator_leader_node(&self) -> Result<String> {
        self.until("an operator to lead", Duration::from_secs(60), async |h: &Harness| {
            let holder = h.operators_lease().await?.spec.and_then(|s| s.holder_identity);
            let Some(holder) = holder.filter(|h| !h.is_empty()) else { return Ok(None) };
            let pods: Api<Pod> = Api::namespaced(h.client.clone(), OPERATORS);
            let pod = pods.get_opt(&holder).await?;
            Ok(pod.and_then(|p| p.spec?.node_name))
        })
        .await
    }

    /// By which one of the operators leads.
    pub async fn operators_lease(&self) -> Result<Lease> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATORS);
        Ok(leases.get("rackpartition-operator").await?)
    }

    /// The node whose API server the operator uses that leads, as the kernel says: each watch has a connection, so most are with that one.
    /// With each of the others it has one at most, for canary writes.
    pub async fn operators_api_server(&self) -> Result<String> {
        self.until("the operator to be connected", Duration::from_secs(60), async |h: &Harness| {
            let leader = h.operator_leader_node().await?;
            let processes = h.lab.exec(&leader, &["pgrep", "-f", OPERATOR]).await?;
            let process = processes.lines().next().context("no operator where it leads")?;
            // In the network of its own, which is its pod's.
            let network = ["nsenter", "--target", process, "--net"];
            let connected = ["ss", "-H", "-t", "-n", "state", "established", "dport", "=", ":6443"];
            let connections = h.lab.exec(&leader, &[&network[..], &connected].concat()).await?;
            Ok(most_dialled(h.lab.nodes(), &connections))
        })
        .await
    }

    /// The nodes on which operators are, leading or not.
    pub async fn operator_nodes(&self) -> Result<BTreeSet<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATORS);
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.iter().filter_map(|p| p.spec.as_ref()?.node_name.clone()).collect())
    }

    /// Every replica begins anew.
    pub async fn restart_operator(&self) -> Result<()> {
        let operator = ["--namespace", OPERATORS, "rollout"];
        self.kubectl(&[&operator[..], &["restart", "deployment"]].concat()).await?;
        let status = ["status", "deployment/rackpartition-operator", "--timeout=2m"];
        self.kubectl(&[&operator[..], &status].concat()).await.map(drop)
    }

    /// Logs of every operator pod.
    pub async fn operator_logs(&self) -> Result<String> {
        let words = ["--namespace", OPERATORS, "logs", "--selector", "app.kubernetes.io/component=operator"];
        self.look(&[&words[..], &["--tail", "-1", "--prefix"]].concat()).await
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

    /// After a failure: what a person would look at first.
    pub async fn explain(&self) {
        for words in [
            &["get", "rackpartitions", "--output", "wide"][..],
            &["get", "rackpartitions", "--output", "yaml"],
            &["--namespace", AGENTS, "get", "noderecords,pods,daemonsets", "--output", "wide"],
            &["get", "nodes"],
            &[
                "--namespace",
                AGENTS,
                "logs",
                "--selector",
                "app.kubernetes.io/component=agent",
                "--tail",
                "30",
                "--prefix",
            ],
        ] {
            println!("--- kubectl {}", words.join(" "));
            println!("{}", self.kubectl(words).await.unwrap_or_else(|e| format!("{e:#}")));
        }
        let logs = self.operator_logs().await.unwrap_or_else(|e| format!("{e:#}"));
        let tail: Vec<&str> = logs.lines().rev().take(80).collect();
        println!("--- operator logs");
        tail.into_iter().rev().for_each(|l| println!("{l}"));
    }
}

/// The node to whose API server most of these connections go, as `ss` lists them.
fn most_dialled(nodes: &[Node], connections: &str) -> Option<String> {
    let ends = connections.lines().filter_map(|line| line.split_whitespace().find_map(|w| w.strip_suffix(":6443")));
    let ends: Vec<&str> = ends.map(|end| end.trim_matches(['[', ']'])).collect();
    let dialled = |node: &Node| ends.iter().filter(|end| node.addresses.iter().any(|a| a == **end)).count();
    let most = nodes.iter().max_by_key(|node| dialled(node)).filter(|node| dialled(node) > 0);
    most.map(|node| node.name.clone())
}

/// Selects what belongs to the run of this name.
fn of_run(run: &str) -> ListParams {
    ListParams::default().labels(&format!("{RUN_LABEL}={run}"))
}

/// A path in the repository.
pub fn repository(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Findings as lines, for messages of failures.
pub fn told(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|f| {
            format!(
                "\n  {:?} {:?} {}: predicted {}; observed {}; {}",
                f.result, f.check, f.subject, f.predicted, f.observed, f.evidence
            )
        })
        .collect()
}

/// Seconds from now until `at`.
pub fn seconds_until(at: Timestamp) -> f64 {
    (at.as_microsecond() - Timestamp::now().as_microsecond()) as f64 / 1e6
}
