//! Command-line flags of the control plane's static pods, as their mirror pods show them.

use crate::topology::Timer;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::Duration};
use std::collections::HashMap;

/// Flags of a pod's first container, by their names.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pod: String,
    values: HashMap<String, String>,
}

impl Flags {
    pub fn of(pod: &Pod) -> Self {
        let container = pod.spec.as_ref().and_then(|s| s.containers.first());
        let words = container.into_iter().flat_map(|c| c.command.iter().chain(c.args.iter()).flatten());
        Flags { pod: pod.name_any(), values: values(words.map(String::as_str)) }
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

/// `--name=value`, `--name value`, and `--name` by itself, which is `true`: Go's flags and pflag's. Of a flag that is there twice the last
/// one counts. A value that begins with `-` must be behind a `=`: none of the flags that are read has such a one.
fn values<'w>(words: impl Iterator<Item = &'w str>) -> HashMap<String, String> {
    let (mut values, mut words) = (HashMap::new(), words.peekable());
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-') else { continue };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            None => (flag, words.next_if(|next| !next.starts_with('-')).unwrap_or("true")),
        };
        values.insert(name.to_owned(), value.to_owned());
    }
    values
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

    #[test]
    fn a_value_may_be_a_word_of_its_own() {
        let flags = Flags::of(&pod(&[
            "kube-apiserver",
            "--endpoint-reconciler-type",
            "master-count",
            "--etcd-healthcheck-timeout=3s",
            "-v",
            "2",
            "--allow-privileged",
            "--secure-port=6443",
            "--etcd-healthcheck-timeout",
            "4s",
            "--profiling",
        ]));
        for (flag, value) in [
            ("endpoint-reconciler-type", Some("master-count")),
            ("etcd-healthcheck-timeout", Some("4s")),
            ("v", Some("2")),
            ("allow-privileged", Some("true")),
            ("secure-port", Some("6443")),
            ("profiling", Some("true")),
            ("kube-apiserver", None),
            ("2", None),
        ] {
            assert_eq!(flags.get(flag), value, "{flag}");
        }
        assert_eq!(flags.timer("etcd-healthcheck-timeout", 2.0, "etcd.go").seconds, 4.0);
    }
}
