//! The CustomResourceDefinitions, generated from the types.

use super::{NodeRecord, RackPartition};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::Value;
use std::{fs, io, path::Path};

/// File name and YAML of each definition.
pub fn as_yaml() -> Vec<(String, String)> {
    [RackPartition::crd(), NodeRecord::crd()].iter().map(|crd| (file_name(crd), yaml(crd))).collect()
}

/// All definitions as one YAML stream.
pub fn all_as_yaml() -> String {
    as_yaml().into_iter().map(|(_, yaml)| format!("---\n{yaml}")).collect()
}

/// Writes each definition to a file of its own.
///
/// # Errors
/// Where a file can't be written.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    as_yaml().into_iter().try_for_each(|(name, yaml)| fs::write(folder.join(name), yaml))
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    let (plural, group) = crd.metadata.name.as_deref().and_then(|n| n.split_once('.')).unwrap_or_default();
    debug_assert_eq!(crd.name_any(), format!("{plural}.{group}"));
    format!("{group}_{plural}.yaml")
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(crd).expect("a definition is plain data");
    drop_unknown_formats(&mut value);
    let yaml = serde_saphyr::to_string(&value).expect("JSON is YAML");
    format!("# Generated from src/api by `make generate`. Do not edit.\n{yaml}")
}

/// The API server knows signed integer formats only and warns of others.
fn drop_unknown_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                map.remove("format");
            }
            map.values_mut().for_each(drop_unknown_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_unknown_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_definitions_are_those_of_the_types() {
        for (name, yaml) in as_yaml() {
            for folder in ["crds", "charts/rackpartition/files/crds"] {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(&name);
                let committed = fs::read_to_string(&path).unwrap_or_default();
                assert!(committed == yaml, "{} is not what the types say: run `make generate`", path.display());
            }
        }
    }
}
