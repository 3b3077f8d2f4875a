//! The order of doing things, against a kernel in memory.

use super::*;
use crate::api::RecordPhase::*;
use std::collections::BTreeMap;

const TABLE: &str = "rackpartition-own";

/// A kernel in memory.
#[derive(Debug, Default)]
struct Fake {
    tables: BTreeMap<String, TableState>,
    heal_packet_before_load: bool,
    refuses_to_arm: bool,
    /// Arms and does not say so.
    silent_at_arm: bool,
    /// Loads and does not say so.
    silent_at_load: bool,
    /// So many loads from now on take [`SLOW`].
    slow_loads: usize,
    /// So many removals from now on fail.
    refused_removals: usize,
    unreadable: bool,
    /// Nobody may ask it anything.
    may_not: bool,
    sent: usize,
    /// How far its clocks are ahead of the machine's.
    ahead: Duration,
    /// The disk beside this kernel, and what was done to open nodes: whether an ending was on the disk by then.
    disk: Option<Store>,
    opened: Vec<(&'static str, bool)>,
}

const SLOW: Duration = Duration::from_secs(4);

impl Fake {
    fn note(&mut self, what: &'static str) {
        let has_ended = self.disk.as_ref().map(|disk| disk.state().unwrap().ended.is_some());
        self.opened.extend(has_ended.map(|has_ended| (what, has_ended)));
    }
    fn answers(&self) -> Result<(), netfilter::Error> {
        match (self.may_not, self.unreadable) {
            (true, _) => Err(netfilter::Error::NotPermitted),
            (_, true) => Err(netfilter::Error::Restless { what: "the rules" }),
            _ => Ok(()),
        }
    }
}

impl Firewall for Fake {
    fn arm(&mut self, spec: &TableSpec, gate: Duration) -> Result<(), netfilter::Error> {
        if self.refuses_to_arm {
            return Err(netfilter::Error::NotPermitted);
        }
        self.tables.insert(spec.name.clone(), TableState { gate: Some(gate), ..Default::default() });
        if self.silent_at_arm {
            return Err(netfilter::Error::Silence { what: "a transaction", patience: Duration::from_secs(5) });
        }
        Ok(())
    }
    fn cut(&mut self, table: &str, _: &[TimeWindow], gate: Duration) -> Result<(), netfilter::Error> {
        let state = self.tables.get_mut(table).ok_or(netfilter::Error::NoTable { table: table.into() })?;
        if self.heal_packet_before_load {
            (state.gate, state.heal_packets) = (None, 1);
            return Err(netfilter::Error::GateClosed { table: table.into() });
        }
        (state.gate, state.windows) = (Some(gate), 1);
        if let Some(left) = self.slow_loads.checked_sub(1) {
            (self.slow_loads, self.ahead) = (left, self.ahead + SLOW);
        }
        if self.silent_at_load {
            return Err(netfilter::Error::Silence { what: "a transaction", patience: Duration::from_secs(5) });
        }
        Ok(())
    }
    fn close_gate(&mut self, table: &str) -> Result<(), netfilter::Error> {
        if self.may_not {
            return Err(netfilter::Error::NotPermitted);
        }
        self.note("gate");
        self.tables.get_mut(table).map(|t| t.gate = None).ok_or(netfilter::Error::NoTable { table: table.into() })
    }
    fn remove(&mut self, table: &str) -> Result<(), netfilter::Error> {
        self.note("table");
        if let Some(left) = self.refused_removals.checked_sub(1) {
            self.refused_removals = left;
            return Err(netfilter::Error::Silence { what: "a transaction", patience: Duration::from_secs(5) });
        }
        self.tables.remove(table);
        Ok(())
    }
    fn tables(&mut self) -> Result<Vec<String>, netfilter::Error> {
        self.answers()?;
        Ok(self.tables.keys().cloned().collect())
    }
    fn state(&mut self, table: &str) -> Result<Option<TableState>, netfilter::Error> {
        self.answers()?;
        Ok(self.tables.get(table).cloned())
    }
    fn send_heal(&mut self, addresses: &[IpAddr], _: &TableSpec) -> std::io::Result<usize> {
        self.note("packets");
        self.sent += addresses.len();
        Ok(addresses.len())
    }
    fn now(&self) -> (Timestamp, Instant) {
        (Timestamp::now() + self.ahead, Instant::now() + self.ahead)
    }
}

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Node { dir: tempfile::tempdir().unwrap() }
    }
    fn store(&self) -> Store {
        Store::open(self.dir.path(), "run")
    }
    /// A new process of the agent, with whatever tables the kernel holds.
    fn start(&self, kernel: Fake, boot_id: &str) -> Keeper<Fake> {
        let store = self.store();
        let journal = Journal::new("hash".into(), boot_id.into(), store.journal());
        let setup = Setup {
            windows: vec![(Duration::ZERO, Duration::from_secs(60))],
            spec: TableSpec { name: TABLE.into(), rules: Vec::new(), heal_port: 1, heal_token: [0; 16] },
            longest: Duration::from_secs(100),
            duration: Duration::from_secs(10),
            heal_addresses: vec!["198.18.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap()],
            boot_id: boot_id.into(),
            ready_file: self.dir.path().join("ready"),
        };
        Keeper::new(kernel, setup, store, journal, watch::Sender::new(None))
    }
    /// Whose gate is open and whose windows are loaded.
    fn cut(&self) -> Keeper<Fake> {
        let mut keeper = self.start(Fake::default(), "b1");
        keeper.turn(&arming(), in_seconds(0));
        keeper.turn(&scheduled(), in_seconds(1));
        assert_eq!(phase(&keeper), Loaded);
        keeper
    }
    /// From now on the disk has a file where the directory of the run was.
    fn break_disk(&self) {
        let directory = self.dir.path().join("run");
        fs::rename(&directory, directory.with_extension("kept")).unwrap();
        fs::write(directory, "").unwrap();
    }
    /// As it was before that.
    fn mend_disk(&self) {
        let directory = self.dir.path().join("run");
        fs::remove_file(&directory).unwrap();
        fs::rename(directory.with_extension("kept"), directory).unwrap();
    }
    fn ready(&self) -> bool {
        self.dir.path().join("ready").exists()
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
}
fn scheduled() -> Order {
    let times = Some(Times { cut_at: in_seconds(10), heal_at: in_seconds(20) });
    Order { known: true, times, may_load: true, ..Order::default() }
}
fn arming() -> Order {
    Order { known: true, may_arm: true, ..Order::default() }
}
fn aborted_run() -> Order {
    Order { known: true, abort: Some("the run was deleted".into()), ..Order::default() }
}
/// Rounds of heal packets, to every address of the setup, in so many turns a second apart, of which this is the first one's time.
fn rounds(keeper: &mut Keeper<Fake>, order: &Order, first: Timestamp, turns: u64) -> usize {
    keeper.firewall.sent = 0;
    for second in 0..turns {
        keeper.firewall.ahead += if second == 0 { Duration::ZERO } else { PERIOD };
        keeper.turn(order, first + Duration::from_secs(second));
    }
    keeper.firewall.sent / keeper.setup.heal_addresses.len()
}
fn phase(keeper: &Keeper<Fake>) -> RecordPhase {
    keeper.journal.last_report().phase.unwrap()
}

#[test]
fn arms_loads_heals_and_is_ready_in_between() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((phase(&keeper), node.ready()), (Armed, true));

    let order = scheduled();
    keeper.turn(&order, in_seconds(1));
    assert_eq!((phase(&keeper), node.ready()), (Loaded, true));
    let state = &keeper.firewall.tables[TABLE];
    let gate = state.gate.unwrap().as_secs_f64();
    assert!((20.0..20.3).contains(&gate), "until the heal and a quarter of a second: {gate}");
    assert_eq!(keeper.journal.last_report().loaded_cut_at, order.times.map(|t| t.cut_at));

    keeper.firewall.tables.get_mut(TABLE).unwrap().dropped_packets = 9;
    keeper.turn(&order, in_seconds(15));
    keeper.turn(&order, in_seconds(21));
    assert_eq!((phase(&keeper), node.ready()), (Healed, false));
    assert!(keeper.firewall.tables.is_empty());
    let report = keeper.journal.last_report();
    assert_eq!(report.kernel.map(|k| (k.table, k.dropped_packets)), Some((false, 9)), "the last counts are kept");
    assert_eq!(keeper.firewall.sent, 0);
}

