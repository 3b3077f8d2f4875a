//! Arming is all or nothing: who is missing, out of step, unfit or late is named, and nobody is cut.

use crate::{
    agents::{Agents, Leads, Manner, Member},
    cluster::{Cluster, GOOD, pod},
    replica::{AGENTS, NAMESPACE, Replica},
    survey::say,
    wait::{SOON, until},
};
use clap::Parser;
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use rackpartition::{
    api::{Phase, RackPartitionStatus},
    connection::Route,
    operator::{self, Settings},
};
use serde_json::json;
use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

fn condition<'a>(status: &'a RackPartitionStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_);
    found.map(|c| (c.status.as_str(), c.message.as_str())).unwrap_or_default()
}

#[tokio::test]
async fn agents_that_never_come_end_the_run_in_the_kubelets_words() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(8));
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    cluster.add_pod(AGENTS, pod("agent", "c1", json!({"rackpartition.io/run": "run"}), &["agent"]), false).await;
    let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image rackpartition:test"});
    let container = json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": waiting}});
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [container]}});
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), AGENTS);
    pods.patch_status("agent", &PatchParams::default(), &Patch::Merge(status)).await.expect("a waiting pod");

    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.clone().unwrap_or_default();
    for words in
        ["c1", "ImagePullBackOff: Back-off pulling image", "mend the image or its pull secret", "agent.armDeadline"]
    {
        assert!(message.contains(words), "{words} is not in {message}");
    }
    assert_eq!(condition(&status, "Armed").0, "False");
    assert!(status.schedule.is_none());
    let run = cluster.until_wound_up("run").await.expect("a refused run stays");
    let status = run.status.expect("a status");
    assert_eq!(status.message, Some(message), "the reason is not written over");
    assert_eq!(condition(&status, "Healed").0, "True");
}

#[tokio::test]
async fn who_is_unfit_walled_in_out_of_step_or_holds_what_is_elsewhere_is_named() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(30));
    let ahead = Manner { ahead_ms: 1500, ..Default::default() };
    let hears_a_stranger = Manner { stranger: Some("198.18.0.99".parse().expect("an address")), ..Default::default() };
    // A virtual address that w1 holds, in the rack that is cut off, is planned to be outside of it.
    let vip = json!([{"name": "vip", "cidrs": ["198.18.0.100/32"]}]);
    let holds = Manner { holds: Some("198.18.0.100".parse().expect("an address")), ..Default::default() };
    cluster.begin("vip", json!({"endpoints": vip})).await;
    let _agents = Agents::play(&cluster, "vip", &[("w1", holds)]);
    let message = cluster.until_phase("vip", &[Phase::Refused]).await.message.unwrap_or_default();
    ["198.18.0.100 of vip", "w1 holds it, in rack r1", "spec.guards.allowUnplacedSources"]
        .iter()
        .for_each(|w| assert!(message.contains(w), "{w} is not in {message}"));
    cluster.until_wound_up("vip").await.expect("a refused run stays");
    for (name, guards, manner, words) in [
        (
            "unfit",
            json!({}),
            Manner { unfit: true, ..Default::default() },
            &["w3", "the kernel has no nftables", "see to that node and its agent's pod"][..],
        ),
        (
            "wall",
            json!({"maxClockError": "900ms"}),
            Manner { walled_in: true, ..Default::default() },
            &["w3", "firewall"],
        ),
        // Nobody else's datagrams arrive there, and heal packets would not either.
        (
            "deaf",
            json!({"maxClockError": "900ms"}),
            Manner { deaf: true, ..Default::default() },
            &["w3 to hear c1 by Ipv4", "UDP port 40441"],
        ),
        // A NetworkPolicy holds the operator's pod, and no agent.
        (
            "held",
            json!({"maxClockError": "900ms"}),
            Manner { deaf_to_operator: true, ..Default::default() },
            &["w3 to hear the operator's pod on w2 by Ipv4", "NetworkPolicy", "UDP port 40441", "no field of the spec"],
        ),
        (
            "stranger",
            json!({"maxClockError": "900ms"}),
            hears_a_stranger,
            &["it hears 198.18.0.99", "spec.endpoints", "spec.guards.allowUnplacedSources"],
        ),
        (
            "clock",
            json!({"maxClockError": "800ms"}),
            ahead,
            &[
                "allows 800 ms",
                "that of w3 is 1500 ms ahead of most",
                "start an NTP client there",
                "spec.guards.maxClockError",
            ],
        ),
    ] {
        cluster.begin(name, json!({"guards": guards})).await;
        let _agents = Agents::play(&cluster, name, &[("w3", manner)]);
        let status = cluster.until_phase(name, &[Phase::Refused]).await;
        let message = status.message.unwrap_or_default();
        words.iter().for_each(|w| assert!(message.contains(w), "{name}: {w} is not in {message}"));
        assert!(status.schedule.is_none(), "{name} was scheduled");
        let run = cluster.until_wound_up(name).await.expect("a refused run stays");
        assert_eq!(condition(&run.status.expect("a status"), "Healed").0, "True", "{name}: every agent has said so");
    }
    // The same cluster with every clock in step, and the stranger let in.
    let guards = json!({"allowUnplacedSources": true, "maxClockError": "900ms"});
    cluster.begin("in-step", json!({"guards": guards})).await;
    let _agents = Agents::play(&cluster, "in-step", &[("w3", hears_a_stranger)]);
    cluster.until_phase("in-step", &[Phase::Scheduled]).await;
}

