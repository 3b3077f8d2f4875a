//! What the figures were measured on, since they mean little without it.

use std::fs::read_to_string;
use std::os::unix::fs::MetadataExt;

/// # Errors
/// For anyone else: network namespaces and tables are root's.
pub fn require_root() -> anyhow::Result<()> {
    let root = std::fs::metadata("/proc/self")?.uid() == 0;
    anyhow::ensure!(root, "failed to measure: network namespaces and tables in them need root, `sudo -E make bench`");
    Ok(())
}

pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}, {}, {}", kernel.trim(), jiff::Timestamp::now().strftime("%F %R UTC"), load())
}

/// Other work on the machine shows in every worst case.
pub fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load of the last minute {}", load.split(' ').next().unwrap_or_default())
}
