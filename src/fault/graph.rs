//! Sides of a cut: who still hears whom, and what that leaves them able to do.

use super::{
    Fault,
    enforce::{Kind, enforcer},
    fate,
};
use crate::{
    api::{Prospect, Side},
    topology::Snapshot,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Groups of nodes to which the cut does the same, the isolated side first.
///
/// Nodes with the same edges are one side, so that an isolated rack is one and each rack of a ring is one. etcd is judged on the
/// graph and not on components, because a member that hears a majority may still not hear the leader (theory §7).
pub fn sides(snapshot: &Snapshot, fault: &Fault) -> Vec<Side> {
    let graph = Graph::new(snapshot, fault);
    let mut alike: BTreeMap<Vec<(bool, bool)>, Vec<&str>> = BTreeMap::new();
    for node in &snapshot.nodes {
        alike.entry(fate(&fault.blocks, &node.name).collect()).or_default().push(&node.name);
    }
    let mut sides: Vec<Side> = alike.into_values().map(|nodes| graph.side(&nodes)).collect();
    let first: Vec<(String, String)> = sides.iter().map(|s| (s.name.clone(), s.nodes[0].clone())).collect();
    for side in &mut sides {
        let others = first.iter().filter(|(name, _)| *name != side.name);
        side.hears = others.filter(|(_, node)| graph.hear(&side.nodes[0], node)).map(|(n, _)| n.clone()).collect();
    }
    sides.sort_by_key(|s| (s.name != "isolated", s.racks.clone(), s.nodes.clone()));
    sides
}

/// How many nodes may no longer reach an API server that can write: the most of them, whoever of those that may leads etcd. A node with an
/// API server of its own counts where that one may not write, for it may ask no other; of workers those that reach none that can write for
/// sure, or hear no relay, for kubeadm's ask no API server by itself. Where nobody may win an election, or leaders are deposed again and
/// again, no API server can write for sure, and everybody counts.
pub fn cut_off(snapshot: &Snapshot, fault: &Fault) -> usize {
    let graph = Graph::new(snapshot, fault);
    let counts = graph.possible().into_iter().map(|leader| graph.led_by(&[leader]).cut_off());
    counts.max().unwrap_or_else(|| graph.cut_off())
}

/// Whether each member of etcd, by its node, will have a leader: one that follows or leads.
pub fn members_led(snapshot: &Snapshot, fault: &Fault) -> HashMap<String, Prospect> {
    let graph = Graph::new(snapshot, fault);
    graph.leader.iter().map(|(member, prospect)| ((*member).to_owned(), *prospect)).collect()
}

/// Why etcd may have no leader for long, though a member hears a majority. `members`: their nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Leaderless {
    /// These alone hear a majority, and others whom they hear may have longer logs.
    Unelectable { members: Vec<String> },
    /// These may depose, again and again, a leader that they don't hear.
    Deposed { members: Vec<String> },
}

/// What keeps etcd from a leader for sure, of a cut that leaves somebody a majority.
pub fn leaderless(snapshot: &Snapshot, fault: &Fault) -> Option<Leaderless> {
    let graph = Graph::new(snapshot, fault);
    let (electable, deposers) = (graph.electable(), graph.deposers(&graph.possible()));
    let owned = |members: Vec<&str>| -> Vec<String> { members.into_iter().map(str::to_owned).collect() };
    if graph.may_elect_nobody(&electable) {
        return Some(Leaderless::Unelectable { members: owned(electable) });
    }
    (!deposers.is_empty()).then(|| Leaderless::Deposed { members: owned(deposers) })
}

/// A member that may lead etcd and leaves no API server able to write: none has a member that follows it.
pub fn leader_without_api_server(snapshot: &Snapshot, fault: &Fault) -> Option<String> {
    let graph = Graph::new(snapshot, fault);
    let serves = |leader: &str| graph.led_by(&[leader]).writable.values().any(|prospect| *prospect != Prospect::No);
    graph.possible().into_iter().find(|leader| !serves(leader)).map(str::to_owned)
}

