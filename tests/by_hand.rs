//! Plans and judgements from files, as people at a shell and CI ask for them: the program itself, its output and its exit codes.

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The exit codes of [`rackpartition::cli`].
const PASS: i32 = 0;
const NOT_PASSED: i32 = rackpartition::cli::EXIT_NOT_PASSED as i32;
const ERROR: i32 = rackpartition::cli::EXIT_ERROR as i32;
const INCONCLUSIVE: i32 = rackpartition::cli::EXIT_INCONCLUSIVE as i32;
const NOT_RUN: i32 = rackpartition::cli::EXIT_NOT_RUN as i32;

const API_VERSION: &str = "rackpartition.io/v1alpha1";
const CASE: &str = "examples/cases/three-racks.yaml";
const ISOLATE: &str = "examples/shapes/isolate.yaml";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a call of the program ended with.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
    /// An error that says all of this and prints nothing else.
    fn is_error(&self, words: &[&str]) {
        assert!(self.code == ERROR && self.stdout.is_empty(), "{self:?}");
        words.iter().for_each(|word| assert!(self.stderr.contains(word), "{word}: {self:?}"));
    }
}

fn call(args: &[&str]) -> Ended {
    // Away from the files: none is found by chance.
    let program = env!("CARGO_BIN_EXE_rackpartition");
    let output = Command::new(program).args(args).current_dir(std::env::temp_dir()).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn plan(snapshot: &Path, run: &Path) -> Ended {
    let (snapshot, run) = (snapshot.to_str().unwrap(), run.to_str().unwrap());
    call(&["plan", "--snapshot", snapshot, "-f", run, "-o", "json"])
}

/// A run in a file of its own.
fn run_with(folder: &TempDir, spec: &Value) -> PathBuf {
    let metadata = json!({"name": "by-hand"});
    let run = json!({"apiVersion": API_VERSION, "kind": "RackPartition", "metadata": metadata, "spec": spec});
    let path = folder.path().join("spec.json");
    fs::write(&path, run.to_string()).unwrap();
    path
}

fn guards<'a>(plan: &'a Value, result: &str) -> Vec<&'a str> {
    let all = plan["guards"].as_array().unwrap().iter();
    all.filter(|g| g["result"] == result).map(|g| g["name"].as_str().unwrap()).collect()
}

#[test]
fn a_plan_says_sides_edges_guards_and_prediction() {
    let ended = plan(&file(CASE), &file(ISOLATE));
    assert_eq!(ended.code, PASS, "{ended:?}");
    let plan = ended.json();
    assert_eq!((&plan["version"], &plan["run"]), (&json!("rackpartition.io/plan/v1alpha1"), &json!("isolate")));
    assert_eq!(plan["cut"], "isolate r1");
    let side = |i: usize| (&plan["sides"][i]["name"], &plan["sides"][i]["nodes"], &plan["sides"][i]["quorum"]);
    assert_eq!(side(0), (&json!("isolated"), &json!(["cp1", "w1"]), &json!(false)));
    assert_eq!(side(1), (&json!("rest"), &json!(["cp2", "cp3", "w2", "w3"]), &json!(true)));
    // Two nodes here, four and the endpoint there, both ways.
    let size = |names: &Value| names.as_array().unwrap().len();
    let blocks = plan["edges"]["blocks"].as_array().unwrap();
    assert_eq!(blocks.iter().map(|b| size(&b["from"]) * size(&b["to"])).sum::<usize>(), 20);
    assert_eq!(plan["edges"]["count"], 20);
    let through = guards(&plan, "LetsThrough");
    assert_eq!(through.len(), plan["guards"].as_array().unwrap().len(), "{plan:#}");
    for guard in ["spec.guards.allowQuorumLoss", "spec.guards.allowAllRacks", "policy of the chart"] {
        assert!(through.contains(&guard), "{through:?}");
    }
    let of = |check: &str| plan["prediction"].as_array().unwrap().iter().find(|p| p["check"] == check).unwrap().clone();
    let takeover = of("LeaseTakeover");
    let window = |end: &str| takeover["window"][end].as_f64().unwrap();
    assert!(0.0 < window("earliestSeconds") && window("earliestSeconds") < window("latestSeconds"), "{takeover}");
    assert!(takeover["reason"].as_str().unwrap().contains("15 s"), "{takeover}");
    let assumptions = plan["assumptions"].as_array().unwrap();
    assert!(assumptions.iter().any(|a| a.as_str().unwrap().contains("upstream's default")), "{assumptions:?}");
}

