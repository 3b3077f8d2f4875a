//! Address blocks and windows as sorted, merged, half-open intervals: the form the kernel's interval sets take.

use super::{Error, TimeWindow};
use ipnet::IpNet;

/// Start key, and end key (exclusive); no end where the interval reaches the highest key. Keys in network byte order.
pub type Interval = (Vec<u8>, Option<Vec<u8>>);

/// Addresses of one family: no host is in a block, none is there twice, and blocks are apart.
///
/// Hosts are by themselves because the kernel finds them by their hash, and takes them in two times faster than an interval
/// (`make bench`, arming).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keys {
    pub hosts: Vec<Vec<u8>>,
    pub blocks: Vec<Interval>,
}

/// Keys of IPv4 and of IPv6.
pub fn of_networks(networks: &[IpNet]) -> [Keys; 2] {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for net in networks {
        match net {
            IpNet::V4(n) => v4.push((u32::from(n.network()).into(), u32::from(n.broadcast()).into())),
            IpNet::V6(n) => v6.push((n.network().into(), n.broadcast().into())),
        }
    }
    [apart(v4, 4), apart(v6, 16)]
}

fn apart(ranges: Vec<(u128, u128)>, len: usize) -> Keys {
    let (mut hosts, blocks): (Vec<_>, Vec<_>) = ranges.into_iter().partition(|(from, to)| from == to);
    let blocks = merge(blocks);
    let within =
        |n: u128| blocks.partition_point(|(from, _)| *from <= n).checked_sub(1).is_some_and(|i| n <= blocks[i].1);
    hosts.retain(|(n, _)| !within(*n));
    hosts.sort_unstable();
    hosts.dedup();
    Keys { hosts: hosts.into_iter().map(|(n, _)| key(n, len)).collect(), blocks: keys(blocks, len) }
}

fn key(n: u128, len: usize) -> Vec<u8> {
    n.to_be_bytes()[16 - len..].to_vec()
}

/// Intervals of nanoseconds since the epoch. Windows that overlap or touch become one.
pub fn of_windows(windows: &[TimeWindow]) -> Result<Vec<Interval>, Error> {
    let nanos = |t: jiff::Timestamp| u64::try_from(t.as_nanosecond().max(0)).unwrap_or(u64::MAX);
    let mut ranges = Vec::new();
    for window in windows {
        let (from, to) = (nanos(window.from), nanos(window.to));
        if window.from >= window.to {
            return Err(Error::Window { from: window.from, to: window.to });
        }
        // All of it before 1970: no clock will ever be there, and it would be empty here.
        if from < to {
            ranges.push((from.into(), u128::from(to) - 1));
        }
    }
    Ok(keys(merge(ranges), 8))
}

/// Merges inclusive ranges that overlap or touch.
fn merge(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
            _ => merged.push((from, to)),
        }
    }
    merged
}

fn keys(ranges: Vec<(u128, u128)>, len: usize) -> Vec<Interval> {
    let highest = u128::MAX >> (128 - 8 * len);
    ranges.into_iter().map(|(from, to)| (key(from, len), (to < highest).then(|| key(to + 1, len)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn neighbours_and_overlaps_merge_and_families_part() {
        let [v4, v6] = of_networks(&nets(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32", "10.0.3.9/24", "fd00::1/128"]));
        let merged = [(vec![10, 0, 0, 0], Some(vec![10, 0, 2, 0])), (vec![10, 0, 3, 0], Some(vec![10, 0, 4, 0]))];
        assert_eq!((v4.hosts.len(), &v4.blocks[..]), (0, &merged[..]), "the host is in a block");
        let key = |a: &str| a.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        assert_eq!(v6, Keys { hosts: vec![key("fd00::1")], blocks: vec![] });
    }

    #[test]
    fn the_highest_address_has_no_end() {
        for (net, start) in [("0.0.0.0/0", vec![0; 4]), ("255.255.255.254/31", vec![255, 255, 255, 254])] {
            assert_eq!(of_networks(&nets(&[net]))[0].blocks, [(start, None)]);
        }
        assert_eq!(of_networks(&nets(&["255.255.255.255/32"]))[0].hosts, [vec![255; 4]]);
        assert_eq!(of_networks(&nets(&["::/0", "fd00::/8"]))[1].blocks, [(vec![0; 16], None)]);
        assert_eq!(of_networks(&[]), [Keys::default(), Keys::default()]);
    }

    fn window(from: i64, to: i64) -> TimeWindow {
        let at = |s| jiff::Timestamp::from_second(s).unwrap();
        TimeWindow { from: at(from), to: at(to) }
    }

    #[test]
    fn windows_are_nanoseconds_and_must_run_forward() {
        let key = |s: u64| (s * 1_000_000_000).to_be_bytes().to_vec();
        let two = of_windows(&[window(30, 40), window(10, 20), window(20, 25)]).unwrap();
        assert_eq!(two, [(key(10), Some(key(25))), (key(30), Some(key(40)))]);
        assert_eq!(of_windows(&[window(-5, 1), window(-9, -8)]).unwrap(), [(key(0), Some(key(1)))]);
        assert!(matches!(of_windows(&[window(5, 5)]), Err(Error::Window { .. })));
    }

    fn contains(intervals: &[Interval], key: &[u8]) -> bool {
        intervals.iter().any(|(from, to)| &from[..] <= key && to.as_ref().is_none_or(|to| key < &to[..]))
    }

    proptest! {
        #[test]
        fn merging_changes_no_membership(
            blocks in prop::collection::vec((any::<u32>(), prop_oneof![0u8..=32, Just(32)]), 0..20),
            picks in prop::collection::vec(any::<u32>(), 20),
        ) {
            let sources: Vec<IpNet> =
                blocks.iter().map(|(a, p)| IpNet::new(Ipv4Addr::from(*a).into(), *p).unwrap()).collect();
            let [v4, _] = of_networks(&sources);
            let edges = sources.iter().flat_map(|n| [n.network(), n.broadcast()]).filter_map(|a| match a {
                IpAddr::V4(a) => Some(u32::from(a)),
                IpAddr::V6(_) => None,
            });
            for n in edges.flat_map(|n| [n.wrapping_sub(1), n, n.wrapping_add(1)]).chain(picks) {
                let address = Ipv4Addr::from(n);
                let pure = sources.iter().any(|s| s.contains(&IpAddr::V4(address)));
                let (host, block) = (v4.hosts.contains(&address.octets().into()), contains(&v4.blocks, &address.octets()));
                prop_assert_eq!(host || block, pure);
                prop_assert!(!(host && block), "one of two rules meets a packet, or it would be lost twice as often");
            }
            prop_assert!(v4.hosts.windows(2).all(|w| w[0] < w[1]), "sorted, once each");
            prop_assert!(v4.blocks.windows(2).all(|w| w[0].1.as_ref().is_some_and(|end| *end < w[1].0)), "sorted, apart");
        }
    }
}
