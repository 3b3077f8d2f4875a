//! One lab cluster: bring it up, use it, take it down.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node as KubeNode;
use k8s_openapi::jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rackpartition::api::Endpoint;
use tokio::time::timeout;

use crate::cluster::{self, Files};
use crate::configuration::configuration;
use crate::engine::Engine;
use crate::image::NodeImage;
use crate::progress::step;
use crate::{cache, endpoints, etcd, health, image, kind, leaders, network, pods, run, wait};

pub use crate::options::{Options, Profile};

/// The label that says in which rack a node is.
pub const RACK_LABEL: &str = "topology.kubernetes.io/zone";

/// Longer than anything that is run in a node may take: four minutes, for a step of a runbook. An engine that hangs must not hold up
/// whoever is to remove the cluster.
const EXECUTED: Duration = Duration::from_secs(300);
/// Until no process of a busy node is just being made.
const FREEZING: Duration = Duration::from_secs(20);
/// How long a cluster that was complete may take to show that it still is.
const STILL_HEALTHY: Duration = Duration::from_secs(30);

/// How long a static pod may take that a killed lab had parked: the kubelet calls it Ready only after some 20 s.
const RESTORED: Duration = Duration::from_secs(60);

/// How long a new cluster may take after kind is done with it.
const FIRST_TIME: Duration = Duration::from_secs(180);

/// A node of the cluster, which is also a container of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub rack: String,
    pub control_plane: bool,
    /// Its first InternalIP.
    pub address: String,
    /// All of them: one of each family on a dual-stack cluster.
    pub addresses: Vec<String>,
}

/// A complete cluster. Dropping it does nothing; call [`Lab::down`].
pub struct Lab {
    name: String,
    engine: Engine,
    kubeconfig: PathBuf,
    nodes: Vec<Node>,
    options: Options,
    endpoints: Vec<Endpoint>,
}

impl Lab {
    /// A cluster of this name and profile, of the default topology, with all nodes Ready: the one that is there, else a new one.
    ///
    /// # Errors
    /// As for [`Lab::up_with`].
    pub async fn up(name: &str, profile: Profile) -> Result<Lab> {
        Lab::up_with(name, &Options { profile, ..Options::default() }).await
    }

    /// A cluster of this name and these options with all nodes Ready: the one that is there, else a new one. One that is there
    /// with other timers is made anew; one of another topology or of other address families is not touched.
    ///
    /// # Errors
    /// When the name is taken by another topology, something is missing on this machine, or a step fails; the message says
    /// which and where its log is.
    pub async fn up_with(name: &str, options: &Options) -> Result<Lab> {
        options.check()?;
        let engine = Engine::ensure().await?;
        let _lock = cache::lock(&format!("cluster-{name}")).await?;
        let files = Files::of(name)?;
        let mut options = options.clone();
        let recorded = match files.record() {
            Some(record) if !kind::containers(&engine, name).await?.is_empty() => {
                cluster::check_shape(name, &record, &options)?;
                options.balancer_rack = options.balancer_rack.or_else(|| record.options.balancer_rack.clone());
                Some(record)
            }
            _ => None,
        };
        let image = image::ensure(&engine).await?;
        let now = cluster::observe(&engine, name, &options, &image).await?;
        if recorded.is_some_and(|record| record.is(&now)) {
            files.write(&now)?;
            match Lab::resume(&engine, name, &options).await {
                Ok(lab) => {
                    step(format!("{name} is up already ({}, all nodes Ready)", options.describe()));
                    return Ok(lab);
                }
                Err(error) => step(format!("{name} is up but not healthy, so it is made anew ({error:#})")),
            }
        }
        if !kind::containers(&engine, name).await?.is_empty() {
            step(format!("removing what is there of {name}: half made, not healthy, or of another profile"));
            kind::delete(&engine, name).await?;
        }
        files.forget();
        network::ensure(&engine).await?;
        let plan = options.topology.plan();
        if let Err(error) = create(&engine, name, &options, &image, &files).await {
            // kind takes its own nodes away after a failure; it knows nothing of an external etcd.
            kind::delete(&engine, name).await?;
            files.forget();
            return Err(error);
        }
        step("waiting for all nodes to be Ready");
        let client = connect(&files.kubeconfig()).await?;
        if image.built {
            wait::until("the pod network is set up", FIRST_TIME, async || {
                pods::connect(&engine, &client, &options).await.map(Ok)
            })
            .await?;
        }
        health::nodes_ready(&client, &plan, FIRST_TIME).await?;
        health::system_ready(&client, &plan, FIRST_TIME).await?;
        files.write(&cluster::observe(&engine, name, &options, &image).await?)?;
        step(format!("{name} is up ({}, all nodes Ready)", options.describe()));
        Lab::find(name).await
    }

