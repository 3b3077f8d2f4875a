//! RackPartition: cuts racks of a Kubernetes cluster off the network and says whether the cluster behaved.
//!
//! The rooms, from the middle outwards: [`api`] are the objects; [`topology`], [`fault`], [`predict`], [`course`], [`judge`] and
//! [`report`] are pure; [`netfilter`] speaks to the kernel; [`connection`] reaches API servers during a partition; [`agent`], [`operator`]
//! and [`cli`] have the effects.

pub mod agent;
pub mod api;
pub mod cli;
pub mod connection;
pub mod course;
pub mod fault;
pub mod judge;
pub mod netfilter;
pub mod observe;
pub mod operator;
pub mod predict;
pub mod report;
pub mod topology;
