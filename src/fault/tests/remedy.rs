//! What would let a run begin that is refused or waits, in the names under which people find it.

use serde_json::Value;

const CRD: &str = include_str!("../../../crds/rackpartition.io_rackpartitions.yaml");
const VALUES: &str = include_str!("../../../charts/rackpartition/values.yaml");

/// What lets it begin.
#[derive(Clone, Copy, Debug)]
pub enum Remedy {
    /// A field of the run.
    Run(&'static str),
    /// A value of the chart.
    Chart(&'static str),
    /// No field allows it: something else is to be done, in these words.
    Deed(&'static str),
}

impl Remedy {
    /// Panics where a sentence does not name it.
    pub fn is_in(self, sentence: &str) {
        let (Remedy::Run(words) | Remedy::Chart(words) | Remedy::Deed(words)) = self;
        assert!(sentence.contains(words), "{words} is not in: {sentence}");
    }

    /// Panics where nobody could set it.
    pub fn is_there(self) {
        match self {
            Remedy::Run(field) => assert!(has_field(field), "runs have no {field}"),
            Remedy::Chart(value) => assert!(has_value(value), "the chart has no {value}"),
            Remedy::Deed(_) => {}
        }
    }
}

fn has_field(at: &str) -> bool {
    let crd: Value = serde_saphyr::from_str(CRD).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let property = at.split('.').fold(schema, |schema, name| match name.strip_suffix("[]") {
        Some(list) => &schema["properties"][list]["items"],
        None => &schema["properties"][name],
    });
    property.is_object()
}

fn has_value(at: &str) -> bool {
    let values: Value = serde_saphyr::from_str(VALUES).unwrap();
    !at.split('.').fold(&values, |at, name| &at[name]).is_null()
}

#[test]
fn what_is_not_there_is_noticed() {
    assert!(!has_field("spec.guards.allowNothing") && has_field("spec.endpoints[].cidrs"));
    assert!(!has_value("policy.nothing") && has_value("policy.maxDuration"));
}
