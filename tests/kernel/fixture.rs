//! Two network namespaces joined by a veth pair, gone again when dropped, and what tests and `benches/fault` do in them.

use ipnet::IpNet;
use jiff::{Timestamp, ToSpan};
use rackpartition::netfilter::{Addresses, Effect, Hook, Netfilter, Port, Rule, TableSpec, TimeWindow, Transport};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::{fd::AsFd, unix::fs::MetadataExt};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const TABLE: &str = "rackpartition-test";
pub const PORT: u16 = 40441;
pub const TOKEN: [u8; 16] =
    [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
/// A gate that no test waits for.
pub const LONG: Duration = Duration::from_secs(60);

/// `left` and `right`, each one hop from the other in both families.
pub struct Net {
    pub left: Ns,
    pub right: Ns,
}

/// A network namespace, gone again when dropped.
pub struct Ns {
    pub name: String,
    /// The end of the veth pair inside.
    pub device: &'static str,
    pub v4: IpAddr,
    pub v6: IpAddr,
}

impl Net {
    pub fn new() -> Self {
        assert!(
            std::fs::metadata("/proc/self").unwrap().uid() == 0,
            "the kernel tests make network namespaces and tables in them: run as root, `sudo -E cargo test --test kernel`"
        );
        let net = Self { left: Ns::new("left", 1), right: Ns::new("right", 2) };
        let (l, r) = (&net.left.name[..], &net.right.name[..]);
        ip(&["-n", l, "link", "add", "left", "type", "veth", "peer", "name", "right", "netns", r]);
        net.left.connect();
        net.right.connect();
        net
    }
    /// A table for `right` that drops what `left` sends.
    pub fn right_cut_from_left(&self) -> TableSpec {
        spec(&[&self.left.v4.to_string(), &self.left.v6.to_string()])
    }
    pub fn left_cut_from_right(&self) -> TableSpec {
        spec(&[&self.right.v4.to_string(), &self.right.v6.to_string()])
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        // No panic in here: it may be one already.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

impl Ns {
    /// An empty namespace whose `device` is for others to make; `host` is the last part of its addresses.
    pub fn new(device: &'static str, host: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rp-{}-{n}-{device}", std::process::id());
        ip(&["netns", "add", &name]);
        let v4 = format!("198.18.0.{host}").parse().unwrap();
        Self { name, device, v4, v6: format!("fd00::{host}").parse().unwrap() }
    }
    /// Gives the device its addresses and brings it up.
    pub fn connect(&self) {
        self.ip(&["link", "set", "lo", "up"]);
        self.ip(&["addr", "add", &format!("{}/24", self.v4), "dev", self.device]);
        self.ip(&["addr", "add", &format!("{}/64", self.v6), "dev", self.device, "nodad"]);
        self.ip(&["link", "set", self.device, "up"]);
    }
    /// Runs `f` on a thread in the namespace. What it opens there stays there.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let enter_and_run = || {
            let ns = File::open(format!("/run/netns/{}", self.name)).unwrap();
            rustix::thread::move_into_link_name_space(ns.as_fd(), None).unwrap();
            f()
        };
        std::thread::scope(|s| s.spawn(enter_and_run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
    pub fn netfilter(&self) -> Netfilter {
        self.run(|| Netfilter::open().unwrap())
    }
    pub fn address(&self, v4: bool) -> IpAddr {
        if v4 { self.v4 } else { self.v6 }
    }
    /// A datagram socket of the namespace, on a port of the kernel's choice.
    pub fn udp(&self, address: IpAddr) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(SocketAddr::new(address, 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    }
    /// `program` in the namespace; the process it becomes is the program itself.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
    pub fn ip(&self, args: &[&str]) {
        ip(&[&["-n", &self.name], args].concat());
    }
    /// What `nft` prints, times in UTC.
    pub fn nft(&self, args: &[&str]) -> String {
        let output = self.command("nft").args(args).env("TZ", "UTC").output().unwrap();
        stdout(&format!("nft {args:?}"), output)
    }
}

/// A firewall in front of a namespace: of all that arrives it drops what is for the port of heal packets, whoever sends it.
pub struct Firewall<'a>(&'a Ns);

impl<'a> Firewall<'a> {
    pub fn put_up(ns: &'a Ns) -> Self {
        let chain = "add chain inet lossy c { type filter hook prerouting priority -400; }";
        let rule = format!("add rule inet lossy c udp dport {PORT} counter drop");
        ns.nft(&[&format!("add table inet lossy; {chain}; {rule}")]);
        Self(ns)
    }
    /// Packets so far.
    pub fn dropped(&self) -> u32 {
        let listing = self.0.nft(&["list", "table", "inet", "lossy"]);
        let counter = listing.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        counter.and_then(|packets| packets.parse().ok()).expect("a counter")
    }
    /// Waits until it has dropped more packets than so many.
    pub fn drops_more_than(&self, packets: u32) {
        eventually(&format!("more than {packets} packets are dropped"), || {
            std::thread::sleep(Duration::from_millis(100));
            self.dropped() > packets
        });
    }
    pub fn take_down(self) {
        self.0.nft(&["delete", "table", "inet", "lossy"]);
    }
}

pub fn ip(args: &[&str]) {
    stdout(&format!("ip {args:?}"), Command::new("ip").args(args).output().unwrap());
}

fn stdout(what: &str, output: Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A table that drops what these send.
pub fn spec(sources: &[&str]) -> TableSpec {
    with_rules(vec![Rule::drop_from(nets(sources))])
}

pub fn with_rules(rules: Vec<Rule>) -> TableSpec {
    TableSpec { name: TABLE.into(), rules, heal_port: PORT, heal_token: TOKEN }
}

/// Drops everything on ingress.
pub fn rule() -> Rule {
    let (sources, destinations) = (Addresses::Any, Addresses::Any);
    Rule { sources, destinations, ports: Vec::new(), effect: Effect::Drop, hook: Hook::Ingress }
}

pub fn tcp(port: u16) -> Port {
    Port { transport: Transport::Tcp, port }
}

/// Arms and cuts, for longer than any test takes.
pub fn cut(ns: &Ns, rules: Vec<Rule>) -> Netfilter {
    let mut netfilter = ns.netfilter();
    netfilter.arm(&with_rules(rules), LONG).unwrap();
    netfilter.cut(TABLE, &[always()], LONG).unwrap();
    netfilter
}

/// Blocks, or addresses.
pub fn nets(list: &[&str]) -> Vec<IpNet> {
    let net = |s: &&str| s.parse::<IpNet>().unwrap_or_else(|_| s.parse::<IpAddr>().unwrap().into());
    list.iter().map(net).collect()
}

/// A window by milliseconds from now.
pub fn window(from: i64, to: i64) -> TimeWindow {
    let now = Timestamp::now();
    TimeWindow { from: now + from.milliseconds(), to: now + to.milliseconds() }
}

/// Open now and for longer than any test takes.
pub fn always() -> TimeWindow {
    window(-3_600_000, 3_600_000)
}

/// Waits until `holds`, and fails after 10 s.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(10), what, holds);
}

pub fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
