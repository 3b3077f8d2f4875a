//! An abort: this node is opened, and the others are told for as long as they may be cut.

use super::*;

#[test]
fn an_abort_opens_this_node_tells_the_others_and_outlives_the_process() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
    assert_eq!(keeper.firewall.sent, 2);
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&scheduled(), in_seconds(2));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}

/// Which may be hung: what was cut off may be what it is on.
#[test]
fn an_abort_opens_this_node_and_tells_the_others_before_anything_waits_for_the_disk() {
    let node = Node::new();
    let mut keeper = node.cut();
    keeper.firewall.disk = Some(node.store());
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!(keeper.firewall.opened, [("packets", false), ("gate", false), ("table", true)]);
}

#[test]
fn of_an_abort_of_its_own_the_packets_leave_before_anything_waits_for_the_disk() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.firewall.disk = Some(node.store());
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!(keeper.firewall.opened, [("packets", false), ("gate", false), ("table", true)]);
}

#[test]
fn the_others_are_told_of_an_abort_until_the_cut_would_have_ended() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    let in_mid_cut = keeper.known.times.unwrap().heal_at - Duration::from_secs(8);
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_mid_cut, 30), 8);
    // A process that takes over reads it again in the run, and goes on.
    let mut keeper = node.start(Fake::default(), "b1");
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_mid_cut + Duration::from_secs(3), 30), 5);
}

/// Its own window was over two seconds before.
#[test]
fn whoever_heals_early_tells_the_others_of_an_abort_until_the_last_has_healed() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.setup.windows = vec![(Duration::ZERO, Duration::from_secs(4))];
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.firewall.close_gate(TABLE).unwrap();
    let after_its_own = keeper.known.times.unwrap().heal_at - Duration::from_secs(4);
    assert_eq!(rounds(&mut keeper, &aborted_run(), after_its_own, 30), 4);
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}

#[test]
fn whoever_has_no_table_tells_the_others_of_an_abort_too() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    let order = Order { abort: aborted_run().abort, ..scheduled() };
    let in_mid_cut = order.times.unwrap().heal_at - Duration::from_secs(8);
    assert_eq!(rounds(&mut keeper, &order, in_mid_cut, 30), 8);
    assert_eq!(phase(&keeper), Aborted);
}

#[test]
fn without_a_schedule_the_others_are_told_as_long_as_a_gate_lasts() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(1), 150), 100);
}

#[test]
fn an_abort_that_comes_after_the_end_of_the_cut_is_told_a_few_times_for_clocks_may_be_wrong() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.turn(&scheduled(), in_seconds(21));
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(22), 10), 3);
    assert_eq!(phase(&keeper), Healed);
}

/// This node never loaded, and by its wall clock it is all over: that clock may be wrong.
#[test]
fn a_node_that_opens_at_an_abort_tells_the_others_whatever_its_wall_clock_says() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let order = Order { abort: aborted_run().abort, ..scheduled() };
    assert_eq!(rounds(&mut keeper, &order, in_seconds(3600), 10), 3);
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
}
