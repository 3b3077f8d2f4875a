//! Which fields of something that was written by hand nobody knows: the types ignore them, so that versions can read each other.

use serde_json::Value;
use std::collections::BTreeSet;

/// Fields of a value that its schema does not know, each with its path and what is known there.
pub fn unknown_fields(schema: &Value, value: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    visit(schema, &applying(schema, schema), value, "", &mut unknown);
    unknown
}

/// A schema and all that it refers to or is put together of.
fn applying<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut all = vec![schema];
    if let Some(place) = schema["$ref"].as_str() {
        let target = root.pointer(place.trim_start_matches('#'));
        all.extend(target.into_iter().flat_map(|target| applying(root, target)));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let parts = schema[key].as_array().into_iter().flatten();
        all.extend(parts.flat_map(|part| applying(root, part)));
    }
    all
}

fn visit<'a>(root: &'a Value, schemas: &[&'a Value], value: &Value, path: &str, unknown: &mut Vec<String>) {
    let all_of = |found: Vec<&'a Value>| -> Vec<&'a Value> {
        found.into_iter().filter(|s| !s.is_null()).flat_map(|s| applying(root, s)).collect()
    };
    match value {
        Value::Object(fields) => {
            let properties = schemas.iter().copied().filter_map(|s| s["properties"].as_object());
            let known: BTreeSet<&str> = properties.flat_map(|p| p.keys().map(String::as_str)).collect();
            let is_open = known.is_empty() || schemas.iter().any(|s| s["additionalProperties"] == Value::Bool(true));
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let mut below = all_of(schemas.iter().copied().map(|s| &s["properties"][name.as_str()]).collect());
                if below.is_empty() {
                    let others = schemas.iter().copied().map(|s| &s["additionalProperties"]);
                    below = all_of(others.filter(|s| s.is_object()).collect());
                }
                if !below.is_empty() {
                    visit(root, &below, field, &path, unknown);
                } else if !is_open {
                    let known: Vec<&str> = known.iter().copied().collect();
                    unknown.push(format!("{path}: there is no such field; known here: {}", known.join(", ")));
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let of = |s: &'a Value| s["prefixItems"].get(i).unwrap_or(&s["items"]);
                let below = all_of(schemas.iter().copied().map(of).collect());
                visit(root, &below, item, &format!("{path}[{i}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::schema;
    use serde_json::json;

    #[test]
    fn a_misspelt_field_is_named_wherever_it_is() {
        let snapshot = json!({
            "nodes": [{"name": "n1"}, {"name": "n2", "adresses": []}],
            "timers": {"etcdElection": {"second": 1.0}},
            "leases": [{"renewDeadline": {"seconds": 1.0, "why": ""}}],
        });
        let unknown = unknown_fields(&schema::snapshot(), &snapshot);
        let paths: Vec<&str> = unknown.iter().map(|u| u.split(':').next().unwrap()).collect();
        assert_eq!(paths, ["leases[0].renewDeadline.why", "nodes[1].adresses", "timers.etcdElection.second"]);
        assert!(unknown[1].contains("addresses") && !unknown[1].contains("etcd"), "{unknown:?}");
    }

    #[test]
    fn parts_that_share_an_object_and_maps_are_known() {
        let run = json!({
            "apiVersion": "rackpartition.io/v1alpha1", "kind": "RackPartition",
            "metadata": {"name": "run", "labels": {"a": "b"}, "managedFields": [{"fieldsV1": {"f:spec": {}}}]},
            "spec": {
                "cut": {"isolate": {"racks": ["r1"], "outside": true}, "edges": [{"from": {"rack": "r1"}, "to": {}}]},
                "workloads": {"labelSelector": {"matchLabels": {"app": "web"}}},
                "durration": "60s",
            },
        });
        let unknown = unknown_fields(&schema::run(), &run);
        let paths: Vec<&str> = unknown.iter().map(|u| u.split(':').next().unwrap()).collect();
        assert_eq!(paths, ["spec.cut.edges[0].from.rack", "spec.durration"]);
    }

    #[test]
    fn ends_of_an_array_and_of_an_alternative_are_reached() {
        let plan = json!({
            "ports": {"ports": [["TCP", 2380]], "pod": true},
            "pattern": {"effect": {"lossPerPacket": {"percent": 5, "per": "Flow"}}, "flap": [5.0, 10.0]},
        });
        let unknown = unknown_fields(&schema::agents_plan(), &plan);
        let paths: Vec<&str> = unknown.iter().map(|u| u.split(':').next().unwrap()).collect();
        assert_eq!(paths, ["pattern.effect.lossPerPacket.per", "ports.pod"]);
    }
}
