//! Looks at `spec.abortWhen` while a run goes on.

use super::{
    canary::Acknowledged,
    context::Context,
    observer::{every, look},
    steady,
    steps::abort,
};
use crate::{
    api::{AbortWhen, HttpProbe, PrometheusQuery, RackPartition, Schedule, WorkloadBelow, WorkloadKind},
    fault::RunPlan,
    observe::Look,
};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api,
    api::{ListParams, ObjectList},
};
use reqwest::StatusCode;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

const PERIOD: Duration = Duration::from_secs(1);
/// For one answer of Prometheus, or of a URL.
const DEADLINE: Duration = Duration::from_secs(2);
/// A tick that comes so much too late finds this process held, and what it has not heard meanwhile is nobody's silence. Less than a
/// canary's period; timers of a busy machine are late by some tens of milliseconds. Ours.
const LATE: Duration = Duration::from_millis(250);

/// Bytes of one answer of Prometheus.
const LARGEST: usize = 1 << 20;

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// A condition that is met now, or can't be seen, for however short a time.
    pub rings: Option<String>,
    /// One that has been so for long enough to end the run.
    pub ends: Option<String>,
}

/// Since when a condition is met without a break.
#[derive(Default)]
struct Bell(Option<Instant>);

impl Bell {
    /// `seen`: why it is met, or can't be seen. True when that has been so for long enough.
    fn has_held(&mut self, seen: Option<&str>, hold: Duration, now: Instant) -> bool {
        self.0 = seen.map(|_| *self.0.get_or_insert(now));
        self.0.is_some_and(|since| now.duration_since(since) >= hold)
    }
}

/// Which looks count for nothing: those of a process that was held. But not two in succession: one that is held again and again would else
/// never see what is to end the run.
#[derive(Default)]
struct Pace {
    has_skipped: bool,
}

impl Pace {
    fn skips(&mut self, was_held: bool) -> bool {
        self.has_skipped = was_held && !self.has_skipped;
        self.has_skipped
    }
}

/// What the alarms of one run are about.
pub struct Watched {
    pub run: RackPartition,
    pub plan: RunPlan,
    pub acknowledged: Acknowledged,
    /// What has ended the run already, should this be the second look at it.
    pub ended: Option<String>,
    /// When the run cuts, as soon as that is known.
    pub schedule: watch::Receiver<Option<Schedule>>,
}

/// Looks until dropped. `alarms` stays `None` until everything has been looked at once.
///
/// In the cut this sends the heal packets itself, and goes on sending them: where the API is what was lost, no step of the run
/// gets so far as to ask.
pub async fn watch_all(ctx: Arc<Context>, watched: Watched, alarms: watch::Sender<Option<Alarms>>) {
    let wanted = &watched.run.spec.abort_when;
    if wanted.is_empty() {
        alarms.send_replace(Some(Alarms::default()));
        return std::future::pending().await;
    }
    // Nothing is sent on to where an answer points: a probe is of one URL.
    let http = match reqwest::Client::builder().timeout(DEADLINE).redirect(reqwest::redirect::Policy::none()).build() {
        Ok(client) => client,
        Err(error) => {
            let why = format!("spec.abortWhen can't be looked at: {error}");
            alarms.send_replace(Some(Alarms { rings: Some(why.clone()), ends: Some(why) }));
            return std::future::pending().await;
        }
    };
    let hold = Duration::from(wanted.holds_for);
    let (mut bells, begun, mut ended) = (Vec::new(), Instant::now(), watched.ended.clone());
    let (mut ticks, mut pace) = (every(PERIOD), Pace::default());
    loop {
        let pause = Look::begin();
        ticks.tick().await;
        let (is_late, look) = (pause.has_lasted(PERIOD + LATE), Look::begin());
        let api = wanted.api_unavailable.map(|limit| unavailable(&watched, limit.into(), begun));
        let mut seen: Vec<(Duration, Option<String>)> = api.into_iter().map(|why| (Duration::ZERO, why)).collect();
        seen.extend(join_all(looks(&ctx, &http, wanted)).await.into_iter().map(|why| (hold, why)));
        // Once packets have left they are sent again whatever is seen.
        if pace.skips(is_late || look.was_held(DEADLINE)) && ended.is_none() {
            continue;
        }
        bells.resize_with(seen.len(), Bell::default);
        let (now, mut all) = (Instant::now(), Alarms::default());
        for (bell, (hold, why)) in bells.iter_mut().zip(seen) {
            if bell.has_held(why.as_deref(), hold, now) {
                all.ends = all.ends.or_else(|| why.clone());
            }
            all.rings = all.rings.or(why);
        }
        // Before the cut a packet would only undo the arming that a condition may hold up.
        if is_cut(watched.schedule.borrow().as_ref()) {
            ended = ended.or(all.ends.take());
            if ended.is_some() {
                abort::send_heal_packets(&watched.plan).await;
            }
        }
        // Once packets have left there is no way back.
        all.ends = ended.clone().or(all.ends);
        alarms.send_replace(Some(all));
    }
}

