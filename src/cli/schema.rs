//! JSON schemas of what people write and read by hand, from the types. `schemas/` has them as files.

use crate::{
    api::{NodeRecord, RackPartition},
    fault::RunPlan,
    report::{JudgementReport, PlanReport},
    topology::Snapshot,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

/// Each schema by the name of its file.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("snapshot.json", snapshot()),
        ("plan.json", written::<PlanReport>()),
        ("judgement.json", written::<JudgementReport>()),
        ("journals-run.json", run()),
        ("journals-plan.json", agents_plan()),
        ("journals-record.json", record()),
    ]
}

/// What a plan reads of the cluster.
pub fn snapshot() -> Value {
    read::<Snapshot>()
}

/// The plan that agents got.
pub fn agents_plan() -> Value {
    read::<RunPlan>()
}

/// A run, as `kubectl get -o yaml` writes it.
pub fn run() -> Value {
    object::<RackPartition>()
}

/// What one observer saw.
pub fn record() -> Value {
    object::<NodeRecord>()
}

fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn read<T: JsonSchema>() -> Value {
    closed(SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value())
}

/// What the API server adds to the schema of an object, which a file has as well.
fn object<K: JsonSchema + Resource<DynamicType = ()>>() -> Value {
    // As kube makes the definitions of these types.
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut generator = settings.into_generator();
    let metadata = generator.subschema_for::<ObjectMeta>().to_value();
    let mut schema = generator.into_root_schema_for::<K>().to_value();
    schema["properties"]["apiVersion"] = json!({"const": K::api_version(&())});
    schema["properties"]["kind"] = json!({"const": K::kind(&())});
    schema["properties"]["metadata"] = metadata;
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    closed(schema)
}

/// The same with nothing allowed that it does not name: an editor then marks what is misspelt.
fn closed(mut schema: Value) -> Value {
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            let has = |key: &&str| map.contains_key(*key);
            let names_fields = map.get("properties").is_some_and(Value::is_object);
            // Of an object that several schemas describe, none of them names every field.
            if names_fields && !["additionalProperties", "$ref", "allOf", "anyOf", "oneOf"].iter().any(has) {
                map.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
