//! The control plane's components on this node, by their unauthenticated health paths on localhost.

use super::{error::root_cause, journal::Journal};
use crate::{
    api::SpanKind,
    observe::{Look, Observation, now},
};
use http_body_util::{BodyExt, Limited};
use kube::{Client, Config, client::Body};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

/// Between two looks at one component, if it answers sooner.
const PERIOD: Duration = Duration::from_secs(1);
/// Longer than the API server waits for etcd before it answers (`--etcd-readycheck-timeout`, 2 s).
pub const DEADLINE: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read, far more than etcd's metrics have: whoever listens there must not fill this agent's memory. Ours.
const MOST: usize = 8 << 20;
/// Characters of a detail: evidence for people, in an object of bounded size.
pub const DETAIL_LIMIT: usize = 120;

/// Where etcd answers without a certificate (kubeadm's `--listen-metrics-urls`).
pub const ETCD_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2381);

/// A component and where to ask it. Ports are kubeadm's and upstream's defaults.
struct Component {
    subject: &'static str,
    scheme: &'static str,
    address: SocketAddr,
    /// In order of preference; the next is asked where one is unknown.
    paths: &'static [&'static str],
    /// Recorded from the start. Others are recorded once they were seen up: most nodes have none, and the port may be
    /// another one, which is missing evidence and not a failure.
    expected: bool,
}

/// What a component said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Said {
        code: u16,
        body: String,
    },
    /// Something listens there, and it did not answer in time.
    Late,
    /// Nothing listens there, or it broke off.
    Broken(String),
}

/// Asks every component once a period. `api_server` is this node's own, if it has one. Never returns.
pub async fn watch_all(api_server: Option<SocketAddr>, journal: Journal) {
    let known: Vec<String> =
        journal.status().spans.into_iter().filter(|s| s.kind == SpanKind::Health).map(|s| s.subject).collect();
    let local = |subject, scheme, port, paths| Component {
        subject,
        scheme,
        address: (Ipv4Addr::LOCALHOST, port).into(),
        paths,
        expected: known.iter().any(|k| k == subject),
    };
    let mut components = vec![
        // Both read through quorum. Without a leader `/health` says so at once, while `/readyz` (etcd 3.5.11) waits for its
        // read to fail, which takes longer than a look may.
        local("etcd", "http", ETCD_METRICS.port(), &["/health", "/readyz"]),
        local("kube-controller-manager", "https", 10257, &["/healthz"]),
        local("kube-scheduler", "https", 10259, &["/healthz"]),
    ];
    components.extend(api_server.map(|address| Component {
        subject: "kube-apiserver",
        scheme: "https",
        address,
        paths: &["/readyz"],
        expected: true,
    }));
    let mut tasks = JoinSet::new();
    for component in components {
        tasks.spawn(watch(component, journal.clone()));
    }
    tasks.join_all().await;
}

async fn watch(component: Component, journal: Journal) {
    let client = match client(component.scheme, component.address) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, component.subject, "failed to make a client for health checks");
            return std::future::pending().await;
        }
    };
    let (mut seen_up, mut is_up) = (component.expected, false);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let look = Look::begin();
        // The client tells of every failed connection in the log, and most nodes have nothing there. Where something is, it
        // would tell of every connection without a request.
        let answer = match is_up {
            true => ask_all(&client, component.paths).await,
            false => match listens(component.address).await {
                Ok(()) => ask_all(&client, component.paths).await,
                Err(answer) => answer,
            },
        };
        // One to connect, and one a path.
        if look.was_held(DEADLINE * (1 + component.paths.len() as u32)) {
            continue;
        }
        let (state, detail) = judge(&answer);
        is_up = state != "down";
        seen_up |= state == "ok";
        if seen_up {
            let seen = Observation { detail, ..Observation::new(component.subject, state) };
            journal.observe(SpanKind::Health, now(), seen);
        }
    }
}

/// A client that trusts whoever listens on this node: nothing secret is sent, and the certificates are self-signed.
pub fn client(scheme: &str, address: SocketAddr) -> kube::Result<Client> {
    Client::try_from(config(scheme, address))
}

/// The same before it knows any secret.
pub fn config(scheme: &str, address: SocketAddr) -> Config {
    let url = format!("{scheme}://{address}").parse().expect("a socket address is a valid authority");
    let mut config = Config::new(url);
    config.accept_invalid_certs = true;
    // Otherwise the system's certificates are read, of which an image from scratch has none.
    config.root_cert = Some(Vec::new());
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE);
    config
}

pub async fn listens(address: SocketAddr) -> Result<(), Answer> {
    match timeout(DEADLINE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Answer::Broken(error.to_string())),
        Err(_) => Err(Answer::Late),
    }
}

async fn ask_all(client: &Client, paths: &[&str]) -> Answer {
    let mut answer = Answer::Late;
    for path in paths {
        answer = ask(client, path).await;
        if !matches!(answer, Answer::Said { code: 404, .. }) {
            break;
        }
    }
    answer
}

