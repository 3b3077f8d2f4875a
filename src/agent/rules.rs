//! The plan of a run as the rules of one node's table.

use crate::{
    api::Protocol,
    fault::{self, Member, RunPlan, merged},
    netfilter::{Addresses, Effect, Hook, Port, Rule, Transport, Unit},
};
use ipnet::IpNet;

/// What this node drops, rejects or loses.
pub fn rules_at(plan: &RunPlan, node: &str) -> Vec<Rule> {
    let own = plan.member(node);
    let cut_from: Vec<&Member> = plan.members.iter().filter(|m| plan.cuts(&m.name, node)).collect();
    let everybody = of(cut_from.iter().flat_map(|m| m.all_cidrs()));
    let sources = match plan.sealed.contains(node) {
        true => Addresses::AllBut(merged(sealed(plan).flat_map(Member::all_cidrs))),
        false => everybody,
    };
    let rule = |sources, destinations, ports: &[Port], hook| Rule {
        sources,
        destinations,
        ports: ports.to_vec(),
        effect: effect(plan),
        hook,
    };
    let ports = ports(plan);
    let mut rules = Vec::new();
    if plan.ports.is_everything() || !ports.is_empty() {
        rules.push(rule(sources, Addresses::Any, &ports, Hook::Ingress));
    }
    if plan.ports.pods {
        // From their pods to anybody here, and from themselves to pods here: no packet is in both.
        let (pods, nodes) = (of(cut_from.iter().flat_map(|m| m.pod_cidrs.clone())), of(own_cidrs(&cut_from)));
        // Where the rack is sealed: whoever is neither in it nor in the rule before.
        let named = sealed(plan).flat_map(Member::all_cidrs).chain(cut_from.iter().flat_map(|m| m.pod_cidrs.clone()));
        let others = if plan.sealed.contains(node) { Addresses::AllBut(merged(named)) } else { nodes };
        rules.push(rule(pods, Addresses::Any, &[], Hook::Ingress));
        rules.push(rule(others, of(own.into_iter().flat_map(|m| m.pod_cidrs.clone())), &[], Hook::Ingress));
    }
    let out = plan.members.iter().filter(|m| own.is_some_and(|own| plan.enforcer(own, m) == Some(node)));
    let out: Vec<IpNet> = out.flat_map(Member::all_cidrs).collect();
    if !out.is_empty() && (plan.ports.is_everything() || !ports.is_empty()) {
        rules.push(rule(Addresses::Any, of(out.into_iter()), &ports, Hook::Egress));
    }
    rules
}

fn sealed(plan: &RunPlan) -> impl Iterator<Item = &Member> {
    plan.members.iter().filter(|m| plan.sealed.contains(&m.name))
}

fn own_cidrs<'a>(members: &'a [&Member]) -> impl Iterator<Item = IpNet> + 'a {
    members.iter().flat_map(|m| m.cidrs.iter().copied())
}

fn of(cidrs: impl Iterator<Item = IpNet>) -> Addresses {
    Addresses::Of(merged(cidrs))
}

/// The ports that a cut is about; empty: all.
pub fn ports(plan: &RunPlan) -> Vec<Port> {
    let port = |(protocol, port): &(Protocol, u16)| {
        let transport = match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        };
        Port { transport, port: *port }
    };
    plan.ports.ports.iter().map(port).collect()
}

fn effect(plan: &RunPlan) -> Effect {
    let permille = |percent: u8| u16::from(percent) * 10;
    match plan.pattern.effect {
        fault::Effect::Drop => Effect::Drop,
        fault::Effect::Reject => Effect::Reject,
        fault::Effect::LossPerPacket { percent } => Effect::Loss { permille: permille(percent), per: Unit::Packet },
        fault::Effect::LossPerFlow { percent } => Effect::Loss { permille: permille(percent), per: Unit::Flow },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `a` with a pod range is cut from `b` and from the endpoint `lb`, both ways.
    fn plan(change: impl FnOnce(&mut Value)) -> RunPlan {
        let member = |name: &str, host: u8, agent: bool| {
            let pods = if agent { json!([format!("198.19.{host}.0/24")]) } else { json!([]) };
            json!({"name": name, "hasAgent": agent, "cidrs": [format!("198.18.0.{host}/32")], "podCidrs": pods,
                "healAddresses": []})
        };
        let mut plan = json!({
            "run": "r", "runUid": "u", "members": [member("a", 1, true), member("b", 2, true), member("lb", 9, false)],
            "edges": [{"from": ["a"], "to": ["b", "lb"]}, {"from": ["b", "lb"], "to": ["a"]}],
            "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0, "longestSeconds": 1.0, "probes": [],
            "apiServers": [], "writable": [],
        });
        change(&mut plan);
        serde_json::from_value(plan).unwrap()
    }

    fn cidrs(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|c| c.parse().unwrap()).collect()
    }

    #[test]
    fn a_plain_cut_is_one_rule_over_nodes_pods_and_endpoints() {
        let plan = plan(|_| {});
        assert_eq!(rules_at(&plan, "b"), [Rule::drop_from(cidrs(&["198.18.0.1/32", "198.19.1.0/24"]))]);
        let sources = cidrs(&["198.18.0.2/32", "198.18.0.9/32", "198.19.2.0/24"]);
        assert_eq!(rules_at(&plan, "a"), [Rule::drop_from(sources)]);
    }

    #[test]
    fn a_sealed_side_hears_its_own_only() {
        let plan = plan(|p| p["sealed"] = json!(["a"]));
        assert_eq!(rules_at(&plan, "a")[0].sources, Addresses::AllBut(cidrs(&["198.18.0.1/32", "198.19.1.0/24"])));
        assert_eq!(rules_at(&plan, "b")[0].sources, Addresses::Of(cidrs(&["198.18.0.1/32", "198.19.1.0/24"])));
    }

    #[test]
    fn what_leaves_for_somebody_without_an_agent_is_dropped_where_asked() {
        let plan = plan(|p| p["members"][2]["egress"] = true.into());
        let rules = rules_at(&plan, "a");
        assert_eq!((rules.len(), rules[1].hook), (2, Hook::Egress));
        assert_eq!(rules[1].destinations, Addresses::Of(cidrs(&["198.18.0.9/32"])));
        assert_eq!(rules_at(&plan, "b").len(), 1, "b is not cut from it");
    }

    #[test]
    fn pods_are_hit_by_either_address_and_once() {
        let plan = plan(|p| p["ports"] = json!({"pods": true}));
        let rules = rules_at(&plan, "b");
        let ends: Vec<_> = rules.iter().map(|r| (r.sources.clone(), r.destinations.clone())).collect();
        let from_pods = (Addresses::Of(cidrs(&["198.19.1.0/24"])), Addresses::Any);
        let to_pods = (Addresses::Of(cidrs(&["198.18.0.1/32"])), Addresses::Of(cidrs(&["198.19.2.0/24"])));
        assert_eq!(ends, [from_pods, to_pods]);
    }

    #[test]
    fn ports_and_effects_are_those_of_the_plan() {
        let plan = plan(|p| {
            p["ports"] = json!({"ports": [["TCP", 2380]]});
            p["pattern"] = json!({"effect": {"lossPerFlow": {"percent": 40}}});
        });
        let [rule] = &rules_at(&plan, "b")[..] else { panic!("one rule") };
        assert_eq!(rule.ports, [Port { transport: Transport::Tcp, port: 2380 }]);
        assert_eq!(rule.effect, Effect::Loss { permille: 400, per: Unit::Flow });
    }
}
