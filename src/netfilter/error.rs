//! What can go wrong between this process and nf_tables.

use super::handle::is;
use rustix::io::Errno;
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

impl Error {
    /// Whether the next call would fail in the same way: there is no nf_tables, or not for this process. All else may pass, as where the
    /// kernel has no memory or no file left, or is busy with an answer that nobody waited for.
    pub fn is_for_good(&self) -> bool {
        match self {
            Error::NotPermitted => true,
            Error::Open(source) => is_lasting(source),
            _ => false,
        }
    }
}

/// What the kernel says of something that it does not have, or that a filter of system calls forbids: socket(2), and EINVAL of
/// `nfnetlink_rcv_msg` (`net/netfilter/nfnetlink.c`) where there is no nf_tables behind the socket.
const LASTING: [Errno; 6] =
    [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL, Errno::PERM, Errno::ACCESS];

pub fn is_lasting(source: &io::Error) -> bool {
    LASTING.iter().any(|errno| is(source, *errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_it_lacks_for_good_and_all_else_may_pass() {
        let open = |errno: Errno| Error::Open(errno.into()).is_for_good();
        assert!(open(Errno::PROTONOSUPPORT) && open(Errno::INVAL) && Error::NotPermitted.is_for_good());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INTR, Errno::BUSY] {
            assert!(!open(errno), "{errno}");
        }
        assert!(!Error::Restless { what: "the rules" }.is_for_good());
    }
}
