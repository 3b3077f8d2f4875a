//! `judge`: judges the journals of a run again, or of a case that was written by hand. Every time comes from the files.

use super::{EXIT_NOT_RUN, Output, exit_of, files, follow::width, journals::Journals};
use crate::{
    api::{NodeRecord, Observer, Phase, RackPartition, RackPartitionSpec, RackPartitionStatus, Schedule, Side},
    fault::{Fault, PlanParts, RunPlan, expand, sides},
    judge::{Evidence, Judgement},
    report::{self, JudgementReport},
    topology::Snapshot,
};
use anyhow::{Context, bail, ensure};
use clap::Args;
use kube::ResourceExt;
use std::{path::PathBuf, process::ExitCode};

/// The longest cut that a run may have, seconds (`spec.duration`).
const LONGEST_CUT: f64 = 3600.0;

/// Windows of two plans that differ by less than this, seconds, are the same: sums of fractions are not exact.
const SAME_WINDOW: f64 = 0.001;

#[derive(Args, Clone, Debug)]
pub struct JudgeArgs {
    /// The folder with the journals, as `export` writes it or by hand.
    #[arg(long, value_name = "DIR")]
    journals: PathBuf,
    /// A run with other expectations or guards, of the same cut. Without it the journals' own.
    #[arg(short, long)]
    filename: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Prints findings and verdict. The exit code is that of a run.
///
/// # Errors
/// Where a file can't be read, or they don't belong together.
pub fn judge(args: &JudgeArgs) -> anyhow::Result<ExitCode> {
    let journals = Journals::read(&args.journals)?;
    let (run, name) = (journals.run.clone(), journals.run.name_any());
    if let Some(why) = why_not(&run) {
        match args.output {
            Output::Table => println!("{name}: nothing was judged: {why}"),
            Output::Json => println!("{}", files::json(&JudgementReport::not_judged(name, why))),
        }
        return Ok(ExitCode::from(EXIT_NOT_RUN));
    }
    let spec = match &args.filename {
        Some(file) => files::run(file)?.spec,
        None => run.spec.clone(),
    };
    let snapshot = journals.snapshot.clone();
    let judgement = judged(journals, &spec)?;
    let (verdict, runbook) = (judgement.verdict, report::runbook(&snapshot, &judgement.findings));
    match args.output {
        Output::Table => print!("{}", report::text(&with(run, judgement, runbook), width())),
        Output::Json => println!("{}", files::json(&JudgementReport::new(name, judgement, runbook))),
    }
    Ok(exit_of(verdict))
}

/// Why there is nothing to judge, where there is not.
fn why_not(run: &RackPartition) -> Option<String> {
    let status = run.status.clone().unwrap_or_default();
    match (status.phase, &status.schedule) {
        (Some(phase @ (Phase::Refused | Phase::Aborted)), _) => {
            Some(format!("the run was {phase:?}: {}", status.message.unwrap_or_default()))
        }
        (_, None) => Some("its status has no schedule, so nobody was cut".into()),
        _ => None,
    }
}

/// The run as the operator would leave it.
fn with(run: RackPartition, judgement: Judgement, runbook: Option<String>) -> RackPartition {
    let status = RackPartitionStatus {
        phase: Some(Phase::Done),
        verdict: Some(judgement.verdict),
        not_looked_at: report::not_made(&judgement.findings),
        not_supported: report::unsupported(),
        findings: judgement.findings,
        onset: judgement.onset,
        runbook,
        ..run.status.unwrap_or_default()
    };
    RackPartition { status: Some(status), ..run }
}

/// # Errors
/// Where the files contradict each other, so that a verdict would be of no run that there was.
fn judged(journals: Journals, spec: &RackPartitionSpec) -> anyhow::Result<Judgement> {
    let Journals { run, plan, snapshot, records } = journals;
    let schedule = run.status.as_ref().and_then(|s| s.schedule.clone()).context("the run has no schedule")?;
    let length = length(&schedule)?;
    let plan = match plan {
        Some(plan) => checked(plan, &run)?,
        None => plan_of(&run, &snapshot, length)?,
    };
    let fault = expand(spec, &snapshot).context("the cut stands for nothing in this snapshot")?;
    let is_same = is_same_cut(&fault, &plan, length);
    ensure!(is_same, "the cut is not the one of the plan that agents got: a run is judged by what was cut");
    let sides = sides(&snapshot, &fault);
    let is_agents = |record: &NodeRecord| record.spec.observer == Observer::Agent;
    let (agents, operators): (Vec<NodeRecord>, Vec<NodeRecord>) = records.into_iter().partition(is_agents);
    let nodes = plan.agents();
    if let Some(stranger) = agents.iter().find(|r| !nodes.contains(r.spec.node.as_str())) {
        bail!("the record {} is of {}, which is no node of the plan", stranger.name_any(), stranger.spec.node);
    }
    let evidence = Evidence {
        spec,
        snapshot: &snapshot,
        fault: &fault,
        plan: &plan,
        sides: &sides,
        schedule: &schedule,
        operator: operators.first(),
        agents: &agents,
    };
    Ok(crate::judge::judge(&evidence))
}

/// Length of the cut, seconds.
fn length(schedule: &Schedule) -> anyhow::Result<f64> {
    let seconds = (schedule.heal_at.0.as_microsecond() - schedule.cut_at.0.as_microsecond()) as f64 / 1e6;
    let is_possible = seconds > 0.0 && seconds <= LONGEST_CUT;
    ensure!(is_possible, "healAt is {seconds} s after cutAt: a cut lasts up to {LONGEST_CUT} s");
    Ok(seconds)
}

/// A plan that the run's status knows, as the operator asks for.
fn checked(plan: RunPlan, run: &RackPartition) -> anyhow::Result<RunPlan> {
    let armed = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.as_str());
    let is_known = armed.is_none_or(|hash| plan.hash() == hash);
    ensure!(is_known, "the plan is not the one that the run's status names by its hash");
    let is_endless = plan.pattern.flap.is_some_and(|(down, up)| down < 1.0 || up < 1.0);
    ensure!(!is_endless, "the plan's cut comes and goes in less than a second: down and up last from 1s to 1h each");
    Ok(plan)
}

