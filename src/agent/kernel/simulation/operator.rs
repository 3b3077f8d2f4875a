//! An operator that is there or not, now and then a second one at the same time, and the object they write: their real decisions.

use super::*;

/// The object, and an operator that is there or not.
pub struct Operator {
    pub run: RackPartition,
    /// Changes with the object: a write that names another one does not arrive.
    version: u64,
    /// Agents and plan are deleted.
    pub removed: bool,
    pub over: bool,
    gone: bool,
    /// Somebody asked for its end, and it had not ended.
    pub is_to_end: bool,
    /// What the object asked of agents at each tick.
    pub orders: Vec<Order>,
    /// By how much its wall clock is ahead.
    ahead: SignedDuration,
    /// When this process first saw the schedule.
    seen: course::steady::Seen,
    /// It has ever gone by a wrong time.
    pub was_wrong: bool,
    away_until: usize,
    pub writes_from: usize,
    /// A second one that leads as well: when it does what follows from what it has read.
    second: Option<(usize, Look)>,
}

impl Operator {
    pub fn new(begun: Timestamp) -> Self {
        let run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": {"name": "run", "uid": UID, "finalizers": [FINALIZER]},
            "spec": {"cut": {"isolate": {"racks": ["r1"]}}, "duration": "30s", "recovery": "40s"},
            "status": {"phase": "Arming"},
        });
        let mut run: RackPartition = serde_json::from_value(run).unwrap();
        let conditions = &mut run.status.as_mut().unwrap().conditions;
        conditions::set(conditions, conditions::ARMED, "False", "Arming", "", None, begun);
        Operator {
            run,
            version: 0,
            removed: false,
            over: false,
            gone: false,
            is_to_end: false,
            orders: Vec::new(),
            ahead: SignedDuration::ZERO,
            seen: course::steady::Seen::new(),
            was_wrong: false,
            away_until: 0,
            writes_from: 0,
            second: None,
        }
    }

    pub fn phase(&self) -> Phase {
        self.run.status.as_ref().and_then(|s| s.phase).expect("it begins with one")
    }

    pub fn says_healed(&self) -> bool {
        let conditions = self.run.status.iter().flat_map(|s| &s.conditions);
        conditions.into_iter().any(|c| c.type_ == conditions::HEALED && c.status == "True")
    }

    pub fn cut_at(&self) -> Option<Timestamp> {
        Some(self.run.status.as_ref()?.schedule.as_ref()?.cut_at.0)
    }

    pub fn is_there(&self, tick: usize) -> bool {
        tick >= self.away_until && !self.over
    }

    /// Its process is gone until this tick, and the next one has seen nothing.
    pub fn go_away(&mut self, until: usize) {
        (self.away_until, self.seen) = (until, course::steady::Seen::new());
    }

    pub fn step_clock(&mut self, by: SignedDuration) {
        self.ahead += by;
    }

    /// The time it goes by (`operator/steady.rs`). It runs on a machine that never stands still.
    fn time(&mut self, now: Timestamp) -> Timestamp {
        let wall = now + self.ahead;
        let moment = Moment { boot_us: now.as_microsecond(), wall: MicroTime(wall) };
        let time = self.cut_at().map_or(wall, |cut_at| self.seen.now(cut_at, &moment));
        self.was_wrong |= time != now;
        time
    }

    /// Somebody sets what is to end the run.
    pub fn ask_to_end(&mut self, ask: impl FnOnce(&mut RackPartition)) {
        ask(&mut self.run);
        self.version += 1;
        self.is_to_end |= !self.phase().is_final();
    }

    /// A second operator reads all that there is, and is held until this tick. It has looked at the clock `then`, or does so when it goes
    /// on.
    pub fn lead_twice(&mut self, until: usize, then: Option<Timestamp>, nodes: &[Node]) {
        if !self.over {
            self.second = Some((until, self.look(nodes, then)));
        }
    }

    fn look(&self, nodes: &[Node], then: Option<Timestamp>) -> Look {
        let records = nodes.iter().enumerate().map(|(i, node)| record(&i.to_string(), &node.said)).collect();
        Look { run: self.run.clone(), version: self.version, records, then }
    }

    /// What operators do at this tick.
    pub fn step(&mut self, tick: usize, world: &Mutex<World>, nodes: &[Node]) {
        let now = world.lock().unwrap().now();
        if let Some((_, look)) = self.second.take_if(|(at, _)| *at <= tick) {
            self.act(look.version, look.decide(look.then.unwrap_or(now)), true, world);
        }
        if self.is_there(tick) {
            let now = self.time(now);
            let decided = self.look(nodes, None).decide(now);
            self.act(self.version, decided, tick >= self.writes_from, world);
        }
    }

    /// What it writes may arrive or not; all else is done, whatever has become of the object since.
    fn act(&mut self, version: u64, decided: Decided, arrives: bool, world: &Mutex<World>) {
        let Decided { status, heals, removes } = decided;
        world.lock().unwrap().heal_packets(None, heals);
        self.removed |= removes;
        if !arrives || version != self.version {
            return;
        }
        // As the API gives it back.
        let status: RackPartitionStatus = serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap();
        self.version += u64::from(self.run.status.as_ref() != Some(&status));
        self.run.status = Some(status);
        if removes {
            (self.over, self.gone) = (true, self.run.metadata.deletion_timestamp.is_some());
            // Its finalizer.
            self.version += 1;
        }
    }

    /// What the object asks at this tick.
    pub fn ask(&mut self) {
        let seen = if self.gone { Seen::Gone } else { Seen::There(self.run.clone()) };
        self.orders.push(order(&seen, UID));
    }
}

