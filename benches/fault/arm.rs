//! How long it takes to load a table, by the number of peers.

use crate::ROUNDS;
use crate::figure::Figure;
use crate::fixture::{LONG, Net, TABLE};
use crate::table::{peers, spec};
use std::time::Instant;

pub fn measure() -> Vec<Figure> {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let mut arm = |count: usize| {
        let spec = spec(peers(count));
        let mut once = || {
            let start = Instant::now();
            netfilter.arm(&spec, LONG).unwrap();
            let took = start.elapsed().as_secs_f64() * 1e3;
            netfilter.remove(TABLE).unwrap();
            took
        };
        once(); // The first one finds cold caches and an allocator that has not grown.
        Figure::new(format!("arm {count} peers"), "ms", (0..ROUNDS).map(|_| once()).collect())
    };
    vec![arm(100), arm(1_000), arm(10_000).target(20.0)]
}
