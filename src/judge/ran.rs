//! When containers ran, by the runtimes of their nodes: for certain and at the most, alone and at the same time.

use super::{
    Case,
    cite::cite,
    pods::Container,
    timeline::{Seen, overlap},
};

/// When containers ran, seconds after the cut: for certain, and at the most.
#[derive(Default)]
pub struct Ran {
    pub certainly: Vec<(f64, f64)>,
    pub possibly: Vec<(f64, f64)>,
}

impl Ran {
    /// Adds a container. `least`, `most`: until when it ran for certain and at the most, seconds after the cut.
    pub fn add(&mut self, seen: &Seen<'_>, (least, most): (f64, f64)) {
        self.certainly.push((seen.from + seen.from_error, least));
        self.possibly.push((seen.from - seen.from_error, most));
    }
}

/// Containers that ran at the same time.
pub struct Twice {
    /// Seconds that two of them certainly ran, and that any two may have run at the most.
    pub definite: f64,
    pub possible: f64,
    /// When the later one of those that certainly ran started, seconds after the cut.
    pub start: f64,
    pub evidence: String,
}

/// # Errors
/// Where the clock of a container's node was never compared.
pub fn clock_of(case: &Case<'_>, container: &Container<'_>) -> Result<(), String> {
    match case.timeline.agent(container.node) {
        Some(track) if track.clock_known() => Ok(()),
        _ => Err(format!("the clock of {} was not compared with the operator's", container.node)),
    }
}

/// How long one of these and one of those ran at the same time, at the longest; `None` where either of them never ran.
///
/// # Errors
/// Where a clock was never compared.
pub fn twice(case: &Case<'_>, old: &[Container<'_>], new: &[Container<'_>]) -> Result<Option<Twice>, String> {
    let mut worst: Option<Twice> = None;
    for x in old {
        for y in new {
            clock_of(case, x)?;
            clock_of(case, y)?;
            let (definite, possible) = overlap(&x.seen, &y.seen, x.node == y.node);
            // Those that ran longest for certain need not be those that may have run longest.
            let possible = worst.as_ref().map_or(possible, |w| w.possible.max(possible));
            if let Some(worst) = worst.as_mut().filter(|w| w.definite >= definite) {
                worst.possible = possible;
            } else {
                let said =
                    |c: &Container<'_>| case.timeline.agent(c.node).map_or(String::new(), |track| cite(track, &c.seen));
                let (start, evidence) = (x.seen.from.max(y.seen.from), format!("{}; {}", said(y), said(x)));
                worst = Some(Twice { definite, possible, start, evidence });
            }
        }
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::{container, passing};

    #[test]
    fn the_longest_that_may_be_is_of_any_two() {
        let mut run = passing();
        // The longer one was long before the clocks were compared.
        for (from, to) in [(20.0, 30.0), (-600.0, -589.95)] {
            run.status("w3").spans.push(container("default/x-0/app", "x-1", "exited", from, to));
        }
        let evidence = run.evidence();
        let case = Case::new(&evidence);
        let both = twice(&case, case.pods.containers("web-2"), case.pods.containers("x-1")).unwrap().unwrap();
        assert!(both.definite > 9.95 && both.definite < 10.0, "{}", both.definite);
        assert!(both.possible > 10.2, "{}", both.possible);
        assert_eq!(both.start.round(), 20.0);
    }
}
