//! What is written for people agrees with what the program takes. `make generate` writes what can be written.

use clap::CommandFactory;
use kube::ResourceExt;
use rackpartition::{api::RackPartition, cli};
use std::{fs, path::PathBuf};

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

#[test]
fn the_example_is_a_valid_run() {
    let run: RackPartition = serde_saphyr::from_str(&read("examples/isolate-active-rack.yaml")).unwrap();
    assert_eq!(run.name_any(), "isolate-active-rack");
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
