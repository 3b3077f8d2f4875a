//! Looks into the logs of this node's etcd and API server, where the cluster's owner lets agents do so, for the one panic that tells of a
//! store whose bytes are broken.

use super::journal::Journal;
use crate::{
    api::{STORE_PANIC, SpanKind},
    observe::{Observation, now},
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

/// What a key and its value say that can't be read (`server/storage/mvcc/kvstore.go`, `kvstore_txn.go` and `watchable_store.go`).
const PANIC: &str = "failed to unmarshal mvccpb.KeyValue";
/// Components and the beginning of the folders of their pods (`pkg/kubelet/kuberuntime`, BuildPodLogsDirectory), with the `-` that a
/// mirror pod has before its node's name.
const COMPONENTS: [(&str, &str); 2] =
    [("kube-apiserver", "kube-system_kube-apiserver-"), ("etcd", "kube-system_etcd-")];
/// Between two looks: a panic stays in the log.
const PERIOD: Duration = Duration::from_secs(5);
/// Bytes of one log in one look; the rest comes with the next.
const MOST: u64 = 8 << 20;

/// Writes down every panic of that kind from now on. `folder` has the logs of this node's pods. Never returns.
pub async fn watch(folder: PathBuf, journal: Journal) {
    let mut logs = Logs::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        for component in block_in_place(|| logs.look(&folder)) {
            journal.observe(SpanKind::Store, now(), Observation::new(STORE_PANIC, component).detail(PANIC));
        }
    }
}

/// How far each log was read.
#[derive(Debug, Default)]
struct Logs {
    read: HashMap<PathBuf, u64>,
    has_looked: bool,
}

impl Logs {
    /// The components in whose logs the panic is new.
    fn look(&mut self, folder: &Path) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut there = HashMap::new();
        for (component, path) in files(folder) {
            let length = fs::metadata(&path).map_or(0, |m| m.len());
            // What was there before this run is not of this run.
            let from = match self.read.get(&path) {
                // Emptied or replaced.
                Some(read) if *read > length => 0,
                Some(read) => *read,
                None if self.has_looked => 0,
                None => length,
            };
            let (has_panic, read) = File::open(&path).and_then(|log| search(log, from)).unwrap_or((false, from));
            if has_panic && !found.contains(&component) {
                found.push(component);
            }
            there.insert(path, read);
        }
        (self.read, self.has_looked) = (there, true);
        found
    }
}

/// The logs of both components: `<pod>/<container>/<restarts>.log`.
fn files(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    for pod in entries(folder) {
        let name = pod.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let component = COMPONENTS.iter().find(|(_, beginning)| name.starts_with(beginning));
        let Some((component, _)) = component else { continue };
        let logs = entries(&pod.join(component)).into_iter().filter(|f| f.extension().is_some_and(|e| e == "log"));
        files.extend(logs.map(|log| (*component, log)));
    }
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether the panic is in what follows `from`, and where the next look begins: far enough back that one which is written by halves is
/// found then.
pub fn search(mut log: impl Read + Seek, from: u64) -> io::Result<(bool, u64)> {
    log.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    log.take(MOST).read_to_end(&mut bytes)?;
    let found = bytes.windows(PANIC.len()).any(|w| w == PANIC.as_bytes());
    let end = from + bytes.len() as u64;
    // One that was found is not found again.
    let back = if found { 0 } else { (PANIC.len() - 1).min(bytes.len()) as u64 };
    Ok((found, end - back))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(folder: &Path, pod: &str, container: &str, file: &str) -> PathBuf {
        let folder = folder.join(pod).join(container);
        fs::create_dir_all(&folder).unwrap();
        folder.join(file)
    }
    fn append(path: &Path, text: &str) {
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_panic_is_found_once_and_only_in_those_two() {
        let folder = tempfile::tempdir().unwrap();
        let server = log(folder.path(), "kube-system_kube-apiserver-cp1_u1", "kube-apiserver", "0.log");
        let etcd = log(folder.path(), "kube-system_etcd-cp1_u2", "etcd", "0.log");
        let other = log(folder.path(), "shop_web_u3", "web", "0.log");
        append(&server, &format!("panic: {PANIC}\n"));
        let mut logs = Logs::default();
        assert!(logs.look(folder.path()).is_empty(), "of another time");
        append(&other, PANIC);
        append(&server, "I0101 all is well\n");
        assert!(logs.look(folder.path()).is_empty());
        // Written by halves.
        append(&server, "panic: failed to unmarshal");
        assert!(logs.look(folder.path()).is_empty());
        append(&server, " mvccpb.KeyValue\n");
        assert_eq!(logs.look(folder.path()), ["kube-apiserver"]);
        assert!(logs.look(folder.path()).is_empty(), "told once");
        append(&etcd, PANIC);
        // Started anew: another file.
        let restarted = log(folder.path(), "kube-system_kube-apiserver-cp1_u1", "kube-apiserver", "1.log");
        append(&restarted, PANIC);
        let mut found = logs.look(folder.path());
        found.sort_unstable();
        assert_eq!(found, ["etcd", "kube-apiserver"]);
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_logs() {
        assert!(Logs::default().look(Path::new("/there/is/none")).is_empty());
    }
}