    /// A complete cluster, once more made sure of after whatever happened to it meanwhile.
    async fn resume(engine: &Engine, name: &str, options: &Options) -> Result<Lab> {
        let plan = options.topology.plan();
        etcd::healthy(engine, name, &plan, STILL_HEALTHY).await?;
        let client = connect(&Files::of(name)?.kubeconfig()).await?;
        connect_pods(engine, &client, name, options).await?;
        health::nodes_ready(&client, &plan, STILL_HEALTHY).await?;
        let lab = Lab::find(name).await?;
        leaders::restore(&lab).await?;
        health::system_ready(&client, &plan, RESTORED).await?;
        Ok(lab)
    }

    /// The cluster of this name as `lab up` left it; its health is not looked at.
    ///
    /// # Errors
    /// When there is none, or its API does not answer.
    pub async fn find(name: &str) -> Result<Lab> {
        let files = Files::of(name)?;
        let (Some(record), Some(engine)) = (files.record(), Engine::running().await) else {
            bail!("there is no lab {name}: run `lab up --name {name}`");
        };
        let client = connect(&files.kubeconfig()).await?;
        let nodes = wait::until("the API lists its nodes", STILL_HEALTHY, async || {
            Ok(Ok(Api::<KubeNode>::all(client.clone()).list(&Default::default()).await?.items))
        })
        .await?;
        let mut nodes: Vec<_> = nodes.iter().map(describe).collect();
        nodes.sort_by(|a, b| (&a.rack, !a.control_plane, &a.name).cmp(&(&b.rack, !b.control_plane, &b.name)));
        let endpoints = endpoints::of(&engine, name, &record.options).await?;
        let (name, kubeconfig, options) = (name.to_owned(), files.kubeconfig(), record.options);
        Ok(Lab { name, engine, kubeconfig, nodes, options, endpoints })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn profile(&self) -> Profile {
        self.options.profile
    }

    /// What was asked for when it was made.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What takes part and is no node, ready for a run's `spec.endpoints`: the API's load balancer and the members of an
    /// external etcd, each with its addresses, ports and rack.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// [`Lab::endpoints`] as lines of YAML to put below a run's `spec:`.
    ///
    /// # Errors
    /// When they cannot be written as YAML, which would be a bug.
    pub fn endpoint_snippet(&self) -> Result<String> {
        endpoints::snippet(&self.endpoints)
    }

    /// Each member of an external etcd, by its container's name, with whether it is healthy; nothing where etcd runs on masters.
    pub async fn external_etcd(&self) -> Vec<(String, bool)> {
        etcd::health(&self.engine, &self.name, &self.options.topology.plan()).await
    }

    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The file with which kubectl reaches the cluster; never the user's own.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// The nodes as they were when this value was made, by rack, control plane first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A client of the cluster's administrator, through kind's load balancer.
    ///
    /// # Errors
    /// When the kubeconfig is gone.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.kubeconfig).await
    }

    /// What such a client is made of.
    ///
    /// # Errors
    /// When the kubeconfig is gone.
    pub async fn client_config(&self) -> Result<Config> {
        read(&self.kubeconfig).await
    }

    /// Copies an image of the engine's to every node.
    ///
    /// # Errors
    /// When the engine does not have it.
    pub async fn load_image(&self, image: &str) -> Result<()> {
        kind::load(&self.engine, &self.name, image).await
    }

    /// Makes controller manager and scheduler lead from `rack`, all components healthy afterwards.
    ///
    /// # Errors
    /// When the rack has no control-plane node, or a takeover does not come.
    pub async fn gather_leaders(&self, rack: &str) -> Result<()> {
        let _lock = cache::lock(&format!("cluster-{}", self.name)).await?;
        leaders::gather(self, rack).await
    }

