//! A node with a real agent: it carries out its part in the kernel of a network namespace, which outlives its process as its disk
//! does. The orders are the test's.

use crate::child::{self, Child};
use crate::fixture::{Net, Ns, PORT, TABLE, TOKEN, eventually, window};
use crate::listing::load_again;
use ipnet::IpNet;
use rackpartition::{
    agent::{self, AgentArgs, Order, ReadyArgs, Times},
    fault::RunPlan,
    netfilter::{Netfilter, TableState, TimeWindow},
};
use serde_json::{Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{runtime, sync::watch};

/// Its table is [`TABLE`].
const RUN_UID: &str = "test";
/// From the schedule to the cut, milliseconds. The operator, whose agents hear of it through the API, gives three times as much.
const AHEAD: i64 = 3000;

/// A plan in which both ends no longer hear each other. `cut` is how long, `longest` how long the gate of an armed node lasts.
pub fn plan(net: &Net, cut: Duration, longest: Duration) -> Value {
    let member = |ns: &Ns| {
        let cidrs = [ns.v4, ns.v6].map(IpNet::from);
        json!({"name": ns.device, "hasAgent": true, "cidrs": cidrs, "healAddresses": [ns.v4, ns.v6]})
    };
    let edge = |from: &Ns, to: &Ns| json!({"from": [from.device], "to": [to.device]});
    let token: String = TOKEN.iter().map(|b| format!("{b:02x}")).collect();
    json!({
        "run": "test", "runUid": RUN_UID, "members": [member(&net.left), member(&net.right)],
        "edges": [edge(&net.left, &net.right), edge(&net.right, &net.left)],
        "heal": {"port": PORT, "token": token}, "durationSeconds": cut.as_secs_f64(),
        "longestSeconds": longest.as_secs_f64(), "probes": [], "apiServers": [], "writable": [],
    })
}

/// When a cut of this length has effect that is scheduled now.
pub fn schedule(cut: Duration) -> TimeWindow {
    window(AHEAD, AHEAD + cut.as_millis() as i64)
}

/// One end of a [`Net`], and its agent where there is one.
pub struct Node<'a> {
    ns: &'a Ns,
    kernel: Netfilter,
    // Goes before its disk.
    agent: Option<Child>,
    disk: TempDir,
}

impl<'a> Node<'a> {
    /// Its agent has no orders yet.
    pub fn new(ns: &'a Ns, plan: &Value) -> Self {
        // In memory where there is such a thing: an agent waits for its disk.
        let disk = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        fs::write(disk.path().join(RunPlan::FILE), plan.to_string()).unwrap();
        let mut node = Self { ns, kernel: ns.netfilter(), agent: None, disk };
        node.start();
        node
    }
    /// Starts another process, without orders.
    pub fn start(&mut self) {
        self.agent = None;
        // What a killed one said of itself.
        let _ = fs::remove_file(ready(self.disk.path()));
        let directory = self.disk.path().to_str().unwrap();
        self.agent = Some(Child::start(self.ns, child::AGENT, &[self.ns.device, directory]));
    }
    pub fn kill(&mut self) {
        self.agent = None;
    }
    /// As far as its agent can tell: the kernel under all tests stays the same boot.
    pub fn reboots_and_has_its_table_restored(&mut self) {
        self.kill();
        let mut wrote = self.wrote();
        wrote["bootId"] = "an earlier boot".into();
        fs::write(state_file(self.disk.path()), wrote.to_string()).unwrap();
        load_again(self.ns);
        assert!(!self.is_open(), "it came back with its gate");
        self.start();
    }
    pub fn hold(&self) {
        self.agent.as_ref().expect("an agent").hold();
    }
    pub fn let_go(&self) {
        self.agent.as_ref().expect("an agent").let_go();
    }

    pub fn arm(&mut self) {
        self.tell("arm");
    }
    pub fn load(&mut self, window: TimeWindow) {
        self.tell(&format!("load {} {}", window.from, window.to));
    }
    pub fn abort(&mut self) {
        self.tell("abort");
    }
    /// Who is held hears it later, and who is gone never.
    fn tell(&mut self, order: &str) {
        if let Some(agent) = &mut self.agent {
            agent.tell(order);
        }
    }
    /// From arming to windows that are loaded, for a cut of this length.
    pub fn cut(&mut self, length: Duration) -> TimeWindow {
        self.arm();
        eventually("the node is armed", || self.is_ready());
        let window = schedule(length);
        self.load(window);
        eventually("the windows are loaded", || self.has_windows());
        window
    }

    pub fn table(&mut self) -> Option<TableState> {
        self.kernel.state(TABLE).unwrap()
    }
    pub fn has_windows(&mut self) -> bool {
        self.table().is_some_and(|table| table.windows > 0)
    }
    /// No rule of its can have effect any more.
    pub fn is_open(&mut self) -> bool {
        self.table().is_none_or(|table| table.gate.is_none())
    }
    /// As the kubelet learns it.
    pub fn is_ready(&self) -> bool {
        ready(self.disk.path()).exists()
    }
    /// Waits until an agent that holds nothing has looked again: it takes back a readiness that nobody meant.
    pub fn looks(&self) {
        fs::write(ready(self.disk.path()), "").unwrap();
        eventually("the agent looks", || !self.is_ready());
    }
    /// What the agent has on its disk against a second arming; null before it has.
    pub fn wrote(&self) -> Value {
        fs::read(state_file(self.disk.path())).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap())
    }
    /// Waits until this node's part has ended like this and its table is gone.
    pub fn ends(&mut self, phase: &str) {
        let name = self.ns.device;
        eventually(&format!("{name} has ended"), || self.wrote()["ended"].is_object() && self.table().is_none());
        let ended = self.wrote()["ended"].clone();
        assert_eq!(ended["phase"], phase, "{name}: {ended}");
    }
}

fn ready(directory: &Path) -> PathBuf {
    directory.join("ready")
}

fn state(directory: &Path) -> PathBuf {
    directory.join("state")
}

fn state_file(directory: &Path) -> PathBuf {
    state(directory).join(RUN_UID).join("state.json")
}

/// The agent's side: takes orders, a line each, until nobody is there to give any.
pub fn be_its_agent(name: &str, directory: &Path) {
    let args = AgentArgs {
        plan: directory.join(RunPlan::FILE),
        node: name.into(),
        namespace: String::new(),
        state_dir: state(directory),
        ready: ReadyArgs { ready_file: ready(directory) },
        runtime_socket: String::new(),
        etcd_certificates: String::new(),
        pod_logs: String::new(),
        leader_metrics: false,
    };
    let (order, orders) = watch::channel(Order::default());
    let (stop, stopped) = watch::channel(false);
    thread::spawn(move || {
        for line in io::stdin().lines() {
            order.send_replace(order_of(&line.unwrap()));
        }
        stop.send_replace(true);
    });
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(agent::carry_out(&args, orders, stopped)).unwrap();
}

fn order_of(line: &str) -> Order {
    let known = Order { known: true, ..Order::default() };
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["arm"] => Order { may_arm: true, ..known },
        ["load", cut_at, heal_at] => {
            let times = Times { cut_at: cut_at.parse().unwrap(), heal_at: heal_at.parse().unwrap() };
            Order { may_load: true, times: Some(times), ..known }
        }
        ["abort"] => Order { abort: Some("the test says so".into()), ..known },
        _ => panic!("no such order: {line}"),
    }
}
