//! What components told by Events while a run went on: which of the reasons that matter in a cut, of what and how often. For people who
//! read the record, and of no more namespaces than the cluster's owner names. No check rests on it: Events are told at best effort, joined,
//! and forgotten after an hour.

use super::{
    context::Context,
    observer::{Record, every, look},
};
use crate::{api::SpanKind, observe::Observation};
use k8s_openapi::{api::events::v1::Event, jiff::Timestamp};
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Events stay for an hour (`--event-ttl`), so nothing is missed between two looks, and every look costs the API a list of all.
const PERIOD: Duration = Duration::from_secs(15);
/// Of one namespace no more than these are read at a look.
const PAGE: u32 = 500;
/// No more than these are written down: the record is bounded, and checks need it.
const WRITTEN: usize = 100;
/// One of its kind is one span, however long it is told of.
const ALL_THE_RUN: Duration = Duration::from_secs(24 * 3600);
/// As components call them: the kubelet (`pkg/kubelet/events`), the controllers of nodes, taints and attached volumes, the scheduler, and
/// client-go's elections.
const REASONS: [&str; 12] = [
    "BackOff",
    "Evicted",
    "FailedAttachVolume",
    "FailedMount",
    "FailedScheduling",
    "Killing",
    "LeaderElection",
    "NodeNotReady",
    "NodeReady",
    "Rebooted",
    "TaintManagerEviction",
    "Unhealthy",
];

/// Looks until dropped, or not at all where no namespace is named.
pub async fn watch_events(ctx: Arc<Context>, record: Record) {
    let namespaces = ctx.settings.event_namespaces();
    if namespaces.is_empty() {
        return;
    }
    let begin = Timestamp::now();
    let mut written = Written { told: record.told(SpanKind::Event), ..Written::default() };
    let mut ticks = every(PERIOD);
    loop {
        ticks.tick().await;
        let mut lists = Vec::new();
        for namespace in &namespaces {
            lists.push(look("Events", list(&ctx.client, namespace)).await);
        }
        let (events, unread) = joined(lists);
        for seen in written.news(&told(&events, begin), unread) {
            record.observe(SpanKind::Event, seen);
        }
    }
}

/// What was read of all namespaces, and how many lists were not read to their ends, or not at all, as those that are forbidden or come too
/// late.
fn joined(lists: Vec<Option<(Vec<Event>, bool)>>) -> (Vec<Event>, usize) {
    let unread = lists.iter().filter(|list| !list.as_ref().is_some_and(|(_, is_all)| *is_all)).count();
    (lists.into_iter().flatten().flat_map(|(events, _)| events).collect(), unread)
}

/// One namespace's Events, and whether these are all.
async fn list(client: &Client, namespace: &str) -> kube::Result<(Vec<Event>, bool)> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let page = events.list(&ListParams::default().limit(PAGE)).await?;
    let is_all = page.metadata.continue_.as_deref().unwrap_or_default().is_empty();
    Ok((page.items, is_all))
}

/// What all Events of one reason about one object say together.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    type_: String,
    count: i64,
    /// By the component's own clock.
    last: Timestamp,
    by: String,
}

/// Those that matter and were told since then, by what a span calls them.
fn told(events: &[Event], since: Timestamp) -> BTreeMap<String, Told> {
    let mut all: BTreeMap<String, Told> = BTreeMap::new();
    for event in events {
        let reason = event.reason.as_deref().filter(|reason| REASONS.contains(reason));
        let (Some(reason), Some(last)) = (reason, last(event).filter(|last| *last >= since)) else { continue };
        let about = event.regarding.clone().unwrap_or_default();
        let names = [about.kind, about.namespace, about.name].map(Option::unwrap_or_default);
        let new = Told { type_: event.type_.clone().unwrap_or_default(), count: count(event), last, by: by(event) };
        let of_one = all.entry(format!("{reason}/{}", names.join("/")));
        of_one
            .and_modify(|known| {
                known.count += new.count;
                if new.last > known.last {
                    known.last = new.last;
                    known.by.clone_from(&new.by);
                }
            })
            .or_insert(new);
    }
    all
}

fn last(event: &Event) -> Option<Timestamp> {
    let of_series = event.series.as_ref().map(|s| s.last_observed_time.0);
    let of_old = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
    let first = event.event_time.as_ref().map(|at| at.0);
    of_series.or(of_old).or(first).or_else(|| event.creation_timestamp().map(|at| at.0))
}

fn count(event: &Event) -> i64 {
    i64::from(event.series.as_ref().map(|s| s.count).or(event.deprecated_count).unwrap_or(1))
}

fn by(event: &Event) -> String {
    let of_old = || event.deprecated_source.as_ref()?.component.clone();
    event.reporting_controller.clone().filter(|c| !c.is_empty()).or_else(of_old).unwrap_or_default()
}

/// What the record has of Events.
#[derive(Default)]
struct Written {
    /// The detail of each subject.
    told: HashMap<String, String>,
    /// By name and not as a number: they are there at every look for an hour, and each counts once.
    left_out: BTreeSet<String>,
}

