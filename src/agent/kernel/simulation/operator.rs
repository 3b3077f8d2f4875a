//! An operator that is there or not, and the object it writes: its real decisions.

use super::*;

/// The object, and an operator that is there or not.
pub struct Operator {
    pub run: RackPartition,
    /// Agents and plan are deleted.
    pub removed: bool,
    pub over: bool,
    gone: bool,
    /// What the object asked of agents at each tick.
    pub orders: Vec<Order>,
    /// By how much its wall clock is ahead.
    pub ahead: SignedDuration,
    pub away_until: usize,
    pub writes_from: usize,
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
        let (orders, ahead) = (Vec::new(), SignedDuration::ZERO);
        Operator { run, removed: false, over: false, gone: false, orders, ahead, away_until: 0, writes_from: 0 }
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

    /// As [`crate::operator`] goes on from the objects alone, with the same words.
    pub fn step(&mut self, tick: usize, world: &Mutex<World>, nodes: &[Node]) {
        if tick < self.away_until || self.over {
            return;
        }
        let now = world.lock().unwrap().now() + self.ahead;
        let names: Vec<String> = (0..NODES).map(|n| n.to_string()).collect();
        let records: Vec<NodeRecord> = names.iter().zip(nodes).map(|(name, node)| record(name, &node.said)).collect();
        let nodes = Nodes { names: names.iter().map(String::as_str).collect(), records: &records };
        let status = self.run.status.clone().unwrap();
        let status = RackPartitionStatus { agents: Some(nodes.count(&status)), ..status };
        let next = match (course::due(&self.run), self.phase()) {
            (Due::Nothing | Due::Hold, _) => unreachable!("it begins with a finalizer, and is over without"),
            (Due::WindUp, _) => return self.wind_up(tick, world, &nodes, now),
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
            (_, Phase::Recovering) => course::after(status, &nodes, f64::INFINITY, Ok(None), now),
            _ => Next::phase(nodes.healed(status, now), Phase::Done, "Judged", "judged"),
        };
        if next.heal {
            world.lock().unwrap().heal_packets();
        }
        if next.is(Phase::Cut) && self.phase() == Phase::Scheduled {
            let schedule = next.status.schedule.as_ref().unwrap();
            let have_loaded =
                records.iter().all(|r| r.status.as_ref().unwrap().loaded_cut_at.as_ref() == Some(&schedule.cut_at));
            assert!(have_loaded, "cut, and not every node had said that it is ready");
        }
        self.write(tick, next.status);
    }

    fn wind_up(&mut self, tick: usize, world: &Mutex<World>, nodes: &Nodes<'_>, now: Timestamp) {
        let status = nodes.healed(self.run.status.clone().unwrap(), now);
        let deleted = self.run.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let waits = !nodes.holding().is_empty() && now < course::deadline(&status, deleted, now);
        if waits {
            world.lock().unwrap().heal_packets();
        }
        self.removed |= !waits;
        if self.write(tick, status) && !waits {
            self.over = true;
            self.gone = deleted.is_some();
        }
    }

    /// Whether it arrived.
    fn write(&mut self, tick: usize, status: RackPartitionStatus) -> bool {
        let arrives = tick >= self.writes_from;
        if arrives {
            // As the API gives it back.
            let status = serde_json::to_value(status).unwrap();
            self.run.status = Some(serde_json::from_value(status).unwrap());
        }
        arrives
    }

    /// What the object asks at this tick.
    pub fn ask(&mut self) {
        let seen = if self.gone { Seen::Gone } else { Seen::There(self.run.clone()) };
        self.orders.push(order(&seen, UID));
    }
}

fn record(node: &str, status: &NodeRecordStatus) -> NodeRecord {
    let spec = NodeRecordSpec::new("run", UID, node, Observer::Agent);
    NodeRecord { status: Some(status.clone()), ..NodeRecord::new(node, spec) }
}