pub async fn ask(client: &Client, path: &str) -> Answer {
    let request = http::Request::get(path).body(Body::empty()).expect("a constant path");
    exchange(client, request, DEADLINE).await
}

/// One question and all of its answer.
pub async fn exchange(client: &Client, request: http::Request<Body>, deadline: Duration) -> Answer {
    let exchange = async {
        let (head, body) = client.send(request).await?.into_parts();
        let body = Limited::new(body, MOST).collect().await.map_err(kube::Error::Service)?.to_bytes();
        Ok::<_, kube::Error>((head.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    };
    match timeout(deadline, exchange).await {
        Ok(Ok((code, body))) => Answer::Said { code, body },
        Ok(Err(error)) => Answer::Broken(root_cause(&error)),
        Err(_) => Answer::Late,
    }
}

/// State and detail of one answer.
pub fn judge(answer: &Answer) -> (&'static str, Option<String>) {
    match answer {
        // etcd's `/health` once answered 200 with `"health":"false"`.
        Answer::Said { code: 200, body } if !body.contains("\"health\":\"false\"") => ("ok", None),
        Answer::Said { code, body } => ("failing", Some(shorten(&failing(*code, body)))),
        Answer::Late => ("failing", Some(format!("no answer within {} s", DEADLINE.as_secs()))),
        Answer::Broken(error) => ("down", Some(shorten(error))),
    }
}

/// The checks that failed (`[-]etcd failed: reason withheld`), else etcd's reason, else the first line.
fn failing(code: u16, body: &str) -> String {
    let checks: Vec<_> =
        body.lines().filter_map(|l| l.strip_prefix("[-]")).map(|l| l.split(" failed").next().unwrap_or(l)).collect();
    if !checks.is_empty() {
        return checks.join(", ");
    }
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let reason = json.as_ref().and_then(|j| j.get("reason").or(j.get("message"))).and_then(|r| r.as_str());
    match reason.or(body.lines().next()).map(str::trim) {
        Some(text) if !text.is_empty() => format!("{code}: {text}"),
        _ => code.to_string(),
    }
}

/// Of a text as much as fits into a detail.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(DETAIL_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_server::serve;
    use tokio::net::TcpListener;

    fn said(code: u16, body: &str) -> (&'static str, Option<String>) {
        judge(&Answer::Said { code, body: body.into() })
    }

    #[test]
    fn details_name_what_failed() {
        assert_eq!(said(200, "ok"), ("ok", None));
        let verbose =
            "[+]ping ok\n[-]etcd failed: reason withheld\n[+]poststarthook/x ok\n[-]informer-sync failed: y\n";
        assert_eq!(said(500, verbose), ("failing", Some("etcd, informer-sync".into())));
        assert_eq!(
            said(503, "[-]linearizable_read failed: etcdserver: request timed out\n").1.unwrap(),
            "linearizable_read"
        );
        assert_eq!(said(503, r#"{"health":"false","reason":"RAFT NO LEADER"}"#).1.unwrap(), "503: RAFT NO LEADER");
        assert_eq!(said(200, r#"{"health":"false","reason":"ALARM NOSPACE"}"#).0, "failing");
        assert_eq!(
            said(401, r#"{"kind":"Status","message":"Unauthorized"}"#),
            ("failing", Some("401: Unauthorized".into()))
        );
        assert_eq!(said(403, ""), ("failing", Some("403".into())));
        assert_eq!(said(500, &"ü".repeat(500)).1.unwrap().chars().count(), DETAIL_LIMIT + 1);
        assert_eq!(judge(&Answer::Late).0, "failing");
        assert_eq!(judge(&Answer::Broken("refused".into())).0, "down");
    }

    #[tokio::test]
    async fn where_one_path_is_unknown_the_next_is_asked() {
        let healthy = "200 OK\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}";
        let address = serve(move |path| (path == "/health").then(|| healthy.into())).await;
        let answer = ask_all(&client("http", address).unwrap(), &["/readyz", "/health"]).await;
        assert_eq!(judge(&answer), ("ok", None));
    }

    #[tokio::test]
    async fn of_an_answer_without_end_no_more_is_read_than_a_component_can_say() {
        let address = serve(|_| Some(format!("200 OK\r\n\r\n{}", "x".repeat(MOST + 1)))).await;
        let answer = ask(&client("http", address).unwrap(), "/metrics").await;
        assert_eq!(answer, Answer::Broken("length limit exceeded".into()));
    }

    #[tokio::test]
    async fn nothing_listening_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (state, detail) = judge(&ask_all(&client("https", address).unwrap(), &["/readyz"]).await);
        assert_eq!((state, detail.as_deref()), ("down", Some("Connection refused (os error 111)")));
        assert_eq!(judge(&listens(address).await.unwrap_err()).0, "down");
    }
}
