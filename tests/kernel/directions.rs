//! The agents' own datagrams, over every shape of `examples/shapes`: what they write down is the plan, direction by direction.

use crate::{
    fixture::{Firewall, LONG, Ns, PORT, TABLE, TOKEN, eventually, eventually_within, spec},
    heal::heal,
    racks::{NODES, Racks, name, pod_ranges},
    shapes::example,
};
use jiff::{SignedDuration, Timestamp};
use rackpartition::{
    agent::{Journal, Order, exchange_datagrams},
    api::{NodeRecordStatus, Protocol, RackPartitionSpec, SpanKind, Traffic, TrafficClass},
    fault::{Effect, RunPlan, Way, is_operators, pauses},
    observe::boot_id,
};
use std::{collections::BTreeSet, net::SocketAddr, ops::Range, time::Duration};
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

/// A network policy or a host's own rules, on the way to one node: no agent's datagram is heard there, which is all that arming goes by
/// when it waits for that node and names the port, and no heal packet would have healed it. It hears and heals once that is gone.
#[test]
fn what_stops_heal_packets_on_the_way_stops_the_agents_datagrams() {
    let racks = Racks::new();
    let plan = racks.plan(&example("isolate"));
    let everything: Directions = planned(&plan, true).union(&planned(&plan, false)).cloned().collect();
    let (unheard, heard): (Directions, Directions) =
        everything.iter().cloned().partition(|(_, receiver, _)| *receiver == name(1));
    assert!(unheard.len() >= NODES - 1);
    let (node, other) = (&racks.members[1], &racks.members[0]);
    let mut kernel = node.netfilter();
    kernel.arm(&spec(&[&other.v4.to_string()]), 2 * LONG).unwrap();
    let mut healed = || kernel.state(TABLE).unwrap().unwrap().heal_packets;
    let firewall = Firewall::put_up(node);
    std::thread::scope(|scope| {
        let agents = Agents::start(scope, &racks, &plan);
        eventually_within(SOON, "everybody else is heard", || agents.seen(SpanKind::Heard, Timestamp::MIN) == heard);
        // As many as make a baseline of every direction, and more.
        let before = firewall.dropped();
        firewall.drops_more_than(before + 5 * unheard.len() as u32);
        for v4 in [true, false] {
            heal(other, node.address(v4), &TOKEN);
        }
        assert_eq!(healed(), 0);
        assert_eq!(agents.seen(SpanKind::Heard, Timestamp::MIN), heard, "still nobody is heard there");
        assert!(agents.seen(SpanKind::Lost, Timestamp::MIN).is_empty(), "no cut of ours took any");

        firewall.take_down();
        eventually_within(SOON, "everybody is heard", || agents.seen(SpanKind::Heard, Timestamp::MIN) == everything);
        for (v4, packets) in [(true, 1), (false, 2)] {
            heal(other, node.address(v4), &TOKEN);
            eventually("the heal packet", || healed() == packets);
        }
    });
}

/// A pod of the first node, with a network of its own.
fn pod(racks: &Racks) -> Ns {
    let (node, mut pod) = (&racks.members[0], Ns::new("eth0", 7));
    (pod.v4, pod.v6) = ("198.19.0.7".parse().unwrap(), "fd00:19:0::7".parse().unwrap());
    node.ip(&["link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", &pod.name]);
    for (ns, device, v4, v6) in
        [(node, "pod", "198.19.0.1/24", "fd00:19:0::1/64"), (&pod, "eth0", "198.19.0.7/24", "fd00:19:0::7/64")]
    {
        ns.ip(&["addr", "add", v4, "dev", device]);
        ns.ip(&["addr", "add", v6, "dev", device, "nodad"]);
        ns.ip(&["link", "set", device, "up"]);
    }
    for via in ["198.19.0.1", "fd00:19:0::1"] {
        pod.ip(&["route", "add", "default", "via", via]);
    }
    node.run(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    pod
}

/// All of it goes by the table on the pod's own node: that counts and takes what is for this node, and nothing that is for others.
#[test]
fn what_the_operators_pod_sends_is_heard_where_it_is_sent_to() {
    let racks = Racks::new();
    let plan = racks.plan(&example("isolate"));
    let pod = pod(&racks);
    let sockets = Way::OF_HEAL.map(|way| (way, pod.udp(pod.address(way.is_ipv4()))));
    let send_to = |nodes: Range<usize>| {
        for (node, (way, socket)) in nodes.flat_map(|node| sockets.iter().map(move |socket| (node, socket))) {
            let datagram = plan.operator_datagram(&name(0), &name(node), *way);
            socket.send_to(&datagram, SocketAddr::new(racks.address(node, way.is_ipv4()), PORT)).unwrap();
        }
    };
    let heard_by = |nodes: Range<usize>| -> Directions {
        let sender = format!("operator on {}", name(0));
        nodes.flat_map(|node| Way::OF_HEAL.map(|way| (sender.clone(), name(node), format!("{way:?}")))).collect()
    };
    std::thread::scope(|scope| {
        let agents = Agents::start(scope, &racks, &plan);
        for nodes in [1..NODES, 0..NODES] {
            eventually_within(SOON, "the operator is heard where it sends to, and nowhere else", || {
                send_to(nodes.clone());
                let heard = agents.seen(SpanKind::Heard, Timestamp::MIN).into_iter();
                heard.filter(|(sender, ..)| is_operators(sender)).collect::<Directions>() == heard_by(nodes.clone())
            });
        }
        let spans = agents.statuses().into_iter().flat_map(|s| s.spans);
        let others: Vec<_> = spans.filter(|s| s.kind == SpanKind::Stranger || s.kind == SpanKind::Lost).collect();
        assert!(others.is_empty(), "its address is its node's, and nothing is cut: {others:?}");
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
