//! The lab: a real Kubernetes cluster on one machine, six nodes in three racks or another topology, for tests that a pretended
//! one cannot carry.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use e2e::lab::{Lab, Profile};
//! let lab = Lab::up("rackpartition", Profile::Short).await?;
//! lab.gather_leaders("r1").await?;
//! let rules = lab.exec(&lab.nodes()[0].name, &["nft", "list", "ruleset"]).await?;
//! # let _ = rules;
//! # lab.down().await
//! # }
//! ```

pub mod assets;
mod cache;
mod cluster;
mod configuration;
mod endpoints;
pub mod engine;
mod etcd;
mod go;
mod health;
mod host;
mod image;
mod kind;
pub mod lab;
mod leaders;
pub mod moment;
mod network;
pub mod options;
mod pods;
pub mod progress;
mod run;
pub mod selection;
pub mod tools;
pub mod topology;
mod versions;
mod wait;
