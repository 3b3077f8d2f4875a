//! The crash matrix: whoever is struck, and whenever, the cut ends at its time, nothing is left, and no phase lies.

mod healed;

use crate::{
    harness::{ARM_DEADLINE, Harness, seconds_until, told},
    refusals::isolate,
};
use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use rackpartition::api::{FindingResult, Phase, RackPartitionStatus};
use serde_json::json;
use std::{fmt, time::Duration};
use tokio::time::sleep;

/// Who is struck. `r1` is cut off.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// On the worker that is cut off.
    Agent,
    OperatorLeader,
    BothOperators,
    /// Of the rack that is cut off.
    CutApiServer,
    /// All that stay writable, the operator's own among them.
    OtherApiServers,
    /// On the worker that is cut off, as the next two.
    Kubelet,
    Runtime,
    Node,
}

/// When.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Arming,
    Armed,
    BetweenBarriers,
    InTheCut,
    AtTheHeal,
    InRecovery,
}

/// How: ended hard, or held until after the deadline.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Killed,
    Held,
}

#[derive(Clone, Copy)]
struct Cell(Victim, Moment, How);

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.0, self.1, self.2)
    }
}

use How::{Held, Killed};
use Moment::{Armed, Arming, AtTheHeal, BetweenBarriers, InRecovery, InTheCut};
use Victim::{Agent, BothOperators, CutApiServer, Kubelet, Node, OperatorLeader, OtherApiServers, Runtime};

const VICTIMS: [Victim; 8] =
    [Agent, OperatorLeader, CutApiServer, Kubelet, BothOperators, OtherApiServers, Runtime, Node];
const MOMENTS: [Moment; 6] = [Arming, Armed, BetweenBarriers, InTheCut, AtTheHeal, InRecovery];

/// Each victim once, each moment once, either way.
const DOZEN: [Cell; 12] = [
    // Until its pod is taken away: the next run's agents find its table.
    Cell(Agent, Armed, Held),
    Cell(Agent, InTheCut, Killed),
    Cell(Agent, InTheCut, Held),
    Cell(OperatorLeader, Arming, Killed),
    Cell(OperatorLeader, BetweenBarriers, Held),
    Cell(BothOperators, InTheCut, Killed),
    Cell(CutApiServer, InTheCut, Killed),
    Cell(OtherApiServers, InTheCut, Held),
    Cell(Kubelet, AtTheHeal, Held),
    Cell(Runtime, InTheCut, Killed),
    Cell(Node, InTheCut, Held),
    Cell(Node, InRecovery, Killed),
];

/// What clocks and a look may add to the kernel's deadline, seconds.
const SLACK: f64 = 3.0;
/// From a strike before there was a schedule until the run must have one, or has been given up.
const DECIDED: Duration = Duration::from_secs(75);
/// A kubelet waits so long at most before it starts a container again (`MaxContainerBackOff`, `pkg/kubelet/kubelet.go`), and one whose
/// own API server ended can end no agent before it is back.
const BACK_OFF: Duration = Duration::from_secs(330);

pub async fn a_dozen(h: &Harness) -> Result<()> {
    strike_all(h, DOZEN).await
}

/// Of all 96 cells those whose words hold what the variable `CELLS` says, such as `CutApiServer InTheCut`.
pub async fn whole(h: &Harness) -> Result<()> {
    // Nobody twice in a row: a kubelet waits longer each time before it starts again what ended within ten minutes.
    let all = MOMENTS.into_iter().flat_map(|m| [Killed, Held].map(|how| VICTIMS.map(|v| Cell(v, m, how))));
    let wanted = std::env::var("CELLS").unwrap_or_default();
    let cells: Vec<_> = all.flatten().filter(|cell| cell.to_string().contains(&wanted)).collect();
    ensure!(!cells.is_empty(), "no cell is called {wanted:?}; one is {}", DOZEN[0]);
    strike_all(h, cells).await
}