#[test]
fn whoever_changes_the_table_is_noticed_also_by_another_process() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!(keeper.journal.last_report().kernel.unwrap().changed, None);
    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.firewall.tables.get_mut(TABLE).unwrap().rules += 1;
    keeper.turn(&scheduled(), in_seconds(2));
    let changed = keeper.journal.last_report().kernel.unwrap().changed.unwrap();
    assert!(changed.contains("it has 1 rules, 0 were loaded"), "{changed}");
}

#[test]
fn an_agent_that_has_not_read_the_run_touches_nothing() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&Order::default(), in_seconds(0));
    assert!(keeper.firewall.tables.is_empty() && !node.store().state().unwrap().armed && !node.ready());
    assert_eq!(keeper.journal.last_report().phase, None);
}

#[test]
fn armed_is_on_the_disk_before_the_kernel_is_asked() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert!(node.store().state().unwrap().armed);
    // The machine went down and came up again: same disk, empty kernel.
    let mut keeper = node.start(Fake::default(), "b2");
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
}

#[test]
fn a_kernel_that_refuses_makes_the_node_unfit_and_the_next_process_tries_again() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refuses_to_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("CAP_NET_ADMIN"));
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(phase(&keeper), Armed);
}

#[test]
fn an_arming_of_unknown_outcome_is_undone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
    let message = keeper.journal.last_report().message.unwrap();
    assert!(message.contains("can't hold the table"), "{message}");
    keeper.firewall.silent_at_arm = false;
    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0), "nor is it armed again");
}

