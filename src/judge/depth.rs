//! How many of several times there are at once.

/// When this number changes between `from` and `to`, in order, beginning with `from`: each time and the number from then on.
fn steps(times: &[(f64, f64)], from: f64, to: f64) -> Vec<(f64, usize)> {
    // One that ends before it starts covers nothing.
    let covering = times.iter().filter(|(start, end)| start < end).copied();
    let (mut starts, mut stops): (Vec<f64>, Vec<f64>) = covering.unzip();
    starts.sort_by(f64::total_cmp);
    stops.sort_by(f64::total_cmp);
    // A workload may have thousands of pods, so none of these goes through all of them.
    let covers = |at: f64| starts.partition_point(|start| *start <= at) - stops.partition_point(|stop| *stop <= at);
    let ends = times.iter().flat_map(|(start, end)| [*start, *end]).filter(|at| from < *at && *at < to);
    let mut at: Vec<f64> = ends.chain([from]).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    at.into_iter().map(|at| (at, covers(at))).collect()
}

/// The fewest that there are at once at any moment from `from` on and before `to`.
pub fn fewest(times: &[(f64, f64)], from: f64, to: f64) -> usize {
    steps(times, from, to).into_iter().map(|(_, number)| number).min().unwrap_or(0)
}

/// When there are at least so many at once, from `from` on and before `to`.
pub fn at_least(many: usize, times: &[(f64, f64)], from: f64, to: f64) -> Vec<(f64, f64)> {
    let steps = steps(times, from, to);
    let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([to]);
    let enough = steps.iter().zip(ends).filter(|((_, number), _)| *number >= many);
    enough.map(|((start, _), end)| (*start, end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_at_any_moment() {
        let times = [(0.0, 30.0), (0.0, 20.0), (25.0, 60.0)];
        assert_eq!(fewest(&times, 5.0, 20.0), 2);
        assert_eq!(fewest(&times, 5.0, 30.0), 1, "from 20 s to 25 s");
        assert_eq!(fewest(&times, 5.0, 61.0), 0);
        assert_eq!((fewest(&times, 26.0, 26.0), fewest(&[], 0.0, 1.0)), (2, 0), "at one moment, and of none");
        // One that starts when the other ends leaves none out.
        assert_eq!(fewest(&[(0.0, 10.0), (10.0, 20.0)], 5.0, 15.0), 1);
        // By the clocks one may be certain for less than nothing, or for ever.
        assert_eq!(fewest(&[(f64::INFINITY, 10.0), (8.0, 6.0), (f64::NEG_INFINITY, f64::INFINITY)], 5.0, 15.0), 1);
    }

    #[test]
    fn both_of_two_while_either_is() {
        let times = [(0.0, 30.0), (10.0, 20.0), (22.0, 40.0)];
        assert_eq!(at_least(2, &times, 0.0, 50.0), [(10.0, 20.0), (22.0, 30.0)]);
        assert!(at_least(3, &times, 0.0, 50.0).is_empty());
    }
}
