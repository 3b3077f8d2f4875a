//! This node's containers with their start and end times, read from the runtime every second.

use super::{health::shorten, journal::Journal};
use crate::{
    api::{CONTAINER_READ, CONTAINER_UNREAD, Moment, Span, SpanKind},
    observe::{moment_at_wall, now},
};
use cri::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse, ListContainersRequest,
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
/// Containers at a time that are named as unread: a record is bounded, and each of them says already that not all is known.
const MOST_UNREAD: usize = 32;

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
    let mut seen = Seen::resume(journal.status().spans);
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
            spans.extend(seen.read(&container.id, &at));
        } else if seen.is_news(&container) {
            let request = ContainerStatusRequest { container_id: container.id.clone() };
            let answer = deadline(runtime.container_status(request)).await;
            spans.extend(seen.hear(&container, answer.and_then(told), &at));
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

/// What the runtime says of a container, where it tells when that ran.
fn told(answer: ContainerStatusResponse) -> Result<ContainerStatus, String> {
    let status = answer.status.ok_or("an answer without a status")?;
    let (has_started, has_finished) = (status.started_at > 0, status.finished_at > 0);
    match status.state() {
        // As containerd says of one that it could not look at when it was started anew: that may be running.
        ContainerState::ContainerUnknown => Err("its state is unknown".into()),
        ContainerState::ContainerRunning if !has_started => Err("it runs, and since when is unknown".into()),
        ContainerState::ContainerExited if has_started && !has_finished => Err("when it ended is unknown".into()),
        _ => Ok(status),
    }
}

/// What is known of containers by their id.
#[derive(Debug, Default)]
struct Seen {
    running: HashMap<String, Span>,
    /// Told once; nothing more will come of them.
    ended: HashSet<String>,
    /// Of which the runtime did not tell when they ran, by what people use of the id.
    unread: HashMap<String, Span>,
    first_look_us: Option<i64>,
}

impl Seen {
    /// Goes on with what an earlier process of this run could not read.
    fn resume(spans: Vec<Span>) -> Self {
        let unread = spans.into_iter().filter(|s| s.kind == SpanKind::Container && s.state == CONTAINER_UNREAD);
        Seen { unread: unread.filter_map(|s| Some((s.id.clone()?, s))).collect(), ..Seen::default() }
    }

    /// The spans in what the runtime said of a container that is new, or whose state is.
    fn hear(&mut self, container: &Container, told: Result<ContainerStatus, String>, at: &Moment) -> Vec<Span> {
        match told {
            Ok(status) => self.read(&container.id, at).into_iter().chain(self.take(container, &status, at)).collect(),
            // It has not run yet; the next list says whether it does.
            Err(_) if container.state() == ContainerState::ContainerCreated => Vec::new(),
            Err(why) => self.miss(container, &why, at).into_iter().collect(),
        }
    }

    /// Whoever says that something ran once must know that this may have run too.
    fn miss(&mut self, container: &Container, why: &str, at: &Moment) -> Option<Span> {
        let (id, name) = (short(&container.id), name(container));
        let is_new = !self.unread.contains_key(&id);
        if is_new && self.unread.len() >= MOST_UNREAD {
            return None;
        }
        if is_new {
            tracing::warn!(name, id, error = why, "failed to read a container");
        }
        let first = || Span {
            kind: SpanKind::Container,
            subject: CONTAINER_UNREAD.into(),
            state: CONTAINER_UNREAD.into(),
            from: at.clone(),
            to: at.clone(),
            samples: 0,
            uid: None,
            id: Some(id.clone()),
            node: None,
            detail: None,
        };
        let span = self.unread.entry(id.clone()).or_insert_with(first);
        (span.to, span.detail) = (at.clone(), Some(shorten(&format!("{name}: {why}"))));
        span.samples += 1;
        Some(span.clone())
    }

    /// Takes back that a container is unread, where it was.
    fn read(&mut self, id: &str, at: &Moment) -> Option<Span> {
        let span = self.unread.remove(&short(id))?;
        Some(Span { state: CONTAINER_READ.into(), to: at.clone(), ..span })
    }

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
        let end = |span: Span| {
            let state = if at.boot_us - span.to.boot_us <= CLOSE_US { "exited" } else { "gone" };
            let detail = format!("end not seen; between {} and {}", span.to.wall.0, at.wall.0);
            Span { state: state.into(), detail: Some(detail), ..span }
        };
        let mut spans: Vec<Span> = gone.iter().filter_map(|id| self.running.remove(id)).map(end).collect();
        // As much is known of them as of others that nobody saw end.
        spans.extend(gone.iter().filter_map(|id| self.read(id, at)));
        spans
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
        id: Some(short(&container.id)),
        node: None,
        detail,
    })
}

