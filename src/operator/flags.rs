//! Command-line flags of the control plane's static pods, as their mirror pods show them.

use super::gather::COMPONENT;
use crate::{api::parse_length, topology::Timer};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use std::collections::HashMap;

/// The flag of kube-scheduler that names a file for whatever no other flag says (`ApplyLeaderElectionTo`,
/// cmd/kube-scheduler/app/options/options.go).
const FILE: &str = "config";
/// The flag of etcd that names a file, beside which no other flag and no variable counts (server/etcdmain/config.go).
const WHOLE_FILE: &str = "config-file";

/// Flags of a pod's first container, by their names.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pod: String,
    values: HashMap<String, String>,
    environment: Environment,
}

/// Variables that stand for flags: those of etcd, for no other component reads any.
#[derive(Clone, Debug, Default)]
struct Environment {
    /// By their names. None: its value is in another object.
    values: HashMap<String, Option<String>>,
    /// Whatever another object has is among them.
    is_open: bool,
}

impl Flags {
    pub fn of(pod: &Pod) -> Self {
        let container = pod.spec.as_ref().and_then(|s| s.containers.first());
        let words = container.into_iter().flat_map(|c| c.command.iter().chain(c.args.iter()).flatten());
        let is_etcd = pod.labels().get(COMPONENT).is_some_and(|component| component == "etcd");
        Flags {
            pod: pod.name_any(),
            values: values(words.map(String::as_str)),
            environment: container.filter(|_| is_etcd).map(Environment::of).unwrap_or_default(),
        }
    }

    /// The value that counts, where the pod tells it.
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.told(flag).map(|(value, _)| value)
    }

    /// What its command line says, whether or not that counts.
    fn word(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).map(String::as_str)
    }

    /// A duration in Go's notation, or the default (seconds) with its source.
    pub fn timer(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        self.found(flag, |value| duration(value).map(|d| d.as_secs_f64()), (default, default_source))
    }

    /// A number of milliseconds as seconds, or the default (seconds) with its source.
    pub fn milliseconds(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        self.found(flag, |value| value.parse::<f64>().ok().map(|ms| ms / 1000.0), (default, default_source))
    }

    /// A plain number, or the default with its source.
    pub fn number(&self, flag: &str, default: f64, default_source: &str) -> Timer {
        self.found(flag, |value| value.parse().ok(), (default, default_source))
    }

    fn found(&self, flag: &str, read: impl Fn(&str) -> Option<f64>, (default, source): (f64, &str)) -> Timer {
        let usual = format!("default of --{flag}, {source}");
        let assumed = |why: String| Timer::assumed(default, format!("{usual}; {} {why}", self.pod));
        match (self.told(flag), self.elsewhere(flag)) {
            _ if self.pod.is_empty() => Timer::assumed(default, usual),
            // JSON holds no other number, and no timer is one.
            (Some((value, name)), _) => match read(value).filter(|v| v.is_finite() && *v >= 0.0) {
                Some(value) => Timer::read(value, format!("{name} of {}", self.pod)),
                None => assumed(format!("has {name}={value}, which is no such value")),
            },
            (None, Some(place)) => assumed(format!("may have it in {place}, which is not read")),
            // The pod was read and sets nothing: the default rules, and that is no guess.
            (None, None) => Timer::read(default, usual),
        }
    }

    /// The value that counts, and who tells it: a flag before a variable (server/etcdmain/config.go).
    fn told(&self, flag: &str) -> Option<(&str, String)> {
        if self.whole_file().is_some() {
            return None;
        }
        let by_flag = self.word(flag).map(|value| (value, format!("--{flag}")));
        by_flag.or_else(|| {
            let name = variable(flag);
            Some((self.environment.values.get(&name)?.as_deref()?, name))
        })
    }

    /// Where it may have what neither a flag nor a variable tells that can be read.
    fn elsewhere(&self, flag: &str) -> Option<String> {
        let (file, name) = (|| Some(format!("--{FILE} {}", self.word(FILE)?)), variable(flag));
        let is_hidden = self.environment.is_open || self.environment.values.get(&name) == Some(&None);
        self.whole_file().or_else(file).or_else(|| is_hidden.then(|| format!("its environment ({name})")))
    }

    fn whole_file(&self) -> Option<String> {
        let name = variable(WHOLE_FILE);
        match self.word(WHOLE_FILE) {
            Some(file) => Some(format!("--{WHOLE_FILE} {file}")),
            None => self.environment.values.contains_key(&name).then_some(name),
        }
    }
}