#[tokio::test]
async fn nobody_is_cut_where_one_does_not_load_or_gives_up() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let late = Manner { never_loads: true, ..Default::default() };
    let gone = Manner { gives_up: true, ..Default::default() };
    for (name, manner) in [("late", late), ("gone", gone)] {
        cluster.begin(name, json!({})).await;
        let _agents = Agents::play(&cluster, name, &[("w3", manner)]);
        let status = cluster.until_phase(name, &[Phase::Aborted]).await;
        let message = status.message.unwrap_or_default();
        assert!(message.contains("called off") && message.contains("w3"), "{name}: {message}");
        assert!(message.contains("see to the node and its agent's pod"), "{name}: {message}");
        assert!(!message.contains("w2"), "{name}: {message}");
        let run = cluster.until_wound_up(name).await.expect("an aborted run stays");
        let status = run.status.expect("a status");
        assert_eq!(condition(&status, "Healed"), ("True", "every node says that its table is gone"), "{name}");
        assert_eq!(condition(&status, "Injected").0, "", "{name} was never cut");
    }
}

#[tokio::test]
async fn whoever_was_to_be_cut_off_as_etcds_leader_must_lead_to_the_last() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start(&cluster.plane, GOOD.0, GOOD.1);
    let leads = |leads| Manner { leads, ..Default::default() };
    let begin = async |name: &str, c1: Option<Leads>, c3: Option<Leads>| {
        let run = cluster.begin(name, json!({"cut": {"isolate": {"role": "etcd-leader"}}})).await;
        until("agents that ask", SOON, || async {
            cluster.status(name).await?.message.filter(|m| m.contains("who leads"))
        })
        .await;
        say(&cluster, &run, "c1", "leads").await;
        Agents::play(&cluster, name, &[("c1", leads(c1)), ("c3", leads(c3))])
    };
    // It moves between the two barriers, where every node has its windows already.
    let agents = begin("moves", Some(Leads::UntilLoaded), Some(Leads::OnceLoaded)).await;
    let status = cluster.until_phase("moves", &[Phase::Aborted]).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("called off: etcd's leader moved from c1 to c3"), "{message}");
    let run = cluster.until_wound_up("moves").await.expect("an aborted run stays");
    let status = run.status.expect("a status");
    assert_eq!(condition(&status, "Healed").0, "True");
    assert_eq!(condition(&status, "Injected").0, "", "nobody was cut");
    drop(agents);
    // One that stays is cut off.
    let _agents = begin("stays", Some(Leads::Always), None).await;
    cluster.until_phase("stays", &[Phase::Cut]).await;
}

