//! Bad input: each ends in a phase and a message that says what to do, and nothing is cut.

use crate::{
    example::EXAMPLE,
    harness::{ARM_DEADLINE, Harness, repository},
};
use anyhow::{Context, Result, ensure};
use rackpartition::api::Phase;
use serde_json::{Value, json};
use std::time::Duration;

pub async fn each_says_what_to_do(h: &Harness) -> Result<()> {
    let refused: [(&str, Value, &str); 3] = [
        ("no-such-rack", isolate(&["r9"]), "the values of topology.kubernetes.io/zone are r1, r2, r3"),
        (
            "no-such-label",
            json!({"rackLabel": "example.com/rack", "cut": {"isolate": {"racks": ["r1"]}}, "duration": "20s"}),
            "spec.rackLabel",
        ),
        ("all-racks", isolate(&["r1", "r2", "r3"]), "spec.guards.allowAllRacks"),
    ];
    for (name, spec, says) in &refused {
        h.create(name, spec.clone()).await?;
        let status = h.phase(name, &[Phase::Refused], Duration::from_secs(30)).await?;
        let message = status.message.unwrap_or_default();
        ensure!(message.contains(says), "{name}: {message}");
        ensure!(status.schedule.is_none(), "{name} has a schedule");
    }
    // The example's own cut, by clocks that no two machines could keep: armed everywhere, and cut nowhere.
    let mut spec = example_spec()?;
    spec["guards"]["maxClockError"] = json!("1ms");
    h.create("out-of-step", spec).await?;
    // While it goes on, no other run may.
    h.phase("out-of-step", &[Phase::Arming], Duration::from_secs(30)).await?;
    h.create("second", isolate(&["r1"])).await?;
    let second = h.phase("second", &[Phase::Refused], Duration::from_secs(30)).await?;
    ensure!(second.message.clone().unwrap_or_default().contains("out-of-step"), "{:?}", second.message);
    let status = h.phase("out-of-step", &[Phase::Refused], ARM_DEADLINE + Duration::from_secs(60)).await?;
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("spec.guards.maxClockError"), "{message}");
    ensure!(status.schedule.is_none(), "a refused run has a schedule");
    h.no_tables(Duration::from_secs(60)).await?;
    for (name, duration) in [("zero", "0s"), ("days", "48h")] {
        let mut spec = isolate(&["r1"]);
        spec["duration"] = json!(duration);
        let error = h.create(name, spec).await.err().context("the API server took it")?;
        ensure!(format!("{error:#}").contains("10s to 1h"), "{name}: {error:#}");
    }
    Ok(())
}

/// The example's own spec.
pub fn example_spec() -> Result<Value> {
    let text = std::fs::read_to_string(repository(EXAMPLE))?;
    let run: Value = serde_saphyr::from_str(&text)?;
    Ok(run["spec"].clone())
}

/// With the largest allowance for clocks: how well they can be compared on a machine that carries six nodes is not what most
/// scenarios are about.
pub fn isolate(racks: &[&str]) -> Value {
    let guards = json!({"maxClockError": "900ms"});
    json!({"cut": {"isolate": {"racks": racks}}, "duration": "20s", "recovery": "60s", "guards": guards})
}
