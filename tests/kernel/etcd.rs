//! Real members of etcd in five racks: what they say of their leader is what the graph says.

use crate::{
    fixture::eventually_within,
    racks::{NODES, Racks, name},
};
use rackpartition::{
    api::{Prospect, RackPartitionSpec, table_name},
    fault::{expand, sides},
    topology::Snapshot,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// Where `lab assets` has put etcd.
const ASSETS: &str = "RACKPARTITION_ASSETS";
/// etcd's default election timeout is 1 s: 3 of them until a side knows whether it has a leader. Streams that are cut one way
/// only still deliver until TCP gives up sending, and are dialled anew after 5 s. Five members on a busy machine: twice that.
const SETTLED: Duration = Duration::from_secs(30);
/// What is true must stay so: three election timeouts.
const STEADY: Duration = Duration::from_secs(3);

/// Five members, ended when dropped.
struct Etcd<'a> {
    racks: &'a Racks,
    members: Vec<Child>,
    _data: tempfile::TempDir,
}

impl<'a> Etcd<'a> {
    fn start(racks: &'a Racks) -> Self {
        let assets = std::env::var(ASSETS).unwrap_or_else(|_| panic!("set {ASSETS} to what `lab assets` prints"));
        let data = tempfile::tempdir().unwrap();
        let peer = |i: usize| format!("http://{}", SocketAddr::new(racks.address(i, true), 2380));
        let cluster: Vec<String> = (0..NODES).map(|i| format!("{}={}", name(i), peer(i))).collect();
        let mut etcd = Self { racks, members: Vec::new(), _data: data };
        for i in 0..NODES {
            let client = format!("http://{}", SocketAddr::new(racks.address(i, true), 2379));
            let folder = etcd._data.path().join(name(i));
            let log = File::create(etcd._data.path().join(format!("{}.log", name(i)))).unwrap();
            let mut command = racks.members[i].command(PathBuf::from(&assets).join("etcd").to_str().unwrap());
            command.arg("--name").arg(name(i)).arg("--data-dir").arg(folder);
            command.args(["--listen-peer-urls", &peer(i), "--initial-advertise-peer-urls", &peer(i)]);
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--initial-cluster", &cluster.join(","), "--unsafe-no-fsync", "--log-level", "warn"]);
            let member = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            etcd.members.push(member);
        }
        etcd
    }

    /// A gauge or counter of a member's own metrics; None while it does not answer.
    fn metric(&self, member: usize, metric: &str) -> Option<f64> {
        let address = SocketAddr::new(self.racks.address(member, true), 2379);
        let text = self.racks.members[member].run(|| get(address, "/metrics")).ok()?;
        let value = text.lines().find_map(|l| l.strip_prefix(metric)?.strip_prefix(' '));
        value?.trim().parse().ok()
    }

    /// Whether each member says that it has a leader.
    fn with_leader(&self) -> Vec<Option<bool>> {
        (0..NODES).map(|i| self.metric(i, "etcd_server_has_leader").map(|v| v > 0.0)).collect()
    }

    fn leaders(&self) -> Vec<usize> {
        (0..NODES).filter(|i| self.metric(*i, "etcd_server_is_leader") == Some(1.0)).collect()
    }

    /// Whether every member talks to every other one: after a heal it may take them seconds to dial anew.
    fn all_connected(&self) -> bool {
        let active = |i: usize| {
            let address = SocketAddr::new(self.racks.address(i, true), 2379);
            let text = self.racks.members[i].run(|| get(address, "/metrics")).unwrap_or_default();
            text.lines().filter(|l| l.starts_with("etcd_network_active_peers{") && l.ends_with(" 1")).count()
        };
        (0..NODES).all(|i| active(i) == NODES - 1)
    }

