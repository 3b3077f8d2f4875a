//! Whatever a node's disk says of an earlier process, what follows from it keeps to the rules that no run may break.

use super::*;
use jiff::SignedDuration;

/// Reads a state file, as an agent does that begins, and asks what to do next at every table, order and moment that may matter.
/// Panics where the answer breaks a rule. For the fuzz target and the tests below.
pub fn read_any_state(json: &[u8]) {
    let Ok(known) = serde_json::from_slice::<Persisted>(json) else { return };
    let written = serde_json::to_vec(&known).expect("plain data");
    let again = serde_json::from_slice::<Persisted>(&written).ok();
    assert_eq!(again.as_ref(), Some(&known), "the next process reads what this one wrote");
    for boot_id in [known.boot_id.as_str(), "another boot"] {
        for table in tables() {
            for order in orders(known.times) {
                for (lasts, now) in moments(known.times.or(order.times)) {
                    let step = decide(&known, table.as_ref(), boot_id, &order, lasts, now);
                    keeps_the_rules(&known, table.as_ref(), &order, now, &step);
                }
            }
        }
    }
}

/// None, and those that a kernel can hold: with a gate or without, windows or none, before a heal packet and after it.
fn tables() -> Vec<Option<TableState>> {
    let table = |gate, windows, heal_packets| Some(TableState { gate, windows, heal_packets, ..Default::default() });
    let gate = Some(Duration::from_secs(60));
    vec![
        None,
        table(gate, 0, 0),
        table(None, 0, 0),
        table(None, 0, 1),
        table(gate, 1, 0),
        table(gate, 1, 1),
        table(None, 1, 0),
        table(None, 1, 1),
    ]
}

/// One of each kind, with the times that the disk has and with others.
fn orders(known: Option<Times>) -> Vec<Order> {
    let begun = Timestamp::UNIX_EPOCH;
    let other = Times { cut_at: begun, heal_at: begun + Duration::from_secs(60) };
    let of = |times| {
        let scheduled = Order { known: true, times, may_load: true, ..Order::default() };
        let done = Order { may_load: false, done: true, ..scheduled.clone() };
        let aborted = Order { abort: Some("an abort".into()), ..scheduled.clone() };
        [scheduled, done, aborted]
    };
    let arming = Order { known: true, may_arm: true, ..Order::default() };
    let unscheduled = Order { known: true, abort: Some("an abort".into()), ..Order::default() };
    [Order::default(), arming, unscheduled].into_iter().chain(of(known)).chain(of(Some(other))).collect()
}

/// How long the cut lasts on a node, and around each moment at which something begins or ends there.
fn moments(times: Option<Times>) -> Vec<(Duration, Timestamp)> {
    let mut all = Vec::new();
    for lasts in [Duration::ZERO, Duration::from_secs(4), Duration::MAX] {
        let edges = times.into_iter().flat_map(|times| [times.cut_at, times.after(lasts), times.heal_at]);
        let around = |at: Timestamp| [-1, 0, 1].map(|s| at.checked_add(SignedDuration::from_secs(s)).unwrap_or(at));
        let ends = [Timestamp::MIN, Timestamp::MAX];
        all.extend(edges.flat_map(around).chain(ends).map(|now| (lasts, now)));
    }
    all
}

fn keeps_the_rules(known: &Persisted, table: Option<&TableState>, order: &Order, now: Timestamp, step: &Step) {
    let case = || format!("{step:?} of {known:?}, {table:?}, {order:?} at {now}");
    let has_begun = known.armed || known.ended.is_some();
    let ending = match step {
        Step::Arm => {
            assert!(table.is_none() && !has_begun, "armed twice: {}", case());
            return assert!(order.known && order.may_arm && order.abort.is_none(), "nobody asked: {}", case());
        }
        Step::Load(times) => {
            let is_armed = table.is_some_and(|table| table.gate.is_some() && table.windows == 0);
            assert!(is_armed && known.ended.is_none(), "cut after its part was over: {}", case());
            let is_asked = order.may_load && order.abort.is_none() && order.times == Some(*times);
            return assert!(is_asked && now < times.cut_at, "nobody asked, or too late: {}", case());
        }
        Step::Hold(_) => {
            return assert!(known.ended.is_none() && order.abort.is_none(), "left as it is: {}", case());
        }
        Step::Abort(ending) | Step::Remove(ending) => {
            assert!(table.is_some(), "there is nothing to remove: {}", case());
            ending
        }
        Step::End(ending) => {
            assert!(table.is_none(), "a table is left: {}", case());
            ending
        }
    };
    match &known.ended {
        Some(ended) => assert_eq!(ending, ended, "another end than it had: {}", case()),
        None if table.is_none() && ending.phase == RecordPhase::Healed => {
            assert!(known.times.is_some_and(|times| now >= times.heal_at), "healed before the end: {}", case());
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[test]
    fn the_seeds_of_the_fuzz_target_are_states() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/state");
        let mut phases = Vec::new();
        for seed in fs::read_dir(seeds).unwrap() {
            let json = fs::read(seed.unwrap().path()).unwrap();
            let known: Persisted = serde_json::from_slice(&json).unwrap();
            assert!(known.armed);
            phases.push(known.ended.map(|ended| ended.phase));
            read_any_state(&json);
        }
        for phase in [None, Some(RecordPhase::Healed), Some(RecordPhase::Aborted), Some(RecordPhase::Unfit)] {
            assert!(phases.contains(&phase), "no seed ends as {phase:?}");
        }
    }

    fn state() -> impl Strategy<Value = Persisted> {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let times = (-200..200_i64, -10..100_i64);
        let times = times.prop_map(move |(cut, length)| Times { cut_at: at(cut), heal_at: at(cut + length) });
        let phase = prop_oneof![Just(RecordPhase::Healed), Just(RecordPhase::Aborted), Just(RecordPhase::Unfit)];
        let ended = phase.prop_map(|phase| Ending { phase, message: None });
        let boot = prop_oneof![Just("b1"), Just(""), Just("another boot")];
        let all = (boot, any::<bool>(), proptest::option::of(times), proptest::option::of(ended));
        all.prop_map(|(boot, armed, times, ended)| Persisted { boot_id: boot.into(), armed, rules: None, times, ended })
    }

    proptest! {
        #[test]
        fn whatever_the_disk_says_no_node_is_armed_twice_or_cut_after_its_part_was_over(known in state()) {
            read_any_state(&serde_json::to_vec(&known).unwrap());
        }
        #[test]
        fn what_is_no_state_is_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_any_state(&bytes);
        }
    }
}
