//! One cluster as data: its files in the cache, and whether what runs is still what was made.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::configuration::configuration;
use crate::engine::Engine;
use crate::image::NodeImage;
use crate::options::Options;
use crate::{cache, kind};

/// Written when a cluster is complete, and only then.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
pub struct Record {
    #[serde(flatten)]
    pub options: Options,
    /// Whether the lab built the node image, and so has to provide the pod network.
    pub built: bool,
    /// Stands for configuration and image.
    pub fingerprint: String,
    /// The ids of the containers: another cluster of the same name has others.
    pub containers: Vec<String>,
}

impl Record {
    /// Whether the cluster of `self` is already what `wanted` says. The load balancer's rack is a note that may change.
    pub fn is(&self, wanted: &Record) -> bool {
        let noted = |record: &Record| Options { balancer_rack: None, ..record.options.clone() };
        noted(self) == noted(wanted)
            && self.built == wanted.built
            && self.fingerprint == wanted.fingerprint
            && self.containers == wanted.containers
    }
}

/// The files of one cluster.
pub struct Files(PathBuf);

impl Files {
    /// Those of the cluster `name`.
    ///
    /// # Errors
    /// When their folder cannot be created.
    pub fn of(name: &str) -> Result<Files> {
        Ok(Files(cache::folder(&format!("clusters/{name}"))?))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("cluster.yaml")
    }

    /// Certificates and keys of an external etcd.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("pki")
    }

    fn record_file(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// The record of a complete cluster, if there is one.
    pub fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record_file()).ok()?).ok()
    }

    pub fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_string_pretty(record)?;
        fs::write(self.record_file(), text).context("failed to record the cluster")
    }

    /// From now on there is no complete cluster of this name.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.record_file());
        let _ = fs::remove_file(self.kubeconfig());
        let _ = fs::remove_dir_all(self.certificates());
    }
}

/// The record that a cluster of these options and this image has now.
///
/// # Errors
/// When the engine does not list its containers.
pub async fn observe(engine: &Engine, name: &str, options: &Options, image: &NodeImage) -> Result<Record> {
    // Without an external etcd's addresses: they belong to its containers, and those are in the record.
    let configuration = configuration(options, image, None)?.to_string();
    let running = kind::containers(engine, name).await?.into_values().filter(|(_, running)| *running);
    let mut containers: Vec<_> = running.map(|(id, _)| id).collect();
    containers.sort();
    let fingerprint = cache::hash([configuration.as_str(), image.reference.as_str()]);
    Ok(Record { options: options.clone(), built: image.built, fingerprint, containers })
}

/// Says no to a cluster of another shape under a name that is taken: somebody may be using what is there.
///
/// # Errors
/// When `record` is of another topology or other address families.
pub fn check_shape(name: &str, record: &Record, wanted: &Options) -> Result<()> {
    if record.options.differs_in_shape(wanted) {
        bail!(
            "{name} is there already, but it is {}, not {}: take it down first with `lab down --name {name}`, \
             or give another --name",
            record.options.shape(),
            wanted.shape()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Profile;
    use crate::topology::Topology;

    fn record(options: Options) -> Record {
        Record { options, built: true, fingerprint: "f".to_owned(), containers: vec!["c".to_owned()] }
    }

    #[test]
    fn a_name_that_is_taken_by_another_shape_is_refused() {
        let there = record(Options { topology: Topology::FiveRacks, ..Options::default() });
        let error = check_shape("demo", &there, &Options::default()).unwrap_err().to_string();
        assert!(error.starts_with("demo is there already, but it is five-racks, not three-racks: "), "{error}");
        assert!(error.contains("lab down --name demo"), "{error}");
        let other_timers = Options { profile: Profile::Upstream, ..there.options.clone() };
        check_shape("demo", &there, &other_timers).unwrap();
    }

    #[test]
    fn a_balancer_that_counts_to_another_rack_is_the_same_cluster() {
        let there = record(Options::default());
        assert!(there.is(&record(Options { balancer_rack: Some("r1".to_owned()), ..Options::default() })));
        assert!(!there.is(&record(Options { profile: Profile::Upstream, ..Options::default() })));
        assert!(!there.is(&Record { containers: vec![], ..record(Options::default()) }));
    }

    #[test]
    fn a_record_survives_its_file() {
        let there = record(Options { dual_stack: true, ..Options::default() });
        let read: Record = serde_json::from_str(&serde_json::to_string(&there).unwrap()).unwrap();
        assert_eq!(read, there);
    }
}
