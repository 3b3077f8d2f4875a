//! EtcdLeaders: never two leaders in one raft term, and after the heal one whom all follow.
//!
//! That at most one leads in a term is what raft rests on (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm",
//! figure 3), so no clock is needed to accuse: whoever led in a term led in it for good. In different terms two may lead for a moment: the
//! old leader notices that it lost its majority only when it checks.

use super::{
    Case, MAX_UNWATCHED, Said,
    cite::{some, when},
    etcd_members::{Voter, voters},
    timeline::{Seen, longest_hole},
};
use crate::{
    api::{Check, ETCD, Finding, FindingResult, RaftRole, RaftState},
    predict::{
        constants::{ETCD_REJOIN, ETCD_STEP_DOWN},
        majority, seconds,
    },
};
use std::collections::BTreeMap;

/// Between two looks of an agent, seconds.
const PERIOD: f64 = 1.0;
/// From one look to the next at the most, seconds, where the agent runs: the period, and an answer that is waited for (2 s,
/// `agent/etcd_member.rs`).
const LOOK: f64 = PERIOD + 2.0;
/// Subject of what is so at the end.
const AFTER: &str = "etcd after the heal";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(voters) = voters(case) else { return Vec::new() };
    let tolerance = format!(
        "none in one term; in different ones {}, and what looks and clocks leave open",
        seconds(step_down(case))
    );
    let said = in_one_term(case, &voters).tolerating(tolerance);
    let one_term = said.about(Check::EtcdLeaders, ETCD, "never two leaders in one term");
    std::iter::once(one_term).chain(after_the_heal(case, &voters)).collect()
}

/// For so long, seconds, a leader that has lost its majority may lead beside another one and be seen to.
fn step_down(case: &Case<'_>) -> f64 {
    ETCD_STEP_DOWN * case.evidence.snapshot.timers.etcd_election.seconds + PERIOD
}

/// A time for which one led. Whoever led in a term at two looks led in it between them: nobody leads again in a term that it has left.
struct Leading<'v, 'c, 'a> {
    voter: &'v Voter<'c, 'a>,
    term: u64,
    first: &'c Seen<'a>,
    last: &'c Seen<'a>,
    /// When it was last seen not to lead in it before that, and first after it, where it was, with the errors of both.
    since: f64,
    until: f64,
}

impl Leading<'_, '_, '_> {
    fn cite(&self) -> String {
        self.voter.cite(self.last)
    }
    /// For how long both led for certain, and at the most, seconds.
    fn overlap(&self, other: &Self) -> (f64, f64) {
        let from = |l: &Self| l.first.from + l.first.from_error;
        let to = |l: &Self| l.last.to - l.last.to_error;
        let certain = to(self).min(to(other)) - from(self).max(from(other));
        (certain, self.until.min(other.until) - self.since.max(other.since))
    }
}

fn leading<'v, 'c, 'a>(voters: &'v [Voter<'c, 'a>]) -> Vec<Leading<'v, 'c, 'a>> {
    let mut all = Vec::new();
    for voter in voters {
        let raft = voter.raft();
        let mut terms: BTreeMap<u64, Vec<&Seen<'a>>> = BTreeMap::new();
        for (state, seen) in raft.iter().filter(|(state, _)| state.role == RaftRole::Leads) {
            terms.entry(state.term).or_default().push(*seen);
        }
        for (term, led) in terms {
            let (Some(first), Some(last)) = (led.first().copied(), led.last().copied()) else { continue };
            let others = || raft.iter().map(|(_, seen)| *seen).chain(voter.down());
            let before = others().filter(|s| s.to <= first.from).map(|s| s.to - s.to_error);
            let after = others().filter(|s| s.from >= last.to).map(|s| s.from + s.from_error);
            let since = before.reduce(f64::max).unwrap_or(first.from - first.from_error);
            let until = after.reduce(f64::min).unwrap_or(last.to + last.to_error);
            all.push(Leading { voter, term, first, last, since, until });
        }
    }
    all.sort_by(|a, b| a.term.cmp(&b.term).then(a.first.from.total_cmp(&b.first.from)));
    all
}

