//! Whether the controller manager and the scheduler of this node believe that they lead, and since when they run, by their own metrics.
//!
//! `/metrics` wants somebody who may read it, and for that the component asks an API server. In a rack that is cut off it may refuse
//! everybody, or take too long. So it is also written down which process listens at all, which needs nobody's leave.

use super::{
    error::root_cause,
    health,
    journal::Journal,
    listener::{self, Socket},
    owned_client,
};
use crate::{
    api::{LEADER_DOWN, LEADER_UNREAD, LEADING, NOT_LEADING, Span, SpanKind},
    observe::{Look, Observation},
};
use http_body_util::BodyExt;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, client::Body};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    str::from_utf8,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::{JoinSet, block_in_place},
    time::{MissedTickBehavior, interval, timeout},
};

/// Names of the components, which are their Leases' too, and their secure ports (kubeadm's and upstream's defaults).
const COMPONENTS: [(&str, u16); 2] = [("kube-controller-manager", 10257), ("kube-scheduler", 10259)];

/// Between two looks: metrics are long (some 200 kB), and a holder that hears nothing gives up after several seconds.
const PERIOD: Duration = Duration::from_secs(2);
/// For one look. With the period it stays below [`crate::observe::Recorder::MAX_GAP`].
const DEADLINE: Duration = Duration::from_secs(2);

/// `component-base/metrics/prometheus/clientgo/leaderelection/metrics.go`: 1 while the Lease is held, 0 else.
const METRIC: &str = "leader_election_master_status";
/// When the process started, in seconds since 1970 by its node's clock (client_golang `prometheus/process_collector.go`).
const START: &str = "process_start_time_seconds";
/// Asks for these metrics alone. Components whose metrics are written by an older client_golang (before its pull request 1925) send all.
const PATH: &str = "/metrics?name%5B%5D=leader_election_master_status&name%5B%5D=process_start_time_seconds";
/// Bytes of metrics that are read and thrown away. A controller manager of a large cluster has some megabytes.
const MOST: usize = 8 * 1024 * 1024;
/// Bytes of one line that are kept; those wanted have less than half as many.
const LONGEST: usize = 256;

/// Where every pod finds its own (`DefaultAPITokenMountPath`, `plugin/pkg/admission/serviceaccount/admission.go`).
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Whoever else listens must not see the token.
const ROOT: u32 = 0;

/// Looks at both once a period. Never returns.
pub async fn watch_all(journal: Journal) {
    let mut tasks = JoinSet::new();
    for (component, port) in COMPONENTS {
        tasks.spawn(watch(component, port, journal.clone()));
    }
    tasks.join_all().await;
}

async fn watch(component: &'static str, port: u16, journal: Journal) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // That nobody listens says something only where somebody did.
    let is_own = |s: &Span| s.kind == SpanKind::LeaderMetric && s.subject == component;
    let mut was_there = journal.status().spans.iter().any(is_own);
    let mut asked = None;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok(listening) = block_in_place(|| listener::on(port)) else { continue };
        // Before the question: whoever says that it leads still did then, and whoever listens in its place already did.
        let look = Look::begin();
        let seen = match &listening[..] {
            [] if was_there => {
                if !refuses(address).await {
                    continue;
                }
                Observation::new(component, LEADER_DOWN)
            }
            [socket] => {
                let told = tell(&mut asked, *socket, address, component).await;
                // It may have been another one that answered.
                if block_in_place(|| listener::on(port)).ok().as_ref() != Some(&listening) {
                    continue;
                }
                was_there = true;
                observation(component, *socket, told)
            }
            _ => continue,
        };
        if !look.was_held(DEADLINE) {
            journal.observe(SpanKind::LeaderMetric, look.begun().clone(), seen);
        }
    }
}

/// What a component says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    leads: bool,
    /// When its process started. It may not say.
    started: Option<Timestamp>,
}

/// The socket is the process: another one can't have the same.
fn observation(component: &str, socket: Socket, told: Result<Told, String>) -> Observation {
    let (state, detail) = match told {
        Ok(Told { leads, started }) => {
            let state = if leads { LEADING } else { NOT_LEADING };
            (state, started.map(|at| format!("started={at:.2}")))
        }
        Err(why) => (LEADER_UNREAD, Some(health::shorten(&why))),
    };
    Observation { id: Some(socket.inode.to_string()), detail, ..Observation::new(component, state) }
}

