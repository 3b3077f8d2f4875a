//! Heal packets open a node without any process there, and an aborted run can never cut.

use crate::fixture::{Firewall, LONG, Net, Ns, PORT, TABLE, TOKEN, always, eventually, window};
use crate::node::{Node, plan};
use crate::stream::Stream;
use clap::Parser;
use jiff::{Timestamp, ToSpan};
use rackpartition::cli::{self, HealArgs};
use rackpartition::fault::Heal;
use rackpartition::netfilter::{Error, TableSpec, TableState, heal_packet, send_heal};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub fn heal(from: &Ns, to: IpAddr, token: &[u8; 16]) {
    assert_eq!(from.run(|| send_heal(&[to], PORT, token)).unwrap(), 1);
}

/// Both ends are cut from each other. Packets of one family to each end open both ends for both families.
fn a_heal_packet_opens_both_ways(v4: bool) {
    let net = Net::new();
    // So that the streams know their way before they are cut.
    let streams = [(&net.left, &net.right), (&net.right, &net.left)].map(|(a, b)| Stream::start(a, b, v4));
    let other = Stream::start(&net.left, &net.right, !v4);
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    left.arm(&net.left_cut_from_right(), LONG).unwrap();
    right.arm(&net.right_cut_from_left(), LONG).unwrap();
    left.cut(TABLE, &[always()], LONG).unwrap();
    right.cut(TABLE, &[always()], LONG).unwrap();
    let cut = Timestamp::now();
    for stream in streams.iter().chain([&other]) {
        stream.run_past(cut);
    }

    // A wrong token, a longer packet that holds the right one too late, and a shorter one: nothing happens.
    heal(&net.left, net.right.address(v4), &TOKEN.map(|b| b ^ 1));
    let socket = net.left.udp(net.left.address(v4));
    let to = SocketAddr::new(net.right.address(v4), PORT);
    socket.send_to(&[&[0], &heal_packet(&TOKEN)[..]].concat(), to).unwrap();
    let _ = socket.send_to(&TOKEN[..15], to);
    streams[0].run_past(Timestamp::now());
    let state = right.state(TABLE).unwrap().unwrap();
    assert!(state.gate.is_some() && state.heal_packets == 0, "{state:?}");

    let before_right = Timestamp::now();
    heal(&net.left, net.right.address(v4), &TOKEN);
    let after_right = Timestamp::now();
    streams[0].run_past(after_right + 200.milliseconds());
    let before_left = Timestamp::now();
    heal(&net.right, net.left.address(v4), &TOKEN);
    let after_left = Timestamp::now();
    for stream in streams.iter().chain([&other]) {
        stream.run_past(after_left + 200.milliseconds());
    }

    let [to_right, to_left] = streams.map(Stream::stop);
    let other = other.stop();
    let right_times = (before_right, after_right);
    for (trace, (before, after)) in
        [(&to_right, right_times), (&to_left, (before_left, after_left)), (&other, right_times)]
    {
        assert!(trace.0.iter().all(|s| s.before < cut || s.after >= before || !s.arrived), "silence while cut");
        trace.assert_open_after(after, Duration::from_millis(100));
        assert_eq!(trace.gaps().len(), 1, "no gap after the heal");
    }
    for netfilter in [&mut left, &mut right] {
        let state = netfilter.state(TABLE).unwrap().unwrap();
        assert!(state.gate.is_none() && state.heal_packets == 1 && state.dropped_packets > 0, "{state:?}");
    }
}

#[test]
fn a_heal_packet_over_ipv4_opens_both_ways() {
    a_heal_packet_opens_both_ways(true);
}

#[test]
fn a_heal_packet_over_ipv6_opens_both_ways() {
    a_heal_packet_opens_both_ways(false);
}

/// The datagram right behind the heal packet passes already.
#[test]
fn a_heal_packet_works_at_once() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    for v4 in [true, false] {
        let (sender, receiver) = (net.left.udp(net.left.address(v4)), net.right.udp(net.right.address(v4)));
        receiver.set_nonblocking(true).unwrap();
        let to = receiver.local_addr().unwrap();
        eventually("the first datagram", || {
            sender.send_to(b"x", to).unwrap();
            receiver.recv(&mut [0; 1]).is_ok()
        });
        let mut times = Vec::new();
        for _ in 0..50 {
            netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
            netfilter.cut(TABLE, &[always()], LONG).unwrap();
            sender.send_to(b"x", to).unwrap();
            let start = Instant::now();
            sender.send_to(&heal_packet(&TOKEN), (to.ip(), PORT)).unwrap();
            eventually("a datagram", || {
                sender.send_to(b"x", to).unwrap();
                receiver.recv(&mut [0; 1]).is_ok()
            });
            times.push(start.elapsed());
            while receiver.recv(&mut [0; 1]).is_ok() {}
            netfilter.remove(TABLE).unwrap();
        }
        times.sort();
        println!(
            "heal packet to first datagram received, v4 {v4}: median {:?}, worst of 50 {:?}",
            times[25], times[49]
        );
        assert!(times[49] < Duration::from_millis(100));
    }
}

