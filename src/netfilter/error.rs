//! What can go wrong between this process and nf_tables.

use std::{io, time::Duration};

/// Failure of a call to nf_tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket to be had, or behind it no nf_tables.
    #[error("failed to open nf_tables over netlink: {0}")]
    Open(#[source] io::Error),
    #[error(
        "failed to open nf_tables over netlink: the process lacks CAP_NET_ADMIN in the user namespace of its network"
    )]
    NotPermitted,
    /// The node is not cut: a heal packet or the gate's own timeout came first.
    #[error("failed to cut by table {table}: its gate is closed already (healed, or timed out)")]
    GateClosed { table: String },
    #[error("failed to create table {table}: it exists")]
    TableExists { table: String },
    #[error("failed to find table {table}")]
    NoTable { table: String },
    #[error("failed to accept table name {table:?}: it is not `{prefix}` and up to 200 letters, digits or `-`", prefix = crate::api::TABLE_PREFIX)]
    Name { table: String },
    /// The kernel rounds down to its ticks, and reads nothing as for ever.
    #[error("failed to set the gate of table {table} to {gate:?}: it must be {minimum:?} at least")]
    GateTooShort { table: String, gate: Duration, minimum: Duration },
    #[error("failed to use the window from {from} to {to}: it does not run forward")]
    Window { from: jiff::Timestamp, to: jiff::Timestamp },
    #[error("failed to use a loss of {permille} in a thousand packets: it must be 1 to 1000")]
    Loss { permille: u16 },
    /// The transaction failed as a whole; nothing was changed.
    #[error(
        "failed to {verb} table {table}: the kernel refused {what} (message {message} of the transaction): {source}"
    )]
    Refused { verb: &'static str, table: String, what: String, message: usize, source: io::Error },
    #[error("failed to read {what}: {source}")]
    Read { what: &'static str, source: io::Error },
    #[error("failed to exchange {what} with the kernel: {source}")]
    Exchange { what: &'static str, source: io::Error },
    /// Whether a transaction was committed is unknown.
    #[error("failed to hear {what} from the kernel: nothing within {patience:?}")]
    Silence { what: &'static str, patience: Duration },
    #[error("failed to take in {what}: the kernel's answer has {bytes} bytes")]
    TooLong { what: &'static str, bytes: usize },
    #[error("failed to read {what} in one piece: others keep changing the rule set")]
    Restless { what: &'static str },
}