fn in_one_term(case: &Case<'_>, voters: &[Voter<'_, '_>]) -> Said {
    let leading = leading(voters);
    let mut pairs = Vec::new();
    for (i, a) in leading.iter().enumerate() {
        pairs.extend(leading[i + 1..].iter().filter(|b| b.voter.node != a.voter.node).map(|b| (a, b)));
    }
    if let Some((a, b)) = pairs.iter().find(|(a, b)| a.term == b.term) {
        let observed = format!("{} and {} both led in term {}", a.voter.node, b.voter.node, a.term);
        return Said::new(FindingResult::Violated, observed, format!("{}; {}", a.cite(), b.cite()));
    }
    let unseen: Vec<String> = voters.iter().filter_map(|v| unseen(case, v)).collect();
    if !unseen.is_empty() {
        return Said::open(some(&unseen));
    }
    let allowed = step_down(case);
    // A leader that is cut off by turns, or hears half of what it is sent, need not notice.
    let is_steady = case.evidence.plan.pattern.is_steady();
    let who = |a: &Leading<'_, '_, '_>, b: &Leading<'_, '_, '_>| {
        format!("{} in term {} and {} in term {}", a.voter.node, a.term, b.voter.node, b.term)
    };
    let overlaps: Vec<_> = pairs.iter().map(|(a, b)| (a, b, a.overlap(b))).collect();
    let longest = overlaps.iter().filter(|(.., (certain, _))| *certain > 0.0);
    let longest = longest.max_by(|(.., x), (.., y)| x.0.total_cmp(&y.0));
    if let Some((a, b, (certain, _))) = longest.filter(|(.., (certain, _))| is_steady && *certain > allowed) {
        let observed = format!("{} both led for {}", who(a, b), seconds(*certain));
        let late = format!("{observed}: the first did not step down within {}", seconds(allowed));
        return Said::new(FindingResult::Degraded, late, format!("{}; {}", a.cite(), b.cite()));
    }
    // What looks and clocks may add to that.
    let with_looks = allowed + 2.0 * (LOOK + case.allowed_clock_error());
    if let Some((a, b, (_, possible))) = overlaps.iter().find(|(.., (_, p))| is_steady && *p > with_looks) {
        let most = if possible.is_finite() { seconds(*possible) } else { "an unknown time".into() };
        return Said::open(format!("{} may both have led for {most}, by looks and clocks", who(a, b)));
    }
    if let Some((a, b, (certain, _))) = longest {
        let observed = format!("{} both led for {}", who(a, b), seconds(*certain));
        return Said::new(FindingResult::Held, observed, format!("{}; {}", a.cite(), b.cite()));
    }
    let mut told: Vec<String> = leading.iter().map(|l| format!("{} led in term {}", l.voter.node, l.term)).collect();
    told.dedup();
    match leading.first() {
        Some(first) => Said::new(FindingResult::Held, some(&told), first.cite()),
        None => {
            let seen = voters.iter().find_map(|v| Some(v.cite(v.raft().first()?.1)));
            Said::new(FindingResult::Held, "nobody was seen leading", seen.unwrap_or_default())
        }
    }
}

/// Why nobody can say whether this one led, from the cut to the end of watching. One that is not there does not.
fn unseen(case: &Case<'_>, voter: &Voter<'_, '_>) -> Option<String> {
    let raft = voter.raft().into_iter().map(|(_, seen)| seen);
    let hole = longest_hole(raft.chain(voter.down()), 0.0, case.timeline.end);
    (hole > MAX_UNWATCHED).then(|| format!("{}, not looked at for {}", voter.why_unseen(), seconds(hole)))
}

/// One whose last state is known.
struct Latest<'v, 'c, 'a> {
    voter: &'v Voter<'c, 'a>,
    state: RaftState,
    seen: &'c Seen<'a>,
}

fn after_the_heal(case: &Case<'_>, voters: &[Voter<'_, '_>]) -> Vec<Finding> {
    let finding = |said: Said, subject: &str| {
        let (healed, elected) = (seconds(case.forecast.recovery.etcd), seconds(ETCD_REJOIN));
        let said = said.tolerating(format!("{healed} after the heal, and {elected} after an election, to follow"));
        said.about(Check::EtcdLeaders, subject, "one leader, whom all follow")
    };
    let (latest, mut unseen) = latest(case, voters);
    let Some(agreed) = Agreed::of(case, voters, &latest) else {
        unseen.push("no majority was in one term at the end".into());
        return vec![finding(Said::open(some(&unseen)), AFTER)];
    };
    let mut findings = Vec::new();
    for stray in latest.iter().filter(|l| !agreed.has(&l.state)) {
        match strayed(case, stray, &agreed) {
            Ok(said) => findings.push(finding(said, stray.voter.node)),
            Err(why) => unseen.push(why),
        }
    }
    let term = agreed.term;
    let leader = latest.iter().find(|l| l.state.role == RaftRole::Leads && l.state.term == term);
    let said = match leader {
        _ if !unseen.is_empty() => Said::open(some(&unseen)),
        _ if !findings.is_empty() => return findings,
        Some(leader) => {
            let observed = format!("{} leads in term {term}, and all follow", leader.voter.node);
            Said::new(FindingResult::Held, observed, leader.voter.cite(leader.seen))
        }
        None => Said::open(format!("nobody was seen leading in term {term} at the end")),
    };
    findings.push(finding(said, AFTER));
    findings
}