#[tokio::test]
async fn a_cluster_that_is_not_whole_is_not_cut() {
    let cluster = Cluster::start().await;
    let _replica = Replica::start_with(&cluster.plane, GOOD.0, GOOD.1, Duration::from_secs(15));
    let member = |etcd| Manner { etcd, ..Default::default() };
    for (name, etcd, why) in [
        ("slow", Member::Slow, "took longer than half a second"),
        ("fickle", Member::Fickle, "its leader changed"),
        ("silent", Member::Silent, "no word of it yet"),
    ] {
        cluster.begin(name, json!({})).await;
        let _agents = Agents::play(&cluster, name, &[("c3", member(etcd))]);
        let message = until("the run to wait for etcd", SOON, || async {
            cluster.status(name).await?.message.filter(|m| m.contains("etcd on c3"))
        })
        .await;
        assert!(message.contains(why), "{name}: {message}");
        assert!(message.contains("spec.guards.allowUnhealthyBaseline"), "{name}: {message}");
        cluster.delete(name).await;
    }
    cluster.begin("run", json!({})).await;
    cluster.until_phase("run", &[Phase::Arming]).await;
    cluster.set_ready("c3", false).await;
    let _agents = Agents::play(&cluster, "run", &[]);
    let status = cluster.until_phase("run", &[Phase::Refused]).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains("node c3 to be Ready"), "{message}");
    assert!(message.contains("spec.guards.allowUnhealthyBaseline"), "{message}");
    cluster.until_wound_up("run").await;
    // What an unready node was refused for is allowed by the guard, and so is an etcd that isn't well.
    cluster.begin("allowed", json!({"guards": {"allowUnhealthyBaseline": true, "maxClockError": "900ms"}})).await;
    let members = [("c1", member(Member::Slow)), ("c2", member(Member::Fickle)), ("c3", member(Member::Silent))];
    let _agents = Agents::play(&cluster, "allowed", &members);
    until("the guard to open", SOON, || async {
        let phase = cluster.status("allowed").await?.phase?;
        matches!(phase, Phase::Scheduled | Phase::Cut).then_some(())
    })
    .await;
}

/// The operator's own command line, for what a [`Replica`] leaves out.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
}

/// Below the range that the kernel gives from by itself, so that nobody takes it meanwhile.
fn free_port() -> u16 {
    (20_000..30_000).find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).expect("a free port")
}

/// The tables of earlier runs that the operator has counted, as Prometheus reads them.
async fn leftovers_counted(port: u16) -> Option<String> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let text = client.get(format!("http://127.0.0.1:{port}/metrics")).send().await.ok()?.text().await.ok()?;
    text.lines().find_map(|l| l.strip_prefix("rackpartition_leftover_tables_total ")).map(str::to_owned)
}

/// The notes of all events that tell of them.
async fn leftovers_told(cluster: &Cluster) -> Vec<String> {
    let events = Api::<Event>::all(cluster.client.clone()).list(&ListParams::default()).await.expect("events");
    let of_leftovers = events.items.into_iter().filter(|e| e.reason.as_deref() == Some("LeftoversRemoved"));
    of_leftovers.filter_map(|e| e.note).collect()
}

#[tokio::test]
async fn tables_of_earlier_runs_are_told_however_arming_ends() {
    let cluster = Cluster::start().await;
    let port = free_port();
    let words = ["operator", "--pod", GOOD.0, "--namespace", NAMESPACE, "--node", GOOD.1, "--agent-image", "none"];
    let port_words = ["--metrics-port".to_owned(), port.to_string()];
    let CommandLine { settings } = CommandLine::parse_from(words.map(str::to_owned).into_iter().chain(port_words));
    let route = Route::new(cluster.plane.config.clone(), &[]);
    let operator = tokio::spawn(operator::serve_until(settings, route, std::future::pending::<()>()));
    let found = |leftovers| Manner { leftovers, ..Default::default() };

    cluster.begin("cuts", json!({})).await;
    let agents = Agents::play(&cluster, "cuts", &[("c1", found(2)), ("w3", found(1))]);
    cluster.until_phase("cuts", &[Phase::Scheduled]).await;
    // Told after the phase is written, by whoever wrote it.
    let told =
        until("the event", SOON, async || Some(leftovers_told(&cluster).await).filter(|told| !told.is_empty())).await;
    assert_eq!(told, ["tables of earlier runs were removed: 2 on c1, 1 on w3"]);
    assert_eq!(leftovers_counted(port).await.as_deref(), Some("3"));
    cluster.delete("cuts").await;
    drop(agents);

    cluster.begin("refused", json!({})).await;
    let unfit = Manner { unfit: true, ..Default::default() };
    let _agents = Agents::play(&cluster, "refused", &[("c1", found(4)), ("w3", unfit)]);
    cluster.until_phase("refused", &[Phase::Refused]).await;
    let told = async || leftovers_told(&cluster).await.iter().any(|note| note.ends_with(": 4 on c1")).then_some(());
    until("the event of a run that was refused", SOON, told).await;
    assert_eq!(leftovers_counted(port).await.as_deref(), Some("7"));
    cluster.until_wound_up("refused").await.expect("a refused run stays");
    operator.abort();
}
