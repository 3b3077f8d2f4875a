//! This node's containers with their start and end times, read from the runtime every second.

use super::journal::Journal;
use crate::{
    api::{Moment, Span, SpanKind},
    observe::{moment_at_wall, now},
};
use cri::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ListContainersRequest,
    runtime_service_client::RuntimeServiceClient,
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::{Channel, Endpoint};

#[allow(rust_2018_idioms, clippy::all, missing_docs)]
mod cri {
    tonic::include_proto!("runtime.v1");
}

const PERIOD: Duration = Duration::from_secs(1);
/// For each call.
const DEADLINE: Duration = Duration::from_secs(2);
/// Containers that ended longer than this before the first look are another time's. Longer than any restart of an agent.
const PAST_US: i64 = 600 * 1_000_000;
/// A container that vanished between two looks has a known end if they are no further apart.
const CLOSE_US: i64 = 5 * 1_000_000;
/// Names of containers and pods, set by every kubelet (`pkg/kubelet/types/labels.go`).
const LABELS: [&str; 4] =
    ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name", "io.kubernetes.pod.uid"];
/// Characters of a container's id that people use.
const ID_LENGTH: usize = 12;

/// Reads the runtime behind `socket` (a path or a `unix://` address) every second. Never returns.
pub async fn watch(socket: &str, journal: Journal) {
    let address = if socket.contains("://") { socket.to_owned() } else { format!("unix://{socket}") };
    let channel = match Endpoint::from_shared(address) {
        // Dials at the first call, and again after the runtime was restarted.
        Ok(endpoint) => endpoint.connect_timeout(DEADLINE).connect_lazy(),
        Err(error) => {
            tracing::error!(%error, socket, "containers are not read");
            return std::future::pending().await;
        }
    };
    let mut runtime = RuntimeServiceClient::new(channel).max_decoding_message_size(32 << 20);
    let mut seen = Seen::default();
    let mut said = String::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        match look(&mut runtime, &mut seen).await {
            Ok((spans, at)) => {
                spans.into_iter().for_each(|span| journal.put(span));
                journal.read_containers(&at);
                said.clear();
            }
            Err(error) if error != said => {
                tracing::warn!(error, "failed to read containers");
                said = error;
            }
            Err(_) => {}
        }
    }
}

/// Every span that is new or went on, and when the runtime was asked.
async fn look(runtime: &mut RuntimeServiceClient<Channel>, seen: &mut Seen) -> Result<(Vec<Span>, Moment), String> {
    let at = now();
    let list = deadline(runtime.list_containers(ListContainersRequest {})).await?.containers;
    let mut spans = seen.ended_unseen(&list, &now());
    for container in list {
        if let Some(span) = seen.still_running(&container, &at) {
            spans.push(span);
        } else if seen.is_news(&container) {
            let request = ContainerStatusRequest { container_id: container.id.clone() };
            // Removed between the two calls: the next list says so.
            let Ok(answer) = deadline(runtime.container_status(request)).await else { continue };
            spans.extend(answer.status.and_then(|status| seen.take(&container, &status, &at)));
        }
    }
    Ok((spans, at))
}

async fn deadline<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> Result<T, String> {
    match timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.to_string()),
        Err(_) => Err("no answer in time".into()),
    }
}

/// What is known of containers by their id.
#[derive(Debug, Default)]
struct Seen {
    running: HashMap<String, Span>,
    /// Told once; nothing more will come of them.
    ended: HashSet<String>,
    first_look_us: Option<i64>,
}

impl Seen {
    /// The longer span of a container that was running and still is.
    fn still_running(&mut self, container: &Container, at: &Moment) -> Option<Span> {
        if container.state() != ContainerState::ContainerRunning {
            return None;
        }
        let span = self.running.get_mut(&container.id)?;
        span.to = at.clone();
        span.samples += 1;
        Some(span.clone())
    }

    fn is_news(&self, container: &Container) -> bool {
        !self.ended.contains(&container.id)
    }

    /// Containers that were removed before anybody saw how they ended. They ran at least until they were last seen, and were
    /// gone by `at`.
    fn ended_unseen(&mut self, list: &[Container], at: &Moment) -> Vec<Span> {
        let there: HashSet<&str> = list.iter().map(|c| c.id.as_str()).collect();
        self.ended.retain(|id| there.contains(id.as_str()));
        let gone: Vec<String> = self.running.keys().filter(|id| !there.contains(id.as_str())).cloned().collect();
        let spans = gone.iter().filter_map(|id| self.running.remove(id));
        let end = |span: Span| {
            let state = if at.boot_us - span.to.boot_us <= CLOSE_US { "exited" } else { "gone" };
            let detail = format!("end not seen; between {} and {}", span.to.wall.0, at.wall.0);
            Span { state: state.into(), detail: Some(detail), ..span }
        };
        spans.map(end).collect()
    }

    /// The span of a container that is new, or whose state is.
    fn take(&mut self, container: &Container, status: &ContainerStatus, at: &Moment) -> Option<Span> {
        let first_look_us = *self.first_look_us.get_or_insert(at.boot_us);
        let span = span(container, status, at, self.running.get(&container.id))?;
        if span.state == "running" {
            self.running.insert(container.id.clone(), span.clone());
            return Some(span);
        }
        self.running.remove(&container.id);
        self.ended.insert(container.id.clone());
        (span.to.boot_us >= first_look_us - PAST_US).then_some(span)
    }
}

