//! One node: what outlives its agent, and the agent while there is one.

use super::*;

pub struct Node {
    /// From when to when this node is cut, after the beginning of the cut.
    windows: Vec<(Duration, Duration)>,
    disk: tempfile::TempDir,
    boots: usize,
    pub back_at: usize,
    pub agent: Option<Keeper<Kernel>>,
    /// So many agents were begun, and when the last one.
    pub agents: usize,
    since: usize,
    order: Order,
    /// The tick of the newest order that has reached this node.
    heard: usize,
    /// The API has this agent's first word.
    is_there: bool,
    pub deaf_until: usize,
    pub stale_until: usize,
    /// By so many ticks, until then.
    pub late_by: usize,
    pub mute_until: usize,
    full_until: usize,
    /// Its disk ever took nothing: what it forgot it can't tell.
    pub was_full: bool,
    /// The node goes down with a process that ends in the middle of something.
    pub ends_with_it: bool,
    /// This agent knows of an abort; since when, where its kernel worked then: it tells the others.
    knows_of_abort: bool,
    tells_since: Option<usize>,
    /// What the API has of the agent.
    pub said: NodeRecordStatus,
    pub cut_for: Duration,
    /// For so many ticks in which this node was within reach somebody was there to tell it of an abort, and of the deadline.
    pub told_ticks: usize,
    pub told_late_ticks: usize,
    /// For so many ticks on end its agent's part has been over, and the kernel would have opened it.
    pub over_ticks: usize,
    pub was_stepped: bool,
    /// Its wall clock was stepped and stepped back again: where nobody looked in between, that leaves no trace.
    pub put_right: bool,
}

impl Node {
    pub fn new(windows: &[(u64, u64)]) -> Self {
        // In memory where there is such a thing: an agent waits for its disk.
        let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let seconds = |(from, to): &(u64, u64)| (Duration::from_secs(*from), Duration::from_secs(*to));
        Node {
            windows: windows.iter().map(seconds).collect(),
            disk,
            boots: 0,
            back_at: 0,
            agent: None,
            agents: 0,
            since: 0,
            order: Order::default(),
            heard: 0,
            is_there: false,
            deaf_until: 0,
            stale_until: 0,
            late_by: 0,
            mute_until: 0,
            full_until: 0,
            was_full: false,
            ends_with_it: false,
            knows_of_abort: false,
            tells_since: None,
            said: NodeRecordStatus::default(),
            cut_for: Duration::ZERO,
            told_ticks: 0,
            told_late_ticks: 0,
            over_ticks: 0,
            was_stepped: false,
            put_right: false,
        }
    }

    /// From the beginning of the cut to the end of its last window.
    pub fn lasts(&self) -> Duration {
        self.windows.iter().map(|(_, to)| *to).max().unwrap()
    }

    /// For how long it is to be cut in all.
    pub fn is_cut_for(&self) -> Duration {
        self.windows.iter().map(|(from, to)| *to - *from).sum()
    }

    pub fn kill(&mut self, tick: usize) {
        (self.agent, self.back_at) = (None, tick + BACK_TICKS);
    }

    pub fn go_down(&mut self, i: usize, tick: usize, world: &Mutex<World>) {
        (self.agent, self.back_at) = (None, tick + 3 * BACK_TICKS);
        self.boots += 1;
        let mut world = world.lock().unwrap();
        (world.tables[i], world.left[i]) = (None, false);
    }

    /// The agent's process has ended in the middle of something. What it was writing is half written.
    fn end_in_the_middle(&mut self, i: usize, tick: usize, world: &Mutex<World>) {
        let _ = fs::write(self.next_state(), "{");
        match self.ends_with_it {
            true => self.go_down(i, tick, world),
            false => self.kill(tick),
        }
    }

    /// The file in which a new state is written before it takes the place of the old one (`agent/state.rs`).
    fn next_state(&self) -> PathBuf {
        self.disk.path().join(UID).join("state.next")
    }

    /// Until this tick no new state can be written: what is in its place is no file.
    pub fn fill_disk(&mut self, until: usize) {
        (self.full_until, self.was_full) = (self.full_until.max(until), true);
        let _ = fs::remove_file(self.next_state());
        fs::create_dir_all(self.next_state()).unwrap();
    }

    /// What was to fail until this tick works again.
    pub fn mend(&mut self, i: usize, tick: usize, world: &Mutex<World>) {
        world.lock().unwrap().calls[i].mend(tick);
        if self.full_until == tick {
            // Nothing is there at the very first tick.
            let _ = fs::remove_dir(self.next_state());
        }
    }

