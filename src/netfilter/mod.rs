//! The only room that speaks to the kernel: one nftables table for each run, and the packet that heals it.

mod decode;
mod error;
mod expr;
mod handle;
mod heal;
mod interval;
mod numbers;
mod socket;
mod state;
mod table;
mod wire;

pub use error::Error;
pub use handle::Netfilter;
pub use heal::{heal_packet, send_heal};

use ipnet::IpNet;
use jiff::Timestamp;
use std::time::Duration;

/// What one node needs to know to be cut: whose packets it drops, and how it is healed.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// Name of the table, from [`crate::api::table_name`].
    pub name: String,
    /// Source addresses to drop, both families, in any order; overlaps are merged.
    pub sources: Vec<IpNet>,
    /// UDP destination port of heal packets.
    pub heal_port: u16,
    /// The run's secret: the first 16 bytes of a heal packet's payload.
    pub heal_token: [u8; 16],
}

/// A time in which the cut has effect, by the node's wall clock: `from` belongs to it, `to` does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeWindow {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What the kernel says about a table of ours.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TableState {
    /// Time until the gate closes by itself. `None`: it is closed, and nothing in the table has effect.
    pub gate: Option<Duration>,
    /// Windows loaded; zero until the cut.
    pub windows: usize,
    /// Packets dropped since the table was armed, both families.
    pub dropped_packets: u64,
    /// Heal packets with the right token since the table was armed.
    pub heal_packets: u64,
}
