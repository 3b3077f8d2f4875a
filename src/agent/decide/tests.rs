//! Every way a node's part in a run can go on, as one table of cases.

use super::*;

const BOOT: &str = "boot-1";
/// From the beginning of the cut to its end.
const WHOLE: Duration = Duration::from_secs(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
/// Cut from second 10 to second 20.
fn times() -> Times {
    Times { cut_at: at(10), heal_at: at(20) }
}
fn scheduled() -> Order {
    Order { known: true, times: Some(times()), may_load: true, ..Order::default() }
}
fn arming() -> Order {
    Order { known: true, may_arm: true, ..Order::default() }
}
fn abort() -> Order {
    Order { abort: Some("spec.abort".into()), ..scheduled() }
}
fn fresh() -> Persisted {
    Persisted::default()
}
fn was_armed() -> Persisted {
    Persisted { boot_id: BOOT.into(), armed: true, ..fresh() }
}
fn was_loaded() -> Persisted {
    Persisted { times: Some(times()), ..was_armed() }
}
fn ended(phase: RecordPhase) -> Persisted {
    Persisted { ended: Some(Ending { phase, message: None }), ..was_loaded() }
}
fn inert() -> TableState {
    TableState { gate: Some(Duration::from_secs(60)), ..Default::default() }
}
fn cutting() -> TableState {
    TableState { windows: 1, ..inert() }
}
fn closed(table: TableState, heal_packets: u64) -> TableState {
    TableState { gate: None, heal_packets, ..table }
}
fn go(known: Persisted, table: Option<TableState>, order: Order, second: i64) -> Step {
    decide(&known, table.as_ref(), BOOT, &order, WHOLE, at(second))
}
fn ending(step: Step) -> (&'static str, RecordPhase, String) {
    let (how, ending) = match step {
        Step::Abort(e) => ("abort", e),
        Step::Remove(e) => ("remove", e),
        Step::End(e) => ("end", e),
        other => panic!("no ending: {other:?}"),
    };
    (how, ending.phase, ending.message.unwrap_or_default())
}

#[test]
fn a_fresh_agent_arms_and_waits_and_loads_and_heals() {
    assert_eq!(go(fresh(), None, arming(), 0), Step::Arm);
    assert_eq!(go(was_armed(), Some(inert()), arming(), 1), Step::Hold(None));
    assert_eq!(go(was_armed(), Some(inert()), scheduled(), 5), Step::Load(times()));
    assert_eq!(go(was_loaded(), Some(cutting()), scheduled(), 6), Step::Hold(None));
    assert_eq!(go(was_loaded(), Some(cutting()), scheduled(), 19), Step::Hold(None));
    assert_eq!(go(was_loaded(), Some(cutting()), scheduled(), 20), Step::Remove(Ending::healed()));
    assert_eq!(go(ended(RecordPhase::Healed), None, scheduled(), 21), Step::End(Ending::healed()));
}

#[test]
fn a_table_that_is_gone_after_the_cut_was_removed_by_an_agent_or_nobody_knows_when() {
    let (how, phase, why) = ending(go(was_loaded(), None, scheduled(), 20));
    assert_eq!((how, phase), ("end", RecordPhase::Unfit));
    assert_eq!(why, "the table vanished while nobody looked, perhaps in mid-cut");
    let removing = Persisted { removing: true, ..was_loaded() };
    assert_eq!(go(removing, None, scheduled(), 20), Step::End(Ending::healed()));
}

#[test]
fn nothing_is_armed_before_the_run_was_read_or_after_it_went_on() {
    assert_eq!(go(fresh(), None, Order::default(), 0), Step::Hold(None));
    let (how, phase, message) = ending(go(fresh(), None, scheduled(), 5));
    assert_eq!((how, phase), ("end", RecordPhase::Unfit));
    assert!(message.contains("went on"), "{message}");
}

#[test]
fn a_late_schedule_never_cuts() {
    assert_eq!(go(was_armed(), Some(inert()), scheduled(), 10), Step::Hold(Some(LATE)));
    assert_eq!(go(was_armed(), Some(inert()), scheduled(), 15), Step::Hold(Some(LATE)));
    assert_eq!(
        ending(go(was_armed(), Some(inert()), scheduled(), 20)),
        ("remove", RecordPhase::Aborted, LATE.into()),
        "nothing is left behind either"
    );
    // The object carries times, but the run is past the phases that may load.
    let over = Order { may_load: false, ..scheduled() };
    assert_eq!(go(was_armed(), Some(inert()), over, 5), Step::Hold(None));
}

#[test]
fn an_abort_opens_an_armed_and_a_loaded_node() {
    for (known, table) in [(was_armed(), inert()), (was_loaded(), cutting()), (fresh(), inert())] {
        assert_eq!(ending(go(known, Some(table), abort(), 5)), ("abort", RecordPhase::Aborted, "spec.abort".into()));
    }
    assert_eq!(ending(go(fresh(), None, abort(), 5)), ("end", RecordPhase::Aborted, "spec.abort".into()));
}

#[test]
fn an_abort_that_was_cut_short_is_finished_and_never_undone() {
    let aborted = ended(RecordPhase::Aborted);
    assert_eq!(ending(go(aborted.clone(), Some(cutting()), scheduled(), 12)).0, "abort");
    assert_eq!(ending(go(aborted.clone(), Some(inert()), Order::default(), 5)).0, "abort");
    assert_eq!(ending(go(aborted, None, scheduled(), 5)), ("end", RecordPhase::Aborted, String::new()));
}

#[test]
fn a_run_that_is_deleted_after_the_heal_stays_healed() {
    assert_eq!(go(ended(RecordPhase::Healed), None, abort(), 30), Step::End(Ending::healed()));
    assert_eq!(go(was_loaded(), Some(cutting()), abort(), 20), Step::Remove(Ending::healed()));
}

#[test]
fn a_run_that_is_done_leaves_no_table() {
    let done = || Order { may_load: false, done: true, ..scheduled() };
    for second in [5, 15] {
        // Also where the gate is closed: the table does not say whether by the kernel's deadline, or by an agent that could not read it.
        for table in [cutting(), closed(cutting(), 0)] {
            let (how, phase, message) = ending(go(was_loaded(), Some(table), done(), second));
            assert_eq!((how, phase), ("remove", RecordPhase::Healed));
            assert!(message.contains("done before") && !message.contains("deadline"), "{message}");
        }
        for table in [inert(), closed(inert(), 0)] {
            let (how, phase, message) = ending(go(was_armed(), Some(table), done(), second));
            assert_eq!((how, phase), ("remove", RecordPhase::Aborted));
            assert!(message.contains("never cut"), "{message}");
        }
    }
    assert_eq!(go(was_loaded(), Some(cutting()), done(), 20), Step::Remove(Ending::healed()));
    let early = ending(go(was_loaded(), Some(closed(cutting(), 1)), done(), 15));
    assert_eq!((early.0, early.1), ("remove", RecordPhase::Aborted), "what ended it before is still said");
    // Judged, with the table still there: the node goes on.
    let judging = Order { may_load: false, ..scheduled() };
    assert_eq!(go(was_loaded(), Some(cutting()), judging, 15), Step::Hold(None));
}

#[test]
fn a_reboot_ends_the_part_for_good() {
    for known in [was_armed(), was_loaded()] {
        for order in [Order::default(), scheduled(), abort()] {
            for second in [5, 15, 25] {
                let step = decide(&known, None, "boot-2", &order, WHOLE, at(second));
                let (how, phase, message) = ending(step);
                assert_eq!((how, phase), ("end", RecordPhase::Unfit));
                assert!(message.contains("rebooted"), "{message}");
                for table in [inert(), cutting(), closed(cutting(), 0), closed(cutting(), 1)] {
                    let step = decide(&known, Some(&table), "boot-2", &order, WHOLE, at(second));
                    let (how, phase, message) = ending(step);
                    assert_eq!((how, phase), ("remove", RecordPhase::Unfit), "somebody brought it back");
                    assert!(message.contains("rebooted"), "{message}");
                }
            }
        }
    }
    let healed = decide(&ended(RecordPhase::Healed), None, "boot-2", &scheduled(), WHOLE, at(30));
    assert_eq!(healed, Step::End(Ending::healed()), "a reboot after the heal changes nothing");
    let again = decide(&ended(RecordPhase::Healed), Some(&cutting()), "boot-2", &scheduled(), WHOLE, at(15));
    assert_eq!(again, Step::Remove(Ending::healed()), "nor does a table that comes back");
}

#[test]
fn a_table_that_somebody_removed_is_never_armed_again() {
    for (known, second, says) in [
        (was_armed(), 5, "before the cut"),
        (was_armed(), 15, "before the cut"),
        (was_loaded(), 9, "before the cut"),
        (was_loaded(), 15, "in mid-cut"),
    ] {
        let (how, phase, message) = ending(go(known, None, scheduled(), second));
        assert_eq!((how, phase), ("end", RecordPhase::Unfit));
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_restart_in_mid_cut_goes_on_with_the_table() {
    // Cut off from the API, so without any order.
    assert_eq!(go(was_loaded(), Some(cutting()), Order::default(), 15), Step::Hold(None));
    assert_eq!(go(was_loaded(), Some(cutting()), Order::default(), 20), Step::Remove(Ending::healed()));
    // Even the state file is lost: only the kernel's own deadline tells when it is over.
    assert_eq!(go(fresh(), Some(cutting()), Order::default(), 25), Step::Hold(None));
    assert_eq!(go(fresh(), Some(closed(cutting(), 0)), Order::default(), 25), Step::Remove(Ending::healed()));
}

#[test]
fn a_restart_after_the_heal_finds_it_healed() {
    assert_eq!(go(was_loaded(), Some(closed(cutting(), 0)), Order::default(), 25), Step::Remove(Ending::healed()));
    let removing = Persisted { removing: true, ..was_loaded() };
    assert_eq!(go(removing, None, Order::default(), 25), Step::End(Ending::healed()));
}

#[test]
fn a_restart_between_writing_and_loading_loads_again_if_there_is_time() {
    assert_eq!(go(was_loaded(), Some(inert()), scheduled(), 9), Step::Load(times()));
    assert_eq!(go(was_loaded(), Some(inert()), scheduled(), 11), Step::Hold(Some(LATE)));
}

#[test]
fn a_heal_packet_ends_it() {
    let (how, phase, message) = ending(go(was_armed(), Some(closed(inert(), 1)), scheduled(), 5));
    assert_eq!((how, phase), ("remove", RecordPhase::Aborted));
    assert!(message.contains("heal packet"), "{message}");
    let (how, phase, _) = ending(go(was_loaded(), Some(closed(cutting(), 1)), scheduled(), 15));
    assert_eq!((how, phase), ("remove", RecordPhase::Aborted));
    // Nobody looked between the packet and the end of the cut, or the packet came after it.
    let (how, phase, message) = ending(go(was_loaded(), Some(closed(cutting(), 1)), scheduled(), 20));
    assert_eq!((how, phase), ("remove", RecordPhase::Aborted));
    assert!(message.contains("may have ended early"), "{message}");
}

#[test]
fn a_heal_packet_that_the_load_swallowed_still_heals() {
    let swallowed = || TableState { heal_packets: 1, ..cutting() };
    for known in [was_loaded(), fresh()] {
        let (how, phase, message) = ending(go(known, Some(swallowed()), scheduled(), 15));
        assert_eq!((how, phase), ("abort", RecordPhase::Aborted));
        assert!(message.contains("heal packet"), "{message}");
    }
}

#[test]
fn a_gate_that_timed_out_is_not_opened_again() {
    let (how, phase, message) = ending(go(was_armed(), Some(closed(inert(), 0)), scheduled(), 5));
    assert_eq!((how, phase), ("remove", RecordPhase::Aborted));
    assert!(message.contains("deadline"), "{message}");
    let (_, phase, message) = ending(go(was_loaded(), Some(closed(cutting(), 0)), scheduled(), 15));
    assert_eq!(phase, RecordPhase::Healed);
    assert!(message.contains("stepped back"), "{message}");
}

/// Of a staggered heal: this node's window is from second 10 to second 14, and others are cut until second 20.
#[test]
fn a_gate_that_closed_with_this_nodes_last_window_is_no_clock_that_was_stepped_back() {
    let go = |known: Persisted, table: TableState, order: Order, second: i64| {
        decide(&known, Some(&table), BOOT, &order, Duration::from_secs(4), at(second))
    };
    // Also where only the run's object tells the times, or only the disk does.
    for (known, order) in [(was_loaded(), scheduled()), (fresh(), scheduled()), (was_loaded(), Order::default())] {
        for second in [14, 15, 19] {
            assert_eq!(go(known.clone(), closed(cutting(), 0), order.clone(), second), Step::Hold(None), "{second}");
        }
        let healed = go(known, closed(cutting(), 0), order, 20);
        assert_eq!(healed, Step::Remove(Ending::healed()), "with the run, and nothing is amiss");
    }
    let (how, phase, message) = ending(go(was_loaded(), closed(cutting(), 0), scheduled(), 13));
    assert_eq!((how, phase), ("remove", RecordPhase::Healed));
    assert!(message.contains("stepped back"), "{message}");
    // Until the end of the run's cut an abort, and a heal packet, are those of a run that ended early.
    assert_eq!(ending(go(was_loaded(), closed(cutting(), 0), abort(), 15)).0, "abort");
    assert_eq!(ending(go(was_loaded(), closed(cutting(), 1), scheduled(), 15)).1, RecordPhase::Aborted);
    let aborted = ended(RecordPhase::Aborted);
    assert_eq!(ending(go(aborted, closed(cutting(), 0), Order::default(), 15)).0, "abort", "the others are told");
}

#[test]
fn nothing_is_later_than_the_end_of_the_cut() {
    assert_eq!([0, 4, 10, 11].map(|s| times().after(Duration::from_secs(s))), [at(10), at(14), at(20), at(20)]);
    assert_eq!(times().after(Duration::MAX), at(20), "past the end of all times too");
}
