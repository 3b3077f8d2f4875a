//! What ends a run when the API is what was lost: written down before anything is cut.

use crate::{
    api::{NodeRecord, RUN_LABEL, RackPartition},
    fault::{Heal, RunPlan},
};
use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Rounds of the script, a second apart: packets may be lost.
const ROUNDS: u32 = 5;

/// The script for this run.
///
/// # Errors
/// Where the plan can't be read, or is not there yet: it has the run's secret, and not everybody who may start runs may read that.
pub async fn read(client: &Client, run: &RackPartition) -> anyhow::Result<String> {
    let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={}", run.name_any()));
    let records = Api::<NodeRecord>::all(client.clone())
        .list(&of_run.clone().limit(1))
        .await
        .context("failed to read the node records")?;
    let namespace = records.items.iter().find_map(ResourceExt::namespace).context("no agent has spoken yet")?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    let maps = maps.list(&of_run).await.context("failed to read the run's plan")?;
    let hash = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.as_str());
    let plan = |map: &ConfigMap| serde_json::from_str::<RunPlan>(map.data.as_ref()?.get(RunPlan::FILE)?).ok();
    let plan = maps.items.iter().filter_map(plan).find(|plan| Some(plan.hash().as_str()) == hash);
    let plan = plan.context("the run's plan is gone")?;
    let addresses: Vec<IpAddr> = plan.members.iter().flat_map(|m| m.heal_addresses.iter().copied()).collect();
    script(&run.name_any(), &plan.heal, &addresses)
}

/// Heals all of these from any machine that reaches them and has bash: nothing of ours, and no cluster.
///
/// # Errors
/// Where the token is none.
pub fn script(run: &str, heal: &Heal, addresses: &[IpAddr]) -> anyhow::Result<String> {
    let token = STANDARD.encode(heal.token_bytes().context("failed to read the token")?);
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (nodes, listed, Heal { port, token: hexadecimal }) = (addresses.join(" "), addresses.join(","), heal);
    // bash's own printf would send one datagram for each line, and a token may contain the end of one.
    Ok(format!(
        r#"#!/usr/bin/env bash
# Heals every node of run {run}. Sends its secret: whoever has this can end the run. The same by our own binary:
# RACKPARTITION_TOKEN={hexadecimal} kubectl rackpartition heal --addresses {listed} --port {port}
for round in {{1..{ROUNDS}}}; do
  for node in {nodes}; do
    base64 -d <<<'{token}' >"/dev/udp/$node/{port}" || echo "nothing leaves for $node" >&2
  done
  sleep 1
done
echo "Sent. On a node, 'nft list tables' shows whether a table is still there."
"#
    ))
}

/// Keeps the script in a file that only its owner can read, and says where.
///
/// # Errors
/// Where it can't be written.
pub fn keep(run: &RackPartition, script: &str) -> anyhow::Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state.or_else(home).context("neither XDG_STATE_HOME nor HOME is set")?;
    // Another cluster may have a run of the same name.
    let uid = run.uid().unwrap_or_default();
    let name = format!("{}-{}", run.name_any(), uid.split('-').next().unwrap_or_default());
    keep_in(&state.join("rackpartition"), &name, script)
}

fn keep_in(folder: &Path, run: &str, script: &str) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join(format!("heal-{run}.sh"));
    // A file of another time may be readable by others.
    let _ = fs::remove_file(&path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path);
    let mut file = file.with_context(|| format!("failed to create {}", path.display()))?;
    file.write_all(script.as_bytes()).with_context(|| format!("failed to write {}", path.display()))?;
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
    fn the_script_has_the_line_for_our_own_binary_too() {
        let heal = Heal { port: Heal::PORT, token: "000102030405060708090a0b0c0d0e0f".into() };
        let addresses: [IpAddr; 2] = ["198.18.0.7", "fd00::7"].map(|address| address.parse().unwrap());
        let script = script("a", &heal, &addresses).unwrap();
        let line = "# RACKPARTITION_TOKEN=000102030405060708090a0b0c0d0e0f kubectl rackpartition heal \
                    --addresses 198.18.0.7,fd00::7 --port 40441\n";
        assert!(script.contains(line), "{script}");
        assert!(script.contains("  for node in 198.18.0.7 fd00::7; do\n"), "{script}");
    }

    #[test]
    fn the_secret_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = keep_in(folder.path(), "run", "heal them").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(&path).unwrap(), "heal them");
        // A second run of the name takes its place.
        assert_eq!(keep_in(folder.path(), "run", "anew").unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "anew");
        forget(&path);
        assert!(!path.exists());
    }
}
