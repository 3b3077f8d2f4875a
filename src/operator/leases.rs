//! Watches who holds each Lease while a run goes on: those of `kube-system`, and those of other namespaces that the plan has.

use super::{
    context::Context,
    locks,
    observer::{Record, every, look},
};
use crate::{api::SpanKind, observe::Observation, topology::Snapshot};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Where the control plane's own are.
pub const NAMESPACE: &str = "kube-system";
/// Half a second is a tenth of the shortest renew deadline in use.
const PERIOD: Duration = Duration::from_millis(500);
/// Of a namespace of others no more than these are read at a look: an answer that is long in coming counts against the API server.
pub const PAGE: u32 = 200;
/// Of Leases in the plan no more than these are followed, and again of others in the control plane's namespace: each is written down as long as a
/// run goes on, in a record that is bounded, and kept with its plan. Ours.
pub const MOST: usize = 100;
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

/// Which Leases of a namespace are written down: those of the plan, and so many others, for people. The first ones that were seen, which
/// are the first by name, so that the same are at every look.
struct Followed {
    planned: BTreeSet<String>,
    others: BTreeSet<String>,
    most_others: usize,
}

impl Followed {
    fn takes(&mut self, name: &str) -> bool {
        let is_known = self.planned.contains(name) || self.others.contains(name);
        is_known || (self.others.len() < self.most_others && self.others.insert(name.to_owned()))
    }
}

/// Looks at the Leases of one namespace until dropped: at those of the plan, and at others of the control plane's. A namespace that does not
/// answer keeps nobody from looking at another.
pub async fn watch_leases(ctx: Arc<Context>, namespace: String, planned: BTreeSet<String>, record: Record) {
    let leases: Api<Lease> = Api::namespaced(ctx.client.clone(), &namespace);
    let is_system = namespace == NAMESPACE;
    let params = if is_system { ListParams::default() } else { page() };
    let most_others = if is_system { MOST } else { 0 };
    let mut followed = Followed { planned, others: BTreeSet::new(), most_others };
    let (mut ticks, mut renewals) = (every(PERIOD), Renewals::default());
    loop {
        ticks.tick().await;
        let Some(seen) = look("Leases", leases.list(&params)).await else { continue };
        let mut locked = if is_system { locks::without_lease(&seen.items) } else { Vec::new() };
        for lease in seen.items {
            // The record is bounded, and nobody judges what else others have.
            if is_judged(&lease) && followed.takes(&lease.name_any()) {
                record.observe(SpanKind::Lease, told(lease, &mut renewals, Timestamp::now()));
            }
        }
        // Only locks that were found when the run was planned are asked for.
        locked.retain(|name| followed.planned.contains(*name));
        if locked.is_empty() {
            continue;
        }
        for lease in look("annotation locks", locks::read(&ctx.client, &locked)).await.unwrap_or_default() {
            record.observe(SpanKind::Lease, told(lease, &mut renewals, Timestamp::now()));
        }
    }
}

/// The renewal that each Lease had at the last look, and when it was first seen, by this machine's clock.
#[derive(Default)]
struct Renewals(HashMap<String, (Timestamp, Option<Timestamp>)>);

impl Renewals {
    /// `None` where the Lease had it at the first look already: nobody knows since when.
    fn first_seen(&mut self, subject: &str, renewed: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let Some((last, seen)) = self.0.get_mut(subject) else {
            self.0.insert(subject.to_owned(), (renewed, None));
            return None;
        };
        if *last != renewed {
            (*last, *seen) = (renewed, Some(now));
        }
        *seen
    }
}

/// `now`: when it was read, at the latest. A renewal that was long in coming was written long after the time that it tells.
fn told(lease: Lease, renewals: &mut Renewals, now: Timestamp) -> Observation {
    let subject = format!("{}/{}", lease.namespace().unwrap_or_default(), lease.name_any());
    let lock = lease.annotations().get(locks::LOCK).cloned();
    let spec = lease.spec.unwrap_or_default();
    let mut detail = format!("transitions={}", spec.lease_transitions.unwrap_or_default());
    if let Some(acquired) = spec.acquire_time {
        detail += &format!(" acquired={:.6}", acquired.0);
    }
    if let Some(renewed) = spec.renew_time {
        detail += &format!(" renewed={:.6}", renewed.0);
        if let Some(seen) = renewals.first_seen(&subject, renewed.0, now) {
            detail += &format!(" seen={seen:.6}");
        }
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
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
        let Observation { subject, state, detail, .. } =
            told(lease("cert"), &mut Renewals::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((subject.as_str(), state.as_str()), ("shop/cert", "cert-1_4c1b"));
        assert_eq!(detail.as_deref(), Some("transitions=2 acquired=2026-11-22T20:14:06.000000Z"));
    }

    #[test]
    fn those_of_the_plan_are_followed_and_no_more_than_so_many_others() {
        let followed = |most_others| {
            let planned = BTreeSet::from(["kube-scheduler".to_owned()]);
            let mut followed = Followed { planned, others: BTreeSet::new(), most_others };
            ["a", "b", "kube-scheduler", "c", "a"].map(|name| followed.takes(name))
        };
        assert_eq!(followed(2), [true, true, true, false, true]);
        assert_eq!(followed(0), [false, false, true, false, false]);
    }

    #[test]
    fn a_renewal_is_told_with_when_it_was_first_seen() {
        let mut renewals = Renewals::default();
        let mut look = |renewed: i64, at: i64| {
            let second = |s: i64| Timestamp::from_second(s).unwrap();
            let mut lease = lease("cert");
            lease.spec.as_mut().unwrap().renew_time = Some(MicroTime(second(renewed)));
            told(lease, &mut renewals, second(at)).detail.unwrap().split_once("00000Z ").unwrap().1.to_owned()
        };
        let (first, next) = ("renewed=1970-01-01T00:00:10.000000Z", "renewed=1970-01-01T00:00:12.000000Z");
        // Nobody knows how long it was there.
        assert_eq!(look(10, 11), first);
        assert_eq!(look(10, 12), first);
        let seen = format!("{next} seen=1970-01-01T00:00:20.000000Z");
        assert_eq!([look(12, 20), look(12, 21)], [seen.clone(), seen]);
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
