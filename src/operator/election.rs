//! Leader election over a Lease, as client-go does it, with a deadline of our own.
//!
//! No crate for kube 5 gives leadership up by its own clock when the API can't be reached, which is just when it matters here.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Name of the Lease in the operator's namespace.
pub const LEASE: &str = "rackpartition-operator";
/// client-go's defaults (`component-base/config/v1alpha1/defaults.go`).
const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// A replica that should stand aside runs all the same once nobody has led for this long: a run must not hang because the
/// replica on the better side died.
const STAND_ASIDE_FOR: Duration = Duration::from_secs(30);

/// Why leadership ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Given away on purpose; the Lease is free.
    Released,
    /// Not renewed in time, or taken.
    Lost,
}

/// One candidate.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    /// The record last seen and when, by this process's own clock: what others write of their clocks is never trusted.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Election { leases: Api::namespaced(client, namespace), identity: identity.into(), seen: None }
    }

    /// Returns when this candidate leads. `stands_aside` is asked before each attempt.
    pub async fn win<F: Future<Output = bool>>(&mut self, stands_aside: impl Fn() -> F) {
        let mut free_since = None;
        loop {
            match timeout(RENEW_DEADLINE / 2, self.look()).await {
                Ok(Ok(Some(lease))) => {
                    let since = *free_since.get_or_insert_with(Instant::now);
                    if !stands_aside().await || since.elapsed() > STAND_ASIDE_FOR {
                        match timeout(RENEW_DEADLINE / 2, self.write(lease, false)).await {
                            Ok(Ok(())) => return,
                            Ok(Err(error)) => tracing::debug!(%error, "somebody else was faster"),
                            Err(_) => tracing::debug!("no answer in time"),
                        }
                    }
                }
                Ok(Ok(None)) => free_since = None,
                Ok(Err(error)) => tracing::debug!(%error, "failed to read the Lease"),
                Err(_) => tracing::debug!("failed to read the Lease in time"),
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews until `release` resolves, or until renewing has failed for the renew deadline.
    pub async fn hold(&mut self, release: impl Future<Output = ()>) -> Ended {
        let mut release = std::pin::pin!(release);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = &mut release => {
                    // Where this fails, the others wait for the Lease to run out.
                    self.give_up().await;
                    return Ended::Released;
                }
                () = sleep(RETRY_PERIOD) => {}
            }
            let before = Instant::now();
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left.min(RENEW_DEADLINE / 2), self.renew(false)).await {
                Ok(Ok(true)) => renewed = before,
                Ok(Ok(false)) => return Ended::Lost,
                Ok(Err(error)) => tracing::warn!(%error, "failed to renew the Lease"),
                Err(_) => tracing::warn!("failed to renew the Lease in time"),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return Ended::Lost;
            }
        }
    }

    /// Frees the Lease if this candidate holds it.
    pub async fn give_up(&mut self) {
        let _ = timeout(RENEW_DEADLINE / 2, self.renew(true)).await;
    }

    /// The Lease as it is, where it may be taken; None while somebody else holds it.
    async fn look(&mut self) -> kube::Result<Option<Lease>> {
        let lease = self.read().await?;
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return Ok(Some(lease));
        }
        let lasts = Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().max(1) as u64);
        match &self.seen {
            Some((seen, at)) if *seen == spec => Ok((at.elapsed() > lasts).then_some(lease)),
            _ => {
                self.seen = Some((spec, Instant::now()));
                Ok(None)
            }
        }
    }

    async fn read(&self) -> kube::Result<Lease> {
        if let Some(lease) = self.leases.get_opt(LEASE).await? {
            return Ok(lease);
        }
        let metadata = ObjectMeta { name: Some(LEASE.into()), ..Default::default() };
        self.leases.create(&PostParams::default(), &Lease { metadata, spec: None }).await
    }

    /// Whether this candidate still held the Lease.
    async fn renew(&self, release: bool) -> kube::Result<bool> {
        let lease = self.read().await?;
        let held = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()) == Some(&self.identity);
        if held {
            self.write(lease, release).await?;
        }
        Ok(held)
    }

    /// Replaces the Lease at the version it was read in, so that of two candidates one fails.
    async fn write(&self, lease: Lease, release: bool) -> kube::Result<()> {
        let old = lease.spec.clone().unwrap_or_default();
        let mine = old.holder_identity.as_deref() == Some(self.identity.as_str());
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(if release { String::new() } else { self.identity.clone() }),
            lease_duration_seconds: Some(if release { 1 } else { LEASE_DURATION.as_secs() as i32 }),
            acquire_time: if mine { old.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(old.lease_transitions.unwrap_or_default() + i32::from(!mine)),
            renew_time: Some(now),
            ..old
        };
        self.leases.replace(LEASE, &PostParams::default(), &Lease { spec: Some(spec), ..lease }).await.map(drop)
    }
}