/// What is healed between arming and cutting cannot be cut any more, and the attempt changes nothing.
#[test]
fn whoever_is_healed_before_the_cut_is_not_cut() {
    let net = Net::new();
    let mut netfilter = net.right.netfilter();
    for by_packet in [Some(true), Some(false), None] {
        netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
        match by_packet {
            Some(v4) => {
                heal(&net.left, net.right.address(v4), &TOKEN);
                eventually("the heal packet", || netfilter.state(TABLE).unwrap().unwrap().heal_packets == 1);
            }
            None => netfilter.close_gate(TABLE).unwrap(),
        }
        let before = net.right.nft(&["list", "ruleset"]);
        let refused = netfilter.cut(TABLE, &[always()], LONG);
        assert!(matches!(&refused, Err(Error::GateClosed { table }) if table == TABLE), "{refused:?}");
        assert_eq!(net.right.nft(&["list", "ruleset"]), before);
        let state = netfilter.state(TABLE).unwrap().unwrap();
        let heal_packets = u64::from(by_packet.is_some());
        assert_eq!(
            state,
            TableState { gate: None, heal_packets, rule_packets: vec![0], rules: state.rules, ..TableState::default() }
        );
        netfilter.remove(TABLE).unwrap();
    }
}

/// A heal packet at any moment around the cut wins: afterwards the gate is closed, whatever `cut` said.
#[test]
fn a_heal_packet_in_the_middle_of_the_cut_wins() {
    let net = Net::new();
    let (mut netfilter, mut watcher) = (net.right.netfilter(), net.right.netfilter());
    let socket = net.left.udp(net.left.v4);
    let (mut refused, mut cut) = (0, 0);
    for round in 0..120u64 {
        netfilter.arm(&net.right_cut_from_left(), LONG).unwrap();
        let start = std::sync::Barrier::new(2);
        let result = std::thread::scope(|s| {
            let sending = s.spawn(|| {
                start.wait();
                // Some 0 to 600 µs after the cut was begun: spins, since sleeping is too coarse.
                let at = Instant::now() + Duration::from_micros(round * 5);
                while Instant::now() < at {
                    std::hint::spin_loop();
                }
                socket.send_to(&heal_packet(&TOKEN), (net.right.v4, PORT)).unwrap();
            });
            start.wait();
            let result = netfilter.cut(TABLE, &[window(0, 60_000)], LONG);
            sending.join().unwrap();
            result
        });
        eventually("the heal packet", || watcher.state(TABLE).unwrap().unwrap().heal_packets == 1);
        let state = watcher.state(TABLE).unwrap().unwrap();
        assert_eq!(state.gate, None, "round {round}, {result:?}");
        match result {
            Ok(()) => cut += 1,
            Err(Error::GateClosed { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
        netfilter.remove(TABLE).unwrap();
    }
    println!("heal packets around the cut: {refused} cuts refused, {cut} healed right after");
}

/// Neighbours forgotten in mid-cut are found again, or no heal packet would ever arrive over IPv6.
#[test]
fn neighbour_discovery_stays_open() {
    let net = Net::new();
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    left.arm(&crate::fixture::spec(&["::/0"]), LONG).unwrap();
    right.arm(&crate::fixture::spec(&["::/0"]), LONG).unwrap();
    left.cut(TABLE, &[always()], LONG).unwrap();
    right.cut(TABLE, &[always()], LONG).unwrap();
    for ns in [&net.left, &net.right] {
        ns.ip(&["-6", "neigh", "flush", "dev", ns.device]);
        let known = ns.command("ip").args(["-6", "neigh", "show", "nud", "reachable"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&known.stdout), "");
    }
    heal(&net.left, net.right.v6, &TOKEN);
    eventually("the heal packet", || right.state(TABLE).unwrap().unwrap().heal_packets == 1);
    let state = right.state(TABLE).unwrap().unwrap();
    assert_eq!(state.gate, None);
    assert!(left.state(TABLE).unwrap().unwrap().gate.is_some(), "the other end is still cut");
}

#[derive(clap::Parser)]
struct ByHand {
    #[command(flatten)]
    args: HealArgs,
}

/// `rackpartition heal` with these words, on this node.
fn by_hand(ns: &Ns, words: &[&str]) {
    let args = ByHand::parse_from([&["heal"], words].concat()).args;
    ns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(cli::heal(&args)).unwrap();
    });
}

#[test]
fn by_hand_a_node_is_healed_by_its_kernel_and_others_by_packets() {
    let net = Net::new();
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    left.arm(&net.left_cut_from_right(), LONG).unwrap();
    right.arm(&net.right_cut_from_left(), LONG).unwrap();
    left.cut(TABLE, &[always()], LONG).unwrap();
    right.cut(TABLE, &[always()], LONG).unwrap();
    net.right.nft(&["add", "table", "inet", "somebody-elses"]);

    by_hand(&net.right, &[]);
    assert!(right.state(TABLE).unwrap().is_none() && left.state(TABLE).unwrap().unwrap().gate.is_some());
    assert!(net.right.nft(&["list", "tables"]).contains("somebody-elses"), "nothing else is touched");
    by_hand(&net.right, &[]);

    let token: String = TOKEN.iter().map(|b| format!("{b:02x}")).collect();
    let addresses = format!("{},{}", net.left.v4, net.left.v6);
    by_hand(&net.right, &["--token", &token, "--addresses", &addresses, "--rounds", "2"]);
    eventually("left is open", || left.state(TABLE).unwrap().unwrap().gate.is_none());
    assert!(ByHand::try_parse_from(["heal", "--token", &token]).is_err(), "whom to heal must be said");
}

/// The lines that docs/safety.md has for a node, as they stand there.
#[test]
fn by_hand_a_node_is_healed_by_deleting_its_table() {
    let page = include_str!("../../docs/safety.md");
    let line = |begin: &str| page.lines().find(|line| line.starts_with(begin)).expect("docs/safety.md says how");
    let (list, delete) = (line("nft list tables"), line("nft delete table inet rackpartition-"));
    let shell = |ns: &Ns, line: &str| {
        let output = ns.command("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let last_word = |line: &str| line.split_whitespace().next_back().expect("a name").to_owned();
    let delete_table = |ns: &Ns| {
        let line = delete.replace(&last_word(delete), &last_word(&shell(ns, list)));
        let before = Timestamp::now();
        shell(ns, &line);
        (before, Timestamp::now())
    };

    let net = Net::new();
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    let streams = [(&net.left, &net.right, true), (&net.left, &net.right, false), (&net.right, &net.left, true)]
        .map(|(from, to, v4)| Stream::start(from, to, v4));
    left.arm(&net.left_cut_from_right(), LONG).unwrap();
    right.arm(&net.right_cut_from_left(), LONG).unwrap();
    left.cut(TABLE, &[always()], LONG).unwrap();
    right.cut(TABLE, &[always()], LONG).unwrap();
    net.right.nft(&["add", "table", "inet", "somebody-elses"]);
    let cut = Timestamp::now();
    streams.iter().for_each(|stream| stream.run_past(cut));

    let right_times = delete_table(&net.right);
    streams.iter().for_each(|stream| stream.run_past(right_times.1 + 200.milliseconds()));
    let left_times = delete_table(&net.left);
    streams.iter().for_each(|stream| stream.run_past(left_times.1 + 200.milliseconds()));
    assert!(right.tables().unwrap().is_empty() && left.tables().unwrap().is_empty());
    assert!(net.right.nft(&["list", "tables"]).contains("somebody-elses"), "nothing else is touched");
    // What goes to left stays cut until left's own table is gone.
    for (stream, (before, after)) in streams.into_iter().zip([right_times, right_times, left_times]) {
        let trace = stream.stop();
        assert!(trace.0.iter().all(|s| s.before < cut || s.after >= before || !s.arrived), "silence while cut");
        trace.assert_open_after(after, Duration::from_millis(100));
        assert_eq!(trace.gaps().len(), 1, "no gap after the heal");
    }
}

/// The operator is gone, and so is the agent of a node that gets none of the first heal packets.
#[test]
fn an_agent_that_hears_of_an_abort_repeats_its_heal_packets() {
    let net = Net::new();
    let plan = plan(&net, LONG, LONG);
    let (mut left, mut right) = (Node::new(&net.left, &plan), Node::new(&net.right, &plan));
    right.cut(LONG);
    left.cut(LONG);
    right.kill();
    let firewall = Firewall::put_up(&net.right);

    left.abort();
    left.ends("Aborted");
    // Three rounds, to both addresses, are not the end of it: a fourth comes. They are a second apart.
    firewall.drops_more_than(6);
    assert!(!right.is_open());
    firewall.take_down();
    eventually("the next one opens right", || right.is_open());
    right.start();
    right.ends("Aborted");
}

/// With nothing of ours: bash sends the packets, also of a token that has the end of a line in it.
#[test]
fn the_script_that_is_kept_heals_both_ends() {
    let net = Net::new();
    let token = [b'\n', 0, 1, b'\n', b'\n', 2, 3, b'\'', b'"', b'$', b'`', b'\\', b'%', 0, b'\n', b'\n'];
    let (mut left, mut right) = (net.left.netfilter(), net.right.netfilter());
    let of_run = |spec: TableSpec| TableSpec { heal_token: token, ..spec };
    left.arm(&of_run(net.left_cut_from_right()), LONG).unwrap();
    right.arm(&of_run(net.right_cut_from_left()), LONG).unwrap();
    left.cut(TABLE, &[always()], LONG).unwrap();
    right.cut(TABLE, &[always()], LONG).unwrap();

    let heal = Heal { port: PORT, token: token.iter().map(|b| format!("{b:02x}")).collect() };
    let script = cli::lifeline("a run", &heal, &[net.left.v4, net.right.v6]).unwrap();
    let output = net.right.command("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("left is open", || left.state(TABLE).unwrap().unwrap().gate.is_none());
    eventually("right is open", || right.state(TABLE).unwrap().unwrap().gate.is_none());
}
