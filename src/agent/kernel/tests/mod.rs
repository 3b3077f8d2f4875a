//! The order of doing things, against a kernel in memory.

mod abort;
mod arming;
mod leaving;
mod leftovers;
mod lifecycle;
mod loading;
mod unread;

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
    /// It gives no socket, and says why by this number.
    no_socket: Option<i32>,
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
        match (self.may_not, self.unreadable, self.no_socket) {
            (true, ..) => Err(netfilter::Error::NotPermitted),
            (_, true, _) => Err(netfilter::Error::Restless { what: "the rules" }),
            (.., Some(errno)) => Err(netfilter::Error::Open(std::io::Error::from_raw_os_error(errno))),
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
