//! What can go wrong between this process and nf_tables.

use std::io;

/// Failure of a call to nf_tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open a netlink socket for nf_tables: {0}")]
    Open(#[source] io::Error),
    #[error("failed to get at nf_tables: {0}; the process needs CAP_NET_ADMIN in the network namespace's user namespace")]
    NotPermitted(#[source] io::Error),
    /// Nothing was changed: a heal packet or the gate's own timeout came first.
    #[error("failed to cut by table {table}: its gate is closed already (healed or timed out)")]
    GateClosed { table: String },
    #[error("failed to create table {table}: it exists")]
    TableExists { table: String },
    #[error("failed to find table {table}")]
    NoTable { table: String },
}
