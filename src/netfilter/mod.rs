//! The only room that speaks to the kernel: one nftables table for each run, and the packet that heals it.

mod cut;
mod decode;
mod error;
mod expr;
mod family;
mod handle;
mod heal;
mod interval;
mod numbers;
mod rule;
mod socket;
mod state;
mod table;
mod watch;
mod wire;
mod writer;

pub use error::Error;
pub use handle::Netfilter;
pub use heal::{heal_packet, send_heal};
pub use rule::{Addresses, Effect, Hook, Port, Rule, Transport, Unit};
pub use watch::{Count, Sight, Strangers, Watch, WatchSpec};

/// For the fuzz target: every reader of what the kernel answers, on any bytes.
#[cfg(fuzzing)]
pub fn read_anything(bytes: &[u8]) {
    for message in decode::messages(bytes) {
        let attributes = message.attributes();
        let _ = (message.error(), state::gate(attributes), state::intervals(attributes));
        let _: state::Counters = std::iter::once(state::count(attributes)).collect();
        watch::read_anything(attributes);
    }
}

use jiff::Timestamp;
use std::time::Duration;

/// Index of the loopback interface in every network namespace, `LOOPBACK_IFINDEX` of `net/flow.h`.
const LOOPBACK: u32 = 1;

/// What one node needs to know to be cut: what becomes of which packets, and how it is healed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableSpec {
    /// Name of the table, from [`crate::api::table_name`].
    pub name: String,
    /// In the order in which packets meet them.
    pub rules: Vec<Rule>,
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
    /// Packets hit by an effect (dropped, rejected or lost) since the table was armed, both families, all rules.
    pub dropped_packets: u64,
    /// The same for each rule of the spec, in its order. Ends with the last rule that can hit anything: one that names
    /// [`Addresses::Of`] nobody can't.
    pub rule_packets: Vec<u64>,
    /// Rules of the kernel's in the table: fewer or more than right after arming, and somebody has changed it.
    pub rules: usize,
    /// Heal packets with the right token since the table was armed.
    pub heal_packets: u64,
}