/// Who hears whom, and what etcd and the API servers make of it.
#[derive(Clone)]
struct Graph<'a> {
    snapshot: &'a Snapshot,
    fault: &'a Fault,
    nodes: HashSet<&'a str>,
    /// Whether each member of etcd will have a leader.
    leader: HashMap<&'a str, Prospect>,
    /// Whether each API server can write.
    writable: HashMap<&'a str, Prospect>,
}

impl<'a> Graph<'a> {
    /// What is asked of thousands of nodes is worked out once.
    fn new(snapshot: &'a Snapshot, fault: &'a Fault) -> Self {
        let nodes = snapshot.nodes.iter().map(|n| n.name.as_str()).collect();
        let graph = Graph { snapshot, fault, nodes, leader: HashMap::new(), writable: HashMap::new() };
        graph.led_by(&graph.possible())
    }

    /// The same where one of these leads etcd.
    fn led_by(&self, leaders: &[&str]) -> Self {
        let mut graph = self.clone();
        graph.leader = graph.followed(leaders);
        let servers = self.snapshot.api_servers.iter();
        graph.writable = servers.map(|a| (a.name.as_str(), graph.can_write(&a.name))).collect();
        graph
    }

    fn kind(&self, name: &str) -> Kind {
        match self.nodes.contains(name) {
            true => Kind::Node,
            false => Kind::Endpoint { egress: self.snapshot.endpoints.iter().any(|e| e.name == name && e.egress) },
        }
    }

    /// Whether packets get through both ways.
    fn hear(&self, a: &str, b: &str) -> bool {
        let lost = |from: &str, to: &str| {
            self.fault.cuts(from, to) && enforcer((from, self.kind(from)), (to, self.kind(to))).is_some()
        };
        a == b || (!lost(a, b) && !lost(b, a))
    }

    /// The same for TCP to any of these ports of `b`: a cut of other traffic does not touch it.
    fn hear_tcp(&self, a: &str, b: &str, ports: &[u16]) -> bool {
        self.hear(a, b) || !ports.iter().any(|p| self.fault.ports.hit_tcp(*p))
    }

