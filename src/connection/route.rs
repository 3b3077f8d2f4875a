//! A Kubernetes client whose requests follow a changing choice of API servers.

use crate::topology::ApiServer;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, Config, client::Body};
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, Service};

/// For a whole request and its answer; to the answer's head for a watch. Twice the API server's own etcd health check (2 s)
/// and a round trip: who takes longer has no quorum or is cut off.
const DEADLINE: Duration = Duration::from_secs(5);
/// For TCP and TLS. A SYN lost at the edge of a cut is sent again after 1 s.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A watch ends after this long at the latest, so that a connection that died silently costs no more.
const WATCH_DEADLINE: Duration = Duration::from_secs(30);
/// A request that its caller gives up after this long has failed. A server that is well answers within milliseconds, and whoever
/// gives up sooner than this does so for reasons of its own. So long, too, a server has to answer once it has failed somebody else.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// The name every API server's certificate has (kubeadm, and `kube-apiserver`'s own self-signed one).
const SERVER_NAME: &str = "kubernetes.default.svc";

#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to read the service account: {0}")]
    ServiceAccount(#[source] kube::config::InClusterError),
    #[error("failed to make a client: {0}")]
    Client(#[source] Box<kube::Error>),
    #[error("failed to get an answer from {server} within {seconds} s")]
    Deadline { server: String, seconds: u64 },
    #[error("gave up on {server}, which did not answer others either")]
    LeftBehind { server: String },
}

/// A choice of API servers, shared by all clones and all clients made of it.
#[derive(Clone)]
pub struct Route(Arc<Shared>);

struct Shared {
    base: Config,
    choice: Mutex<Choice>,
    /// Counts the choices; watches end when it moves.
    generation: watch::Sender<u64>,
}

struct Choice {
    /// In order of preference. Empty: the base configuration's own address.
    servers: Vec<ApiServer>,
    current: usize,
    dialled: Instant,
    client: Option<Client>,
    /// When somebody was last answered by a server, by its name.
    answered: HashMap<String, Instant>,
}

impl Route {
    /// A route to `servers`, in that order, or to the service's address while none are known.
    ///
    /// # Errors
    /// Where this is no pod with a service account.
    pub fn in_cluster(servers: &[ApiServer]) -> Result<Self, Error> {
        let base = Config::incluster().map_err(Error::ServiceAccount)?;
        Ok(Self::new(base, servers))
    }

    /// A route with the credentials of `base`, for whoever is not in a pod.
    pub fn new(base: Config, servers: &[ApiServer]) -> Self {
        let (servers, answered) = (servers.to_vec(), HashMap::new());
        let choice = Choice { servers, current: 0, dialled: Instant::now(), client: None, answered };
        Route(Arc::new(Shared { base, choice: Mutex::new(choice), generation: watch::Sender::new(0) }))
    }

    /// A client whose every request goes to the present choice.
    pub fn client(&self) -> Client {
        Client::new(RouteService(self.clone()), self.0.base.default_namespace.clone())
    }

    /// A client for one server and nobody else, with a connection of its own. Make a new one after a failure: the old
    /// connection may be waiting for a TCP retransmission.
    ///
    /// # Errors
    /// Where the credentials can't be used.
    pub fn direct(&self, server: &ApiServer) -> Result<Client, Error> {
        connect(&self.0.base, Some(server))
    }

    /// Dials anew, in this order. Watches end and begin again there.
    pub fn use_servers(&self, servers: Vec<ApiServer>) {
        let mut choice = self.0.choice.lock().expect("no holder panics");
        choice.servers = servers;
        choice.dial(0);
        self.0.generation.send_modify(|g| *g += 1);
    }

    /// Dials anew: these are the servers now. The one in use comes first, if it is among them.
    pub fn know_servers(&self, mut servers: Vec<ApiServer>) {
        let current = self.current();
        servers.sort_by_key(|s| current.as_ref() != Some(s));
        self.use_servers(servers);
    }

    /// Dials anew, those named in `names` first and in that order.
    pub fn prefer(&self, names: &[String]) {
        let mut servers = self.0.choice.lock().expect("no holder panics").servers.clone();
        servers.sort_by_key(|s| names.iter().position(|n| *n == s.name).unwrap_or(usize::MAX));
        self.use_servers(servers);
    }

    /// Dials anew, whatever the state of the connections.
    pub fn redial(&self) {
        self.prefer(&[]);
    }

    /// Somebody else was answered by this server just now: it is dialled before others when the one in use fails. In a partial
    /// partition only some can write, and each that is tried in vain costs a deadline.
    pub fn has_answered(&self, server: &str) {
        let mut choice = self.0.choice.lock().expect("no holder panics");
        choice.answered.insert(server.to_owned(), Instant::now());
    }

    /// The server in use, where one was chosen by address.
    pub fn current(&self) -> Option<ApiServer> {
        let choice = self.0.choice.lock().expect("no holder panics");
        choice.servers.get(choice.current).cloned()
    }

    fn pick(&self) -> Result<(Client, String, u64), Error> {
        let mut choice = self.0.choice.lock().expect("no holder panics");
        let server = choice.servers.get(choice.current).cloned();
        let name = server.as_ref().map_or("the API service".into(), |s| format!("API server {}", s.name));
        let client = match &choice.client {
            Some(client) => client.clone(),
            None => choice.client.insert(connect(&self.0.base, server.as_ref())?).clone(),
        };
        Ok((client, name, *self.0.generation.borrow()))
    }

    /// Dials anew: the server that has answered somebody last, else the next one; unless somebody has done so since.
    fn fail(&self, generation: u64) {
        let mut choice = self.0.choice.lock().expect("no holder panics");
        if *self.0.generation.borrow() != generation {
            return;
        }
        let next = choice.after_a_failure();
        choice.dial(next);
        self.0.generation.send_modify(|g| *g += 1);
    }
}

impl Choice {
    fn dial(&mut self, server: usize) {
        (self.current, self.client, self.dialled) = (server, None, Instant::now());
    }

    /// The present one is among those to choose from while it still answers others: where etcd is slow, a server that fails now and
    /// then is better than one that is cut off.
    fn after_a_failure(&self) -> usize {
        let number = self.servers.len();
        let answered = |i: &usize| self.answered.get(&self.servers[*i].name).copied();
        let others = (1..number).map(|further| (self.current + further) % number);
        let present = Some(self.current).filter(|i| *i < number && answered(i) > Some(self.dialled));
        others.chain(present).min_by_key(|i| Reverse(answered(i))).unwrap_or(self.current)
    }
}

fn connect(base: &Config, server: Option<&ApiServer>) -> Result<Client, Error> {
    let mut config = base.clone();
    if let Some(server) = server {
        config.cluster_url =
            format!("https://{}", server.address).parse().expect("a socket address is a valid authority");
        config.tls_server_name = Some(SERVER_NAME.into());
    }
    config.connect_timeout = Some(CONNECT_DEADLINE);
    // Our own deadlines and our own moving on; retries underneath would only use them up.
    config.default_retry = false;
    Client::try_from(config).map_err(|e| Error::Client(Box::new(e)))
}

#[derive(Clone)]
struct RouteService(Route);

type AnswerBody = UnsyncBoxBody<bytes::Bytes, BoxError>;

impl Service<Request<Body>> for RouteService {
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let route = self.0.clone();
        async move {
            let (client, server, generation) = route.pick()?;
            let waiting = Waiting { route: &route, generation, since: Instant::now() };
            let late = || Error::Deadline { server: server.clone(), seconds: DEADLINE.as_secs() };
            let is_watch =
                request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "watch=true" || p == "watch=1"));
            let answer = async {
                if is_watch {
                    client.send(request).await.map(|a| a.map(|body| watch_body(body, &route.0.generation, generation)))
                } else {
                    whole(&client, request).await
                }
            };
            let answer = tokio::select! {
                biased;
                answer = answer => answer,
                () = sleep(DEADLINE) => return fail(&route, generation, late().into()),
                () = left_behind(&route, generation) => {
                    waiting.answered();
                    return Err(Error::LeftBehind { server }.into());
                }
            };
            waiting.answered();
            match answer {
                // An API server without etcd answers 5xx; another one may be able to write.
                Ok(answer) if answer.status().is_server_error() => {
                    route.fail(generation);
                    Ok(answer)
                }
                Ok(answer) => Ok(answer),
                Err(error) => fail(&route, generation, error.into()),
            }
        }
        .boxed()
    }
}

