//! A kernel or a disk that gives no answer keeps nobody from being healed, and nobody says what it does not know.

use super::*;

/// As one whose pod has lost the right to.
#[test]
fn whoever_may_not_ask_its_kernel_tells_the_others_of_an_abort_and_does_not_say_that_nothing_is_loaded() {
    let node = Node::new();
    let mut keeper = node.cut();
    let kernel = Fake { may_not: true, ..std::mem::take(&mut keeper.firewall) };
    let mut keeper = node.start(kernel, "b1");
    assert_eq!(rounds(&mut keeper, &aborted_run(), in_seconds(5), 2), 2);
    assert_eq!((keeper.journal.status().kernel, keeper.journal.last_report().phase), (None, None));
    keeper.firewall.may_not = false;
    keeper.turn(&aborted_run(), in_seconds(7));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0), "as soon as it may");
}

#[test]
fn a_kernel_that_nobody_can_look_at_is_not_reported() {
    let node = Node::new();
    let mut keeper = node.start(Fake { unreadable: true, ..Default::default() }, "b1");
    keeper.turn(&arming(), in_seconds(0));
    assert_eq!((keeper.journal.status().kernel, keeper.journal.last_report().phase), (None, None));
    keeper.firewall.unreadable = false;
    keeper.turn(&arming(), in_seconds(1));
    assert!(keeper.journal.status().kernel.unwrap().table);
    // It is not known to be gone, though this node's part is over.
    keeper.known.ended = Some(aborted("over".into()));
    keeper.firewall.unreadable = true;
    keeper.turn(&arming(), in_seconds(2));
    assert_eq!((keeper.journal.status().kernel, phase(&keeper)), (None, Armed));
}

#[test]
fn a_table_that_cannot_be_read_is_opened_by_an_abort_all_the_same() {
    let node = Node::new();
    let mut keeper = node.cut();
    keeper.firewall.unreadable = true;
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((keeper.firewall.tables[TABLE].gate, keeper.firewall.sent), (None, 2));
}

/// Neither its gate nor its table went when it was over.
#[test]
fn a_table_that_cannot_be_read_is_opened_where_this_nodes_part_is_over() {
    let node = Node::new();
    let mut keeper = node.cut();
    let known = Persisted { ended: Some(aborted("failed to load the windows".into())), ..keeper.known.clone() };
    node.store().write_state(&known).unwrap();
    let kernel = Fake { unreadable: true, ..std::mem::take(&mut keeper.firewall) };
    let mut keeper = node.start(kernel, "b1");
    keeper.turn(&scheduled(), in_seconds(12));
    assert_eq!(keeper.firewall.tables[TABLE].gate, None);
}

/// As of a machine that was paused: by its clocks the cut goes on.
#[test]
fn a_table_that_cannot_be_read_is_opened_where_the_run_is_done() {
    let node = Node::new();
    let mut keeper = node.cut();
    keeper.firewall.unreadable = true;
    keeper.turn(&Order { may_load: false, ..scheduled() }, in_seconds(12));
    assert!(keeper.firewall.tables[TABLE].gate.is_some(), "it is judged, and others may still be cut");
    keeper.turn(&Order { done: true, may_load: false, ..scheduled() }, in_seconds(13));
    assert_eq!((keeper.firewall.tables[TABLE].gate, keeper.firewall.sent), (None, 0));
    keeper.firewall.unreadable = false;
    keeper.turn(&Order { done: true, may_load: false, ..scheduled() }, in_seconds(14));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Healed, 0));
    let message = keeper.journal.last_report().message.unwrap();
    assert!(message.contains("the run was done before"), "no deadline of the kernel's came: {message}");
}

#[test]
fn where_the_state_is_damaged_the_table_goes_and_nothing_is_armed() {
    let node = Node::new();
    let mut keeper = node.cut();
    fs::write(node.dir.path().join("run/state.json"), "{").unwrap();
    for kernel in [std::mem::take(&mut keeper.firewall), Fake::default()] {
        let mut keeper = node.start(kernel, "b1");
        keeper.turn(&arming(), in_seconds(2));
        keeper.turn(&arming(), in_seconds(3));
        assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Unfit, 0));
        let message = keeper.journal.last_report().message.unwrap();
        assert!(message.contains("state.json"), "{message}");
    }
}

#[test]
fn a_disk_that_gives_no_state_is_asked_again_and_neither_opens_nor_arms() {
    let node = Node::new();
    let mut keeper = node.cut();
    node.break_disk();
    let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
    keeper.turn(&scheduled(), in_seconds(12));
    let report = keeper.journal.last_report();
    assert_eq!((report.phase, report.message.as_deref()), (Some(Loaded), Some(UNREAD)));
    assert!(keeper.firewall.tables[TABLE].gate.is_some());
    node.mend_disk();
    keeper.turn(&scheduled(), in_seconds(13));
    assert_eq!(keeper.journal.last_report().message, None);
    keeper.turn(&scheduled(), in_seconds(21));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Healed, 0));

    node.break_disk();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    let report = keeper.journal.last_report();
    assert_eq!((report.phase, report.message.as_deref()), (None, Some(UNREAD)));
    assert!(keeper.firewall.tables.is_empty(), "it may have been armed before");
}

#[test]
fn an_abort_and_the_end_of_the_run_wait_for_no_disk() {
    let done = Order { done: true, may_load: false, ..scheduled() };
    for (order, packets) in [(aborted_run(), 2), (done, 0)] {
        let node = Node::new();
        let mut keeper = node.cut();
        node.break_disk();
        let mut keeper = node.start(std::mem::take(&mut keeper.firewall), "b1");
        keeper.turn(&order, in_seconds(12));
        assert_eq!((phase(&keeper), keeper.firewall.tables.len(), keeper.firewall.sent), (Unfit, 0, packets));
        let message = keeper.journal.last_report().message.unwrap();
        assert!(message.contains("state.json"), "{message}");
    }
}

#[test]
fn a_disk_that_refuses_keeps_nobody_from_being_healed() {
    let node = Node::new();
    let mut keeper = node.cut();
    node.break_disk();
    keeper.turn(&aborted_run(), in_seconds(12));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), keeper.firewall.sent), (Aborted, 0, 2));
}
