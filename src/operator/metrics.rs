//! What the operator counts, for Prometheus, and that it is alive: on a port of its own, where the chart asks for one.

use crate::api::{Phase, Verdict};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, time::sleep};

/// The format that is written (<https://github.com/prometheus/OpenMetrics>).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Whoever connects has this long to ask.
const TO_ASK: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    phase: String,
    verdict: String,
}

/// Counts of this process: a replica that never led has none.
pub struct Metrics {
    registry: Registry,
    leads: Gauge,
    ended: Family<Ended, Counter>,
    leftovers: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("rackpartition");
        let (leads, ended, leftovers) = (Gauge::default(), Family::default(), Counter::default());
        registry.register("leads", "1 where this replica leads", leads.clone());
        registry.register("runs_ended", "Runs that came to their end, by phase and verdict", ended.clone());
        registry.register("leftover_tables", "Tables of earlier runs that agents found and removed", leftovers.clone());
        Metrics { registry, leads, ended, leftovers }
    }

    pub fn set_leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub fn add_leftovers(&self, tables: u32) {
        self.leftovers.inc_by(tables.into());
    }

    /// Counts a run that was not at its end before.
    pub fn count(&self, before: Option<Phase>, now: Option<Phase>, verdict: Option<Verdict>) {
        let Some(phase) = now.filter(|p| p.is_final() && !before.is_some_and(Phase::is_final)) else { return };
        let verdict = verdict.map_or_else(String::new, |v| format!("{v:?}"));
        self.ended.get_or_create(&Ended { phase: format!("{phase:?}"), verdict }).inc();
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, String) {
        match (method, path) {
            (&Method::GET, "/healthz") => (StatusCode::OK, "ok\n".into()),
            (&Method::GET, "/metrics") => {
                let mut text = String::new();
                match encode(&mut text, &self.registry) {
                    Ok(()) => (StatusCode::OK, text),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            _ => (StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".into()),
        }
    }
}

/// Serves them on this port of every address, of either family. Never returns; 0 is no port.
pub async fn serve(metrics: Arc<Metrics>, port: u16) {
    if port != 0 {
        match listen(port).await {
            Ok(listener) => serve_on(listener, metrics).await,
            Err(error) => tracing::error!(%error, port, "metrics are not served"),
        }
    }
    std::future::pending().await
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // A node without IPv6.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        both => both,
    }
}

async fn serve_on(listener: TcpListener, metrics: Arc<Metrics>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, say: they will be fewer.
                tracing::warn!(%error, "failed to take a connection for metrics");
                sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let respond = |request: Request<Incoming>| {
                let (status, text) = metrics.answer(request.method(), request.uri().path());
                let response = Response::builder().status(status).header(CONTENT_TYPE, OPEN_METRICS);
                let response = response.body(Full::new(Bytes::from(text))).expect("a constant header");
                async { Ok::<_, Infallible>(response) }
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(TO_ASK)
                .serve_connection(TokioIo::new(stream), service_fn(respond));
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for metrics broke");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_counted_is_read_over_http() {
        let metrics = Arc::new(Metrics::new());
        metrics.set_leads(true);
        metrics.add_leftovers(2);
        metrics.count(Some(Phase::Judging), Some(Phase::Done), Some(Verdict::Pass));
        // Seen again, it has not ended again.
        metrics.count(Some(Phase::Done), Some(Phase::Done), Some(Verdict::Pass));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_on(listener, metrics));
        let text = get(address, "/metrics").await;
        for line in [
            "rackpartition_leads 1",
            "rackpartition_leftover_tables_total 2",
            "rackpartition_runs_ended_total{phase=\"Done\",verdict=\"Pass\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        }
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    }
}
