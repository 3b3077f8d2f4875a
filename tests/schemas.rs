//! The schemas in `schemas/` hold of what the program says, of what it exports and of what people wrote by hand, and not only of the
//! types that they are made of.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PLAN: &str = "plan.json";
const JUDGEMENT: &str = "judgement.json";
const SNAPSHOT: &str = "snapshot.json";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> Value {
    let what = || format!("failed to read {}", path.display());
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", what()));
    match path.extension().is_some_and(|end| end == "json") {
        true => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", what())),
        false => serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", what())),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("no schema: {error}"));
    // An error has the whole value in it.
    validator.iter_errors(value).map(|error| error.to_string().chars().take(300).collect()).collect()
}

/// Asserts that a schema takes this, and that it would not take something close to it.
#[track_caller]
fn holds(name: &str, value: &Value, whose: &str) {
    let schema = read(&file(&format!("schemas/{name}")));
    let errors_of = |value: &Value| errors(&schema, value);
    let amiss = errors_of(value);
    assert!(amiss.is_empty(), "schemas/{name} does not take {whose}: {amiss:#?}");
    let mut other = value.clone();
    let fields = other.as_object_mut().expect("an object");
    match schema["additionalProperties"] == false {
        true => drop(fields.insert("misspelt".into(), Value::Null)),
        false => drop(fields.remove("version").expect("it says its version")),
    }
    assert!(!errors_of(&other).is_empty(), "schemas/{name} takes anything");
}

/// What the program prints; `None` where that is nothing, for an error.
fn said(args: &[&str]) -> Option<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_rackpartition")).args(args).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let parsed = |said: &str| serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
    (!said.is_empty()).then(|| parsed(&said))
}

fn judged(journals: &Path) -> Value {
    said(&["judge", "-o", "json", "--journals", journals.to_str().unwrap()]).expect("a judgement")
}

/// Folders with the journals of a run: recorded, and written by hand.
fn journals() -> Vec<PathBuf> {
    let recorded = entries(&file("tests/recorded")).into_iter().filter(|path| path.is_dir());
    let by_hand = entries(&file("examples/cases")).into_iter().filter(|path| path.is_dir());
    recorded.map(|folder| folder.join("journals")).chain(by_hand).collect()
}

#[test]
fn plans_are_as_their_schema_says() {
    let mut plans = 0;
    // Some of them need more racks, and some are refused.
    for shape in entries(&file("examples/shapes")).into_iter().chain([file("examples/isolate-active-rack.yaml")]) {
        for snapshot in ["examples/cases/three-racks.yaml", "fuzz/seeds/snapshot/lab.json"] {
            let (snapshot, run) = (file(snapshot), shape.to_str().unwrap());
            if let Some(plan) = said(&["plan", "-o", "json", "--snapshot", snapshot.to_str().unwrap(), "-f", run]) {
                holds(PLAN, &plan, run);
                plans += 1;
            }
        }
    }
    assert!(plans > 10, "{plans} plans");
}

#[test]
fn snapshots_are_as_their_schema_says() {
    for path in ["examples/cases/three-racks.yaml", "fuzz/seeds/snapshot/lab.json"] {
        holds(SNAPSHOT, &read(&file(path)), path);
    }
}

#[test]
fn journals_and_judgements_of_them_are_as_their_schemas_say() {
    let all = journals();
    assert!(all.len() > 1, "{all:?}");
    for folder in all {
        for path in entries(&folder).into_iter().filter(|path| path.is_file()) {
            let schema = match path.file_stem().unwrap().to_str().unwrap() {
                "run" => "journals-run.json",
                "plan" => "journals-plan.json",
                "snapshot" => SNAPSHOT,
                other => panic!("{other} is nothing that a run leaves"),
            };
            holds(schema, &read(&path), path.to_str().unwrap());
        }
        for path in entries(&folder.join("records")) {
            holds("journals-record.json", &read(&path), path.to_str().unwrap());
        }
        holds(JUDGEMENT, &judged(&folder), folder.to_str().unwrap());
    }
}

#[test]
fn a_judgement_of_nothing_is_as_its_schema_says() {
    let (case, folder) = (file("examples/cases/two-journals-missing"), tempfile::tempdir().unwrap());
    let run = fs::read_to_string(case.join("run.yaml")).unwrap();
    let without_status = run.split("status:").next().unwrap();
    fs::write(folder.path().join("run.yaml"), without_status).unwrap();
    fs::copy(case.join("snapshot.yaml"), folder.path().join("snapshot.yaml")).unwrap();
    fs::create_dir(folder.path().join("records")).unwrap();
    let judgement = judged(folder.path());
    assert!(judgement["notJudged"].is_string(), "{judgement}");
    holds(JUDGEMENT, &judgement, "a run without a schedule");
}

#[test]
fn the_journals_that_were_written_by_hand_are_judged_as_they_say() {
    let judgement = judged(&file("examples/cases/two-journals-missing"));
    assert_eq!(judgement["verdict"], "Inconclusive");
    let findings = judgement["findings"].as_array().unwrap();
    let of = |result: &str| findings.iter().filter(|f| f["result"] == result).collect::<Vec<_>>();
    assert!(of("Violated").is_empty(), "{judgement:#}");
    let open = of("Inconclusive");
    for node in ["cp1", "cp3"] {
        let why = format!("no record of {node}");
        let is_why = |f: &&Value| f["evidence"].as_str().is_some_and(|evidence| evidence.contains(&why));
        assert!(open.iter().any(is_why), "{node}: {judgement:#}");
    }
}
