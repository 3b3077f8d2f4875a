//! `make bench`, its second part: how long it takes to judge a run, and how much memory. It needs no root, and fails where a median is
//! above its target. What each figure means is in `docs/benchmarks.md`.

#[path = "../fault/figure.rs"]
#[expect(dead_code, reason = "the other benchmark needs more of it")]
mod figure;
mod interrupted;
mod journal;
#[path = "../fault/machine.rs"]
#[expect(dead_code, reason = "this one needs no root")]
mod machine;
mod master;
#[path = "../fault/report.rs"]
mod report;

use anyhow::Context;
use figure::Figure;
use journal::{Run, Size};
use rackpartition::{api::FindingResult, judge::judge};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fs, path::Path, process::Command, time::Instant};

/// The figures of this benchmark alone. They go on into the file of all.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-judge.json");
/// Makes this program measure one size and nothing else, so that the memory is that one's.
const ALONE: &str = "--alone";

/// What is measured, how often, and what it must stay below: seconds, and MB at the peak.
struct Case {
    name: &'static str,
    size: Size,
    rounds: usize,
    seconds: f64,
    megabytes: Option<f64>,
}

static CASES: [Case; 2] = [
    // Every agent's record as full as it may be (`observe::Recorder::BOUND`).
    Case {
        name: "six nodes",
        size: Size { nodes: 6, nodes_of_rack: 2, workloads: 20, replicas: 3, spans: 2000 },
        rounds: 30,
        seconds: 1.0,
        megabytes: Some(100.0),
    },
    Case {
        name: "5,000 nodes",
        size: Size { nodes: 5000, nodes_of_rack: 40, workloads: 1000, replicas: 50, spans: 0 },
        rounds: 3,
        seconds: 60.0,
        megabytes: None,
    },
];

/// What one process measured.
#[derive(Deserialize, Serialize)]
struct Measured {
    spans: usize,
    findings: usize,
    verdict: String,
    seconds: Vec<f64>,
    peak_megabytes: f64,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip_while(|a| a != ALONE).skip(1);
    if let Some(name) = args.next() {
        let case = CASES.iter().find(|c| c.name == name).with_context(|| format!("no case {name}"))?;
        println!("{}", serde_json::to_string(&measure(case)?)?);
        return Ok(());
    }
    println!("{}", machine::describe());
    let mut figures = Vec::new();
    for case in &CASES {
        eprintln!("measuring: judge {}", case.name);
        figures.extend(figures_of(case, &measured_alone(case)?));
    }
    println!("{}\n{}", report::table(&figures), machine::load());
    report::write(&figures, OWN)?;
    merge(OWN, report::PATH)?;
    println!("written to target/bench.json");
    let missed = figures.iter().filter(|f| f.meets(f.median()) == Some(false));
    let missed: Vec<&str> = missed.map(|f| f.name.as_str()).collect();
    anyhow::ensure!(missed.is_empty(), "above the target: {}", missed.join("; "));
    Ok(())
}

fn measure(case: &Case) -> anyhow::Result<Measured> {
    let run = Run::new(case.size);
    // A check that gave up early would be measured as fast.
    let open = judge(&run.evidence()).findings.into_iter().filter(|f| f.result > FindingResult::Noted);
    let open: Vec<String> =
        open.map(|f| format!("{:?} {}: {}; {}", f.check, f.subject, f.observed, f.evidence)).collect();
    anyhow::ensure!(open.is_empty(), "not as predicted: {}", open.join("\n"));
    let (mut findings, mut verdict) = (0, String::new());
    let seconds = (0..case.rounds).map(|_| {
        let start = Instant::now();
        let judgement = judge(&run.evidence());
        let elapsed = start.elapsed().as_secs_f64();
        (findings, verdict) = (judgement.findings.len(), format!("{:?}", judgement.verdict));
        elapsed
    });
    let seconds = seconds.collect();
    Ok(Measured { spans: run.spans(), findings, verdict, seconds, peak_megabytes: peak_megabytes()? })
}

/// The most memory that this process ever had, with the records in it, MB: what getrusage(2) gives as `ru_maxrss`, but without what the
/// program that started this one had.
fn peak_megabytes() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let kibibytes: f64 = peak.context("failed to read VmHWM of /proc/self/status")?;
    Ok(kibibytes * 1024.0 / 1e6)
}

fn measured_alone(case: &Case) -> anyhow::Result<Measured> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let output = Command::new(program).args([ALONE, case.name]).output().context("failed to start this program")?;
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "failed to judge {}: {why}", case.name);
    serde_json::from_str(&said).with_context(|| format!("failed to understand {said}"))
}

fn figures_of(case: &Case, measured: &Measured) -> [Figure; 2] {
    let Measured { spans, findings, verdict, .. } = measured;
    let what = format!("{spans} spans, {findings} findings, {verdict}");
    let memory = Figure::new(format!("judge a run of {}, peak memory", case.name), "MB", vec![measured.peak_megabytes]);
    let memory = match case.megabytes {
        Some(target) => memory.target(target),
        None => memory,
    };
    let time = Figure::new(format!("judge a run of {}", case.name), "s", measured.seconds.clone());
    [time.target(case.seconds).beside(what), memory.beside("the records are in it")]
}

/// Puts figures beside those of other benchmarks, in place of older ones of the same names.
fn merge(own: &str, all: &str) -> anyhow::Result<()> {
    let read = |path: &str| -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
        serde_json::from_str(&text).with_context(|| format!("failed to understand {path}"))
    };
    let own = read(own)?;
    let mut figures = if Path::new(all).exists() { read(all)? } else { Vec::new() };
    figures.retain(|f| !own.iter().any(|o| o["name"] == f["name"]));
    figures.extend(own);
    fs::write(all, format!("{:#}\n", Value::from(figures))).with_context(|| format!("failed to write {all}"))
}
