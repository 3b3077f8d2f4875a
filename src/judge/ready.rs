//! When pods were ready, by what the API said of them. Of a pod whose node it does not hear it says what it says of the node: a controller
//! makes all pods of the node unready, and they are ready again once its kubelet has put them right.

use super::{
    Case, MAX_UNWATCHED,
    pods::{ApiPod, Gone, is_ready},
    timeline::{Seen, merged},
};

/// When a pod was ready, seconds after the cut: for certain, and at the most. Each in order, and none over another.
pub struct Ready {
    pub certainly: Vec<(f64, f64)>,
    pub possibly: Vec<(f64, f64)>,
}

impl Ready {
    /// Of a pod that the API never had.
    pub fn unknown() -> Self {
        Ready { certainly: Vec::new(), possibly: but(&[]) }
    }

    /// `to`: until when it is asked for, seconds after the cut.
    pub fn of(case: &Case<'_>, pod: &ApiPod<'_>, to: f64) -> Self {
        let put_right = put_right(case, pod);
        let ready: Vec<&Seen<'_>> = pod.seen.iter().filter(|s| is_ready(s)).collect();
        let between = ready.windows(2).filter(|two| goes_on(case, pod, two[0], two[1], put_right));
        let between = between.map(|two| (two[0].to - two[0].to_error, two[1].from + two[1].from_error));
        let last = pod.seen.last().filter(|s| is_ready(s) && s.to >= to - MAX_UNWATCHED);
        let last = last.filter(|_| case.pods.gone(pod) == Gone::No).map(|s| (s.to - s.to_error, f64::INFINITY));
        let certainly = merged(ready.iter().map(|s| s.certain()).chain(between).chain(last).collect());
        // Until its kubelet has put it right it may be ready, whatever the API says.
        let word_from = |(from, to): (f64, f64)| (put_right.map_or(from, |at| from.max(at)), to);
        let unready = pod.seen.iter().filter(|s| s.span.state.ends_with("/NotReady")).map(Seen::certain).map(word_from);
        let unready = merged(unready.filter(|(from, to)| from < to).collect());
        Ready { certainly, possibly: but(&unready) }
    }
}

/// Where nobody heard its node: by when its kubelet has put right what the API says of it, seconds after the cut.
fn put_right(case: &Case<'_>, pod: &ApiPod<'_>) -> Option<f64> {
    let node = case.forecast.endpoints.iter().find(|n| n.node == pod.node)?;
    Some(case.timeline.heal + node.back.latest_seconds)
}

/// Whether a pod was ready between two times at which it was seen to be.
fn goes_on(case: &Case<'_>, pod: &ApiPod<'_>, a: &Seen<'_>, b: &Seen<'_>, put_right: Option<f64>) -> bool {
    // It was when its node was lost, and the first that was heard of it again is that it is.
    let is_of_node = put_right.is_some_and(|at| a.to >= 0.0 && a.to <= case.timeline.heal && b.from <= at);
    let is_otherwise = |s: &Seen<'_>| !is_ready(s) && s.from >= a.to && s.from <= b.from;
    is_of_node || (b.from - a.to <= MAX_UNWATCHED && !pod.seen.iter().any(is_otherwise))
}

/// All time but these times, which are in order.
fn but(times: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let starts = std::iter::once(f64::NEG_INFINITY).chain(times.iter().map(|(_, to)| *to));
    let ends = times.iter().map(|(from, _)| *from).chain([f64::INFINITY]);
    starts.zip(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::Effect,
        judge::tests::fixture::{CUT, END, START, passing},
    };

    const WELL: &str = "Running/Ready";
    const AMISS: &str = "Running/NotReady";
    const ALWAYS: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    type Times = Vec<(f64, f64)>;

    /// When a pod with this history was ready, for certain and at the most.
    fn ready(uid: &str, history: &[(&str, f64, f64)]) -> (Times, Times) {
        let mut run = passing();
        run.fault.pattern.effect = Effect::Reject;
        run.rewrite_pod(uid, history);
        let evidence = run.evidence();
        let case = Case::new(&evidence);
        let ready = Ready::of(&case, case.pods.api_pod(uid).unwrap(), END);
        (ready.certainly, ready.possibly)
    }

    #[test]
    fn a_pod_of_a_node_that_is_heard_is_what_the_api_says() {
        let of = |history: &[(&str, f64, f64)]| ready("web-2", history);
        assert_eq!(of(&[(WELL, START, END)]), (vec![(START, f64::INFINITY)], vec![ALWAYS]));
        let dip = [(WELL, START, 80.0), (AMISS, 81.0, 84.0), (WELL, 85.0, END)];
        let (certainly, possibly) = of(&dip);
        assert_eq!(certainly, [(START, 80.0), (85.0, f64::INFINITY)]);
        assert_eq!(possibly, [(f64::NEG_INFINITY, 81.0), (84.0, f64::INFINITY)]);
        // Nobody looked for a moment, and for too long.
        assert_eq!(of(&[(WELL, START, 80.0), (WELL, 94.0, END)]).0, [(START, f64::INFINITY)]);
        let unseen = of(&[(WELL, START, 80.0), (WELL, 96.0, END)]);
        assert_eq!(unseen, (vec![(START, 80.0), (96.0, f64::INFINITY)], vec![ALWAYS]));
        // It was gone before the end of watching.
        assert_eq!(of(&[(WELL, START, END - 10.0)]).0, [(START, END - 10.0)]);
    }

    #[test]
    fn a_pod_of_a_node_that_is_lost_is_what_its_kubelet_says_afterwards() {
        let of = |back: f64| ready("dns-1", &[(WELL, START, 22.0), (AMISS, 22.5, back - 0.5), (WELL, back, END)]);
        // It has 34.5 s once the API server is back, 65 s after the heal.
        assert_eq!(of(CUT + 12.5), (vec![(START, f64::INFINITY)], vec![ALWAYS]));
        let (certainly, possibly) = of(CUT + 125.0);
        assert_eq!(certainly, [(START, 22.0), (CUT + 125.0, f64::INFINITY)]);
        assert_eq!(possibly, [(f64::NEG_INFINITY, CUT + 99.5), (CUT + 124.5, f64::INFINITY)]);
        // Unready from before the cut on, or after it was heard again, it is so itself.
        let before = [(WELL, START, -5.0), (AMISS, -4.0, CUT + 12.0), (WELL, CUT + 12.5, END)];
        assert_eq!(ready("dns-1", &before).0, [(START, -5.0), (CUT + 12.5, f64::INFINITY)]);
        let after = [(WELL, START, CUT + 5.0), (AMISS, CUT + 6.0, CUT + 12.0), (WELL, CUT + 12.5, END)];
        assert_eq!(ready("dns-1", &after).0, [(START, CUT + 5.0), (CUT + 12.5, f64::INFINITY)]);
    }
}
