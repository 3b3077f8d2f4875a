//! One cluster as data: its configuration, its files in the cache, and whether what runs is still what was made.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::image::NodeImage;
use crate::lab::Profile;
use crate::{cache, kind};

/// Written when a cluster is complete, and only then.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
pub struct Record {
    pub profile: Profile,
    /// Whether the lab built the node image, and so has to provide the pod network.
    pub built: bool,
    /// Stands for configuration and image.
    pub fingerprint: String,
    /// The ids of the containers: another cluster of the same name has others.
    pub containers: Vec<String>,
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
    }
}

/// What kind is told.
///
/// # Errors
/// When a file of `e2e/lab` is gone or malformed.
pub fn configuration(profile: Profile, image: &NodeImage) -> Result<Value> {
    let parse = |file: &str| -> Result<Value> {
        serde_saphyr::from_str(&cache::read(file)?).with_context(|| format!("failed to parse lab/{file}"))
    };
    let mut cluster = parse("cluster.yaml")?;
    let timers = parse(&format!("profiles/{}.yaml", profile.name()))?;
    let patches = cluster["kubeadmConfigPatches"].as_array_mut().context("lab/cluster.yaml has no patches")?;
    patches.extend(timers["kubeadmConfigPatches"].as_array().cloned().unwrap_or_default());
    if image.built {
        cluster["networking"]["disableDefaultCNI"] = json!(true);
    }
    Ok(cluster)
}

/// The record that a cluster of this configuration and image has now.
///
/// # Errors
/// When the engine does not list its containers.
pub async fn observe(engine: &Engine, name: &str, profile: Profile, image: &NodeImage) -> Result<Record> {
    let configuration = configuration(profile, image)?.to_string();
    let running = kind::containers(engine, name).await?.into_values().filter(|(_, running)| *running);
    let mut containers: Vec<_> = running.map(|(id, _)| id).collect();
    containers.sort();
    let fingerprint = cache::hash([configuration.as_str(), image.reference.as_str()]);
    Ok(Record { profile, built: image.built, fingerprint, containers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_adds_its_patches_and_a_built_image_brings_no_network() {
        let pulled = NodeImage { reference: "pulled".to_owned(), built: false };
        let built = NodeImage { reference: "built".to_owned(), built: true };
        let upstream = configuration(Profile::Upstream, &pulled).unwrap();
        let short = configuration(Profile::Short, &built).unwrap();
        let patches = |value: &Value| value["kubeadmConfigPatches"].as_array().unwrap().len();
        assert_eq!((patches(&upstream), patches(&short)), (2, 5));
        assert_eq!(upstream["networking"]["disableDefaultCNI"], Value::Null);
        assert_eq!(short["networking"]["disableDefaultCNI"], Value::Bool(true));
        assert_eq!(short["nodes"].as_array().unwrap().len(), 6);
    }
}
