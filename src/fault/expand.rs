//! Constructors of cuts, expanded to directed edges.

use super::{
    Block, Refusal,
    enforce::{enforcer, kind},
    pattern::{Pattern, pattern},
    select::{Members, Resolver},
    shape,
    traffic::{Ports, ports},
};
use crate::{
    api::{Cut, Edge, RackPartitionSpec, Selection},
    topology::{Endpoint, Snapshot},
};
use std::collections::{BTreeMap, BTreeSet};

/// A cut with every name resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    pub blocks: Vec<Block>,
    /// The shape in a few words: `isolate r1`, `bridge r1 | r3`.
    pub title: String,
    /// Whoever an `isolate` names.
    pub isolated: Members,
    /// Members of the isolated side that drop whatever does not come from it, known or not.
    pub sealed: bool,
    /// Each role of the cut and the node, or the racks, it stood for.
    pub resolved_roles: BTreeMap<String, String>,
    /// What was decided because the spec does not say, in words.
    pub assumptions: Vec<String>,
    /// The packets of a cut edge that are hit.
    pub ports: Ports,
    /// What becomes of them, and when.
    pub pattern: Pattern,
    /// Of a rehearsal the cut that it is for: nobody makes it, and every guard is asked about it.
    pub rehearsed: Option<Box<Fault>>,
}

impl Fault {
    /// Whether `to` no longer hears `from`.
    pub fn cuts(&self, from: &str, to: &str) -> bool {
        self.blocks.iter().any(|b| b.cuts(from, to))
    }
    /// What guards are asked about: of a rehearsal the cut that it is for, so that it is refused where the run would be.
    pub fn meant(&self) -> &Fault {
        self.rehearsed.as_deref().unwrap_or(self)
    }
    /// The cut that is meant, whole from its beginning to its end: the worst that one can be that loses packets, comes and goes, or heals
    /// rack by rack.
    pub fn whole(&self) -> Fault {
        Fault { pattern: Pattern::default(), ..self.meant().clone() }
    }
    /// The same run in which nobody is cut: its windows come and go over tables without rules, and of nobody is anything else expected
    /// than of a cluster that is left alone.
    fn rehearsal(self) -> Fault {
        Fault {
            title: format!("rehearsal of {}", self.title),
            resolved_roles: self.resolved_roles.clone(),
            ports: self.ports.clone(),
            pattern: self.pattern.clone(),
            rehearsed: Some(Box::new(self)),
            ..Fault::default()
        }
    }
    /// Number of directed edges. Blocks are disjoint, so no pair is counted twice.
    pub fn edges(&self) -> usize {
        self.blocks.iter().map(|b| b.from.len() * b.to.len()).sum()
    }
}

/// Expands a spec over a snapshot to directed edges, roles resolved. A rehearsal has none, and is refused where its cut would be.
///
/// # Errors
/// A [`Refusal`] where a name stands for nothing, or a shape has no exact form.
pub fn expand(spec: &RackPartitionSpec, snapshot: &Snapshot) -> Result<Fault, Refusal> {
    if snapshot.nodes.iter().all(|n| n.rack.is_none()) {
        return Err(Refusal::NoSuchLabel { label: snapshot.rack_label.clone() });
    }
    let mut resolver = Resolver::new(snapshot);
    let fault = shape_of(&spec.cut, &mut resolver)?;
    if fault.edges() == 0 {
        return Err(Refusal::Empty { cut: fault.title });
    }
    let rejects = spec.effect.reject.is_some();
    let assumptions = fault
        .assumptions
        .iter()
        .cloned()
        .chain(egress_modes(&fault, rejects, snapshot))
        .chain(between_endpoints(&fault, snapshot))
        .collect();
    let ports = ports(&spec.traffic, snapshot);
    if !spec.traffic.is_empty() && ports.is_everything() {
        return Err(Refusal::NoSuchTraffic);
    }
    if let Some(block) = fault.blocks.iter().find(|b| !is_enforced(b, &ports, snapshot)) {
        let (from, to) =
            (block.from.first().cloned().unwrap_or_default(), block.to.first().cloned().unwrap_or_default());
        // The other direction of a full cut may be nobody's to drop.
        let other_way = |b: &Block| b.from == block.to && b.to == block.from && is_enforced(b, &ports, snapshot);
        if !fault.blocks.iter().any(other_way) {
            return Err(Refusal::Unenforced { from, to });
        }
    }
    let pattern = pattern(spec, || dropping(&fault, snapshot))?;
    let fault = Fault { assumptions, resolved_roles: resolver.roles, ports, pattern, ..fault };
    Ok(if spec.rehearsal { fault.rehearsal() } else { fault })
}

