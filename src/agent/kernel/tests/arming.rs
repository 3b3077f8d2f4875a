//! Arming: once, and never after a reboot or where nobody knows what the node did.

use super::*;

#[test]
fn armed_is_on_the_disk_before_the_kernel_is_asked() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert!(node.store().state().unwrap().armed);
    // The machine went down and came up again: same disk, empty kernel.
    let mut keeper = node.start(Fake::default(), "b2");
    keeper.turn(&scheduled(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
}

#[test]
fn a_kernel_that_refuses_makes_the_node_unfit_and_the_next_process_tries_again() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refuses_to_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("CAP_NET_ADMIN"));
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(phase(&keeper), Armed);
}

#[test]
fn an_arming_of_unknown_outcome_is_undone() {
    let node = Node::new();
    let mut keeper = node.start(Fake { silent_at_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
    let message = keeper.journal.last_report().message.unwrap();
    assert!(message.contains("can't hold the table"), "{message}");
    keeper.firewall.silent_at_arm = false;
    let mut keeper = node.start(keeper.firewall, "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0), "nor is it armed again");
}

/// Whatever this process thinks of itself.
#[test]
fn nobody_says_unfit_as_long_as_its_table_is_there() {
    let node = Node::new();
    let mut keeper = node.start(Fake { refuses_to_arm: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    let table = TableState { gate: Some(PERIOD), ..Default::default() };
    keeper.firewall.tables.insert(TABLE.into(), table);
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!(phase(&keeper), Armed);
}

#[test]
fn whoever_has_armed_nothing_and_may_not_ask_its_kernel_is_unfit() {
    let node = Node::new();
    let mut keeper = node.start(Fake { may_not: true, ..Default::default() }, "b1");
    keeper.turn(&Order::default(), in_seconds(0));
    assert_eq!(phase(&keeper), Unfit);
    assert!(keeper.journal.last_report().message.unwrap().contains("CAP_NET_ADMIN"));
    keeper.firewall.may_not = false;
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0), "nor does it arm after it has said so");
}

#[test]
fn a_kernel_that_gives_no_socket_for_once_is_asked_again() {
    // EMFILE, ENOMEM; EPROTONOSUPPORT.
    for (errno, expected) in [(24, Armed), (12, Armed), (93, Unfit)] {
        let node = Node::new();
        let mut keeper = node.start(Fake { no_socket: Some(errno), ..Default::default() }, "b1");
        keeper.turn(&arming(), in_seconds(0));
        keeper.firewall.no_socket = None;
        keeper.turn(&arming(), in_seconds(1));
        assert_eq!(phase(&keeper), expected, "{errno}");
    }
}

#[test]
fn a_table_that_somebody_brings_back_after_a_reboot_goes() {
    let node = Node::new();
    let mut keeper = node.cut();
    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b2");
    keeper.turn(&scheduled(), in_seconds(5));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Unfit, 0, false));
}
