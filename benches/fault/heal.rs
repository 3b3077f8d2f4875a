//! How long after a heal packet the first datagram comes through.

use crate::ROUNDS;
use crate::figure::Figure;
use crate::fixture::{LONG, Net, PORT, TABLE, TOKEN, always};
use crate::stream::{pair, send};
use crate::table::{peers, spec};
use rackpartition::netfilter::send_heal;
use std::time::{Duration, Instant};

pub fn measure() -> Vec<Figure> {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let spec = spec([vec![net.left.v4.into(), net.left.v6.into()], peers(100)].concat());
    let sockets = [true, false].map(|v4| pair(&net.left, &net.right, v4));
    sockets.iter().for_each(|s| s.1.set_nonblocking(true).unwrap());
    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        let (sender, receiver) = &sockets[round % 2];
        let to = net.right.address(round % 2 == 0);
        let arrives = || {
            send(sender, 0);
            receiver.recv(&mut [0; 8]).is_ok()
        };
        netfilter.arm(&spec, LONG).unwrap();
        netfilter.cut(TABLE, &[always()], LONG).unwrap();
        assert!(!arrives(), "failed to measure a heal: there was no cut");
        // Its thread is in the namespace before the clock starts; a plugin is where it is as well.
        samples.push(net.left.run(|| {
            let start = Instant::now();
            assert_eq!(send_heal(&[to], PORT, &TOKEN).unwrap(), 1, "failed to send a heal packet");
            while !arrives() {
                assert!(start.elapsed() < Duration::from_secs(5), "failed to heal by a packet");
            }
            start.elapsed().as_secs_f64() * 1e3
        }));
        while receiver.recv(&mut [0; 8]).is_ok() {}
        netfilter.remove(TABLE).unwrap();
    }
    vec![Figure::new("heal packet to first packet", "ms", samples)]
}
