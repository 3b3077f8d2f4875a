//! The agents' own datagrams, over every shape of `examples/shapes`: what they write down is the plan, direction by direction.

use crate::{
    fixture::{LONG, eventually_within},
    racks::{NODES, Racks, name, pod_ranges},
    shapes::example,
};
use jiff::{SignedDuration, Timestamp};
use rackpartition::{
    agent::{Journal, Order, exchange_datagrams},
    api::{NodeRecordStatus, Protocol, RackPartitionSpec, SpanKind, Traffic, TrafficClass},
    fault::{Effect, RunPlan, Way, pauses},
    observe::boot_id,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::watch;

/// Datagrams come every 200 ms and are looked at every 250 ms; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Sender, receiver and way.
type Directions = BTreeSet<(String, String, String)>;

/// An agent's tongue and ears in each node's namespace, until dropped.
struct Agents {
    journals: Vec<Journal>,
    end: watch::Sender<bool>,
}

impl Agents {
    fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        racks: &'scope Racks,
        plan: &'scope RunPlan,
    ) -> Self {
        let (end, _) = watch::channel(false);
        let journal = |_| Journal::new(plan.hash(), boot_id().unwrap(), None);
        let agents = Agents { journals: (0..NODES).map(journal).collect(), end };
        for (i, journal) in agents.journals.iter().cloned().enumerate() {
            let mut ended = agents.end.subscribe();
            scope.spawn(move || {
                racks.members[i].run(|| {
                    let runtime =
                        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                    runtime.block_on(async {
                        let (_order, orders) = watch::channel(Order::default());
                        tokio::select! {
                            () = exchange_datagrams(plan.clone(), name(i), journal, orders) => {}
                            _ = ended.changed() => {}
                        }
                    })
                })
            });
        }
        agents
    }

    fn statuses(&self) -> Vec<NodeRecordStatus> {
        self.journals.iter().map(Journal::status).collect()
    }

    /// Whether the record of a node has a span of this kind and subject between these seconds after `begun`.
    fn has(&self, node: &str, kind: SpanKind, subject: &str, begun: Timestamp, (from, to): (f64, f64)) -> bool {
        let at = |seconds| begun + SignedDuration::from_secs_f64(seconds);
        let number = (0..NODES).find(|i| name(*i) == node).unwrap();
        let spans = self.journals[number].status().spans;
        let mut own = spans.iter().filter(|s| s.kind == kind && s.subject == subject);
        own.any(|s| s.from.wall.0 <= at(to) && s.to.wall.0 >= at(from))
    }

    /// Directions with a span of this kind that reaches beyond `since`.
    fn seen(&self, kind: SpanKind, since: Timestamp) -> Directions {
        let mut all = Directions::new();
        for (i, status) in self.statuses().into_iter().enumerate() {
            assert_eq!(status.unwatched, None);
            for span in status.spans.into_iter().filter(|s| s.kind == kind && s.to.wall.0 > since) {
                let (sender, way) = span.subject.split_once('/').unwrap();
                all.insert((sender.into(), name(i), way.into()));
            }
        }
        all
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.end.send_replace(true);
    }
}

/// Every direction between two nodes, and whether the plan takes its datagrams.
fn planned(plan: &RunPlan, lost: bool) -> Directions {
    let mut all = Directions::new();
    for (a, b) in (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let (a, b) = (plan.member(&name(a)).unwrap(), plan.member(&name(b)).unwrap());
        for way in plan.ways(a, b).filter(|way| (plan.datagram_loss(&a.name, &b.name, *way) > 0.0) == lost) {
            all.insert((a.name.clone(), b.name.clone(), format!("{way:?}")));
        }
    }
    all
}

fn is_exact(shape: &str) {
    is_exact_with(shape, |_| {});
}