/// One container as a span; `None` where it never ran, or is no pod's. `earlier` is what was written of it before.
fn span(container: &Container, status: &ContainerStatus, at: &Moment, earlier: Option<&Span>) -> Option<Span> {
    let label = |name| status.labels.get(name).or_else(|| container.labels.get(name));
    let [namespace, pod, name, uid] = LABELS.map(label);
    let started = moment(status.started_at)?;
    let (state, to, detail) = match status.state() {
        ContainerState::ContainerRunning => ("running", at.clone(), None),
        ContainerState::ContainerExited => {
            let reason = if status.reason.is_empty() { String::new() } else { format!(" {}", status.reason) };
            ("exited", moment(status.finished_at)?, Some(format!("exit={}{reason}", status.exit_code)))
        }
        _ => return None,
    };
    Some(Span {
        kind: SpanKind::Container,
        subject: format!("{}/{}/{}", namespace?, pod?, name?),
        state: state.into(),
        // Computed once: the wall clock is disciplined and would move the start a little at each look.
        from: earlier.map_or(started, |e| e.from.clone()),
        to,
        samples: earlier.map_or(1, |e| e.samples + 1),
        uid: Some(uid?.clone()),
        id: Some(container.id.chars().take(ID_LENGTH).collect()),
        node: None,
        detail,
    })
}

/// A runtime's time, nanoseconds since the epoch; 0 where it did not happen.
fn moment(nanoseconds: i64) -> Option<Moment> {
    let at = Timestamp::from_nanosecond(nanoseconds.into()).ok()?;
    (nanoseconds > 0).then(|| moment_at_wall(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, state: ContainerState) -> Container {
        let labels = [("namespace", "kube-system"), ("name", "kube-scheduler-cp1"), ("uid", "u1")];
        let labels = labels.map(|(k, v)| (format!("io.kubernetes.pod.{k}"), v.to_owned()));
        let mut labels: HashMap<_, _> = labels.into();
        labels.insert("io.kubernetes.container.name".into(), "kube-scheduler".into());
        Container { id: id.into(), state: state.into(), labels, ..Default::default() }
    }
    fn status(state: ContainerState, started_ago: i64, finished_ago: Option<i64>) -> ContainerStatus {
        let ago = |seconds: i64| (Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).as_nanosecond() as i64;
        ContainerStatus {
            state: state.into(),
            started_at: ago(started_ago),
            finished_at: finished_ago.map_or(0, ago),
            exit_code: 1,
            reason: "Error".into(),
            ..Default::default()
        }
    }
    use ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};

    const ID: &str = "0123456789abcdef";

    #[test]
    fn a_container_is_one_span_from_start_to_end() {
        let mut seen = Seen::default();
        let running = container(ID, ContainerRunning);
        let span = seen.take(&running, &status(ContainerRunning, 30, None), &now()).unwrap();
        assert_eq!(
            (span.subject.as_str(), span.state.as_str()),
            ("kube-system/kube-scheduler-cp1/kube-scheduler", "running")
        );
        assert_eq!((span.uid.as_deref(), span.id.as_deref()), (Some("u1"), Some("0123456789ab")));
        let ran_us = span.to.boot_us - span.from.boot_us;
        assert!((29_900_000..31_000_000).contains(&ran_us), "{ran_us}");

        let longer = seen.still_running(&running, &now()).unwrap();
        assert_eq!((longer.from.boot_us, longer.samples), (span.from.boot_us, 2));

        let ended = container(ID, ContainerExited);
        assert!(seen.still_running(&ended, &now()).is_none() && seen.is_news(&ended));
        let exited = seen.take(&ended, &status(ContainerExited, 31, Some(5)), &now()).unwrap();
        assert_eq!((exited.state.as_str(), exited.detail.as_deref()), ("exited", Some("exit=1 Error")));
        assert_eq!(exited.from.boot_us, span.from.boot_us);
        assert!(!seen.is_news(&ended), "asked once only");
    }

    #[test]
    fn a_container_removed_between_two_looks_ended_when_last_seen() {
        let mut seen = Seen::default();
        let at = now();
        for (later_us, state) in [(1_000_000, "exited"), (CLOSE_US, "exited"), (CLOSE_US + 1, "gone")] {
            seen.take(&container(ID, ContainerRunning), &status(ContainerRunning, 30, None), &at);
            let later = Moment { boot_us: at.boot_us + later_us, ..at.clone() };
            let spans = seen.ended_unseen(&[], &later);
            assert_eq!((spans.len(), spans[0].state.as_str(), spans[0].to.boot_us), (1, state, at.boot_us));
            assert!(spans[0].detail.as_ref().unwrap().starts_with("end not seen; between "));
            assert!(seen.ended_unseen(&[], &later).is_empty());
        }
    }

    #[test]
    fn what_never_ran_or_ended_long_ago_or_is_no_pods_is_left_out() {
        let mut seen = Seen::default();
        let created = ContainerStatus { started_at: 0, ..status(ContainerCreated, 0, None) };
        assert!(seen.take(&container("a", ContainerCreated), &created, &now()).is_none());
        let old = status(ContainerExited, 9000, Some(8000));
        assert!(seen.take(&container("b", ContainerExited), &old, &now()).is_none());
        let bare = Container { labels: HashMap::new(), ..container("c", ContainerRunning) };
        assert!(seen.take(&bare, &status(ContainerRunning, 3, None), &now()).is_none());
    }
}
