//! The two families of addresses, and how rules match sources and destinations of each.

use super::expr::Expressions;
use super::interval::{self, Keys};
use super::numbers::*;
use super::rule::Addresses;
use super::writer::{NETWORK_ORDER, Set, Writer};

pub struct Family {
    pub number: u8,
    pub name: &'static str,
    pub address: u32,
    /// Bytes of an address, and where source and destination begin in the header.
    pub length: u32,
    pub source: u32,
    pub destination: u32,
}

pub const FAMILIES: [Family; 2] = [
    Family { number: NFPROTO_IPV4, name: "4", address: datatype::IPV4_ADDR, length: 4, source: 12, destination: 16 },
    Family { number: NFPROTO_IPV6, name: "6", address: datatype::IPV6_ADDR, length: 16, source: 8, destination: 24 },
];

/// Sources or destinations of one family: what one rule of the kernel can look up, and all such rules together are meant. No
/// packet is met by two of them.
pub type Matches = Vec<Match>;

/// Sets in which an address has to be, or must not be.
pub struct Match {
    sets: Vec<Set>,
    length: u32,
    inside: bool,
}

impl Match {
    pub fn look_up<'a>(&self, mut e: Expressions<'a>, offset: u32) -> Expressions<'a> {
        if !self.sets.is_empty() {
            e = e.payload(base::NETWORK, offset, self.length);
        }
        // Where none of them has it, the address stays in the register.
        self.sets.iter().fold(e, |e, set| e.look_up(set, self.inside))
    }
}

/// Writes the sets that hold these addresses of one family. Empty where none of the family is meant.
pub fn matches(w: &mut Writer<'_>, name: &str, family: &Family, addresses: &Addresses, keys: &Keys) -> Matches {
    let (length, key) = (family.length, (family.address, family.length));
    let mut sets = Vec::new();
    if !keys.hosts.is_empty() {
        sets.push(w.new_hash_set(format!("{name}-hosts"), key, &keys.hosts));
    }
    if !keys.blocks.is_empty() {
        let set = w.new_set(name.to_owned(), set::INTERVAL, key, NETWORK_ORDER);
        w.intervals(&set, &keys.blocks);
        sets.push(set);
    }
    match addresses {
        Addresses::Of(_) => sets.into_iter().map(|set| Match { sets: vec![set], length, inside: true }).collect(),
        Addresses::Any | Addresses::AllBut(_) => vec![Match { sets, length, inside: false }],
    }
}

/// Keys of both families, in the order of [`FAMILIES`].
pub fn keys(addresses: &Addresses) -> [Keys; 2] {
    match addresses {
        Addresses::Any => Default::default(),
        Addresses::Of(list) | Addresses::AllBut(list) => interval::of_networks(list),
    }
}
