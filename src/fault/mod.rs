//! The algebra of faults: a cut becomes directed edges, edges become sides, and both become one plan for every agent.

mod datagram;
mod enforce;
mod expand;
mod graph;
mod guard;
mod pattern;
mod plan;
mod policy;
mod registers;
mod sample;
mod select;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;

pub use datagram::{FLOWS, Way, is_operators};
pub use enforce::{Kind, enforcer, kind};
pub use expand::{Fault, expand};
pub use graph::{Leaderless, cut_off, leaderless, members_led, sides};
pub use guard::{Refusal, check as check_guards};
pub use pattern::{Effect, Pattern, pauses};
pub use plan::{Heal, Member, PlanParts, PortClass, ProbeTarget, RunPlan, merged};
pub use policy::Policy;
pub use sample::Sample;
pub use traffic::Ports;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Directed edges in blocks: every member of `to` no longer hears any member of `from`.
///
/// A block is a set product, so that cutting 40 nodes from 5,000 is two blocks and not 400,000 pairs.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Block {
    pub from: BTreeSet<String>,
    pub to: BTreeSet<String>,
}

/// Of each block whether a member is no longer heard, and whether it no longer hears: the same for all of a side.
pub fn fate<'a>(blocks: &'a [Block], member: &'a str) -> impl Iterator<Item = (bool, bool)> + use<'a> {
    blocks.iter().map(move |b| (b.from.contains(member), b.to.contains(member)))
}

impl Block {
    pub fn cuts(&self, from: &str, to: &str) -> bool {
        self.from.contains(from) && self.to.contains(to)
    }
}
