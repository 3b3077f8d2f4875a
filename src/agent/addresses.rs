//! Addresses of this node's interfaces that the plan does not know as this node's: packets from them are not cut with it.

use super::{health::shorten, journal::Journal};
use crate::{
    api::{ADDRESSES, ADDRESSES_UNREAD, SpanKind},
    fault::RunPlan,
    observe::{Observation, now},
};
use ipnet::IpNet;
use std::{collections::BTreeSet, io, net::IpAddr, time::Duration};
use tokio::{task::block_in_place, time::sleep};

/// More than any node has for a reason; a record is bounded.
const MOST: usize = 64;
/// kube-proxy puts the address of every Service on it (`pkg/proxy/ipvs`, defaultDummyDevice). No packet comes from them.
const SERVICES: &str = "kube-ipvs0";

/// Between two looks: a virtual address moves within seconds.
const PERIOD: Duration = Duration::from_secs(2);

/// Writes down which are there, and when. Never returns.
pub async fn watch(plan: RunPlan, node: String, journal: Journal) {
    loop {
        // The kernel answers when nobody else changes its interfaces.
        for seen in seen(block_in_place(|| unknown(&plan, &node))) {
            journal.observe(SpanKind::Address, now(), seen);
        }
        sleep(PERIOD).await;
    }
}

/// What a look tells. Where the kernel did not, nobody knows that there are none.
fn seen(unknown: io::Result<Vec<IpAddr>>) -> Vec<Observation> {
    match unknown {
        Ok(addresses) => addresses.into_iter().map(|a| Observation::new(a.to_string(), "held")).collect(),
        Err(error) => vec![Observation::new(ADDRESSES, ADDRESSES_UNREAD).detail(shorten(&error.to_string()))],
    }
}

/// Those that the plan does not give this node.
fn unknown(plan: &RunPlan, node: &str) -> io::Result<Vec<IpAddr>> {
    let all = if_addrs::get_if_addrs()?.into_iter().filter(|i| i.name != SERVICES).map(|i| i.ip());
    Ok(unknown_of(plan, node, all))
}

fn unknown_of(plan: &RunPlan, node: &str, addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let known: Vec<IpNet> = plan.member(node).into_iter().flat_map(|m| m.all_cidrs()).collect();
    let unknown = addresses.filter(|a| is_global(a) && !known.iter().any(|net| net.contains(a)));
    unknown.collect::<BTreeSet<_>>().into_iter().take(MOST).collect()
}

/// Whether others may ever see it as a source.
fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_may_see_and_nobody_told_is_named() {
        let plan: RunPlan = serde_json::from_value(serde_json::json!({
            "run": "r", "runUid": "u", "edges": [], "members": [{"name": "a", "hasAgent": true,
                "cidrs": ["198.18.0.1/32"], "podCidrs": ["198.19.1.0/24"], "healAddresses": []},
                {"name": "vip", "hasAgent": false, "cidrs": ["198.18.0.100/32"], "healAddresses": []}],
            "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        }))
        .unwrap();
        let all = ["127.0.0.1", "::1", "fe80::1", "198.18.0.1", "198.19.1.1", "198.18.0.99", "198.18.0.100", "fd00::9"];
        let unknown = unknown_of(&plan, "a", all.iter().map(|a| a.parse().unwrap()));
        // Also one that the plan knows as somebody else's.
        assert_eq!(unknown, ["198.18.0.99", "198.18.0.100", "fd00::9"].map(|a| a.parse::<IpAddr>().unwrap()));
        // What the kernel says of this machine is at least its loopback, which is nobody's business.
        assert!(!super::unknown(&plan, "a").unwrap().iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_no_node_without_such_addresses() {
        let told = |unknown| {
            let all = seen(unknown).into_iter();
            all.map(|s| format!("{} {} {:?}", s.subject, s.state, s.detail)).collect::<Vec<_>>()
        };
        assert_eq!(told(Ok(vec!["198.18.0.99".parse().unwrap()])), ["198.18.0.99 held None"]);
        let failed = io::ErrorKind::OutOfMemory.into();
        assert_eq!(told(Err(failed)), [r#"addresses unread Some("out of memory")"#]);
    }
}