/// Whatever this process thinks of itself.
#[test]
fn nobody_says_unfit_as_long_as_its_table_is_there() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refuses_to_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    let table = TableState { gate: Some(PERIOD), ..Default::default() };
    keeper.firewall.tables.insert(TABLE.into(), table);
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(phase(&keeper), Armed);
}

/// As one whose pod has lost the right to.
#[test]
fn whoever_may_not_ask_its_kernel_tells_the_others_of_an_abort_and_does_not_say_that_nothing_is_loaded() {
    let node = Node::new();
    let mut keeper = node.cut();
    let kernel = Fake { may_not: true, ..std::mem::take(&mut keeper.firewall) };
    let mut keeper = node.start(kernel, "b1");
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(5), 2), 2);
    assert_eq!((keeper.journal.status().kernel, keeper.journal.last_report().phase), (None, None));
    keeper.firewall.may_not = false;
    keeper.turn(&aborted_run(), in_seconds(7));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0), "as soon as it may");
}

#[test]
fn whoever_has_armed_nothing_and_may_not_ask_its_kernel_is_unfit() {
    let node = Node::new();
    let mut keeper = node.start(Fake { may_not: true, ..Default::default() }, "b1");
    keeper.turn(&Order::default(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("CAP_NET_ADMIN"));
    keeper.firewall.may_not = false;
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0), "nor does it arm after it has said so");
}

#[test]
fn where_the_state_is_damaged_the_table_goes_and_nothing_is_armed() {
    let node = Node::new();
    let mut keeper = node.cut();
    fs::write(node.dir.path().join("run/state.json"), "{").unwrap();
    for kernel in [std::mem::take(&mut keeper.firewall), Fake::default()] {
        let mut keeper = node.start(kernel, "b1");
        keeper.turn(&arming(), in_seconds(2));
        keeper.turn(&arming(), in_seconds(3));
        assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0));
        let message = keeper.journal.last_report().message.unwrap();
        assert!(message.contains("state.json"), "{message}");
    }
}