/// Whether the windows of this schedule are open now.
pub fn is_cut(schedule: Option<&Schedule>) -> bool {
    schedule.is_some_and(|s| (s.cut_at.0..s.heal_at.0).contains(&steady::now(schedule)))
}

/// Why the API counts as unavailable. `begun`: since when anybody has looked.
fn unavailable(watched: &Watched, limit: Duration, begun: Instant) -> Option<String> {
    let plan = &watched.plan;
    let all = || plan.api_servers.iter().map(|s| s.name.clone()).collect();
    // Where no side stays writable for sure, or API servers are no nodes, any of them will do.
    let servers: Vec<String> = if plan.writable.is_empty() { all() } else { plan.writable.clone() };
    let silent = watched.acknowledged.latest(&servers).unwrap_or(begun).elapsed();
    let (limit_s, silent_s) = (limit.as_secs_f64(), silent.as_secs_f64());
    (silent >= limit)
        .then(|| format!("spec.abortWhen.apiUnavailable {limit_s} s: no write was acknowledged for {silent_s:.1} s"))
}

fn looks<'a>(ctx: &'a Context, http: &'a reqwest::Client, wanted: &'a AbortWhen) -> Vec<BoxFuture<'a, Option<String>>> {
    let workloads = wanted.workloads.iter().map(|w| workload(ctx, w).boxed());
    let queries = wanted.prometheus.iter().map(|q| query(http, q).boxed());
    let probes = wanted.http.iter().map(|p| probe(http, p).boxed());
    workloads.chain(queries).chain(probes).collect()
}

async fn workload(ctx: &Context, below: &WorkloadBelow) -> Option<String> {
    let (namespace, name, client) = (&below.namespace, &below.name, ctx.client.clone());
    // Listed, which the operator may do anyway, and not read by name, for which it would need another right.
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let ready = match below.kind {
        WorkloadKind::Deployment => {
            let found = look("a Deployment", Api::<Deployment>::namespaced(client, namespace).list(&named)).await;
            one(found).map(|d| d.status.and_then(|s| s.ready_replicas))
        }
        WorkloadKind::StatefulSet => {
            let found = look("a StatefulSet", Api::<StatefulSet>::namespaced(client, namespace).list(&named)).await;
            one(found).map(|s| s.status.and_then(|s| s.ready_replicas))
        }
        WorkloadKind::DaemonSet => {
            let found = look("a DaemonSet", Api::<DaemonSet>::namespaced(client, namespace).list(&named)).await;
            one(found).map(|d| d.status.map(|s| s.number_ready))
        }
    };
    let who = format!("spec.abortWhen.workloads: {:?} {namespace}/{name}", below.kind);
    match ready.map(|r| u32::try_from(r.unwrap_or_default()).unwrap_or_default()) {
        None => Some(format!("{who} can't be read")),
        Some(ready) if ready < below.ready_below => {
            Some(format!("{who} has {ready} ready pods, fewer than {}", below.ready_below))
        }
        Some(_) => None,
    }
}

fn one<K: Clone>(found: Option<ObjectList<K>>) -> Option<K> {
    found?.items.into_iter().next()
}

/// What of an answer matters (Prometheus HTTP API, "Format overview" and "Instant queries").
#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<serde_json::Value>,
}

async fn query(http: &reqwest::Client, wanted: &PrometheusQuery) -> Option<String> {
    let who = format!("spec.abortWhen.prometheus: {}", wanted.query);
    match ask(http, wanted).await {
        Err(why) => Some(format!("{who} can't be asked: {why}")),
        Ok(0) => None,
        Ok(results) => Some(format!("{who} has {results} results")),
    }
}

