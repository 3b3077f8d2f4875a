//! The route to the API: who does not answer is left behind, and watches follow.

use crate::{control_plane::ControlPlane, wait::SOON};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::WatchParams};
use rackpartition::{connection::Route, topology::ApiServer};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};

fn server(name: &str, address: SocketAddr) -> ApiServer {
    ApiServer { name: name.into(), address }
}

fn real(plane: &ControlPlane) -> ApiServer {
    let port = plane.config.cluster_url.port_u16().expect("a port");
    server("real", SocketAddr::new(plane.address.into(), port))
}

/// Forwards to `to` until told to fall silent; connections stay open.
async fn front(to: SocketAddr) -> (ApiServer, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (silent, is_silent) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut is_silent = is_silent.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.expect("the API server");
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut to) => return,
                    _ = is_silent.wait_for(|s| *s) => {}
                }
                // Neither closes nor answers.
                std::future::pending::<()>().await;
            });
        }
    });
    (server("front", address), silent)
}

#[tokio::test]
async fn whoever_has_answered_somebody_is_dialled_before_others() {
    let plane = ControlPlane::start().await;
    let holes = [
        TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        TcpListener::bind("127.0.0.1:0").await.expect("a port"),
    ];
    let [one, two] = ["one", "two"].map(|name| (name, &holes[usize::from(name == "two")]));
    let hole = |(name, listener): (&str, &TcpListener)| server(name, listener.local_addr().expect("an address"));
    let route = Route::new(plane.config.clone(), &[hole(one), hole(two), real(&plane)]);
    route.has_answered("real");
    let namespaces: Api<Namespace> = Api::all(route.client());
    timeout(SOON, namespaces.get("default")).await.expect("no request waits for ever").expect_err("nobody answers");
    assert_eq!(route.current().map(|s| s.name).as_deref(), Some("real"));
    namespaces.get("default").await.expect("it answers");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_behind() {
    let plane = ControlPlane::start().await;
    // Takes connections into its backlog and never says a word.
    let hole = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hole = server("hole", hole.local_addr().expect("an address"));
    let route = Route::new(plane.config.clone(), &[hole, real(&plane)]);
    let namespaces: Api<Namespace> = Api::all(route.client());
    let begun = Instant::now();
    let failed = timeout(SOON, namespaces.get("default")).await.expect("no request waits for ever");
    assert!(failed.is_err() && begun.elapsed() < Duration::from_secs(15), "{failed:?} after {:?}", begun.elapsed());
    assert_eq!(route.current().map(|s| s.name).as_deref(), Some("real"));
    namespaces.get("default").await.expect("the next server answers");

    // A server that was good, and whose connection is open; the caller is less patient than the route.
    let (front, silent) = front(real(&plane).address).await;
    route.use_servers(vec![front, real(&plane)]);
    namespaces.get("default").await.expect("an answer through the front");
    silent.send_replace(true);
    let late = timeout(Duration::from_secs(3), namespaces.get("default")).await;
    assert!(late.is_err(), "nobody can have answered: {late:?}");
    let answer = timeout(SOON, namespaces.get("default")).await.expect("no request waits for ever");
    answer.expect("an impatient caller moves on as well");
    assert_eq!(route.current().map(|s| s.name).as_deref(), Some("real"));
}

#[tokio::test]
async fn whoever_waits_for_a_server_that_failed_somebody_else_waits_no_longer_than_it_takes() {
    let plane = ControlPlane::start().await;
    let (front, silent) = front(real(&plane).address).await;
    let route = Route::new(plane.config.clone(), &[front, real(&plane)]);
    let namespaces: Api<Namespace> = Api::all(route.client());
    // A connection for each of the two.
    let (one, two) = tokio::join!(namespaces.get("default"), namespaces.get("default"));
    one.and(two).expect("answers through the front");
    silent.send_replace(true);
    let impatient = timeout(Duration::from_millis(1500), namespaces.get("default"));
    let (late, patient) = tokio::join!(impatient, timeout(SOON, namespaces.get("default")));
    assert!(late.is_err(), "nobody can have answered: {late:?}");
    let error = patient.expect("no request waits for ever").expect_err("nobody answers").to_string();
    assert!(error.contains("did not answer others either"), "{error}");
}

#[tokio::test]
async fn watches_end_where_the_route_changes() {
    let plane = ControlPlane::start().await;
    let (front, _silent) = front(real(&plane).address).await;
    let route = Route::new(plane.config.clone(), &[front, real(&plane)]);
    let namespaces: Api<Namespace> = Api::all(route.client());
    let params = WatchParams::default().timeout(60);
    let mut watch = namespaces.watch(&params, "0").await.expect("a watch").boxed();
    watch.try_next().await.expect("no error").expect("what is there already");
    route.prefer(&["real".into()]);
    assert_eq!(route.current().map(|s| s.name).as_deref(), Some("real"));
    let rest = watch.try_for_each(|_| async { Ok(()) });
    let ended = timeout(Duration::from_secs(10), rest).await.expect("the watch ends at once");
    ended.expect("and without an error");
    let mut watch = namespaces.watch(&params, "0").await.expect("a watch there").boxed();
    watch.try_next().await.expect("no error").expect("what is there already");
}
