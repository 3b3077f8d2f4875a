//! Checks that a run did not make, so that nobody takes silence for an answer.

use crate::api::{Check, Finding};

/// Checks that are made only where the cluster's owner lets agents look.
const ON_REQUEST: [Check; 2] = [Check::EtcdLeaders, Check::StoreAgreement];

/// Those of which a judged run has no finding, and what would make it have one.
pub fn not_made(findings: &[Finding]) -> Option<String> {
    let missing = ON_REQUEST.iter().filter(|check| !findings.iter().any(|f| f.check == **check));
    let missing: Vec<String> = missing.map(|check| format!("{check:?}")).collect();
    let why = "agents read etcd only where the chart's agent.etcdCertificates says so, and only on its nodes";
    (!findings.is_empty() && !missing.is_empty()).then(|| format!("Not looked at: {} ({why})", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    #[test]
    fn what_nobody_looked_at_is_named() {
        let mut findings = passing().judge().findings;
        assert_eq!(not_made(&findings), None);
        findings.retain(|f| f.check != Check::StoreAgreement);
        let named = not_made(&findings).unwrap();
        assert!(named.starts_with("Not looked at: StoreAgreement ("), "{named}");
        assert!(named.contains("agent.etcdCertificates"), "{named}");
        assert_eq!(not_made(&[]), None, "nothing was judged");
    }
}
