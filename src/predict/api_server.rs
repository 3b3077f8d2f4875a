//! API servers that lose etcd: when they say that they are not ready, when their kubelets start them anew, and how old an answer of
//! their watch cache may be.

use super::{
    bounds::{after_cut, at_most, prediction, throughout},
    constants::*,
    etcd::dials_others,
    scene::Scene,
    streams::etcd_back,
    timers::{Known, sourced},
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
    /// Length of the cut, seconds.
    duration: f64,
    why_unready: String,
    why_restarted: String,
}

/// How old what the API servers of one side answer from their watch caches (`resourceVersion=0`) may be.
#[derive(Clone, Debug, PartialEq)]
pub struct StaleForecast {
    pub side: String,
    pub servers: Vec<String>,
    /// Seconds after the cut up to which one may answer with what was there at the cut. Then it has given up its watch, and answers no more
    /// until it has a new one.
    pub seconds: f64,
    reason: String,
}

/// From when on, seconds after the cut, a kubelet may end an API server without etcd: a probe that was under way at the cut may be the
/// first to fail.
pub fn first_restart(known: &Known) -> f64 {
    ((known.liveness_failures.seconds - 1.0) * known.liveness_period.seconds).max(0.0)
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
    // The last good answer to a probe may have come just before.
    let restart = window(first_restart(known), replayed + check + failures * period + grace + API_LATENCY);
    let mut restarted = certainty(&restart, scene.duration, scene.duration + etcd_back(scene));
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
        duration: scene.duration,
        why_unready: format!(
            "{}, then each of {ETCD_CHECKS_OF_READYZ} checks of etcd (server/options/etcd.go) waits {}, and {} for the answer (ours)",
            unanswered(replayed),
            sourced(&known.etcd_check),
            seconds(API_LATENCY)
        ),
        why_restarted: format!(
            "{}, and a check waits {}: from then on, or from a probe that was under way at the cut, {failures} failures of its liveness \
             probe ({}) {} apart ({}), then up to {} to end, and {} (ours)",
            unanswered(replayed),
            sourced(&known.etcd_check),
            known.liveness_failures.source,
            seconds(period),
            known.liveness_period.source,
            sourced(&known.api_server_grace),
            seconds(API_LATENCY)
        ),
    }
}

/// How long checks of etcd go on answering without a leader, in words.
fn unanswered(replayed: f64) -> String {
    format!(
        "no leader of etcd within reach: a good answer is given again for {} (half of a check's timeout, \
         storage/storagebackend/factory/etcd3.go)",
        seconds(replayed)
    )
}

/// Sides whose API servers may answer from watch caches that nobody fills any more.
pub fn stale(scene: &Scene<'_>) -> Vec<StaleForecast> {
    scene.sides.iter().filter(|s| !s.api_servers.is_empty()).filter_map(|side| stale_of(scene, side)).collect()
}

fn stale_of(scene: &Scene<'_>, side: &Side) -> Option<StaleForecast> {
    let election = scene.election();
    let given_up = format!(
        "a watch cache asks for {} for another watch before it gives up (MaxInternalErrorRetryDuration); {} for the answer (ours)",
        seconds(WATCH_CACHE_RETRIES),
        seconds(API_LATENCY)
    );
    let without_leader = (ETCD_STEP_DOWN + ETCD_NO_LEADER) * election + WATCH_CACHE_RETRIES + API_LATENCY;
    let by_member = || {
        format!(
            "their members of etcd lose their leader within {ETCD_STEP_DOWN} election timeouts (MsgCheckQuorum; one is {}) and end \
             the watches of API servers {ETCD_NO_LEADER} later (maxNoLeaderCnt); {given_up}",
            sourced(&scene.snapshot.timers.etcd_election)
        )
    };
    // Who dials another member may find one that has no leader either.
    let retries = if side.writable == Prospect::Yes { 0.0 } else { WATCH_CACHE_RETRIES };
    let without_link = ETCD_CLIENT_KEEPALIVE + retries + API_LATENCY;
    let by_link = || {
        format!(
            "one may be connected to a member of etcd from which it is cut off, and notices by keepalive ({}, \
             storage/storagebackend/factory/etcd3.go); {}",
            seconds(ETCD_CLIENT_KEEPALIVE),
            match side.writable {
                Prospect::Yes => format!("{} for the answer (ours)", seconds(API_LATENCY)),
                _ => format!("where the next one has no leader {given_up}"),
            }
        )
    };
    let (longest, reason) = match () {
        // Nothing is written anywhere that they could miss.
        _ if !scene.may_be_written() => return None,
        _ if dials_others(scene, side) && side.writable == Prospect::Yes => (without_link, by_link()),
        _ if dials_others(scene, side) => (without_link.max(without_leader), by_link()),
        // They have a leader.
        _ if side.writable == Prospect::Yes => return None,
        _ => (without_leader, by_member()),
    };
    Some(StaleForecast { side: side.name.clone(), servers: side.api_servers.clone(), seconds: longest, reason })
}

/// How far behind what was acknowledged the watch caches of a side may be, seconds.
pub fn cache_age(stale: &[StaleForecast], side: &str) -> f64 {
    stale.iter().find(|s| s.side == side).map_or(WATCH_CACHE_LAG, |s| s.seconds)
}

impl ApiServerForecast {
    /// The line about its container, beside the one about the server itself: a line has one window.
    pub fn container(&self) -> String {
        format!("{}: container", self.server)
    }

    /// What both lines say.
    pub fn expected(&self) -> String {
        format!("{}; {}", self.unready(), self.started_anew())
    }

    fn unready(&self) -> String {
        match self.not_ready {
            Certainty::Must => format!("not ready within {} until after the heal", interval(&self.readiness)),
            _ => format!("ready or not: the cut is shorter than {}", seconds(self.readiness.latest_seconds)),
        }
    }

    fn started_anew(&self) -> String {
        match self.restarted {
            Certainty::Must => format!("started anew within {}", interval(&self.restart)),
            Certainty::May => format!("perhaps started anew within {}", interval(&self.restart)),
            Certainty::MustNot => "not started anew".into(),
        }
    }

    pub fn predictions(&self) -> [Prediction; 2] {
        let of = |subject: String, expected: String, bounded, why: &str| {
            prediction(Check::ApiServerReady, subject, expected, bounded, why)
        };
        let restart = match self.restarted {
            Certainty::MustNot => throughout(0.0, self.duration),
            Certainty::May | Certainty::Must => after_cut(self.restart),
        };
        [
            of(self.server.clone(), self.unready(), after_cut(self.readiness), &self.why_unready),
            of(self.container(), self.started_anew(), restart, &self.why_restarted),
        ]
    }
}

impl StaleForecast {
    pub fn prediction(&self) -> Prediction {
        let expected = format!(
            "with resourceVersion=0 perhaps what was there at the cut for {}, then no answer until there are watches again; \
             without a resource version never anything old",
            seconds(self.seconds)
        );
        prediction(Check::StaleRead, &self.side, expected, at_most(self.seconds), &self.reason)
    }
}
