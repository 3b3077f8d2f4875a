//! Follows a run with a line for each thing that changes, through API servers that may be the ones being cut.

use super::lifeline;
use crate::{
    api::{Phase, RackPartition, conditions},
    report,
};
use anyhow::{Context, bail};
use kube::{Api, Client, ResourceExt};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

const PERIOD: Duration = Duration::from_millis(500);
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

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
        match timeout(LOOK_DEADLINE, runs.get_opt(name)).await {
            Ok(Ok(None)) => bail!("there is no run {name}"),
            Ok(Ok(Some(run))) => {
                progress.show(&run);
                lifeline.tend(client, &run, &mut progress).await;
                if run.status.as_ref().and_then(|s| s.phase).is_some_and(Phase::is_final) {
                    lifeline.end(&run);
                    progress.end();
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
    /// Why there is none, said once.
    missing: Option<String>,
}

impl Lifeline {
    /// Has it written before anything is cut; tries again as long as nothing is.
    async fn tend(&mut self, client: &Client, run: &RackPartition, progress: &mut Progress) {
        let phase = run.status.as_ref().and_then(|s| s.phase);
        if self.kept.is_some() || !matches!(phase, Some(Phase::Arming | Phase::Scheduled)) {
            return;
        }
        let script = timeout(LOOK_DEADLINE, lifeline::read(client, run)).await;
        let script = script.unwrap_or_else(|_| Err(anyhow::anyhow!("the API does not answer")));
        match script.and_then(|script| lifeline::keep(&run.name_any(), &script)) {
            Ok(path) => {
                progress.end();
                println!(
                    "Should the API be lost: {} heals every node from any machine that reaches them",
                    path.display()
                );
                self.kept = Some(path);
            }
            Err(error) => self.missing = Some(format!("{error:#}")),
        }
        if phase == Some(Phase::Scheduled)
            && self.kept.is_none()
            && let Some(why) = self.missing.take()
        {
            progress.end();
            println!("(nothing is at hand to heal with should the API be lost: {why})");
        }
    }

    /// Nothing is left to heal, or it stays until somebody has looked.
    fn end(&self, run: &RackPartition) {
        let Some(path) = &self.kept else { return };
        let status = run.status.clone().unwrap_or_default();
        let healed = status.conditions.iter().any(|c| c.type_ == conditions::HEALED && c.status == "True");
        match healed || status.phase == Some(Phase::Refused) {
            true => lifeline::forget(path),
            false => println!("{} stays: not every node has said that it is healed", path.display()),
        }
    }
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