    pub fn start(&mut self, i: usize, tick: usize, world: &Arc<Mutex<World>>) {
        let store = Store::open(self.disk.path(), UID);
        let boot_id = format!("b{}", self.boots);
        let journal = Journal::new("hash".into(), boot_id.clone(), store.journal());
        let setup = Setup {
            windows: self.windows.clone(),
            spec: TableSpec { name: TABLE.into(), rules: Vec::new(), heal_port: 1, heal_token: [0; 16] },
            longest: LONGEST,
            duration: CUT,
            heal_addresses: vec!["198.18.0.1".parse().unwrap(); NODES],
            boot_id,
            ready_file: self.disk.path().join("ready"),
        };
        let kernel = Kernel { world: world.clone(), node: i };
        (self.order, self.since, self.is_there) = (Order::default(), tick, false);
        (self.knows_of_abort, self.tells_since) = (false, None);
        self.agents += 1;
        self.agent = Some(Keeper::new(kernel, setup, store, journal, watch::Sender::new(None)));
    }

    /// Who is cut or paused does not hear the API.
    pub fn hears(&self, i: usize, tick: usize, world: &Mutex<World>) -> bool {
        let world = world.lock().unwrap();
        tick >= self.deaf_until && !world.cuts(i) && !world.is_paused(i)
    }

    /// The tick of the order that this node goes by now, where its agent has heard any.
    fn hear(&mut self, tick: usize) -> Option<usize> {
        let late_by = if tick < self.stale_until { self.late_by } else { 0 };
        // Whoever begins reads what there is then.
        let newest = tick.checked_sub(late_by).filter(|newest| *newest >= self.since)?;
        self.heard = self.heard.max(newest);
        Some(self.heard)
    }

    /// Its agent has known of an abort for so short a time that it tells the others of it, whatever its clocks show.
    pub fn tells(&self, tick: usize) -> bool {
        self.agent.is_some() && self.tells_since.is_some_and(|since| tick - since < TELLS_TICKS)
    }

    /// Its agent hears what there is to hear, and looks.
    pub fn act(&mut self, i: usize, tick: usize, world: &Mutex<World>, operator: &Operator) {
        if world.lock().unwrap().is_paused(i) {
            return;
        }
        let hears = self.hears(i, tick, world);
        let heard = if hears { self.hear(tick) } else { None };
        let Some(agent) = self.agent.as_mut() else { return };
        if hears && tick >= self.mute_until && !self.is_there {
            (self.said, self.is_there) = (agent.journal.status(), true);
        }
        let order = heard.map(|heard| {
            let order = operator.orders[heard].clone();
            // Nobody arms before its record is there, which says no more by then than this process knows (`agent/orders.rs`).
            Order { known: order.known && self.is_there, ..order }
        });
        let news = order.filter(|o| *o != self.order && self.order.abort.is_none());
        if news.is_none() && !(tick + i).is_multiple_of(LOOK_TICKS) && !operator.removed {
            return;
        }
        if let Some(news) = news {
            self.order = news;
        }
        let now = agent.firewall.now().0;
        if survives(|| agent.turn(&self.order, now)).is_none() {
            return self.end_in_the_middle(i, tick, world);
        }
        // As the tasks beside it, which look at the network.
        let boot_us = world.lock().unwrap().clock(i).as_micros() as i64;
        let seen = Observation::new("w1/Kubelet", "open");
        agent.journal.observe(SpanKind::Probe, Moment { boot_us, wall: MicroTime(now) }, seen);
        let says = agent.journal.status();
        let mut world = world.lock().unwrap();
        let works = world.calls[i].work();
        if self.order.abort.is_some() && !self.knows_of_abort {
            (self.knows_of_abort, self.tells_since) = (true, works.then_some(tick));
        }
        if self.order.abort.is_some() && works {
            world.stopped[i] = true;
        }
        let table = world.tables[i].as_ref().map(|t| !t.windows.is_empty());
        let is_so = check::is_so(&says, table, &world.calls[i]);
        assert!(is_so, "tick {tick}: node {i} says {:?} of {:?}, and its table is {table:?}", says.phase, says.kernel);
        if hears && tick >= self.mute_until && !world.cuts(i) {
            self.said = says;
        }
        drop(world);
        if hears && operator.removed {
            if survives(|| agent.leave()).is_some() {
                self.said = agent.journal.status();
            }
            self.agent = None;
        }
    }
}

#[test]
fn a_full_disk_takes_no_state_and_one_that_is_half_written_is_in_nobodys_way() {
    let mut node = Node::new(&[(0, 30)]);
    let store = Store::open(node.disk.path(), UID);
    store.write_state(&Persisted { armed: true, ..Default::default() }).unwrap();
    node.fill_disk(4);
    assert!(store.write_state(&Persisted::default()).is_err() && store.state().unwrap().armed);
    let world = Mutex::new(World::new(begun()));
    node.mend(0, 4, &world);
    node.end_in_the_middle(0, 4, &world);
    assert!(store.state().unwrap().armed, "the half is nobody's");
    store.write_state(&Persisted::default()).unwrap();
    assert!(!store.state().unwrap().armed);
}
