//! `nft`, which shares no code with us, reads back the table that was meant; and so can people.

use crate::fixture::{LONG, Net, Ns, TABLE, nets, rule, spec, tcp, with_rules};
use rackpartition::netfilter::{Addresses, Effect, Hook, Rule, TimeWindow, Unit};

/// Puts `…` for what differs from run to run.
fn normalise(listing: &str) -> String {
    let words = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for i in 1..words.len() {
            if words[i - 1] == "expires" {
                words[i] = "…".into();
            }
        }
        words.join(" ")
    };
    listing.lines().map(words).collect::<Vec<_>>().join("\n")
}

fn two_windows() -> [TimeWindow; 2] {
    [("2040-01-01T00:00:10Z", "2040-01-01T00:01:10Z"), ("2040-01-01T00:02:10Z", "2040-01-01T00:03:10Z")]
        .map(|(from, to)| TimeWindow { from: from.parse().unwrap(), to: to.parse().unwrap() })
}

const ARMED: &str = r#"table inet rackpartition-test {
	set windows {
		typeof meta time
		flags interval
	}

	set gate {
		type mark
		size 65535
		flags dynamic,timeout
		elements = { 0x00000000 timeout 1m expires … }
	}

	set sources4-0-hosts {
		type ipv4_addr
		size 1
		elements = { 198.18.0.7 }
	}

	set sources4-0 {
		type ipv4_addr
		flags interval
		elements = { 198.19.4.0/24 }
	}

	set sources6-0 {
		type ipv6_addr
		flags interval
		elements = { fd00:1::/64 }
	}

	chain ingress {
		iif "lo" return
		ip saddr @sources4-0-hosts counter packets 0 bytes 0 drop comment "rule 0"
		ip saddr @sources4-0 counter packets 0 bytes 0 drop comment "rule 0"
		ip6 saddr @sources6-0 counter packets 0 bytes 0 drop comment "rule 0"
	}

	chain prerouting {
		type filter hook prerouting priority -350; policy accept;
		udp dport 40441 @th,64,128 0x112233445566778899aabbccddeeff counter packets 0 bytes 0 delete @gate { meta mark & 0x00000000 }
		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
		meta mark & 0x00000000 == @gate meta time @windows jump ingress
	}
}"#;

#[test]
fn nft_reads_the_table_that_was_meant() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&spec(&["198.18.0.7", "198.19.4.0/25", "198.19.4.128/25", "fd00:1::/64"]), LONG).unwrap();
    let list = || normalise(&net.right.nft(&["list", "table", "inet", TABLE]));
    assert_eq!(list(), ARMED);

    netfilter.cut(TABLE, &two_windows(), LONG * 2).unwrap();
    // nft writes the last second that is in, to the second.
    let windows = "
		elements = { \"2040-01-01 00:00:10\"-\"2040-01-01 00:01:09\",
			     \"2040-01-01 00:02:10\"-\"2040-01-01 00:03:09\" }";
    let cut = ARMED
        .replace("typeof meta time\n\t\tflags interval", &format!("typeof meta time\n\t\tflags interval{windows}"))
        .replace("timeout 1m ", "timeout 2m ");
    assert_eq!(list(), cut);
    load_again(&net.right);
    assert_eq!(list(), cut);
}

