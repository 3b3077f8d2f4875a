//! Short phrases: who saw what and when, so that a reader finds it in the records.

pub use crate::predict::some;

use super::timeline::{Seen, Track};
use crate::{api::SpanKind, predict::seconds};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// `rackpartition-worker: probe w2/Kubelet silent 02:10:03.120–02:11:02.800 (58 samples)`, by the observer's own wall clock.
pub fn cite(track: &Track<'_>, seen: &Seen<'_>) -> String {
    let span = seen.span;
    let kind = format!("{:?}", span.kind).to_lowercase();
    let (from, to) = (clock_time(&span.from.wall), clock_time(&span.to.wall));
    let when = if from == to { from } else { format!("{from}–{to}") };
    let samples = match span.samples {
        // Of a container both times are the runtime's own, however often it was looked at.
        n if n < 2 || span.kind == SpanKind::Container => String::new(),
        n => format!(" ({n} samples)"),
    };
    format!("{}: {kind} {} {} {when}{samples}", track.who, span.subject, span.state)
}

fn clock_time(wall: &MicroTime) -> String {
    wall.0.strftime("%H:%M:%S%.3f").to_string()
}

/// `31.2 s after the cut`, or `2 s after the heal`.
pub fn when(at: f64, heal: f64) -> String {
    match at {
        _ if at > heal => format!("{} after the heal", seconds(at - heal)),
        _ if at < 0.0 => format!("{} before the cut", seconds(-at)),
        _ => format!("{} after the cut", seconds(at)),
    }
}
