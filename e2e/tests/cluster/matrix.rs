//! The crash matrix: whoever is struck, and whenever, the cut ends at its time, nothing is left, and no phase lies.

mod between;
mod healed;
mod pace;
mod target;

use crate::{
    harness::{ARM_DEADLINE, Harness, seconds_until, told},
    refusals::isolate,
};
use anyhow::{Context, Result, anyhow, ensure};
use e2e::{
    moment::{
        Blow,
        Moment::{self, Armed, Arming, AtTheHeal, BetweenBarriers, InRecovery, InTheCut},
    },
    selection::Selection,
};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use pace::Pace;
use rackpartition::api::{Check, Finding, FindingResult, Phase, RackPartitionStatus};
use serde_json::json;
use std::{fmt, time::Duration};
use target::{Target, targets};
use tokio::time::{sleep, timeout};

/// Who is struck. `r1` is cut off.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// On the worker that is cut off.
    Agent,
    OperatorLeader,
    BothOperators,
    /// Of the rack that is cut off.
    CutApiServer,
    /// The one that the operator is on, with another one beside it that stays writable too.
    OperatorsApiServer,
    /// All that stay writable, the operator's own among them.
    OtherApiServers,
    /// On the worker that is cut off, as the next two.
    Kubelet,
    Runtime,
    Node,
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
use Victim::{
    Agent, BothOperators, CutApiServer, Kubelet, Node, OperatorLeader, OperatorsApiServer, OtherApiServers, Runtime,
};

/// Nobody twice in a row, nor one of whom is among the next: a kubelet waits longer each time before it starts again what ended within
/// ten minutes.
const VICTIMS: [Victim; 9] =
    [Agent, OperatorLeader, CutApiServer, Kubelet, BothOperators, OtherApiServers, Runtime, OperatorsApiServer, Node];
const MOMENTS: [Moment; 6] = [Arming, Armed, BetweenBarriers, InTheCut, AtTheHeal, InRecovery];

/// Each victim once, each moment once, either way.
const DOZEN: [Cell; 12] = [
    // Until its pod is taken away: the next run's agents find its table.
    Cell(Agent, Armed, Held),
    Cell(Agent, InTheCut, Held),
    Cell(OperatorLeader, Arming, Killed),
    Cell(OperatorLeader, BetweenBarriers, Held),
    Cell(BothOperators, InTheCut, Killed),
    Cell(CutApiServer, InTheCut, Killed),
    Cell(OperatorsApiServer, InTheCut, Held),
    Cell(OtherApiServers, InTheCut, Held),
    Cell(Kubelet, AtTheHeal, Held),
    Cell(Runtime, InTheCut, Killed),
    Cell(Node, InTheCut, Held),
    Cell(Node, InRecovery, Killed),
];

/// How long before the heal a strike begins, seconds: over twice what it takes to run something in a busy node (0.6 s was seen),
/// and within what counts as the heal ([`e2e::moment::HEAL_SECONDS`]).
const BEFORE_HEAL: f64 = 1.5;
/// What clocks and a look may add to the kernel's deadline, seconds.
const SLACK: f64 = 3.0;
/// For so long somebody may be held, whatever is waited for meanwhile: by their own deadlines a schedule and its end, another API
/// server, what `Healed` says and the end of agents take half of it. Then they are let go, for the next cell's sake.
const HELD_AT_MOST: Duration = Duration::from_secs(600);
/// From a cell's run to its end, with what is waited for until nothing is left of it: several times of what the longest one takes.
const CELL: Duration = Duration::from_secs(30 * 60);
/// A cell, what is printed where it fails, and all that is waited for before the next one.
const CELL_MINUTES: u64 = 60;
pub const DOZEN_MINUTES: u64 = DOZEN.len() as u64 * CELL_MINUTES;
pub const WHOLE_MINUTES: u64 = (VICTIMS.len() * MOMENTS.len() * 2) as u64 * CELL_MINUTES;
/// From a strike before there was a schedule until the run must have one, or has been given up.
const DECIDED: Duration = Duration::from_secs(75);
/// A kubelet waits so long at most before it starts a container again (`MaxContainerBackOff`, `pkg/kubelet/kubelet.go`), and one whose
/// own API server ended can end no agent before it is back.
const BACK_OFF: Duration = Duration::from_secs(330);
/// Until a controller manager that has just begun to lead has collected what a deleted run owned. It looks every 30 s which kinds there are
/// (`syncPeriod`, `cmd/kube-controller-manager/app/core.go`).
const COLLECTED: Duration = Duration::from_secs(120);
/// How long a run goes on after its heal at the most. Whoever is held across the heal is let go within it: an agent that is held until its
/// pod is taken away leaves its table, which is another cell's matter.
const RECOVERY: &str = "20s";
/// Until an operator whose API server fell silent has renewed its Lease at another one: 5 s for what it asked for (`DEADLINE` of
/// `connection::route`), 15 s where it lost its leadership by that (`LEASE_DURATION` of its election), and as long as the load balancer
/// sends who looks at it to the wrong one.
const FAIL_OVER: Duration = Duration::from_secs(62);