    /// Everybody follows one leader and talks to everybody; says who leads.
    fn settled(&self) -> usize {
        eventually_within(SETTLED, "all follow one leader", || {
            self.leaders().len() == 1 && self.with_leader().iter().all(|l| *l == Some(true)) && self.all_connected()
        });
        self.leaders()[0]
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn spec(cut: Value) -> RackPartitionSpec {
    let spec = json!({"cut": cut, "traffic": [{"class": "EtcdPeer"}], "duration": "60s"});
    serde_json::from_value(spec).unwrap()
}

/// What the graph says of each member: whether it has a leader, given who leads, and whether it may lead.
fn predicted(spec: &RackPartitionSpec, mut snapshot: Snapshot, leader: Option<usize>) -> (Vec<Prospect>, Vec<bool>) {
    if let Some(leader) = leader {
        snapshot.etcd[leader].leads = Some(true);
    }
    let sides = sides(&snapshot, &expand(spec, &snapshot).unwrap());
    let of = |i: usize| sides.iter().find(|s| s.nodes.contains(&name(i))).unwrap();
    (0..NODES).map(|i| (of(i).writable, of(i).quorum)).unzip()
}

/// Whether each member says of its leader what the graph says, given who leads now.
fn as_predicted(etcd: &Etcd<'_>, spec: &RackPartitionSpec) -> bool {
    let leaders = etcd.leaders();
    let (leader, others) = (leaders.first().copied(), leaders.len() > 1);
    let (has_leader, may_lead) = predicted(spec, etcd.racks.snapshot(), leader);
    // Somebody leads where somebody may, and nobody who may not.
    let led_rightly = leader.map_or(!may_lead.contains(&true), |l| may_lead[l]);
    let agrees = |(seen, predicted): (Option<bool>, &Prospect)| seen == Some(*predicted == Prospect::Yes);
    !others && led_rightly && etcd.with_leader().into_iter().zip(&has_leader).all(agrees)
}

/// Cuts peers, and waits until etcd says for a while what the graph says; then heals.
fn check(etcd: &Etcd<'_>, cut: Value) {
    let racks = etcd.racks;
    let before = etcd.settled();
    let spec = spec(cut.clone());
    let plan = racks.plan(&spec);
    let mut tables = racks.cut(&plan);
    let (begun, mut since) = (Instant::now(), None);
    while since.is_none_or(|since: Instant| since.elapsed() < STEADY) {
        if as_predicted(etcd, &spec) {
            since.get_or_insert_with(Instant::now);
        } else {
            since = None;
            let seen = (etcd.leaders(), etcd.with_leader());
            assert!(begun.elapsed() < SETTLED, "not within {SETTLED:?}: {cut}, {} led: now {seen:?}", name(before));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (after, leaders) = (begun.elapsed() - STEADY, etcd.leaders());
    println!(
        "{cut}: {} led, now {leaders:?}, {:?}, from {:.1} s on",
        name(before),
        etcd.with_leader(),
        after.as_secs_f64()
    );
    let table = table_name(&plan.run_uid);
    tables.iter_mut().for_each(|t| t.remove(&table).unwrap());
}

/// Everybody but these racks, by number from 1.
fn others(racks: &[usize]) -> Vec<String> {
    (1..=NODES).filter(|r| !racks.contains(r)).map(|r| format!("r{r}")).collect()
}

#[test]
fn etcd_follows_whom_the_graph_says_in_every_shape() {
    let racks = Racks::new();
    let etcd = Etcd::start(&racks);
    let leader = etcd.settled() + 1;
    let follower = leader % NODES + 1;
    check(&etcd, json!({"isolate": {"racks": [format!("r{leader}")]}}));
    check(&etcd, json!({"ring": {}}));
    check(&etcd, json!({"star": {"hub": {"racks": [format!("r{follower}")]}}}));
    check(&etcd, json!({"chain": {}}));
    check(&etcd, json!({"bridge": {"groups": [{"racks": ["r1"]}, {"racks": ["r2"]}]}}));
    check(
        &etcd,
        json!({"split": {"groups": [{"racks": ["r1", "r2"]}, {"racks": ["r3", "r4"]}, {"racks": ["r5"], "endpoints": ["control-plane-endpoint"]}]}}),
    );
}

#[test]
fn one_direction_of_a_peers_messages_is_enough_to_lose_it() {
    let racks = Racks::new();
    let etcd = Etcd::start(&racks);
    for (direction, of_leader) in [("deaf", false), ("mute", false), ("deaf", true), ("mute", true)] {
        let leader = etcd.settled() + 1;
        let one = if of_leader { leader } else { leader % NODES + 1 };
        let (one, rest) = (json!({"racks": [format!("r{one}")]}), json!({"racks": others(&[one])}));
        let edge = match direction {
            "deaf" => json!({"from": rest, "to": one}),
            _ => json!({"from": one, "to": rest}),
        };
        check(&etcd, json!({"edges": [edge]}));
    }
}
