//! Who listens: no agent, and an operator where the chart says so and nowhere else.

use crate::harness::{Harness, OPERATOR, OPERATORS};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

/// The chart's `operator.metricsPort`, where it is asked for.
const METRICS: u16 = 8080;
/// Until replicas that were replaced are gone and one of the new ones leads: one that is told to end gives its Lease away, one that was
/// killed keeps it for 15 s.
const REPLACED: Duration = Duration::from_secs(45);
/// In `/proc/PID/net`: a TCP socket that listens, and a UDP socket that takes datagrams from anybody (`include/net/tcp_states.h`).
const OPEN: [&str; 2] = ["0A", "07"];
const ESTABLISHED: &str = "01";

/// As `ss` says on every node, where agents have the node's own network: neither a port nor a path. Not to be asked while they send heal
/// packets: who sends to many has a UDP socket that is connected to nobody.
pub async fn agents_have_no_open_port(h: &Harness) -> Result<()> {
    for node in h.lab.nodes() {
        let listening = h.lab.exec(&node.name, &["ss", "-H", "-l", "-n", "-t", "-u", "-w", "-x", "-p"]).await?;
        let own: Vec<&str> = listening.lines().filter(|l| l.contains("rackpartition")).collect();
        ensure!(own.is_empty(), "{} listens: {own:?}", node.name);
        // Else the line before would say so of an agent that is not there.
        let all = h.lab.exec(&node.name, &["ss", "-H", "-a", "-n", "-t", "-u", "-p"]).await?;
        ensure!(all.contains("rackpartition"), "{} has no agent's socket at all: {all}", node.name);
    }
    Ok(())
}

/// `operator.metricsPort` is 0.
pub async fn operators_have_no_open_port(h: &Harness) -> Result<()> {
    operators_listen_on(h, &[]).await
}

/// Each replica listens on that port and on no other, and whoever reaches the pod is answered.
pub async fn metrics_are_served_where_asked(h: &Harness) -> Result<()> {
    h.install_with(&[&format!("operator.metricsPort={METRICS}")]).await?;
    let served = async {
        operators_listen_on(h, &[METRICS]).await?;
        metrics_are_read(h).await
    }
    .await;
    // As it was for the next one, whatever was found.
    let chart = h.install_with(&[]).await;
    served.and(chart)?;
    operators_have_no_open_port(h).await
}

/// From a node on which none of them is, so over the cluster's network and past the chart's NetworkPolicy. One replica leads.
async fn metrics_are_read(h: &Harness) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(h.client.clone(), OPERATORS);
    h.until("every operator to tell its metrics, and one that it leads", REPLACED, async |h: &Harness| {
        let nodes = h.operator_nodes().await?;
        let from = h.lab.nodes().iter().find(|n| !nodes.contains(&n.name)).context("operators are everywhere")?;
        let mut lead = 0;
        for pod in pods.list(&ListParams::default()).await? {
            let address =
                pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).context("an operator has no address")?;
            let socket = SocketAddr::new(address.parse()?, METRICS);
            let get = async |path: &str| {
                let url = format!("http://{socket}/{path}");
                h.lab.exec(&from.name, &["curl", "--silent", "--show-error", "--fail", "--max-time", "2", &url]).await
            };
            let metrics = get("metrics").await?;
            ensure!(metrics.ends_with("# EOF"), "{} tells half of it: {metrics}", pod.name_any());
            ensure!(get("healthz").await? == "ok", "{} is not alive", pod.name_any());
            lead += metrics.lines().filter(|line| *line == "rackpartition_leads 1").count();
        }
        ensure!(lead == 1, "{lead} replicas lead");
        Ok(Some(()))
    })
    .await
}

/// As the kernel says of the operators' own network, which is their pods': on each of them these ports are open and no others. Those of a
/// replica that is on its way out count too, and a name that is looked up has a socket for that long.
async fn operators_listen_on(h: &Harness, ports: &[u16]) -> Result<()> {
    let wanted = BTreeSet::from_iter(ports.iter().copied());
    h.until(&format!("operators with {ports:?} open"), REPLACED, async |h: &Harness| {
        let mut connected = false;
        for node in h.operator_nodes().await? {
            let processes = h.lab.exec(&node, &["pgrep", "-f", OPERATOR]).await?;
            for process in processes.lines() {
                // IPv6 has files of its own, where the kernel has IPv6.
                let files = format!("cat /proc/{process}/net/{{tcp,udp}}*");
                let sockets = h.lab.exec(&node, &["bash", "-c", &files]).await?;
                let is_open = |line: &&str| state(line).is_some_and(|state| OPEN.contains(&state));
                let open: BTreeSet<u16> = sockets.lines().filter(is_open).filter_map(port).collect();
                ensure!(open == wanted, "the operator on {node} listens on {open:?}");
                connected |= sockets.lines().any(|line| state(line) == Some(ESTABLISHED));
            }
        }
        // Else the lines before would say so of another network.
        ensure!(connected, "no operator has a connection to an API server");
        Ok(Some(()))
    })
    .await
}

/// The state of the socket in a line of `/proc/PID/net/tcp` or of one of its kind.
fn state(line: &str) -> Option<&str> {
    line.split_whitespace().nth(3)
}

/// Its own port, which follows its address in hexadecimal digits.
fn port(line: &str) -> Option<u16> {
    let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}