pub async fn a_dozen(h: &Harness) -> Result<()> {
    let cells: Vec<_> = (1..).zip(DOZEN).collect();
    strike_all(h, DOZEN.len(), &cells).await
}

/// All 108 cells, or those that the variables `CELLS`, `SHARE` and `FROM` choose ([`Selection`]).
pub async fn whole(h: &Harness) -> Result<()> {
    let all = MOMENTS.into_iter().flat_map(|m| [Killed, Held].map(|how| VICTIMS.map(|v| Cell(v, m, how))));
    let all: Vec<Cell> = all.flatten().collect();
    let names: Vec<String> = all.iter().map(Cell::to_string).collect();
    let numbers = Selection::of(|variable| std::env::var(variable).ok())?.numbers(&names)?;
    let cells: Vec<_> = numbers.into_iter().map(|number| (number, all[number - 1])).collect();
    println!("  {} of {} cells", cells.len(), all.len());
    strike_all(h, all.len(), &cells).await
}

/// One behind the other, each told as soon as it is over. Where somebody stops it, the next one goes on with `FROM` that number.
async fn strike_all(h: &Harness, of: usize, cells: &[(usize, Cell)]) -> Result<()> {
    let mut failed = Vec::new();
    for (number, cell) in cells {
        let mut pace = Pace::begin();
        // Whoever is held is let go long before, so that nobody is when this is over.
        let struck = timeout(CELL, strike(h, *cell, &mut pace)).await;
        let struck = struck.unwrap_or_else(|_| Err(anyhow!("not over after {} s", CELL.as_secs())));
        match &struck {
            Ok(ended) => println!("  {number}/{of} {cell}: {ended} ({pace})"),
            Err(error) => {
                println!("  {number}/{of} {cell}: FAILED: {error:?} ({pace})");
                h.explain().await;
            }
        }
        // One cell's ruins must not be the next one's failure.
        let mut pace = Pace::begin();
        let cleared = between::whole_again(h).await;
        match &cleared {
            Ok(()) => pace.until("all was whole again"),
            Err(error) => {
                println!("  after {cell}: {error:?}");
                pace.until("it was given up");
            }
        }
        println!("  {number}/{of} {pace}");
        if struck.is_err() || cleared.is_err() {
            failed.push(cell.to_string());
        }
    }
    // As `CELLS` takes them.
    ensure!(failed.is_empty(), "{} of {} cells: {}", failed.len(), cells.len(), failed.join(","));
    Ok(())
}