#[test]
fn people_get_a_table() {
    let (snapshot, run) = (file(CASE), file(ISOLATE));
    let ended = call(&["plan", "--snapshot", snapshot.to_str().unwrap(), "-f", run.to_str().unwrap()]);
    assert_eq!(ended.code, PASS, "{ended:?}");
    for words in ["isolate r1: 20 directed edges cut", "isolated: cp1, w1 (etcd 1 of 3, no quorum", "Guards:"] {
        assert!(ended.stdout.contains(words), "{words}: {}", ended.stdout);
    }
}

#[test]
fn what_a_program_wrote_is_read_and_a_role_is_resolved() {
    let ended = plan(&file("fuzz/seeds/snapshot/lab.json"), &file("examples/isolate-active-rack.yaml"));
    assert_eq!(ended.code, PASS, "{ended:?}");
    let plan = ended.json();
    assert_eq!(plan["resolvedRoles"], json!({"kube-controller-manager-leader": "rackpartition-test-control-plane"}));
}

#[test]
fn a_guard_that_refuses_ends_with_its_code_and_the_plan_is_there_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let first = json!({"racks": ["r1"], "endpoints": ["control-plane-endpoint"]});
    let groups = json!([first, {"racks": ["r2"]}, {"racks": ["r3"]}]);
    let mut spec = json!({"cut": {"split": {"groups": groups}}, "duration": "60s"});
    let ended = plan(&file(CASE), &run_with(&folder, &spec));
    assert_eq!(ended.code, NOT_RUN, "{ended:?}");
    let refused = ended.json();
    assert_eq!(guards(&refused, "Refuses"), ["spec.guards.allowAllRacks", "spec.guards.allowQuorumLoss"]);
    let mut said = refused["guards"].as_array().unwrap().iter().filter_map(|g| g["message"].as_str());
    assert!(said.any(|m| m.contains("no side would keep a majority of the 3 etcd members")), "{refused:#}");
    assert_eq!(refused["sides"].as_array().unwrap().len(), 3);
    assert!(!refused["prediction"].as_array().unwrap().is_empty());
    // Whoever opens them knowingly gets through.
    spec["guards"] = json!({"allowAllRacks": true, "allowQuorumLoss": true});
    assert_eq!(plan(&file(CASE), &run_with(&folder, &spec)).code, PASS);
}

#[test]
fn a_cut_that_stands_for_nothing_lets_no_guard_through() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_with(&folder, &json!({"cut": {"isolate": {"racks": ["r9"]}}, "duration": "60s"}));
    let ended = plan(&file(CASE), &run);
    assert_eq!(ended.code, NOT_RUN, "{ended:?}");
    let plan = ended.json();
    assert_eq!(guards(&plan, "Refuses"), ["spec.cut"]);
    assert!(plan["guards"][0]["message"].as_str().unwrap().contains("r1, r2, r3"), "{plan:#}");
    assert!(guards(&plan, "LetsThrough").is_empty());
    assert_eq!((&plan["edges"]["count"], &plan["sides"], &plan["prediction"]), (&json!(0), &json!([]), &json!([])));
}

