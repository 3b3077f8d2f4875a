//! What the agent of a control-plane node saw beside what every agent sees: its API server, the registers through it, and its member of
//! etcd, read with certificates. And what the operator read back of its register.

use crate::journal::{CUT, END, START, container, history, moment, span};
use rackpartition::api::{
    NO_ALARM, RaftRole, RaftState, STORE_ALARMS, STORE_HASH_AFTER, STORE_HASH_BEFORE, STORE_RAFT, Span, SpanKind,
    StoreHash,
    register::{CACHED, CONSISTENT, READ, STALEST, subject},
};

/// The numbers of a register on the side that writes on: 31 was under way when etcd lost a member.
const WRITTEN: &str = "32-749";
/// When the first of these was acknowledged, seconds after the cut.
const WRITES_ON: f64 = 2.4;
/// For so long, seconds after the cut, a cut-off API server answers from its watch cache.
const CACHE_ANSWERS: f64 = 34.0;

/// A control-plane node.
#[derive(Clone, Copy)]
pub struct Master<'a> {
    pub node: &'a str,
    /// Whose register all of them read.
    pub whose: &'a str,
    pub leads_etcd: bool,
    pub is_cut_off: bool,
}

/// State, detail, and from when to when.
type Stretch<'a> = (&'a str, &'a str, f64, f64);

/// When the kubelet of a master that is cut off ends its API server, seconds: eight failed probes 10 s apart, and what it is given to end.
const STARTED_ANEW: f64 = 92.0;

impl Master<'_> {
    pub fn spans(self) -> Vec<Span> {
        let mut spans = self.components();
        spans.extend(self.store());
        spans.extend(self.register());
        spans.extend(self.readings());
        spans
    }

    fn components(self) -> Vec<Span> {
        let mut spans = Vec::new();
        let (health, writes) = match self.is_cut_off {
            true => (
                vec![("ok", START, 0.9), ("failing", 1.9, CUT + 3.0), ("ok", CUT + 4.0, END)],
                vec![("acknowledged", START, -0.3), ("failed", 0.7, CUT + 30.0), ("acknowledged", CUT + 31.0, END)],
            ),
            false => (vec![("ok", START, END)], vec![("acknowledged", START, END)]),
        };
        history(&mut spans, SpanKind::Health, "etcd", &health);
        history(&mut spans, SpanKind::Health, "kube-apiserver", &health);
        let server = format!("kube-system/kube-apiserver-{node}/kube-apiserver", node = self.node);
        let uid = format!("kube-apiserver-{}", self.node);
        match self.is_cut_off {
            // Its kubelet starts it anew: it is not live without etcd.
            true => spans.push(container(&server, &uid, "exited", -900.0, STARTED_ANEW)),
            false => spans.push(container(&server, &uid, "running", -900.0, END)),
        }
        history(&mut spans, SpanKind::Canary, self.node, &writes);
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let subject = format!("kube-system/{component}-{node}/{component}", node = self.node);
            let uid = format!("{component}-{}", self.node);
            // Leaders end when they lose their Lease.
            let (state, ended) = if self.is_cut_off { ("exited", 11.5) } else { ("running", END) };
            spans.push(container(&subject, &uid, state, -900.0, ended));
        }
        spans
    }

    fn store(self) -> Vec<Span> {
        let seen = |subject: &str, state: String, detail: Option<&str>, from: f64, to: f64| Span {
            detail: detail.map(str::to_owned),
            ..span(SpanKind::Store, subject, &state, from, to)
        };
        let term = |role| RaftState { role, term: 2 }.to_string();
        let raft = match (self.is_cut_off, self.leads_etcd) {
            (true, _) => vec![
                (RaftRole::Follows, START, 1.0),
                (RaftRole::Asks, 1.5, CUT + 0.8),
                (RaftRole::Follows, CUT + 1.5, END),
            ],
            (false, true) => vec![(RaftRole::Leads, START, END)],
            (false, false) => vec![(RaftRole::Follows, START, END)],
        };
        let indices = "leader=8e9e05c52164694d committed=9120 applied=9120";
        let mut spans: Vec<Span> = raft
            .into_iter()
            .map(|(role, from, to)| Span {
                id: Some(format!("member-{}", self.node)),
                ..seen(STORE_RAFT, term(role), Some(indices), from, to)
            })
            .collect();
        let sizes = "version=3.6.5 revision=4800 applied=9120 committed=9120 size=41943040 used=23068672";
        spans.push(seen(STORE_ALARMS, NO_ALARM.into(), Some(sizes), START, END));
        // Once while nodes are armed, and twice after the heal.
        for (subject, revision, at) in [
            (STORE_HASH_BEFORE, 4000, -15.0),
            (STORE_HASH_AFTER, 4711, CUT + 6.0),
            (STORE_HASH_AFTER, 4711, CUT + 26.0),
        ] {
            let hash = StoreHash { hash: 0x0a1b_2c3d, revision, compact: 3000 };
            spans.push(seen(subject, hash.to_string(), None, at, at));
        }
        spans
    }

    /// Its own numbered writes, one a second.
    fn register(self) -> Vec<Span> {
        let before = ("acknowledged", "1-30", START + 0.02, -0.98);
        let stretches: Vec<Stretch<'_>> = match self.is_cut_off {
            true => vec![
                before,
                ("unknown", "31-330", 2.0, CUT - 1.0),
                ("failed", "331 409 Conflict", CUT + 1.0, CUT + 1.0),
                ("acknowledged", "332-449", CUT + 2.0, END),
            ],
            false => vec![before, ("unknown", "31", 2.0, 2.0), ("acknowledged", WRITTEN, WRITES_ON, END)],
        };
        let of = |(state, detail, from, to): Stretch<'_>| Span {
            id: Some(detail.chars().take_while(char::is_ascii_digit).collect()),
            ..told(SpanKind::Register, self.node, (state, detail, from, to))
        };
        stretches.into_iter().map(of).collect()
    }

    /// What it read of one register by its own API server, both ways.
    fn readings(self) -> Vec<Span> {
        let answers = |last: f64| match self.is_cut_off {
            true => vec![
                (READ, "n=30", START + 0.5, last),
                ("failed", "no answer in time", last + 1.0, CUT - 0.5),
                (READ, "n=749", CUT + 0.5, END),
            ],
            false => vec![(READ, "n=749", START + 0.5, END)],
        };
        let mut spans = Vec::new();
        for (way, last, asked) in [(CONSISTENT, -0.5, -0.5), (CACHED, CACHE_ANSWERS, 0.5)] {
            let subject = subject(self.whose, way);
            spans.extend(answers(last).into_iter().map(|stretch| told(SpanKind::Reading, &subject, stretch)));
            let detail = format!("n=30 next=32 acknowledged={:.6}", moment(WRITES_ON).wall.0);
            let stalest = told(SpanKind::Reading, &subject, (READ, detail.as_str(), asked, asked));
            spans.push(Span { id: Some(STALEST.into()), ..stalest });
        }
        spans
    }

    /// What the operator read of its register.
    pub fn read_back(self) -> Span {
        let there = if self.is_cut_off { "1-30,332-449".to_owned() } else { format!("1-30,{WRITTEN}") };
        told(SpanKind::Reading, self.node, (READ, there.as_str(), START, END))
    }
}

fn told(kind: SpanKind, subject: &str, (state, detail, from, to): Stretch<'_>) -> Span {
    Span { detail: Some(detail.into()), ..span(kind, subject, state, from, to) }
}
