//! API servers that lose etcd: when they say that they are not ready, when their kubelets start them anew, and how old an answer of
//! their watch cache may be.

use super::{
    constants::*,
    etcd::dials_others,
    scene::Scene,
    window::{Certainty, certainty, interval, seconds, window},
};
use crate::api::{Check, Prediction, Prospect, Side, Window};

/// An API server on a side that can't write.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiServerForecast {
    pub server: String,
    pub side: String,
    /// Whether it says so while the cut lasts.
    pub not_ready: Certainty,
    /// When it first says that it is not ready, seconds after the cut.
    pub readiness: Window,
    /// Whether its kubelet ends its container while the cut lasts, or so soon after it that etcd was not back.
    pub restarted: Certainty,
    /// When the container ends for the first time, seconds after the cut.
    pub restart: Window,
    reason: String,
}

/// How old what the API servers of one side answer from their watch caches (`resourceVersion=0`) may be.
#[derive(Clone, Debug, PartialEq)]
pub struct StaleForecast {
    pub side: String,
    pub servers: Vec<String>,
    /// Seconds after the cut up to which one may answer with what was there at the cut. Then it has seen that its watch has ended, and
    /// answers no more until it has a new one.
    pub seconds: f64,
    reason: String,
}

/// API servers on sides that can't write. Where that depends on who leads etcd nothing is predicted.
pub fn api_servers(scene: &Scene<'_>) -> Vec<ApiServerForecast> {
    let losing = scene.sides.iter().filter(|s| s.writable == Prospect::No);
    losing.flat_map(|side| side.api_servers.iter().map(move |server| forecast(scene, side, server))).collect()
}

fn forecast(scene: &Scene<'_>, side: &Side, server: &str) -> ApiServerForecast {
    let known = &scene.known;
    let (check, period) = (known.etcd_check.seconds, known.liveness_period.seconds);
    let (failures, grace) = (known.liveness_failures.seconds, known.api_server_grace.seconds);
    // The last good answer is given again for half of the timeout. Then every check of etcd takes all of it.
    let replayed = check / 2.0;
    let readiness = window(0.0, replayed + ETCD_CHECKS_OF_READYZ * check + API_LATENCY);
    // A probe that was under way at the cut may be the first to fail; or one was answered well for the last time just before.
    let restart = window((failures - 1.0) * period, replayed + check + failures * period + grace + API_LATENCY);
    let mut restarted = certainty(&restart, scene.duration, scene.duration + ETCD_REJOIN);
    if known.liveness_period.assumed || known.liveness_failures.assumed {
        // It may have no such probe.
        restarted = restarted.min(Certainty::May);
    }
    ApiServerForecast {
        server: server.into(),
        side: side.name.clone(),
        not_ready: certainty(&readiness, scene.duration, scene.duration),
        readiness,
        restarted,
        restart,
        reason: format!(
            "no leader of etcd within reach: each of {ETCD_CHECKS_OF_READYZ} checks of etcd waits {} ({}), a good answer is given again \
             for half of that; liveness: {failures} failures ({}) {} apart ({}), then up to {} to end ({})",
            seconds(check),
            known.etcd_check.source,
            known.liveness_failures.source,
            seconds(period),
            known.liveness_period.source,
            seconds(grace),
            known.api_server_grace.source
        ),
    }
}

/// Sides whose API servers may answer from watch caches that nobody fills any more.
pub fn stale(scene: &Scene<'_>) -> Vec<StaleForecast> {
    scene.sides.iter().filter(|s| !s.api_servers.is_empty()).filter_map(|side| stale_of(scene, side)).collect()
}

fn stale_of(scene: &Scene<'_>, side: &Side) -> Option<StaleForecast> {
    let election = scene.election();
    let leaderless = (ETCD_STEP_DOWN + ETCD_NO_LEADER) * election + API_LATENCY;
    let by_member = || {
        format!(
            "their members of etcd lose their leader within {ETCD_STEP_DOWN} election timeouts ({}) and end the watches of API \
             servers {ETCD_NO_LEADER} later (maxNoLeaderCnt); {} for the answer",
            seconds(election),
            seconds(API_LATENCY)
        )
    };
    let by_link = || {
        format!(
            "one may be connected to a member of etcd from which it is cut off, and notices by keepalive ({})",
            seconds(ETCD_CLIENT_KEEPALIVE)
        )
    };
    let (longest, reason) = match () {
        // Nothing is written anywhere that they could miss.
        _ if !scene.may_be_written() => return None,
        _ if dials_others(scene, side) => (ETCD_CLIENT_KEEPALIVE.max(leaderless), by_link()),
        // They have a leader.
        _ if side.writable == Prospect::Yes => return None,
        _ => (leaderless, by_member()),
    };
    Some(StaleForecast { side: side.name.clone(), servers: side.api_servers.clone(), seconds: longest, reason })
}

impl ApiServerForecast {
    pub fn prediction(&self) -> Prediction {
        let ready = match self.not_ready {
            Certainty::Must => format!("not ready within {} until after the heal", interval(&self.readiness)),
            _ => format!("ready or not: the cut is shorter than {}", seconds(self.readiness.latest_seconds)),
        };
        let restart = match self.restarted {
            Certainty::Must => format!("started anew within {}", interval(&self.restart)),
            Certainty::May => format!("perhaps started anew within {}", interval(&self.restart)),
            Certainty::MustNot => "not started anew".into(),
        };
        Prediction {
            check: Check::ApiServerReady,
            subject: self.server.clone(),
            expected: format!("{ready}; {restart}"),
            window: (self.not_ready == Certainty::Must).then_some(self.readiness),
            reason: self.reason.clone(),
        }
    }
}

impl StaleForecast {
    pub fn prediction(&self) -> Prediction {
        Prediction {
            check: Check::StaleRead,
            subject: self.side.clone(),
            expected: format!(
                "with resourceVersion=0 perhaps what was there at the cut for {}, then no answer until there are watches again; \
                 without a resource version never anything old",
                seconds(self.seconds)
            ),
            window: None,
            reason: self.reason.clone(),
        }
    }
}
