//! What the machine itself must have: programs, installed from Debian's packages where that is possible.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail};

use crate::progress::step;
use crate::{cache, run};

/// CAP_SYS_RESOURCE in `linux/capability.h`.
const CAP_SYS_RESOURCE: u32 = 24;

/// Makes sure that each program exists: `(program, Debian package)`.
///
/// # Errors
/// With the names of all that is missing, when this is not root on Debian or its packages cannot be installed.
pub async fn ensure(programs: &[(&str, &str)], purpose: &str) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|(program, _)| run::find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    if !is_root_on_debian() {
        bail!(
            "{purpose} needs {names}: install {} (as root on Debian the lab would do that itself)",
            packages.join(", ")
        );
    }
    step(format!("installing Debian's {} for {names}: {purpose} needs it", packages.join(", ")));
    let log = cache::folder("log")?.join("apt-get.log");
    let apt = || {
        let mut apt = run::program("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "Acquire::Retries=2", "-qy"]);
        apt
    };
    // One dead list of many makes the update fail; whether it mattered shows at the installation.
    let _ = run::logged(apt().arg("update"), &log).await;
    run::logged(apt().args(["install", "--no-install-recommends"]).args(&packages), &log)
        .await
        .with_context(|| format!("failed to install {} for {purpose}", packages.join(", ")))
}

/// Whether packages can be installed here without asking anybody.
pub fn is_root_on_debian() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    root && release.lines().any(|line| line == "ID=debian")
}

/// Whether containers can be given CAP_SYS_RESOURCE; sandboxes often take it away.
pub fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bounding.is_none_or(|set| set & (1 << CAP_SYS_RESOURCE) != 0)
}
