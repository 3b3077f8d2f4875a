//! Follows a run with a line for each thing that changes, through API servers that may be the ones being cut.

use super::lifeline;
use crate::{
    api::{Phase, RackPartition, conditions, is_gone},
    report,
};
use anyhow::{Context, bail};
use kube::{Api, Client};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

const PERIOD: Duration = Duration::from_millis(500);
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// After the end of a run, until every node should have said that it has healed.
const HEAL_SEEN: Duration = Duration::from_secs(30);

/// Columns of the terminal, where that is known.
pub fn width() -> Option<u16> {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok())
}

/// Prints progress until the run has ended, then the findings.
///
/// # Errors
/// Where there is no such run.
pub async fn follow(client: &Client, name: &str) -> anyhow::Result<RackPartition> {
    let runs: Api<RackPartition> = Api::all(client.clone());
    let mut progress = Progress::new();
    let mut lifeline = Lifeline::default();
    loop {
        match timeout(LOOK_DEADLINE, runs.get(name)).await {
            // An API server that has yet to load the definition knows no run either, and with a run goes what heals it by hand.
            Ok(Err(kube::Error::Api(status)))
                if is_gone(&status, name) || (status.code == 404 && lifeline.kept.is_none()) =>
            {
                // It goes when the heal was seen, and at its deadline at the latest.
                lifeline.end(true);
                bail!("there is no run {name}")
            }
            Ok(Ok(run)) => {
                progress.show(&run);
                lifeline.tend(client, &run, &mut progress).await;
                let ended = run.status.as_ref().and_then(|s| s.phase).is_some_and(Phase::is_final);
                if ended && !lifeline.waits_for(&run) {
                    progress.end();
                    lifeline.end(is_healed(&run));
                    print!("\n{}", report::text(&run, width()));
                    return Ok(run);
                }
            }
            // The connection may end in the rack that is cut; the next one may not.
            Ok(Err(_)) | Err(_) => progress.line("(the API does not answer; asking again)"),
        }
        sleep(PERIOD).await;
    }
}

/// The file with which to heal should the API be lost.
#[derive(Default)]
struct Lifeline {
    kept: Option<PathBuf>,
    /// Whether it was said that there is none.
    said: bool,
    /// Since when the run is over.
    over: Option<Instant>,
}

impl Lifeline {
    /// Has it written before anything is cut, and tries again as long as the run goes on.
    async fn tend(&mut self, client: &Client, run: &RackPartition, progress: &mut Progress) {
        let phase = run.status.as_ref().and_then(|s| s.phase);
        if self.kept.is_some() || !matches!(phase, Some(Phase::Arming | Phase::Scheduled | Phase::Cut)) {
            return;
        }
        let script = timeout(LOOK_DEADLINE, lifeline::read(client, run)).await;
        let script = script.unwrap_or_else(|_| Err(anyhow::anyhow!("the API does not answer")));
        match script.and_then(|script| lifeline::keep(run, &script)) {
            Ok(path) => {
                progress.end();
                let path_shown = path.display();
                println!("Should the API be lost: {path_shown} heals every node from any machine that reaches them");
                // What is printed may end up in somebody's log.
                println!("In it is `kubectl rackpartition heal` with token and addresses, for its owner only");
                self.kept = Some(path);
            }
            // While agents are being started it may only be too early.
            Err(error) if phase != Some(Phase::Arming) && !self.said => {
                progress.end();
                println!("(nothing is at hand to heal with should the API be lost: {error:#})");
                self.said = true;
            }
            Err(_) => {}
        }
    }

    /// Whether somebody is still to say that every node has healed: after an abort that takes seconds.
    fn waits_for(&mut self, run: &RackPartition) -> bool {
        let since = *self.over.get_or_insert_with(Instant::now);
        self.kept.is_some() && !is_healed(run) && since.elapsed() < HEAL_SEEN
    }

    /// Removes it where nothing is left to heal.
    fn end(&self, healed: bool) {
        match &self.kept {
            Some(path) if healed => lifeline::forget(path),
            Some(path) => println!("{} stays: not every node has said that it is healed", path.display()),
            None => {}
        }
    }
}

/// Whether every node has said so, or nothing was ever cut.
fn is_healed(run: &RackPartition) -> bool {
    let Some(status) = &run.status else { return true };
    let healed = status.conditions.iter().any(|c| c.type_ == conditions::HEALED && c.status == "True");
    healed || status.phase == Some(Phase::Refused)
}

/// # Errors
/// Where the run is still there after a minute: its nodes have not healed.
pub async fn until_gone(runs: &Api<RackPartition>, name: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while runs.get_opt(name).await.with_context(|| format!("failed to read run {name}"))?.is_some() {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("run {name} is still being deleted; look at its Healed condition");
        }
        sleep(PERIOD).await;
    }
    Ok(())
}

/// One line for each message; on a terminal, messages of one phase that differ in numbers only share a line.
struct Progress {
    begun: Instant,
    phase: Option<Phase>,
    planned: bool,
    last: String,
    printed: Instant,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        let terminal = std::io::stdout().is_terminal();
        Progress { begun: now, phase: None, planned: false, last: String::new(), printed: now, terminal }
    }

    fn show(&mut self, run: &RackPartition) {
        let Some(status) = &run.status else { return };
        if let (false, Some(plan)) = (self.planned, &status.plan) {
            self.planned = true;
            self.end();
            println!("{}", report::plan_text(plan, width()));
        }
        let phase = status.phase.map_or(String::new(), |p| format!("{p:?}"));
        let changed = self.phase != status.phase;
        self.phase = status.phase;
        let line = format!("{phase:<10} {}", status.message.as_deref().unwrap_or_default());
        self.print(&line, changed);
    }

    fn line(&mut self, text: &str) {
        self.print(text, false);
    }

    fn print(&mut self, text: &str, important: bool) {
        if text == self.last {
            return;
        }
        let shape = |s: &str| s.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let same_shape = shape(text) == shape(&self.last);
        // Without a terminal a countdown would fill the log.
        if !self.terminal && same_shape && !important && self.printed.elapsed() < Duration::from_secs(15) {
            return;
        }
        let stamp = format!("{:>6.1}s", self.begun.elapsed().as_secs_f64());
        if self.terminal && same_shape {
            print!("\r\x1b[2K{stamp}  {text}");
        } else {
            self.end();
            print!("{stamp}  {text}");
        }
        if !self.terminal {
            println!();
        }
        let _ = std::io::stdout().flush();
        self.last = text.into();
        self.printed = Instant::now();
    }

    fn end(&mut self) {
        if self.terminal && !self.last.is_empty() {
            println!();
        }
        self.last.clear();
    }
}