/// Runs one cell; says how the run ended.
async fn strike(h: &Harness, cell: Cell, pace: &mut Pace) -> Result<String> {
    let Cell(victim, moment, how) = cell;
    let name = "struck";
    let mut spec = isolate(&["r1"]);
    spec["recovery"] = json!(RECOVERY);
    // While etcd is watched before a cut, whoever arms or is armed is struck. For later cells that time would be waited for in vain.
    spec["guards"]["allowUnhealthyBaseline"] = json!(!matches!(moment, Arming | Armed));
    h.create(name, spec).await?;
    // Whoever leads now may not any more once it is armed: it may have handed over. So the leader is looked for then; and before the cut,
    // for in it the load balancer sends every third question to an API server that can't answer.
    let status = reach(h, name, moment).await?;
    let targets = targets(h, victim).await?;
    await_moment(moment, &status).await?;
    pace.until("the strike");
    let held = |fits: fn(&Target) -> bool| -> Vec<&str> {
        targets.iter().filter(|t| how == Held && fits(t)).map(|t| t.node.as_str()).collect()
    };
    let (paused, mute) = (held(Target::is_node), held(Target::speaks));
    // All at once, for a moment may be short; and each to its end, or somebody might be held after all were let go.
    let struck = join_all(targets.iter().map(|target| target.strike(h, how))).await;
    let struck: Result<Vec<Timestamp>> = struck.into_iter().collect();
    let freed = async {
        let blow = Blow::of(&struck?).context("nobody was struck")?;
        if matches!(victim, OperatorsApiServer) {
            goes_on_at_another_server(h, Timestamp::now()).await?;
        }
        seen_free(h, name, status, &paused).await?;
        // Where API servers are held, nobody can read what is said.
        if !is_of_api_servers(victim) {
            healed::names_the_mute(h, name, &paused, &mute).await?;
        }
        if matches!((victim, how), (Agent, Held)) {
            taken_away_where_it_is_over(h, name).await?;
        }
        anyhow::Ok(blow)
    };
    let freed = timeout(HELD_AT_MOST, freed).await;
    let freed = freed.unwrap_or_else(|_| Err(anyhow!("all were not free after {} s", HELD_AT_MOST.as_secs())));
    // Whatever was found: nobody stays held.
    let mut released = Ok(());
    for target in &targets {
        released = released.and(target.release(h, how).await);
    }
    let blow = freed.and_then(|blow| released.map(|()| blow))?;
    // Whoever was held goes on with whatever its kernel has: from the first moment on nothing of it may have effect.
    h.all_hear_each_other().await.context("right after whoever was struck was let go")?;
    pace.until("all nodes were free and who was struck was let go");
    let ended = h.phase(name, &[Phase::Done, Phase::Aborted, Phase::Refused], Duration::from_secs(300)).await?;
    let phase = ended.phase.context("no phase")?;
    pace.until("the end");
    // By the schedule that there was in the end: whoever is struck while agents are armed may be struck before there is one.
    let fell = blow.within(moment, ended.schedule.as_ref())?;
    // From then on a run was a cut, whatever became of it.
    let was_cut = matches!(moment, InTheCut | AtTheHeal | InRecovery);
    ensure!(!was_cut || phase == Phase::Done, "{phase:?} after it was cut");
    ensure!(phase != Phase::Refused || ended.schedule.is_none(), "it is refused after it was scheduled");
    let outlived = |f: &&Finding| f.check == Check::HealProven && f.result == FindingResult::Violated;
    let outlived = ended.findings.iter().find(outlived);
    ensure!(outlived.is_none(), "the cut outlived its end, or a table its run: {outlived:?}");
    let left_on = healed::is_what_the_nodes_say(h, name).await?;
    if matches!((victim, how, phase), (Agent, Held, Phase::Aborted | Phase::Refused)) {
        // It was held until its pod was taken away: nobody was there to remove its table, which has no effect.
        ensure!(matches!(moment, Arming) || !left_on.is_empty(), "no table is left for the next agent to remove");
        if !left_on.is_empty() {
            swept_by_the_next_run(h, &left_on).await?;
        }
    }
    // Only there a kubelet may be without its API server for so long.
    let patience = if is_of_api_servers(victim) { BACK_OFF } else { Duration::from_secs(60) };
    h.no_tables(patience).await?;
    h.delete(name).await?;
    h.gone(name, patience).await?;
    h.nothing_left(name, patience.max(COLLECTED)).await?;
    pace.until("nothing was left");
    let verdict = ended.verdict.map_or(String::new(), |v| format!(", {v:?}"));
    ensure!(phase != Phase::Done || ended.schedule.is_some(), "done, and never scheduled");
    let violated: Vec<_> = ended.findings.into_iter().filter(|f| f.result == FindingResult::Violated).collect();
    let struck: Vec<&str> = targets.iter().map(|t| t.node.as_str()).collect();
    let message = ended.message.unwrap_or_default();
    Ok(format!("on {}, struck {fell}: {phase:?}{verdict}: {message}{}", struck.join(", "), told(&violated)))
}

fn is_of_api_servers(victim: Victim) -> bool {
    matches!(victim, CutApiServer | OperatorsApiServer | OtherApiServers)
}

/// The operator renews its Lease later than this: not at the API server that was struck then, which is still held, or takes longer to
/// start than to be left.
async fn goes_on_at_another_server(h: &Harness, struck: Timestamp) -> Result<()> {
    h.until("the operator to go on at another API server", FAIL_OVER, async |h: &Harness| {
        let renewed = h.operators_lease().await?.spec.and_then(|s| s.renew_time);
        Ok(renewed.filter(|at| at.0 > struck).map(drop))
    })
    .await
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
        InTheCut | AtTheHeal => phase(&[Phase::Scheduled, Phase::Cut]).await,
        InRecovery => phase(&[Phase::Recovering]).await,
    }
}

/// Of a moment that no phase tells.
async fn await_moment(moment: Moment, status: &RackPartitionStatus) -> Result<()> {
    let schedule = status.schedule.as_ref().context("no schedule");
    let left = match moment {
        Arming | Armed | BetweenBarriers | InRecovery => return Ok(()),
        InTheCut => seconds_until(schedule?.cut_at.0) + 5.0,
        AtTheHeal => seconds_until(schedule?.heal_at.0) - BEFORE_HEAL,
    };
    sleep(Duration::from_secs_f64(left.max(0.0))).await;
    Ok(())
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
