//! `snapshot`: writes down what a plan reads of a cluster.

use super::files;
use crate::{api::RackPartitionSpec, fault::Policy, operator::gather};
use clap::{Args, ValueEnum};
use kube::Client;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub struct SnapshotArgs {
    /// The run to look for: its rack label, endpoints and workloads. Without it racks are zones, and all workloads are looked at.
    #[arg(short, long)]
    filename: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t = Form::Json)]
    output: Form,
    /// The operator's namespace: a guard asks where its replicas run.
    #[arg(long, default_value = "rackpartition")]
    namespace: String,
    /// The chart's operator.leases: namespaces whose Leases are looked at, beside those of kube-system.
    #[arg(long, value_delimiter = ',')]
    leases: Vec<String>,
    /// The chart's rackLabel, of which policy.protectedRacks are values.
    #[arg(long, default_value = "topology.kubernetes.io/zone")]
    policy_rack_label: String,
    /// The chart's policy.protectedRacks.
    #[arg(long, value_delimiter = ',')]
    protected_racks: Vec<String>,
    /// The chart's policy.protectedNamespaces.
    #[arg(long, value_delimiter = ',')]
    protected_namespaces: Vec<String>,
    /// The chart's policy.optInLabel.
    #[arg(long, default_value = "")]
    opt_in_label: String,
}

/// How a snapshot is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Json,
    Yaml,
}

/// Prints the snapshot. It has names, addresses and timers, and no secret.
///
/// # Errors
/// Where something of the cluster can't be read, or the run is none.
pub async fn snapshot(client: &Client, args: &SnapshotArgs) -> anyhow::Result<()> {
    let spec = match &args.filename {
        Some(file) => files::run(file)?.spec,
        None => any_run(),
    };
    let policy = Policy {
        rack_label: args.policy_rack_label.clone(),
        protected_racks: args.protected_racks.clone(),
        protected_namespaces: args.protected_namespaces.clone(),
        opt_in_label: args.opt_in_label.clone(),
        ..Policy::default()
    };
    let snapshot = gather(client, &spec, &args.namespace, &args.leases, &policy).await?;
    match args.output {
        Form::Json => println!("{}", files::json(&snapshot)),
        Form::Yaml => print!("{}", files::yaml(&snapshot)),
    }
    Ok(())
}

/// All that a look at a cluster takes of a run is at its default.
fn any_run() -> RackPartitionSpec {
    serde_json::from_value(json!({"cut": {}, "duration": "60s"})).expect("every other field has a default")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Workloads;

    #[test]
    fn without_a_run_racks_are_zones_and_nothing_is_left_out() {
        let spec = any_run();
        assert_eq!(spec.rack_label, "topology.kubernetes.io/zone");
        assert!(spec.endpoints.is_empty() && spec.traffic.is_empty());
        assert_eq!(spec.workloads, Workloads::default());
    }
}
