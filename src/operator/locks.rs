//! Locks of components that elect their leader by an annotation and not by a Lease: on Endpoints, as Kubernetes did before 1.20, or on a
//! ConfigMap. Each is read as the Lease that it stands for, under the component's own name, so that whatever is predicted and judged of
//! Leases holds for it too.
//!
//! Only the control plane's own: to find anybody else's it would take the right to read every ConfigMap of `kube-system`.

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ConfigMap, Endpoints},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Where client-go keeps the record (`resourcelock.LeaderElectionRecordAnnotationKey`). A Lease that was read from one says here on what
/// it was.
pub const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";
/// Those that take locks of these names (their `--leader-elect-resource-name`).
const COMPONENTS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
const NAMESPACE: &str = "kube-system";
/// Nobody has renewed a lock for so many times its duration: it was left behind by a component that elects otherwise now. Ours.
const LEFT_BEHIND: i64 = 10;

/// What is in the annotation (client-go `resourcelock.LeaderElectionRecord`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaderElectionRecord {
    holder_identity: String,
    lease_duration_seconds: i32,
    acquire_time: Option<Time>,
    renew_time: Option<Time>,
    leader_transitions: i32,
}

/// Components that have no Lease among these.
pub fn without_lease(leases: &[Lease]) -> Vec<&'static str> {
    COMPONENTS.into_iter().filter(|name| !leases.iter().any(|l| l.name_any() == *name)).collect()
}

/// The locks of these components, as Leases; of those that have one.
///
/// # Errors
/// Where they can't be read.
pub async fn read(client: &Client, components: &[&str]) -> kube::Result<Vec<Lease>> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mut found = Vec::new();
    for component in components {
        let lock = endpoints.get_metadata_opt(component).await?;
        if let Some(lease) = lock.and_then(|lock| as_lease(component, "endpoints", &lock.metadata)) {
            found.push(lease);
            continue;
        }
        let lock = maps.get_metadata_opt(component).await?;
        found.extend(lock.and_then(|lock| as_lease(component, "configmaps", &lock.metadata)));
    }
    Ok(found)
}

/// What was read, or `None` where the API server says that it may not be: few clusters have such locks, and no run is refused for want of
/// the right to look for one.
///
/// # Errors
/// Any other.
pub fn if_allowed<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 || status.is_forbidden() => Ok(None),
        answer => answer.map(Some),
    }
}

/// Whether somebody renewed this lock not too long ago.
pub fn is_renewed(lease: &Lease, now: Timestamp) -> bool {
    let spec = lease.spec.as_ref();
    let duration = spec.and_then(|s| s.lease_duration_seconds).map_or(0, i64::from);
    let renewed = spec.and_then(|s| s.renew_time.as_ref()).map(|at| at.0.as_second());
    renewed.is_some_and(|at| now.as_second() - at <= LEFT_BEHIND * duration)
}

/// `None` where there is no annotation, or none that client-go wrote.
pub fn as_lease(name: &str, on: &str, metadata: &ObjectMeta) -> Option<Lease> {
    let json = metadata.annotations.as_ref()?.get(LOCK)?;
    let record: LeaderElectionRecord = serde_json::from_str(json).ok().filter(is_whole)?;
    let spec = LeaseSpec {
        holder_identity: Some(record.holder_identity),
        lease_duration_seconds: Some(record.lease_duration_seconds),
        acquire_time: record.acquire_time.map(|at| MicroTime(at.0)),
        renew_time: record.renew_time.map(|at| MicroTime(at.0)),
        lease_transitions: Some(record.leader_transitions),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(name.into()),
        namespace: Some(NAMESPACE.into()),
        annotations: Some(BTreeMap::from([(LOCK.into(), on.into())])),
        ..ObjectMeta::default()
    };
    Some(Lease { metadata, spec: Some(spec) })
}

/// Without a duration it is no lock.
fn is_whole(record: &LeaderElectionRecord) -> bool {
    record.lease_duration_seconds > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    /// As the scheduler of an old cluster wrote it.
    const WRITTEN: &str = r#"{"holderIdentity":"cp1_4c0714d9","leaseDurationSeconds":15,"acquireTime":"2026-11-22T20:14:06Z",
        "renewTime":"2026-11-22T20:15:26Z","leaderTransitions":3}"#;

    fn annotated(json: &str) -> ObjectMeta {
        ObjectMeta { annotations: Some(BTreeMap::from([(LOCK.into(), json.into())])), ..ObjectMeta::default() }
    }

    fn read(json: &str) -> Option<Lease> {
        as_lease("kube-scheduler", "endpoints", &annotated(json))
    }

    #[test]
    fn a_lock_is_read_as_the_lease_that_it_stands_for() {
        let lease = read(WRITTEN).unwrap();
        assert_eq!((lease.namespace().as_deref(), lease.name_any().as_str()), (Some(NAMESPACE), "kube-scheduler"));
        assert_eq!(lease.annotations().get(LOCK).map(String::as_str), Some("endpoints"));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("cp1_4c0714d9"));
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(3)));
        let time = |at: Option<MicroTime>| at.map(|at| at.0.to_string());
        assert_eq!(time(spec.acquire_time).as_deref(), Some("2026-11-22T20:14:06Z"));
        assert_eq!(time(spec.renew_time).as_deref(), Some("2026-11-22T20:15:26Z"));
    }

    #[test]
    fn what_is_no_lock_of_client_go_is_none() {
        for other in ["", "cp1", "{}", r#"{"holderIdentity":"cp1"}"#, r#"{"leaseDurationSeconds":"15s"}"#] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(as_lease("kube-scheduler", "endpoints", &ObjectMeta::default()), None);
        // A holder that gave it up, and one that was never renewed.
        let released = read(r#"{"holderIdentity":"","leaseDurationSeconds":1,"renewTime":null}"#).unwrap();
        assert_eq!(released.spec.and_then(|s| s.holder_identity).as_deref(), Some(""));
    }

    #[test]
    fn who_may_not_read_locks_goes_on_without_them_and_other_errors_are_errors() {
        let answer = |reason: &str, code: u16| -> kube::Result<()> {
            Err(kube::Error::Api(Status::failure("endpoints is", reason).with_code(code).boxed()))
        };
        assert!(matches!(if_allowed(answer("Forbidden", 403)), Ok(None)));
        assert!(matches!(if_allowed(answer("Unheard", 403)), Ok(None)), "without a reason that is known");
        assert!(if_allowed(answer("InternalError", 500)).is_err());
        assert!(if_allowed(answer("Unauthorized", 401)).is_err());
        assert!(matches!(if_allowed(Ok(())), Ok(Some(()))));
    }

    #[test]
    fn a_lock_that_was_left_behind_is_nobodys() {
        let lease = read(WRITTEN).unwrap();
        let renewed: Timestamp = "2026-11-22T20:15:26Z".parse().unwrap();
        let at = |seconds: i64| is_renewed(&lease, Timestamp::from_second(renewed.as_second() + seconds).unwrap());
        assert_eq!([-5, 2, 150, 151, 86_400].map(at), [true, true, true, false, false]);
        assert!(!is_renewed(&Lease::default(), Timestamp::now()));
    }

    #[test]
    fn only_components_without_a_lease_are_looked_for() {
        let lease = |name: &str| {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            Lease { metadata, spec: None }
        };
        assert_eq!(without_lease(&[lease("kube-scheduler"), lease("cert-manager")]), ["kube-controller-manager"]);
        assert!(without_lease(&COMPONENTS.map(lease)).is_empty());
        assert_eq!(without_lease(&[]), COMPONENTS);
    }
}