/// What members did when they were last looked at, and why that, or when it was, is not known of others.
fn latest<'v, 'c, 'a>(case: &Case<'_>, voters: &'v [Voter<'c, 'a>]) -> (Vec<Latest<'v, 'c, 'a>>, Vec<String>) {
    let since = case.timeline.heal.max(case.timeline.end - MAX_UNWATCHED);
    let (mut latest, mut unseen) = (Vec::new(), Vec::new());
    for voter in voters {
        // What it did last may have been long before.
        if voter.is_of_unknown_time() {
            unseen.push(format!("{}: its clock was not compared with the operator's", voter.node));
            continue;
        }
        match voter.raft().pop().filter(|(_, seen)| seen.to >= since) {
            Some((state, seen)) => latest.push(Latest { voter, state, seen }),
            None => unseen.push(voter.why_unseen()),
        }
    }
    (latest, unseen)
}

/// The term in which a majority was at the end, and from when to when it was seen there, seconds after the cut: before and after that
/// nobody can say whom a member should have followed.
struct Agreed {
    term: u64,
    from: f64,
    until: f64,
}

impl Agreed {
    fn of(case: &Case<'_>, voters: &[Voter<'_, '_>], latest: &[Latest<'_, '_, '_>]) -> Option<Self> {
        let mut terms: BTreeMap<u64, u32> = BTreeMap::new();
        for member in latest.iter().filter(|l| l.state.role != RaftRole::Asks) {
            *terms.entry(member.state.term).or_default() += 1;
        }
        let enough = majority(u32::try_from(voters.len()).unwrap_or(u32::MAX));
        let (term, _) = terms.into_iter().find(|(_, members)| *members >= enough)?;
        let timed = voters.iter().filter(|v| !v.is_of_unknown_time());
        let first = timed.filter_map(|v| v.raft().into_iter().find(|(state, _)| is_in(state, term)));
        let mut entered: Vec<f64> = first.map(|(_, seen)| seen.from).collect();
        entered.sort_by(f64::total_cmp);
        let mut left: Vec<f64> = latest.iter().filter(|l| is_in(&l.state, term)).map(|l| l.seen.to).collect();
        left.sort_by(|a, b| b.total_cmp(a));
        let last_of_majority = enough as usize - 1;
        let from = entered.get(last_of_majority).copied().unwrap_or(case.timeline.end);
        let until = left.get(last_of_majority).copied().unwrap_or(from);
        Some(Agreed { term, from, until })
    }

    fn has(&self, state: &RaftState) -> bool {
        is_in(state, self.term)
    }
}

/// Whether a member leads or follows in this term.
fn is_in(state: &RaftState, term: u64) -> bool {
    state.term == term && state.role != RaftRole::Asks
}

/// What is said of a member that is not with the others.
///
/// # Errors
/// Where it may still have joined them.
fn strayed(case: &Case<'_>, stray: &Latest<'_, '_, '_>, agreed: &Agreed) -> Result<Said, String> {
    let (heal, end) = (case.timeline.heal, case.timeline.end);
    let raft = stray.voter.raft();
    let first = raft.iter().rev().take_while(|(state, _)| !agreed.has(state)).last();
    let since = first.map_or(end, |(_, seen)| seen.from).max(heal).max(agreed.from);
    let does = match stray.state.role {
        RaftRole::Asks => "asks for votes",
        RaftRole::Leads => "leads",
        RaftRole::Follows => "follows",
    };
    let (term, others, since_when) = (stray.state.term, agreed.term, when(since, heal));
    let observed = format!("{does} in term {term}, the others are in term {others}, from {since_when}");
    // What was seen of it accuses it, not that nobody looked any more.
    if stray.seen.to.min(agreed.until) <= (since + ETCD_REJOIN).max(heal + case.forecast.recovery.etcd) {
        let why = if stray.seen.to < since { "not looked at since" } else { "watching ended too soon" };
        return Err(format!("{} {observed}: {why}", stray.voter.node));
    }
    Ok(Said::new(FindingResult::Violated, observed, stray.voter.cite(stray.seen)))
}
