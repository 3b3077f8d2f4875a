//! Owns this node's table: looks at it every second, does what [`decide`] says, and reports what the kernel holds.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use super::{
    decide::{Ending, Order, Persisted, Step, Times, decide},
    firewall::Firewall,
    journal::{Journal, Report},
    state::Store,
};
use crate::{
    api::{Kernel, RecordPhase, TABLE_PREFIX},
    netfilter::{self, TableSpec, TableState, TimeWindow},
};
use jiff::Timestamp;
use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::block_in_place, time::sleep};

/// Between two looks at the table.
const PERIOD: Duration = Duration::from_secs(1);
/// The gate outlives the windows by this much, so that on a healthy clock the windows end the cut and not the gate.
const GATE_MARGIN: Duration = Duration::from_millis(250);
/// A load that took longer than [`GATE_MARGIN`] is made again, so often in all: the gate counts from when the kernel took it, and so closes
/// late by as much. A kernel at work for others is slow once or twice; whoever is held again and again gives up.
const LOADS: usize = 3;
/// No schedule ends later than a cut's duration and this from now: the operator writes it 10 s ahead, the rest is for clocks.
/// One that does meets a wall clock that was stepped back.
const AHEAD: Duration = Duration::from_secs(15);
/// Whoever hears of an abort tells the others for so long at least, three rounds, whatever its wall clock says of the end of the cut: it
/// may have been stepped.
const TELLS_AT_LEAST: Duration = Duration::from_secs(3);

const UNREAD: &str = "what this node wrote down of the run can't be read yet";
const LEFTOVERS: &str = "what other runs left on this node can't be looked for or removed yet";

/// What does not change during a run.
#[derive(Clone, Debug)]
pub struct Setup {
    pub spec: TableSpec,
    /// How long the gate of an armed node lasts.
    pub longest: Duration,
    /// How long the cut of the run lasts.
    pub duration: Duration,
    /// When it has effect on this node: from and to, both after its beginning.
    pub windows: Vec<(Duration, Duration)>,
    /// Where heal packets reach every armed node, this one first.
    pub heal_addresses: Vec<IpAddr>,
    pub boot_id: String,
    /// Exists while this node is armed or loaded.
    pub ready_file: PathBuf,
}

impl Setup {
    /// From the beginning of the cut to the end of this node's last window, which is all that its gate has to outlive.
    fn lasts(&self) -> Duration {
        self.windows.iter().map(|(_, to)| *to).max().unwrap_or(self.duration)
    }
}

/// The only task that touches the kernel.
#[derive(Debug)]
pub struct Keeper<F> {
    firewall: F,
    setup: Setup,
    store: Store,
    known: Persisted,
    /// What an earlier process knew was read.
    is_read: bool,
    journal: Journal,
    phases: watch::Sender<Option<RecordPhase>>,
    /// The kernel can't hold our table: said once, and not tried again by this process.
    unfit: Option<String>,
    /// This process has taken an abort.
    aborted: bool,
    /// Why tables and directories of other runs may be there; `None` once they were removed.
    unswept: Option<String>,
    /// Until when the others are told of an abort, by the clock that is never stepped.
    telling_until: Option<Instant>,
    /// The last look succeeded.
    looked: bool,
    kernel: Kernel,
}

impl<F: Firewall> Keeper<F> {
    /// Takes over from an earlier process of this run, if there was one.
    pub fn new(
        firewall: F,
        setup: Setup,
        store: Store,
        journal: Journal,
        phases: watch::Sender<Option<RecordPhase>>,
    ) -> Self {
        let kernel = journal.counted();
        let mut keeper = Keeper {
            firewall,
            setup,
            store,
            known: Persisted::default(),
            is_read: false,
            journal,
            phases,
            unfit: None,
            aborted: false,
            unswept: Some("nobody has looked yet".into()),
            telling_until: None,
            looked: false,
            kernel,
        };
        keeper.read(false);
        keeper
    }

