//! The member of etcd on this node by its client port, where the cluster's owner lets agents read it: who leads in which term, alarms
//! and sizes every second, and what it holds, in one number, before the cut and after the heal.

use super::{
    AgentArgs,
    decide::Order,
    etcd_answers::{self as answers, Status},
    etcd_client::{client, post},
    etcd_hash,
    health::{self, Answer, ask, listens},
    journal::Journal,
};
use crate::{
    api::{STORE, STORE_ALARMS, STORE_OFF, STORE_RAFT, STORE_UNREAD, SpanKind},
    fault::{PortClass, RunPlan},
    observe::{Look, Observation, now},
};
use kube::Client;
use serde_json::json;
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

/// Between two looks: an election takes a second or more, and no leader should come and go unseen.
const PERIOD: Duration = Duration::from_secs(1);
/// For what the member has at hand.
const DEADLINE: Duration = Duration::from_secs(2);
/// Until the certificates are looked for again: they are there from the start or hardly ever.
const AGAIN: Duration = Duration::from_secs(5);
/// Between the turns of two members with their hashes. Longer than one may take.
const TURN: Duration = Duration::from_secs(3);

/// Where the member is, and what it takes to ask it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    address: SocketAddr,
    /// `None`: the cluster's owner gave agents none.
    certificates: Option<PathBuf>,
    /// How long to wait with a hash, so that members take turns: one that hashes applies no writes meanwhile.
    turn: Duration,
}

impl Member {
    /// The one on this node, if the plan has one there.
    pub fn of(args: &AgentArgs, plan: &RunPlan) -> Option<Self> {
        let members = plan.probes.iter().filter(|t| t.class == PortClass::EtcdClient);
        let port = members.clone().find(|t| t.member == args.node)?.address.port();
        let names: BTreeSet<&str> = members.map(|t| t.member.as_str()).collect();
        let before = names.iter().take_while(|name| **name != args.node).count();
        let folder = &args.etcd_certificates;
        Some(Member {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            certificates: (!folder.is_empty()).then(|| PathBuf::from(folder)),
            turn: TURN.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)),
        })
    }
}

/// Writes down what it sees. Never returns.
pub async fn watch(member: Member, orders: watch::Receiver<Order>, journal: Journal) {
    let Some(folder) = &member.certificates else {
        // Said once: that nobody was to look is not the same as that nobody did.
        journal.observe(SpanKind::Store, now(), Observation::new(STORE, STORE_OFF));
        return std::future::pending().await;
    };
    let client = loop {
        match client(folder, member.address) {
            Ok(client) => break client,
            Err(error) => unread(&journal, error.to_string()),
        }
        sleep(AGAIN).await;
    };
    // A hash may take long, and must not keep anybody from looking.
    tokio::join!(look(&client, member.address, &journal), etcd_hash::both(&client, member.turn, &orders, &journal));
}

/// Writes down raft, alarms and sizes every second. Never returns.
async fn look(client: &Client, address: SocketAddr, journal: &Journal) {
    let mut is_up = false;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let look = Look::begin();
        // As for its health: a member that is there would tell of every connection without a request.
        if !is_up && let Err(answer) = listens(address).await {
            unread(journal, words(answer));
            continue;
        }
        let (vars, status) = tokio::join!(ask(client, "/debug/vars"), status(client));
        is_up = !matches!(vars, Answer::Broken(_));
        if look.was_held(2 * health::DEADLINE) {
            continue;
        }
        match raft(vars) {
            Ok(raft) => {
                let detail = format!("leader={} committed={} applied={}", raft.leader, raft.committed, raft.applied);
                let seen = Observation::new(STORE_RAFT, raft.state.to_string()).detail(detail);
                journal.observe(SpanKind::Store, now(), Observation { id: Some(raft.member), ..seen });
            }
            Err(why) => unread(journal, format!("/debug/vars: {why}")),
        }
        match status {
            Ok(status) => {
                let seen = Observation::new(STORE_ALARMS, status.alarms.as_str()).detail(status.detail());
                journal.observe(SpanKind::Store, now(), seen);
            }
            Err(why) => unread(journal, format!("/v3/maintenance/status: {why}")),
        }
    }
}

fn raft(answer: Answer) -> Result<answers::Raft, String> {
    match answer {
        Answer::Said { code: 200, body } => answers::raft(&body).ok_or_else(|| "no raft.status in it".into()),
        other => Err(words(other)),
    }
}

/// What the member says of itself beside raft.
pub async fn status(client: &Client) -> Result<Status, String> {
    match post(client, "/v3/maintenance/status", &json!({}), DEADLINE).await {
        Answer::Said { code: 200, body } => Status::read(&body).ok_or_else(|| "no status in it".into()),
        other => Err(words(other)),
    }
}