/// Racks with a node that drops something.
fn dropping<'a>(fault: &Fault, snapshot: &'a Snapshot) -> BTreeSet<&'a str> {
    let kinds = |names: &Members| names.iter().map(|n| (n.clone(), kind(snapshot, n))).collect::<Vec<_>>();
    let mut dropping = BTreeSet::new();
    for block in &fault.blocks {
        let (from, to) = (kinds(&block.from), kinds(&block.to));
        for ((from, from_kind), (to, to_kind)) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
            let who = enforcer((from.as_str(), *from_kind), (to.as_str(), *to_kind));
            dropping.extend(who.and_then(|node| snapshot.rack_of(node)));
        }
    }
    dropping
}

/// Whether somebody drops each of its packets' kind for at least one pair: a node what it receives, or what it sends to an
/// endpoint where that is asked and more than pods' traffic is meant.
fn is_enforced(block: &Block, ports: &Ports, snapshot: &Snapshot) -> bool {
    // Of what leaves a node, nobody looks at pods' traffic alone.
    let looks_at_egress = ports.is_everything() || !ports.ports.is_empty();
    let kind = |name| (name, kind(snapshot, name));
    let enforced = |from, to| enforcer(kind(from), kind(to)).is_some_and(|who| who == to || looks_at_egress);
    block.to.iter().any(|to| block.from.iter().any(|from| enforced(from.as_str(), to.as_str())))
}

fn is_heard_by_nodes(block: &Block, snapshot: &Snapshot) -> bool {
    block.to.iter().any(|name| snapshot.node(name).is_some())
}

/// What becomes of packets to those without an agent, who can't drop them: in words, for the senders notice the difference.
fn egress_modes(fault: &Fault, rejects: bool, snapshot: &Snapshot) -> Vec<String> {
    let reached = snapshot.endpoints.iter().filter(|e| fault.blocks.iter().any(|b| b.to.contains(&e.name)));
    let is_dropped =
        |e: &Endpoint| fault.blocks.iter().any(|b| b.from.contains(&e.name) && is_heard_by_nodes(b, snapshot));
    let mode = |e: &Endpoint| match (e.egress, rejects) {
        (false, _) if !is_dropped(e) => format!(
            "what nodes send to {} arrives there, and so do the answers: nobody drops anything (endpoints[].egress would)",
            e.name
        ),
        (false, _) => format!(
            "what nodes send to {} still arrives there; what comes back is dropped, which ends every conversation (endpoints[].egress stops both)",
            e.name
        ),
        (true, false) => format!(
            "what nodes send to {} is dropped at postrouting, after DNAT: silence for TCP and for pods; programs in a node's own network get EPERM for datagrams",
            e.name
        ),
        (true, true) => format!(
            "what nodes send to {} is rejected at output and forward, after DNAT: the sender is told at once",
            e.name
        ),
    };
    reached.map(mode).collect()
}

