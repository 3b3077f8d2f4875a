//! What kind of cluster is asked for: the options of `lab up`.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::topology::Topology;

/// The rack of whatever is in none.
pub const OUTSIDE: &str = "outside";

/// The timers of a cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Kubernetes' own
    Upstream,
    /// Shortened for tests, see `lab/profiles/short.yaml`
    #[default]
    Short,
}

impl Profile {
    /// As on the command line and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Upstream => "upstream",
            Profile::Short => "short",
        }
    }
}

/// The default is the lab that tests and demo use.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Options {
    /// The cluster's timers
    #[arg(long, value_enum, default_value_t)]
    pub profile: Profile,
    /// What stands in which rack
    #[arg(long, value_enum, default_value_t)]
    #[serde(default)]
    pub topology: Topology,
    /// IPv4 and IPv6 for nodes, pods and Services
    #[arg(long)]
    #[serde(default)]
    pub dual_stack: bool,
    /// The rack that the API's load balancer counts to, in `lab status` and for tests; `outside` where never given. It can be
    /// changed while the cluster is up
    #[arg(long, value_name = "RACK")]
    #[serde(default)]
    pub balancer_rack: Option<String>,
}

impl Options {
    /// Whether they fit together.
    ///
    /// # Errors
    /// With what to give instead.
    pub fn check(&self) -> Result<()> {
        let Some(rack) = &self.balancer_rack else { return Ok(()) };
        let (plan, name) = (self.topology.plan(), self.topology.name());
        if !plan.has_balancer() {
            bail!("{name} has no load balancer, since it has one API server only: leave --balancer-rack out");
        }
        if rack != OUTSIDE && !plan.racks().contains(&rack.as_str()) {
            bail!("{name} has no rack {rack}: give one of {}, or {OUTSIDE}", plan.racks().join(", "));
        }
        Ok(())
    }

    /// Whether a cluster of these options has other machines or addresses than one of `other`'s.
    #[must_use]
    pub fn differs_in_shape(&self, other: &Options) -> bool {
        (self.topology, self.dual_stack) != (other.topology, other.dual_stack)
    }

    /// Machines and addresses, as in a sentence.
    #[must_use]
    pub fn shape(&self) -> String {
        let families = if self.dual_stack { ", dual stack" } else { "" };
        format!("{}{families}", self.topology.name())
    }

    /// All of it, as in a sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}, {} timers", self.shape(), self.profile.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_balancer(topology: Topology, rack: &str) -> Options {
        Options { topology, balancer_rack: Some(rack.to_owned()), ..Options::default() }
    }

    #[test]
    fn a_balancer_counts_to_a_rack_that_is_there() {
        with_balancer(Topology::ThreeRacks, "r2").check().unwrap();
        with_balancer(Topology::FiveRacks, OUTSIDE).check().unwrap();
        // Only etcd's witness is there, and that makes it a rack.
        with_balancer(Topology::TwoRacksExternalEtcd, "r3").check().unwrap();
        let unknown = with_balancer(Topology::TwoMasters, "r3").check().unwrap_err().to_string();
        assert_eq!(unknown, "two-masters has no rack r3: give one of r1, r2, or outside");
        let none = with_balancer(Topology::OneMaster, "r1").check().unwrap_err().to_string();
        assert!(none.contains("no load balancer"), "{none}");
    }

    #[test]
    fn only_topology_and_families_are_the_shape() {
        let options = Options::default();
        assert!(!options.differs_in_shape(&with_balancer(Topology::ThreeRacks, "r1")));
        assert!(!options.differs_in_shape(&Options { profile: Profile::Upstream, ..Options::default() }));
        assert!(options.differs_in_shape(&Options { dual_stack: true, ..Options::default() }));
        assert!(options.differs_in_shape(&Options { topology: Topology::OneMaster, ..Options::default() }));
    }

    #[test]
    fn what_is_usual_is_not_said() {
        let dual = Options { dual_stack: true, profile: Profile::Upstream, ..Options::default() };
        assert_eq!(dual.describe(), "three-racks, dual stack, upstream timers");
        assert_eq!(Options::default().shape(), "three-racks");
    }

    #[test]
    fn a_record_of_an_older_lab_is_the_default() {
        let old: Options = serde_json::from_str(r#"{"profile": "short"}"#).unwrap();
        assert_eq!(old, Options::default());
    }
}