impl Written {
    /// What is new since the look before. `unread`: lists that were not read to their ends at this one. Events stay for an hour, so that a
    /// list that is read again later is no longer told.
    fn news(&mut self, told: &BTreeMap<String, Told>, unread: usize) -> Vec<Observation> {
        const LEFT_OUT: &str = "left out";
        let mut news = Vec::new();
        for (subject, told) in told {
            if !self.told.contains_key(subject) && self.told.len() >= WRITTEN {
                self.left_out.insert(subject.clone());
                continue;
            }
            let detail = format!("count={} last={:.0} by={}", told.count, told.last, told.by);
            news.extend(self.unless_known(subject, &told.type_, detail));
        }
        if unread > 0 || !self.left_out.is_empty() || self.told.contains_key(LEFT_OUT) {
            let detail = format!("events={} lists={unread}", self.left_out.len());
            news.extend(self.unless_known(LEFT_OUT, "unread", detail));
        }
        news
    }

    fn unless_known(&mut self, subject: &str, state: &str, detail: String) -> Option<Observation> {
        if self.told.get(subject) == Some(&detail) {
            return None;
        }
        self.told.insert(subject.to_owned(), detail.clone());
        Some(Observation { max_gap: Some(ALL_THE_RUN), ..Observation::new(subject, state).detail(detail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(time: &str) -> Timestamp {
        format!("2026-11-22T{time}Z").parse().unwrap()
    }

    fn event(reason: &str, pod: &str, more: Value) -> Event {
        let mut event = json!({
            "metadata": {"name": format!("{pod}.1"), "namespace": "shop"}, "reason": reason, "type": "Warning",
            "regarding": {"kind": "Pod", "namespace": "shop", "name": pod},
        });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn events_of_one_reason_about_one_object_are_counted_together() {
        let old = |time: &str, count: i32| {
            let source = json!({"component": "kubelet"});
            json!({"deprecatedLastTimestamp": at(time), "deprecatedCount": count, "deprecatedSource": source})
        };
        let new = json!({
            "eventTime": "2026-11-22T20:00:01.000000Z", "reportingController": "kubelet",
            "series": {"count": 4, "lastObservedTime": "2026-11-22T20:00:30.000000Z"},
        });
        let events = [
            event("Unhealthy", "web-1", old("20:00:10", 2)),
            event("Unhealthy", "web-1", new),
            // Before the run; of no interest.
            event("Unhealthy", "web-2", old("19:59:59", 9)),
            event("Pulled", "web-1", old("20:00:10", 1)),
        ];
        let told = told(&events, at("20:00:00"));
        let together = Told { type_: "Warning".into(), count: 6, last: at("20:00:30"), by: "kubelet".into() };
        assert_eq!(told, BTreeMap::from([("Unhealthy/Pod/shop/web-1".to_owned(), together)]));
    }

    #[test]
    fn only_what_is_new_is_written_down() {
        let events = |count: i32| {
            let more = json!({"deprecatedLastTimestamp": at("20:00:10"), "deprecatedCount": count});
            told(&[event("BackOff", "web-1", more)], at("20:00:00"))
        };
        let mut written = Written::default();
        let detail = |news: Vec<Observation>| news.into_iter().filter_map(|o| o.detail).collect::<Vec<_>>();
        assert_eq!(detail(written.news(&events(1), 0)), ["count=1 last=2026-11-22T20:00:10Z by="]);
        assert!(written.news(&events(1), 0).is_empty());
        assert_eq!(detail(written.news(&events(2), 0)), ["count=2 last=2026-11-22T20:00:10Z by="]);
    }

    #[test]
    fn a_list_that_nobody_could_read_is_told_until_it_is_read() {
        let events = || vec![Event::default()];
        let lists = vec![Some((events(), true)), Some((events(), false)), None];
        let (read, unread) = joined(lists);
        assert_eq!((read.len(), unread), (2, 2), "one not to its end, and one not at all");
        let mut written = Written::default();
        let mut look = |unread| {
            let news = written.news(&BTreeMap::new(), unread);
            news.into_iter().map(|o| (o.subject, o.detail.unwrap_or_default())).collect::<Vec<_>>()
        };
        let lists = |detail: &str| vec![("left out".to_owned(), detail.to_owned())];
        assert!(look(0).is_empty());
        assert_eq!(look(1), lists("events=0 lists=1"));
        assert!(look(1).is_empty());
        assert_eq!(look(0), lists("events=0 lists=0"));
        assert!(look(0).is_empty());
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let one = |i: usize| {
            let told = Told { type_: "Normal".into(), count: 1, last: at("20:00:10"), by: String::new() };
            (format!("Killing/Pod/shop/web-{i}"), told)
        };
        let mut written = Written::default();
        assert_eq!(written.news(&(0..WRITTEN).map(one).collect(), 0).len(), WRITTEN);
        let news = written.news(&(0..WRITTEN + 7).map(one).collect(), 1);
        let told: Vec<_> = news.iter().map(|o| (o.subject.as_str(), o.detail.as_deref())).collect();
        assert_eq!(told, [("left out", Some("events=7 lists=1"))]);
    }
}
