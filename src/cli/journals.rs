//! What a run leaves, as a folder of files: the run, the plan and the snapshot it was made of, and a record of each observer.

use super::{files, schema};
use crate::{
    api::{NodeRecord, Observer, RackPartition},
    fault::RunPlan,
    topology::Snapshot,
};
use anyhow::{Context, bail, ensure};
use kube::ResourceExt;
use std::{
    fs::{self, read_dir},
    io,
    path::{Path, PathBuf},
};

/// Names of the files, which may end in any of [`ENDS`], and of the folder with the records.
const RUN: &str = "run";
const PLAN: &str = "plan";
const SNAPSHOT: &str = "snapshot";
const RECORDS: &str = "records";
const ENDS: [&str; 3] = ["yaml", "yml", "json"];

#[derive(Clone, Debug, PartialEq)]
pub struct Journals {
    /// With its status.
    pub run: RackPartition,
    /// What agents got. Whoever writes a case by hand may leave it out: it follows from run and snapshot.
    pub plan: Option<RunPlan>,
    pub snapshot: Snapshot,
    pub records: Vec<NodeRecord>,
}

impl Journals {
    /// # Errors
    /// Where a file is missing, can't be read, says something else, or is of another run.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let run = files::run(&there(folder, RUN)?)?;
        let snapshot = files::snapshot(&there(folder, SNAPSHOT)?)?;
        let plan = find(folder, PLAN)?.map(|path| files::read(&path, &schema::agents_plan())).transpose()?;
        let of_records = schema::record();
        let mut records: Vec<NodeRecord> = Vec::new();
        for path in record_files(&folder.join(RECORDS))? {
            let mut record: NodeRecord = files::read(&path, &of_records)?;
            // As `kubectl get` writes it. The judge takes one that stays packed for none at all.
            if let Err(error) = record.unpack() {
                eprintln!("{} counts as no record: {error}", path.display());
            }
            belongs(&record, &run, &records).with_context(|| format!("{} does not fit in", path.display()))?;
            records.push(record);
        }
        Ok(Journals { run, plan, snapshot, records })
    }

    /// Writes a folder that is not there yet, without the run's secret: whoever has that can end a run that goes on, and journals are
    /// sent to others.
    ///
    /// # Errors
    /// Where it can't be written, or is there and not empty.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        check_new(folder)?;
        let records = folder.join(RECORDS);
        fs::create_dir_all(&records).with_context(|| format!("failed to create {}", records.display()))?;
        let mut run = self.run.clone();
        run.metadata.managed_fields = None;
        write(&folder.join("run.yaml"), &files::yaml(&run))?;
        write(&folder.join("snapshot.json"), &files::json(&self.snapshot))?;
        if let Some(plan) = &self.plan {
            write(&folder.join("plan.json"), &files::json(&plan.without_token()))?;
        }
        for record in &self.records {
            let mut record = record.clone();
            record.metadata.managed_fields = None;
            write(&records.join(format!("{}.json", record.name_any())), &files::json(&record))?;
        }
        Ok(())
    }
}

/// # Errors
/// Where the folder is there and has something in it: records of two runs would be one.
pub fn check_new(folder: &Path) -> anyhow::Result<()> {
    let is_used = read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!is_used, "{} is not empty: name a new folder", folder.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn there(folder: &Path, stem: &str) -> anyhow::Result<PathBuf> {
    find(folder, stem)?.with_context(|| format!("there is no {stem}.yaml or {stem}.json in {}", folder.display()))
}

fn find(folder: &Path, stem: &str) -> anyhow::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = ENDS.iter().map(|end| folder.join(format!("{stem}.{end}"))).collect();
    found.retain(|path| path.exists());
    ensure!(found.len() < 2, "{} is there in several forms: leave one", folder.join(stem).display());
    Ok(found.pop())
}

/// By name, so that it is always the same one that is said to be too many.
fn record_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = read_dir(folder).and_then(|all| all.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = entries.with_context(|| format!("failed to read {}", folder.display()))?;
    paths.retain(|path| path.file_name().is_none_or(|name| !name.to_string_lossy().starts_with('.')));
    paths.sort();
    let is_record = |path: &PathBuf| path.extension().is_some_and(|end| ENDS.iter().any(|known| *known == end));
    if let Some(other) = paths.iter().find(|path| !is_record(path)) {
        bail!("{} is no record: its name ends in none of {}", other.display(), ENDS.join(", "));
    }
    Ok(paths)
}

