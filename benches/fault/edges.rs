//! How close to its window a cut begins and ends, by datagrams.

use crate::ROUNDS;
use crate::figure::Figure;
use crate::fixture::{LONG, Net, TABLE, window};
use crate::stream::{Edges, Sent, millis, pair, send};
use crate::table::{peers, spec};
use jiff::{Timestamp, ToSpan};
use rackpartition::netfilter::TimeWindow;
use std::net::UdpSocket;
use std::time::Duration;

/// Between two datagrams, by spinning. The receiver is woken for each and keeps up.
const PACE: Duration = Duration::from_micros(20);
const LEAD_MILLIS: i64 = 20;
const CUT_MILLIS: i64 = 20;
const TAIL_MILLIS: i64 = 10;
/// No stream has so many datagrams.
const END: u64 = u64::MAX - 1;

pub fn measure() -> Vec<Figure> {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let sockets = [true, false].map(|v4| pair(&net.left, &net.right, v4));
    let cut_from = [vec![net.left.v4.into(), net.left.v6.into()], peers(100)].concat();
    let spec = spec(cut_from);
    let mut samples: [Vec<f64>; 5] = Default::default();
    let mut tries = 0;
    while samples[0].len() < ROUNDS {
        tries += 1;
        assert!(tries <= 2 * ROUNDS, "failed to measure the edges of a cut: this machine is too busy");
        netfilter.remove(TABLE).unwrap();
        netfilter.arm(&spec, LONG).unwrap();
        let window = window(LEAD_MILLIS, LEAD_MILLIS + CUT_MILLIS);
        netfilter.cut(TABLE, &[window], LONG).unwrap();
        let (sent, received) = stream(&sockets[tries % 2], &window);
        let Some(Edges { last, lost, back }) = Edges::of(&sent, window.from + (CUT_MILLIS / 2).milliseconds()) else {
            continue;
        };
        let seen = |n| received.iter().find(|r| r.0 == n as u64).expect("it arrived").1;
        let times = [
            millis(sent[last].after, window.from),
            millis(seen(last), window.from),
            millis(sent[lost].after, window.from),
            millis(sent[back].after, window.to),
            millis(seen(back), window.to),
        ];
        times.iter().zip(&mut samples).for_each(|(time, samples)| samples.push(*time));
    }
    let [last, last_seen, lost, back, back_seen] = samples;
    vec![
        Figure::new("cutAt to last packet through, on the wire", "ms", last).target(1.0),
        Figure::new("cutAt to last packet seen by the application", "ms", last_seen).target(1.0),
        Figure::new("cutAt to first packet dropped", "ms", lost).target(1.0),
        Figure::new("window end to first packet through, on the wire", "ms", back),
        Figure::new("window end to first packet seen by the application", "ms", back_seen),
    ]
}

/// All that was sent until a while after the window, and what the receiver read when.
fn stream((sender, receiver): &(UdpSocket, UdpSocket), window: &TimeWindow) -> (Vec<Sent>, Vec<(u64, Timestamp)>) {
    let end = window.to + TAIL_MILLIS.milliseconds();
    std::thread::scope(|s| {
        let receiving = s.spawn(|| receive(receiver));
        let mut sent = Vec::with_capacity(10_000);
        while Timestamp::now() < end {
            let one = send(sender, sent.len());
            sent.push(one);
            while Timestamp::now().duration_since(one.before).unsigned_abs() < PACE {
                std::hint::spin_loop();
            }
        }
        sender.send(&END.to_be_bytes()).unwrap();
        let received = receiving.join().expect("the receiver counts to the end");
        received.iter().for_each(|r| sent[r.0 as usize].arrived = true);
        (sent, received)
    })
}

fn receive(socket: &UdpSocket) -> Vec<(u64, Timestamp)> {
    let (mut received, mut buf) = (Vec::with_capacity(10_000), [0; 8]);
    loop {
        // Waits at most as long as the fixture's sockets do, which is longer than any cut here.
        socket.recv(&mut buf).expect("a datagram");
        match u64::from_be_bytes(buf) {
            END => return received,
            n => received.push((n, Timestamp::now())),
        }
    }
}