/// The number of series in the result.
async fn ask(http: &reqwest::Client, wanted: &PrometheusQuery) -> Result<usize, String> {
    let url = format!("{}/api/v1/query", wanted.url.trim_end_matches('/'));
    let request = http.get(url).query(&[("query", &wanted.query)]);
    let answer = request.send().await.map_err(|e| root(&e))?;
    let code = answer.status();
    series(code, &body(answer).await?)
}

/// The same of an answer that is there.
pub fn series(code: StatusCode, answer: &[u8]) -> Result<usize, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| format!("{code}: {e}"))?;
    match (answer.status.as_str(), answer.data) {
        ("success", Some(data)) if data.result_type == "vector" => Ok(data.result.len()),
        // A scalar always has a value, so it would always be met.
        ("success", Some(data)) => Err(format!("the result is a {}, not a vector: compare it", data.result_type)),
        _ => Err(answer.error.unwrap_or_else(|| code.to_string())),
    }
}

/// The answer's body, which must not be larger than any sensible one.
async fn body(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| root(&e))? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(format!("the answer is larger than {LARGEST} bytes"));
        }
    }
    Ok(body)
}

async fn probe(http: &reqwest::Client, wanted: &HttpProbe) -> Option<String> {
    let who = format!("spec.abortWhen.http: {}", wanted.url);
    match http.get(&wanted.url).send().await {
        Err(error) => Some(format!("{who} does not answer: {}", root(&error))),
        Ok(answer) if answer.status().is_success() => None,
        Ok(answer) => Some(format!("{who} answers {}", answer.status())),
    }
}

/// The innermost cause: the others only say that a request failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    /// A cut-off API server may acknowledge what its own side will not keep, and says nothing of the other one.
    #[test]
    fn only_writes_on_the_side_that_stays_writable_keep_the_api_available() {
        let passed = passing();
        let watched = |acknowledged: &[&str], writable: &[&str]| {
            let acknowledges = Acknowledged::default();
            acknowledged.iter().for_each(|server| acknowledges.at(server, Instant::now()));
            let writable = writable.iter().map(|server| (*server).to_owned()).collect();
            Watched {
                run: RackPartition::new("run", passed.spec.clone()),
                plan: RunPlan { writable, ..passed.plan.clone() },
                acknowledged: acknowledges,
                ended: None,
                schedule: watch::channel(None).1,
            }
        };
        let begun = Instant::now() - Duration::from_secs(10);
        let why = |acknowledged: &[&str], writable: &[&str], limit: u64| {
            unavailable(&watched(acknowledged, writable), Duration::from_secs(limit), begun)
        };
        let majority = &["cp2", "cp3"][..];
        let said = why(&["cp1"], majority, 5).expect("nobody but the minority's acknowledged");
        assert!(said.contains("spec.abortWhen.apiUnavailable 5 s: no write was acknowledged for 10."), "{said}");
        assert_eq!(why(&["cp1", "cp3"], majority, 5), None);
        assert_eq!(why(&[], majority, 60), None, "nobody has looked for so long");
        // Where no side stays writable for sure any of them will do.
        assert_eq!(why(&["cp1"], &[], 5), None);
        assert!(why(&[], &[], 5).is_some());
    }

    #[test]
    fn a_look_of_an_operator_that_was_held_counts_for_nothing_but_not_again_and_again() {
        let mut pace = Pace::default();
        let skips = [false, true, true, true, false, true].map(|was_held| pace.skips(was_held));
        assert_eq!(skips, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_condition_must_hold_without_a_break() {
        let (mut bell, start, hold) = (Bell::default(), Instant::now(), Duration::from_secs(5));
        let mut at = |seconds, seen: Option<&str>| bell.has_held(seen, hold, start + Duration::from_secs(seconds));
        assert!(!at(0, Some("503")));
        assert!(!at(4, Some("503")));
        assert!(!at(5, None));
        assert!(!at(6, Some("503")));
        assert!(!at(10, Some("no answer")));
        assert!(at(11, Some("503")), "what it says may change");
        assert!(Bell::default().has_held(Some("met"), Duration::ZERO, start));
    }
}
