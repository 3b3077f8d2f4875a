//! Kernels in memory, and a time that is ours.

use super::*;

#[derive(Default)]
pub struct Table {
    /// When it closes, by the node's clock that is never stepped.
    gate: Option<Duration>,
    pub windows: Vec<TimeWindow>,
    heal_packets: u64,
}

/// Kernels, and the time.
pub struct World {
    pub begun: (Timestamp, Instant),
    pub running: Duration,
    /// By how much each node's wall clock is ahead.
    pub ahead: [SignedDuration; NODES],
    /// Until when each node is paused, and for how long all its clocks have stood still.
    paused_until: [Duration; NODES],
    pub stood: [Duration; NODES],
    pub tables: [Option<Table>; NODES],
    /// A table of an earlier run is on this node.
    pub left: [bool; NODES],
    /// How often each was armed.
    pub armed: [usize; NODES],
    /// What becomes of what agents ask of each node's kernel.
    pub calls: [Calls; NODES],
    /// How long a heal packet takes to each node; `None` where it never comes. No way gets better again.
    pub packets_take: [Option<Duration>; NODES],
    /// Heal packets under way: when they come, and to whom.
    under_way: Vec<(Duration, usize)>,
    /// A heal packet or an abort has reached this node and its table: it may never be cut again.
    pub stopped: [bool; NODES],
}

impl World {
    pub fn new(begun: Timestamp) -> Self {
        World {
            begun: (begun, Instant::now()),
            running: Duration::ZERO,
            ahead: [SignedDuration::ZERO; NODES],
            paused_until: [Duration::ZERO; NODES],
            stood: [Duration::ZERO; NODES],
            tables: Default::default(),
            left: [false, true, false],
            armed: [0; NODES],
            calls: Default::default(),
            packets_take: [Some(Duration::ZERO); NODES],
            under_way: Vec::new(),
            stopped: [false; NODES],
        }
    }
    /// By a clock that is never stepped, as the operator's was when it wrote the schedule.
    pub fn now(&self) -> Timestamp {
        self.begun.0 + self.running
    }
    /// This node's clock that is never stepped.
    pub fn clock(&self, node: usize) -> Duration {
        self.running - self.stood[node]
    }
    fn wall(&self, node: usize) -> Timestamp {
        self.begun.0 + self.clock(node) + self.ahead[node]
    }
    fn gate(&self, node: usize) -> Option<Duration> {
        self.tables[node].as_ref()?.gate.filter(|ends| *ends > self.clock(node))
    }
    /// A node that is paused drops nothing: it takes nothing.
    pub fn cuts(&self, node: usize) -> bool {
        let wall = self.wall(node);
        let windows = self.tables[node].iter().flat_map(|t| &t.windows);
        !self.is_paused(node) && self.gate(node).is_some() && windows.into_iter().any(|w| w.from <= wall && wall < w.to)
    }
    pub fn pause(&mut self, node: usize, takes: Duration) {
        self.paused_until[node] = self.paused_until[node].max(self.running + takes);
    }
    pub fn is_paused(&self, node: usize) -> bool {
        self.running < self.paused_until[node]
    }
    /// Whether a heal packet that is sent now works at once.
    pub fn is_within_reach(&self, node: usize) -> bool {
        self.packets_take[node] == Some(Duration::ZERO) && !self.is_paused(node)
    }
    /// To the next tick.
    pub fn go_on(&mut self) {
        for node in (0..NODES).filter(|node| self.running < self.paused_until[*node]) {
            self.stood[node] += TICK;
        }
        self.running += TICK;
        self.arrive();
    }
    /// One datagram to each of these, from a node or from the operator. What a node sends to itself takes no way.
    pub fn heal_packets(&mut self, from: Option<usize>, to: impl IntoIterator<Item = usize>) {
        for node in to {
            let takes = if from == Some(node) { Some(Duration::ZERO) } else { self.packets_take[node] };
            self.under_way.extend(takes.map(|takes| (self.running + takes, node)));
        }
        self.arrive();
    }
    /// What has come by now does its work. What comes to a node that is paused is lost.
    fn arrive(&mut self) {
        let all = std::mem::take(&mut self.under_way).into_iter();
        let (there, under_way): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= self.running);
        self.under_way = under_way;
        for (_, node) in there {
            if self.is_paused(node) {
                continue;
            }
            if let Some(table) = &mut self.tables[node] {
                (table.gate, table.heal_packets) = (None, table.heal_packets + 1);
                self.stopped[node] = true;
            }
        }
    }
}

