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
                    keeps_the_rules(&known, table.as_ref(), boot_id, &order, now, &step);
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

fn keeps_the_rules(
    known: &Persisted,
    table: Option<&TableState>,
    boot_id: &str,
    order: &Order,
    now: Timestamp,
    step: &Step,
) {
    let case = || format!("{step:?} of {known:?} in {boot_id}, {table:?}, {order:?} at {now}");
    let is_another_boot = known.armed && known.boot_id != boot_id;
    let keeps = matches!(step, Step::Arm | Step::Load(_) | Step::Hold(_));
    assert!(!(is_another_boot && keeps), "cut, or about to be, after a reboot: {}", case());
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
    use proptest::{
        collection::vec,
        option::{of, weighted},
        prelude::*,
        sample::{Index, select},
        test_runner::TestRunner,
    };
    use serde_json::Value;
    use std::{cell::Cell, fs};

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
        let message = of(Just("spec.abort was set".to_owned()));
        let ended = (phase, message).prop_map(|(phase, message)| Ending { phase, message });
        let boot = prop_oneof![Just("4f1c2b9e-6d3a-4c57-9a51-0e8d7b6c5a43"), Just(""), Just("another boot")];
        let all = (boot, any::<bool>(), of(0..40_usize), weighted(0.8, times), any::<bool>(), of(ended));
        all.prop_map(|(boot, armed, rules, times, removing, ended)| Persisted {
            boot_id: boot.into(),
            armed,
            rules,
            times,
            removing,
            ended,
        })
    }

    /// What a disk, a hand or another version may do to a state that was written.
    #[derive(Clone, Debug)]
    enum Damage {
        /// The values of two fields change places, where both are there.
        Swapped(&'static str, &'static str),
        /// One digit of a number, a time or a name is another one.
        Digit(Index, u8),
        /// One bit of one byte is another one.
        Bit(Index, u32),
        /// The end is not there.
        Truncated(Index),
    }

    /// As [`Value::pointer`] takes them. The first two pairs are of one kind, the last is no state unless both are null.
    const SWAPS: &[(&str, &str)] =
        &[("/times/cutAt", "/times/healAt"), ("/bootId", "/ended/message"), ("/times", "/ended")];

    /// Those more often that mostly leave a state.
    fn damage() -> impl Strategy<Value = Damage> {
        prop_oneof![
            3 => select(SWAPS).prop_map(|(one, other)| Damage::Swapped(one, other)),
            5 => (any::<Index>(), b'0'..=b'9').prop_map(|(at, digit)| Damage::Digit(at, digit)),
            2 => (any::<Index>(), 0..8_u32).prop_map(|(at, bit)| Damage::Bit(at, bit)),
            1 => any::<Index>().prop_map(Damage::Truncated),
        ]
    }

    fn damaged(mut json: Vec<u8>, damage: &Damage) -> Vec<u8> {
        // Each index may be one behind the last, which nothing happens to: earlier damage may have left nothing.
        match damage {
            Damage::Swapped(one, other) => return swapped(&json, one, other).unwrap_or(json),
            Damage::Digit(at, digit) => {
                let at = at.index(json.iter().filter(|byte| byte.is_ascii_digit()).count() + 1);
                if let Some(byte) = json.iter_mut().filter(|byte| byte.is_ascii_digit()).nth(at) {
                    *byte = *digit;
                }
            }
            Damage::Bit(at, bit) => {
                let at = at.index(json.len() + 1);
                if let Some(byte) = json.get_mut(at) {
                    *byte ^= 1_u8 << *bit;
                }
            }
            Damage::Truncated(at) => json.truncate(at.index(json.len() + 1)),
        }
        json
    }

    fn swapped(json: &[u8], one: &str, other: &str) -> Option<Vec<u8>> {
        let mut state: Value = serde_json::from_slice(json).ok()?;
        let (first, second) = (state.pointer(one)?.clone(), state.pointer(other)?.clone());
        *state.pointer_mut(one)? = second;
        *state.pointer_mut(other)? = first;
        serde_json::to_vec(&state).ok()
    }

    /// Whatever else damage does, in at least a fifth of these cases it leaves another state than was written. With fewer, little but
    /// serde would be tested. The cases are the same each time.
    #[test]
    fn a_damaged_state_is_read_or_refused_and_no_rule_is_broken() {
        let cases = (state(), vec(damage(), 1..=2)).prop_map(|(known, all)| {
            let json = all.iter().fold(serde_json::to_vec(&known).unwrap(), damaged);
            (known, json)
        });
        let (all, others) = (Cell::new(0), Cell::new(0));
        let looked = TestRunner::deterministic().run(&cases, |(known, json)| {
            let is_other = serde_json::from_slice::<Persisted>(&json).is_ok_and(|read| read != known);
            all.set(all.get() + 1);
            others.set(others.get() + i32::from(is_other));
            read_any_state(&json);
            Ok(())
        });
        assert!(looked.is_ok(), "{looked:?}");
        assert!(others.get() * 5 >= all.get(), "{} of {} were another state", others.get(), all.get());
    }

    proptest! {
        #[test]
        fn whatever_the_disk_says_no_node_is_armed_twice_or_cut_after_its_part_was_over(known in state()) {
            read_any_state(&serde_json::to_vec(&known).unwrap());
        }
    }
}
