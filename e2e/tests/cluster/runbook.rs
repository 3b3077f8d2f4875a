//! Running a runbook as whoever reads it does: step by step, each on the node that it names, and nothing but the lines that are printed.

use crate::harness::Harness;
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use std::collections::BTreeMap;

/// Seconds that a step may take: the longest waits for static pods to end by their own leave, and for the kubelet to see that they are to.
const STEP: &str = "240";

/// A numbered step.
struct Step<'t> {
    title: &'t str,
    node: &'t str,
    lines: Vec<&'t str>,
}

/// Runs all of it.
///
/// # Errors
/// At the first step that fails, or that does not say where it is run.
pub async fn run(h: &Harness, text: &str) -> Result<()> {
    let masters = h.lab.nodes().iter().filter(|n| n.control_plane);
    let install = ["bash", "-c", INSTALL, "install", CRICTL];
    try_join_all(masters.map(|node| h.lab.exec(&node.name, &install))).await?;
    // What the shells that stay open were told.
    let mut functions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for step in steps(text)? {
        println!("  {}", step.title);
        let told = functions.entry(step.node).or_default();
        let script = [["set -euo pipefail"].as_slice(), told.as_slice(), step.lines.as_slice()].concat().join("\n");
        let ran = h.lab.exec(step.node, &["timeout", STEP, "bash", "-c", &script]).await;
        ran.with_context(|| format!("in the runbook's step {:?}", step.title))?;
        told.extend(step.lines.iter().filter(|line| line.contains("() {")));
    }
    Ok(())
}

/// `3. On NODE: ...` or `3. On NODE, ...`, and the lines below that are set in.
fn steps(text: &str) -> Result<Vec<Step<'_>>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in text.lines() {
        if let Some((_, title)) = line.split_once(". ").filter(|(number, _)| number.parse::<u32>().is_ok()) {
            let node = title.strip_prefix("On ").and_then(|rest| rest.split([',', ':']).next());
            let node = node.with_context(|| format!("it does not say where this is done: {title}"))?;
            steps.push(Step { title, node, lines: Vec::new() });
        } else if let (Some(command), Some(step)) = (line.strip_prefix("     "), steps.last_mut()) {
            step.lines.push(command);
        }
    }
    ensure!(!steps.is_empty(), "there is no step in {text}");
    Ok(steps)
}

/// A real one says its version. The node image that the lab builds has one that does nothing.
const INSTALL: &str = r#"
[ -z "$(crictl --version)" ] || exit 0
printf '%s\n' "$1" > /usr/local/bin/crictl
chmod 755 /usr/local/bin/crictl
"#;

/// As much of crictl as the way back for etcd asks for: `ps -q --name REGEX` and `exec ID COMMAND`.
const CRICTL: &str = r#"#!/bin/bash
set -euo pipefail
running() { ctr --namespace k8s.io tasks list | awk '$3 == "RUNNING" { print $1, $2 }'; }
case ${1-} in
ps)
  named=$(ctr --namespace k8s.io containers list --quiet "labels.\"io.kubernetes.container.name\"~=\"$4\"")
  running | cut -d ' ' -f 1 | grep -x -F -e "${named:-none}" || true
  ;;
exec)
  process=$(running | awk -v id="$2" '$1 == id { print $2 }')
  exec nsenter --target "${process:?no such container}" --mount "${@:3}"
  ;;
esac
"#;
