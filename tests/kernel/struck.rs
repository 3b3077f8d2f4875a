//! An agent that is held or killed at any moment of a run: nothing has effect after the deadline, and whoever goes on ends it.

use crate::fixture::{LONG, Net, Ns, eventually};
use crate::node::{Node, plan, schedule};
use crate::stream::{ALLOWANCE, Stream, sleep_until};
use jiff::{Timestamp, ToSpan};
use rackpartition::netfilter::TimeWindow;
use std::time::Duration;

const CUT: Duration = Duration::from_secs(1);
/// How long the gates of armed nodes last where nobody schedules.
const UNSCHEDULED: Duration = Duration::from_millis(1500);

/// When the agent of `right` is struck.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Moment {
    /// It has written down that it will load its table. Whether it has, only the kernel knows.
    Arming,
    /// The table is there, and the agent is about to say so.
    TableLoaded,
    Armed,
    /// Both have said that their windows are loaded.
    BetweenTheBarriers,
    MidCut,
    /// About to remove its table.
    Heal,
    /// Both have written down that they have healed, and their tables are gone.
    Recovery,
}

const MOMENTS: [Moment; 7] = [
    Moment::Arming,
    Moment::TableLoaded,
    Moment::Armed,
    Moment::BetweenTheBarriers,
    Moment::MidCut,
    Moment::Heal,
    Moment::Recovery,
];

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    /// Until after the deadline.
    Held,
    /// Another process takes over after the deadline.
    Killed,
    /// Another process takes over at once.
    Replaced,
}

struct Run<'a> {
    left: Node<'a>,
    right: Node<'a>,
    /// What was scheduled.
    cut: Option<TimeWindow>,
}

impl<'a> Run<'a> {
    fn nodes(&mut self) -> [&mut Node<'a>; 2] {
        [&mut self.left, &mut self.right]
    }

    /// Does what leads to a moment, and waits for it.
    fn reach(&mut self, moment: Moment) {
        match moment {
            Moment::Arming => {
                self.nodes().into_iter().for_each(Node::arm);
                eventually("right is about to arm", || self.right.wrote()["armed"].as_bool() == Some(true));
            }
            Moment::TableLoaded => eventually("right has its table", || self.right.table().is_some()),
            Moment::Armed => eventually("both are armed", || self.nodes().into_iter().all(|node| node.is_ready())),
            Moment::BetweenTheBarriers => {
                let cut = self.schedule();
                eventually("both have their windows", || self.nodes().into_iter().all(Node::has_windows));
                assert!(Timestamp::now() < cut.from, "this machine is too busy for this test");
            }
            Moment::MidCut => sleep_until(self.cut.expect("scheduled").from + 200.milliseconds()),
            Moment::Heal => sleep_until(self.cut.expect("scheduled").to),
            Moment::Recovery => self.nodes().into_iter().for_each(|node| node.ends("Healed")),
        }
    }

    fn schedule(&mut self) -> TimeWindow {
        let cut = schedule(CUT);
        self.nodes().into_iter().for_each(|node| node.load(cut));
        *self.cut.insert(cut)
    }

    /// Another process takes over. Who was cut off, or will be, has no word of the run and needs none.
    fn replace(&mut self, at: Moment) {
        self.right.start();
        match self.cut {
            _ if at > Moment::Armed => {}
            Some(cut) => self.right.load(cut),
            None => self.right.arm(),
        }
    }

    /// Its part is over. Were it not for its disk, whoever goes on would arm when told to.
    fn is_not_armed_again(&mut self) {
        self.right.arm();
        // The first may be no look but the beginning of a process, and the second one without the order.
        for _ in 0..3 {
            self.right.looks();
            assert!(self.right.table().is_none(), "armed a second time");
        }
    }

    /// Returns when by the plan nothing has effect any more.
    fn reach_the_deadline(&mut self) {
        match self.cut {
            Some(cut) => sleep_until(cut.to + ALLOWANCE),
            None => {
                self.left.ends("Aborted");
                eventually("the gate of right has run out", || self.right.is_open());
            }
        }
    }
}

