//! LostWrites: after the heal every numbered write that was acknowledged is there, and none that was refused (`api::register`).

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::cite,
    register::{Written, by_side, numbers, shown},
    timeline::longest_hole,
};
use crate::{
    api::{Check, Finding, FindingResult, Numbers, Prospect, Side, SpanKind, register},
    predict::seconds,
};

/// From when the operator asks for a register to when it writes down what it read, seconds at the most: the deadline of one look.
const LOOK: f64 = 2.0;

const PREDICTED: &str = "after the heal all that was acknowledged is there, and nothing that was refused";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let tolerance = format!("none; what was acknowledged in the last {} may be there or not", seconds(LOOK));
    let said = |side: &Side, node: &str| server(case, side, node).unwrap_or_else(Said::open).tolerating(&tolerance);
    by_side(case, Check::LostWrites, |_| PREDICTED.to_owned(), said)
}

/// # Errors
/// With what is missing.
fn server(case: &Case<'_>, side: &Side, node: &str) -> Result<Said, String> {
    let written = Written::by(case, node)?;
    let operator = case.operator()?;
    let heal = case.timeline.heal;
    let healed = heal + LOOK + case.allowed_clock_error();
    let read = operator.series(SpanKind::Reading, node).iter().rfind(|s| s.to > healed);
    let read = read.ok_or_else(|| format!("operator: the register of {node} was not read back after the heal"))?;
    let is_gone = read.is(register::GONE);
    let there = if is_gone { Some(Numbers::default()) } else { numbers(read) };
    let there = there.ok_or_else(|| format!("{}: of no number", cite(operator, read)))?;

    // What is acknowledged while it is read may be in it or not.
    let certain = written.acknowledged_by(read.to - LOOK - read.to_error);
    let (acknowledged, failed, unknown) = (written.of("acknowledged"), written.of("failed"), written.of("unknown"));
    let lost = certain.without(&there);
    let came_true = failed.without(&acknowledged).without(&unknown).both(&there);
    let mut amiss = Vec::new();
    if !lost.is_empty() {
        let why = if is_gone { " (the register is gone)" } else { "" };
        amiss.push(format!("acknowledged and lost: {}{why}", shown(&lost)));
    }
    if !came_true.is_empty() {
        amiss.push(format!("refused and there all the same: {}", shown(&came_true)));
    }
    if !amiss.is_empty() {
        let observed = format!("{node}: {}", amiss.join("; "));
        return Ok(Said::new(FindingResult::Violated, observed, cite(operator, read)));
    }

    if certain.is_empty() {
        return Err(format!("{node}: no numbered write was acknowledged"));
    }
    // What was acknowledged before says nothing of what was while others were cut off.
    if side.writable == Prospect::Yes && !written.is_acknowledged_in_the_cut(case) {
        return Err(format!("{node}: no numbered write was acknowledged in the cut"));
    }
    let hole = longest_hole(written.spans(), 0.0, heal);
    if hole > MAX_UNWATCHED {
        return Err(format!("{node}: no numbered write was tried for {} of the cut", seconds(hole)));
    }
    let observed = format!(
        "{node}: {} acknowledged, {} refused, {} unknown and {} of them there",
        acknowledged.count(),
        failed.count(),
        unknown.count(),
        unknown.both(&there).count()
    );
    Ok(Said::new(FindingResult::Held, observed, cite(operator, read)))
}
