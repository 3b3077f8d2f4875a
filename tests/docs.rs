//! What is written for people agrees with what the program takes. `make generate` writes what can be written.

use clap::CommandFactory;
use kube::ResourceExt;
use rackpartition::{
    api::RackPartition,
    cli,
    fault::expand,
    report::picture,
    topology::{Endpoint, EtcdMember, Node, Snapshot},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

#[test]
fn the_reference_of_the_plugin_is_generated() {
    let options = clap_markdown::MarkdownOptions::new()
        .title("kubectl rackpartition".into())
        .show_table_of_contents(false)
        .show_footer(false);
    let text = clap_markdown::help_markdown_command_custom(&cli::Args::command(), &options);
    if std::env::var_os("RACKPARTITION_GENERATE").is_some() {
        fs::write(file("docs/cli.md"), &text).unwrap();
    }
    assert!(read("docs/cli.md") == text, "docs/cli.md is not what the plugin says: run `make generate`");
}

/// For editors and programs of those who write cases by hand.
#[test]
fn the_schemas_are_generated() {
    let generates = std::env::var_os("RACKPARTITION_GENERATE").is_some();
    if generates {
        fs::create_dir_all(file("schemas")).unwrap();
    }
    let (schemas, page) = (cli::schemas(), read("docs/by-hand.md"));
    for (name, schema) in &schemas {
        let path = format!("schemas/{name}");
        if generates {
            fs::write(file(&path), serde_json::to_string_pretty(schema).unwrap() + "\n").unwrap();
        }
        let committed: serde_json::Value = serde_json::from_str(&read(&path)).unwrap();
        assert!(committed == *schema, "{path} is not what the types say: run `make generate`");
        assert!(page.contains(&format!("](../{path})")), "docs/by-hand.md does not name {path}");
    }
    assert_eq!(fs::read_dir(file("schemas")).unwrap().count(), schemas.len(), "a schema of something that is gone");
}

#[test]
fn the_example_is_a_valid_run() {
    let run: RackPartition = serde_saphyr::from_str(&read("examples/isolate-active-rack.yaml")).unwrap();
    assert_eq!(run.name_any(), "isolate-active-rack");
}

/// Racks `r1`, `r2`, ... with a node each that runs everything, and an endpoint that is no node.
fn sample(racks: usize) -> Snapshot {
    let nodes = (1..=racks).map(|i| Node {
        name: format!("n{i}"),
        rack: Some(format!("r{i}")),
        ready: true,
        addresses: vec![format!("198.18.0.{i}").parse().unwrap()],
        ..Default::default()
    });
    let endpoint = Endpoint { name: "control-plane-endpoint".into(), ports: vec![6443], ..Default::default() };
    let member = |i| EtcdMember { node: format!("n{i}"), client_port: 2379, peer_port: 2380, ..Default::default() };
    Snapshot {
        nodes: nodes.collect(),
        endpoints: vec![endpoint],
        etcd: (1..=racks).map(member).collect(),
        ..Default::default()
    }
}

#[test]
fn every_shape_has_its_picture_and_its_text() {
    let page = read("docs/faults.md");
    for entry in fs::read_dir(file("examples/shapes")).unwrap() {
        let path = entry.unwrap().path();
        let (name, yaml) = (path.file_stem().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap());
        let run: RackPartition = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(run.name_any(), name);
        let needs_five = run.spec.cut.ring.is_some() || run.spec.cut.star.is_some() || run.spec.cut.chain.is_some();
        let snapshot = sample(if needs_five { 5 } else { 3 });
        let fault = expand(&run.spec, &snapshot).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let (picture, drawn) = (format!("docs/pictures/{name}.svg"), picture(&snapshot, &fault));
        if std::env::var_os("RACKPARTITION_GENERATE").is_some() {
            fs::write(file(&picture), &drawn).unwrap();
        }
        assert!(read(&picture) == drawn, "{picture} is not what the shape expands to: run `make generate`");
        let body = &yaml[yaml.find("spec:").unwrap()..];
        assert!(
            page.contains(&format!("```yaml\n{body}```")),
            "docs/faults.md does not show examples/shapes/{name}.yaml"
        );
        assert!(page.contains(&format!("](pictures/{name}.svg)")), "docs/faults.md does not show {picture}");
    }
}

/// Every value stands in the schema, which refuses unknown ones, and in the chart's README.
#[test]
fn every_value_of_the_chart_is_documented() {
    let values: serde_json::Value = serde_saphyr::from_str(&read("charts/rackpartition/values.yaml")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&read("charts/rackpartition/values.schema.json")).unwrap();
    let readme = read("charts/rackpartition/README.md");
    documented("", &values, &schema, &readme);
}

/// Checks one level; a group of the schema's with properties of its own is gone into, all else is a value.
fn documented(prefix: &str, values: &serde_json::Value, schema: &serde_json::Value, readme: &str) {
    for (key, value) in values.as_object().unwrap() {
        let (name, schema) = (format!("{prefix}{key}"), &schema["properties"][key]);
        assert!(schema.is_object(), "{name} is not in the schema");
        if value.is_object() && schema["properties"].is_object() {
            documented(&format!("{name}."), value, schema, readme);
        } else {
            assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the chart's README");
        }
    }
}

/// Whoever reads a promise can run the test that holds it.
#[test]
fn every_promise_names_tests_that_there_are() {
    let page = read("docs/safety.md");
    let table = page.split("## Each promise").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
    let sources: String = ["src", "tests", "e2e/tests"].into_iter().flat_map(|folder| sources(&file(folder))).collect();
    let main = read("e2e/tests/cluster/main.rs");
    // What runs by `make e2e` on the usual cluster.
    let scenarios = main.split("const SCENARIOS").nth(1).and_then(|rest| rest.split("const TWO_RACKS").next());
    let scenarios = scenarios.expect("both lists");
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| promise")).collect();
    assert!(rows.len() > 15, "{rows:?}");
    for row in rows {
        let held_by = row.rsplit('|').nth(1).expect("two columns");
        let is_name = |word: &&str| {
            word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let words = || held_by.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = words().filter(is_name).collect();
        assert!(!tests.is_empty(), "nothing holds {row}");
        for test in tests {
            assert!(is_run(&sources, test), "there is no test {test}, which docs/safety.md names");
        }
        for scenario in words().filter_map(|word| word.strip_prefix("-- ")) {
            let is_one = scenarios.contains(&format!("(\"{scenario}\", "));
            assert!(is_one, "there is no scenario {scenario}, which docs/safety.md names");
        }
    }
}

/// Whether a function of this name is a test, a case of a macro's (`fn NAME() = ...`), or what looks in a scenario: the compiler warns of
/// one that no scenario calls.
fn is_run(sources: &str, name: &str) -> bool {
    sources.match_indices(&format!("fn {name}(")).any(|(at, found)| {
        let begin = sources[..at].rfind('\n').map_or(0, |end| end + 1);
        let mut attributes = sources[..begin].lines().rev().map(str::trim).take_while(|line| line.starts_with("#["));
        let is_test = attributes.any(|line| ["#[test]", "#[tokio::test"].iter().any(|test| line.starts_with(test)));
        let rest = &sources[at + found.len()..];
        is_test || rest.starts_with(") = ") || rest.starts_with("h: &Harness")
    })
}

#[test]
fn a_function_of_a_tests_name_is_no_test() {
    let sources = "#[test]\nfn a() {}\n#[tokio::test]\n#[ignore]\nasync fn b() {}\n    fn c() = Armed, Held;\n\
                   async fn d(h: &Harness) {}\nfn e() {}\n#[allow(unused)]\nfn f() {}\n";
    let found = |name: &&str| is_run(sources, name);
    assert_eq!(["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(found).collect::<String>(), "abcd");
}

/// Whoever looks for what ends a cut finds the phase that the run is in.
#[test]
fn every_phase_is_among_the_moments() {
    let page = read("docs/safety.md");
    let table = page.split("## At each moment").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
    let moments: Vec<&str> = table.lines().filter_map(|l| l.strip_prefix("| ")?.split('|').next()).collect();
    let definition = read("charts/rackpartition/files/crds/rackpartition.io_rackpartitions.yaml");
    let definition: serde_json::Value = serde_saphyr::from_str(&definition).unwrap();
    let status = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let phases = status["properties"]["phase"]["enum"].as_array().expect("the phases");
    for phase in phases.iter().filter_map(|phase| phase.as_str()) {
        let is_told = moments.iter().any(|moment| moment.contains(&format!("`{phase}`")));
        assert!(is_told, "docs/safety.md does not say what ends a cut in {phase}");
    }
}

/// One that `make test` does not name would pass for ever.
#[test]
fn every_file_of_tests_is_run() {
    let script = read("scripts/test");
    let words: Vec<&str> = script.split_whitespace().collect();
    for entry in fs::read_dir(file("tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap();
        let is_named = words.windows(2).any(|pair| pair == ["--test", name]);
        assert!(is_named, "scripts/test does not run tests/{name}");
    }
}

/// Every source file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![fs::read_to_string(&path).unwrap()],
    };
    entries.flat_map(of).collect()
}
