//! What one run keeps on the node's disk: the state that forbids a second arming, and the journal.

use super::{Error, decide::Persisted};
use crate::api::NodeRecordStatus;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

const STATE: &str = "state.json";
const JOURNAL: &str = "journal.json";

/// The directory of one run below the state directory, made when something is written.
#[derive(Clone, Debug)]
pub struct Store {
    state_dir: PathBuf,
    directory: PathBuf,
}

impl Store {
    /// That of `run_uid`.
    pub fn open(state_dir: &Path, run_uid: &str) -> Self {
        Store { state_dir: state_dir.into(), directory: state_dir.join(run_uid) }
    }

    /// Removes what other runs left behind, and nothing that does not look like a run's directory.
    pub fn sweep(&self) {
        for entry in fs::read_dir(&self.state_dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_run = path.join(STATE).is_file() || path.join(JOURNAL).is_file();
            if is_run
                && path != self.directory
                && let Err(error) = fs::remove_dir_all(&path)
            {
                tracing::warn!(%error, path = %path.display(), "failed to remove what another run left");
            }
        }
    }

    /// What an earlier process of this run wrote down; the default where there was none.
    ///
    /// # Errors
    /// [`Error::ReadState`] where the disk does not give it, and may later; [`Error::ParseState`] where what it gives is damaged: then
    /// nobody will ever know whether this node was armed.
    pub fn state(&self) -> Result<Persisted, Error> {
        Ok(self.load(STATE)?.unwrap_or_default())
    }

    /// Writes the state down so that it survives a power failure: the file, its name and its directory.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write_state(&self, state: &Persisted) -> Result<(), Error> {
        self.write(STATE, state, true)
    }

    /// What an earlier process of this run saw. An unreadable journal is lost evidence and no reason to stop.
    pub fn journal(&self) -> Option<NodeRecordStatus> {
        self.load(JOURNAL).unwrap_or_else(|error| {
            tracing::warn!(%error, "the journal is lost");
            None
        })
    }

    /// Replaces the journal. It survives this process, and not a power failure, which makes another boot anyway.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write_journal(&self, status: &NodeRecordStatus) -> Result<(), Error> {
        self.write(JOURNAL, status, false)
    }

    fn load<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, Error> {
        let path = self.directory.join(file);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| Error::ReadState { path: path.clone(), source })?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::ParseState { path, source })
    }

    fn write<T: Serialize>(&self, file: &str, value: &T, durable: bool) -> Result<(), Error> {
        let path = self.directory.join(file);
        let replace = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let next = path.with_extension("next");
            let mut target = fs::File::create(&next)?;
            target.write_all(&serde_json::to_vec(value)?)?;
            if durable {
                target.sync_all()?;
            }
            fs::rename(&next, &path)?;
            if durable {
                fs::File::open(&self.directory)?.sync_all()?;
                fs::File::open(&self.state_dir)?.sync_all()?;
            }
            Ok(())
        };
        replace().map_err(|source| Error::WriteState { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_journal_come_back_and_other_runs_go() {
        let dir = tempfile::tempdir().unwrap();
        let old = Store::open(dir.path(), "old-run");
        old.write_state(&Persisted::default()).unwrap();
        fs::create_dir(dir.path().join("not-ours")).unwrap();

        let store = Store::open(dir.path(), "run");
        assert_eq!(store.state().unwrap(), Persisted::default());
        let state = Persisted { armed: true, boot_id: "b".into(), ..Default::default() };
        store.write_state(&state).unwrap();
        let journal = NodeRecordStatus { message: Some("seen".into()), ..Default::default() };
        store.write_journal(&journal).unwrap();

        let again = Store::open(dir.path(), "run");
        assert_eq!((again.state().unwrap(), again.journal()), (state, Some(journal)));
        assert!(dir.path().join("old-run").exists(), "not before the run was read");
        again.sweep();
        assert!(again.state().unwrap().armed);
        assert!(!dir.path().join("old-run").exists());
        assert!(dir.path().join("not-ours").exists());
    }

    #[test]
    fn a_state_that_cannot_be_read_is_an_error_and_a_journal_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), "run");
        store.write_state(&Persisted::default()).unwrap();
        fs::write(dir.path().join("run").join(STATE), "{").unwrap();
        fs::write(dir.path().join("run").join(JOURNAL), "{").unwrap();
        assert!(matches!(store.state(), Err(Error::ParseState { .. })));
        assert_eq!(store.journal(), None);
        // No file that anybody could read.
        fs::remove_file(dir.path().join("run").join(STATE)).unwrap();
        fs::create_dir(dir.path().join("run").join(STATE)).unwrap();
        assert!(matches!(store.state(), Err(Error::ReadState { .. })));
    }
}
