//! What is told of an interval beside its ends: when something happens, from when to when it is so, or how long it lasts.

use super::window::window;
use crate::api::{Bounds, Check, Prediction, Window};

/// A window and what its ends are. `None` where nothing is bounded.
pub type Bounded = Option<(Bounds, Window)>;

/// It happens within this window after the cut.
pub fn after_cut(window: Window) -> Bounded {
    Some((Bounds::AfterCut, window))
}

/// It happens within this window after the heal.
pub fn after_heal(window: Window) -> Bounded {
    Some((Bounds::AfterHeal, window))
}

/// It lasts as long as this window says.
pub fn lasts(window: Window) -> Bounded {
    Some((Bounds::Length, window))
}

/// It lasts no longer than this, seconds.
pub fn at_most(longest: f64) -> Bounded {
    lasts(window(0.0, longest))
}

/// It is so from the one moment to the other, seconds after the cut. `None` where that is no time at all: the cut is over before.
pub fn throughout(from: f64, until: f64) -> Bounded {
    (from < until).then(|| (Bounds::Throughout, window(from, until)))
}

/// A line of the plan.
pub fn prediction(
    check: Check,
    subject: impl Into<String>,
    expected: impl Into<String>,
    bounded: Bounded,
    reason: impl Into<String>,
) -> Prediction {
    Prediction {
        check,
        subject: subject.into(),
        expected: expected.into(),
        window: bounded.map(|(_, window)| window),
        bounds: bounded.map(|(bounds, _)| bounds),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_its_window_is() {
        let told = |bounded: Bounded| {
            let line = prediction(Check::LeaderGap, "a", "b", bounded, "c");
            line.window.map(|w| (w.earliest_seconds, w.latest_seconds)).zip(line.bounds)
        };
        assert_eq!(told(after_cut(window(1.0, 2.0))), Some(((1.0, 2.0), Bounds::AfterCut)));
        assert_eq!(told(after_heal(window(1.0, 2.0))), Some(((1.0, 2.0), Bounds::AfterHeal)));
        assert_eq!(told(at_most(3.0)), Some(((0.0, 3.0), Bounds::Length)));
        assert_eq!(told(throughout(11.0, 75.0)), Some(((11.0, 75.0), Bounds::Throughout)));
        // What begins when the cut is over is not so at any time of it.
        assert_eq!((told(throughout(11.0, 5.0)), told(None)), (None, None));
    }
}