    /// Reads what an earlier process wrote down. Where that is lost nobody will ever know whether this node was armed before, or healed:
    /// then its part is over, and a table that is there goes. A disk that fails is asked again in the next turn, unless this node is to be
    /// opened `at_once`.
    fn read(&mut self, at_once: bool) {
        match self.store.state() {
            Ok(known) => self.known = known,
            Err(error) if !at_once && error.may_pass() => {
                tracing::warn!(%error, "neither armed nor opened yet");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "this node can't take part");
                let ending = Ending { phase: RecordPhase::Unfit, message: Some(error.to_string()) };
                self.known = Persisted { armed: true, ended: Some(ending), ..Default::default() };
            }
        }
        self.is_read = true;
    }

    /// Orders may come and go; the kernel's plan is carried out without them. Returns once `stop` is changed.
    pub async fn run(mut self, mut orders: watch::Receiver<Order>, mut stop: watch::Receiver<bool>) {
        loop {
            let order = orders.borrow_and_update().clone();
            // Netlink and the disk are waited for: others' work must go on elsewhere meanwhile.
            block_in_place(|| self.turn(&order, self.firewall.now().0));
            let wait = self.until_next_turn(self.firewall.now().0);
            tokio::select! {
                biased;
                Ok(()) = stop.changed() => return block_in_place(|| self.leave()),
                () = sleep(wait) => {}
                Ok(()) = orders.changed() => {}
            }
        }
    }

    /// The last turn. Windows stay, the kernel carries them; a table without any is of no use to anybody once this process
    /// is gone.
    fn leave(&mut self) {
        if let Ok(Some(TableState { windows: 0, .. })) = self.firewall.state(&self.setup.spec.name) {
            let told = || aborted("told to end before the windows were loaded".into());
            let ending = self.known.ended.clone().unwrap_or_else(told);
            if let Err(error) = self.open(ending) {
                tracing::warn!(error, "failed to leave nothing behind");
            }
        }
        self.look_and_publish(None);
    }

    /// A period, or less if the cut ends sooner.
    fn until_next_turn(&self, now: Timestamp) -> Duration {
        let ends_in = self.known.times.and_then(|times| Duration::try_from(times.heal_at.duration_since(now)).ok());
        ends_in.filter(|d| !d.is_zero()).map_or(PERIOD, |d| d.min(PERIOD))
    }

    /// Tells everybody of an abort, and sees to this node.
    fn turn(&mut self, order: &Order, now: Timestamp) {
        // First: kernel and disk may hang, at times because of the cut, and nobody waits for them.
        if self.aborted || order.abort.is_some() {
            self.tell_everybody(order, now);
        }
        if !self.is_read {
            self.read(order.abort.is_some() || order.done);
        }
        // One run goes on at a time. As long as it arms, no other can be cut; an agent that has not heard of its run's end would remove
        // the table of the next.
        if self.unswept.is_some() && order.known && order.may_arm {
            // The next turn tries again.
            let left = self.remove_leftovers().err().map(|error| error.to_string());
            match &left {
                None => self.store.sweep(),
                Some(why) if left != self.unswept => tracing::warn!(why, "failed to remove tables of other runs"),
                Some(_) => {}
            }
            self.unswept = left;
        }
        self.look_and_act(order, now);
    }

    /// Removes tables of other runs: their nodes may have been away when those ended. One that stays keeps no other.
    fn remove_leftovers(&mut self) -> Result<(), netfilter::Error> {
        let own = &self.setup.spec.name;
        let mut all = Ok(());
        for name in self.firewall.tables()?.iter().filter(|name| name.starts_with(TABLE_PREFIX) && *name != own) {
            match self.firewall.remove(name) {
                Ok(()) => self.kernel.leftovers_removed += 1,
                Err(error) => all = Err(error),
            }
        }
        all
    }

    /// Looks, does what there is to do, and looks again until there is nothing more to do at once.
    fn look_and_act(&mut self, order: &Order, now: Timestamp) {
        // Arm and hold, or abort and end: no step of a run is followed by more than one other.
        for _ in 0..3 {
            let looked = self.firewall.now().1;
            let table = match self.firewall.state(&self.setup.spec.name) {
                Ok(table) => table,
                Err(error) => {
                    // It need not be seen to be opened.
                    if (order.abort.is_some() || order.done || self.known.ended.is_some())
                        && let Err(error) = self.firewall.close_gate(&self.setup.spec.name)
                    {
                        tracing::warn!(%error, "failed to close the gate of a table that can't be read");
                    }
                    return self.not_seen(&error);
                }
            };
            self.look(table.as_ref());
            let lasts = self.setup.lasts();
            let step = match self.is_read {
                true => decide(&self.known, table.as_ref(), &self.setup.boot_id, order, lasts, now),
                false => Step::Hold(Some(UNREAD)),
            };
            // What is left of the gate, and no more.
            let gate = table.as_ref().and_then(|t| t.gate).unwrap_or_default();
            match self.take(step, looked + gate, order, now) {
                Ok(Done::Waiting(message)) => return self.publish(table.as_ref(), message),
                Ok(Done::Changed) => {}
                // What failed may have changed the table, or not.
                Err(message) => return self.look_and_publish(Some(message)),
            }
        }
        self.look_and_publish(None);
    }

    fn look_and_publish(&mut self, message: Option<String>) {
        match self.firewall.state(&self.setup.spec.name) {
            Ok(table) => {
                self.look(table.as_ref());
                self.publish(table.as_ref(), message);
            }
            Err(error) => self.not_seen(&error),
        }
    }

    /// What was seen before may have changed since. Whose kernel never takes a question will not take a table either; where one was armed
    /// it may be there all the same.
    fn not_seen(&mut self, error: &netfilter::Error) {
        self.looked = false;
        if error.is_for_good() && self.is_read && !self.known.armed {
            self.unfit.get_or_insert_with(|| error.to_string());
        }
        self.publish(None, Some(format!("failed to read the table: {error}")));
    }

    fn take(&mut self, step: Step, gate_ends: Instant, order: &Order, now: Timestamp) -> Result<Done, String> {
        match step {
            Step::Arm if self.unfit.is_some() => Ok(Done::Waiting(None)),
            Step::Arm => match &self.unswept {
                Some(why) => Ok(Done::Waiting(Some(format!("{LEFTOVERS}: {why}")))),
                None => self.arm(),
            },
            Step::Hold(message) => Ok(Done::Waiting(message.map(str::to_owned))),
            Step::Load(times) => self.load(times, gate_ends, order, now),
            Step::Abort(ending) => self.abort(ending, order, now),
            // Only a table that is there tells that a packet came: nobody who starts between the two would know.
            Step::Remove(ending) if ending.phase != RecordPhase::Healed => self.open(ending).map(|()| Done::Changed),
            Step::Remove(ending) => {
                // Whoever takes over from a process that ends right behind the removal knows by this who removed it. Failing to write it must
                // not keep the table.
                if !std::mem::replace(&mut self.known.removing, true)
                    && let Err(error) = self.store.write_state(&self.known)
                {
                    tracing::warn!(%error, "failed to write down that the table is removed");
                }
                let name = &self.setup.spec.name;
                self.firewall.remove(name).map_err(|e| format!("failed to remove the table after the cut: {e}"))?;
                self.end(ending).map(|()| Done::Changed)
            }
            Step::End(ending) if self.known.ended.as_ref() == Some(&ending) => Ok(Done::Waiting(None)),
            Step::End(ending) => self.end(ending).map(|()| Done::Changed),
        }
    }

    /// Opens this node, and has the others told: first, unless this turn has begun with that. This node gets its packet too: whoever takes
    /// over from a process that ends right behind it reads in the table why it is open.
    fn abort(&mut self, ending: Ending, order: &Order, now: Timestamp) -> Result<Done, String> {
        if !std::mem::replace(&mut self.aborted, true) && order.abort.is_none() {
            self.tell_everybody(order, now);
        }
        self.open(ending).map(|()| Done::Changed)
    }

    /// Opens this node, for good.
    fn open(&mut self, ending: Ending) -> Result<(), String> {
        // Whose gate is closed is not cut, and never can be by this table, whatever becomes of this process. The disk may take its time.
        let closed = self.firewall.close_gate(&self.setup.spec.name);
        // Remembered before the table goes, or whoever takes over after a crash would say that it vanished. Failing to remember must not
        // keep this node from being healed.
        let written = self.end(ending);
        self.firewall.remove(&self.setup.spec.name).map_err(|error| {
            let gate = closed.map_or_else(|e| e.to_string(), |()| "its gate is closed".into());
            format!("failed to remove the table: {error}; {gate}")
        })?;
        written
    }

    fn arm(&mut self) -> Result<Done, String> {
        self.known = Persisted { boot_id: self.setup.boot_id.clone(), armed: true, ..Default::default() };
        if let Err(error) = self.store.write_state(&self.known) {
            // Not armed without a memory of it: this node might be armed a second time.
            self.known = Persisted::default();
            return self.give_up(error.to_string());
        }
        match self.firewall.arm(&self.setup.spec, self.setup.longest) {
            Ok(()) => {
                // To notice whoever changes them. Not to know is no reason not to go on.
                if let Ok(Some(table)) = self.firewall.state(&self.setup.spec.name) {
                    self.known.rules = Some(table.rules);
                    self.store.write_state(&self.known).map_err(|e| e.to_string())?;
                }
                Ok(Done::Changed)
            }
            Err(error) => {
                let why = format!("this kernel can't hold the table: {error}");
                if matches!(self.firewall.state(&self.setup.spec.name), Ok(None)) {
                    self.known = Persisted::default();
                    self.store.write_state(&self.known).map_err(|e| e.to_string())?;
                    return self.give_up(why);
                }
                // It may be there: the next look finds it, and it goes.
                self.end(Ending { phase: RecordPhase::Unfit, message: Some(why) }).map(|()| Done::Changed)
            }
        }
    }

    fn give_up(&mut self, why: String) -> Result<Done, String> {
        tracing::error!(why, "this node can't take part");
        self.unfit = Some(why);
        Ok(Done::Changed)
    }

    fn load(&mut self, times: Times, gate_ends: Instant, order: &Order, now: Timestamp) -> Result<Done, String> {
        // The gate only bounds how long a cut lasts; when it begins is the wall clock's.
        let left = self.time_until(times.heal_at)?;
        if left > self.setup.duration + AHEAD {
            let why = format!(
                "refused to load: by this node's wall clock the cut ends in {:.0} s and lasts {:.0} s; the clock must have been \
                 stepped back",
                left.as_secs_f64(),
                self.setup.duration.as_secs_f64()
            );
            return self.abort(aborted(why), order, now);
        }
        self.known.times = Some(times);
        self.store.write_state(&self.known).map_err(|e| e.to_string())?;
        let windows: Vec<TimeWindow> = self
            .setup
            .windows
            .iter()
            .map(|(from, to)| TimeWindow { from: times.after(*from), to: times.after(*to) })
            .collect();
        for _ in 0..LOADS {
            // Read after the disk, which may be slow. The armed gate is never extended, and whoever heals before others must not be cut
            // again by a wall clock that is stepped back.
            let begun = self.firewall.now().1;
            let Ok(left) = self.time_until(times.after(self.setup.lasts())) else { break };
            let gate = (left + GATE_MARGIN).min(gate_ends.saturating_duration_since(begun));
            match self.firewall.cut(&self.setup.spec.name, &windows, gate) {
                Ok(()) if self.firewall.now().1.saturating_duration_since(begun) > GATE_MARGIN => {
                    tracing::warn!("loading took long: loaded again, or the gate would close too late");
                }
                Ok(()) => {
                    tracing::info!(cut_at = %times.cut_at, heal_at = %times.heal_at, "loaded");
                    return Ok(Done::Changed);
                }
                // The next look finds the gate closed and decides.
                Err(netfilter::Error::GateClosed { .. }) => return Ok(Done::Changed),
                // Whether they are loaded may be unknown.
                Err(error) => {
                    return self.abort(aborted(format!("failed to load the windows: {error}")), order, now);
                }
            }
        }
        let why = "failed to load the windows in time: the agent was held, or its kernel busy";
        self.abort(aborted(why.into()), order, now)
    }

    fn time_until(&self, end: Timestamp) -> Result<Duration, String> {
        let left = end.duration_since(self.firewall.now().0);
        Duration::try_from(left).map_err(|_| "the cut was over before it was loaded".to_owned())
    }

    fn end(&mut self, ending: Ending) -> Result<(), String> {
        if self.known.ended.as_ref() != Some(&ending) {
            tracing::info!(phase = ?ending.phase, message = ending.message, "this node's part is over");
        }
        self.known.ended = Some(ending);
        self.store.write_state(&self.known).map_err(|e| e.to_string())
    }

    /// Heal packets to every node, in every turn for as long as one may be cut. The operator may be gone, datagrams get lost, and
    /// no agent reads in others' records which of them arrived.
    fn tell_everybody(&mut self, order: &Order, now: Timestamp) {
        let running = self.firewall.now().1;
        let longest = self.others_may_be_cut_for(order, now);
        if running >= *self.telling_until.get_or_insert(running + longest) {
            return;
        }
        if let Err(error) = self.firewall.send_heal(&self.setup.heal_addresses, &self.setup.spec) {
            tracing::warn!(%error, "failed to send heal packets");
        }
    }

    /// Until the end of the cut, of whoever heals last; where that is unknown or far, as long as a gate lasts.
    fn others_may_be_cut_for(&self, order: &Order, now: Timestamp) -> Duration {
        let left = |times: Times| Duration::try_from(times.heal_at.duration_since(now)).unwrap_or_default();
        let longest = self.setup.longest;
        self.known.times.or(order.times).map_or(longest, left).min(longest).max(TELLS_AT_LEAST)
    }

    /// Keeps the counters of a table that goes away.
    fn look(&mut self, table: Option<&TableState>) {
        self.looked = true;
        self.kernel.table = table.is_some();
        self.kernel.gate_open = table.is_some_and(|t| t.gate.is_some());
        self.kernel.windows = table.is_some_and(|t| t.windows > 0);
        if let Some(table) = table {
            self.kernel.dropped_packets = table.dropped_packets;
            self.kernel.rule_packets.clone_from(&table.rule_packets);
            if let Some(loaded) = self.known.rules.filter(|loaded| *loaded != table.rules) {
                let changed = format!("somebody changed the table: it has {} rules, {loaded} were loaded", table.rules);
                self.kernel.changed.get_or_insert(changed);
            }
            self.kernel.heal_packets = table.heal_packets;
        }
    }

    fn publish(&mut self, table: Option<&TableState>, message: Option<String>) {
        let (phase, said) = match (&self.known.ended, &self.unfit, table) {
            // As long as the table is there it is not over, whatever was decided.
            (Some(ending), _, None) if self.looked => (Some(ending.phase), ending.message.clone()),
            (_, Some(why), None) => (Some(RecordPhase::Unfit), Some(why.clone())),
            (_, _, Some(table)) if table.windows > 0 => (Some(RecordPhase::Loaded), None),
            (_, _, Some(_)) => (Some(RecordPhase::Armed), None),
            // The kernel did not answer: whatever was true is still reported.
            (_, None, None) => (*self.phases.borrow(), None),
        };
        let before = self.journal.last_report();
        if let Some(message) = message.as_ref().filter(|_| before.message != message) {
            tracing::warn!(message);
        }
        let loaded = self.known.times.filter(|_| self.kernel.windows).map(|t| t.cut_at);
        let loaded_cut_at = loaded.or(before.loaded_cut_at);
        let kernel = self.looked.then(|| self.kernel.clone());
        self.journal.report(Report { phase, message: message.or(said), kernel, loaded_cut_at });
        self.show_ready(matches!(phase, Some(RecordPhase::Armed | RecordPhase::Loaded)));
        self.phases.send_if_modified(|old| std::mem::replace(old, phase) != phase);
    }

    fn show_ready(&self, ready: bool) {
        let file = &self.setup.ready_file;
        let shown = file.exists();
        let result = match (ready, shown) {
            (true, false) => fs::write(file, ""),
            (false, true) => fs::remove_file(file),
            _ => Ok(()),
        };
        if let Err(error) = result {
            tracing::warn!(%error, file = %file.display(), "failed to show readiness");
        }
    }
}

enum Done {
    /// Something was done: look again.
    Changed,
    /// Nothing to do at present; says what is amiss.
    Waiting(Option<String>),
}

fn aborted(why: String) -> Ending {
    Ending { phase: RecordPhase::Aborted, message: Some(why) }
}