/// The plan that agents would have got.
fn plan_of(run: &RackPartition, snapshot: &Snapshot, length: f64) -> anyhow::Result<RunPlan> {
    let fault = expand(&run.spec, snapshot).context("the cut stands for nothing in this snapshot")?;
    let sides = sides(snapshot, &fault);
    let parts = PlanParts {
        run: run.name_any(),
        run_uid: run.uid().unwrap_or_default(),
        // Nobody is to be healed.
        token: String::new(),
        duration_seconds: length,
        longest_seconds: length,
        writable: Side::most_writable(&sides).into_iter().flat_map(|s| s.api_servers.clone()).collect(),
    };
    Ok(RunPlan::new(snapshot, &fault, parts))
}

/// Whether both cut the same packets between the same members at the same times. A later version may write the same edges in other
/// blocks.
fn is_same_cut(fault: &Fault, plan: &RunPlan, length: f64) -> bool {
    let names: Vec<&str> = plan.members.iter().map(|m| m.name.as_str()).collect();
    let same_pairs = || names.iter().all(|from| names.iter().all(|to| fault.cuts(from, to) == plan.cuts(from, to)));
    let same_edges = fault.blocks == plan.edges || same_pairs();
    let is_close = |a: &(f64, f64), b: &(f64, f64)| (a.0 - b.0).abs().max((a.1 - b.1).abs()) < SAME_WINDOW;
    let same_times = plan.members.iter().all(|member| {
        let rack = member.rack.as_deref();
        let (one, other) = (fault.pattern.windows(rack, length), plan.pattern.windows(rack, length));
        one.len() == other.len() && one.iter().zip(&other).all(|(a, b)| is_close(a, b))
    });
    let is_sealed = |name: &&str| fault.sealed && fault.isolated.contains(*name);
    let same_seal = names.iter().all(|name| is_sealed(name) == plan.sealed.contains(*name));
    let same_packets = fault.ports == plan.ports && fault.pattern.effect == plan.pattern.effect;
    same_packets && same_edges && same_times && same_seal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{FindingResult, Verdict},
        cli::journals::tests::journals,
        fault::Block,
        judge::tests::fixture,
    };
    use serde_json::json;

    fn said(journals: Journals) -> String {
        let spec = journals.run.spec.clone();
        judged(journals, &spec).unwrap_err().to_string()
    }

    #[test]
    fn files_are_judged_as_the_run_itself_was() {
        let expected = fixture::passing().judge();
        assert_eq!(expected.verdict, Verdict::Pass);
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("journals");
        journals().write(&to).unwrap();
        let read = Journals::read(&to).unwrap();
        let spec = read.run.spec.clone();
        assert_eq!(judged(read, &spec).unwrap(), expected);
    }

    #[test]
    fn a_run_says_what_its_verdict_does_not_speak_of() {
        let mut judgement = fixture::passing().judge();
        judgement.findings.retain(|f| f.check != crate::api::Check::StoreAgreement);
        let status = with(journals().run, judgement, None).status.unwrap();
        let named: Vec<&str> = status.not_looked_at.iter().map(|n| n.check.as_str()).collect();
        assert_eq!((named.as_slice(), status.verdict), (["StoreAgreement"].as_slice(), Some(Verdict::Pass)));
        assert!(status.not_supported.iter().any(|n| n.check == "C27"));
    }

    #[test]
    fn the_plan_is_the_armed_one_also_without_its_secret() {
        let mut exported = journals();
        let armed = crate::api::Plan { hash: exported.plan.as_ref().unwrap().hash(), ..Default::default() };
        exported.run.status.as_mut().unwrap().plan = Some(armed);
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("journals");
        exported.write(&to).unwrap();
        let read = Journals::read(&to).unwrap();
        let spec = read.run.spec.clone();
        assert_eq!(judged(read.clone(), &spec).unwrap().verdict, Verdict::Pass);
        let mut changed = read;
        changed.plan.as_mut().unwrap().longest_seconds += 1.0;
        assert!(said(changed).contains("by its hash"));
    }

    #[test]
    fn a_case_needs_no_plan_but_what_is_missing_is_never_pass() {
        let case = Journals { plan: None, ..journals() };
        let spec = case.run.spec.clone();
        assert_eq!(judged(case.clone(), &spec).unwrap().verdict, Verdict::Pass);
        let mut without = case;
        without.records.retain(|r| r.spec.node != "w3");
        let judgement = judged(without, &spec).unwrap();
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert!(judgement.findings.iter().any(|f| f.result == FindingResult::Inconclusive), "{judgement:?}");
    }

    #[test]
    fn a_record_that_cannot_be_unpacked_is_as_good_as_none_and_not_an_empty_one() {
        let spec = journals().run.spec;
        for node in ["w1", "w3", "cp1"] {
            let (mut unread, mut without) = (journals(), journals());
            let is_it = |r: &NodeRecord| r.spec.node == node && r.spec.observer == Observer::Agent;
            for record in unread.records.iter_mut().filter(|r| is_it(r)) {
                let status = record.status.as_mut().unwrap();
                (status.spans, status.packed_spans) = (Vec::new(), Some("?".into()));
            }
            without.records.retain(|r| !is_it(r));
            let (unread, without) = (judged(unread, &spec).unwrap(), judged(without, &spec).unwrap());
            assert_eq!(unread.verdict, Verdict::Inconclusive, "{node}");
            let results = |j: &Judgement| j.findings.iter().map(|f| (f.check, f.result)).collect::<Vec<_>>();
            assert_eq!(results(&unread), results(&without), "{node}");
        }
    }

    #[test]
    fn expectations_may_differ_and_the_cut_may_not() {
        let mut spec = journals().run.spec;
        spec.expect.leader_takeover = Some(std::time::Duration::from_secs(1).into());
        assert_ne!(judged(journals(), &spec).unwrap().verdict, Verdict::Pass);
        let other = json!({"cut": {"isolate": {"racks": ["r2"]}}, "duration": "75s"});
        let error = judged(journals(), &serde_json::from_value(other).unwrap()).unwrap_err().to_string();
        assert!(error.contains("not the one of the plan"), "{error}");
        let mut one_way = journals();
        one_way.plan.as_mut().unwrap().edges.pop();
        assert!(said(one_way).contains("not the one of the plan"));
    }

    #[test]
    fn the_same_edges_in_other_blocks_are_the_same_cut() {
        let mut other = journals();
        let plan = other.plan.as_mut().unwrap();
        let split = |block: &Block| -> Vec<Block> {
            block.from.iter().map(|from| Block { from: [from.clone()].into(), to: block.to.clone() }).collect()
        };
        plan.edges = plan.edges.iter().flat_map(split).collect();
        let spec = other.run.spec.clone();
        assert_eq!(judged(other, &spec).unwrap().verdict, Verdict::Pass);
    }

    #[test]
    fn files_that_contradict_each_other_are_told() {
        let mut another = journals();
        let plan = crate::api::Plan { hash: "abc".into(), ..Default::default() };
        another.run.status.as_mut().unwrap().plan = Some(plan);
        assert!(said(another).contains("by its hash"));
        let mut stranger = journals();
        stranger.records[0].spec.node = "w9".into();
        assert!(said(stranger).contains("w9"));
        let mut backwards = journals();
        let schedule = backwards.run.status.as_mut().unwrap().schedule.as_mut().unwrap();
        std::mem::swap(&mut schedule.cut_at, &mut schedule.heal_at);
        assert!(said(backwards).contains("-75 s after cutAt"));
        let mut endless = journals();
        endless.plan.as_mut().unwrap().pattern.flap = Some((0.0, 0.0));
        assert!(said(endless).contains("less than a second"));
    }

    #[test]
    fn a_run_that_did_not_cut_is_not_judged() {
        let mut run = journals().run;
        assert_eq!(why_not(&run), None);
        let status = run.status.as_mut().unwrap();
        (status.phase, status.message) = (Some(Phase::Aborted), Some("somebody aborted it".into()));
        assert!(why_not(&run).unwrap().contains("Aborted: somebody"));
        run.status = None;
        assert!(why_not(&run).unwrap().contains("no schedule"));
    }
}
