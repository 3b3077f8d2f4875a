//! From arming to the heal: what is done when, and what is noticed on the way.

use super::*;

#[test]
fn arms_loads_heals_and_is_ready_in_between() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((phase(&keeper), node.ready()), (Armed, true));

    let order = scheduled();
    keeper.turn(&order, in_seconds(1));
    assert_eq!((phase(&keeper), node.ready()), (Loaded, true));
    let state = &keeper.firewall.tables[TABLE];
    let gate = state.gate.unwrap().as_secs_f64();
    assert!((20.0..20.3).contains(&gate), "until the heal and a quarter of a second: {gate}");
    assert_eq!(keeper.journal.last_report().loaded_cut_at, order.times.map(|t| t.cut_at));

    keeper.firewall.tables.get_mut(TABLE).unwrap().dropped_packets = 9;
    keeper.turn(&order, in_seconds(15));
    keeper.turn(&order, in_seconds(21));
    assert_eq!((phase(&keeper), node.ready()), (Healed, false));
    assert!(keeper.firewall.tables.is_empty());
    let report = keeper.journal.last_report();
    assert_eq!(report.kernel.map(|k| (k.table, k.dropped_packets)), Some((false, 9)), "the last counts are kept");
    assert_eq!(keeper.firewall.sent, 0);
}

#[test]
fn an_agent_that_has_not_read_the_run_touches_nothing() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&Order::default(), in_seconds(0));
    assert!(keeper.firewall.tables.is_empty() && !node.store().state().unwrap().armed && !node.ready());
    assert_eq!(keeper.journal.last_report().phase, None);
}

#[test]
fn whoever_changes_the_table_is_noticed_also_by_another_process() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!(keeper.journal.last_report().kernel.unwrap().changed, None);
    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.firewall.tables.get_mut(TABLE).unwrap().rules += 1;
    keeper.turn(&scheduled(), in_seconds(2));
    let changed = keeper.journal.last_report().kernel.unwrap().changed.unwrap();
    assert!(changed.contains("it has 1 rules, 0 were loaded"), "{changed}");
}

#[test]
fn a_table_that_somebody_removes_in_mid_cut_is_noticed() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    keeper.firewall.tables.clear();
    keeper.turn(&scheduled(), in_seconds(12));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("vanished in mid-cut"));
    keeper.turn(&scheduled(), in_seconds(25));
    assert_eq!(phase(&keeper), Unfit, "the end of the cut does not make it healed");
}

#[test]
fn the_next_look_is_when_the_cut_ends_if_that_is_sooner() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(0));
    let heal_at = keeper.known.times.unwrap().heal_at;
    assert_eq!(keeper.until_next_turn(heal_at - jiff::SignedDuration::from_millis(300)), Duration::from_millis(300));
    assert_eq!(keeper.until_next_turn(heal_at - jiff::SignedDuration::from_secs(9)), PERIOD);
    assert_eq!(keeper.until_next_turn(heal_at + jiff::SignedDuration::from_secs(9)), PERIOD);
}