#[test]
fn a_disk_that_gives_no_state_is_asked_again_and_neither_opens_nor_arms() {
    let node = Node::new();
    let mut keeper = node.cut();
    node.break_disk();
    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
    keeper.turn(&scheduled(), in_seconds(12));
    let report = keeper.journal.last_report();
    assert_eq!((report.phase, report.message.as_deref()), (Some(Loaded), Some(UNREAD)));
    assert!(keeper.firewall.tables[TABLE].gate.is_some());
    node.mend_disk();
    keeper.turn(&scheduled(), in_seconds(13));
    assert_eq!(keeper.journal.last_report().message, None);
    keeper.turn(&scheduled(), in_seconds(21));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Healed, 0));

    node.break_disk();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let report = keeper.journal.last_report();
    assert_eq!((report.phase, report.message.as_deref()), (None, Some(UNREAD)));
    assert!(keeper.firewall.tables.is_empty(), "it may have been armed before");
}

#[test]
fn an_abort_and_the_end_of_the_run_wait_for_no_disk() {
    let done = Order { done: true, may_load: false, ..scheduled() };
    for (order, packets) in [(aborted_run(), 2), (done, 0)] {
        let node = Node::new();
        let mut keeper = node.cut();
        node.break_disk();
        let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
        keeper.turn(&order, in_seconds(12));
        assert_eq!((phase(&keeper), keeper.firewall.tables.len(), keeper.firewall.sent), (Unfit, 0, packets));
        let message = keeper.journal.last_report().message.unwrap();
        assert!(message.contains("state.json"), "{message}");
    }
}

#[test]
fn a_table_that_somebody_brings_back_after_a_reboot_goes() {
    let node = Node::new();
    let mut keeper = node.cut();
    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b2");
    keeper.turn(&scheduled(), in_seconds(5));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
}

#[test]
fn a_heal_packet_between_arming_and_loading_wins() {
    let node = Node::new();
    let mut keeper = node.start(Fake { heal_packet_before_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
    assert_eq!(keeper.journal.last_report().loaded_cut_at, None);
}

#[test]
fn a_wall_clock_that_was_stepped_back_is_refused() {
    for (heal_in, expected) in [(24, Loaded), (27, Aborted), (3600, Aborted)] {
        let node = Node::new();
        let mut keeper = node.start(Fake::default(), "b1");
        keeper.turn(&arming(), in_seconds(0));
        let times = Some(Times { cut_at: in_seconds(heal_in - 10), heal_at: in_seconds(heal_in) });
        keeper.turn(&Order { times, ..scheduled() }, in_seconds(0));
        assert_eq!(phase(&keeper), expected, "{heal_in}");
        assert_eq!(keeper.firewall.tables.is_empty(), expected == Aborted);
        if expected == Aborted {
            assert!(keeper.journal.last_report().message.unwrap().contains("stepped back"));
            assert!(node.store().state().unwrap().ended.is_some());
        }
    }
}

/// This node's window is from second 10 to second 14, and others are cut until second 20.
#[test]
fn of_a_staggered_heal_the_gate_goes_with_the_nodes_own_window_and_the_table_with_the_run() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.setup.windows = vec![(Duration::ZERO, Duration::from_secs(4))];
    keeper.turn(&arming(), in_seconds(0));
    let order = scheduled();
    keeper.turn(&order, in_seconds(1));
    let gate = keeper.firewall.tables[TABLE].gate.unwrap().as_secs_f64();
    assert!((14.0..14.3).contains(&gate), "until its own end and a quarter of a second: {gate}");
    keeper.firewall.close_gate(TABLE).unwrap();
    for (second, expected) in [(15, Loaded), (19, Loaded), (21, Healed)] {
        keeper.turn(&order, in_seconds(second));
        let report = keeper.journal.last_report();
        assert_eq!((report.phase, report.message), (Some(expected), None), "{second}");
    }
    assert!(keeper.firewall.tables.is_empty());
    assert_eq!(keeper.firewall.sent, 0);
}

/// Its own window was over two seconds before.
#[test]
fn whoever_heals_early_tells_the_others_of_an_abort_until_the_last_has_healed() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.setup.windows = vec![(Duration::ZERO, Duration::from_secs(4))];
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.firewall.close_gate(TABLE).unwrap();
    let after_its_own = keeper.known.times.unwrap().heal_at - Duration::from_secs(4);
    assert_eq!(rounds(&mut keeper, &aborted_run(), after_its_own, 30), 4);
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}

