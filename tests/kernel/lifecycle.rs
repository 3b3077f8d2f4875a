//! Arming, looking, healing by hand and removing; and who may not.

use crate::child::{self, Child};
use crate::fixture::{LONG, Net, Ns, TABLE, always, eventually, spec, window};
use crate::node::{Node, plan};
use rackpartition::fault::RunPlan;
use rackpartition::netfilter::{Error, TableState, TimeWindow};
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
    time::Duration,
};

#[test]
fn a_table_from_arming_to_removal() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    assert_eq!(netfilter.tables().unwrap(), Vec::<String>::new());
    assert_eq!(netfilter.state(TABLE).unwrap(), None);
    netfilter.remove(TABLE).unwrap();
    netfilter.close_gate(TABLE).unwrap();
    assert!(matches!(netfilter.cut(TABLE, &[always()], LONG), Err(Error::NoTable { .. })));

    net.right.nft(&["add", "table", "inet", "rack"]);
    net.right.nft(&["add", "table", "ip", "rackpartition-ip"]);
    netfilter.arm(&net.right_cut_from_left(), Duration::from_secs(10)).unwrap();
    let mut other = spec(&["10.0.0.0/8"]);
    other.name = "rackpartition-other".into();
    netfilter.arm(&other, LONG).unwrap();
    assert_eq!(netfilter.tables().unwrap(), [TABLE, "rackpartition-other"], "of our prefix and family only");

    let state = netfilter.state(TABLE).unwrap().unwrap();
    let gate = state.gate.expect("armed");
    assert!(gate > Duration::from_secs(5) && gate <= Duration::from_secs(10), "{gate:?}");
    assert_eq!(state, TableState { gate: Some(gate), rule_packets: vec![0], rules: 6, ..TableState::default() });
    let again = netfilter.arm(&net.right_cut_from_left(), LONG);
    assert!(matches!(&again, Err(Error::TableExists { table }) if table == TABLE), "{again:?}");
    assert!(netfilter.state(TABLE).unwrap().unwrap().gate.unwrap() <= gate, "arming again does not extend");

    netfilter.cut(TABLE, &[window(60_000, 61_000), window(62_000, 63_000), window(60_500, 61_500)], LONG).unwrap();
    let state = netfilter.state(TABLE).unwrap().unwrap();
    assert!(state.gate.unwrap() > Duration::from_secs(50), "the final timeout");
    assert_eq!(state.windows, 2, "overlapping windows are one");
    netfilter.close_gate(TABLE).unwrap();
    netfilter.close_gate(TABLE).unwrap();
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap().gate, None);
    netfilter.remove(TABLE).unwrap();
    assert_eq!(netfilter.state(TABLE).unwrap(), None);
    assert_eq!(netfilter.tables().unwrap(), ["rackpartition-other"]);
}

/// As an agent does whose first load took long.
#[test]
fn the_same_windows_are_loaded_again_with_a_shorter_gate() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let windows = [window(-1000, 61_000), window(62_000, 63_000)];
    for gate in [LONG, Duration::from_secs(10)] {
        netfilter.cut(TABLE, &windows, gate).unwrap();
        let state = netfilter.state(TABLE).unwrap().unwrap();
        assert!(state.windows == 2 && state.gate.is_some_and(|left| left <= gate), "{state:?}");
    }
}

/// As tools do that save the ruleset and restore it.
#[test]
fn a_table_that_somebody_brings_back_after_a_reboot_is_removed() {
    let net = Net::new();
    let plan = plan(&net, LONG / 2, LONG);
    for is_loaded in [false, true] {
        let mut node = Node::new(&net.right, &plan);
        if is_loaded {
            node.cut(LONG / 2);
        } else {
            node.arm();
            eventually("the node is armed", || node.is_ready());
        }
        node.reboots_and_has_its_table_restored();
        node.ends("Unfit");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_the_kernel_sees_it() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let none = Duration::ZERO;
    assert!(matches!(netfilter.arm(&net.right_cut_from_left(), none), Err(Error::GateTooShort { .. })));
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    assert!(matches!(netfilter.cut(TABLE, &[always()], none), Err(Error::GateTooShort { .. })));
    let TimeWindow { from, to } = always();
    assert!(matches!(netfilter.cut(TABLE, &[TimeWindow { from: to, to: from }], LONG), Err(Error::Window { .. })));
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap().windows, 0);

    net.right.nft(&["add", "table", "inet", "firewall"]);
    assert!(matches!(netfilter.remove("firewall"), Err(Error::Name { .. })), "no table but ours is touched");
    assert!(net.right.nft(&["list", "tables"]).contains("firewall"));
}

#[test]
fn a_refusal_says_which_message_and_why() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    // Another's window that overlaps ours.
    net.right.nft(&["add", "element", "inet", TABLE, "windows", "{ \"2040-01-01 00:00:00\"-\"2040-01-02 00:00:00\" }"]);
    let at = |s: &str| s.parse().unwrap();
    let windows = [TimeWindow { from: at("2040-01-01T12:00:00Z"), to: at("2040-01-03T00:00:00Z") }];
    let refused = netfilter.cut(TABLE, &windows, LONG).unwrap_err().to_string();
    let expected = "failed to cut by table rackpartition-test: the kernel refused elements 0 to 0 of set windows \
                    (message 3 of the transaction): File exists (os error 17)";
    assert_eq!(refused, expected);
    assert!(netfilter.state(TABLE).unwrap().unwrap().gate.is_some(), "the gate was not taken");
}

/// A process of `ns` that may do nothing.
fn nobody(ns: &Ns, mode: &str, args: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    ns.run(|| Child::spawn(command.uid(65534).gid(65534), mode, args))
}

#[test]
fn who_may_not_is_told_so() {
    let net = Net::new();
    assert_eq!(nobody(&net.right, child::OPEN, &[]).line(), Error::NotPermitted.to_string());
}

/// By a packet to itself: a datagram takes no rights.
#[test]
fn an_agent_that_may_not_ask_its_kernel_opens_its_node_in_an_abort_all_the_same() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join(RunPlan::FILE), plan(&net, LONG, LONG).to_string()).unwrap();
    let mut agent = nobody(&net.right, child::AGENT, &[net.right.device, directory.path().to_str().unwrap()]);
    agent.tell("abort");
    eventually("right has its packet", || netfilter.state(TABLE).unwrap().unwrap().heal_packets > 0);
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap().gate, None);
}

#[test]
fn a_rule_that_somebody_deletes_or_adds_is_counted() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let mut rules = || netfilter.state(TABLE).unwrap().unwrap().rules;
    let loaded = rules();
    assert!(loaded > 0);
    net.right.nft(&["add", "rule", "inet", TABLE, "prerouting", "accept"]);
    assert_eq!(rules(), loaded + 1);
    net.right.nft(&["flush", "chain", "inet", TABLE, "ingress"]);
    assert!(rules() < loaded);
    net.right.nft(&["flush", "ruleset"]);
    assert_eq!(netfilter.state(TABLE).unwrap(), None, "a flush of all takes the table along");
}