    /// Every member of etcd: nobody says here which of them are learners, who have no vote. Predictions tell that as an assumption.
    fn voters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.snapshot.etcd.iter().map(|m| m.node.as_str())
    }

    fn peers(&self, a: &str, b: &str) -> bool {
        let ports: Vec<u16> = self.snapshot.etcd.iter().map(|m| m.peer_port).collect();
        self.hear_tcp(a, b, &ports)
    }

    /// Members of etcd that `a` hears both ways, itself included if it is one.
    fn voters_heard(&self, a: &str) -> usize {
        self.voters().filter(|v| self.peers(a, v)).count()
    }

    /// Voters that hear a majority, themselves included: any of them may lead, nobody else can.
    fn has_quorum(&self, voter: &str) -> bool {
        self.voters_heard(voter) > self.snapshot.etcd.len() / 2
    }

    /// Who led when the cluster was looked at, where that is known.
    fn known_leader(&self) -> Option<&'a str> {
        self.snapshot.etcd.iter().find(|m| m.leads == Some(true)).map(|m| m.node.as_str())
    }

    /// Members that hear a majority.
    fn electable(&self) -> Vec<&'a str> {
        self.voters().filter(|v| self.has_quorum(v)).collect()
    }

    /// Members that may lead. With PreVote, a leader that keeps its quorum stays; else any voter with a quorum may follow it.
    fn possible(&self) -> Vec<&'a str> {
        let electable = self.electable();
        let stays = |leader: &&str| electable.contains(leader) && self.deposers(&[*leader]).is_empty();
        match self.known_leader().filter(stays) {
            Some(leader) => vec![leader],
            None => electable,
        }
    }

    /// Whether each member will have a leader where one of these leads (theory §7).
    fn followed(&self, leaders: &[&str]) -> HashMap<&'a str, Prospect> {
        let electable = self.electable();
        let (is_deposed, nobody) = (!self.deposers(leaders).is_empty(), self.may_elect_nobody(&electable));
        let of = |voter: &str| {
            let linked = |all: &[&str]| all.iter().filter(|leader| self.peers(voter, leader)).count();
            match linked(leaders) {
                // Its followers may follow others by turns.
                _ if is_deposed && linked(&electable) > 0 => Prospect::Maybe,
                0 => Prospect::No,
                all if all == leaders.len() && !nobody => Prospect::Yes,
                _ => Prospect::Maybe,
            }
        };
        self.voters().map(|voter| (voter, self.softened(of(voter)))).collect()
    }

    /// Whether there may be no leader although some voter hears a majority. Nobody votes for a log that is shorter than its own, and a
    /// voter that hears a majority may lack what others have; then nobody can win (constrained election).
    fn may_elect_nobody(&self, electable: &[&str]) -> bool {
        let is_electable = |voter: &str| electable.contains(&voter);
        // Where those who may win hear only each other, the longest log of all is one of theirs.
        let is_closed = electable.iter().all(|x| self.voters().filter(|v| self.peers(x, v)).all(is_electable));
        let known = self.known_leader();
        let mut may_have_led = self.voters().filter(|v| known.is_none_or(|leader| leader == *v));
        // Whoever hears the old leader until it steps down has all that it had.
        !is_closed && may_have_led.any(|old| !is_electable(old) && !electable.iter().any(|x| self.peers(x, old)))
    }

    /// Members that may depose one of these leaders again and again: one that asks for votes without PreVote raises the term of those it
    /// hears, and does so for as long as it does not hear the leader that they have.
    fn deposers(&self, leaders: &[&str]) -> Vec<&'a str> {
        let disturbs = |voter: &str, leader: &str| {
            let reaches = |other: &str| other != voter && self.peers(voter, other) && self.peers(other, leader);
            !self.peers(voter, leader) && self.voters().any(reaches)
        };
        let asks_at_once = |voter: &&str| self.snapshot.without_pre_vote.iter().any(|name| name == voter);
        let deposes = |voter: &&str| leaders.iter().any(|leader| disturbs(voter, leader));
        self.voters().filter(asks_at_once).filter(deposes).collect()
    }

    /// What a lossy, flapping or staggered cut denies may get through all the same.
    fn softened(&self, prospect: Prospect) -> Prospect {
        let whole = self.fault.pattern.is_steady();
        if prospect == Prospect::No && !whole { Prospect::Maybe } else { prospect }
    }

    fn has_leader(&self, voter: &str) -> Prospect {
        self.leader.get(voter).copied().unwrap_or_default()
    }

    /// Whether this API server can write: kubeadm's dial the member beside them, others any of etcd's.
    fn can_write(&self, server: &str) -> Prospect {
        if self.voters().any(|v| v == server) {
            return self.has_leader(server);
        }
        let ports: Vec<u16> = self.snapshot.etcd.iter().map(|m| m.client_port).collect();
        let reached = self.voters().filter(|v| self.hear_tcp(server, v, &ports));
        self.softened(reached.map(|v| self.has_leader(v)).max().unwrap_or_default())
    }

    fn writable(&self, server: &str) -> Prospect {
        self.writable.get(server).copied().unwrap_or_default()
    }

    /// What each API server is able to do that a node reaches, directly or by a relay.
    fn reached(&self, node: &str) -> Vec<Prospect> {
        let reached = self.snapshot.api_servers.iter().filter(|a| {
            let ports = [a.address.port()];
            let direct = self.hear_tcp(node, &a.name, &ports);
            let relayed = |e: &str| self.hear_tcp(node, e, &ports) && self.hear_tcp(&a.name, e, &ports);
            direct || self.snapshot.relays().any(|e| relayed(&e.name))
        });
        reached.map(|a| self.writable(&a.name)).collect()
    }

    /// Of a node that runs an API server whether that one can write.
    fn own(&self, node: &str) -> Option<Prospect> {
        self.snapshot.api_servers.iter().find(|a| a.name == node).map(|a| self.writable(&a.name))
    }

    /// Whether a node reaches an API server that can write, its own, directly or by a relay.
    fn served(&self, node: &str) -> Prospect {
        let prospects = self.reached(node);
        let best = prospects.iter().max().copied().unwrap_or_default();
        self.softened(match self.own(node) {
            Some(Prospect::Yes) => Prospect::Yes,
            // Leaders ask their own API server; whether a kubelet asks another one depends on its set-up.
            Some(own) => own.max(best.min(Prospect::Maybe)),
            // A worker of kubeadm's asks the control-plane endpoint, and no API server by itself.
            None if self.hears_no_relay(node) => best.min(Prospect::Maybe),
            // One that can't write may still be asked.
            None if best == Prospect::Yes && prospects.iter().any(|p| *p != Prospect::Yes) => Prospect::Maybe,
            None => best,
        })
    }

    /// Nodes that may reach no API server that can write, as [`cut_off`] counts them.
    fn cut_off(&self) -> usize {
        let is_cut_off = |node: &str| match self.own(node) {
            Some(own) => own != Prospect::Yes,
            None => self.hears_no_relay(node) || !self.reached(node).contains(&Prospect::Yes),
        };
        self.snapshot.nodes.iter().filter(|n| is_cut_off(&n.name)).count()
    }

    fn hears_no_relay(&self, node: &str) -> bool {
        let mut relays = self.snapshot.relays().peekable();
        relays.peek().is_some() && !relays.any(|e| self.hear_tcp(node, &e.name, &e.ports))
    }

    /// Members of etcd that are no nodes and that API servers of these nodes reach.
    fn external_voters(&self, nodes: &[&str]) -> impl Iterator<Item = &str> {
        let ports: Vec<u16> = self.snapshot.etcd.iter().map(|m| m.client_port).collect();
        let external = self.voters().filter(|v| self.snapshot.node(v).is_none());
        external.filter(move |v| nodes.iter().any(|n| self.hear_tcp(n, v, &ports)))
    }

    fn side(&self, nodes: &[&str]) -> Side {
        let inside = |name: &str| nodes.contains(&name);
        let mut racks: Vec<String> = nodes.iter().filter_map(|n| self.snapshot.rack_of(n)).map(str::to_owned).collect();
        racks.sort_unstable();
        racks.dedup();
        let servers = self.snapshot.api_servers.iter().filter(|a| inside(&a.name));
        let api_servers: Vec<String> = servers.map(|a| a.name.clone()).collect();
        let own: Vec<&str> = self.voters().filter(|v| inside(v)).collect();
        let heard = own.first().or(nodes.first()).map_or(0, |first| self.voters_heard(first));
        Side {
            name: self.name(nodes, &racks),
            etcd_members: heard as u32,
            etcd_total: self.snapshot.etcd.len() as u32,
            quorum: own.into_iter().chain(self.external_voters(nodes)).any(|v| self.has_quorum(v)),
            writable: api_servers.iter().map(|s| self.writable(s)).max().unwrap_or_default(),
            served: nodes.iter().map(|n| self.served(n)).min().unwrap_or_default(),
            nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
            hears: Vec::new(),
            racks,
            api_servers,
        }
    }

    /// `everybody` where nobody is cut; `isolated` and `rest` where the cut is an `isolate`; else its racks where they are whole, and else
    /// its nodes.
    fn name(&self, nodes: &[&str], racks: &[String]) -> String {
        if self.fault.blocks.is_empty() {
            return "everybody".into();
        }
        if !self.fault.isolated.is_empty() {
            return if nodes.iter().any(|n| self.fault.isolated.contains(*n)) { "isolated" } else { "rest" }.into();
        }
        let of_racks = self.snapshot.nodes.iter().filter(|n| n.rack.as_ref().is_some_and(|r| racks.contains(r)));
        if of_racks.count() == nodes.len() { racks.join("+") } else { nodes.join("+") }
    }
}
