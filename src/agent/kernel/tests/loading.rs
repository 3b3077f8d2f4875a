//! Loading the windows: until when the gate is open, and who is not cut after all.

use super::*;

#[test]
fn a_heal_packet_between_arming_and_loading_wins() {
    let node = Node::new();
    let mut keeper = node.start(Fake { heal_packet_before_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0));
    assert_eq!(keeper.journal.last_report().loaded_cut_at, None);
}

#[test]
fn a_wall_clock_that_was_stepped_back_is_refused() {
    for (heal_in, expected) in [(24, Loaded), (27, Aborted), (3600, Aborted)] {
        let node = Node::new();
        let mut keeper = node.start(Fake::default(), "b1");
        keeper.turn(&arming(), in_seconds(0));
        let times = Some(Times { cut_at: in_seconds(heal_in - 10), heal_at: in_seconds(heal_in) });
        keeper.turn(&Order { times, ..scheduled() }, in_seconds(0));
        assert_eq!(phase(&keeper), expected, "{heal_in}");
        assert_eq!(keeper.firewall.tables.is_empty(), expected == Aborted);
        if expected == Aborted {
            assert!(keeper.journal.last_report().message.unwrap().contains("stepped back"));
            assert!(node.store().state().unwrap().ended.is_some());
        }
    }
}

/// This node's window is from second 10 to second 14, and others are cut until second 20.
#[test]
fn of_a_staggered_heal_the_gate_goes_with_the_nodes_own_window_and_the_table_with_the_run() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.setup.windows = vec![(Duration::ZERO, Duration::from_secs(4))];
    keeper.turn(&arming(), in_seconds(0));
    let order = scheduled();
    keeper.turn(&order, in_seconds(1));
    let gate = keeper.firewall.tables[TABLE].gate.unwrap().as_secs_f64();
    assert!((14.0..14.3).contains(&gate), "until its own end and a quarter of a second: {gate}");
    keeper.firewall.close_gate(TABLE).unwrap();
    for (second, expected) in [(15, Loaded), (19, Loaded), (21, Healed)] {
        keeper.turn(&order, in_seconds(second));
        let report = keeper.journal.last_report();
        assert_eq!((report.phase, report.message), (Some(expected), None), "{second}");
    }
    assert!(keeper.firewall.tables.is_empty());
    assert_eq!(keeper.firewall.sent, 0);
}

#[test]
fn loading_never_extends_the_armed_gate() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let left = Duration::from_secs(12);
    keeper.firewall.tables.get_mut(TABLE).unwrap().gate = Some(left);
    keeper.turn(&scheduled(), in_seconds(1));
    let gate = keeper.firewall.tables[TABLE].gate.unwrap();
    assert_eq!(phase(&keeper), Loaded);
    assert!(gate <= left && gate > left - Duration::from_secs(5), "{gate:?}");
}

/// Its gate counts from when the kernel took it, which is later than when it was reckoned.
#[test]
fn a_load_that_took_long_is_made_again_and_given_up_if_it_does_again_and_again() {
    for (slow_loads, expected) in [(0, Loaded), (1, Loaded), (2, Loaded), (3, Aborted)] {
        let node = Node::new();
        let mut keeper = node.start(Fake::default(), "b1");
        keeper.turn(&arming(), in_seconds(0));
        keeper.firewall.slow_loads = slow_loads;
        keeper.turn(&scheduled(), in_seconds(1));
        assert_eq!(phase(&keeper), expected, "{slow_loads}");
        if expected == Loaded {
            let gate = keeper.firewall.tables[TABLE].gate.unwrap() + slow_loads as u32 * SLOW;
            assert!((20.0..20.3).contains(&gate.as_secs_f64()), "{slow_loads}: until the heal: {gate:?}");
        } else {
            assert!(keeper.firewall.tables.is_empty());
            assert!(keeper.journal.last_report().message.unwrap().contains("in time"));
        }
    }
}

#[test]
fn a_load_of_unknown_outcome_is_undone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_load: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Aborted, 0, false));
    let message = keeper.journal.last_report().message.unwrap();
    assert!(message.contains("failed to load the windows"), "{message}");
    assert!(node.store().state().unwrap().ended.is_some());
    assert_eq!(keeper.firewall.sent, 2, "the others are told");
}
