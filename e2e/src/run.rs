//! Running other programs: their output, their failure told in one message, and no orphans.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// A program that reads nothing and dies with the future that waits for it.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A program that the kernel ends when the lab is killed: `kind create` must not go on behind the next run's back.
pub fn tied(name: impl AsRef<OsStr>) -> Command {
    static SETPRIV: OnceLock<Option<PathBuf>> = OnceLock::new();
    match SETPRIV.get_or_init(|| find("setpriv")) {
        Some(setpriv) => {
            let mut command = program(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(name);
            command
        }
        None => program(name),
    }
}

/// Where `name` is in PATH, or among root's programs, which PATH may lack.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs to the end and returns what was written to stdout.
///
/// # Errors
/// When the program is missing or fails; the message holds the end of its stderr.
pub async fn text(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, tail(&said, 12));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs to the end with everything that is said kept in `log`.
///
/// # Errors
/// When the program is missing or fails; the message holds the log's end and its path.
pub async fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let shown = describe(command);
    let file = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
    let status = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .await
        .with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        bail!("`{shown}` failed ({status}); the end of {}:\n{}", log.display(), tail(&said, 25));
    }
    Ok(())
}

/// The last `lines` lines.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    // The wrapper of `tied` is no part of what was asked for.
    let wrapped = words.iter().position(|word| word == "--").filter(|_| words[0].ends_with("setpriv"));
    words[wrapped.map_or(0, |at| at + 1)..].join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_shows_command_and_stderr_but_not_the_wrapper() {
        let error = text(tied("sh").args(["-c", "echo broken >&2; exit 3"])).await.unwrap_err().to_string();
        assert!(error.starts_with("`sh -c") && error.ends_with("broken"), "{error}");
    }
}
