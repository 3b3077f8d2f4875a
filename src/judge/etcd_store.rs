//! StoreAgreement: after the heal every member of etcd holds the same.
//!
//! Compared are hashes at one revision where the same was thrown away (`etcdctl endpoint hashkv` compares nothing else). Where they
//! differ between members of different versions, as in an upgrade, that accuses nobody: versions differ in which of what was deleted
//! they hash (etcd #18274). Where they are the same, so are the stores. What speaks
//! against one member is told of that member, so that the runbook knows whom to rebuild; where nobody can say which one is wrong, it is
//! told of etcd as a whole. A panic over a broken store is in a log and takes no certificate: it is told where nothing was compared as
//! well, and that nothing was.

use super::{
    Case, Said,
    cite::{some, when},
    etcd_members::{Voter, members, voters},
    etcd_sizes::{self, Sizes},
    timeline::Seen,
};
use crate::{
    api::{
        CORRUPT, Check, ETCD, Finding, FindingResult, STORE_ALARMS, STORE_HASH_AFTER, STORE_HASH_BEFORE, STORE_PANIC,
        STORE_RAFT, STORE_UNREAD, StoreHash,
    },
    predict::majority,
};
use std::collections::{BTreeMap, BTreeSet};

const PREDICTED: &str = "every member holds the same";
const TOLERANCE: &str = "none at one revision and one compact revision";

pub fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(voters) = voters(case) else { return not_compared(case) };
    let is_before = |seen: &Seen<'_>| seen.to + seen.to_error + case.allowed_clock_error() <= 0.0;
    let before = compare(&voters, STORE_HASH_BEFORE, is_before);
    // What differs at one revision differs whenever it was hashed, and what was hashed in the cut may have come of it.
    let late = match before {
        Comparison::Differ { .. } => None,
        _ => Some(compare(&voters, STORE_HASH_BEFORE, |_| true)),
    };
    let after = compare(&voters, STORE_HASH_AFTER, |_| true);
    let mut signs = alarms(case, &voters);
    signs.extend(panics(case, &voters));
    let all = [(Some(&before), ", before the cut already"), (late.as_ref(), ""), (Some(&after), "")];
    for (comparison, added) in all.into_iter().filter_map(|(comparison, added)| Some((comparison?, added))) {
        if let Comparison::Differ { signs: differ, .. } = comparison {
            signs.extend(differ.iter().map(|s| Sign { observed: format!("{}{added}", s.observed), ..s.clone() }));
        }
    }
    // In the order of the members, and what is told of etcd first.
    let whom = std::iter::once(ETCD).chain(voters.iter().map(|v| v.node));
    let mut findings: Vec<Finding> = whom.filter_map(|subject| against(subject, &signs)).collect();
    let is_told = findings.iter().any(|f| f.subject == ETCD);
    let sizes = etcd_sizes::compare(&voters);
    match after {
        Comparison::Differ { unseen, .. } => {
            findings.extend(unseen.into_iter().map(|(node, why)| finding(Said::open(why), node)));
        }
        _ if is_told => {}
        Comparison::Same { revision, evidence } => {
            findings.push(finding(same(case, &voters, &before, (revision, evidence), &sizes), ETCD));
        }
        Comparison::Open(why) => findings.push(finding(Said::open(some(&why)), ETCD)),
    }
    // Of whom something else is told, its size is no news.
    let told: BTreeSet<String> = findings.iter().map(|f| f.subject.clone()).collect();
    findings.extend(sizes.outlying.into_iter().filter(|f| !told.contains(&f.subject)));
    findings
}

/// Where no stores were compared: whose panics were seen, and that of the others nobody knows. Without any there is no finding, as
/// nobody was to look.
fn not_compared(case: &Case<'_>) -> Vec<Finding> {
    let members = members(case);
    let signs = panics(case, &members);
    let mut findings: Vec<Finding> = members.iter().filter_map(|m| against(m.node, &signs)).collect();
    if !findings.is_empty() {
        findings.push(finding(Said::open("agents had no certificates of etcd's, so no stores were compared"), ETCD));
    }
    findings
}

