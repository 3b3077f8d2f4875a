//! The lab: a real six-node, three-rack Kubernetes cluster on one machine, for tests that a pretended one cannot carry.
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
pub mod engine;
mod go;
mod health;
mod host;
mod image;
mod kind;
pub mod lab;
mod leaders;
mod pods;
pub mod progress;
mod run;
pub mod tools;
mod versions;
mod wait;
