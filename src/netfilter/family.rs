//! The two families of addresses, and how rules match sources and destinations of each.

use super::expr::Expressions;
use super::interval::{self, Interval};
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

/// Sources or destinations of one family: the kernel's set of them, and whether those that are not in it are meant.
pub struct Side {
    set: Option<Set>,
    length: u32,
    but: bool,
}

impl Side {
    /// `None` where no address of this family is meant.
    pub fn new(
        w: &mut Writer<'_>,
        name: String,
        family: &Family,
        addresses: &Addresses,
        intervals: &[Interval],
    ) -> Option<Self> {
        if intervals.is_empty() {
            return (!matches!(addresses, Addresses::Of(_))).then_some(Self { set: None, length: 0, but: false });
        }
        let set = w.new_set(name, set::INTERVAL, (family.address, family.length), NETWORK_ORDER);
        w.intervals(&set, intervals);
        Some(Self { set: Some(set), length: family.length, but: matches!(addresses, Addresses::AllBut(_)) })
    }
    pub fn look_up<'a>(&self, e: Expressions<'a>, offset: u32) -> Expressions<'a> {
        match &self.set {
            None => e,
            Some(set) => e.payload(base::NETWORK, offset, self.length).look_up(set, !self.but),
        }
    }
}

/// Intervals of both families, in the order of [`FAMILIES`].
pub fn intervals(addresses: &Addresses) -> [Vec<Interval>; 2] {
    match addresses {
        Addresses::Any => Default::default(),
        Addresses::Of(list) | Addresses::AllBut(list) => interval::of_networks(list).into(),
    }
}