async fn strike_all(h: &Harness, cells: impl IntoIterator<Item = Cell>) -> Result<()> {
    let mut failed = Vec::new();
    for cell in cells {
        match strike(h, cell).await {
            Ok(ended) => println!("  {cell}: {ended}"),
            Err(error) => {
                println!("  {cell}: FAILED: {error:?}");
                h.explain().await;
                failed.push(cell.to_string());
            }
        }
        // One cell's ruins must not be the next one's failure.
        if let Err(error) = h.clear().await {
            println!("  after {cell}: {error:?}");
            failed.push(format!("after {cell}"));
        }
    }
    ensure!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Runs one cell; says how the run ended.
async fn strike(h: &Harness, cell: Cell) -> Result<String> {
    let Cell(victim, moment, how) = cell;
    let name = "struck";
    let mut spec = isolate(&["r1"]);
    spec["recovery"] = json!("20s");
    h.create(name, spec).await?;
    // Whoever leads now may not any more once it is armed: it may have handed over. So the leader is looked for then.
    let status = reach(h, name, moment).await?;
    let targets = targets(h, victim).await?;
    let held = |fits: fn(&Target) -> bool| -> Vec<&str> {
        targets.iter().filter(|t| how == Held && fits(t)).map(|t| t.node.as_str()).collect()
    };
    let (paused, mute) = (held(Target::is_node), held(Target::speaks));
    let freed = async {
        for target in &targets {
            target.strike(h, how).await?;
        }
        seen_free(h, name, status, &paused).await?;
        // Where API servers are held, nobody can read what is said.
        if !matches!(victim, CutApiServer | OtherApiServers) {
            healed::names_the_mute(h, name, &paused, &mute).await?;
        }
        match (victim, how) {
            (Agent, Held) => taken_away_where_it_is_over(h, name).await,
            _ => Ok(()),
        }
    }
    .await;
    // Whatever was found: nobody stays held.
    let mut released = Ok(());
    for target in &targets {
        released = released.and(target.release(h, how).await);
    }
    freed.and(released)?;
    let ended = h.phase(name, &[Phase::Done, Phase::Aborted, Phase::Refused], Duration::from_secs(300)).await?;
    let phase = ended.phase.context("no phase")?;
    // From then on a run was a cut, whatever became of it.
    let was_cut = matches!(moment, InTheCut | AtTheHeal | InRecovery);
    ensure!(!was_cut || phase == Phase::Done, "{phase:?} after it was cut");
    let left_on = healed::is_what_the_nodes_say(h, name).await?;
    if matches!((victim, how, phase), (Agent, Held, Phase::Aborted | Phase::Refused)) {
        // It was held until its pod was taken away: nobody was there to remove its table, which has no effect.
        ensure!(matches!(moment, Arming) || !left_on.is_empty(), "no table is left for the next agent to remove");
        if !left_on.is_empty() {
            swept_by_the_next_run(h, &left_on).await?;
        }
    }
    // Only there a kubelet may be without its API server for so long.
    let patience = if matches!(victim, CutApiServer | OtherApiServers) { BACK_OFF } else { Duration::from_secs(60) };
    h.no_tables(patience).await?;
    h.delete(name).await?;
    h.gone(name, patience).await?;
    let verdict = ended.verdict.map_or(String::new(), |v| format!(", {v:?}"));
    ensure!(phase != Phase::Done || ended.schedule.is_some(), "done, and never scheduled");
    let violated: Vec<_> = ended.findings.into_iter().filter(|f| f.result == FindingResult::Violated).collect();
    Ok(format!("{phase:?}{verdict}: {}{}", ended.message.unwrap_or_default(), told(&violated)))
}

/// Where the run has ended early, whoever is held is held until its pod is taken away.
async fn taken_away_where_it_is_over(h: &Harness, name: &str) -> Result<()> {
    h.until("the agents of a run that is over to be gone", Duration::from_secs(60), async |h: &Harness| {
        let phase = h.runs().get_status(name).await?.status.and_then(|s| s.phase);
        let goes_on = !matches!(phase, Some(Phase::Aborted | Phase::Refused));
        Ok((goes_on || h.agents(name).await? == 0).then_some(()))
    })
    .await
}

/// The next run's agents remove the tables that were left on these nodes, and the run says so. It is called off before it cuts anybody.
async fn swept_by_the_next_run(h: &Harness, nodes: &[String]) -> Result<()> {
    let name = "sweeping";
    let uid = h.create(name, isolate(&["r1"])).await?.uid().context("no uid")?;
    h.phase(name, &[Phase::Scheduled, Phase::Cut], ARM_DEADLINE + Duration::from_secs(30)).await?;
    h.abort(name).await?;
    h.until("an event to name whose tables were left", Duration::from_secs(20), async |h: &Harness| {
        let event = format!("reason=LeftoversRemoved,involvedObject.uid={uid}");
        let words = ["--namespace", "default", "get", "events", "--field-selector", &event];
        let note = h.kubectl(&[&words[..], &["--output", "jsonpath={.items[*].message}"]].concat()).await?;
        let is_named = |node: &String| note.split([' ', ',']).any(|word| word == node.as_str());
        Ok(nodes.iter().all(is_named).then_some(()))
    })
    .await
}

async fn reach(h: &Harness, name: &str, moment: Moment) -> Result<RackPartitionStatus> {
    let phase = async |phases: &[Phase]| h.phase(name, phases, Duration::from_secs(120)).await;
    match moment {
        Arming => phase(&[Phase::Arming]).await,
        Armed => {
            h.until("every agent to be armed", Duration::from_secs(60), async |h: &Harness| {
                let status = h.runs().get_status(name).await?.status.unwrap_or_default();
                let all = status.agents.as_ref().is_some_and(|a| a.wanted > 0 && a.armed == a.wanted);
                Ok(all.then_some(status))
            })
            .await
        }
        BetweenBarriers => phase(&[Phase::Scheduled]).await,
        InTheCut | AtTheHeal => {
            let status = phase(&[Phase::Scheduled, Phase::Cut]).await?;
            let schedule = status.schedule.as_ref().context("no schedule")?;
            let left = match moment {
                InTheCut => seconds_until(schedule.cut_at.0) + 5.0,
                _ => seconds_until(schedule.heal_at.0) - 0.5,
            };
            sleep(Duration::from_secs_f64(left.max(0.0))).await;
            Ok(status)
        }
        InRecovery => phase(&[Phase::Recovering]).await,
    }
}

/// After the kernels' deadline every node that can speak hears every other one, while whoever is held is still held.
async fn seen_free(h: &Harness, name: &str, status: RackPartitionStatus, paused: &[&str]) -> Result<()> {
    let mut schedule = status.schedule;
    if schedule.is_none() {
        let decided = h.until("the run to be decided", DECIDED, async |h: &Harness| {
            let status = h.runs().get_status(name).await?.status.unwrap_or_default();
            let is_over = status.phase.is_some_and(Phase::is_final);
            Ok((is_over || status.schedule.is_some()).then_some(status.schedule))
        });
        // Where nobody decides, or the API does not answer, nobody can have scheduled anything since.
        schedule = decided.await.ok().flatten();
    }
    let left = schedule.map_or(0.0, |s| seconds_until(s.heal_at.0) + SLACK);
    sleep(Duration::from_secs_f64(left.max(0.0))).await;
    h.hear_each_other_but(paused).await
}

/// As `pgrep -f` knows them.
const AGENT: &str = "^/rackpartition agent";
const OPERATOR: &str = "^/rackpartition operator";

/// A process on a node, or all of it.
struct Target {
    node: String,
    /// As `pgrep -f` knows it; `None`: the node.
    process: Option<&'static str>,
}

impl Target {
    fn is_node(&self) -> bool {
        self.process.is_none()
    }

    /// It is what says that the node's table is gone.
    fn speaks(&self) -> bool {
        self.process.is_none_or(|process| process == AGENT)
    }

    async fn strike(&self, h: &Harness, how: How) -> Result<()> {
        match (self.process, how) {
            (None, Held) => h.lab.pause(&self.node).await,
            (None, Killed) => h.lab.restart(&self.node).await,
            (Some(process), Held) => self.signal(h, "-STOP", process).await,
            (Some(process), Killed) => self.signal(h, "-KILL", process).await,
        }
    }

    /// Afterwards it goes on, or is as it was.
    async fn release(&self, h: &Harness, how: How) -> Result<()> {
        match (self.process, how) {
            (None, Held) => h.lab.unpause(&self.node).await,
            (None, Killed) => h.lab.connect_pods().await,
            (Some(process), Held) => self.go_on(h, process).await,
            (Some(_), Killed) => Ok(()),
        }
    }

    /// Waits for the process where it is on its way: at the beginning of arming there is no agent yet.
    async fn signal(&self, h: &Harness, signal: &str, process: &str) -> Result<()> {
        h.until(&format!("{process} on {}", self.node), Duration::from_secs(30), async |h: &Harness| {
            h.lab.exec(&self.node, &["pkill", signal, "-f", process]).await.map(Some)
        })
        .await
        .map(drop)
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

async fn targets(h: &Harness, victim: Victim) -> Result<Vec<Target>> {
    let nodes = |wanted: &dyn Fn(&e2e::lab::Node) -> bool| -> Vec<String> {
        h.lab.nodes().iter().filter(|n| wanted(n)).map(|n| n.name.clone()).collect()
    };
    let cut_worker = || nodes(&|n| n.rack == "r1" && !n.control_plane);
    let (nodes, process) = match victim {
        Agent => (cut_worker(), Some(AGENT)),
        OperatorLeader => (vec![h.operator_leader_node().await?], Some(OPERATOR)),
        BothOperators => (h.operator_nodes().await?.into_iter().collect(), Some(OPERATOR)),
        CutApiServer => (nodes(&|n| n.rack == "r1" && n.control_plane), Some("^kube-apiserver")),
        OtherApiServers => (nodes(&|n| n.rack != "r1" && n.control_plane), Some("^kube-apiserver")),
        Kubelet => (cut_worker(), Some("^/usr/bin/kubelet")),
        Runtime => (cut_worker(), Some("/containerd$|^containerd$")),
        Node => (cut_worker(), None),
    };
    if nodes.is_empty() {
        bail!("nobody is {victim:?}");
    }
    Ok(nodes.into_iter().map(|node| Target { node, process }).collect())
}
