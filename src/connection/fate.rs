//! What is known of a write from its answer.

/// State of a write as spans call it: `acknowledged`, `failed` or `unknown`. `None`: there was no answer in time.
///
/// Failed is only what was refused for sure: a connection that nobody took carried nothing, and an API server answers 4xx before it
/// has written anything. It answers 5xx also where etcd did not answer in time, and etcd may do it all the same; so may whoever was at
/// the other end of a connection that broke.
pub fn fate<T>(answer: Option<&kube::Result<T>>) -> &'static str {
    match answer {
        Some(Ok(_)) => "acknowledged",
        Some(Err(kube::Error::Api(status))) if is_refusal(status.code) => "failed",
        Some(Err(error)) if nobody_listened(error) => "failed",
        _ => "unknown",
    }
}

/// 408 is a time that ran out, and 429 may be about what is behind the API server.
fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && ![408, 429].contains(&code)
}

fn nobody_listened(error: &kube::Error) -> bool {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |e| e.source())
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::Lease;
    use kube::{Api, Client, Config};

    #[test]
    fn only_a_refusal_is_a_failure() {
        let status = |code: u16| -> kube::Result<()> {
            let status = serde_json::from_value(serde_json::json!({"code": code, "reason": "Whatever"})).unwrap();
            Err(kube::Error::Api(Box::new(status)))
        };
        assert_eq!((fate(Some(&Ok(()))), fate::<()>(None)), ("acknowledged", "unknown"));
        for code in [401, 403, 404, 409, 422] {
            assert_eq!(fate(Some(&status(code))), "failed", "{code}");
        }
        for code in [408, 429, 500, 503, 504] {
            assert_eq!(fate(Some(&status(code))), "unknown", "{code}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_carried_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        let api = Api::<Lease>::namespaced(Client::try_from(config).unwrap(), "ns");
        assert_eq!(fate(Some(&api.get("x").await)), "failed");
    }

    #[tokio::test]
    async fn a_connection_that_broke_may_have_carried_the_write() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.readable().await;
            }
        });
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        let api = Api::<Lease>::namespaced(Client::try_from(config).unwrap(), "ns");
        assert_eq!(fate(Some(&api.get("x").await)), "unknown");
    }
}
