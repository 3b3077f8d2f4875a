//! Pods as the API had them and containers as the runtimes of all nodes had them, by owner, name and uid.

use super::{
    Evidence, LAST_LOOK, MAX_UNWATCHED,
    cite::when,
    left_out::left_out,
    timeline::{Seen, Timeline, Track, longest_between, merged},
};
use crate::{
    api::{CONTAINER_READ, CONTAINER_UNREAD, SpanKind, Workloads},
    predict::WorkloadForecast,
    topology::Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, HashMap};

/// Namespace, kind and name of who made a pod; of a bare pod `Pod` and its own name, as a forecast has it.
pub type Owner<'a> = (&'a str, &'a str, &'a str);

/// What one look saw is written down within this, seconds: half of the operator's period.
const ONE_LOOK: f64 = 0.5;

/// A container, and the node whose runtime had it.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    pub node: &'a str,
    pub seen: Seen<'a>,
}

impl<'a> Container<'a> {
    /// Its name in the pod.
    pub fn name(&self) -> &'a str {
        self.seen.span.subject.rsplit('/').next().unwrap_or_default()
    }
    pub fn uid(&self) -> &'a str {
        self.seen.span.uid.as_deref().unwrap_or_default()
    }
}

/// What the API said of one pod.
#[derive(Debug)]
pub struct ApiPod<'a> {
    /// `<namespace>/<pod>`.
    pub subject: &'a str,
    pub uid: &'a str,
    /// Where it is bound; empty until it is.
    pub node: &'a str,
    pub owner: Owner<'a>,
    /// By time.
    pub seen: Vec<Seen<'a>>,
}

impl<'a> ApiPod<'a> {
    fn new(seen: &Seen<'a>) -> Option<Self> {
        let span = seen.span;
        let (namespace, name) = span.subject.split_once('/')?;
        let (kind, owner) = span.detail.as_deref().and_then(|d| d.split_once('/')).unwrap_or(("Pod", name));
        Some(ApiPod {
            subject: &span.subject,
            uid: span.uid.as_deref()?,
            node: "",
            owner: (namespace, kind, owner),
            seen: Vec::new(),
        })
    }
    /// When it was first there, seconds after the cut.
    pub fn first(&self) -> f64 {
        self.seen.iter().map(|s| s.from).fold(f64::INFINITY, f64::min)
    }
    /// When it was last there, seconds after the cut.
    pub fn last(&self) -> f64 {
        self.seen.iter().map(|s| s.to).fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Whether a pod was ready, as far as the API knew.
pub fn is_ready(seen: &Seen<'_>) -> bool {
    seen.span.state.ends_with("/Ready")
}

/// Whether a pod was being deleted.
pub fn is_deleted(seen: &Seen<'_>) -> bool {
    seen.span.state.ends_with("/Terminating")
}

/// Whether a pod was neither being deleted nor had ended for good: either is for ever, and then its controller makes another one.
pub fn is_active(seen: &Seen<'_>) -> bool {
    let state = seen.span.state.as_str();
    !is_deleted(seen) && !state.starts_with("Succeeded/") && !state.starts_with("Failed/")
}

/// What is known of the end of a pod, times in seconds after the cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gone {
    /// It was there when the operator looked last.
    No,
    /// It was not there any more at that time at the latest.
    By(f64),
    /// At that time at the latest it was no longer among those that are looked at: it is gone, or there with other labels.
    Unlisted(f64),
}

pub struct Pods<'a> {
    planned: HashMap<Owner<'a>, Vec<&'a Pod>>,
    planned_uids: HashMap<&'a str, &'a Pod>,
    api: BTreeMap<&'a str, ApiPod<'a>>,
    of_owner: HashMap<Owner<'a>, Vec<&'a str>>,
    of_uid: HashMap<&'a str, Vec<Container<'a>>>,
    of_name: HashMap<&'a str, Vec<Container<'a>>>,
    /// By `<namespace>/<pod>` when the last pod of that name was first there, seconds after the cut.
    newest_of_name: HashMap<&'a str, f64>,
    /// Pods are looked at by labels, their own or their namespaces', so that one may be there and not be looked at any more.
    is_selective: bool,
    /// When the operator went on looking at pods, seconds after the cut.
    looks: Vec<(f64, f64)>,
    unread: Option<String>,
    /// Of the nodes whose containers were read the one at which nobody looked the longest, and until when somebody did.
    first_unlooked: Option<(&'a str, f64)>,
    /// Seconds after the cut.
    heal: f64,
}

impl<'a> Pods<'a> {
    pub fn new(evidence: &Evidence<'a>, timeline: &Timeline<'a>) -> Self {
        let (snapshot, plan) = (evidence.snapshot, evidence.plan);
        let tracks = plan.agents().into_iter().filter_map(|node| timeline.agent(node));
        let looked = tracks.map(|track| (track.node, looked_until(track)));
        let mut pods = Pods {
            planned: HashMap::new(),
            planned_uids: snapshot.pods.iter().map(|p| (p.uid.as_str(), p)).collect(),
            api: BTreeMap::new(),
            of_owner: HashMap::new(),
            of_uid: HashMap::new(),
            of_name: HashMap::new(),
            newest_of_name: HashMap::new(),
            is_selective: is_selective(&evidence.spec.workloads),
            looks: Vec::new(),
            unread: plan.agents().into_iter().find_map(|node| unread(timeline, node)),
            first_unlooked: looked.min_by(|a, b| a.1.total_cmp(&b.1)),
            heal: timeline.heal,
        };
        for pod in &snapshot.pods {
            pods.planned.entry(owner_of(pod)).or_default().push(pod);
        }
        if let Some(operator) = &timeline.operator {
            pods.add_api(operator);
        }
        for track in timeline.agents() {
            pods.add_containers(track);
        }
        pods
    }

