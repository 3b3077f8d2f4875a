//! The cluster with the chart installed, and what scenarios do with it.

mod install;
mod nodes;
mod operators;
mod runs;
mod wait;

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::Lab,
    options::Options,
    tools::{self, Tools},
};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rackpartition::{api::Finding, connection::Route};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

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

/// Longer than the three minutes that helm and kubectl are told to wait at the most.
const COMMAND: Duration = Duration::from_secs(240);

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

    pub async fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.run(&self.tools.kubectl, words).await
    }

    async fn run(&self, program: &Path, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(words).env("KUBECONFIG", self.lab.kubeconfig()).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(COMMAND, command.output()).await;
        let output = output.with_context(|| {
            format!("{} {} goes on after {} s", program.display(), words.join(" "), COMMAND.as_secs())
        })?;
        let output = output.with_context(|| format!("failed to run {}", program.display()))?;
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
