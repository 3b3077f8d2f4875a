//! All that this agent saw and did, shared by its tasks: the status of its NodeRecord before it is uploaded.

use super::state::Store;
use crate::{
    api::{Clock, Kernel, Moment, NodeRecordStatus, RecordPhase, Span, SpanKind},
    observe::{Observation, Recorder},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

/// What the kernel task has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub phase: Option<RecordPhase>,
    pub message: Option<String>,
    /// `None` where nobody could look: that is not known to be gone.
    pub kernel: Option<Kernel>,
    pub loaded_cut_at: Option<Timestamp>,
}

/// Cheap to clone; every clone is the same journal.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    recorder: Recorder,
    /// The newest observation of any source that this process made.
    newest: Option<Moment>,
    /// Until when an earlier process saw anything. What this one sees comes later, whatever its wall clock shows by now.
    seen_before: Option<MicroTime>,
    report: Report,
    /// Counts of an earlier process.
    counted: Kernel,
    clock: Option<Clock>,
    reads_containers: bool,
    unwatched: Option<String>,
    /// Said once at the start and kept: what an earlier boot saw is not in here.
    notice: Option<String>,
    plan_hash: String,
    boot_id: String,
    /// Counts the changes.
    revision: u64,
}

impl Journal {
    /// Begins a journal, or goes on with what an earlier process of this run wrote down under the same boot: the monotonic
    /// clock of another boot can't be compared.
    pub fn new(plan_hash: String, boot_id: String, earlier: Option<NodeRecordStatus>) -> Self {
        let same_boot = |s: &NodeRecordStatus| s.boot_id.as_deref() == Some(&boot_id);
        let notice = earlier
            .as_ref()
            .filter(|s| !same_boot(s))
            .map(|_| "the node was rebooted during the run: what was seen before is lost".to_owned());
        let earlier = earlier.filter(same_boot).unwrap_or_default();
        let report = Report { loaded_cut_at: earlier.loaded_cut_at.as_ref().map(|t| t.0), ..Default::default() };
        Journal(Arc::new(Mutex::new(Inner {
            newest: None,
            seen_before: earlier.observed_until.clone(),
            report,
            counted: Kernel {
                table: false,
                gate_open: false,
                windows: false,
                ..earlier.kernel.clone().unwrap_or_default()
            },
            clock: earlier.clock.clone().map(|c| Clock { ping: None, ..c }),
            reads_containers: earlier.reads_containers,
            recorder: Recorder::resume(earlier),
            unwatched: None,
            notice,
            plan_hash,
            boot_id,
            revision: 1,
        })))
    }

    fn change(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.0.lock().expect("no holder panics");
        inner.revision += 1;
        inner
    }

    /// Takes one observation made at `at`.
    pub fn observe(&self, kind: SpanKind, at: Moment, seen: Observation) {
        let mut inner = self.change();
        inner.saw(&at);
        inner.recorder.observe(kind, at, seen);
    }

    /// Writes a span whose ends are known; a later one of the same series replaces it.
    pub fn put(&self, span: Span) {
        self.change().recorder.put(span);
    }

    /// Says what the kernel task did and found.
    pub fn report(&self, report: Report) {
        if self.0.lock().expect("no holder panics").report != report {
            self.change().report = report;
        }
    }

    /// Says what is known of this node's clock.
    pub fn set_clock(&self, clock: Clock) {
        self.change().clock = Some(clock);
    }

    /// Says that the container runtime answered.
    pub fn read_containers(&self, at: &Moment) {
        let mut inner = self.change();
        inner.reads_containers = true;
        inner.saw(at);
    }

    /// Says why the kernel counts no datagrams here.
    pub fn set_unwatched(&self, why: String) {
        self.change().unwatched = Some(why);
    }

    /// What the kernel task said last.
    pub fn last_report(&self) -> Report {
        self.0.lock().expect("no holder panics").report.clone()
    }

    /// What an earlier process of this run counted.
    pub fn counted(&self) -> Kernel {
        self.0.lock().expect("no holder panics").counted.clone()
    }

