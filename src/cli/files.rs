//! Reads what people write by hand: YAML, or JSON where the file's name ends so. A field that nobody knows is an error.

use super::{rules, schema, unknown_fields::unknown_fields};
use crate::{
    api::RackPartition,
    topology::{Snapshot, Timer},
};
use anyhow::{Context, bail, ensure};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// A run with a spec that the API server would take.
///
/// # Errors
/// Where the file can't be read or is something else.
pub fn run(path: &Path) -> anyhow::Result<RackPartition> {
    let run: RackPartition = read(path, &schema::run())?;
    if let Some(rule) = rules::broken(&run.spec) {
        bail!("{}: the API server would refuse it: {rule}", path.display());
    }
    Ok(run)
}

/// A snapshot whose members can be told apart, and whose timers somebody wrote down.
///
/// # Errors
/// Where the file can't be read or is something else.
pub fn snapshot(path: &Path) -> anyhow::Result<Snapshot> {
    let snapshot = read(path, &schema::snapshot())?;
    let checked = check_members(&snapshot).and_then(|()| check_timers(&snapshot));
    checked.with_context(|| format!("failed to understand {}", path.display()))?;
    Ok(snapshot)
}

/// What a file says, by the schema of what is expected there.
///
/// # Errors
/// Where the file can't be read, says something else, or has a field that the schema does not know.
pub fn read<T: DeserializeOwned>(path: &Path, schema: &Value) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    understand(&text, is_json, schema).with_context(|| format!("failed to understand {}", path.display()))
}

/// As JSON that people can read.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data")
}

/// As YAML.
pub fn yaml(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("plain data");
    serde_saphyr::to_string(&value).expect("JSON is YAML")
}

fn understand<T: DeserializeOwned>(text: &str, is_json: bool, schema: &Value) -> anyhow::Result<T> {
    let value: Value = parse(text, is_json)?;
    for field in ["apiVersion", "kind"] {
        let (found, expected) = (&value[field], &schema["properties"][field]["const"]);
        ensure!(expected.is_null() || found == expected, "{field} is {found}, not {expected}");
    }
    let unknown = unknown_fields(schema, &value);
    ensure!(unknown.is_empty(), "{}", unknown.join("; "));
    // From the text again: its errors name the line.
    parse(text, is_json)
}

fn parse<T: DeserializeOwned>(text: &str, is_json: bool) -> anyhow::Result<T> {
    if is_json { Ok(serde_json::from_str(text)?) } else { Ok(serde_saphyr::from_str(text)?) }
}

/// The operator finds members by their names; two of one name would be one, and one that nobody has would count for nothing.
fn check_members(snapshot: &Snapshot) -> anyhow::Result<()> {
    let nodes = snapshot.nodes.iter().map(|n| n.name.as_str());
    let mut known = BTreeSet::new();
    for name in nodes.chain(snapshot.endpoints.iter().map(|e| e.name.as_str())) {
        ensure!(!name.is_empty(), "a node or an endpoint has no name");
        ensure!(known.insert(name), "{name} is there twice: give each node and each endpoint a name of its own");
    }
    match snapshot.etcd.iter().find(|m| !known.contains(m.node.as_str())) {
        Some(member) => bail!("a member of etcd is on {:?}, which is neither a node nor an endpoint", member.node),
        None => Ok(()),
    }
}

const SAY_WHERE_FROM: &str = "write its seconds, where they come from, and assumed: true where nobody has looked";

/// One that was left out would count as no time at all, and nobody would be told.
fn check_timers(snapshot: &Snapshot) -> anyhow::Result<()> {
    // By their names as they are written, so that a new one is not forgotten here.
    let of_cluster = serde_json::to_value(&snapshot.timers)?;
    let timer = |(name, timer): (&String, &Value)| {
        Some((format!("timers.{name}"), serde_json::from_value::<Timer>(timer.clone()).ok()?))
    };
    let mut timers: Vec<(String, Timer)> = of_cluster.as_object().into_iter().flatten().filter_map(timer).collect();
    for lease in &snapshot.leases {
        let (name, seconds) = (lease.subject(), lease.lease_duration);
        ensure!(seconds.is_finite() && seconds > 0.0, "leaseDuration of {name} is {seconds} s");
        timers.push((format!("renewDeadline of {name}"), lease.renew_deadline.clone()));
        timers.push((format!("retryPeriod of {name}"), lease.retry_period.clone()));
    }
    for (name, Timer { seconds, source, .. }) in timers {
        ensure!(!source.is_empty(), "{name} has no source: {SAY_WHERE_FROM}");
        ensure!(seconds.is_finite() && seconds >= 0.0, "{name} is {seconds} s");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{judge::tests::fixture, topology::Timers};

    fn said(text: &str, is_json: bool) -> String {
        format!("{:#}", understand::<Snapshot>(text, is_json, &schema::snapshot()).unwrap_err())
    }

    #[test]
    fn what_was_written_is_read_again_from_either_form() {
        let snapshot = fixture::snapshot();
        for (text, is_json) in [(json(&snapshot), true), (yaml(&snapshot), false)] {
            assert_eq!(understand::<Snapshot>(&text, is_json, &schema::snapshot()).unwrap(), snapshot, "{text}");
        }
    }

    #[test]
    fn an_error_says_where() {
        let misspelt = said("nodes:\n- name: n1\n  adresses: [198.18.0.1]\n", false);
        assert!(misspelt.contains("nodes[0].adresses") && misspelt.contains("addresses"), "{misspelt}");
        let wrong = said("{\"nodes\": [\n{\"name\": \"n1\", \"ready\": 1}]}", true);
        assert!(wrong.contains("expected a boolean") && wrong.contains("line 2"), "{wrong}");
        assert!(said("{\"nodes\": [", true).contains("EOF"));
    }

    #[test]
    fn members_have_names_that_tell_them_apart() {
        let refused = |change: fn(&mut Snapshot)| {
            let mut snapshot = fixture::snapshot();
            change(&mut snapshot);
            check_members(&snapshot).unwrap_err().to_string()
        };
        check_members(&fixture::snapshot()).unwrap();
        assert!(refused(|s| s.nodes[1].name = "cp1".into()).contains("cp1 is there twice"));
        assert!(refused(|s| s.endpoints[0].name = "w1".into()).contains("w1 is there twice"));
        assert!(refused(|s| s.nodes[0].name.clear()).contains("no name"));
        assert!(refused(|s| s.etcd[0].node = "cp9".into()).contains("cp9"));
    }

    #[test]
    fn a_timer_that_was_left_out_is_not_zero() {
        check_timers(&fixture::snapshot()).unwrap();
        let without = Snapshot { timers: Timers::default(), ..fixture::snapshot() };
        let error = check_timers(&without).unwrap_err().to_string();
        assert!(error.starts_with("timers.") && error.contains("has no source"), "{error}");
        let mut lease = fixture::snapshot();
        lease.leases[0].retry_period = Timer::default();
        let error = check_timers(&lease).unwrap_err().to_string();
        assert!(error.contains("retryPeriod of kube-system/kube-controller-manager"), "{error}");
        lease.leases[0].lease_duration = 0.0;
        assert!(check_timers(&lease).unwrap_err().to_string().contains("leaseDuration of"));
    }
}
