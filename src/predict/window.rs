//! Arithmetic of windows and how sure they make an event.

use crate::api::{Window, first};

/// Whether something happens while the cut lasts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Certainty {
    MustNot,
    May,
    Must,
}

pub fn window(earliest_seconds: f64, latest_seconds: f64) -> Window {
    let earliest_seconds = earliest_seconds.max(0.0);
    Window { earliest_seconds, latest_seconds: latest_seconds.max(earliest_seconds) }
}

/// The window of what happens `delay` after something in `base`.
pub fn after(base: &Window, delay: (f64, f64)) -> Window {
    window(base.earliest_seconds + delay.0, base.latest_seconds + delay.1)
}

/// How sure an event with this window is: it must happen if the window ends before `surely_until`, it can't if the window
/// begins after `possibly_until`; both in seconds after the cut.
pub fn certainty(window: &Window, surely_until: f64, possibly_until: f64) -> Certainty {
    if window.latest_seconds <= surely_until {
        Certainty::Must
    } else if window.earliest_seconds > possibly_until {
        Certainty::MustNot
    } else {
        Certainty::May
    }
}

/// `12.3 s`, without a fraction where there is none.
pub fn seconds(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    // Negative zero would print as "-0".
    format!("{} s", if rounded == 0.0 { 0.0 } else { rounded })
}

/// `12.3–14 s`.
pub fn interval(window: &Window) -> String {
    let (from, to) = (seconds(window.earliest_seconds), seconds(window.latest_seconds));
    if from == to { from } else { format!("{}–{to}", from.trim_end_matches(" s")) }
}

/// A window counted from something that happened at `start`.
pub fn shifted(relative: &Window, start: f64) -> Window {
    after(relative, (start, start))
}

/// From the earliest beginning to the latest end of two windows.
pub fn union(a: &Window, b: &Window) -> Window {
    window(a.earliest_seconds.min(b.earliest_seconds), a.latest_seconds.max(b.latest_seconds))
}

/// The first names of a list, and how many more there are.
pub fn some(names: &[String]) -> String {
    first(names, 4)
}