    /// What is known of this node's clock.
    pub fn clock(&self) -> Clock {
        self.0.lock().expect("no holder panics").clock.clone().unwrap_or_default()
    }

    /// Changes whenever the status does.
    pub fn revision(&self) -> u64 {
        self.0.lock().expect("no holder panics").revision
    }

    /// The whole status as it is now.
    pub fn status(&self) -> NodeRecordStatus {
        let inner = self.0.lock().expect("no holder panics");
        inner.recorder.write(NodeRecordStatus {
            phase: inner.report.phase,
            message: inner.report.message.clone().or(inner.notice.clone()),
            plan_hash: Some(inner.plan_hash.clone()),
            boot_id: Some(inner.boot_id.clone()),
            loaded_cut_at: inner.report.loaded_cut_at.map(MicroTime),
            clock: inner.clock.clone(),
            kernel: inner.report.kernel.clone(),
            reads_containers: inner.reads_containers,
            unwatched: inner.unwatched.clone(),
            observed_until: inner.newest.as_ref().map(|m| &m.wall).or(inner.seen_before.as_ref()).cloned(),
            ..NodeRecordStatus::default()
        })
    }

    /// Writes the journal to the disk every second in which it changed. Never returns.
    pub async fn keep(&self, store: Store) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut written, mut said) = (0, String::new());
        loop {
            ticks.tick().await;
            let revision = self.revision();
            if revision == written {
                continue;
            }
            match block_in_place(|| store.write_journal(&self.status())) {
                Ok(()) => {
                    written = revision;
                    said.clear();
                }
                Err(error) => {
                    // A disk may be full for the whole run: each failure is told once.
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(error = text, "the journal is behind");
                        said = text;
                    }
                }
            }
        }
    }
}

impl Inner {
    fn saw(&mut self, at: &Moment) {
        if self.newest.as_ref().is_none_or(|newest| newest.boot_us < at.boot_us) {
            self.newest = Some(at.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::now;

    fn seen(boot: &str) -> NodeRecordStatus {
        let journal = Journal::new("hash".into(), boot.into(), None);
        journal.observe(SpanKind::Probe, now(), Observation::new("w1/Kubelet", "open"));
        journal.report(Report {
            kernel: Some(Kernel { table: true, dropped_packets: 7, ..Default::default() }),
            ..Default::default()
        });
        journal.status()
    }

    #[test]
    fn a_restarted_agent_goes_on_with_its_spans_and_counts() {
        let journal = Journal::new("hash".into(), "b1".into(), Some(seen("b1")));
        journal.observe(SpanKind::Probe, now(), Observation::new("w1/Kubelet", "open"));
        let status = journal.status();
        assert_eq!((status.spans.len(), status.spans[0].samples), (1, 2));
        assert_eq!(status.kernel, None, "nobody has looked yet");
        assert_eq!((journal.counted().table, journal.counted().dropped_packets), (false, 7));
        assert!(status.observed_until.is_some() && status.message.is_none());
    }

    #[test]
    fn a_restarted_agent_says_until_when_it_saw_also_behind_a_clock_that_was_stepped_back() {
        let mut earlier = seen("b1");
        let ahead = now().wall.0 + Duration::from_secs(3600);
        earlier.observed_until = Some(MicroTime(ahead));
        let journal = Journal::new("hash".into(), "b1".into(), Some(earlier));
        assert_eq!(journal.status().observed_until, Some(MicroTime(ahead)), "until it has seen anything itself");
        let at = now();
        journal.observe(SpanKind::Probe, at.clone(), Observation::new("w1/Kubelet", "open"));
        assert_eq!(journal.status().observed_until, Some(at.wall));
    }

    #[test]
    fn what_was_seen_before_a_reboot_is_dropped_and_said() {
        let status = Journal::new("hash".into(), "b2".into(), Some(seen("b1"))).status();
        assert!(status.spans.is_empty());
        assert!(status.message.unwrap().contains("rebooted"));
    }
}
