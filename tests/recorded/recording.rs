//! A run that was kept: its journals, its spec, and what was found in them.

use crate::changes::{Results, results};
use rackpartition::{
    api::{
        Check, FindingResult, NodeRecord, NodeRecordStatus, Observer, Prediction, RackPartition, Schedule, Side, Span,
        Verdict,
    },
    fault::{Fault, RunPlan, expand, sides},
    judge::{Evidence, Judgement, judge},
    topology::Snapshot,
};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Of the run of `examples/isolate-active-rack.yaml`, on a lab with short timers whose agents may read etcd.
const EXAMPLE: &str = "example";

/// What a verdict rests on, as the files say it.
#[derive(Clone)]
pub struct Recording {
    pub folder: PathBuf,
    pub run: RackPartition,
    pub snapshot: Snapshot,
    pub fault: Fault,
    pub plan: RunPlan,
    pub sides: Vec<Side>,
    pub schedule: Schedule,
    pub operator: Option<NodeRecord>,
    pub agents: Vec<NodeRecord>,
}

impl Recording {
    /// By name.
    pub fn all() -> Vec<Self> {
        let mut folders: Vec<PathBuf> = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        folders.into_iter().map(Self::read).collect()
    }

    /// # Panics
    /// Where it is not there, or did not pass: what is changed in it could not be told from what was amiss before.
    pub fn example() -> Self {
        let folder = root().join(EXAMPLE);
        assert!(folder.is_dir(), "the example is not recorded: scripts/record {EXAMPLE}");
        let example = Self::read(folder);
        assert_eq!(example.judge().verdict, Verdict::Pass, "the example has to pass");
        example
    }

    fn read(folder: PathBuf) -> Self {
        let journals = folder.join("journals");
        let run: RackPartition = serde_saphyr::from_str(&text(&journals.join("run.yaml"))).unwrap();
        let snapshot: Snapshot = serde_json::from_str(&text(&journals.join("snapshot.json"))).unwrap();
        let plan: RunPlan = serde_json::from_str(&text(&journals.join("plan.json"))).unwrap();
        let records = fs::read_dir(journals.join("records")).unwrap().map(|entry| record(&entry.unwrap().path()));
        let (mut agents, mut operators): (Vec<_>, Vec<_>) = records.partition(|r| r.spec.observer == Observer::Agent);
        agents.sort_by(|a, b| a.spec.node.cmp(&b.spec.node));
        let fault = expand(&run.spec, &snapshot).unwrap();
        let sides = sides(&snapshot, &fault);
        let schedule = run.status.as_ref().and_then(|s| s.schedule.clone()).expect("a run that cut has a schedule");
        Recording { folder, run, snapshot, fault, plan, sides, schedule, operator: operators.pop(), agents }
    }

    pub fn evidence(&self) -> Evidence<'_> {
        Evidence {
            spec: &self.run.spec,
            snapshot: &self.snapshot,
            fault: &self.fault,
            plan: &self.plan,
            sides: &self.sides,
            schedule: &self.schedule,
            operator: self.operator.as_ref(),
            agents: &self.agents,
        }
    }

    pub fn judge(&self) -> Judgement {
        judge(&self.evidence())
    }

    /// What its plan told.
    pub fn told(&self) -> &[Prediction] {
        let plan = self.run.status.as_ref().and_then(|s| s.plan.as_ref());
        &plan.expect("a run that cut has a plan").prediction
    }

    /// The side of this name: of a run that isolates a rack `isolated` and `rest`.
    pub fn side(&self, name: &str) -> &Side {
        self.sides.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no side {name}: {:?}", self.sides))
    }

    /// What the agent of a node wrote down.
    pub fn status(&mut self, node: &str) -> &mut NodeRecordStatus {
        let record = self.agents.iter_mut().find(|r| r.spec.node == node);
        record.and_then(|r| r.status.as_mut()).unwrap_or_else(|| panic!("no record of {node}"))
    }
}

/// The first node of a side with an API server.
pub fn master(side: &Side) -> &str {
    side.api_servers.first().expect("a master on each side")
}

/// The first node of a side without one.
pub fn worker(side: &Side) -> &str {
    side.nodes.iter().find(|node| !side.api_servers.contains(node)).expect("a worker on each side")
}

/// What an observer saw.
pub fn spans(record: &NodeRecord) -> &[Span] {
    record.status.as_ref().map_or(&[], |status| status.spans.as_slice())
}

fn record(path: &Path) -> NodeRecord {
    let mut record: NodeRecord = serde_json::from_str(&text(path)).unwrap();
    record.unpack().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    record
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
}

/// What is told of a run, as far as a recording holds the judge to it: not its words.
#[derive(Deserialize)]
pub struct Told {
    pub verdict: Option<Verdict>,
    findings: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    check: Check,
    subject: String,
    result: FindingResult,
}

impl Told {
    /// What is written beside the journals.
    pub fn written(folder: &Path) -> Self {
        serde_json::from_str(&text(&folder.join("findings.json"))).unwrap()
    }

    /// What the program says of the files today.
    pub fn by_the_program(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rackpartition"));
        command.args(["judge", "--output", "json", "--journals"]).arg(folder.join("journals"));
        let output = command.arg("--filename").arg(folder.join("spec.json")).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{}: {error}: {why}", folder.display()))
    }

    pub fn results(&self) -> Results {
        results(self.findings.iter().map(|f| (f.check, f.subject.as_str(), f.result)))
    }
}
