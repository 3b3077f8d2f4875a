//! Command-line flags of the control plane's static pods, as their mirror pods show them.

use crate::topology::Timer;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::Duration};
use std::collections::HashMap;

/// `--name=value` flags of a pod's first container.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pod: String,
    values: HashMap<String, String>,
}

impl Flags {
    pub fn of(pod: &Pod) -> Self {
        let container = pod.spec.as_ref().and_then(|s| s.containers.first());
        let words = container.into_iter().flat_map(|c| c.command.iter().chain(c.args.iter()).flatten());
        let values = words
            .filter_map(|w| w.trim_start_matches('-').split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Flags { pod: pod.name_any(), values }
    }

    pub fn get(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).map(String::as_str)
    }

    /// A duration in Go's notation, or the default (seconds) with its source.
    pub fn timer(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        let value = self.get(flag).and_then(|v| v.parse::<Duration>().ok());
        let value = value.map(|d| std::time::Duration::from(d).as_secs_f64());
        self.found(flag, value, default, default_source)
    }

    /// A number of milliseconds as seconds, or the default (seconds) with its source.
    pub fn milliseconds(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        let value = self.get(flag).and_then(|v| v.parse::<f64>().ok());
        self.found(flag, value.map(|ms| ms / 1000.0), default, default_source)
    }

    /// A plain number, or the default with its source.
    pub fn number(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        self.found(flag, self.get(flag).and_then(|v| v.parse().ok()), default, default_source)
    }

    fn found(&self, flag: &str, value: Option<f64>, default: f64, default_source: &str) -> Timer {
        match value {
            Some(value) => Timer::read(value, format!("--{flag} of {}", self.pod)),
            // The pod was read and sets nothing: the default rules, and that is no guess.
            None if !self.pod.is_empty() => Timer::read(default, format!("default of --{flag}, {default_source}")),
            None => Timer::assumed(default, format!("default of --{flag}, {default_source}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(command: &[&str]) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "kube-controller-manager-n1"},
            "spec": {"containers": [{"name": "kcm", "command": command}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_flag_is_read_a_missing_one_is_the_default_and_a_missing_pod_is_assumed() {
        let flags = Flags::of(&pod(&["kube-controller-manager", "--node-monitor-grace-period=1m30s"]));
        let grace = flags.timer("node-monitor-grace-period", 50.0, "defaults.go");
        assert_eq!((grace.seconds, grace.assumed), (90.0, false));
        let period = flags.timer("node-monitor-period", 5.0, "defaults.go");
        assert_eq!((period.seconds, period.assumed), (5.0, false));
        let unknown = Flags::default().timer("node-monitor-period", 5.0, "defaults.go");
        assert_eq!((unknown.seconds, unknown.assumed), (5.0, true));
    }
}