#[test]
fn loading_never_extends_the_armed_gate() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let left = Duration::from_secs(12);
    keeper.firewall.tables.get_mut(TABLE).unwrap().gate = Some(left);
    keeper.turn(&scheduled(), in_seconds(1));
    let gate = keeper.firewall.tables[TABLE].gate.unwrap();
    assert_eq!(phase(&keeper), Loaded);
    assert!(gate <= left && gate > left - Duration::from_secs(5), "{gate:?}");
}

/// Its gate counts from when the kernel took it, which is later than when it was reckoned.
#[test]
fn a_load_that_took_long_is_made_again_and_given_up_if_it_does_again_and_again() {
    for (slow_loads, expected) in [(0, Loaded), (1, Loaded), (2, Loaded), (3, Aborted)] {
        let node = Node::new();
        let mut keeper = node.start(Fake::default(), "b1");
        keeper.turn(&arming(), in_seconds(0));
        keeper.firewall.slow_loads = slow_loads;
        keeper.turn(&scheduled(), in_seconds(1));
        assert_eq!(phase(&keeper), expected, "{slow_loads}");
        if expected == Loaded {
            let gate = keeper.firewall.tables[TABLE].gate.unwrap() + slow_loads as u32 * SLOW;
            assert!((20.0..20.3).contains(&gate.as_secs_f64()), "{slow_loads}: until the heal: {gate:?}");
        } else {
            assert!(keeper.firewall.tables.is_empty());
            assert!(keeper.journal.last_report().message.unwrap().contains("in time"));
        }
    }
}

#[test]
fn a_kernel_that_nobody_can_look_at_is_not_reported() {
    let node = Node::new();
    let mut keeper = node.start(Fake { unreadable: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((keeper.journal.status().kernel, keeper.journal.last_report().phase), (None, None));
    keeper.firewall.unreadable = false;
    keeper.turn(&arming(), in_seconds(1));
    assert!(keeper.journal.status().kernel.unwrap().table);
    // It is not known to be gone, though this node's part is over.
    keeper.known.ended = Some(aborted("over".into()));
    keeper.firewall.unreadable = true;
    keeper.turn(&arming(), in_seconds(2));
    assert_eq!((keeper.journal.status().kernel, phase(&keeper)), (None, Armed));
}

#[test]
fn a_load_of_unknown_outcome_is_undone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Aborted, 0, false));
    let message = keeper.journal.last_report().message.unwrap();
    assert!(message.contains("failed to load the windows"), "{message}");
    assert!(node.store().state().unwrap().ended.is_some());
    assert_eq!(keeper.firewall.sent, 2, "the others are told");
}

#[test]
fn an_agent_that_is_told_to_end_leaves_no_table_without_windows() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.leave();
    let report = keeper.journal.last_report();
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Aborted, 0, false));
    assert_eq!(report.kernel.map(|k| k.table), Some(false));
    assert!(report.message.unwrap().contains("told to end"));
    assert_eq!(keeper.firewall.sent, 0, "the others are told by the operator");
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0), "it outlives the process");
}

