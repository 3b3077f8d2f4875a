//! What ends a run when the API is what was lost: written down before anything is cut.

use crate::{
    api::{RUN_LABEL, RackPartition},
    fault::RunPlan,
};
use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The command that heals every node of the run from any machine that reaches them.
///
/// # Errors
/// Where the plan can't be read: it has the run's secret, and not everybody who may start runs may read that.
pub async fn command(client: &Client, run: &RackPartition) -> anyhow::Result<String> {
    let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={}", run.name_any()));
    let maps = Api::<ConfigMap>::all(client.clone()).list(&of_run).await.context("failed to read the run's plan")?;
    let hash = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.as_str());
    let plans = maps.items.iter().filter_map(|map| serde_json::from_str::<RunPlan>(map.data.as_ref()?.get("plan.json")?).ok());
    let plan = plans.into_iter().find(|plan| Some(plan.hash().as_str()) == hash).context("the run's plan is gone")?;
    let addresses: Vec<String> = plan.members.iter().flat_map(|m| &m.heal_addresses).map(ToString::to_string).collect();
    let (token, port) = (&plan.heal.token, plan.heal.port);
    Ok(format!("kubectl rackpartition heal --token {token} --port {port} --addresses {}", addresses.join(",")))
}

/// Keeps the command in a file that only its owner can read, and says where.
///
/// # Errors
/// Where it can't be written.
pub fn keep(run: &str, command: &str) -> anyhow::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    keep_in(&state.or_else(home).context("neither XDG_STATE_HOME nor HOME is set")?.join("rackpartition"), run, command)
}

fn keep_in(folder: &Path, run: &str, command: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join(format!("heal-{run}.sh"));
    // A file of another time may be readable by others.
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path);
    let mut file = file.with_context(|| format!("failed to create {}", path.display()))?;
    writeln!(file, "#!/bin/sh\n{command}").with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// Removes the file of a run that has ended.
pub fn forget(path: &PathBuf) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_secret_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = keep_in(folder.path(), "run", "heal them").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nheal them\n");
        // A second run of the name takes its place.
        assert_eq!(keep_in(folder.path(), "run", "anew").unwrap(), path);
        assert!(fs::read_to_string(&path).unwrap().ends_with("anew\n"));
        forget(&path);
        assert!(!path.exists());
    }
}
