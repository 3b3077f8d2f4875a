//! `plan`: what the operator would plan, from a snapshot and a run in files. Needs no cluster and touches nothing.

use super::{EXIT_NOT_RUN, Output, files, follow::width, guards};
use crate::{
    api::{RackPartition, RackPartitionSpec, parse_length},
    fault::{Policy, expand, sides},
    predict::predict,
    report::{Edges, PlanReport, PlanVersion, plan_report_text},
    topology::Snapshot,
};
use anyhow::ensure;
use clap::Args;
use kube::ResourceExt;
use std::{path::PathBuf, process::ExitCode, time::Duration};

#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// The cluster, as `snapshot` writes it or by hand: JSON where the name ends so, else YAML.
    #[arg(long, value_name = "FILE")]
    snapshot: PathBuf,
    /// The run: a RackPartition.
    #[arg(short, long)]
    filename: PathBuf,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The chart's policy.maxDuration.
    #[arg(long, default_value = "1h", value_parser = parse_length)]
    max_duration: kube::core::Duration,
    /// The chart's policy.maxNodesPercent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    max_nodes_percent: u8,
    /// The chart's policy.optInLabel.
    #[arg(long, default_value = "")]
    opt_in_label: String,
}

/// Prints the plan. The exit code says whether a guard refuses it.
///
/// # Errors
/// Where a file can't be read, or the two don't belong together.
pub fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let run = files::run(&args.filename)?;
    let mut snapshot = files::snapshot(&args.snapshot)?;
    fit(&run.spec, &mut snapshot)?;
    // What it protects, the snapshot says.
    let policy = Policy {
        max_duration: args.max_duration.into(),
        max_nodes_percent: args.max_nodes_percent,
        opt_in_label: args.opt_in_label.clone(),
        ..Policy::default()
    };
    let report = planned(&run, &snapshot, &policy);
    match args.output {
        Output::Table => print!("{}", plan_report_text(&report, width())),
        Output::Json => println!("{}", files::json(&report)),
    }
    Ok(if report.is_refused() { ExitCode::from(EXIT_NOT_RUN) } else { ExitCode::SUCCESS })
}

/// The operator takes racks and endpoints from the run when it looks at the cluster. A snapshot that was taken for another run has
/// others, and its plan would not be this run's.
fn fit(spec: &RackPartitionSpec, snapshot: &mut Snapshot) -> anyhow::Result<()> {
    if snapshot.rack_label.is_empty() {
        snapshot.rack_label.clone_from(&spec.rack_label);
    }
    let (taken, asked) = (&snapshot.rack_label, &spec.rack_label);
    ensure!(taken == asked, "the snapshot's racks are values of {taken}, and spec.rackLabel is {asked}: {TAKE_AGAIN}");
    let is_known = |name: &String| snapshot.endpoints.iter().any(|e| e.name == *name);
    for name in spec.endpoints.iter().map(|e| &e.name) {
        ensure!(is_known(name), "the snapshot has no endpoint {name}, which spec.endpoints names: {TAKE_AGAIN}");
    }
    Ok(())
}

const TAKE_AGAIN: &str = "take it with `snapshot -f` for this run, or write it so";

/// As the operator goes, but on past a guard that refuses.
fn planned(run: &RackPartition, snapshot: &Snapshot, policy: &Policy) -> PlanReport {
    let spec = &run.spec;
    let fault = match expand(spec, snapshot) {
        Ok(fault) => fault,
        Err(refusal) => return PlanReport::refused(run.name_any(), guards::of_no_cut(&refusal)),
    };
    let sides = sides(snapshot, &fault);
    let forecast = predict(snapshot, &fault, &sides, Duration::from(spec.duration));
    PlanReport {
        version: PlanVersion::V1Alpha1,
        run: run.name_any(),
        guards: guards::all(spec, snapshot, &fault, &sides, policy),
        cut: fault.title.clone(),
        sides,
        edges: Edges { count: fault.edges() as u32, blocks: fault.blocks, ports: fault.ports, pattern: fault.pattern },
        resolved_roles: fault.resolved_roles,
        assumptions: fault.assumptions.into_iter().chain(forecast.assumptions_of(spec.recovery.into())).collect(),
        prediction: forecast.predictions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture;
    use serde_json::json;

    fn spec(other: &serde_json::Value) -> RackPartitionSpec {
        let mut spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "75s"});
        spec.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn the_plan_is_the_one_that_a_run_is_judged_by() {
        let run = fixture::passing();
        let report = planned(&RackPartition::new("run", run.spec.clone()), &run.snapshot, &Policy::default());
        assert!(!report.is_refused(), "{:?}", report.guards);
        assert_eq!((&report.sides, &report.edges.blocks), (&run.sides, &run.plan.edges));
        assert_eq!(report.prediction, run.forecast().predictions);
        let text = plan_report_text(&report, None);
        for words in ["isolate r1: ", "- spec.guards.allowQuorumLoss: lets through"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_snapshot_of_another_run_is_an_error() {
        let said = |other| fit(&spec(&other), &mut fixture::snapshot()).unwrap_err().to_string();
        let label = said(json!({"rackLabel": "example.org/rack"}));
        assert!(label.contains("topology.kubernetes.io/zone") && label.contains("example.org/rack"), "{label}");
        let endpoint = said(json!({"endpoints": [{"name": "etcd-x", "cidrs": ["198.18.0.40/32"]}]}));
        assert!(endpoint.contains("etcd-x") && endpoint.contains("snapshot -f"), "{endpoint}");
        let mut by_hand = Snapshot { rack_label: String::new(), ..fixture::snapshot() };
        fit(&spec(&json!({"rackLabel": "example.org/rack"})), &mut by_hand).unwrap();
        assert_eq!(by_hand.rack_label, "example.org/rack");
    }
}
