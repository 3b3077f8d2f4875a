//! Who is struck, how, and how it is let go.

use super::{How, Victim};
use crate::harness::{AGENT, Harness, OPERATOR};
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use std::time::Duration;

/// As `pgrep -f` knows them.
const API_SERVER: &str = "^kube-apiserver";
const KUBELET: &str = "^/usr/bin/kubelet";
const RUNTIME: &str = "/containerd$|^containerd$";

/// Sends $1 to whomever $2 fits, and says when that was done: nanoseconds since 1970. Only the node itself can say how late it was: the
/// engine may take seconds to begin and to answer.
const SIGNAL: &str = r#"pkill "$1" -f "$2" && date +%s%N"#;

/// A process on a node, or all of it.
pub struct Target {
    pub node: String,
    /// As `pgrep -f` knows it; `None`: the node.
    process: Option<&'static str>,
}

impl Target {
    pub fn is_node(&self) -> bool {
        self.process.is_none()
    }

    /// It is what says that the node's table is gone.
    pub fn speaks(&self) -> bool {
        self.process.is_none_or(|process| process == AGENT)
    }

    /// Says when it was struck, or just after.
    pub async fn strike(&self, h: &Harness, how: How) -> Result<Timestamp> {
        match (self.process, how) {
            (None, How::Held) => h.lab.pause(&self.node).await.map(|()| Timestamp::now()),
            (None, How::Killed) => h.lab.restart(&self.node).await,
            (Some(process), How::Held) => self.signal(h, "-STOP", process).await,
            (Some(process), How::Killed) => self.signal(h, "-KILL", process).await,
        }
    }

    /// Afterwards it goes on, or is as it was.
    pub async fn release(&self, h: &Harness, how: How) -> Result<()> {
        match (self.process, how) {
            (None, How::Held) => h.lab.unpause(&self.node).await,
            (None, How::Killed) => h.lab.connect_pods().await,
            (Some(process), How::Held) => self.go_on(h, process).await,
            (Some(_), How::Killed) => Ok(()),
        }
    }

    /// Waits for the process where it is on its way: at the beginning of arming there is no agent yet.
    async fn signal(&self, h: &Harness, signal: &str, process: &str) -> Result<Timestamp> {
        h.until(&format!("{process} on {}", self.node), Duration::from_secs(30), async |h: &Harness| {
            let said = h.lab.exec(&self.node, &["bash", "-c", SIGNAL, "signal", signal, process]).await?;
            let nanoseconds: i128 = said.trim().parse().with_context(|| format!("no time: {said:?}"))?;
            Ok(Some(Timestamp::from_nanosecond(nanoseconds)?))
        })
        .await
    }

    /// What was taken away meanwhile, which `pkill` ends with 1 for, need not.
    async fn go_on(&self, h: &Harness, process: &str) -> Result<()> {
        let script = r#"pkill -CONT -f "$1" || [ $? = 1 ]"#;
        h.until(&format!("{process} on {} to go on", self.node), Duration::from_secs(30), async |h: &Harness| {
            h.lab.exec(&self.node, &["bash", "-c", script, "go-on", process]).await.map(Some)
        })
        .await
        .map(drop)
    }
}

/// Those that this victim is now.
pub async fn targets(h: &Harness, victim: Victim) -> Result<Vec<Target>> {
    let nodes = |wanted: &dyn Fn(&e2e::lab::Node) -> bool| -> Vec<String> {
        h.lab.nodes().iter().filter(|n| wanted(n)).map(|n| n.name.clone()).collect()
    };
    let cut_worker = || nodes(&|n| n.rack == "r1" && !n.control_plane);
    let (nodes, process) = match victim {
        Victim::Agent => (cut_worker(), Some(AGENT)),
        Victim::OperatorLeader => (vec![h.operator_leader_node().await?], Some(OPERATOR)),
        Victim::BothOperators => (h.operator_nodes().await?.into_iter().collect(), Some(OPERATOR)),
        Victim::CutApiServer => (nodes(&|n| n.rack == "r1" && n.control_plane), Some(API_SERVER)),
        Victim::OperatorsApiServer => (vec![h.operators_api_server().await?], Some(API_SERVER)),
        Victim::OtherApiServers => (nodes(&|n| n.rack != "r1" && n.control_plane), Some(API_SERVER)),
        Victim::Kubelet => (cut_worker(), Some(KUBELET)),
        Victim::Runtime => (cut_worker(), Some(RUNTIME)),
        Victim::Node => (cut_worker(), None),
    };
    ensure!(!nodes.is_empty(), "nobody is {victim:?}");
    Ok(nodes.into_iter().map(|node| Target { node, process }).collect())
}