#[test]
fn a_file_that_is_missing_or_malformed_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let changed = |from: &str, to: &str| {
        let text = fs::read_to_string(file(CASE)).unwrap();
        assert!(text.contains(from), "{from}");
        let path = folder.path().join("snapshot.yaml");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        plan(&path, &file(ISOLATE))
    };
    plan(&file("examples/cases/nowhere.yaml"), &file(ISOLATE)).is_error(&["failed to read", "nowhere.yaml"]);
    plan(&file(CASE), &file("examples/shapes/nowhere.yaml")).is_error(&["failed to read", "shapes/nowhere.yaml"]);
    changed("holderNode", "holdersNode").is_error(&["snapshot.yaml", "leases[0].holdersNode", "holderNode"]);
    changed("nodeMonitorGrace: {", "nodeMonitorGrace: [").is_error(&["failed to understand", "snapshot.yaml"]);
    changed("ready: true", "ready: perhaps").is_error(&["failed to understand", "snapshot.yaml"]);
    changed("198.18.0.1]", "198.18.0]").is_error(&["failed to understand", "snapshot.yaml"]);
    changed("{name: cp2", "{name: cp1").is_error(&["cp1 is there twice"]);
    changed("  nodeLeaseRenew: ", "  # ").is_error(&["timers.nodeLeaseRenew has no source"]);
    changed("rackLabel: topology.kubernetes.io/zone", "rackLabel: rack").is_error(&["spec.rackLabel", "snapshot -f"]);
    // Another file than the one that was meant.
    plan(&file(CASE), &file(CASE)).is_error(&["three-racks.yaml", "apiVersion"]);
}

#[test]
fn what_the_api_server_would_refuse_is_not_planned() {
    let folder = tempfile::tempdir().unwrap();
    let both = json!({"isolate": {"racks": ["r1"]}, "star": {"hub": {"racks": ["r2"]}}});
    for (cut, duration, words) in [
        (both, "60s", "name exactly one cut"),
        (json!({"isolate": {"racks": ["r1"]}}), "5s", "a cut lasts from 10s to 1h"),
        (json!({"isolate": {"rack": ["r1"]}}), "60s", "spec.cut.isolate.rack: there is no such field"),
    ] {
        let spec = json!({"cut": cut, "duration": duration});
        plan(&file(CASE), &run_with(&folder, &spec)).is_error(&[words]);
    }
}

/// Journals of a run on the lab, of which two of seven records were kept.
fn journals() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let seed = |path: &str| fs::read_to_string(file("fuzz/seeds").join(path)).unwrap();
    fs::write(folder.path().join("run.json"), seed("run/example.json")).unwrap();
    fs::write(folder.path().join("snapshot.json"), seed("snapshot/lab.json")).unwrap();
    let statuses: [Value; 2] = serde_json::from_str(&seed("journal/lab.json")).unwrap();
    fs::create_dir(folder.path().join("records")).unwrap();
    let observers = [("operator", "rackpartition-test-worker2"), ("agent", "rackpartition-test-control-plane")];
    for (mut status, (observer, node)) in statuses.into_iter().zip(observers) {
        // What an agent once wrote and none does any more.
        status.as_object_mut().unwrap().remove("addresses");
        let kind = if observer == "operator" { "Operator" } else { "Agent" };
        let spec = json!({"run": "isolate-active-rack", "runUid": "1", "node": node, "observer": kind});
        let metadata = json!({"name": observer});
        let kind = "NodeRecord";
        let record =
            json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": status});
        fs::write(folder.path().join(format!("records/{observer}.json")), record.to_string()).unwrap();
    }
    folder
}

