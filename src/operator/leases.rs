//! Watches who holds each Lease while a run goes on: those of `kube-system`, and those of other namespaces that the plan has.

use super::{
    context::Context,
    locks,
    observer::{Record, every, look},
};
use crate::{api::SpanKind, observe::Observation, topology::Snapshot};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Where the control plane's own are.
pub const NAMESPACE: &str = "kube-system";
/// Half a second is a tenth of the shortest renew deadline in use.
const PERIOD: Duration = Duration::from_millis(500);
/// Of a namespace of others no more than these are read at a look: an answer that is long in coming counts against the API server.
pub const PAGE: u32 = 200;
/// What this operator and its agents call theirs: its own, canaries and registers.
const OURS: &str = "rackpartition-";
/// On Leases by which API servers say that they are there (`IdentityLeaseComponentLabelKey`, `pkg/controlplane/apiserver/server.go`).
const IDENTITY: &str = "apiserver.kubernetes.io/identity";

/// Whether somebody may be elected on it, and it is ours to judge.
pub fn is_judged(lease: &Lease) -> bool {
    !lease.labels().contains_key(IDENTITY) && !lease.name_any().starts_with(OURS)
}

/// What is asked for of a namespace beside the control plane's. The first ones by name, so that the same are seen at every look.
pub fn page() -> ListParams {
    ListParams::default().limit(PAGE)
}

/// Names of the plan's Leases by their namespaces, the control plane's among these. In no other namespace was any found.
pub fn of_plan(snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::from([(NAMESPACE.to_owned(), BTreeSet::new())]);
    for lease in &snapshot.leases {
        all.entry(lease.namespace.clone()).or_default().insert(lease.name.clone());
    }
    all
}

/// Looks at the Leases of one namespace until dropped: at those of the plan, and at all of the control plane's. A namespace that does not
/// answer keeps nobody from looking at another.
pub async fn watch_leases(ctx: Arc<Context>, namespace: String, planned: BTreeSet<String>, record: Record) {
    let leases: Api<Lease> = Api::namespaced(ctx.client.clone(), &namespace);
    let is_system = namespace == NAMESPACE;
    let params = if is_system { ListParams::default() } else { page() };
    let mut ticks = every(PERIOD);
    loop {
        ticks.tick().await;
        let Some(seen) = look("Leases", leases.list(&params)).await else { continue };
        let mut locked = if is_system { locks::without_lease(&seen.items) } else { Vec::new() };
        for lease in seen.items {
            // The record is bounded, and nobody judges what else others have.
            if is_judged(&lease) && (is_system || planned.contains(&lease.name_any())) {
                record.observe(SpanKind::Lease, told(lease));
            }
        }
        // Only locks that were found when the run was planned are asked for.
        locked.retain(|name| planned.contains(*name));
        if locked.is_empty() {
            continue;
        }
        for lease in look("annotation locks", locks::read(&ctx.client, &locked)).await.unwrap_or_default() {
            record.observe(SpanKind::Lease, told(lease));
        }
    }
}

fn told(lease: Lease) -> Observation {
    let subject = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
    let lock = lease.annotations().get(locks::LOCK).cloned();
    let spec = lease.spec.unwrap_or_default();
    let mut detail = format!("transitions={}", spec.lease_transitions.unwrap_or_default());
    if let Some(acquired) = spec.acquire_time {
        detail += &format!(" acquired={:.6}", acquired.0);
    }
    if let Some(on) = lock {
        detail += &format!(" lock={on}");
    }
    Observation::new(subject, spec.holder_identity.unwrap_or_default()).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;
    use serde_json::json;

    fn lease(name: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"holderIdentity": "cert-1_4c1b", "leaseTransitions": 2, "acquireTime": "2026-11-22T20:14:06.000000Z"},
        }))
        .unwrap()
    }

    #[test]
    fn a_lease_is_told_by_its_namespace_and_its_name() {
        let Observation { subject, state, detail, .. } = told(lease("cert"));
        assert_eq!((subject.as_str(), state.as_str()), ("shop/cert", "cert-1_4c1b"));
        assert_eq!(detail.as_deref(), Some("transitions=2 acquired=2026-11-22T20:14:06.000000Z"));
    }

    #[test]
    fn our_own_leases_and_identities_are_judged_by_nobody() {
        assert!(is_judged(&lease("cert")));
        let register = crate::api::register::name("1a2b3c4d-0000", "c1");
        for own in [crate::predict::OWN_LEASE, "rackpartition-canary-operator-c1", register.as_str()] {
            assert!(!is_judged(&lease(own)), "{own}");
        }
        let mut identity = lease("apiserver-x");
        identity.labels_mut().insert(IDENTITY.into(), "kube-apiserver".into());
        assert!(!is_judged(&identity));
    }

    #[test]
    fn only_namespaces_in_which_the_plan_found_a_lease_are_looked_at() {
        let of = |(namespace, name): (&str, &str)| topology::Lease {
            namespace: namespace.into(),
            name: name.into(),
            ..topology::Lease::default()
        };
        let found = |leases: &[(&str, &str)]| {
            let leases = leases.iter().copied().map(of).collect();
            let all = of_plan(&Snapshot { leases, ..Snapshot::default() });
            all.into_iter().map(|(namespace, names)| (namespace, names.len())).collect::<Vec<_>>()
        };
        let [system, shop] = [NAMESPACE, "shop"].map(str::to_owned);
        let leases = [("shop", "cert"), (NAMESPACE, "kube-scheduler"), ("shop", "db")];
        assert_eq!(found(&leases), [(system.clone(), 1), (shop, 2)]);
        assert_eq!(found(&[]), [(system, 0)]);
    }
}