/// Whether nobody listens, beyond what the kernel's table says: that may be changed while it is read.
async fn refuses(address: SocketAddr) -> bool {
    let connected = timeout(DEADLINE, TcpStream::connect(address)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}

/// What the process behind this socket says; each is asked over connections of its own.
async fn tell(
    asked: &mut Option<(Socket, Client)>,
    socket: Socket,
    address: SocketAddr,
    component: &str,
) -> Result<Told, String> {
    let client = match asked {
        Some((of, client)) if *of == socket => client.clone(),
        _ => asked.insert((socket, client(address)?)).1.clone(),
    };
    timeout(DEADLINE, ask(&client, component)).await.unwrap_or_else(|_| Err("no answer in time".into()))
}

fn client(address: SocketAddr) -> Result<Client, String> {
    let mut config = health::config("https", address);
    config.auth_info.token_file = Some(TOKEN.into());
    owned_client::client(&config, ROOT).map_err(|error| root_cause(&error))
}

async fn ask(client: &Client, component: &str) -> Result<Told, String> {
    let request = http::Request::get(PATH).body(Body::empty()).expect("a constant path");
    let (head, mut body) = client.send(request).await.map_err(|error| root_cause(&error))?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(head.status.to_string());
    }
    let (mut search, mut read) = (Search::new(component), 0);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| root_cause(&error))?.into_data() else { continue };
        read += piece.len();
        if read > MOST {
            return Err(format!("more than {} MiB of metrics", MOST >> 20));
        }
        search.take(&piece);
    }
    search.end().ok_or_else(|| format!("no {METRIC} of {component}"))
}

/// Looks for two samples in metrics that come in pieces, and keeps nothing of them but the line that has begun.
pub struct Search {
    /// Whether it leads, and when it started.
    wanted: [String; 2],
    values: [Option<f64>; 2],
    line: Vec<u8>,
}

impl Search {
    pub fn new(component: &str) -> Self {
        let wanted = [format!("{METRIC}{{name=\"{component}\"}} "), format!("{START} ")];
        Search { wanted, values: [None; 2], line: Vec::new() }
    }

    pub fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = from_utf8(&self.line).unwrap_or_default();
        for (wanted, value) in self.wanted.iter().zip(&mut self.values) {
            let sample = line.strip_prefix(wanted.as_str());
            *value = value.or_else(|| sample?.trim().parse().ok());
        }
        self.line.clear();
    }

    /// `None` where there was no sample of whether it leads, or one that is neither 0 nor 1.
    pub fn end(mut self) -> Option<Told> {
        self.end_line();
        let [leads, started] = self.values;
        let leads = leads.filter(|value| *value == 0.0 || *value == 1.0)? == 1.0;
        Some(Told { leads, started: started.and_then(since_1970) })
    }
}