fn short(id: &str) -> String {
    id.chars().take(ID_LENGTH).collect()
}

/// `<namespace>/<pod>/<container>`; the id where the list does not say.
fn name(container: &Container) -> String {
    match LABELS.map(|label| container.labels.get(label)) {
        [Some(namespace), Some(pod), Some(name), _] => format!("{namespace}/{pod}/{name}"),
        _ => short(&container.id),
    }
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
    use ContainerState::{ContainerCreated, ContainerExited, ContainerRunning, ContainerUnknown};

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

    fn words(spans: &[Span]) -> Vec<String> {
        spans.iter().map(|s| format!("{} {}", s.subject, s.state)).collect()
    }
    const SCHEDULER: &str = "kube-system/kube-scheduler-cp1/kube-scheduler";

    #[test]
    fn a_container_that_the_runtime_tells_nothing_of_is_unread_until_it_does() {
        let mut seen = Seen::default();
        let exited = container(ID, ContainerExited);
        let failed = seen.hear(&exited, Err("no answer in time".into()), &now());
        assert_eq!(words(&failed), ["unread unread"]);
        assert_eq!((failed[0].id.as_deref(), failed[0].uid.as_deref()), (Some("0123456789ab"), None));
        assert_eq!(failed[0].detail.as_deref(), Some(format!("{SCHEDULER}: no answer in time").as_str()));
        assert!(seen.is_news(&exited), "asked again");
        // Another process of this agent knows of it, and writes over the same span.
        let mut seen = Seen::resume(failed.clone());
        let again = seen.hear(&exited, Err("no answer in time".into()), &now());
        assert_eq!((again.len(), again[0].samples, &again[0].from), (1, 2, &failed[0].from));
        let heard = seen.hear(&exited, Ok(status(ContainerExited, 31, Some(5))), &now());
        assert_eq!(words(&heard), ["unread read".to_owned(), format!("{SCHEDULER} exited")]);
        assert_eq!((&heard[0].id, heard[0].uid.as_deref()), (&failed[0].id, None));
        assert!(seen.unread.is_empty());
    }

    #[test]
    fn one_that_goes_unread_stays_so_unless_it_was_seen_running_or_had_not_begun() {
        let mut seen = Seen::default();
        seen.take(&container("running", ContainerRunning), &status(ContainerRunning, 30, None), &now());
        for id in ["running", "short-lived"] {
            seen.hear(&container(id, ContainerExited), Err("not found".into()), &now());
        }
        assert!(seen.hear(&container("new", ContainerCreated), Err("not found".into()), &now()).is_empty());
        assert_eq!(words(&seen.ended_unseen(&[], &now())), [format!("{SCHEDULER} exited"), "unread read".to_owned()]);
        assert_eq!(seen.unread.keys().collect::<Vec<_>>(), ["short-lived"]);
        // Some runtimes lose one's state for a while.
        let running = container("again", ContainerRunning);
        seen.take(&running, &status(ContainerRunning, 30, None), &now());
        seen.hear(&container("again", ContainerUnknown), Err("its state is unknown".into()), &now());
        assert!(seen.still_running(&running, &now()).is_some() && seen.read("again", &now()).is_some());
    }

    #[test]
    fn a_status_that_does_not_tell_when_it_ran_is_none() {
        let told = |status: ContainerStatus| super::told(ContainerStatusResponse { status: Some(status) }).is_ok();
        assert!(super::told(ContainerStatusResponse { status: None }).is_err());
        assert!(told(status(ContainerRunning, 30, None)) && told(status(ContainerExited, 30, Some(5))));
        let never = |state| ContainerStatus { started_at: 0, ..status(state, 0, None) };
        assert!(told(never(ContainerCreated)) && told(never(ContainerExited)), "they never ran");
        assert!(!told(status(ContainerUnknown, 30, None)) && !told(never(ContainerRunning)));
        assert!(!told(status(ContainerExited, 30, None)), "nobody knows when it ended");
    }

    #[test]
    fn a_runtime_that_tells_nothing_of_many_does_not_fill_the_record() {
        let mut seen = Seen::default();
        let named = |seen: &mut Seen, i: usize| {
            !seen.hear(&container(&i.to_string(), ContainerRunning), Err("broken".into()), &now()).is_empty()
        };
        assert_eq!((0..100).filter(|i| named(&mut seen, *i)).count(), MOST_UNREAD);
        assert!(named(&mut seen, 0), "those go on");
    }
}
