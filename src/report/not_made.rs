//! Checks that a run did not make, so that nobody takes silence for an answer.

use crate::api::{Check, Finding, NotMade};

/// Checks that are made only where the cluster's owner lets agents look.
const ON_REQUEST: [Check; 2] = [Check::EtcdLeaders, Check::StoreAgreement];
/// What would have them made.
const WHY: &str = "agents read etcd only where the chart's agent.etcdCertificates says so, and only on its nodes";

/// Those of which a judged run has no finding.
pub fn not_made(findings: &[Finding]) -> Vec<NotMade> {
    let is_missing = |check: &Check| !findings.is_empty() && !findings.iter().any(|f| f.check == *check);
    let told = |check: Check| NotMade { check: format!("{check:?}"), reason: WHY.into() };
    ON_REQUEST.into_iter().filter(is_missing).map(told).collect()
}

/// A line for the end of a report; `None` where nothing is missing.
pub fn not_made_line(findings: &[Finding]) -> Option<String> {
    let missing: Vec<String> = not_made(findings).into_iter().map(|m| m.check).collect();
    (!missing.is_empty()).then(|| format!("Not looked at: {} ({WHY})", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    #[test]
    fn what_nobody_looked_at_is_named() {
        let mut findings = passing().judge().findings;
        assert_eq!((not_made(&findings), not_made_line(&findings)), (vec![], None));
        findings.retain(|f| f.check != Check::StoreAgreement);
        let named = not_made(&findings);
        assert_eq!(named.iter().map(|n| n.check.as_str()).collect::<Vec<_>>(), ["StoreAgreement"]);
        assert!(named[0].reason.contains("agent.etcdCertificates"), "{named:?}");
        let line = not_made_line(&findings).unwrap();
        assert!(line.starts_with("Not looked at: StoreAgreement (agents read"), "{line}");
        assert_eq!((not_made(&[]), not_made_line(&[])), (vec![], None), "nothing was judged");
    }
}
