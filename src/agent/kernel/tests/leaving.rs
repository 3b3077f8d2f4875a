//! An agent that is told to end, as when its pod is taken away.

use super::*;

#[test]
fn an_agent_that_is_told_to_end_leaves_no_table_without_windows() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.leave();
    let report = keeper.journal.last_report();
    assert_eq!((phase(&keeper), keeper.firewall.tables.len(), node.ready()), (Aborted, 0, false));
    assert_eq!(report.kernel.map(|k| k.table), Some(false));
    assert!(report.message.unwrap().contains("told to end"));
    assert_eq!(keeper.firewall.sent, 0, "the others are told by the operator");
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(1));
    assert_eq!((phase(&keeper), keeper.firewall.tables.len()), (Aborted, 0), "it outlives the process");
}

#[test]
fn an_agent_that_is_told_to_end_leaves_windows_to_the_kernel() {
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.turn(&arming(), in_seconds(0));
    keeper.turn(&scheduled(), in_seconds(1));
    keeper.leave();
    assert_eq!((phase(&keeper), keeper.firewall.tables[TABLE].windows), (Loaded, 1));
    assert_eq!(node.store().state().unwrap().ended, None);
    // Nothing was armed yet: the next process may.
    let node = Node::new();
    let mut keeper = node.start(Fake::default(), "b1");
    keeper.leave();
    assert_eq!(node.store().state().unwrap(), Persisted::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_it_ends() {
    let node = Node::new();
    let keeper = node.start(Fake::default(), "b1");
    let journal = keeper.journal.clone();
    let (_order, orders) = watch::channel(arming());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(keeper.run(orders, stopped));
    tokio::task::yield_now().await;
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), stop.closed()).await.unwrap();
    task.await.unwrap();
    assert_eq!(journal.last_report().phase, Some(Aborted));
}
