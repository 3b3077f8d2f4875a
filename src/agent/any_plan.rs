//! A plan as an agent reads it, whatever is in it: it makes this node's part of it, or says why it can't.

use super::setup;
use crate::fault::{RunPlan, Sample};
use std::{path::PathBuf, time::Duration};

/// Nodes of one plan that are looked at: the rules of thousands take their time, and no others.
const NODES: usize = 3;

/// Reads a plan and takes the part of some of its nodes; how many could. Panics where a part breaks a rule. For the fuzz target and the
/// test below.
pub fn read_any_plan(json: &[u8]) -> usize {
    let Ok(plan) = serde_json::from_slice::<RunPlan>(json) else { return 0 };
    assert_eq!(plan.hash(), plan.without_token().hash(), "whoever has it without the secret can check it");
    let sample = Sample::new(&plan);
    let takes_part = |node: &&str| {
        for target in sample.targets_of(node) {
            let _ = (target.subject(), plan.breaks_tcp(node, target));
        }
        let Ok(setup) = setup(&plan, node, String::new(), PathBuf::new()) else { return false };
        let is_within = |(from, to): &(Duration, Duration)| from <= to && *to <= setup.duration;
        assert!(setup.windows.iter().all(is_within), "longer than {:?}: {:?}", setup.duration, setup.windows);
        true
    };
    plan.agents().into_iter().take(NODES).filter(takes_part).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fs;

    fn seed() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/plan/flapping.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// How many take part in the seed with something else in it.
    fn parts(at: &str, value: Value) -> usize {
        let mut plan = seed();
        *plan.pointer_mut(at).unwrap_or_else(|| panic!("no {at}")) = value;
        read_any_plan(plan.to_string().as_bytes())
    }

    #[test]
    fn the_seed_of_the_fuzz_target_is_a_plan_in_which_nodes_take_part() {
        assert_eq!(read_any_plan(seed().to_string().as_bytes()), NODES);
    }

    #[test]
    fn a_plan_that_nobody_can_carry_out_is_refused_and_a_senseless_one_cuts_no_longer() {
        for (at, value) in [
            ("/durationSeconds", json!(-1.0)),
            ("/durationSeconds", json!(1e300)),
            ("/longestSeconds", json!(-1.0)),
            ("/heal/token", json!("no token")),
        ] {
            assert_eq!(parts(at, value.clone()), 0, "{at} {value}");
        }
        for (at, value) in [
            ("/pattern/flap", json!([0.0, 0.0])),
            ("/pattern/flap", json!([-1e300, 1.0])),
            ("/pattern/flap", json!([1e-300, 1e-300])),
            ("/pattern/earlySeconds/r1", json!(-1e300)),
            ("/pattern/earlySeconds/r1", json!(1e300)),
        ] {
            assert_eq!(parts(at, value.clone()), NODES, "{at} {value}");
        }
    }
}
