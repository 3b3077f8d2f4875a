//! Store: at which revisions the members of etcd hash what they hold, so that the judge can compare.
//!
//! Two members are comparable at one revision only, and each agent talks to its own member only, so somebody has to name it. The run's
//! own version is a revision of etcd, and every agent reads the run anyway: the version at which the operator first sees the run healed is
//! newer than all that was written in the cut, every member that follows the leader gets there, and API servers keep it for five minutes
//! at least (`--etcd-compaction-interval`).

use crate::{
    api::{RackPartition, RackPartitionStatus, StoreRevisions},
    operator::settings::AgentSettings,
};
use kube::ResourceExt;

/// The status of a run that is armed: with the revision of before the cut, unless there is one, or agents don't read etcd.
pub fn armed(run: &RackPartition, agent: &AgentSettings, status: RackPartitionStatus) -> RackPartitionStatus {
    named(run, agent, status, |known, version| StoreRevisions { before: known.before.or(Some(version)), ..known })
}

/// The same of a run that is healed.
pub fn healed(run: &RackPartition, agent: &AgentSettings, status: RackPartitionStatus) -> RackPartitionStatus {
    named(run, agent, status, |known, version| StoreRevisions { after: known.after.or(Some(version)), ..known })
}

fn named(
    run: &RackPartition,
    agent: &AgentSettings,
    status: RackPartitionStatus,
    with: fn(StoreRevisions, i64) -> StoreRevisions,
) -> RackPartitionStatus {
    let version: Option<i64> = run.resource_version().and_then(|version| version.parse().ok());
    match version.filter(|_| !agent.etcd_certificates.is_empty()) {
        None => status,
        Some(version) => {
            let known = status.store_revisions.unwrap_or_default();
            RackPartitionStatus { store_revisions: Some(with(known, version)), ..status }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(version: &str) -> RackPartition {
        let spec = serde_json::json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        let mut run = RackPartition::new("run", serde_json::from_value(spec).unwrap());
        run.metadata.resource_version = Some(version.into());
        run
    }
    fn agent(etcd_certificates: &str) -> AgentSettings {
        AgentSettings { etcd_certificates: etcd_certificates.into(), ..AgentSettings::plain() }
    }

    #[test]
    fn the_first_version_of_each_phase_is_the_revision() {
        let agent = agent("/etc/kubernetes/pki/etcd");
        let mut status = RackPartitionStatus::default();
        for version in ["100", "101"] {
            status = armed(&run(version), &agent, status);
        }
        assert_eq!(status.store_revisions, Some(StoreRevisions { before: Some(100), after: None }));
        for version in ["200", "201"] {
            status = healed(&run(version), &agent, status);
        }
        assert_eq!(status.store_revisions, Some(StoreRevisions { before: Some(100), after: Some(200) }));
    }

    #[test]
    fn nothing_is_asked_of_agents_that_do_not_read_etcd() {
        let status = RackPartitionStatus::default();
        assert_eq!(healed(&run("200"), &agent(""), status.clone()), status);
        assert_eq!(healed(&run("opaque"), &agent("/etc/etcd"), status.clone()), status, "not a revision");
    }
}