/// Why there is no answer, or none that helps.
pub fn words(answer: Answer) -> String {
    match answer {
        Answer::Said { code, body } => match answers::refusal(&body) {
            Some(why) => format!("{code}: {why}"),
            None => code.to_string(),
        },
        Answer::Late => "no answer in time".into(),
        Answer::Broken(error) => error,
    }
}

fn unread(journal: &Journal, why: String) {
    journal.observe(SpanKind::Store, now(), Observation::new(STORE, STORE_UNREAD).detail(health::shorten(&why)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::ReadyArgs, fault::ProbeTarget};

    fn args(node: &str, etcd_certificates: &str) -> AgentArgs {
        AgentArgs {
            plan: PathBuf::new(),
            node: node.into(),
            namespace: String::new(),
            state_dir: PathBuf::new(),
            ready: ReadyArgs { ready_file: PathBuf::new() },
            runtime_socket: String::new(),
            etcd_certificates: etcd_certificates.into(),
            pod_logs: String::new(),
            leader_metrics: false,
        }
    }

    fn plan() -> RunPlan {
        let target = |member: &str, class: PortClass, port: u16| ProbeTarget {
            member: member.into(),
            class,
            address: (Ipv4Addr::new(198, 18, 0, 1), port).into(),
        };
        let json = json!({
            "run": "r", "runUid": "u", "members": [], "edges": [], "heal": {"port": 1, "token": "00"},
            "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [], "apiServers": [], "writable": [],
        });
        RunPlan {
            probes: vec![
                target("cp2", PortClass::EtcdClient, 12379),
                target("cp1", PortClass::EtcdClient, 2379),
                target("cp1", PortClass::EtcdPeer, 2380),
                target("w1", PortClass::Kubelet, 10250),
            ],
            ..serde_json::from_value(json).unwrap()
        }
    }

    #[test]
    fn members_are_asked_on_their_own_node_and_take_turns() {
        let of = |node: &str| Member::of(&args(node, "/run/etcd"), &plan());
        let (first, second) = (of("cp1").unwrap(), of("cp2").unwrap());
        assert_eq!((first.address.to_string().as_str(), first.turn), ("127.0.0.1:2379", Duration::ZERO));
        assert_eq!((second.address.to_string().as_str(), second.turn), ("127.0.0.1:12379", TURN));
        assert_eq!(second.certificates, Some(PathBuf::from("/run/etcd")));
        assert_eq!(of("w1"), None);
        assert_eq!(Member::of(&args("cp1", ""), &plan()).unwrap().certificates, None);
    }

    #[tokio::test]
    async fn that_nobody_was_to_look_is_said() {
        let journal = Journal::new("hash".into(), "boot".into(), None);
        let (_orders, heard) = watch::channel(Order::default());
        let member = Member::of(&args("cp1", ""), &plan()).unwrap();
        tokio::select! {
            () = super::watch(member, heard, journal.clone()) => unreachable!("it never returns"),
            () = sleep(Duration::from_millis(50)) => {}
        }
        let spans = journal.status().spans;
        assert_eq!((spans.len(), spans[0].kind), (1, SpanKind::Store));
        assert_eq!((spans[0].subject.as_str(), spans[0].state.as_str()), (STORE, STORE_OFF));
    }

    #[tokio::test]
    async fn a_folder_without_certificates_is_said_and_no_reason_to_stop() {
        let (journal, folder) = (Journal::new("hash".into(), "boot".into(), None), tempfile::tempdir().unwrap());
        let (_orders, heard) = watch::channel(Order::default());
        let member = Member::of(&args("cp1", &folder.path().to_string_lossy()), &plan()).unwrap();
        tokio::select! {
            () = super::watch(member, heard, journal.clone()) => unreachable!("it never returns"),
            () = sleep(Duration::from_millis(50)) => {}
        }
        let spans = journal.status().spans;
        assert_eq!((spans.len(), spans[0].state.as_str()), (1, STORE_UNREAD));
        assert!(spans[0].detail.as_ref().unwrap().contains("ca.crt"), "{spans:?}");
    }

    #[test]
    fn what_a_member_says_takes_no_more_of_the_record_than_what_others_say() {
        let journal = Journal::new("hash".into(), "boot".into(), None);
        unread(&journal, "x".repeat(10_000));
        let detail = journal.status().spans[0].detail.clone().unwrap();
        assert_eq!(detail.chars().count(), health::DETAIL_LIMIT + 1);
    }
}