fn is_exact_with(shape: &str, change: impl FnOnce(&mut RackPartitionSpec)) {
    let racks = Racks::new();
    let mut spec = example(shape);
    change(&mut spec);
    // Only the first window matters here, and it must not end while it is looked at.
    spec.flap = None;
    spec.stagger = None;
    spec.duration = "1h".parse().unwrap();
    let plan = racks.plan(&spec);
    let (lost, alive) = (planned(&plan, true), planned(&plan, false));
    let everything: Directions = lost.union(&alive).cloned().collect();
    assert!(everything.iter().any(|d| d.2 == format!("{:?}", Way::PodIpv6)) || !plan.ports.is_everything());
    std::thread::scope(|scope| {
        let agents = Agents::start(scope, &racks, &plan);
        eventually_within(SOON, &format!("{shape}: everybody is heard before the cut"), || {
            agents.seen(SpanKind::Heard, Timestamp::MIN) == everything
        });
        assert!(agents.seen(SpanKind::Lost, Timestamp::MIN).is_empty(), "{shape}: nothing is cut yet");
        racks.members[..NODES].iter().for_each(|member| assert_eq!(member.run(open_udp_ports), Vec::<String>::new()));
        let _cut = racks.cut(&plan);
        // Stamps are in ticks of the kernel, and this machine may be busy.
        let cut = Timestamp::now() + SignedDuration::from_millis(500);
        let lossy = matches!(plan.pattern.effect, Effect::LossPerPacket { .. } | Effect::LossPerFlow { .. });
        let heard = if lossy { &everything } else { &alive };
        eventually_within(SOON, &format!("{shape}: what is cut is lost, and all else is heard"), || {
            agents.seen(SpanKind::Lost, cut) == lost && agents.seen(SpanKind::Heard, cut).is_superset(heard)
        });
        let strays: Vec<_> = agents.seen(SpanKind::Heard, cut).difference(heard).cloned().collect();
        assert!(strays.is_empty(), "{shape}: heard in spite of the cut: {strays:?}");
        let spans = agents.statuses().into_iter().flat_map(|s| s.spans);
        let strangers: Vec<_> = spans.filter(|s| s.kind == SpanKind::Stranger).collect();
        assert!(strangers.is_empty(), "{shape}: everybody is in the plan: {strangers:?}");
    });
    assert!(LONG > SOON, "gates outlast the test");
}

/// UDP sockets of this thread's network namespace that take datagrams of anybody, as the kernel lists them.
fn open_udp_ports() -> Vec<String> {
    let unconnected = |line: &&str| line.split_whitespace().nth(2).is_some_and(|peer| peer.ends_with(":0000"));
    let list = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let sockets = ["udp", "udp6"].map(list);
    assert!(sockets[0].lines().count() > 1, "an agent sends from sockets of its own");
    sockets.iter().flat_map(|list| list.lines().skip(1).filter(unconnected).map(str::to_owned)).collect()
}

/// Around an edge, seconds: agents look every quarter of a second, and tables are loaded one after another on a busy machine.
const EDGE: f64 = 1.5;

/// What every agent writes down of every direction is lost in each window of its receiver and heard in each pause between them.
fn comes_and_goes(shape: &str, change: impl FnOnce(&mut RackPartitionSpec)) {
    let racks = Racks::new();
    let mut spec = example(shape);
    change(&mut spec);
    let plan = racks.plan(&spec);
    let everything: Directions = planned(&plan, true).union(&planned(&plan, false)).cloned().collect();
    std::thread::scope(|scope| {
        let agents = Agents::start(scope, &racks, &plan);
        eventually_within(SOON, "everybody is heard before the cut", || {
            agents.seen(SpanKind::Heard, Timestamp::MIN) == everything
        });
        let begun = Timestamp::now();
        let _cut = racks.cut(&plan);
        let over = begun + SignedDuration::from_secs_f64(plan.duration_seconds + EDGE);
        eventually_within(Duration::from_secs_f64(plan.duration_seconds) + SOON, "everybody is heard after it", || {
            agents.seen(SpanKind::Heard, over) == everything
        });
        let mut pauses_seen = 0;
        for (sender, receiver, way) in planned(&plan, true) {
            let subject = format!("{sender}/{way}");
            let windows = plan.windows_at(&receiver, plan.duration_seconds);
            let in_pauses = pauses(&windows, plan.duration_seconds).collect::<Vec<_>>();
            pauses_seen += in_pauses.len();
            for (times, wanted, other) in
                [(windows, SpanKind::Lost, SpanKind::Heard), (in_pauses, SpanKind::Heard, SpanKind::Lost)]
            {
                for (from, to) in times {
                    let has = |kind| agents.has(&receiver, kind, &subject, begun, (from + EDGE, to - EDGE));
                    assert!(
                        has(wanted) && !has(other),
                        "{shape}: {subject} at {receiver}, {from} to {to} s: not {wanted:?}"
                    );
                }
            }
        }
        assert!(pauses_seen > 0, "{shape}: nobody was ever let through");
    });
}