    fn add_api(&mut self, operator: &Track<'a>) {
        for seen in operator.of_kind(SpanKind::Pod) {
            let Some(new) = ApiPod::new(seen) else { continue };
            let pod = self.api.entry(new.uid).or_insert(new);
            if let Some(node) = &seen.span.node {
                pod.node = node;
            }
            pod.seen.push(*seen);
        }
        for pod in self.api.values_mut() {
            pod.seen.sort_by(|a, b| a.from.total_cmp(&b.from));
            self.of_owner.entry(pod.owner).or_default().push(pod.uid);
            let newest = self.newest_of_name.entry(pod.subject).or_insert(f64::NEG_INFINITY);
            *newest = newest.max(pod.first());
        }
        // Nodes are listed in the same look as pods, or neither is.
        let looks = operator.of_kind(SpanKind::Node).chain(operator.of_kind(SpanKind::Pod));
        self.looks = merged(looks.map(|s| (s.from, s.to)).collect());
    }

    fn add_containers(&mut self, track: &Track<'a>) {
        for seen in track.of_kind(SpanKind::Container) {
            let span = seen.span;
            let (Some(uid), Some((pod, _))) = (span.uid.as_deref(), span.subject.rsplit_once('/')) else { continue };
            let container = Container { node: track.node, seen: *seen };
            self.of_uid.entry(uid).or_default().push(container);
            self.of_name.entry(pod).or_default().push(container);
        }
    }

    /// Why not every node's containers are known, where that is so. What runs once may run on any node a second time.
    pub fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// Why it is not known what else ran anywhere until then, seconds after the cut, where at some node nobody looked for so long. What was
    /// seen before counts all the same.
    pub fn unlooked(&self, until: f64) -> Option<String> {
        self.first_unlooked.and_then(|(node, looked)| unlooked(node, looked, until, self.heal))
    }

    /// Pods that this owner had when the run was planned.
    pub fn planned<'s>(&'s self, owner: &'s WorkloadForecast) -> &'s [&'a Pod] {
        self.planned.get(&key(owner)).map_or(&[], Vec::as_slice)
    }
    pub fn planned_pod(&self, uid: &str) -> Option<&'a Pod> {
        self.planned_uids.get(uid).copied()
    }
    /// Pods that an owner of this name had when the run was planned.
    pub fn planned_of<'s>(&'s self, owner: Owner<'s>) -> &'s [&'a Pod] {
        self.planned.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// Pods of this owner that the API had at any time.
    pub fn of_owner<'s>(&'s self, owner: &'s WorkloadForecast) -> impl Iterator<Item = &'s ApiPod<'a>> + use<'s, 'a> {
        self.in_api_of(key(owner))
    }
    /// The same of an owner of this name.
    pub fn in_api_of<'s>(&'s self, owner: Owner<'s>) -> impl Iterator<Item = &'s ApiPod<'a>> + use<'s, 'a> {
        let uids = self.of_owner.get(&owner).map_or(&[][..], Vec::as_slice);
        uids.iter().filter_map(|uid| self.api.get(uid))
    }
    /// Every pod that the API had at any time.
    pub fn in_api(&self) -> impl Iterator<Item = &ApiPod<'a>> {
        self.api.values()
    }
    pub fn api_pod(&self, uid: &str) -> Option<&ApiPod<'a>> {
        self.api.get(uid)
    }

    /// Containers of one pod, wherever they ran.
    pub fn containers(&self, uid: &str) -> &[Container<'a>] {
        self.of_uid.get(uid).map_or(&[], Vec::as_slice)
    }
    /// Containers of every pod of this `<namespace>/<pod>`.
    pub fn containers_named(&self, pod: &str) -> &[Container<'a>] {
        self.of_name.get(pod).map_or(&[], Vec::as_slice)
    }

    /// What is known of a pod's end.
    pub fn gone(&self, pod: &ApiPod<'_>) -> Gone {
        let Some(at) = self.next_look(pod.last()) else { return Gone::No };
        let was_deleted = || pod.seen.last().is_some_and(is_deleted);
        // A name is free for another pod only when the one that had it is gone.
        let is_followed = || self.newest_of_name.get(pod.subject).is_some_and(|first| *first > pod.last());
        match !self.is_selective || was_deleted() || is_followed() {
            true => Gone::By(at),
            false => Gone::Unlisted(at),
        }
    }

    /// Whether a pod was seen being deleted, finished or gone before the cut.
    pub fn is_over_before_the_cut(&self, uid: &str) -> bool {
        let Some(pod) = self.api.get(uid) else { return false };
        let before = pod.seen.iter().rfind(|s| s.from + s.from_error <= 0.0);
        let is_gone = || matches!(self.gone(pod), Gone::By(at) if at <= 0.0);
        before.is_some_and(|seen| !is_active(seen) || is_gone())
    }

    /// The longest time between the two, seconds after the cut, for which the operator did not look at pods, seconds.
    pub fn longest_unwatched(&self, from: f64, to: f64) -> f64 {
        longest_between(self.looks.clone(), from, to).1
    }

    /// When the operator looked again after this moment at the latest, seconds after the cut: what it had seen until then and no
    /// longer saw was gone by that time. `None` where it looked no more.
    pub fn next_look(&self, after: f64) -> Option<f64> {
        let (from, to) = self.looks.get(self.looks.partition_point(|(_, to)| *to <= after + ONE_LOOK))?;
        Some(if *from > after { *from } else { (after + LAST_LOOK).min(*to) })
    }
}