/// Edges that nobody can cut, as neither end has an agent: members of an external etcd go on hearing each other.
fn between_endpoints(fault: &Fault, snapshot: &Snapshot) -> Option<String> {
    let endpoints = |members: &Members| -> Vec<&str> {
        snapshot.endpoints.iter().map(|e| e.name.as_str()).filter(|name| members.contains(*name)).collect()
    };
    let mut ends = fault.blocks.iter().map(|b| [endpoints(&b.from), endpoints(&b.to)]);
    let [from, to] = ends.find(|ends| ends.iter().all(|names| !names.is_empty()))?.map(|names| names.join(", "));
    Some(format!(
        "{from} and {to} go on hearing each other: they are no nodes, so nobody is there to drop their packets"
    ))
}

fn shape_of(cut: &Cut, resolver: &mut Resolver<'_>) -> Result<Fault, Refusal> {
    let none = |_: usize, _: usize| false;
    if let Some(isolate) = &cut.isolate {
        let isolated = resolver.members(&isolate.selection)?;
        let rest = &resolver.everybody() - &isolated;
        let title = format!("isolate {}", said(&isolate.selection, resolver));
        let blocks = shape::between(&[isolated.clone(), rest], none);
        return Ok(Fault { blocks, title, isolated, sealed: isolate.outside, ..Fault::default() });
    }
    if let Some(split) = &cut.split {
        let mut groups = disjoint(&split.groups, resolver)?;
        let title = format!("split {}", joined(&split.groups, resolver, " | "));
        // A group of endpoints alone would be cut from everybody, which nobody asked for.
        groups.extend(nodes_left_over(&groups, resolver)?);
        return Ok(Fault { blocks: shape::between(&groups, none), title, ..Fault::default() });
    }
    if let Some(bridge) = &cut.bridge {
        let mut groups = disjoint(&bridge.groups, resolver)?;
        let mut title = format!("bridge {}", joined(&bridge.groups, resolver, " | "));
        if let Some(selection) = &bridge.bridge {
            title = format!("{title} over {}", said(selection, resolver));
            let middle = resolver.members(selection)?;
            groups.push(middle);
            check_disjoint(&groups)?;
            if let Some(name) = left_over(&groups, resolver).first() {
                return Err(unplaced(name));
            }
            groups.pop();
        } else if nodes_left_over(&groups, resolver)?.is_none() {
            return Err(Refusal::NoBridge);
        }
        return Ok(Fault { blocks: shape::between(&groups, none), title, ..Fault::default() });
    }
    if let Some(ring) = &cut.ring {
        let (groups, assumptions) = all_or_racks(&ring.members, &BTreeSet::new(), resolver)?;
        let hears = shape::ring(groups.len())?;
        let title = format!("ring of {}", groups.len());
        return Ok(Fault { blocks: shape::between(&groups, hears), title, assumptions, ..Fault::default() });
    }
    if let Some(star) = &cut.star {
        let hub = resolver.members(&star.hub)?;
        let (mut groups, assumptions) = all_or_racks(&star.members, &hub, resolver)?;
        groups.insert(0, hub);
        check_disjoint(&groups)?;
        let title = format!("star around {}", said(&star.hub, resolver));
        return Ok(Fault { blocks: shape::between(&groups, shape::star), title, assumptions, ..Fault::default() });
    }
    if let Some(chain) = &cut.chain {
        let (groups, assumptions) = all_or_racks(&chain.members, &BTreeSet::new(), resolver)?;
        let title = format!("chain of {}", groups.len());
        return Ok(Fault { blocks: shape::between(&groups, shape::chain), title, assumptions, ..Fault::default() });
    }
    match cut.edges.as_deref() {
        None | Some([]) => Err(Refusal::NoConstructor),
        Some(edges) => of_edges(edges, resolver),
    }
}

