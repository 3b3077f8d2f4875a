//! A process of its own that arms and cuts: this test binary again, told by the environment to run [`helper`] only.

use crate::fixture::{LONG, Ns, TABLE, eventually, spec, window};
use jiff::Timestamp;
use rackpartition::netfilter::{Error, Netfilter};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const MODE: &str = "RACKPARTITION_KERNEL_TEST_HELPER";
const ARGS: &str = "RACKPARTITION_KERNEL_TEST_ARGS";
/// Arms against a source, cuts by one window of a length and by a gate (milliseconds), and waits for its own end. Says begin
/// and end of the window, and when it cut.
pub const CUT: &str = "cut";
/// Opens nf_tables and says how that went.
pub const OPEN: &str = "open";

/// Killed when dropped.
pub struct Child {
    process: std::process::Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Child {
    pub fn start(ns: &Ns, mode: &str, args: &[&str]) -> Self {
        let exe = std::env::current_exe().unwrap();
        let mut command = ns.command(exe.to_str().unwrap());
        Self::spawn(&mut command, mode, args)
    }
    pub fn spawn(command: &mut Command, mode: &str, args: &[&str]) -> Self {
        let command =
            command.args(["child::helper", "--exact", "--nocapture"]).env(MODE, mode).env(ARGS, args.join(" "));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout }
    }
    /// The next line it says, without those of the test harness.
    pub fn line(&mut self) -> String {
        let mut said = (&mut self.stdout).lines().map(Result::unwrap);
        said.find_map(|l| l.strip_prefix("helper: ").map(str::to_owned)).expect("the helper says something")
    }
    /// Sends the signal and waits until it has had its effect.
    pub fn signal(&mut self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = || state().rsplit(')').next().unwrap().trim_start().chars().next().unwrap();
        eventually("the process is stopped or a zombie", || matches!(state(), 'T' | 'Z'));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test: does nothing unless told by the environment.
#[test]
fn helper() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let args = std::env::var(ARGS).unwrap_or_default();
    match (&mode[..], &args.split(' ').collect::<Vec<_>>()[..]) {
        (CUT, [source, length, gate]) => {
            let mut netfilter = Netfilter::open().unwrap();
            netfilter.arm(&spec(&[source]), LONG).unwrap();
            let window = window(300, 300 + length.parse::<i64>().unwrap());
            let gate = Duration::from_millis(gate.parse().unwrap());
            let cut = Timestamp::now();
            netfilter.cut(TABLE, &[window], gate).unwrap();
            println!("\nhelper: {} {} {cut}", window.from, window.to);
            // The pipe ends with the parent.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        (OPEN, _) => {
            let said = match Netfilter::open() {
                Err(e @ Error::NotPermitted) => e.to_string(),
                Err(e) => format!("another error: {e}"),
                Ok(_) => "no error".into(),
            };
            println!("\nhelper: {said}");
        }
        _ => panic!("no such helper: {mode} {args}"),
    }
}
