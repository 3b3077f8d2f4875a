//! Shapes as groups and who of them hear each other.

use super::{Block, Refusal, select::Members};

/// Blocks in which group `j` no longer hears group `i` wherever `hears(i, j)` is false. `hears` must be symmetric for a cut that
/// is.
pub fn between(groups: &[Members], hears: impl Fn(usize, usize) -> bool) -> Vec<Block> {
    // One block for each group that is not heard, and not one for each pair: a plan must fit into a ConfigMap.
    let of = |i: usize| {
        let deaf = (0..groups.len()).filter(|j| *j != i && !hears(i, *j));
        let to: Members = deaf.flat_map(|j| groups[j].iter().cloned()).collect();
        Block { from: groups[i].clone(), to }
    };
    (0..groups.len()).map(of).filter(|b| !b.from.is_empty() && !b.to.is_empty()).collect()
}

/// Who hears whom in a ring of `n` members in which each hears a majority, itself included: the nearest ones on both sides, and
/// the one opposite where that makes the number even. Jepsen's `majorities-ring`, but only where it is exact.
///
/// # Errors
/// Where no such ring is exact (an odd number of members with a majority of an odd number of others), or where everybody would
/// hear everybody.
pub fn ring(n: usize) -> Result<impl Fn(usize, usize) -> bool, Refusal> {
    let others = n / 2;
    let (reach, opposite) = (others / 2, others % 2 == 1);
    match n {
        0..=3 => return Err(Refusal::NoSuchRing { members: n, why: "each would hear all others".into() }),
        _ if opposite && n % 2 == 1 => {
            let why = format!("{n} members can't hear {others} others each: the links would not pair up");
            return Err(Refusal::NoSuchRing { members: n, why });
        }
        _ => {}
    }
    Ok(move |i: usize, j: usize| {
        let apart = i.abs_diff(j);
        let apart = apart.min(n - apart);
        apart <= reach || (opposite && apart * 2 == n)
    })
}

/// Neighbours in the list.
pub fn chain(i: usize, j: usize) -> bool {
    i.abs_diff(j) == 1
}

/// The first member and everybody.
pub fn star(i: usize, j: usize) -> bool {
    i == 0 || j == 0
}

/// Edges that may overlap as blocks that don't: each `from` in one block only, nobody cut from itself.
pub fn normalised(blocks: &[Block]) -> Vec<Block> {
    let mut deaf: std::collections::BTreeMap<&String, Members> = Default::default();
    for block in blocks {
        for from in &block.from {
            deaf.entry(from).or_default().extend(block.to.iter().filter(|to| *to != from).cloned());
        }
    }
    let mut merged: std::collections::BTreeMap<Members, Members> = Default::default();
    for (from, to) in deaf.into_iter().filter(|(_, to)| !to.is_empty()) {
        merged.entry(to).or_default().insert(from.clone());
    }
    merged.into_iter().map(|(to, from)| Block { from, to }).collect()
}