fn finding(said: Said, subject: impl Into<String>) -> Finding {
    said.tolerating(TOLERANCE).about(Check::StoreAgreement, subject, PREDICTED)
}

/// What speaks against a member, or against etcd where nobody can say which one.
#[derive(Clone, Debug)]
struct Sign {
    subject: String,
    observed: String,
    evidence: String,
}

/// One finding of all that speaks against one.
fn against(subject: &str, signs: &[Sign]) -> Option<Finding> {
    let of = || signs.iter().filter(move |s| s.subject == subject);
    let join = |text: fn(&Sign) -> &str| of().map(text).collect::<Vec<_>>().join("; ");
    of().next()?;
    let said = Said::new(FindingResult::Violated, join(|s| &s.observed), join(|s| &s.evidence));
    Some(finding(said, subject))
}

/// What came of comparing.
enum Comparison {
    Same {
        revision: i64,
        evidence: String,
    },
    /// With those of whom nobody knows, and why.
    Differ {
        signs: Vec<Sign>,
        unseen: Vec<(String, String)>,
    },
    Open(Vec<String>),
}

/// One member's hash.
struct Hashed<'v, 'c, 'a> {
    voter: &'v Voter<'c, 'a>,
    hash: u32,
    seen: &'c Seen<'a>,
}

impl<'a> Hashed<'_, '_, 'a> {
    /// Of etcd, when it was hashed.
    fn version(&self) -> Option<&'a str> {
        self.voter.told("version", self.seen.to)
    }
}

/// Whether two hashes differ that one version made. One whose version nobody told is taken for the same.
fn contradict(one: &Hashed<'_, '_, '_>, other: &Hashed<'_, '_, '_>) -> bool {
    let is_one_version = || one.version().zip(other.version()).is_none_or(|(own, theirs)| own == theirs);
    one.hash != other.hash && is_one_version()
}

fn are_same(group: &BTreeMap<&str, Hashed<'_, '_, '_>>) -> bool {
    let mut hashes = group.values().map(|h| h.hash);
    hashes.next().is_none_or(|first| hashes.all(|hash| hash == first))
}

/// Why hashes that differ accuse nobody.
fn versions(group: &BTreeMap<&str, Hashed<'_, '_, '_>>) -> String {
    let told: Vec<String> =
        group.values().map(|h| format!("{} {}", h.voter.node, h.version().unwrap_or("unknown"))).collect();
    format!("hashes differ, and so do the versions of etcd, which may hash the same differently: {}", some(&told))
}

/// `counts`: whether a hash is one of those that are compared.
fn compare(voters: &[Voter<'_, '_>], subject: &str, counts: impl Fn(&Seen<'_>) -> bool) -> Comparison {
    // By revision and compact revision, of each member the latest.
    let mut groups: BTreeMap<(i64, i64), BTreeMap<&str, Hashed<'_, '_, '_>>> = BTreeMap::new();
    for voter in voters {
        for seen in voter.seen(subject).iter().filter(|seen| counts(seen)) {
            let Some(StoreHash { hash, revision, compact }) = StoreHash::parse(&seen.span.state) else { continue };
            groups.entry((revision, compact)).or_default().insert(voter.node, Hashed { voter, hash, seen });
        }
    }
    let differs = |group: &&BTreeMap<&str, Hashed<'_, '_, '_>>| {
        group.values().any(|one| group.values().any(|other| contradict(one, other)))
    };
    if let Some(group) = groups.values().filter(differs).max_by_key(|group| group.len()) {
        return differ(voters, group, subject);
    }
    if let Some(group) = groups.values().find(|group| !are_same(group)) {
        return Comparison::Open(vec![versions(group)]);
    }
    match groups.iter().find(|(_, group)| group.len() == voters.len()) {
        Some(((revision, _), group)) => {
            let evidence = group.values().next().map(|h| h.voter.cite(h.seen)).unwrap_or_default();
            Comparison::Same { revision: *revision, evidence }
        }
        None => Comparison::Open(not_comparable(voters, subject)),
    }
}

