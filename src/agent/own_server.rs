//! This node's own API server, for whoever asks that one and no other.

use super::record::owner;
use crate::{api::RUN_LABEL, connection::Route, topology::ApiServer};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::json;

/// The API server, and what is written through it for whom.
#[derive(Clone, Debug)]
pub struct OwnServer {
    pub server: ApiServer,
    pub namespace: String,
    pub node: String,
    pub run: String,
    pub run_uid: String,
}

impl OwnServer {
    /// A Lease that goes with the run.
    pub fn lease(&self, name: &str, spec: serde_json::Value) -> serde_json::Value {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": {RUN_LABEL: self.run},
                "ownerReferences": [owner(&self.run, &self.run_uid)],
            },
            "spec": spec,
        })
    }
}

/// A connection of one's own. One that failed is not used again: it may be waiting for a retransmission.
pub struct Connection {
    server: ApiServer,
    namespace: String,
    route: Route,
    client: Option<Client>,
}

impl Connection {
    pub fn new(own: &OwnServer, route: Route) -> Self {
        Connection { server: own.server.clone(), namespace: own.namespace.clone(), route, client: None }
    }

    /// The agents' Leases; `None` where the credentials can't be used.
    pub fn leases(&mut self) -> Option<Api<Lease>> {
        if self.client.is_none() {
            match self.route.direct(&self.server) {
                Ok(client) => self.client = Some(client),
                Err(error) => tracing::warn!(%error, "failed to dial this node's own API server"),
            }
        }
        self.client.clone().map(|client| Api::namespaced(client, &self.namespace))
    }

    /// The next one dials anew.
    pub fn hang_up(&mut self) {
        self.client = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_a_lease_that_the_run_owns() {
        let server = ApiServer { name: "cp1".into(), address: "198.18.0.1:6443".parse().unwrap() };
        let own = OwnServer {
            server,
            namespace: "ns".into(),
            node: "cp1".into(),
            run: "isolate".into(),
            run_uid: "u1".into(),
        };
        let lease = own.lease("rackpartition-canary-cp1", json!({"holderIdentity": "cp1"}));
        let lease: Lease = serde_json::from_value(lease).unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("cp1"));
        assert_eq!(lease.metadata.owner_references.unwrap()[0].uid, "u1");
    }
}
