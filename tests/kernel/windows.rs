//! The cut begins and ends when the windows say so.

use crate::fixture::{LONG, Net, TABLE, always, spec, window};
use crate::stream::Stream;
use jiff::{Timestamp, ToSpan};
use rackpartition::netfilter::TimeWindow;

/// Windows in milliseconds from the cut.
fn streams_are_lost_in(windows: &[(i64, i64)]) {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let streams = [true, false].map(|v4| Stream::start(&net.left, &net.right, v4));
    let windows: Vec<TimeWindow> = windows.iter().map(|(from, to)| window(*from, *to)).collect();
    netfilter.cut(TABLE, &windows, LONG).unwrap();
    assert!(Timestamp::now() < windows[0].from, "this machine is too busy for this test");
    for stream in &streams {
        stream.run_past(windows.last().unwrap().to + 100.milliseconds());
    }
    let mut lost = 0;
    for (stream, family) in streams.into_iter().zip(["IPv4", "IPv6"]) {
        let trace = stream.stop();
        trace.assert_lost_in(family, &windows);
        lost += trace.0.iter().filter(|s| !s.arrived).count() as u64;
    }
    assert_eq!(netfilter.state(TABLE).unwrap().unwrap().dropped_packets, lost, "the counter knows every lost datagram");
}

#[test]
fn one_window() {
    streams_are_lost_in(&[(300, 1100)]);
}

#[test]
fn flapping_is_two_windows() {
    streams_are_lost_in(&[(300, 700), (1000, 1300)]);
}

/// Nobody's addresses are confirmed for so long that every entry of the neighbour tables is stale (`base_reachable_time`, 30 s),
/// and those of IPv6 are asked for by packets that look like any others.
#[test]
fn a_cut_of_over_a_minute_both_ways_ends_as_sharply_in_either_family() {
    let net = Net::new();
    let gate = 2 * LONG;
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    left.arm(&net.left_cut_from_right(), gate).unwrap();
    right.arm(&net.right_cut_from_left(), gate).unwrap();
    let streams = [true, false].map(|v4| Stream::start(&net.left, &net.right, v4));
    let windows = [window(300, 66_000)];
    left.cut(TABLE, &windows, gate).unwrap();
    right.cut(TABLE, &windows, gate).unwrap();
    for stream in &streams {
        stream.run_past(windows[0].to + 100.milliseconds());
    }
    for (stream, family) in streams.into_iter().zip(["IPv4", "IPv6"]) {
        stream.stop().assert_lost_in(family, &windows);
    }
}

#[test]
fn a_window_in_the_past_has_no_effect() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
    let stream = Stream::start(&net.left, &net.right, true);
    netfilter.cut(TABLE, &[window(-5000, -1)], LONG).unwrap();
    stream.run_past(Timestamp::now() + 100.milliseconds());
    stream.stop().assert_lost_in("a window in the past", &[]);
    let state = netfilter.state(TABLE).unwrap().unwrap();
    assert_eq!((state.windows, state.dropped_packets), (1, 0));
}

#[test]
fn who_is_no_source_is_not_cut() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&spec(&["198.18.0.0/32", "198.18.0.2/31", "fd00::2/127"]), LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    for v4 in [true, false] {
        let stream = Stream::start(&net.left, &net.right, v4);
        stream.run_past(Timestamp::now() + 100.milliseconds());
        stream.stop().assert_lost_in("no source", &[]);
    }
}