/// What an operator has read, and when by its own clock where that is settled.
struct Look {
    run: RackPartition,
    version: u64,
    records: Vec<NodeRecord>,
    then: Option<Timestamp>,
}

/// What it does about it.
struct Decided {
    status: RackPartitionStatus,
    /// The nodes to which heal packets go.
    heals: Vec<usize>,
    /// Agents and plan are deleted.
    removes: bool,
}

impl Look {
    /// As [`crate::operator`] goes on from the objects alone, with the same words.
    fn decide(&self, now: Timestamp) -> Decided {
        let names: Vec<String> = (0..NODES).map(|n| n.to_string()).collect();
        let nodes = Nodes { names: names.iter().map(String::as_str).collect(), records: &self.records };
        let was = self.run.status.clone().unwrap();
        let phase = was.phase.expect("it begins with one");
        let status = RackPartitionStatus { agents: Some(nodes.count(&was)), ..was };
        let next = match (course::due(&self.run), phase) {
            (Due::Nothing | Due::Hold, _) => unreachable!("it begins with a finalizer, and is over without"),
            (Due::WindUp, _) => return self.wind_up(&nodes, now),
            (Due::Abort(why), _) => course::aborted(status, why, now),
            (_, Phase::Arming) => match nodes.given_up() {
                Some((node, why)) => course::refused(status, format!("{node}: {why}"), now),
                None => {
                    let waits = nodes.unarmed(Some(&"hash".to_owned())).map(|node| ("AgentsMissing", node.to_owned()));
                    course::arming(&self.run.spec, status, waits, ARM_DEADLINE.as_secs_f64(), now)
                }
            },
            (_, Phase::Scheduled) => course::before(status, &nodes, now),
            (_, Phase::Cut) => course::during(status, &nodes, now),
            (_, Phase::Recovering) => course::after(nodes.healed(status, now), f64::INFINITY, Ok(None), now),
            _ => Next::phase(nodes.healed(status, now), Phase::Done, "Judged", "judged"),
        };
        if next.is(Phase::Cut) && phase == Phase::Scheduled {
            let schedule = next.status.schedule.as_ref().unwrap();
            let has_loaded =
                |r: &NodeRecord| r.status.as_ref().unwrap().loaded_cut_at.as_ref() == Some(&schedule.cut_at);
            assert!(self.records.iter().all(has_loaded), "cut, and not every node had said that it is ready");
        }
        let mut heals = everybody(next.heal);
        if matches!(phase, Phase::Recovering | Phase::Judging) {
            let overdue = nodes.overdue(self.run.status.as_ref().unwrap(), now);
            heals.extend(overdue.into_iter().map(|node| node.parse::<usize>().unwrap()));
        }
        Decided { status: next.status, heals, removes: false }
    }

    fn wind_up(&self, nodes: &Nodes<'_>, now: Timestamp) -> Decided {
        let status = nodes.healed(self.run.status.clone().unwrap(), now);
        let deleted = self.run.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let waits = !nodes.holding(&status).is_empty() && now < course::deadline(&status, deleted, now);
        Decided { status, heals: everybody(waits), removes: !waits }
    }
}

fn everybody(is_told: bool) -> Vec<usize> {
    (0..NODES).filter(|_| is_told).collect()
}

fn record(node: &str, status: &NodeRecordStatus) -> NodeRecord {
    let spec = NodeRecordSpec::new("run", UID, node, Observer::Agent);
    NodeRecord { status: Some(status.clone()), ..NodeRecord::new(node, spec) }
}
