//! What a prediction is made from.

use super::timers::Known;
use crate::{
    api::{Prospect, Side},
    fault::Fault,
    topology::Snapshot,
};

/// A cluster, a cut of it, and how long that lasts.
pub struct Scene<'a> {
    pub snapshot: &'a Snapshot,
    pub fault: &'a Fault,
    pub sides: &'a [Side],
    /// Length of the cut, seconds.
    pub duration: f64,
    /// Timers that not every snapshot has.
    pub known: Known,
}

impl<'a> Scene<'a> {
    pub fn new(snapshot: &'a Snapshot, fault: &'a Fault, sides: &'a [Side], duration: f64) -> Self {
        Scene { snapshot, fault, sides, duration, known: Known::of(&snapshot.timers) }
    }

    /// etcd's election timeout, seconds.
    pub fn election(&self) -> f64 {
        self.snapshot.timers.etcd_election.seconds
    }

    /// Sides whose nodes may reach no API server that can write.
    pub fn losing(&self) -> impl Iterator<Item = &'a Side> {
        self.sides.iter().filter(|s| s.served != Prospect::Yes)
    }

    /// Whether some side may be able to write while the cut lasts: somebody who marks nodes, evicts pods and takes Leases.
    pub fn may_be_written(&self) -> bool {
        !Side::most_writable(self.sides).is_empty()
    }
}
