//! From findings to one answer. Unknown is never Pass.

use crate::api::{Check, Finding, FindingResult, Verdict};

/// Any violation fails the run, unless the fault itself is not proven: then nothing that was seen says anything.
pub fn verdict(findings: &[Finding]) -> Verdict {
    let any = |result| findings.iter().any(|f| f.result == result);
    let mut fault = findings.iter().filter(|f| f.check == Check::FaultProven).peekable();
    let proven = fault.peek().is_some() && fault.all(|f| f.result <= FindingResult::Noted);
    match () {
        _ if !proven => Verdict::Inconclusive,
        _ if any(FindingResult::Violated) => Verdict::Fail,
        _ if any(FindingResult::Inconclusive) => Verdict::Inconclusive,
        _ if any(FindingResult::Degraded) => Verdict::Degraded,
        _ => Verdict::Pass,
    }
}

/// What [`joined`] says of a cut, of a rehearsal: whatever was seen, nobody was to be cut.
pub fn not_injected(findings: &[Finding]) -> Finding {
    let seen = joined(findings);
    Finding {
        predicted: "nobody cut, everybody alive".into(),
        observed: format!("a rehearsal cuts nobody; {}", seen.observed),
        result: FindingResult::Violated,
        ..seen
    }
}

/// Several findings of one check as one, with the worst of their results. The order of results is that of severity.
pub fn joined(findings: &[Finding]) -> Finding {
    let worst = findings.iter().max_by_key(|f| f.result);
    // A stray probe that was noted leaves the fault proven.
    let plain = |result| if result == FindingResult::Noted { FindingResult::Held } else { result };
    let mut all = findings.iter().collect::<Vec<_>>();
    all.sort_by_key(|f| std::cmp::Reverse(f.result));
    let join = |of: fn(&Finding) -> String| all.iter().map(|f| of(f)).collect::<Vec<_>>().join("; ");
    Finding {
        check: worst.map_or(Check::FaultProven, |f| f.check),
        subject: "network".into(),
        predicted: "cut pairs silent, every other one alive".into(),
        observed: join(|f| format!("{}: {}", f.subject, f.observed)),
        result: worst.map_or(FindingResult::Inconclusive, |f| plain(f.result)),
        tolerance: worst.and_then(|f| f.tolerance.clone()),
        evidence: worst.map_or("no record".into(), |f| f.evidence.clone()),
    }
}