/// The operator leaves other runs' records out. Here somebody put them in, and is told.
fn belongs(record: &NodeRecord, run: &RackPartition, earlier: &[NodeRecord]) -> anyhow::Result<()> {
    let spec = &record.spec;
    if let Some(uid) = run.uid() {
        ensure!(spec.run_uid == uid, "it is of the run with uid {:?}, and this one is {uid}", spec.run_uid);
    }
    let armed = run.status.as_ref().and_then(|s| s.plan.as_ref()).map(|p| p.hash.as_str());
    let said = record.status.as_ref().and_then(|s| s.plan_hash.as_deref());
    if let (Some(armed), Some(said)) = (armed, said) {
        ensure!(armed == said, "its agent armed the plan {said}, and the run's status has {armed}");
    }
    let is_twin = |other: &&NodeRecord| match spec.observer {
        Observer::Agent => other.spec.observer == Observer::Agent && other.spec.node == spec.node,
        Observer::Operator => other.spec.observer == Observer::Operator,
    };
    match earlier.iter().find(is_twin) {
        Some(twin) => bail!("{} is a record of the same observer", twin.name_any()),
        None => Ok(()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{
        api::{Phase, RackPartitionStatus},
        judge::tests::fixture,
    };

    /// The journals of the fixture's run, and what the judge says of it.
    pub fn journals() -> Journals {
        let passing = fixture::passing();
        let status = RackPartitionStatus {
            phase: Some(Phase::Done),
            schedule: Some(passing.schedule.clone()),
            ..RackPartitionStatus::default()
        };
        let run = RackPartition { status: Some(status), ..RackPartition::new("run", passing.spec.clone()) };
        let mut records: Vec<NodeRecord> = passing.agents.into_iter().chain(passing.operator).collect();
        for record in &mut records {
            record.metadata.name = Some(format!("{}-{:?}", record.spec.node, record.spec.observer).to_lowercase());
        }
        records.sort_by_key(ResourceExt::name_any);
        Journals { run, plan: Some(passing.plan), snapshot: passing.snapshot, records }
    }

    #[test]
    fn what_was_written_is_read_again_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let token = "0123456789abcdef0123456789abcdef";
        let mut journals = journals();
        journals.plan.as_mut().unwrap().heal.token = token.into();
        let to = folder.path().join("journals");
        journals.write(&to).unwrap();
        for path in [RUN, PLAN, SNAPSHOT].map(|stem| find(&to, stem).unwrap().unwrap()) {
            assert!(!fs::read_to_string(&path).unwrap().contains(token), "{}", path.display());
        }
        let read = Journals::read(&to).unwrap();
        assert_eq!(read.plan.as_ref().map(RunPlan::hash), journals.plan.as_ref().map(RunPlan::hash));
        journals.plan = journals.plan.take().map(|plan| plan.without_token());
        assert_eq!(read, journals);
        let again = journals.write(&to).unwrap_err().to_string();
        assert!(again.contains("not empty"), "{again}");
    }

    #[test]
    fn a_record_as_the_api_server_has_it_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("journals");
        let journals = journals();
        let mut packed = journals.clone();
        for status in packed.records.iter_mut().filter_map(|r| r.status.as_mut()) {
            *status = status.clone().packed();
        }
        packed.write(&to).unwrap();
        assert_eq!(Journals::read(&to).unwrap().records, journals.records);
        packed.records[0].status.as_mut().unwrap().packed_spans = Some("?".into());
        let path = to.join("records").join(format!("{}.json", packed.records[0].name_any()));
        fs::write(&path, files::json(&packed.records[0])).unwrap();
        let read = Journals::read(&to).unwrap().records;
        assert_eq!(read[0], packed.records[0], "it stays as it is");
        assert_eq!(read[1..], journals.records[1..]);
    }

    #[test]
    fn what_is_of_another_run_is_told() {
        let journals = journals();
        let record = journals.records[0].clone();
        let said = |record: &NodeRecord, run: &RackPartition, earlier: &[NodeRecord]| {
            belongs(record, run, earlier).map_err(|e| e.to_string())
        };
        assert_eq!(said(&record, &journals.run, &[]), Ok(()));
        let twin = said(&record, &journals.run, &journals.records).unwrap_err();
        assert!(twin.contains("same observer"), "{twin}");
        let mut other = journals.run.clone();
        other.metadata.uid = Some("another".into());
        assert!(said(&record, &other, &[]).unwrap_err().contains("another"));
        let mut armed = record.clone();
        armed.status.as_mut().unwrap().plan_hash = Some("abc".into());
        let mut run = journals.run.clone();
        run.status.as_mut().unwrap().plan = Some(crate::api::Plan { hash: "def".into(), ..Default::default() });
        let error = said(&armed, &run, &[]).unwrap_err();
        assert!(error.contains("abc") && error.contains("def"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_or_there_twice_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Journals::read(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("run.yaml"), "{missing}");
        let to = folder.path().join("journals");
        journals().write(&to).unwrap();
        fs::write(to.join("run.json"), "{}").unwrap();
        let twice = Journals::read(&to).unwrap_err().to_string();
        assert!(twice.contains("several forms"), "{twice}");
        fs::remove_file(to.join("run.json")).unwrap();
        fs::write(to.join("records/notes.txt"), "").unwrap();
        let other = Journals::read(&to).unwrap_err().to_string();
        assert!(other.contains("notes.txt"), "{other}");
        fs::remove_dir_all(to.join("records")).unwrap();
        let gone = Journals::read(&to).unwrap_err().to_string();
        assert!(gone.contains("records"), "{gone}");
    }
}
