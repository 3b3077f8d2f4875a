//! RackPartition: cuts racks of a Kubernetes cluster off the network and says whether the cluster behaved.
//!
//! The rooms, from the middle outwards: [`api`] are the objects; [`topology`], [`fault`], [`predict`], [`judge`] and [`report`]
//! are pure; [`netfilter`] speaks to the kernel; [`connection`] reaches API servers during a partition; [`agent`], [`operator`]
//! and [`cli`] have the effects.

pub mod api;
pub mod fault;
pub mod judge;
pub mod observe;
pub mod predict;
pub mod report;
pub mod topology;
