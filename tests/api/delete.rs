//! Deletion heals in every phase, and never waits longer than the kernels do.

use crate::{
    agents::Agents,
    cluster::{BAD, Cluster, GOOD},
    heal::Packets,
    replica::Replica,
};
use k8s_openapi::jiff::Timestamp;
use rackpartition::api::Phase;
use serde_json::json;
use std::time::{Duration, Instant};

/// On a busy machine, beside what the operator itself waits for.
const SLACK: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_run_whose_agents_answer_is_gone_soon_in_every_phase() {
    let cluster = Cluster::start().await;
    // A replica in the rack that is cut plans, and then waits for another one to lead.
    let bad = Replica::start(&cluster.plane, BAD.0, BAD.1);
    cluster.begin("planned", json!({})).await;
    cluster.until_phase("planned", &[Phase::Planned]).await;
    let begun = Instant::now();
    cluster.delete("planned").await;
    assert!(begun.elapsed() < SLACK, "planned took {:?}", begun.elapsed());
    bad.retire().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    for (name, phase) in [
        ("arming", Phase::Arming),
        ("scheduled", Phase::Scheduled),
        ("cut", Phase::Cut),
        ("recovering", Phase::Recovering),
        ("judging", Phase::Judging),
        ("done", Phase::Done),
    ] {
        cluster.begin(name, json!({"duration": "15s"})).await;
        let _agents = Agents::play(&cluster, name, &[]);
        cluster.until_phase(name, &[phase]).await;
        let begun = Instant::now();
        cluster.delete(name).await;
        assert!(begun.elapsed() < SLACK, "{name} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_run_whose_agents_say_nothing_is_gone_by_the_kernels_deadline() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let packets = Packets::receive(&cluster);

    cluster.begin("arming", json!({})).await;
    cluster.until_phase("arming", &[Phase::Arming]).await;
    let token = cluster.plan_of("arming").await.expect("a plan").heal.token_bytes().expect("a token");
    let agents = Agents::play_mute(&cluster, "arming");
    cluster.until_phase("arming", &[Phase::Scheduled]).await;
    packets.forget();
    cluster.delete("arming").await;
    drop(agents);
    packets.assert_everywhere(&token);

    cluster.begin("cut", json!({"duration": "20s"})).await;
    let agents = Agents::play_mute(&cluster, "cut");
    let status = cluster.until_phase("cut", &[Phase::Cut]).await;
    let heal_at = status.schedule.expect("a schedule").heal_at.0;
    let token = cluster.plan_of("cut").await.expect("a plan").heal.token_bytes().expect("a token");
    packets.forget();
    cluster.delete("cut").await;
    drop(agents);
    packets.assert_everywhere(&token);
    let after = Timestamp::now().duration_since(heal_at).as_secs_f64();
    assert!(after < SLACK.as_secs_f64(), "gone {after} s after the deadline");
    assert!(after > 0.0, "nobody said that it has healed, so the run is kept until the deadline");
}
