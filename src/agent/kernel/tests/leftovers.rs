//! Tables that other runs have left.

use super::*;

#[test]
fn a_restart_in_mid_cut_takes_over_and_sweeps_only_other_runs() {
    let node = Node::new();
    let mut kernel = Fake::default();
    kernel.tables.insert("rackpartition-other".into(), TableState::default());
    kernel.tables.insert("kube-proxy".into(), TableState::default());
    let mut keeper = node.start(kernel, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    assert_eq!(phase(&keeper), Loaded);
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["kube-proxy", TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 1);

    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
    keeper.turn(&Order::default(), in_seconds(15));
    assert_eq!(phase(&keeper), Loaded);
    keeper.turn(&Order::default(), in_seconds(20));
    assert_eq!(phase(&keeper), Healed, "without a word from the API");
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["kube-proxy"]);
}

/// It may be late, and what it takes for a leftover the next run's.
#[test]
fn an_agent_that_has_not_read_that_its_run_goes_on_removes_nothing_of_other_runs() {
    const OTHER: &str = "rackpartition-other";
    let node = Node::new();
    let other = Store::open(node.dir.path(), "other");
    other.write_state(&Persisted { armed: true, ..Default::default() }).unwrap();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.firewall.tables.insert(OTHER.into(), TableState::default());
    for order in [Order::default(), Order { known: false, ..arming() }, scheduled()] {
        keeper.turn(&order, in_seconds(0));
    }
    assert!(keeper.firewall.tables.contains_key(OTHER) && other.state().unwrap().armed);

    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.turn(&aborted_run(), in_seconds(0));
    assert!(keeper.firewall.tables.contains_key(OTHER) && other.state().unwrap().armed);
}

#[test]
fn a_list_of_tables_that_fails_is_asked_for_again() {
    let node = Node::new();
    let mut keeper = node.start(Fake { unreadable: true, ..Default::default() }, "b1");
    keeper.firewall.tables.insert("rackpartition-other".into(), TableState::default());
    keeper.turn(&arming(), in_seconds(0));
    keeper.firewall.unreadable = false;
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), [TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 1);
}

#[test]
fn nobody_is_armed_before_what_other_runs_left_is_gone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refused_removals: 1, ..Default::default() }, "b1");
    for other in ["rackpartition-one", "rackpartition-other"] {
        keeper.firewall.tables.insert(other.into(), TableState::default());
    }
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), ["rackpartition-one"], "one keeps no other");
    let report = keeper.journal.last_report();
    let message = report.message.unwrap();
    assert!(report.phase.is_none() && message.starts_with(LEFTOVERS) && message.contains("a transaction"), "{message}");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(keeper.firewall.tables.keys().collect::<Vec<_>>(), [TABLE]);
    assert_eq!(keeper.journal.last_report().kernel.unwrap().leftovers_removed, 2);
}