    /// Which node leads, for each component that elects a leader.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn leaders(&self) -> Result<Vec<(&'static str, Option<String>)>> {
        let client = self.client().await?;
        let mut leaders = Vec::new();
        for component in leaders::COMPONENTS {
            leaders.push((component, leaders::holder(&client, component).await?));
        }
        Ok(leaders)
    }

    /// Runs a command inside a node and returns its stdout.
    ///
    /// # Errors
    /// When it fails; the message holds its stderr. When it goes on for more than five minutes; the message holds node and command.
    pub async fn exec(&self, node: &str, command: &[&str]) -> Result<String> {
        self.docker(&[&["exec", node][..], command].concat()).await
    }

    /// Something of the engine's that ends soon.
    async fn docker(&self, words: &[&str]) -> Result<String> {
        match timeout(EXECUTED, run::text(self.engine.docker().args(words))).await {
            Ok(ended) => ended,
            Err(_) => bail!("`docker {}` goes on after {} s", words.join(" "), EXECUTED.as_secs()),
        }
    }

    /// Freezes a node as a whole, as a machine that hangs. With control groups of version 1 runc can't while processes are being
    /// made there; it thaws what it froze, and leaves it to its caller to ask again (opencontainers/runc#4388).
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn pause(&self, node: &str) -> Result<()> {
        let freeze = async || self.docker(&["pause", node]).await.map(|_| Ok(()));
        wait::until(&format!("{node} is frozen"), FREEZING, freeze).await
    }

    /// Takes a node's power away and gives it back: all its processes are killed, and its network begins anew, without routes to
    /// other nodes' pods until [`Lab::connect_pods`]. Returns when it was without power, by the engine's clock, which is every node's.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn restart(&self, node: &str) -> Result<Timestamp> {
        self.docker(&["restart", "-t", "0", node]).await?;
        let ended = self.docker(&["inspect", "--format", "{{.State.FinishedAt}}", node]).await?;
        ended.parse::<Timestamp>().with_context(|| format!("failed to understand when {node} ended: {ended}"))
    }

    /// Makes sure of the pod network on every node.
    ///
    /// # Errors
    /// When the API does not answer, or a node refuses its part.
    pub async fn connect_pods(&self) -> Result<()> {
        connect_pods(&self.engine, &self.client().await?, &self.name, &self.options).await
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn unpause(&self, node: &str) -> Result<()> {
        self.docker(&["unpause", node]).await.map(drop)
    }

    /// Removes the cluster.
    ///
    /// # Errors
    /// When the engine does not remove its containers.
    pub async fn down(self) -> Result<()> {
        down(&self.name).await
    }
}

/// Sets the pod network up again where the lab and no image brought it.
async fn connect_pods(engine: &Engine, client: &Client, name: &str, options: &Options) -> Result<()> {
    if Files::of(name)?.record().is_none_or(|record| !record.built) {
        return Ok(());
    }
    let connect = async || pods::connect(engine, client, options).await.map(Ok);
    wait::until("the pod network is set up", STILL_HEALTHY, connect).await
}

/// Removes the cluster of this name, whatever state it is in.
///
/// # Errors
/// When the engine does not remove its containers.
pub async fn down(name: &str) -> Result<()> {
    let _lock = cache::lock(&format!("cluster-{name}")).await?;
    Files::of(name)?.forget();
    match Engine::running().await {
        Some(engine) => kind::delete(&engine, name).await,
        None => Ok(()),
    }
}

/// Stops the engine that the lab has started, if it has. The nodes' network goes first: an engine that is only stopped leaves its
/// bridge and its firewall rules in the kernel, and where its state is lost (a package purged, say), the next network of the
/// same addresses gets no packet through. Left alone while containers run on it: another cluster, or something of the user's.
///
/// # Errors
/// When the engine does not answer or does not end.
pub async fn leave_engine() -> Result<()> {
    if let Some(engine) = Engine::running().await.filter(|_| Engine::is_own()) {
        let running = run::text(engine.docker().args(["ps", "--format", "{{.Names}}"])).await?;
        if !running.trim().is_empty() {
            step(format!(
                "left the engine alone, for it runs {}",
                running.split_whitespace().collect::<Vec<_>>().join(", ")
            ));
            return Ok(());
        }
        network::remove(&engine).await;
    }
    Engine::stop_own().await
}

/// Starts etcd where it is external, then everything else.
async fn create(engine: &Engine, name: &str, options: &Options, image: &NodeImage, files: &Files) -> Result<()> {
    let etcd = etcd::start(engine, name, &options.topology.plan(), image, files).await?;
    let configuration = configuration(options, image, etcd.as_ref())?;
    std::fs::write(files.config(), configuration.to_string()).context("failed to write kind's configuration")?;
    kind::create(engine, name, image, &files.config(), &files.kubeconfig()).await
}

async fn connect(kubeconfig: &std::path::Path) -> Result<Client> {
    Client::try_from(read(kubeconfig).await?).context("failed to set up a client")
}

async fn read(kubeconfig: &std::path::Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("failed to read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A connection that ended in a rack which is cut must not hold a test up for long.
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(config)
}

/// A node's InternalIPs.
pub(crate) fn addresses(node: &KubeNode) -> Vec<String> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    addresses.filter(|address| address.type_ == "InternalIP").map(|address| address.address.clone()).collect()
}

fn describe(node: &KubeNode) -> Node {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let addresses = addresses(node);
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        rack: labels.get(RACK_LABEL).cloned().unwrap_or_default(),
        control_plane: labels.contains_key("node-role.kubernetes.io/control-plane"),
        address: addresses.first().cloned().unwrap_or_default(),
        addresses,
    }
}
