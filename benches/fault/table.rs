//! The table that every measurement loads.

use crate::fixture::{PORT, TABLE, TOKEN};
use ipnet::IpNet;
use rackpartition::netfilter::{Rule, TableSpec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A table that drops all that these send.
pub fn spec(peers: Vec<IpNet>) -> TableSpec {
    TableSpec { name: TABLE.into(), rules: vec![Rule::drop_from(peers)], heal_port: PORT, heal_token: TOKEN }
}

/// So many peers that nothing else here has the addresses of: every second address, so that none merge, half of each family.
pub fn peers(count: usize) -> Vec<IpNet> {
    let count = u32::try_from(count).expect("a few thousand");
    let address = |n: u32| match n % 2 {
        0 => IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n)),
        _ => IpAddr::from(Ipv6Addr::from((0xfd01_u128 << 112) + u128::from(2 * n))),
    };
    (0..count).map(|n| address(n).into()).collect()
}