#[test]
fn an_agent_that_is_told_to_end_leaves_windows_to_the_kernel() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.leave();
    assert_eq!((phase(&keeper), keeper.firewall.tables[TABLE].windows), (Loaded, 1));
    assert_eq!(node.store().state().unwrap().ended, None);
    // Nothing was armed yet: the next process may.
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.leave();
    assert_eq!(node.store().state().unwrap(), Persisted::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_it_ends() {
    let node = Node::new();
    let keeper = node.start(Fake::default(), "b1");
    let journal = keeper.journal.clone();
    let (_order, orders) = watch::channel(arming());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(keeper.run(orders, stopped));
    tokio::task::yield_now().await;
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), stop.closed()).await.unwrap();
    task.await.unwrap();
    assert_eq!(journal.last_report().phase, Some(Aborted));
}

#[test]
fn an_abort_opens_this_node_tells_the_others_and_outlives_the_process() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
    assert_eq!(keeper.firewall.sent, 2);
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&scheduled(), in_seconds(2));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}

/// Which may be hung: what was cut off may be what it is on.
#[test]
fn an_abort_opens_this_node_and_tells_the_others_before_anything_waits_for_the_disk() {
    let node = Node::new();
    let mut keeper = node.cut();
    keeper.firewall.disk = Some(node.store());
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!(keeper.firewall.opened, [("packets", false), ("gate", false), ("table", true)]);
}

#[test]
fn a_disk_that_refuses_keeps_nobody_from_being_healed() {
    let node = Node::new();
    let mut keeper = node.cut();
    node.break_disk();
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), keeper.firewall.sent), (Aborted, 0, 2));
}

#[test]
fn a_table_that_cannot_be_read_is_opened_by_an_abort_all_the_same() {
    let node = Node::new();
    let mut keeper = node.cut();
    keeper.firewall.unreadable = true;
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((keeper.firewall.tables[TABLE].gate, keeper.firewall.sent), (None, 2));
}

/// Neither its gate nor its table went when it was over.
#[test]
fn a_table_that_cannot_be_read_is_opened_where_this_nodes_part_is_over() {
    let node = Node::new();
    let mut keeper = node.cut();
    let known = Persisted { ended: Some(aborted("failed to load the windows".into())), ..keeper.known.clone() };
    node.store().write_state(&known).unwrap();
    let kernel = Fake { unreadable: true, ..std::mem::take(&mut keeper.firewall) };
    let mut keeper = node.start(kernel, "b1");
    keeper.turn(&scheduled(), in_seconds(12));
    assert_eq!(keeper.firewall.tables[TABLE].gate, None);
}

#[test]
fn of_an_abort_of_its_own_the_packets_leave_before_anything_waits_for_the_disk() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.firewall.disk = Some(node.store());
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!(keeper.firewall.opened, [("packets", false), ("gate", false), ("table", true)]);
}

#[test]
fn the_others_are_told_of_an_abort_until_the_cut_would_have_ended() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    let in_mid_cut = keeper.known.times.unwrap().heal_at - Duration::from_secs(8);
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_mid_cut, 30), 8);
    // A process that takes over reads it again in the run, and goes on.
    let mut keeper = node.start(Fake::default(), "b1");
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_mid_cut + Duration::from_secs(3), 30), 5);
}

#[test]
fn whoever_has_no_table_tells_the_others_of_an_abort_too() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    let order = Order { abort: aborted_run().abort, ..scheduled() };
    let in_mid_cut = order.times.unwrap().heal_at - Duration::from_secs(8);
    assert_eq!(rounds(&mut keeper, &order, in_mid_cut, 30), 8);
    assert_eq!(phase(&keeper), Aborted);
}

#[test]
fn without_a_schedule_the_others_are_told_as_long_as_a_gate_lasts() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(1), 150), 100);
}

#[test]
fn an_abort_that_comes_after_the_end_of_the_cut_is_told_a_few_times_for_clocks_may_be_wrong() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.turn(&scheduled(), in_seconds(21));
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(22), 10), 3);
    assert_eq!(phase(&keeper), Healed);
}

