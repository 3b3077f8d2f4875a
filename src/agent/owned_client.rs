//! A client that asks a server on this node only where a process of one user answers.
//!
//! Nobody can check a certificate that a server made for itself. What is trusted is whose process it is; and whoever listened when somebody
//! looked may be gone when the connection is made, and another one in its place. So the other end of each connection is looked up in the
//! kernel's table before anything is sent over it.

use super::listener;
use futures::{FutureExt, future::BoxFuture};
use http::{Extensions, Uri};
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{Connection, HttpInfo},
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use std::net::SocketAddr;
use tokio::task::spawn_blocking;
use tower::{BoxError, Service, ServiceBuilder, util::AndThen};

/// A client of the server that this configuration names, where processes of `owner` answer: others see nothing of a request, and so no
/// token.
///
/// # Errors
/// Where the configuration is none that a client can be made of.
pub fn client(config: &Config, owner: u32) -> kube::Result<Client> {
    let connector = owned(config.rustls_https_connector()?, owner);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

type Checked<C> = BoxFuture<'static, Result<C, BoxError>>;

/// The same connector, without the connections that end elsewhere. It has to be one of TLS: whoever has shaken hands has taken the
/// connection, which nobody owns before.
fn owned<S>(connector: S, owner: u32) -> AndThen<S, impl FnOnce(S::Response) -> Checked<S::Response> + Clone>
where
    S: Service<Uri>,
    S::Response: Connection + Send + 'static,
{
    AndThen::new(connector, move |connection: S::Response| checked(connection, owner).boxed())
}

async fn checked<C: Connection>(connection: C, owner: u32) -> Result<C, BoxError> {
    let (here, there) = ends(&connection).ok_or("nobody knows the ends of the connection")?;
    check(here, there, owner).await?;
    Ok(connection)
}

/// This end of a connection, and the other one.
fn ends(connection: &impl Connection) -> Option<(SocketAddr, SocketAddr)> {
    let mut known = Extensions::new();
    connection.connected().get_extras(&mut known);
    let ends = known.get::<HttpInfo>()?;
    Some((ends.local_addr(), ends.remote_addr()))
}

/// # Errors
/// Unless a process of this user has taken the connection.
async fn check(here: SocketAddr, there: SocketAddr, owner: u32) -> Result<(), BoxError> {
    // The table has a line for every connection of the node.
    match spawn_blocking(move || listener::other_end(here, there)).await?? {
        Some(socket) if socket.uid == owner => Ok(()),
        Some(socket) => Err(format!("user {} answers there, who is not shown the agent's token", socket.uid).into()),
        None => Err("nobody has taken the connection".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::health::{self, Answer};
    use rustix::process::geteuid;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    #[tokio::test]
    async fn a_connection_is_his_whose_process_has_taken_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (here, there) = ends(&connection).unwrap();
        let own = geteuid().as_raw();
        let said = async |owner: u32| check(here, there, owner).await.map_err(|error| error.to_string());
        for owner in [0, own] {
            assert_eq!(said(owner).await, Err("nobody has taken the connection".into()), "of {owner}");
        }
        let _taken = listener.accept().await.unwrap();
        assert_eq!(said(own).await, Ok(()));
        let told = format!("user {own} answers there, who is not shown the agent's token");
        assert_eq!(said(own + 1).await, Err(told));
    }

    #[tokio::test]
    async fn whoever_else_answers_is_sent_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = health::config("http", listener.local_addr().unwrap());
        let answer = health::ask(&client(&config, geteuid().as_raw() + 1).unwrap(), "/metrics").await;
        assert!(matches!(answer, Answer::Broken(_)), "{answer:?}");
        let (mut taken, _) = listener.accept().await.unwrap();
        let mut sent = Vec::new();
        taken.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty(), "{}", String::from_utf8_lossy(&sent));
    }
}
