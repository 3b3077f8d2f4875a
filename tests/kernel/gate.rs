//! The dead-man switch: whatever happens to the process, the kernel closes the gate.

use crate::fixture::{LONG, Net, TABLE, TOKEN, always, eventually, window};
use crate::heal::heal;
use crate::node::{Node, plan};
use crate::stream::{ALLOWANCE, Stream, sleep_until};
use jiff::{SignedDuration, Timestamp, ToSpan};
use rackpartition::netfilter::{Error, TimeWindow};
use serde_json::json;
use std::time::{Duration, Instant};

const GATE: Duration = Duration::from_millis(1200);

#[test]
fn the_gate_ends_a_cut_whose_windows_never_end() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let streams = [true, false].map(|v4| Stream::start(&net.left, &net.right, v4));
    let before = Timestamp::now();
    netfilter.cut(TABLE, &[always()], GATE).unwrap();
    let after = Timestamp::now();
    let gate = SignedDuration::try_from(GATE).unwrap();
    let slack = SignedDuration::try_from(ALLOWANCE).unwrap();
    for stream in streams {
        stream.run_past(after + gate + 100.milliseconds());
        let trace = stream.stop();
        let last = trace.last_lost();
        println!(
            "gate of {GATE:?}: last lost {:.3} ms after",
            (last.duration_since(before + gate)).as_secs_f64() * 1e3
        );
        assert!(last >= before + gate - slack && last <= after + gate + slack, "{last} is not {GATE:?} after {before}");
        assert_eq!(trace.gaps().len(), 1);
    }
    let state = netfilter.state(TABLE).unwrap().unwrap();
    assert_eq!((state.gate, state.windows), (None, 1));
    // And it stays closed: a late cut changes nothing.
    assert!(matches!(netfilter.cut(TABLE, &[window(1000, 2000)], LONG), Err(Error::GateClosed { .. })));
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap(), state);
}

#[test]
fn the_gate_of_an_armed_node_runs_out_too() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), Duration::from_millis(200)).unwrap();
    eventually("the gate closes", || netfilter.state(TABLE).unwrap().unwrap().gate.is_none());
    assert!(matches!(netfilter.cut(TABLE, &[always()], LONG), Err(Error::GateClosed { .. })));
}

/// In mid-cut, of which the window would end a minute later. Other moments, and cuts that end by their window: [`crate::struck`].
fn the_gate_ends_a_cut_without_its_agent(strike: impl FnOnce(&mut Node<'_>)) {
    let net = Net::new();
    let stream = Stream::start(&net.left, &net.right, true);
    // From arming to the end of the cut.
    let mut right = Node::new(&net.right, &plan(&net, LONG, Duration::from_secs(6)));
    let window = right.cut(LONG);
    // Asked again until the answer is no older than the slack that the stream is given.
    let mut end = window.from;
    eventually("the kernel tells at once how long the gate is open", || {
        let (asked, begun) = (Timestamp::now(), Instant::now());
        end = asked + right.table().and_then(|table| table.gate).expect("the gate is open");
        begun.elapsed() < Duration::from_millis(20)
    });
    sleep_until(window.from + 200.milliseconds());
    strike(&mut right);
    assert!(Timestamp::now() < end - 200.milliseconds(), "this machine is too busy for this test");
    stream.run_past(end + 100.milliseconds());
    stream.stop().assert_lost_in("by the gate", &[TimeWindow { from: window.from, to: end }]);
    assert!(right.has_windows(), "the table needs no process");
}

#[test]
fn a_stopped_agent_heals_by_the_gate() {
    the_gate_ends_a_cut_without_its_agent(|right| right.hold());
}

#[test]
fn a_killed_agent_heals_by_the_gate() {
    the_gate_ends_a_cut_without_its_agent(|right| right.kill());
}

/// Of a staggered heal: the wall clock may be set to any time of the cut then, and this node is not cut again while others still are.
#[test]
fn the_gate_of_a_node_that_heals_early_closes_with_its_own_window() {
    let net = Net::new();
    let mut plan = plan(&net, LONG, LONG);
    plan["members"][1]["rack"] = "r2".into();
    plan["pattern"] = json!({"earlySeconds": {"r2": LONG.as_secs_f64() - 1.0}});
    let stream = Stream::start(&net.left, &net.right, true);
    let mut right = Node::new(&net.right, &plan);
    let cut = right.cut(LONG);
    let own = TimeWindow { from: cut.from, to: cut.from + 1.seconds() };
    let asked = Timestamp::now();
    let closes = asked + right.table().and_then(|table| table.gate).expect("the gate is open");
    // A quarter of a second, and the rest is for a machine that is busy.
    assert!(closes < own.to + 1.seconds(), "{closes} is not right after {}", own.to);
    stream.run_past(own.to + 2.seconds());
    assert!(right.is_open() && right.has_windows(), "the table stays until the others heal");
    assert!(right.wrote()["ended"].is_null(), "nothing is amiss: {}", right.wrote());
    right.abort();
    right.ends("Aborted");
    stream.stop().assert_lost_in("of its own window", &[own]);
}

/// Held in mid-cut, its process hears of nothing; the kernel takes the packet all the same.
fn a_heal_packet_opens_a_node_whose_process_is_stopped(v4: bool) {
    let net = Net::new();
    let stream = Stream::start(&net.left, &net.right, v4);
    let mut right = Node::new(&net.right, &plan(&net, LONG, LONG));
    let from = right.cut(LONG).from;
    sleep_until(from + 200.milliseconds());
    right.hold();
    stream.run_past(Timestamp::now());
    let before = Timestamp::now();
    heal(&net.left, net.right.address(v4), &TOKEN);
    let after = Timestamp::now();
    stream.run_past(after + 300.milliseconds());
    right.let_go();
    right.ends("Aborted");
    stream.run_past(Timestamp::now());
    let trace = stream.stop();
    trace.assert_lost_in("until the packet", &[TimeWindow { from, to: before }]);
    trace.assert_open_after(after, Duration::from_millis(100));
    assert_eq!(trace.gaps().len(), 1, "no gap after the heal");
}

#[test]
fn a_stopped_agents_node_heals_by_a_packet_over_ipv4() {
    a_heal_packet_opens_a_node_whose_process_is_stopped(true);
}

#[test]
fn a_stopped_agents_node_heals_by_a_packet_over_ipv6() {
    a_heal_packet_opens_a_node_whose_process_is_stopped(false);
}