fn names(members: &[&Hashed<'_, '_, '_>]) -> String {
    members.iter().map(|h| h.voter.node).collect::<Vec<_>>().join(", ")
}

fn differ(voters: &[Voter<'_, '_>], group: &BTreeMap<&str, Hashed<'_, '_, '_>>, subject: &str) -> Comparison {
    let mut sides: BTreeMap<u32, Vec<&Hashed<'_, '_, '_>>> = BTreeMap::new();
    for member in group.values() {
        sides.entry(member.hash).or_default().push(member);
    }
    let enough = majority(u32::try_from(voters.len()).unwrap_or(u32::MAX)) as usize;
    let unseen = voters.iter().filter(|v| !group.contains_key(v.node));
    let mut unseen: Vec<(String, String)> = unseen.map(|v| (v.node.to_owned(), why_no_hash(v, subject))).collect();
    let Some(good) = sides.values().find(|side| side.len() >= enough) else {
        let hold: Vec<String> = sides.iter().map(|(hash, side)| format!("{} {hash:08x}", names(side))).collect();
        let observed = format!("members differ and no majority of {} agrees: {}", voters.len(), hold.join(" | "));
        let evidence = group.values().map(|h| h.voter.cite(h.seen)).collect::<Vec<_>>().join("; ");
        return Comparison::Differ { signs: vec![Sign { subject: ETCD.into(), observed, evidence }], unseen };
    };
    let hash = good[0].hash;
    let others = group.values().filter(|h| h.hash != hash);
    // Only with those of its own version it was compared.
    let alike = |h: &Hashed<'_, '_, '_>| good.iter().copied().filter(|g| contradict(h, g)).collect::<Vec<_>>();
    let (bad, doubtful): (Vec<_>, Vec<_>) = others.partition(|h| !alike(h).is_empty());
    let mut signs: Vec<Sign> = bad.into_iter().map(|h| against_the_others(h, &alike(h))).collect();
    signs.extend(of_another_version(&doubtful));
    unseen.extend(doubtful.into_iter().map(|h| (h.voter.node.to_owned(), versions(group))));
    Comparison::Differ { signs, unseen }
}

/// `good`: those of the majority that it was compared with, one at least.
fn against_the_others(bad: &Hashed<'_, '_, '_>, good: &[&Hashed<'_, '_, '_>]) -> Sign {
    let hold = good.first().map_or(String::new(), |g| format!("{} hold {:08x}", names(good), g.hash));
    let with = good.first().map_or(String::new(), |g| g.voter.cite(g.seen));
    Sign {
        subject: bad.voter.node.to_owned(),
        observed: format!("holds {:08x} where {hold}{}", bad.hash, etcd_sizes::told(bad.voter)),
        evidence: format!("{}; {with}", bad.voter.cite(bad.seen)),
    }
}

