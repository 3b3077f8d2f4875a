//! Kernels in memory, and a time that is ours.

use super::*;

#[derive(Default)]
pub struct Table {
    /// When it closes, by the clock that is never stepped.
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
    pub tables: [Option<Table>; NODES],
    /// How long a heal packet takes to each node; `None` where it never comes.
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
            tables: Default::default(),
            packets_take: [Some(Duration::ZERO); NODES],
            under_way: Vec::new(),
            stopped: [false; NODES],
        }
    }
    /// By a clock that is never stepped, as the operator's was when it wrote the schedule.
    pub fn now(&self) -> Timestamp {
        self.begun.0 + self.running
    }
    fn wall(&self, node: usize) -> Timestamp {
        self.now() + self.ahead[node]
    }
    fn gate(&self, node: usize) -> Option<Duration> {
        self.tables[node].as_ref()?.gate.filter(|ends| *ends > self.running)
    }
    pub fn cuts(&self, node: usize) -> bool {
        let wall = self.wall(node);
        let windows = self.tables[node].iter().flat_map(|t| &t.windows);
        self.gate(node).is_some() && windows.into_iter().any(|w| w.from <= wall && wall < w.to)
    }
    /// To the next tick.
    pub fn go_on(&mut self) {
        self.running += TICK;
        self.arrive();
    }
    /// One datagram to everybody.
    pub fn heal_packets(&mut self) {
        let takes = self.packets_take.iter().enumerate();
        self.under_way.extend(takes.filter_map(|(node, takes)| Some((self.running + (*takes)?, node))));
        self.arrive();
    }
    /// What has come by now does its work.
    fn arrive(&mut self) {
        let all = std::mem::take(&mut self.under_way).into_iter();
        let (there, under_way): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= self.running);
        self.under_way = under_way;
        for (_, node) in there {
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
}

impl Firewall for Kernel {
    fn arm(&mut self, _: &TableSpec, gate: Duration) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let gate = Some(world.running + gate);
        world.tables[self.node] = Some(Table { gate, ..Default::default() });
        Ok(())
    }
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let (open, ends) = (world.gate(self.node).is_some(), world.running + gate);
        match &mut world.tables[self.node] {
            None => Err(netfilter::Error::NoTable { table: table.into() }),
            Some(_) if !open => Err(netfilter::Error::GateClosed { table: table.into() }),
            Some(table) => {
                (table.gate, table.windows) = (Some(ends), windows.to_vec());
                Ok(())
            }
        }
    }
    fn close_gate(&mut self, table: &str) -> Result<(), netfilter::Error> {
        let mut world = self.world();
        let own = world.tables[self.node].as_mut();
        own.map(|t| t.gate = None).ok_or(netfilter::Error::NoTable { table: table.into() })
    }
    fn remove(&mut self, _: &str) -> Result<(), netfilter::Error> {
        self.world().tables[self.node] = None;
        Ok(())
    }
    fn tables(&mut self) -> Result<Vec<String>, netfilter::Error> {
        Ok(self.world().tables[self.node].iter().map(|_| TABLE.to_owned()).collect())
    }
    fn state(&mut self, _: &str) -> Result<Option<TableState>, netfilter::Error> {
        let world = self.world();
        let gate = world.gate(self.node).map(|ends| ends - world.running);
        Ok(world.tables[self.node].as_ref().map(|t| TableState {
            gate,
            windows: t.windows.len(),
            heal_packets: t.heal_packets,
            ..Default::default()
        }))
    }
    fn send_heal(&mut self, addresses: &[IpAddr], _: &TableSpec) -> std::io::Result<usize> {
        self.world().heal_packets();
        Ok(addresses.len())
    }
    fn now(&self) -> (Timestamp, Instant) {
        let world = self.world();
        (world.wall(self.node), world.begun.1 + world.running)
    }
}