fn nothing_has_effect_after_the_deadline(at: Moment, blow: Blow) {
    let net = Net::new();
    let (to_right, to_left) = (Stream::start(&net.left, &net.right, true), Stream::start(&net.right, &net.left, false));
    let plan = plan(&net, CUT, if at < Moment::Armed { UNSCHEDULED } else { LONG });
    let mut run = Run { left: Node::new(&net.left, &plan), right: Node::new(&net.right, &plan), cut: None };
    for moment in MOMENTS.into_iter().take_while(|moment| *moment <= at) {
        run.reach(moment);
    }

    match blow {
        Blow::Held => run.right.hold(),
        Blow::Killed | Blow::Replaced => run.right.kill(),
    }
    let had_its_table = run.right.table().is_some();
    if blow == Blow::Replaced {
        run.replace(at);
    }
    match (at, blow) {
        (Moment::Armed, Blow::Replaced) => {
            run.reach(Moment::Armed);
            run.reach(Moment::BetweenTheBarriers);
        }
        // Both were armed, as far as anybody knows.
        (Moment::Armed, _) => {
            run.schedule();
        }
        _ => {}
    }

    run.reach_the_deadline();
    assert_open(&net);
    match blow {
        Blow::Held => run.right.let_go(),
        Blow::Killed => run.replace(at),
        Blow::Replaced => {}
    }
    if at == Moment::Recovery {
        run.is_not_armed_again();
    }
    run.left.ends(if run.cut.is_some() { "Healed" } else { "Aborted" });
    run.right.ends(match (at, blow) {
        // Whoever takes over finds that it was armed, and nothing of it.
        (Moment::Arming, Blow::Killed | Blow::Replaced) if !had_its_table => "Unfit",
        (Moment::Arming | Moment::TableLoaded, _) => "Aborted",
        // It hears of the schedule when that is over.
        (Moment::Armed, Blow::Held | Blow::Killed) => "Aborted",
        _ => "Healed",
    });

    let end = Timestamp::now();
    let is_cut = at > Moment::Armed || blow == Blow::Replaced;
    for (what, stream, cut) in [("to right", to_right, run.cut.filter(|_| is_cut)), ("to left", to_left, run.cut)] {
        stream.run_past(end);
        stream.stop().assert_lost_in(what, cut.as_slice());
    }
}

/// One datagram each way in each family arrives. One that is dropped never does.
fn assert_open(net: &Net) {
    let arrives = |from: &Ns, to: &Ns, v4: bool| {
        let (sender, receiver) = (from.udp(from.address(v4)), to.udp(to.address(v4)));
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        let what = format!("a datagram to {} arrives over IPv{}", to.device, if v4 { 4 } else { 6 });
        eventually(&what, || receiver.recv(&mut [0; 1]).is_ok());
    };
    for v4 in [true, false] {
        arrives(&net.left, &net.right, v4);
        arrives(&net.right, &net.left, v4);
    }
}

macro_rules! cells {
    ($(fn $test:ident() = $at:ident, $blow:ident;)*) => {$(
        #[test]
        fn $test() {
            nothing_has_effect_after_the_deadline(Moment::$at, Blow::$blow);
        }
    )*};
}

cells! {
    fn a_stopped_agent_that_was_arming() = Arming, Held;
    fn a_killed_agent_that_was_arming() = Arming, Killed;
    fn a_replaced_agent_that_was_arming() = Arming, Replaced;
    fn a_stopped_agent_that_had_just_loaded_its_table() = TableLoaded, Held;
    fn a_killed_agent_that_had_just_loaded_its_table() = TableLoaded, Killed;
    fn a_replaced_agent_that_had_just_loaded_its_table() = TableLoaded, Replaced;
    fn a_stopped_agent_that_was_armed() = Armed, Held;
    fn a_killed_agent_that_was_armed() = Armed, Killed;
    fn a_replaced_agent_that_was_armed() = Armed, Replaced;
    fn a_stopped_agent_between_the_barriers() = BetweenTheBarriers, Held;
    fn a_killed_agent_between_the_barriers() = BetweenTheBarriers, Killed;
    fn a_replaced_agent_between_the_barriers() = BetweenTheBarriers, Replaced;
    fn a_stopped_agent_heals_by_the_window() = MidCut, Held;
    fn a_killed_agent_heals_by_the_window() = MidCut, Killed;
    fn a_replaced_agent_goes_on_in_mid_cut() = MidCut, Replaced;
    fn a_stopped_agent_at_the_heal() = Heal, Held;
    fn a_killed_agent_at_the_heal() = Heal, Killed;
    fn a_replaced_agent_at_the_heal() = Heal, Replaced;
    fn a_stopped_agent_in_recovery() = Recovery, Held;
    fn a_killed_agent_in_recovery() = Recovery, Killed;
    fn a_replaced_agent_in_recovery() = Recovery, Replaced;
}
