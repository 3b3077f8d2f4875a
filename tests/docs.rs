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
    for (group, inner) in values.as_object().unwrap() {
        let properties = &schema["properties"][group];
        assert!(properties.is_object(), "{group} is not in the schema");
        let Some(inner) = inner.as_object().filter(|_| properties["properties"].is_object()) else {
            assert!(readme.contains(&format!("| `{group}` |")), "{group} is not in the chart's README");
            continue;
        };
        for key in inner.keys() {
            assert!(properties["properties"][key].is_object(), "{group}.{key} is not in the schema");
            assert!(readme.contains(&format!("| `{group}.{key}` |")), "{group}.{key} is not in the chart's README");
        }
    }
}
