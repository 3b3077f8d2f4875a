//! What becomes of the packets of a cut edge, and when: effect, flapping, staggered heal.

use super::Refusal;
use crate::api::{LossPer, RackPartitionSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    #[default]
    Drop,
    Reject,
    /// Lost by chance, each packet by itself.
    LossPerPacket {
        percent: u8,
    },
    /// Lost by chance, all packets of a flow or none.
    LossPerFlow {
        percent: u8,
    },
}

/// What is left of a cut that flaps is no window of its own below this, seconds: sums of fractions are not exact.
const SHORTEST_WINDOW: f64 = 0.01;

/// Windows that one cut can have: `spec.duration` is an hour at the most, and each half of `spec.flap` a second at least. A plan that
/// somebody else wrote may name no time at all, and its windows would never end.
const MOST_WINDOWS: usize = 1800;

/// Effect and times.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pattern {
    pub effect: Effect,
    /// Down and up, seconds, again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flap: Option<(f64, f64)>,
    /// How long before the end of the cut a rack heals, seconds. Nobody heals later than the end.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub early_seconds: BTreeMap<String, f64>,
}

impl Pattern {
    /// Whether the cut is there, whole, from its beginning to its end: the only kind that theory predicts exactly.
    pub fn is_steady(&self) -> bool {
        matches!(self.effect, Effect::Drop | Effect::Reject) && self.flap.is_none() && self.early_seconds.is_empty()
    }

    /// The default: a plain drop.
    pub fn is_plain(&self) -> bool {
        *self == Pattern::default()
    }

    /// When the cut has effect on a node of this rack, seconds after its beginning, for one of this length.
    pub fn windows(&self, rack: Option<&str>, length: f64) -> Vec<(f64, f64)> {
        let early = rack.and_then(|r| self.early_seconds.get(r)).copied().unwrap_or(0.0);
        // Whatever a plan says, none ends after the cut or before it begins.
        let end = (length - early.max(0.0)).max(0.0);
        let flap = self.flap.map(|(down, up)| (down.max(0.0), up.max(0.0)));
        let Some((down, up)) = flap else { return vec![(0.0, end)] };
        let starts = (0..).map(|k| f64::from(k) * (down + up)).take_while(|start| end - *start > SHORTEST_WINDOW);
        starts.take(MOST_WINDOWS).map(|start| (start, (start + down).min(end))).collect()
    }
}

/// The times in a cut of this length, seconds, that are in none of its windows: a link that flaps is up, a rack has healed early.
pub fn pauses(windows: &[(f64, f64)], length: f64) -> impl Iterator<Item = (f64, f64)> {
    let starts = std::iter::once(0.0).chain(windows.iter().map(|w| w.1));
    let ends = windows.iter().map(|w| w.0).chain(std::iter::once(length));
    starts.zip(ends).filter(|(from, to)| to - from > SHORTEST_WINDOW)
}

/// `racks`: those that drop something, and so have something to heal, sorted.
///
/// # Errors
/// Where racks would heal before the cut has begun.
pub fn pattern<'a>(spec: &RackPartitionSpec, racks: impl FnOnce() -> BTreeSet<&'a str>) -> Result<Pattern, Refusal> {
    let effect = match (&spec.effect.reject, &spec.effect.loss) {
        (Some(_), _) => Effect::Reject,
        (None, Some(loss)) if loss.per == LossPer::Flow => Effect::LossPerFlow { percent: loss.percent },
        (None, Some(loss)) => Effect::LossPerPacket { percent: loss.percent },
        (None, None) => Effect::Drop,
    };
    let seconds = |d: kube::core::Duration| Duration::from(d).as_secs_f64();
    let flap = spec.flap.as_ref().map(|f| (seconds(f.down), seconds(f.up)));
    let mut early_seconds = BTreeMap::new();
    if let Some(apart) = spec.stagger.map(seconds) {
        let racks = racks();
        let last = racks.len().saturating_sub(1);
        for (i, rack) in racks.iter().enumerate().filter(|(i, _)| *i < last) {
            early_seconds.insert((*rack).to_owned(), (last - i) as f64 * apart);
        }
        let (needed, length) = (last as f64 * apart, seconds(spec.duration));
        if needed >= length {
            return Err(Refusal::StaggerTooLong { needed_seconds: needed, length_seconds: length });
        }
    }
    Ok(Pattern { effect, flap, early_seconds })
}
