//! Which nodes a lab has and in which racks, as plain data.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lab::RACK_LABEL;

/// What stands in which rack. etcd runs on the masters, unless it has containers of its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Three racks with one master and one worker each
    #[default]
    ThreeRacks,
    /// Two racks with one master and one worker each; etcd outside of Kubernetes, a member in each rack and a witness in a third
    TwoRacksExternalEtcd,
    /// Five racks with one master each that also runs workloads; no workers
    FiveRacks,
    /// One master, and three racks with one worker each; no load balancer
    OneMaster,
    /// Two racks with one master and one worker each: two members of etcd, so neither may be lost
    TwoMasters,
    /// Both masters in the first of two racks, and one worker in each
    TwoMastersOneRack,
    /// Two masters in the first of two racks, the third in the other, and one worker in each
    ThreeMastersTwoRacks,
}

/// The rack of each machine.
#[derive(Debug)]
pub struct Plan {
    pub masters: &'static [&'static str],
    pub workers: &'static [&'static str],
    /// Members of etcd in containers that are no Kubernetes nodes; empty where etcd runs on the masters.
    pub etcd: &'static [&'static str],
}

impl Topology {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    #[must_use]
    pub fn plan(self) -> Plan {
        match self {
            Topology::ThreeRacks => Plan { masters: &["r1", "r2", "r3"], workers: &["r1", "r2", "r3"], etcd: &[] },
            Topology::TwoRacksExternalEtcd => {
                Plan { masters: &["r1", "r2"], workers: &["r1", "r2"], etcd: &["r1", "r2", "r3"] }
            }
            // Ten nodes would fit into memory, but two cores have enough to do with five control planes.
            Topology::FiveRacks => Plan { masters: &["r1", "r2", "r3", "r4", "r5"], workers: &[], etcd: &[] },
            Topology::OneMaster => Plan { masters: &["r1"], workers: &["r1", "r2", "r3"], etcd: &[] },
            Topology::TwoMasters => Plan { masters: &["r1", "r2"], workers: &["r1", "r2"], etcd: &[] },
            Topology::TwoMastersOneRack => Plan { masters: &["r1", "r1"], workers: &["r1", "r2"], etcd: &[] },
            Topology::ThreeMastersTwoRacks => Plan { masters: &["r1", "r1", "r2"], workers: &["r1", "r2"], etcd: &[] },
        }
    }
}

impl Plan {
    /// How many nodes Kubernetes has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.masters.len() + self.workers.len()
    }

    /// Every rack, once.
    #[must_use]
    pub fn racks(&self) -> Vec<&'static str> {
        let mut racks = [self.masters, self.workers, self.etcd].concat();
        racks.sort_unstable();
        racks.dedup();
        racks
    }

    /// kind puts a load balancer in front of several API servers, and only of several.
    #[must_use]
    pub fn has_balancer(&self) -> bool {
        self.masters.len() > 1
    }

    /// Where there are no workers, masters have to run workloads, or nothing could.
    #[must_use]
    pub fn masters_work(&self) -> bool {
        self.workers.is_empty()
    }

    /// The nodes as kind takes them, masters first: kind numbers them by role, in this order.
    #[must_use]
    pub fn kind_nodes(&self) -> Vec<Value> {
        let node = |role: &'static str| move |rack: &&str| json!({"role": role, "labels": {RACK_LABEL: rack}});
        let masters = self.masters.iter().map(node("control-plane"));
        masters.chain(self.workers.iter().map(node("worker"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_records() {
        for topology in Topology::value_variants() {
            assert_eq!(json!(topology), json!(topology.name()));
        }
    }

    #[test]
    fn workloads_find_a_node_in_every_rack_but_a_witness_has_its_own() {
        for topology in Topology::value_variants() {
            let plan = topology.plan();
            let working = if plan.masters_work() { plan.masters } else { plan.workers };
            let idle: Vec<_> = plan.racks().into_iter().filter(|rack| !working.contains(rack)).collect();
            let witness: &[&str] = if plan.etcd.is_empty() { &[] } else { &["r3"] };
            assert_eq!(idle, witness, "{}", topology.name());
        }
    }

    #[test]
    fn one_api_server_has_no_balancer() {
        for topology in Topology::value_variants() {
            assert_eq!(topology.plan().has_balancer(), *topology != Topology::OneMaster);
        }
    }
}