fn of_edges(edges: &[Edge], resolver: &mut Resolver<'_>) -> Result<Fault, Refusal> {
    let mut blocks = Vec::new();
    for edge in edges {
        let (from, to) = (resolver.members(&edge.from)?, resolver.members(&edge.to)?);
        let block = Block { from, to };
        // Beside others it would go unnoticed.
        if shape::normalised(std::slice::from_ref(&block)).is_empty() {
            return Err(Refusal::Empty {
                cut: format!("edge {}→{}", said(&edge.from, resolver), said(&edge.to, resolver)),
            });
        }
        if edge.both {
            blocks.push(Block { from: block.to.clone(), to: block.from.clone() });
        }
        blocks.push(block);
    }
    let arrow = |e: &Edge| if e.both { "↔" } else { "→" };
    let words = edges.iter().map(|e| format!("{}{}{}", said(&e.from, resolver), arrow(e), said(&e.to, resolver)));
    let title = format!("edges {}", words.collect::<Vec<_>>().join(", "));
    Ok(Fault { blocks: shape::normalised(&blocks), title, ..Fault::default() })
}

/// Given members, or else every rack but those that `hub` is in. Whoever is in none of them hears everybody, which is for
/// endpoints only: a node that is forgotten would be a bridge that nobody asked for.
fn all_or_racks(
    given: &[Selection],
    hub: &Members,
    resolver: &mut Resolver<'_>,
) -> Result<(Vec<Members>, Vec<String>), Refusal> {
    let groups = match given {
        [] => {
            let racks = resolver.snapshot.racks().into_iter().map(|r| resolver.of_racks(&BTreeSet::from([r.into()])));
            racks.filter(|members| members.is_disjoint(hub)).collect()
        }
        given => disjoint(given, resolver)?,
    };
    let left = &left_over(&groups, resolver) - hub;
    if let Some(node) = left.iter().find(|m| resolver.snapshot.node(m).is_some()) {
        return Err(unplaced(node));
    }
    let assumed = left.iter().map(|e| format!("{e} is in no rack: everybody goes on hearing it"));
    Ok((groups, assumed.collect()))
}

fn disjoint(selections: &[Selection], resolver: &mut Resolver<'_>) -> Result<Vec<Members>, Refusal> {
    let groups = selections.iter().map(|s| resolver.members(s)).collect::<Result<Vec<_>, _>>()?;
    check_disjoint(&groups)?;
    Ok(groups)
}

fn check_disjoint(groups: &[Members]) -> Result<(), Refusal> {
    for (i, group) in groups.iter().enumerate() {
        if let Some(name) = groups[i + 1..].iter().find_map(|other| group.intersection(other).next()) {
            return Err(Refusal::Overlap { name: name.clone() });
        }
    }
    Ok(())
}

fn left_over(groups: &[Members], resolver: &Resolver<'_>) -> Members {
    groups.iter().fold(resolver.everybody(), |left, group| &left - group)
}

/// Whoever is in no group, where a node is among them.
///
/// # Errors
/// [`Refusal::Unplaced`] where only endpoints are.
fn nodes_left_over(groups: &[Members], resolver: &Resolver<'_>) -> Result<Option<Members>, Refusal> {
    let rest = left_over(groups, resolver);
    let has_node = rest.iter().any(|m| resolver.snapshot.node(m).is_some());
    match rest.first() {
        Some(endpoint) if !has_node => Err(unplaced(endpoint)),
        first => Ok(first.is_some().then_some(rest)),
    }
}

fn unplaced(name: &str) -> Refusal {
    Refusal::Unplaced { name: name.to_owned() }
}

/// A selection in a few words.
fn said(selection: &Selection, resolver: &mut Resolver<'_>) -> String {
    let mut words: Vec<String> = resolver.racks(selection).unwrap_or_default().into_iter().collect();
    words.extend(selection.nodes.iter().cloned());
    words.extend(selection.endpoints.iter().cloned());
    words.join("+")
}

fn joined(selections: &[Selection], resolver: &mut Resolver<'_>, between: &str) -> String {
    selections.iter().map(|s| said(s, resolver)).collect::<Vec<_>>().join(between)
}
