//! Asks the member of etcd on this node by its client port, which wants a certificate.

use super::{
    error::root_cause,
    health::{Answer, exchange},
};
use kube::{Client, Config, client::Body, config::AuthInfo};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// Files of the folder, by kubeadm's names (`cmd/kubeadm/app/constants`, EtcdCACertName and EtcdHealthcheckClientCertName).
const CA: &str = "ca.crt";
const CERTIFICATE: &str = "healthcheck-client.crt";
const KEY: &str = "healthcheck-client.key";

/// For a connection to this very node.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
pub enum Error {
    #[error("failed to read {file} in the folder of agent.etcdCertificates: {source}")]
    Read { file: &'static str, source: std::io::Error },
    #[error("failed to make a client of etcd: {0}")]
    Client(String),
}

/// A client of the member at this address of this node. Unlike the one for health checks it trusts nobody but the cluster's own
/// authority: it shows a certificate that may do everything.
///
/// # Errors
/// Where one of the files is not there, or not what it should be.
pub fn client(certificates: &Path, address: SocketAddr) -> Result<Client, Error> {
    let url = format!("https://{address}").parse().expect("a socket address is a valid authority");
    let mut config = Config::new(url);
    // The bytes are not looked at where there is a file.
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(readable(certificates, CA)?);
    config.auth_info = AuthInfo {
        client_certificate: Some(readable(certificates, CERTIFICATE)?.to_string_lossy().into_owned()),
        client_key: Some(readable(certificates, KEY)?.to_string_lossy().into_owned()),
        ..AuthInfo::default()
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| Error::Client(root_cause(&error)))
}

/// Tried here, so that what is amiss is said of the file and not of the connection.
fn readable(folder: &Path, file: &'static str) -> Result<PathBuf, Error> {
    let path = folder.join(file);
    std::fs::File::open(&path).map_err(|source| Error::Read { file, source })?;
    Ok(path)
}

/// Asks etcd's gateway, which takes JSON for what else is gRPC (`server/embed/serve.go`, registerGateway).
pub async fn post(client: &Client, path: &str, question: &serde_json::Value, deadline: Duration) -> Answer {
    let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(question.to_string().into_bytes())).expect("a constant path");
    exchange(client, request, deadline).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 2379));
        for file in [CA, CERTIFICATE, KEY] {
            let error = client(folder.path(), address).map(drop).unwrap_err();
            assert!(error.to_string().contains(&format!("failed to read {file} in")), "{error}");
            std::fs::write(folder.path().join(file), "no certificate").unwrap();
        }
        let error = client(folder.path(), address).map(drop).unwrap_err();
        assert!(matches!(error, Error::Client(_)), "{error}");
    }
}