/// What `nft` reads it can write: nothing is in the table that it does not understand.
pub fn load_again(ns: &Ns) {
    let saved = ns.nft(&["list", "table", "inet", TABLE]);
    ns.netfilter().remove(TABLE).unwrap();
    let file = std::env::temp_dir().join(&ns.name);
    std::fs::write(&file, saved).unwrap();
    ns.nft(&["-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

/// Every expression that rules are made of, in a file that people can read.
#[test]
fn nft_reads_every_kind_of_rule_as_it_was_meant() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    let of = |list| Addresses::Of(nets(list));
    let loss = |permille, per| Effect::Loss { permille, per };
    let rules = vec![
        Rule { sources: of(&["198.18.0.0/24", "fd00::/64"]), ports: vec![tcp(2380)], ..rule() },
        Rule { sources: Addresses::AllBut(nets(&["198.18.0.0/24"])), ..rule() },
        Rule { destinations: of(&["198.18.0.40"]), effect: Effect::Reject, ..rule() },
        Rule { sources: of(&["198.18.0.7"]), effect: loss(125, Unit::Packet), ..rule() },
        Rule { sources: of(&["198.18.0.8", "fd00::8"]), effect: loss(20, Unit::Flow), ..rule() },
        Rule { destinations: of(&["198.18.0.40"]), hook: Hook::Egress, ports: vec![tcp(2379)], ..rule() },
        Rule { destinations: of(&["fd00::40"]), hook: Hook::Egress, effect: Effect::Reject, ..rule() },
    ];
    netfilter.arm(&with_rules(rules), LONG).unwrap();
    let list = || normalise(&net.right.nft(&["list", "table", "inet", TABLE]));
    let listed = list();
    insta::assert_snapshot!(listed);
    load_again(&net.right);
    assert_eq!(list(), listed);
}

#[test]
fn a_family_without_sources_has_no_set_and_no_rule() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    for (sources, families) in [(&["10.0.0.1"][..], "ip "), (&["fd00::1"], "ip6 "), (&[], "")] {
        netfilter.arm(&spec(sources), LONG).unwrap();
        let listing = net.right.nft(&["list", "table", "inet", TABLE]);
        for (family, set) in [("ip ", "set sources4-0"), ("ip6 ", "set sources6-0")] {
            assert_eq!(listing.contains(set), family == families, "{listing}");
            assert_eq!(listing.contains(&format!("{family}saddr")), family == families, "{listing}");
        }
        assert!(listing.contains("delete @gate"), "{listing}");
        netfilter.remove(TABLE).unwrap();
    }
}

#[test]
fn nft_reads_the_same_as_json() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    netfilter.arm(&spec(&["198.18.0.7", "fd00:1::/64"]), LONG).unwrap();
    let json = net.right.nft(&["-j", "list", "table", "inet", TABLE]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let all = |kind: &str| {
        let objects = json["nftables"].as_array().unwrap().iter();
        objects.filter_map(|o| o.get(kind)).cloned().collect::<Vec<_>>()
    };
    let sets = all("set").iter().map(|s| (s["name"].clone(), s["type"].clone())).collect::<Vec<_>>();
    let expected =
        [("windows", "time"), ("gate", "mark"), ("sources4-0-hosts", "ipv4_addr"), ("sources6-0", "ipv6_addr")];
    assert_eq!(sets, expected.map(|(n, t)| (n.into(), t.into())));
    let chain = all("chain").into_iter().find(|c| c["name"] == "prerouting").unwrap();
    assert_eq!(
        (&chain["hook"], &chain["prio"], &chain["policy"]),
        (&"prerouting".into(), &(-350).into(), &"accept".into())
    );

    let field = |protocol, field| serde_json::json!({"payload": {"protocol": protocol, "field": field}});
    let is = |left: serde_json::Value, right: serde_json::Value| serde_json::json!({"match": {"op": "==", "left": left, "right": right}});
    let constant = serde_json::json!({"&": [{"meta": {"key": "mark"}}, 0]});
    let counter = serde_json::json!({"counter": {"packets": 0, "bytes": 0}});
    let loopback = is(serde_json::json!({"meta": {"key": "iif"}}), "lo".into());
    let drop =
        |protocol, set: &str| serde_json::json!([is(field(protocol, "saddr"), set.into()), counter, {"drop": null}]);
    let gate = is(constant.clone(), "@gate".into());
    let windows = is(serde_json::json!({"meta": {"key": "time"}}), "@windows".into());
    let neighbours = [
        "mld-listener-query",
        "mld-listener-report",
        "mld-listener-done",
        "nd-router-solicit",
        "nd-router-advert",
        "nd-neighbor-solicit",
        "nd-neighbor-advert",
        "mld2-listener-report",
    ];
    let expected = [
        serde_json::json!([loopback, {"return": null}]),
        drop("ip", "@sources4-0-hosts"),
        drop("ip6", "@sources6-0"),
        serde_json::json!([
            is(field("udp", "dport"), 40441.into()),
            is(serde_json::json!({"payload": {"base": "th", "offset": 64, "len": 128}}), "0x112233445566778899aabbccddeeff".into()),
            counter,
            {"set": {"op": "delete", "elem": constant, "set": "@gate"}},
        ]),
        serde_json::json!([is(field("icmpv6", "type"), serde_json::json!({"set": neighbours})), {"accept": null}]),
        serde_json::json!([gate, windows, {"jump": {"target": "ingress"}}]),
    ];
    let rules = all("rule").iter().map(|r| r["expr"].clone()).collect::<Vec<_>>();
    assert_eq!(rules, expected);
}
