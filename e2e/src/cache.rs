//! What the lab builds, kept outside the work tree by the hash of its inputs, and the locks that make that safe.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::progress;

/// `$RACKPARTITION_CACHE`, else `rackpartition` in the user's cache folder.
///
/// # Errors
/// When neither it nor a home folder is known.
pub fn root() -> Result<PathBuf> {
    let known = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    known("RACKPARTITION_CACHE")
        .or_else(|| known("XDG_CACHE_HOME").map(|folder| folder.join("rackpartition")))
        .or_else(|| known("HOME").map(|folder| folder.join(".cache/rackpartition")))
        .context("no place to cache: set RACKPARTITION_CACHE to a folder")
}

/// A folder of the cache, created if need be.
///
/// # Errors
/// When it cannot be created.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = root()?.join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("failed to create {}", path.display()))?;
    Ok(path)
}

/// A file or folder of `e2e/lab`, where pinned modules, image recipes and profiles are kept.
pub fn data(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(path)
}

/// The text of a file of `e2e/lab`.
///
/// # Errors
/// When it cannot be read, for instance because the work tree that built this program is gone.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let file = data(path);
    std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))
}

/// Twelve hex digits that stand for `inputs`, in order.
pub fn hash<I: IntoIterator<Item = S>, S: AsRef<[u8]>>(inputs: I) -> String {
    let mut hasher = Sha256::new();
    for input in inputs {
        let input = input.as_ref();
        hasher.update((input.len() as u64).to_be_bytes());
        hasher.update(input);
    }
    hasher.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Held until dropped; the kernel frees it when the holder is killed.
#[must_use]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Keeps other labs of this machine from doing the same at the same time.
///
/// # Errors
/// When another one still holds it after half an hour.
pub async fn lock(name: &str) -> Result<Lock> {
    let path = folder("locks")?.join(name);
    let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    let deadline = Instant::now() + Duration::from_secs(30 * 60);
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::Error(error)) => return Err(error).context("failed to lock the cache"),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                bail!("another lab has held {} for half an hour: end it and try again", path.display())
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            progress::step(format!("waiting for another lab that holds {}", path.display()));
            told = true;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_where_one_input_ends() {
        assert_eq!(hash(["ab", "c"]).len(), 12);
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
