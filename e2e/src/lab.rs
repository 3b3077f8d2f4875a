//! One lab cluster: bring it up, use it, take it down.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Node as KubeNode;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::{Deserialize, Serialize};

use crate::cluster::{self, Files};
use crate::engine::Engine;
use crate::progress::step;
use crate::{cache, health, image, kind, leaders, pods, run, wait};

/// The label that says in which rack a node is.
pub const RACK_LABEL: &str = "topology.kubernetes.io/zone";

/// How many nodes `lab/cluster.yaml` names.
const NODES: usize = 6;

/// How many of them run the control plane.
const CONTROL_PLANES: usize = 3;

/// How long a cluster that was complete may take to show that it still is.
const STILL_HEALTHY: Duration = Duration::from_secs(30);

/// How long a static pod may take that a killed lab had parked: the kubelet calls it Ready only after some 20 s.
const RESTORED: Duration = Duration::from_secs(60);

/// How long a new cluster may take after kind is done with it.
const FIRST_TIME: Duration = Duration::from_secs(180);

/// The timers of a cluster.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Kubernetes' own.
    Upstream,
    /// Shortened for tests, see `lab/profiles/short.yaml`.
    Short,
}

impl Profile {
    /// As on the command line and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Upstream => "upstream",
            Profile::Short => "short",
        }
    }
}

/// A node of the cluster, which is also a container of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub rack: String,
    pub control_plane: bool,
    /// Its InternalIP.
    pub address: String,
}

/// A complete cluster. Dropping it does nothing; call [`Lab::down`].
pub struct Lab {
    name: String,
    engine: Engine,
    kubeconfig: PathBuf,
    nodes: Vec<Node>,
    profile: Profile,
}

impl Lab {
    /// A cluster of this name and profile with all nodes Ready: the one that is there, else a new one.
    ///
    /// # Errors
    /// When something is missing on this machine, or a step fails; the message says which and where its log is.
    pub async fn up(name: &str, profile: Profile) -> Result<Lab> {
        let engine = Engine::ensure().await?;
        let _lock = cache::lock(&format!("cluster-{name}")).await?;
        let image = image::ensure(&engine).await?;
        let files = Files::of(name)?;
        let now = cluster::observe(&engine, name, profile, &image).await?;
        if files.record().is_some_and(|record| record == now) {
            match Lab::resume(&engine, name).await {
                Ok(lab) => {
                    step(format!("{name} is up already ({} timers, all nodes Ready)", profile.name()));
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
        kind::network(&engine).await?;
        std::fs::write(files.config(), cluster::configuration(profile, &image)?.to_string())?;
        kind::create(&engine, name, &image, &files.config(), &files.kubeconfig()).await?;

        step("waiting for all nodes to be Ready");
        let client = connect(&files.kubeconfig()).await?;
        if image.built {
            wait::until("the pod network is set up", Duration::from_secs(60), async || {
                pods::connect(&engine, &client).await.map(Ok)
            })
            .await?;
        }
        health::nodes_ready(&client, NODES, FIRST_TIME).await?;
        health::system_ready(&client, CONTROL_PLANES, FIRST_TIME).await?;
        files.write(&cluster::observe(&engine, name, profile, &image).await?)?;
        step(format!("{name} is up ({} timers, all nodes Ready)", profile.name()));
        Lab::find(name).await
    }

    /// A complete cluster, once more made sure of after whatever happened to it meanwhile.
    async fn resume(engine: &Engine, name: &str) -> Result<Lab> {
        let client = connect(&Files::of(name)?.kubeconfig()).await?;
        if Files::of(name)?.record().is_some_and(|record| record.built) {
            wait::until("the API answers", STILL_HEALTHY, async || pods::connect(engine, &client).await.map(Ok))
                .await?;
        }
        health::nodes_ready(&client, NODES, STILL_HEALTHY).await?;
        let lab = Lab::find(name).await?;
        leaders::restore(&lab).await?;
        health::system_ready(&client, CONTROL_PLANES, RESTORED).await?;
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
        Ok(Lab { name: name.to_owned(), engine, kubeconfig: files.kubeconfig(), nodes, profile: record.profile })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
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
    /// When it fails; the message holds its stderr.
    pub async fn exec(&self, node: &str, command: &[&str]) -> Result<String> {
        run::text(self.engine.docker().args(["exec", node]).args(command)).await
    }

    /// Freezes a node as a whole, as a machine that hangs.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn pause(&self, node: &str) -> Result<()> {
        run::text(self.engine.docker().args(["pause", node])).await.map(drop)
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn unpause(&self, node: &str) -> Result<()> {
        run::text(self.engine.docker().args(["unpause", node])).await.map(drop)
    }

    /// Removes the cluster.
    ///
    /// # Errors
    /// When the engine does not remove its containers.
    pub async fn down(self) -> Result<()> {
        down(&self.name).await
    }
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
/// same addresses gets no packet through.
///
/// # Errors
/// When the engine does not end.
pub async fn leave_engine() -> Result<()> {
    if let Some(engine) = Engine::running().await.filter(|_| Engine::is_own()) {
        kind::remove_network(&engine).await;
    }
    Engine::stop_own().await
}

async fn connect(kubeconfig: &std::path::Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).context("failed to read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A connection that ended in a rack which is cut must not hold a test up for long.
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).context("failed to set up a client")
}

/// A node's InternalIP.
pub(crate) fn address(node: &KubeNode) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.clone())
}

fn describe(node: &KubeNode) -> Node {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        rack: labels.get(RACK_LABEL).cloned().unwrap_or_default(),
        control_plane: labels.contains_key("node-role.kubernetes.io/control-plane"),
        address: address(node).unwrap_or_default(),
    }
}
