//! Reads the registers of the control-plane nodes back, so that what was acknowledged and refused there can be compared with what is
//! kept (`api::register`).
//!
//! The operator writes none: after a fail-over two of it may write for a while, and nobody could tell whose number is whose.

use super::{
    context::Context,
    observer::{Record, every, look},
};
use crate::{
    api::{
        SpanKind,
        register::{self, Register},
    },
    fault::RunPlan,
    observe::Observation,
};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use std::{sync::Arc, time::Duration};

/// Between two rounds. What counts is the last one after the heal.
const PERIOD: Duration = Duration::from_secs(3);

/// Reads until dropped, without a version: so the answer takes a quorum of etcd.
pub async fn read_back(ctx: Arc<Context>, plan: RunPlan, record: Record) {
    let leases = ctx.canary_leases();
    let mut ticks = every(PERIOD);
    loop {
        ticks.tick().await;
        for node in plan.registers() {
            let found = look("a register", leases.get_opt(&register::name(&plan.run_uid, node))).await;
            if let Some(seen) = found.and_then(|lease| seen(node, lease.as_ref())) {
                record.observe(SpanKind::Reading, seen);
            }
        }
    }
}

/// `None` where it is there and is no register: then nobody knows what it held.
fn seen(node: &str, lease: Option<&Lease>) -> Option<Observation> {
    match lease {
        None => Some(Observation::new(node, register::GONE)),
        Some(lease) => {
            let numbers = Register::of(lease.annotations())?.numbers;
            Some(Observation::new(node, register::READ).detail(numbers.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Numbers;

    #[test]
    fn what_a_register_holds_is_told() {
        let told = |lease: Option<&Lease>| seen("cp1", lease).map(|o| (o.state, o.detail));
        assert_eq!(told(None), Some((register::GONE.into(), None)));
        let mut lease = Lease::default();
        assert_eq!(told(Some(&lease)), None);
        let register = Register { numbers: Numbers::parse("1-57,60").unwrap(), acknowledged: Vec::new() };
        lease.annotations_mut().extend(register.annotations());
        assert_eq!(told(Some(&lease)), Some((register::READ.into(), Some("1-57,60".into()))));
    }
}
