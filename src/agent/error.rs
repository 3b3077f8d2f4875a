//! What ends an agent, or keeps it from taking part.

use std::{io, path::PathBuf};

/// Failure of an agent's own work. Observers never fail: what they can't see is an observation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the plan {path}: {source}")]
    ReadPlan { path: PathBuf, source: io::Error },
    #[error("failed to parse the plan {path}: {source}")]
    ParsePlan { path: PathBuf, source: serde_json::Error },
    #[error(
        "failed to find this node in the plan: {node} is no member with an agent; the run's node affinity is wrong"
    )]
    NotInPlan { node: String },
    #[error("failed to parse the heal token of the plan: {0}")]
    Token(#[source] std::num::ParseIntError),
    #[error("failed to read the boot id: {0}")]
    BootId(#[source] io::Error),
    #[error("failed to write {path}: {source}; is the state directory a writable mount?")]
    WriteState { path: PathBuf, source: io::Error },
    #[error("failed to read {path}: {source}")]
    ReadState { path: PathBuf, source: io::Error },
    #[error("failed to parse {path}: {source}")]
    ParseState { path: PathBuf, source: serde_json::Error },
    #[error("failed to read the kernel's clock state: {0}")]
    KernelClock(#[source] io::Error),
    #[error("failed to reach an API server: {0}")]
    Route(#[from] crate::connection::Error),
    #[error("failed to {verb} NodeRecord {name}: {source}{hint}")]
    Record { verb: &'static str, name: String, hint: &'static str, source: Box<kube::Error> },
    #[error("failed to {verb} NodeRecord {name}: no answer in time")]
    RecordDeadline { verb: &'static str, name: String },
    #[error("failed to create NodeRecord {name}: there is one of an earlier run of this name, or of another observer")]
    RecordOfEarlierRun { name: String },
}

impl Error {
    /// Whether the disk may give later what it did not give now. Not what is damaged on it, nor what this pod may not read.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Error::ReadState { source, .. } if source.kind() != io::ErrorKind::PermissionDenied)
    }

    /// Says what to do about a refusal, since nobody finds the role of a chart by a bare 403.
    pub(super) fn record(verb: &'static str, name: &str, source: kube::Error) -> Self {
        let forbidden = matches!(&source, kube::Error::Api(status) if status.code == 403);
        let hint = if forbidden { "; the agent's role needs get, watch, create and patch on noderecords" } else { "" };
        Error::Record { verb, name: name.into(), hint, source: Box::new(source) }
    }
}

/// What is underneath an error: clients wrap the one word that matters in several that don't.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_may_work_later_and_what_is_damaged_or_forbidden_stays_so() {
        // EIO, ENOMEM, EMFILE, EACCES.
        for (errno, may_pass) in [(5, true), (12, true), (24, true), (13, false)] {
            let error = Error::ReadState { path: "state.json".into(), source: io::Error::from_raw_os_error(errno) };
            assert_eq!(error.may_pass(), may_pass, "{error}");
        }
        let source = serde_json::from_str::<u8>("{").unwrap_err();
        assert!(!Error::ParseState { path: "state.json".into(), source }.may_pass());
    }
}
