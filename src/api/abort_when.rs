//! Conditions that end a run early.

use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time;

/// Each of these ends the run early when it is met: heal at once. One that is met before the cut, or can't be seen, refuses it; one that
/// can't be seen during the cut counts as met. Looked at once a second by the operator, on the side that stays writable.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AbortWhen {
    /// No write was acknowledged on the side that stays writable for this long. Longer than a new leader of etcd takes, or every
    /// cut of the leader ends so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')")
            .message("end the run when the API is unavailable for 1s to 1h")
    )]
    #[serde(deserialize_with = "super::length_if_any")]
    pub api_unavailable: Option<Duration>,
    /// A workload has fewer ready pods than this, as its status says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub workloads: Vec<WorkloadBelow>,
    /// A query of Prometheus has a result, as one of an alert has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prometheus: Vec<PrometheusQuery>,
    /// A URL does not answer a GET with 2xx within two seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub http: Vec<HttpProbe>,
    /// For how long workloads, queries and URLs must be so without a break.
    #[serde(default = "default_holds_for")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('10m')")
            .message("a condition is met after 0s to 10m")
    )]
    #[serde(deserialize_with = "super::length")]
    pub holds_for: Duration,
}

/// A workload of which enough pods must stay ready.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadBelow {
    #[serde(default)]
    pub kind: WorkloadKind,
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Fewer ready pods than this end the run.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub ready_below: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum WorkloadKind {
    #[default]
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// An instant query.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusQuery {
    /// Of the server, without `/api/v1/query`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@]+$')").message("give a URL of http or https, without a password: it is shown in events"))]
    pub url: String,
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
}

/// A URL that must answer.
#[derive(KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@]+$')").message("give a URL of http or https, without a password: it is shown in events"))]
    pub url: String,
}

impl AbortWhen {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.api_unavailable.is_none()
            && self.workloads.is_empty()
            && self.prometheus.is_empty()
            && self.http.is_empty()
    }
}

impl Default for AbortWhen {
    fn default() -> Self {
        AbortWhen {
            api_unavailable: None,
            workloads: Vec::new(),
            prometheus: Vec::new(),
            http: Vec::new(),
            holds_for: default_holds_for(),
        }
    }
}

/// Long enough for a packet that was lost, or a scrape, to be made up for.
fn default_holds_for() -> Duration {
    time::Duration::from_secs(5).into()
}
