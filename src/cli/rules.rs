//! Rules of the API server that a plan does not notice: it would quietly take the first of two shapes, or never end.
//!
//! Not all of them. `kubectl apply --dry-run=server` asks the API server itself.

use crate::api::{RackPartitionSpec, Traffic};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The first rule of [`RackPartitionSpec`] that this one breaks, in the words of the API server.
pub fn broken(spec: &RackPartitionSpec) -> Option<&'static str> {
    let cut = &spec.cut;
    let shapes = [
        cut.isolate.is_some(),
        cut.split.is_some(),
        cut.bridge.is_some(),
        cut.ring.is_some(),
        cut.star.is_some(),
        cut.chain.is_some(),
        cut.edges.is_some(),
    ];
    let effects = [spec.effect.drop.is_some(), spec.effect.reject.is_some(), spec.effect.loss.is_some()];
    let named = |of: &[bool]| of.iter().filter(|is_named| **is_named).count();
    let by = |t: &Traffic| (t.class.is_some(), t.protocol.is_some(), t.port.is_some());
    let is_plain = |t: &Traffic| [(true, false, false), (false, true, true)].contains(&by(t));
    let within = |duration: kube::core::Duration, least: Duration| duration >= least && duration <= HOUR;
    let rules = [
        (named(&shapes) == 1, "name exactly one cut: isolate, split, bridge, ring, star, chain or edges"),
        (named(&effects) <= 1, "name one effect: drop, reject or loss"),
        (spec.traffic.iter().all(is_plain), "name either a class of traffic or a protocol and a port"),
        (within(spec.duration, 10 * SECOND), "a cut lasts from 10s to 1h"),
        (within(spec.recovery, 10 * SECOND), "watch the recovery for 10s to 1h"),
        (
            spec.flap.as_ref().is_none_or(|f| within(f.down, SECOND) && within(f.up, SECOND)),
            "down and up last from 1s to 1h each",
        ),
    ];
    rules.into_iter().find(|(is_kept, _)| !is_kept).map(|(_, rule)| rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RackPartition;
    use serde_json::{Value, json};

    /// What this module says of a spec with one field set, where the API server's own language says that it breaks a rule.
    fn said(field: &str, value: Value) -> Option<&'static str> {
        let mut spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "60s"});
        spec[field] = value;
        let run = RackPartition::new("run", serde_json::from_value(spec).unwrap());
        let (said, error) = (broken(&run.spec), run.validate_cel().err());
        assert_eq!(said.is_some(), error.is_some(), "{said:?}, {error:?}");
        said.inspect(|rule| assert!(format!("{error:?}").contains(*rule), "{rule}: {error:?}"))
    }

    #[test]
    fn it_says_what_the_api_server_says() {
        assert_eq!(said("duration", json!("60s")), None);
        assert_eq!(said("effect", json!({"reject": {}})), None);
        assert_eq!(said("traffic", json!([{"class": "Pods"}, {"protocol": "TCP", "port": 80}])), None);
        assert_eq!(said("flap", json!({"down": "5s", "up": "1s"})), None);
        for (field, value) in [
            ("duration", json!("5s")),
            ("duration", json!("61m")),
            ("recovery", json!("0s")),
            ("cut", json!({})),
            ("cut", json!({"isolate": {"racks": ["r1"]}, "ring": {}})),
            ("effect", json!({"drop": {}, "reject": {}})),
            ("traffic", json!([{"protocol": "TCP"}])),
            ("traffic", json!([{"class": "Pods", "protocol": "TCP", "port": 80}])),
            ("flap", json!({"down": "5s", "up": "0s"})),
        ] {
            assert!(said(field, value.clone()).is_some(), "{field} {value}");
        }
    }

    #[test]
    fn a_time_below_none_is_no_time() {
        let spec = json!({"cut": {"isolate": {"racks": ["r1"]}}, "duration": "-1m"});
        let refused = serde_json::from_value::<RackPartitionSpec>(spec).unwrap_err().to_string();
        assert_eq!(refused, r#""-1m" is no length of time such as 1m30s"#);
    }
}