/// This node never loaded, and by its wall clock it is all over: that clock may be wrong.
#[test]
fn a_node_that_opens_at_an_abort_tells_the_others_whatever_its_wall_clock_says() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let order = Order { abort: aborted_run().abort, ..scheduled() };
    assert_eq!(rounds(&mut keeper, &order, in_seconds(3600), 10), 3);
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}

#[test]
fn a_restart_in_mid_cut_takes_over_and_sweeps_only_other_runs() {
    let node = Node::new();
    let mut kernel = Fake::default();
    kernel.tables.insert("rackpartition-other".into(), TableState::default());
    kernel.tables.insert("kube-proxy".into(), TableState::default());
    let mut keeper = node.start(kernel, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    assert_eq!(phase(&keeper), Loaded);
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["kube-proxy", TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 1);

    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
    keeper.turn(&Order::default(), in_seconds(15));
    assert_eq!(phase(&keeper), Loaded);
    keeper.turn(&Order::default(), in_seconds(20));
    assert_eq!(phase(&keeper), Healed, "without a word from the API");
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["kube-proxy"]);
}

/// It may be late, and what it takes for a leftover the next run's.
#[test]
fn an_agent_that_has_not_read_that_its_run_goes_on_removes_nothing_of_other_runs() {
    const OTHER: &str = "rackpartition-other";
    let node = Node::new();
    let other = Store::open(node.dir.path(), "other");
    other.write_state(&Persisted { armed: true, ..Default::default() }).unwrap();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.firewall.tables.insert(OTHER.into(), TableState::default());
    for order in [Order::default(), Order { known: false, ..arming() }, scheduled()] {
        keeper.turn(&order, in_seconds(0));
    }
    assert!(keeper.firewall.tables.contains_key(OTHER) && other.state().unwrap().armed);

    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.turn(&aborted_run(), in_seconds(0));
    assert!(keeper.firewall.tables.contains_key(OTHER) && other.state().unwrap().armed);
}

#[test]
fn a_list_of_tables_that_fails_is_asked_for_again() {
    let node = Node::new();
    let mut keeper = node.start(Fake { unreadable: true, ..Default::default() }, "b1");
    keeper.firewall.tables.insert("rackpartition-other".into(), TableState::default());
    keeper.turn(&arming(), in_seconds(0));
    keeper.firewall.unreadable = false;
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), [TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 1);
}

#[test]
fn nobody_is_armed_before_what_other_runs_left_is_gone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refused_removals: 1, ..Default::default() }, "b1");
    for other in ["rackpartition-one", "rackpartition-other"] {
        keeper.firewall.tables.insert(other.into(), TableState::default());
    }
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["rackpartition-one"], "one keeps no other");
    let report = keeper.journal.last_report();
    assert_eq!((report.phase, report.message.as_deref()), (None, Some(LEFTOVERS)));
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), [TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 2);
}

#[test]
fn a_table_that_somebody_removes_in_mid_cut_is_noticed() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    keeper.firewall.tables.clear();
    keeper.turn(&scheduled(), in_seconds(12));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("vanished in mid-cut"));
    keeper.turn(&scheduled(), in_seconds(25));
    assert_eq!(phase(&keeper), Unfit, "the end of the cut does not make it healed");
}

#[test]
fn the_next_look_is_when_the_cut_ends_if_that_is_sooner() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    let heal_at = keeper.known.times.unwrap().heal_at;
    assert_eq!(keeper.until_next_turn(heal_at - jiff::SignedDuration::from_millis(300)), Duration::from_millis(300));
    assert_eq!(keeper.until_next_turn(heal_at - jiff::SignedDuration::from_secs(9)), PERIOD);
    assert_eq!(keeper.until_next_turn(heal_at + jiff::SignedDuration::from_secs(9)), PERIOD);
}