impl Environment {
    fn of(container: &Container) -> Self {
        let all = container.env.iter().flatten().map(|variable| {
            let value = match variable.value_from {
                Some(_) => None,
                None => Some(variable.value.clone().unwrap_or_default()),
            };
            (variable.name.clone(), value)
        });
        Environment { values: all.collect(), is_open: container.env_from.iter().flatten().next().is_some() }
    }
}

/// How etcd calls a flag in its environment (`FlagToEnv`, pkg/flags/flag.go).
fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// In Go's notation; `None` where it is none, or a negative one.
fn duration(text: &str) -> Option<std::time::Duration> {
    parse_length(text).ok().map(Into::into)
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

    /// Each would end the operator, or be a number that JSON can't hold.
    #[test]
    fn a_value_that_is_no_timer_is_assumed_to_be_the_default() {
        for value in ["99999999999999999999h", "999999999999999999h1s", "1h-5s", "-5s", "soon", ""] {
            let flags = Flags::of(&pod(&[&format!("--node-monitor-grace-period={value}")]));
            let grace = flags.timer("node-monitor-grace-period", 50.0, "defaults.go");
            assert_eq!((grace.seconds, grace.assumed), (50.0, true), "{value}");
        }
        for value in ["NaN", "inf", "-1", "1e999", "some"] {
            let flags = Flags::of(&pod(&[&format!("--node-eviction-rate={value}")]));
            let read = [
                flags.number("node-eviction-rate", 0.1, "options"),
                flags.milliseconds("node-eviction-rate", 0.1, "options"),
            ];
            assert!(read.iter().all(|timer| timer.seconds == 0.1 && timer.assumed), "{value}: {read:?}");
        }
        let longest = Flags::of(&pod(&["--node-monitor-grace-period=999999999h"]));
        assert!(!longest.timer("node-monitor-grace-period", 50.0, "defaults.go").assumed);
    }

    #[test]
    fn what_may_be_in_a_file_is_no_default() {
        let timer =
            |command: &[&str]| Flags::of(&pod(command)).timer("leader-elect-renew-deadline", 10.0, "defaults.go");
        let in_file = timer(&["kube-scheduler", "--config=/etc/scheduler.yaml"]);
        assert_eq!((in_file.seconds, in_file.assumed), (10.0, true));
        assert!(in_file.source.contains("may have it in --config /etc/scheduler.yaml"), "{}", in_file.source);
        let by_flag = timer(&["kube-scheduler", "--config=/a", "--leader-elect-renew-deadline=20s"]);
        assert_eq!((by_flag.seconds, by_flag.assumed), (20.0, false), "a flag counts before the file");
    }

    #[test]
    fn etcd_has_its_flags_in_its_environment_or_all_in_a_file() {
        let timer = |command: &[&str], more: &serde_json::Value| {
            let mut pod = pod(command);
            pod.labels_mut().insert(COMPONENT.into(), "etcd".into());
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.env = serde_json::from_value(more["env"].clone()).unwrap();
            container.env_from = serde_json::from_value(more["envFrom"].clone()).unwrap();
            let timer = Flags::of(&pod).milliseconds("election-timeout", 1.0, "config.go");
            (timer.seconds, timer.assumed)
        };
        let flag = ["etcd", "--election-timeout=2000"];
        let plain = serde_json::json!({"env": [{"name": "ETCD_ELECTION_TIMEOUT", "value": "5000"}]});
        let from = serde_json::json!({"env": [{"name": "ETCD_ELECTION_TIMEOUT", "valueFrom": {}}]});
        let all_from = serde_json::json!({"envFrom": [{"configMapRef": {"name": "etcd"}}]});
        let file = serde_json::json!({"env": [{"name": "ETCD_CONFIG_FILE", "value": "/etc/etcd.yaml"}]});
        assert_eq!(timer(&["etcd"], &serde_json::json!({})), (1.0, false));
        assert_eq!(timer(&["etcd"], &plain), (5.0, false));
        assert_eq!(timer(&flag, &plain), (2.0, false), "a flag counts before a variable");
        for hidden in [&from, &all_from, &file] {
            assert_eq!(timer(&["etcd"], hidden), (1.0, true), "{hidden}");
        }
        // Beside a file nothing else counts.
        assert_eq!(timer(&flag, &file), (1.0, true));
        assert_eq!(timer(&["etcd", "--config-file", "/a", "--election-timeout=2000"], &plain), (1.0, true));
        // Nobody else reads etcd's variables.
        let mut other = pod(&["kube-controller-manager"]);
        other.spec.as_mut().unwrap().containers[0].env = serde_json::from_value(from["env"].clone()).unwrap();
        assert!(!Flags::of(&other).milliseconds("election-timeout", 1.0, "config.go").assumed);
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
