//! The dead-man switch: whatever happens to the process, the kernel closes the gate.

use crate::child::{self, Child};
use crate::fixture::{LONG, Net, TABLE, TOKEN, always, eventually, window};
use crate::heal::heal;
use crate::stream::{ALLOWANCE, Stream, sleep_until};
use jiff::{SignedDuration, Timestamp, ToSpan};
use rackpartition::netfilter::{Error, TimeWindow};
use std::time::Duration;

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

/// A child cuts by a window of this length and a gate, both in milliseconds; gets `signal` in mid-cut; and the cut ends with
/// whichever comes first.
fn the_cut_ends_without_its_process(signal: &str, length: u32, gate: i64) {
    let net = Net::new();
    let stream = Stream::start(&net.left, &net.right, true);
    let source = net.left.v4.to_string();
    let mut child = Child::start(&net.right, child::CUT, &[&source, &length.to_string(), &gate.to_string()]);
    let said = child.line();
    let times: Vec<Timestamp> = said.split(' ').map(|t| t.parse().unwrap()).collect();
    let [from, to, cut] = times[..] else { panic!("{said}") };
    let end = to.min(cut + gate.milliseconds());
    sleep_until(from + 200.milliseconds());
    child.signal(signal);
    assert!(Timestamp::now() < end - 200.milliseconds(), "this machine is too busy for this test");
    stream.run_past(end + 100.milliseconds());
    stream.stop().assert_lost_in(signal, &[TimeWindow { from, to: end }]);
    assert!(net.right.netfilter().state(TABLE).unwrap().is_some(), "the table needs no process");
}

#[test]
fn a_stopped_agent_heals_by_the_window() {
    the_cut_ends_without_its_process("STOP", 800, 60_000);
}

#[test]
fn a_stopped_agent_heals_by_the_gate() {
    the_cut_ends_without_its_process("STOP", 60_000, 1200);
}

#[test]
fn a_killed_agent_heals_by_the_window() {
    the_cut_ends_without_its_process("KILL", 800, 60_000);
}

#[test]
fn a_killed_agent_heals_by_the_gate() {
    the_cut_ends_without_its_process("KILL", 60_000, 1200);
}

/// Held in mid-cut, its process hears of nothing; the kernel takes the packet all the same.
fn a_heal_packet_opens_a_node_whose_process_is_stopped(v4: bool) {
    let net = Net::new();
    let stream = Stream::start(&net.left, &net.right, v4);
    let source = net.left.address(v4).to_string();
    let mut child = Child::start(&net.right, child::CUT, &[&source, "60000", "60000"]);
    let from: Timestamp = child.line().split(' ').next().unwrap().parse().unwrap();
    sleep_until(from + 200.milliseconds());
    child.signal("STOP");
    stream.run_past(Timestamp::now());
    let before = Timestamp::now();
    heal(&net.left, net.right.address(v4), &TOKEN);
    let after = Timestamp::now();
    stream.run_past(after + 300.milliseconds());
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