#[test]
fn a_link_that_flaps_goes_down_and_up() {
    comes_and_goes("flapping", |spec| {
        spec.flap.as_mut().unwrap().down = Duration::from_secs(4).into();
        spec.duration = Duration::from_secs(14).into();
    });
}

#[test]
fn racks_heal_one_after_another() {
    comes_and_goes("staggered", |spec| {
        spec.stagger = Some(Duration::from_secs(5).into());
        spec.duration = Duration::from_secs(10).into();
    });
}

#[test]
fn a_udp_port_alone_is_cut() {
    is_exact_with("isolate", |spec| {
        spec.traffic = vec![Traffic { protocol: Some(Protocol::Udp), port: Some(53), ..Default::default() }];
    });
}

fn pods_only(spec: &mut RackPartitionSpec) {
    spec.traffic = vec![Traffic { class: Some(TrafficClass::Pods), ..Default::default() }];
}

#[test]
fn pods_alone_are_cut() {
    is_exact_with("isolate", pods_only);
}

#[test]
fn pods_of_a_sealed_rack_alone_are_cut() {
    is_exact_with("isolate", |spec| {
        pods_only(spec);
        spec.cut.isolate.as_mut().unwrap().outside = true;
    });
}

/// As an eBPF data path does it: what is for a pod that is there leaves the wire in front of the kernel's hooks. Datagrams to such a
/// pod are not counted, and that says so; an address that no pod has would have been.
#[test]
fn pods_packets_that_go_round_the_hook_are_not_counted() {
    let racks = Racks::new();
    let mut plan = racks.plan(&example("isolate"));
    let pod = |i: usize| pod_ranges(i)[0].hosts().nth(6).unwrap();
    plan.members.iter_mut().take(NODES).enumerate().for_each(|(i, member)| member.pods = vec![pod(i)]);
    let node = &racks.members[1];
    node.ip(&["link", "add", "pod", "type", "veth", "peer", "name", "inside"]);
    node.ip(&["link", "set", "pod", "up"]);
    let chain = "add chain netdev round c { type filter hook ingress device eth0 priority -500; }";
    let rule = format!("add rule netdev round c ip daddr {} fwd to pod", pod(1));
    node.nft(&[&format!("add table netdev round; {chain}; {rule}")]);
    let (round, seen): (Directions, Directions) = planned(&plan, true)
        .union(&planned(&plan, false))
        .cloned()
        .partition(|(_, receiver, way)| *receiver == name(1) && *way == format!("{:?}", Way::LivePodIpv4));
    assert_eq!(round.len(), NODES - 1);
    std::thread::scope(|scope| {
        let agents = Agents::start(scope, &racks, &plan);
        eventually_within(SOON, "everybody is heard whose datagrams come by", || {
            agents.seen(SpanKind::Heard, Timestamp::MIN) == seen
        });
    });
}

macro_rules! shapes {
    ($($test:ident: $shape:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            is_exact($shape);
        }
    )*};
}

shapes! {
    isolate: "isolate", split: "split", bridge: "bridge", ring: "ring", star: "star", chain: "chain", one_way: "one-way",
    etcd_peers: "etcd-peers", reject: "reject", bad_link: "bad-link", flapping: "flapping", staggered: "staggered",
}