fn key(owner: &WorkloadForecast) -> Owner<'_> {
    (&owner.namespace, &owner.kind, &owner.owner)
}

/// Who made a pod that was planned with.
pub fn owner_of(pod: &Pod) -> Owner<'_> {
    let name = pod.owner_name.as_deref().unwrap_or(&pod.name);
    (&pod.namespace, pod.owner_kind.as_deref().unwrap_or("Pod"), name)
}

fn is_selective(workloads: &Workloads) -> bool {
    let selects_all = |selector: &LabelSelector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    };
    !(selects_all(&workloads.namespace_selector) && selects_all(&workloads.label_selector))
}

/// The record of a node that reads its container runtime.
///
/// # Errors
/// With what is missing.
pub fn reader<'c, 'a>(timeline: &'c Timeline<'a>, node: &str) -> Result<&'c Track<'a>, String> {
    let track = timeline.agent(node).ok_or_else(|| format!("no record of {node}"))?;
    if !track.status.reads_containers {
        return Err(format!("{node}: the container runtime is not read"));
    }
    if let Some(left_out) = left_out(track.status) {
        return Err(format!("{node}: its record is full, {left_out}"));
    }
    unread_container(track).map_or(Ok(track), Err)
}

/// That the runtime did not tell when one of its containers ran, and has not since: it may have run at any time, and may be anybody's.
pub fn unread_container(track: &Track<'_>) -> Option<String> {
    let told = track.series(SpanKind::Container, CONTAINER_UNREAD);
    let was_read = |unread: &Seen<'_>| {
        told.iter().any(|s| s.is(CONTAINER_READ) && s.span.id == unread.span.id && s.to >= unread.to)
    };
    let unread = told.iter().find(|s| s.is(CONTAINER_UNREAD) && !was_read(s))?;
    let which = unread.span.detail.as_deref().or(unread.span.id.as_deref()).unwrap_or_default();
    Some(format!("{}: a container was not read: {which}", track.who))
}

/// Why it is not known what ran on a node until then, seconds after the cut: nobody looked for longer than an agent needs to come back.
pub fn unlooked_at(track: &Track<'_>, until: f64, heal: f64) -> Option<String> {
    unlooked(track.node, looked_until(track), until, heal)
}

fn unlooked(node: &str, looked: f64, until: f64, heal: f64) -> Option<String> {
    (looked < until - MAX_UNWATCHED).then(|| match looked.is_finite() {
        true => format!("{node}: its containers were last looked at {}", when(looked, heal)),
        false => format!("{node}: nobody says until when its containers were looked at"),
    })
}

/// Until when a node's containers were looked at, seconds after the cut: of those that run every look says so. Where none does, as far as
/// its record goes. That a runtime answered once says nothing of what came after the last answer.
fn looked_until(track: &Track<'_>) -> f64 {
    let all = || track.of_kind(SpanKind::Container);
    match all().any(|s| s.is("running")) {
        true => all().map(|s| s.to).fold(f64::NEG_INFINITY, f64::max),
        false => track.until.unwrap_or(f64::NEG_INFINITY),
    }
}

fn unread(timeline: &Timeline<'_>, node: &str) -> Option<String> {
    match reader(timeline, node) {
        Err(why) => Some(why),
        // That one is read by now says nothing of any other.
        Ok(track) if track.of_kind(SpanKind::Container).all(|s| s.span.subject == CONTAINER_UNREAD) => {
            Some(format!("{node}: no container was seen"))
        }
        Ok(_) => None,
    }
}
