//! Members of a plan and their sides by name. A large cluster has hundreds of thousands of pairs that are looked at, and to search
//! its nodes for each of them takes longer than anything else here.

use crate::{
    api::Side,
    fault::{Member, ProbeTarget, RunPlan, Sample},
};
use std::collections::HashMap;

/// Side of what is no node and is heard by several sides, or by none.
const OUTSIDE: &str = "outside";

pub struct Places<'a> {
    plan: &'a RunPlan,
    /// Who was to look at whom.
    pub sample: Sample<'a>,
    members: HashMap<&'a str, &'a Member>,
    sides: HashMap<&'a str, &'a str>,
    /// Side of a name that is no member.
    elsewhere: &'a str,
    targets: HashMap<&'a str, Vec<&'a ProbeTarget>>,
}

impl<'a> Places<'a> {
    pub fn new(plan: &'a RunPlan, sides: &'a [Side]) -> Self {
        let sample = Sample::new(plan);
        let targets = plan.agents().into_iter().map(|node| (node, sample.targets_of(node))).collect();
        // The first of a name counts, as it does for the plan.
        let members = plan.members.iter().rev().map(|m| (m.name.as_str(), m)).collect();
        let of_nodes = |side: &'a Side| side.nodes.iter().map(move |node| (node.as_str(), side.name.as_str()));
        let mut places = Places {
            plan,
            sample,
            members,
            sides: sides.iter().rev().flat_map(of_nodes).collect(),
            elsewhere: OUTSIDE,
            targets,
        };
        if let [only] = sides {
            places.elsewhere = &only.name;
        }
        let others: Vec<&'a str> = plan.members.iter().map(|m| m.name.as_str()).collect();
        for member in others {
            if !places.sides.contains_key(member) {
                let side = places.side_that_hears(sides, member);
                places.sides.insert(member, side);
            }
        }
        places
    }

    /// An endpoint is on the side that it goes on hearing, where that is one.
    fn side_that_hears(&self, sides: &'a [Side], member: &str) -> &'a str {
        let mut hears = sides.iter().filter(|s| s.nodes.iter().all(|n| !self.breaks(n, member)));
        hears.next().filter(|_| hears.next().is_none()).map_or(OUTSIDE, |s| s.name.as_str())
    }

    pub fn member(&self, name: &str) -> Option<&'a Member> {
        self.members.get(name).copied()
    }

    /// Name of the side a member is on; `outside` for what is no node and heard by both.
    pub fn side_of(&self, member: &str) -> &'a str {
        self.sides.get(member).copied().unwrap_or(self.elsewhere)
    }

    /// The ports that this node was to connect to.
    pub fn targets_of(&self, node: &str) -> &[&'a ProbeTarget] {
        self.targets.get(node).map_or(&[], Vec::as_slice)
    }

    /// As [`RunPlan::breaks`].
    pub fn breaks(&self, a: &str, b: &str) -> bool {
        let both = self.member(a).zip(self.member(b));
        both.is_some_and(|(a, b)| self.plan.enforcer(a, b).is_some() || self.plan.enforcer(b, a).is_some())
    }

    /// As [`RunPlan::breaks_tcp`].
    pub fn breaks_tcp(&self, node: &str, target: &ProbeTarget) -> bool {
        self.plan.ports.hit_tcp(target.address.port()) && self.breaks(node, &target.member)
    }

    /// As [`RunPlan::windows_at`].
    pub fn windows_at(&self, member: &str, length: f64) -> Vec<(f64, f64)> {
        self.plan.pattern.windows(self.member(member).and_then(|m| m.rack.as_deref()), length)
    }

    /// As [`RunPlan::windows_between`].
    pub fn windows_between(&self, a: &str, b: &str, length: f64) -> Vec<(f64, f64)> {
        match self.plan.pattern.is_steady() {
            // Everybody's windows are the same.
            true if self.breaks(a, b) => self.windows_at(a, length),
            true => Vec::new(),
            false => self.plan.windows_between(a, b, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::{Case, tests::fixture::passing};

    #[test]
    fn what_is_found_by_name_is_what_the_plan_says() {
        let run = passing();
        let evidence = run.evidence();
        let case = Case::new(&evidence);
        let (places, plan) = (&case.places, &run.plan);
        for a in &plan.members {
            assert_eq!(places.member(&a.name), plan.member(&a.name));
            assert_eq!(places.windows_at(&a.name, 75.0), plan.windows_at(&a.name, 75.0));
            for b in &plan.members {
                let (a, b) = (a.name.as_str(), b.name.as_str());
                assert_eq!(places.breaks(a, b), plan.breaks(a, b), "{a} {b}");
                assert_eq!(places.windows_between(a, b, 75.0), plan.windows_between(a, b, 75.0), "{a} {b}");
            }
        }
        assert_eq!(["cp1", "w3", "lb"].map(|name| places.side_of(name)), ["isolated", "rest", "rest"]);
        assert_eq!(places.side_of("nobody"), "outside");
    }
}