/// `None` of what is no time after 1970.
fn since_1970(seconds: f64) -> Option<Timestamp> {
    // It counts in ticks of 10 ms.
    let milliseconds = (seconds >= 0.0).then(|| (seconds * 1e3).round() as i64)?;
    Timestamp::from_millisecond(milliseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_server::serve;
    use tokio::net::TcpListener;

    const METRICS: &str = "\
# HELP leader_election_master_status [ALPHA] Gauge of if the reporting system is master of the relevant lease\n\
# TYPE leader_election_master_status gauge\n\
leader_election_master_status{name=\"kube-controller-manager\"} 0\n\
leader_election_master_status{name=\"kube-scheduler\"} 1\n\
leader_election_slowpath_total{name=\"kube-scheduler\"} 7\n\
# TYPE process_start_time_seconds gauge\n\
process_start_time_seconds 1.79536524612e+09\n";
    const STARTED: &str = "2026-11-22T16:34:06.12Z";

    fn all_told(metrics: &str, component: &str, size: usize) -> Option<Told> {
        let mut search = Search::new(component);
        metrics.as_bytes().chunks(size).for_each(|piece| search.take(piece));
        assert!(search.line.len() <= LONGEST);
        search.end()
    }

    fn told(metrics: &str, component: &str, size: usize) -> Option<bool> {
        all_told(metrics, component, size).map(|told| told.leads)
    }

    #[test]
    fn one_sample_is_found_however_its_line_is_torn() {
        for size in 1..=METRICS.len() {
            let words = ["kube-scheduler", "kube-controller-manager", "kube"].map(|name| told(METRICS, name, size));
            assert_eq!(words, [Some(true), Some(false), None], "in pieces of {size}");
            let started = all_told(METRICS, "kube-scheduler", size).unwrap().started;
            assert_eq!(started, Some(STARTED.parse().unwrap()), "in pieces of {size}");
        }
        let unended = METRICS.split("\nleader_election_slowpath").next().unwrap();
        assert_eq!(told(unended, "kube-scheduler", 7), Some(true));
    }

    #[test]
    fn what_is_no_gauge_of_0_or_1_is_no_word() {
        let line = |value: &str| format!("leader_election_master_status{{name=\"kube-scheduler\"}}{value}\n");
        let long = [" ".repeat(5000), format!(" {}", "1".repeat(5000))];
        for value in ["", " ", " NaN", " 2", " -1", " one", "1", long[0].as_str(), long[1].as_str()] {
            assert_eq!(told(&line(value), "kube-scheduler", 100), None, "{value}");
        }
        assert_eq!(told(&format!("{}\n{}", "x".repeat(5000), line(" 1")), "kube-scheduler", 100), Some(true));
        assert_eq!(told("", "kube-scheduler", 1), None);
        for start in ["", "NaN", "-1", "+Inf", "1e300"] {
            let metrics = format!("{}process_start_time_seconds {start}\n", line(" 1"));
            let said = all_told(&metrics, "kube-scheduler", 100);
            assert_eq!(said, Some(Told { leads: true, started: None }), "{start}");
        }
    }

    /// Whoever listens there answers so, if asked for no more than is wanted.
    async fn answered(answer: String) -> Result<Told, String> {
        let asked = "/metrics?name%5B%5D=leader_election_master_status&name%5B%5D=process_start_time_seconds";
        let address = serve(move |path| (path == asked).then(|| answer.clone())).await;
        ask(&health::client("http", address).unwrap(), "kube-scheduler").await
    }

    #[tokio::test]
    async fn a_component_says_so_or_why_it_does_not() {
        let ok = |metrics: &str| format!("200 OK\r\nContent-Length: {}\r\n\r\n{metrics}", metrics.len());
        let started = Some(STARTED.parse().unwrap());
        assert_eq!(answered(ok(METRICS)).await, Ok(Told { leads: true, started }));
        assert_eq!(answered(ok("up 1\n")).await, Err("no leader_election_master_status of kube-scheduler".into()));
        let refused = |code: &str| format!("{code}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answered(refused("401 Unauthorized")).await, Err("401 Unauthorized".into()));
        assert_eq!(answered(refused("403 Forbidden")).await, Err("403 Forbidden".into()));
        let endless = "#".repeat(MOST + 1);
        assert_eq!(answered(ok(&endless)).await, Err("more than 8 MiB of metrics".into()));
    }

    #[test]
    fn each_answer_is_a_state_of_the_process_that_gave_it() {
        let said = |told| observation("kube-scheduler", Socket { uid: 0, inode: 31337 }, told);
        let started = Some(STARTED.parse().unwrap());
        let words =
            [Ok(Told { leads: true, started }), Ok(Told { leads: false, started: None }), Err("403 Forbidden".into())];
        let states = words.map(|told| {
            let Observation { subject, state, id, detail, .. } = said(told);
            assert_eq!((subject.as_str(), id.as_deref()), ("kube-scheduler", Some("31337")));
            (state, detail)
        });
        let since = format!("started={STARTED}");
        let expected = [("leading", Some(since.as_str())), ("not leading", None), ("unread", Some("403 Forbidden"))];
        assert_eq!(states.each_ref().map(|(state, detail)| (state.as_str(), detail.as_deref())), expected);
    }

    #[tokio::test]
    async fn nobody_listens_where_a_connection_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!refuses(address).await);
        drop(listener);
        assert!(refuses(address).await);
    }
}