/// Changes one file of the journals.
fn change(folder: &TempDir, path: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.path().join(path);
    let mut value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

fn judge(journals: &Path, more: &[&str]) -> Ended {
    let args = ["judge", "--journals", journals.to_str().unwrap(), "-o", "json"];
    call(&[&args[..], more].concat())
}

#[test]
fn journals_of_which_most_are_missing_are_judged_inconclusive() {
    let folder = journals();
    let ended = judge(folder.path(), &[]);
    assert_eq!(ended.code, INCONCLUSIVE, "{ended:?}");
    let judgement = ended.json();
    assert_eq!(judgement["version"], "rackpartition.io/judgement/v1alpha1");
    assert_eq!((&judgement["run"], &judgement["verdict"]), (&json!("isolate-active-rack"), &json!("Inconclusive")));
    let findings = judgement["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["check"] == "FaultProven" && f["result"] == "Inconclusive"), "{judgement:#}");
    // Twice the same, whatever the time is: it comes from the files.
    assert_eq!(judge(folder.path(), &[]).json(), judgement);
    let table = call(&["judge", "--journals", folder.path().to_str().unwrap()]);
    assert_eq!(table.code, INCONCLUSIVE);
    assert!(table.stdout.contains("isolate-active-rack: Inconclusive"), "{}", table.stdout);
}

#[test]
fn a_run_that_was_refused_is_not_judged() {
    let folder = journals();
    change(&folder, "run.json", |run| {
        run["status"] = json!({"phase": "Refused", "message": "node n1 is not Ready"});
    });
    let ended = judge(folder.path(), &[]);
    assert_eq!(ended.code, NOT_RUN, "{ended:?}");
    let judgement = ended.json();
    assert_eq!((&judgement["verdict"], &judgement["findings"]), (&Value::Null, &json!([])));
    assert!(judgement["notJudged"].as_str().unwrap().contains("node n1 is not Ready"), "{judgement}");
}

#[test]
fn journals_that_are_not_whole_or_not_of_one_run_are_named() {
    let folder = journals();
    change(&folder, "records/agent.json", |r| r["status"]["spans"][0]["sbuject"] = json!("w1"));
    judge(folder.path(), &[]).is_error(&["agent.json", "status.spans[0].sbuject: there is no such field"]);
    let folder = journals();
    change(&folder, "records/agent.json", |r| r["status"]["planHash"] = json!("abc"));
    judge(folder.path(), &[]).is_error(&["agent.json", "armed the plan abc"]);
    let folder = journals();
    change(&folder, "run.json", |run| run["metadata"]["uid"] = json!("2"));
    judge(folder.path(), &[]).is_error(&["agent.json", "uid"]);
    let folder = journals();
    change(&folder, "records/agent.json", |r| r["spec"]["node"] = json!("nobody"));
    judge(folder.path(), &[]).is_error(&["nobody", "no node of the plan"]);
    let folder = journals();
    fs::remove_file(folder.path().join("snapshot.json")).unwrap();
    judge(folder.path(), &[]).is_error(&["snapshot.yaml or snapshot.json"]);
    judge(TempDir::new().unwrap().path(), &[]).is_error(&["run.yaml or run.json"]);
}

#[test]
fn a_run_is_judged_by_what_was_cut_and_by_what_is_expected_now() {
    let (recorded, folder) = (file("tests/recorded/example"), tempfile::tempdir().unwrap());
    let journals = recorded.join("journals");
    let judged_by = |spec: &Value| judge(&journals, &["-f", run_with(&folder, spec).to_str().unwrap()]);
    let run: Value = serde_json::from_str(&fs::read_to_string(recorded.join("spec.json")).unwrap()).unwrap();
    let mut spec = run["spec"].clone();
    assert_eq!(judged_by(&spec).code, PASS);
    // No Lease moves as soon as that.
    spec["expect"] = json!({"leaderTakeover": "1s"});
    let stricter = judged_by(&spec);
    assert_eq!(stricter.code, NOT_PASSED, "{stricter:?}");
    let judgement = stricter.json();
    let words = "later than spec.expect.leaderTakeover";
    let is_why = |f: &Value| f["observed"].as_str().is_some_and(|observed| observed.ends_with(words));
    let mut violated = judgement["findings"].as_array().unwrap().iter().filter(|f| f["result"] == "Violated");
    assert!(violated.any(is_why), "{judgement:#}");
    spec["cut"] = json!({"isolate": {"racks": ["r2"]}});
    judged_by(&spec).is_error(&["not the one of the plan"]);
}