/// One node's kernel.
pub struct Kernel {
    pub world: Arc<Mutex<World>>,
    pub node: usize,
}

impl Kernel {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A call that changes something.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut World, usize) -> Result<T, netfilter::Error>,
    ) -> Result<T, netfilter::Error> {
        let ends = self.world().calls[self.node].one_more();
        if let Some(Ends::Before) = ends {
            end_process();
        }
        let done = match self.fails(Failure::Refuses) {
            true => Err(netfilter::Error::NotPermitted),
            false => change(&mut self.world(), self.node),
        };
        if let Some(Ends::After) = ends {
            end_process();
        }
        match self.fails(Failure::Silent) {
            true => Err(netfilter::Error::Silence { what: "a transaction", patience: Duration::from_secs(5) }),
            false => done,
        }
    }

    fn fails(&self, how: Failure) -> bool {
        self.world().calls[self.node].fails(how)
    }

    /// A call that only looks.
    fn look<T>(&self, look: impl FnOnce(&World, usize) -> T) -> Result<T, netfilter::Error> {
        match self.fails(Failure::Unreadable) {
            true => Err(netfilter::Error::Restless { what: "the rules" }),
            false => Ok(look(&self.world(), self.node)),
        }
    }
}

impl Firewall for Kernel {
    fn arm(&mut self, _: &TableSpec, gate: Duration) -> Result<(), netfilter::Error> {
        self.change(|world, node| {
            let gate = Some(world.clock(node) + gate);
            world.tables[node] = Some(Table { gate, ..Default::default() });
            world.armed[node] += 1;
            Ok(())
        })
    }
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), netfilter::Error> {
        self.change(|world, node| {
            let (open, ends) = (world.gate(node).is_some(), world.clock(node) + gate);
            match &mut world.tables[node] {
                None => Err(netfilter::Error::NoTable { table: table.into() }),
                Some(_) if !open => Err(netfilter::Error::GateClosed { table: table.into() }),
                Some(table) => {
                    (table.gate, table.windows) = (Some(ends), windows.to_vec());
                    Ok(())
                }
            }
        })
    }
    fn close_gate(&mut self, table: &str) -> Result<(), netfilter::Error> {
        self.change(|world, node| {
            let own = world.tables[node].as_mut();
            own.map(|t| t.gate = None).ok_or(netfilter::Error::NoTable { table: table.into() })
        })
    }
    fn remove(&mut self, table: &str) -> Result<(), netfilter::Error> {
        self.change(|world, node| {
            match table {
                TABLE => world.tables[node] = None,
                _ => world.left[node] = false,
            }
            Ok(())
        })
    }
    fn tables(&mut self) -> Result<Vec<String>, netfilter::Error> {
        self.look(|world, node| {
            let (own, left) = (world.tables[node].is_some().then_some(TABLE), world.left[node].then_some(LEFT));
            own.into_iter().chain(left).map(str::to_owned).collect()
        })
    }
    fn state(&mut self, _: &str) -> Result<Option<TableState>, netfilter::Error> {
        self.look(|world, node| {
            let gate = world.gate(node).map(|ends| ends - world.clock(node));
            world.tables[node].as_ref().map(|t| TableState {
                gate,
                windows: t.windows.len(),
                heal_packets: t.heal_packets,
                ..Default::default()
            })
        })
    }
    fn send_heal(&mut self, addresses: &[IpAddr], _: &TableSpec) -> std::io::Result<usize> {
        let sent = self.change(|world, node| {
            world.heal_packets(Some(node), 0..NODES);
            Ok(addresses.len())
        });
        sent.map_err(std::io::Error::other)
    }
    fn now(&self) -> (Timestamp, Instant) {
        let world = self.world();
        (world.wall(self.node), world.begun.1 + world.clock(self.node))
    }
}
