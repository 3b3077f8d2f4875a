//! A process of its own: this test binary again, told by the environment to run [`helper`] only.

use crate::fixture::{Ns, eventually};
use crate::node;
use rackpartition::netfilter::{Error, Netfilter};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{DirEntry, read_dir, read_to_string};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const MODE: &str = "RACKPARTITION_KERNEL_TEST_HELPER";
const ARGS: &str = "RACKPARTITION_KERNEL_TEST_ARGS";
/// Is the agent of a node with a directory: see [`node::be_its_agent`].
pub const AGENT: &str = "agent";
/// Asks nf_tables and says how that went.
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
    /// A line for it to read.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
    /// Stops it. Returns once every thread stands still, also those that the kernel was at work for.
    pub fn hold(&self) {
        self.signal(Signal::STOP);
        let stands_still = |thread: io::Result<DirEntry>| {
            let stat = read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            // Behind the name, which may have anything in it.
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        let threads = format!("/proc/{}/task", self.process.id());
        eventually("every thread stands still", || read_dir(&threads).unwrap().all(stands_still));
    }
    /// Lets one that is held go on.
    pub fn let_go(&self) {
        self.signal(Signal::CONT);
    }
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // Once every thread is gone.
        let _ = self.process.wait();
    }
}

/// Not a test: does nothing unless told by the environment.
#[test]
fn helper() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let args = std::env::var(ARGS).unwrap_or_default();
    match (&mode[..], &args.split(' ').collect::<Vec<_>>()[..]) {
        (AGENT, [name, directory]) => node::be_its_agent(name, Path::new(directory)),
        (OPEN, _) => {
            let said = match Netfilter::open().and_then(|mut netfilter| netfilter.tables()) {
                Err(e @ Error::NotPermitted) => e.to_string(),
                Err(e) => format!("another error: {e}"),
                Ok(_) => "no error".into(),
            };
            println!("\nhelper: {said}");
        }
        _ => panic!("no such helper: {mode} {args}"),
    }
}