/// A request without an answer. Dropped by a caller whose own deadline was shorter than ours, it counts against the server:
/// such callers would ask one that has fallen silent for ever.
struct Waiting<'a> {
    route: &'a Route,
    generation: u64,
    since: Instant,
}

impl Waiting<'_> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= IMPATIENCE {
            self.route.fail(self.generation);
        }
    }
}

/// Resolves when the route has gone on to another server, and this one has had its time to answer what it was asked before.
async fn left_behind(route: &Route, generation: u64) {
    let mut generations = route.0.generation.subscribe();
    // The sender is the route's own, and is there as long as this borrow.
    let _ = generations.wait_for(|g| *g != generation).await;
    sleep(IMPATIENCE).await;
}

fn fail<T>(route: &Route, generation: u64, error: BoxError) -> Result<T, BoxError> {
    route.fail(generation);
    Err(error)
}

async fn whole(client: &Client, request: Request<Body>) -> Result<Response<AnswerBody>, kube::Error> {
    let (head, body) = client.send(request).await?.into_parts();
    let bytes = body.collect_bytes().await?;
    Ok(Response::from_parts(head, Full::new(bytes).map_err(|never| match never {}).boxed_unsync()))
}

/// The body of a watch, which ends when the route changes and after [`WATCH_DEADLINE`].
fn watch_body(body: Body, generations: &watch::Sender<u64>, generation: u64) -> AnswerBody {
    let mut changes = generations.subscribe();
    let end = async move {
        let moved = changes.wait_for(|g| *g != generation);
        let _ = timeout(WATCH_DEADLINE, moved).await;
    };
    let frames = body.into_data_stream().map_ok(http_body::Frame::data).map_err(BoxError::from);
    StreamBody::new(frames.take_until(end.boxed())).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom to dial after the first of three has failed; of each when it answered somebody last, seconds after the first was dialled.
    fn after(answers: [Option<i64>; 3]) -> usize {
        let begun = Instant::now();
        let dialled = begun + Duration::from_secs(60);
        let at = |seconds: i64| begun + Duration::from_secs((60 + seconds) as u64);
        let name = |i: usize| format!("s{i}");
        let server = |i| ApiServer { name: name(i), address: ([127, 0, 0, 1], 6443).into() };
        let answered = answers.iter().enumerate().filter_map(|(i, a)| Some((name(i), at((*a)?)))).collect();
        let servers = (0..3).map(server).collect();
        Choice { servers, current: 0, dialled, client: None, answered }.after_a_failure()
    }

    #[test]
    fn whoever_answers_others_is_dialled_and_else_the_next() {
        assert_eq!(after([None, None, None]), 1);
        assert_eq!(after([Some(-1), None, None]), 1, "it has not answered since it was dialled");
        assert_eq!(after([None, Some(-9), Some(-5)]), 2);
        assert_eq!(after([Some(5), None, Some(-5)]), 0, "slow, and the only one that answers at all");
        assert_eq!(after([Some(5), None, Some(6)]), 2);
    }
}
