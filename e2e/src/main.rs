//! `lab`: the cluster from a shell.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use e2e::engine::Engine;
use e2e::lab::{self, Lab, Options};
use e2e::{assets, progress, tools};

/// A real Kubernetes cluster on this machine: six nodes in three racks, or another topology
#[derive(Parser)]
#[command(name = "lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Name {
    /// The cluster's name; its containers are called NAME-control-plane, NAME-worker and so on
    #[arg(long, default_value = "rackpartition")]
    name: String,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the cluster up, or find it up already; a cluster of this name but another topology is not touched
    Up {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        name: Name,
    },
    /// Remove the cluster
    Down {
        /// Stop the container engine as well, if the lab started it and nothing else runs on it
        #[arg(long)]
        engine: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Print the path of the cluster's kubeconfig
    Kubeconfig(#[command(flatten)] Name),
    /// Copy an image of the container engine to every node
    Load {
        image: String,
        #[command(flatten)]
        name: Name,
    },
    /// Make controller manager and scheduler lead from one rack
    Leaders {
        #[arg(long)]
        rack: String,
        #[command(flatten)]
        name: Name,
    },
    /// Print shell lines that point kubectl, kind and helm at the cluster
    Env(#[command(flatten)] Name),
    /// Show topology, nodes, racks, leaders, and what is no node as a run's `spec.endpoints` take it
    Status(#[command(flatten)] Name),
    /// Print the folder that contains etcd and kube-apiserver, built if need be
    Assets,
    /// Print shell lines for kind, kubectl, helm and the container engine, built or started if need be; no cluster is needed
    Tools {
        /// For work that needs no container engine
        #[arg(long)]
        no_engine: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One message for a person, not a backtrace.
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    progress::begin();
    match Arguments::parse().command {
        Command::Up { options, name } => {
            let lab = Lab::up_with(&name.name, &options).await?;
            println!("export KUBECONFIG={}", quote(&lab.kubeconfig().to_string_lossy()));
        }
        Command::Down { engine, name } => {
            lab::down(&name.name).await?;
            progress::step(format!("{} is down", name.name));
            if engine {
                lab::leave_engine().await?;
            }
        }
        Command::Kubeconfig(name) => println!("{}", Lab::find(&name.name).await?.kubeconfig().display()),
        Command::Load { image, name } => {
            Lab::find(&name.name).await?.load_image(&image).await?;
            progress::step(format!("{image} is on every node of {}", name.name));
        }
        Command::Leaders { rack, name } => {
            let lab = Lab::find(&name.name).await?;
            lab.gather_leaders(&rack).await?;
            for (component, node) in lab.leaders().await? {
                progress::step(format!("{component} leads from {}", node.unwrap_or_default()));
            }
        }
        Command::Env(name) => env(&name.name).await?,
        Command::Status(name) => status(&name.name).await?,
        Command::Assets => {
            progress::to_stderr();
            println!("{}", assets::control_plane_folder().await?.display());
        }
        Command::Tools { no_engine } => {
            progress::to_stderr();
            let engine = if no_engine { None } else { Some(Engine::ensure().await?) };
            print_tools(engine.as_ref()).await?;
        }
    }
    Ok(())
}

async fn env(name: &str) -> Result<()> {
    progress::to_stderr();
    let lab = Lab::find(name).await?;
    println!("export KUBECONFIG={}", quote(&lab.kubeconfig().to_string_lossy()));
    print_tools(Some(lab.engine())).await
}

async fn print_tools(engine: Option<&Engine>) -> Result<()> {
    let tools = tools::ensure().await?;
    if let Some(version) = engine.and_then(|e| e.api_version.as_ref()) {
        println!("export DOCKER_API_VERSION={}", quote(version));
    }
    let path: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    for tool in [tools.kind, tools.kubectl, tools.helm] {
        // Those from PATH need no line, and the folder of a built one holds nothing else that PATH should lose to.
        if let Some(folder) = tool.parent().filter(|folder| !path.iter().any(|known| known == folder)) {
            println!("export PATH=\"$PATH\":{}", quote(&folder.to_string_lossy()));
        }
    }
    Ok(())
}

async fn status(name: &str) -> Result<()> {
    let lab = Lab::find(name).await?;
    println!("{} ({})", lab.name(), lab.options().describe());
    for node in lab.nodes() {
        let role = if node.control_plane { "control-plane" } else { "worker" };
        println!("{:4} {:14} {:16} {}", node.rack, role, node.addresses.join(" "), node.name);
    }
    for (component, node) in lab.leaders().await? {
        println!("{component} leads from {}", node.unwrap_or_default());
    }
    for (member, healthy) in lab.external_etcd().await {
        println!("{member} is {}", if healthy { "healthy" } else { "not healthy" });
    }
    print!("{}", lab.endpoint_snippet()?);
    Ok(())
}

/// One shell word.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