/// The first two that contradict each other of those that can't be compared with the majority: which one is wrong nobody can say.
fn of_another_version(doubtful: &[&Hashed<'_, '_, '_>]) -> Option<Sign> {
    let mut pairs = doubtful.iter().enumerate().flat_map(|(i, a)| doubtful[i + 1..].iter().map(move |b| (*a, *b)));
    let (a, b) = pairs.find(|(a, b)| contradict(a, b))?;
    let hold = |h: &Hashed<'_, '_, '_>| format!("{} {:08x}", h.voter.node, h.hash);
    Some(Sign {
        subject: ETCD.into(),
        observed: format!("members of one version differ, and not the majority's: {} | {}", hold(a), hold(b)),
        evidence: format!("{}; {}", a.voter.cite(a.seen), b.voter.cite(b.seen)),
    })
}

/// Whose hash is missing, or that they can't be compared.
fn not_comparable(voters: &[Voter<'_, '_>], subject: &str) -> Vec<String> {
    let without = voters.iter().filter(|v| !v.seen(subject).iter().any(|s| StoreHash::parse(&s.span.state).is_some()));
    let why: Vec<String> = without.map(|v| why_no_hash(v, subject)).collect();
    match why.is_empty() {
        true => vec!["no two looks were at one revision with the same thrown away".into()],
        false => why,
    }
}

fn why_no_hash(voter: &Voter<'_, '_>, subject: &str) -> String {
    match voter.seen(subject).last().filter(|s| s.is(STORE_UNREAD)) {
        Some(seen) => format!("{}: not hashed: {}", voter.node, seen.span.detail.as_deref().unwrap_or("no answer")),
        None if voter.seen(STORE_RAFT).is_empty() => voter.why_unseen(),
        None => format!("{}: not hashed in time", voter.node),
    }
}

fn same(
    case: &Case<'_>,
    voters: &[Voter<'_, '_>],
    before: &Comparison,
    (revision, evidence): (i64, String),
    sizes: &Sizes,
) -> Said {
    let silent = voters.iter().filter(|v| !v.seen(STORE_ALARMS).iter().any(|s| s.to >= case.timeline.heal));
    let silent: Vec<String> = silent.map(|v| format!("{}, and so not its alarms", v.why_unseen())).collect();
    if !silent.is_empty() {
        return Said::open(some(&silent));
    }
    let mut observed = format!("{} members hold the same at revision {revision}", voters.len());
    if let Comparison::Same { revision, .. } = before {
        observed += &format!(", and before the cut at {revision}");
    }
    match &sizes.apart {
        Some(apart) => Said::new(FindingResult::Noted, format!("{observed}; {apart}"), evidence),
        None => Said::new(FindingResult::Held, observed, evidence),
    }
}

/// Members that etcd itself calls corrupt. All members know of each alarm; it is told once.
fn alarms(case: &Case<'_>, voters: &[Voter<'_, '_>]) -> Vec<Sign> {
    let mut nodes: BTreeMap<&str, &str> = BTreeMap::new();
    for voter in voters {
        nodes.extend(voter.seen(STORE_RAFT).iter().filter_map(|s| Some((s.span.id.as_deref()?, voter.node))));
    }
    let mut signs: BTreeMap<&str, Sign> = BTreeMap::new();
    for voter in voters {
        for seen in voter.seen(STORE_ALARMS) {
            let all = seen.span.state.split(", ");
            for id in all.filter_map(|alarm| alarm.strip_prefix(CORRUPT)?.strip_prefix(' ')) {
                let subject = nodes.get(id).copied().unwrap_or(ETCD);
                let since = when(seen.from, case.timeline.heal);
                let observed = format!("alarm {CORRUPT}, seen {since}");
                let sign = || Sign { subject: subject.into(), observed, evidence: voter.cite(seen) };
                signs.entry(subject).or_insert_with(sign);
            }
        }
    }
    signs.into_values().collect()
}

/// Components that could not read what their own member gave them, or the member itself.
fn panics(case: &Case<'_>, voters: &[Voter<'_, '_>]) -> Vec<Sign> {
    let of = |voter: &Voter<'_, '_>| {
        let seen = voter.seen(STORE_PANIC).first()?;
        let (component, at) = (&seen.span.state, when(seen.from, case.timeline.heal));
        let why = seen.span.detail.as_deref().unwrap_or("its store can't be read");
        let observed = format!("{component} panicked {at}: {why}");
        Some(Sign { subject: voter.node.to_owned(), observed, evidence: voter.cite(seen) })
    };
    voters.iter().filter_map(of).collect()
}
