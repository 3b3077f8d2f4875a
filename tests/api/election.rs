//! Who leads: one at a time, handed over on purpose within seconds, and given up where the API is silent.

use crate::{
    agents::Agents,
    cluster::{BAD, Cluster, GOOD},
    control_plane::{ControlPlane, free_port},
    replica::Replica,
    wait::{SOON, until_or},
};
use rackpartition::{
    api::Phase,
    connection::Route,
    operator::{Election, Ended},
};
use serde_json::json;
use std::{
    future::{pending, ready},
    net::Ipv4Addr,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, time::timeout};

/// Renew deadline (10 s) of the operator's Lease, and room for a busy machine.
const LOST_WITHIN: Duration = Duration::from_secs(20);
/// Less than the Lease's duration (15 s): nobody waited for it to run out.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(12);

fn candidate(plane: &ControlPlane, name: &str) -> Election {
    Election::new(Route::new(plane.config.clone(), &[]).client(), "default", name)
}

#[tokio::test]
async fn one_leads_and_the_other_follows_at_once_when_it_lets_go() {
    let plane = ControlPlane::start().await;
    let (mut first, mut second) = (candidate(&plane, "first"), candidate(&plane, "second"));
    timeout(SOON, first.win(|| ready(false))).await.expect("a free Lease is won");
    let (let_go, released) = oneshot::channel::<()>();
    let holding = tokio::spawn(async move {
        let ended = first.hold(async { drop(released.await) }).await;
        (first, ended)
    });
    // Longer than the Lease lasts: it is renewed.
    let won = timeout(Duration::from_secs(18), second.win(|| ready(false))).await;
    assert!(won.is_err(), "two lead");
    let since = Instant::now();
    let_go.send(()).expect("it holds");
    let (mut first, ended) = holding.await.expect("no panic");
    assert_eq!(ended, Ended::Released);
    timeout(SOON, second.win(|| ready(false))).await.expect("a Lease that was let go is won");
    assert!(since.elapsed() < HANDED_OVER_WITHIN, "{:?}", since.elapsed());

    // The API falls silent in mid-term: whoever leads must have stopped before the Lease runs out.
    let holding = tokio::spawn(async move {
        let ended = second.hold(pending()).await;
        (second, ended)
    });
    plane.freeze();
    let since = Instant::now();
    let (mut second, ended) = timeout(SOON, holding).await.expect("it does not hold for ever").expect("no panic");
    assert_eq!(ended, Ended::Lost);
    assert!(since.elapsed() < LOST_WITHIN, "{:?}", since.elapsed());
    plane.thaw();
    let both = async {
        tokio::select! {
            () = first.win(|| ready(false)) => {}
            () = second.win(|| ready(false)) => {}
        }
    };
    timeout(SOON, both).await.expect("somebody leads again");
}

#[tokio::test]
async fn whoever_will_be_cut_off_hands_over_before_arming_and_stands_aside() {
    let cluster = Cluster::start().await;
    let bad = Replica::start(&cluster.plane, BAD.0, BAD.1);
    cluster.until_leader(BAD.0).await;
    let good = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    cluster.begin("run", json!({"duration": "15s"})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    assert_eq!(cluster.leader().await.as_deref(), Some(GOOD.0), "armed by the side that stays writable");
    let _agents = Agents::play(&cluster, "run", &[]);
    cluster.until_phase("run", &[Phase::Cut]).await;
    assert_eq!(cluster.leader().await.as_deref(), Some(GOOD.0));
    // In calm, whoever is asked to end lets go of the Lease, and nobody waits for it to run out.
    cluster.delete("run").await;
    let since = Instant::now();
    good.retire().await;
    cluster.until_leader(BAD.0).await;
    assert!(since.elapsed() < HANDED_OVER_WITHIN, "{:?}", since.elapsed());
    drop(bad);
}

#[tokio::test]
async fn a_run_goes_on_after_the_api_was_silent() {
    let cluster = Cluster::start().await;
    let port = free_port(Ipv4Addr::LOCALHOST);
    let _replica = Replica::start_telling(&cluster.plane, GOOD.0, GOOD.1, port);
    cluster.begin("run", json!({"duration": "20s", "recovery": "10s"})).await;
    let _agents = Agents::play(&cluster, "run", &[]);
    cluster.until_phase("run", &[Phase::Cut]).await;
    assert_eq!(leads(port).await, Some(true));
    cluster.plane.freeze();
    let lost = until_or(LOST_WITHIN, || async { (!leads(port).await?).then_some(()) }).await;
    cluster.plane.thaw();
    assert!(lost.is_some(), "it leads on, though it can't renew its Lease");
    cluster.until_phase("run", &[Phase::Recovering]).await;
    cluster.delete("run").await;
}

/// What a replica says of itself on its port, which takes no API; `None` where it says nothing.
async fn leads(port: u16) -> Option<bool> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("http://127.0.0.1:{port}/metrics")).send().await.ok()?;
    let metrics = answer.text().await.ok()?;
    metrics.lines().find_map(|line| line.strip_prefix("rackpartition_leads ")).map(|value| value == "1")
}
