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
/// Subject of what is so at the end.
const AFTER: &str = "etcd after the heal";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(voters) = voters(case) else { return Vec::new() };
    let one_term = in_one_term(case, &voters).about(Check::EtcdLeaders, ETCD, "never two leaders in one term");
    std::iter::once(one_term).chain(after_the_heal(case, &voters)).collect()
}

/// One that led.
struct Leading<'v, 'c, 'a> {
    voter: &'v Voter<'c, 'a>,
    term: u64,
    seen: &'c Seen<'a>,
}

impl Leading<'_, '_, '_> {
    fn cite(&self) -> String {
        self.voter.cite(self.seen)
    }
    /// For how long both led for certain, seconds.
    fn overlap(&self, other: &Self) -> f64 {
        let from = |l: &Self| l.seen.from + l.seen.from_error;
        let to = |l: &Self| l.seen.to - l.seen.to_error;
        to(self).min(to(other)) - from(self).max(from(other))
    }
}

fn leading<'v, 'c, 'a>(voters: &'v [Voter<'c, 'a>]) -> Vec<Leading<'v, 'c, 'a>> {
    let mut all = Vec::new();
    for voter in voters {
        let led = voter.raft().into_iter().filter(|(state, _)| state.role == RaftRole::Leads);
        all.extend(led.map(|(state, seen)| Leading { voter, term: state.term, seen }));
    }
    all.sort_by(|a, b| a.term.cmp(&b.term).then(a.seen.from.total_cmp(&b.seen.from)));
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
    let together = pairs.iter().map(|(a, b)| (a, b, a.overlap(b))).filter(|(.., overlap)| *overlap > 0.0);
    if let Some((a, b, overlap)) = together.max_by(|x, y| x.2.total_cmp(&y.2)) {
        let who = format!("{} in term {} and {} in term {}", a.voter.node, a.term, b.voter.node, b.term);
        let observed = format!("{who} both led for {}", seconds(overlap));
        let evidence = format!("{}; {}", a.cite(), b.cite());
        let allowed = ETCD_STEP_DOWN * case.evidence.snapshot.timers.etcd_election.seconds + PERIOD;
        // A leader that is cut off by turns, or hears half of what it is sent, need not notice.
        if overlap > allowed && case.evidence.plan.pattern.is_steady() {
            let late = format!("{observed}: the first did not step down within {}", seconds(allowed));
            return Said::new(FindingResult::Degraded, late, evidence);
        }
        return Said::new(FindingResult::Held, observed, evidence);
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
    let predicted = "one leader, whom all follow";
    let end = case.timeline.end;
    let (mut latest, mut unseen) = (Vec::new(), Vec::new());
    for voter in voters {
        match voter.raft().pop().filter(|(_, seen)| seen.to >= case.timeline.heal.max(end - MAX_UNWATCHED)) {
            Some((state, seen)) => latest.push(Latest { voter, state, seen }),
            None => unseen.push(voter.why_unseen()),
        }
    }
    let mut terms: BTreeMap<u64, u32> = BTreeMap::new();
    for member in latest.iter().filter(|l| l.state.role != RaftRole::Asks) {
        *terms.entry(member.state.term).or_default() += 1;
    }
    let enough = majority(u32::try_from(voters.len()).unwrap_or(u32::MAX));
    let Some(term) = terms.into_iter().find(|(_, members)| *members >= enough).map(|(term, _)| term) else {
        unseen.push("no majority was in one term at the end".into());
        return vec![Said::open(some(&unseen)).about(Check::EtcdLeaders, AFTER, predicted)];
    };
    let strays = |state: &RaftState| state.term != term || state.role == RaftRole::Asks;
    // From when to when a majority was seen in that term: before and after it nobody can say whom a member should have followed.
    let first = |voter: &Voter<'_, '_>| Some(voter.raft().into_iter().find(|(state, _)| !strays(state))?.1.from);
    let mut entered: Vec<f64> = voters.iter().filter_map(first).collect();
    entered.sort_by(f64::total_cmp);
    let mut left: Vec<f64> = latest.iter().filter(|l| !strays(&l.state)).map(|l| l.seen.to).collect();
    left.sort_by(|a, b| b.total_cmp(a));
    let last_of_majority = enough as usize - 1;
    let moved = entered.get(last_of_majority).copied().unwrap_or(end);
    let until = left.get(last_of_majority).copied().unwrap_or(moved);
    let mut findings = Vec::new();
    for stray in latest.iter().filter(|l| strays(&l.state)) {
        let raft = stray.voter.raft();
        let first = raft.iter().rev().take_while(|(state, _)| strays(state)).last();
        let since = first.map_or(end, |(_, seen)| seen.from).max(case.timeline.heal).max(moved);
        let does = match stray.state.role {
            RaftRole::Asks => "asks for votes",
            RaftRole::Leads => "leads",
            RaftRole::Follows => "follows",
        };
        let since_when = when(since, case.timeline.heal);
        let observed = format!("{does} in term {}, the others are in term {term}, from {since_when}", stray.state.term);
        // What was seen of it accuses it, not that nobody looked any more.
        if stray.seen.to.min(until) - since <= ETCD_REJOIN {
            let why = if stray.seen.to < since { "not looked at since" } else { "watching ended too soon" };
            unseen.push(format!("{} {observed}: {why}", stray.voter.node));
            continue;
        }
        let said = Said::new(FindingResult::Violated, observed, stray.voter.cite(stray.seen));
        findings.push(said.about(Check::EtcdLeaders, stray.voter.node, predicted));
    }
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
    findings.push(said.about(Check::EtcdLeaders, AFTER, predicted));
    findings
}
