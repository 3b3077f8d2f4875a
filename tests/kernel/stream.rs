//! A stream of numbered datagrams from one namespace to the other, and which of them arrived.

use crate::fixture::{Ns, eventually};
use jiff::{SignedDuration, Timestamp};
use rackpartition::netfilter::TimeWindow;
use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between datagrams; with the system's slack about 0.2 ms.
const PAUSE: Duration = Duration::from_micros(150);
/// How far from a window's edge the kernel may be mistaken, beside the time that sending took.
pub const ALLOWANCE: Duration = Duration::from_millis(50);

pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    sender: JoinHandle<Vec<(Timestamp, Timestamp)>>,
    receiver: JoinHandle<HashSet<u64>>,
}

/// When sending it began and ended, by the wall clock, and whether it arrived.
#[derive(Debug)]
pub struct Sent {
    pub before: Timestamp,
    pub after: Timestamp,
    pub arrived: bool,
}

impl Stream {
    /// Begins to send once a first datagram has come through.
    pub fn start(from: &Ns, to: &Ns, v4: bool) -> Self {
        let (sender, receiver) = pair(from, to, v4);
        eventually("a first datagram", || {
            sender.send(&u64::MAX.to_be_bytes()).unwrap();
            receiver.recv(&mut [0; 8]).is_ok()
        });
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let (sending, receiving, counting) = (stop.clone(), stop.clone(), sent.clone());
        let sender = move || {
            let mut times = Vec::new();
            while !sending.load(Ordering::Relaxed) {
                let before = Timestamp::now();
                // Connected: an ICMP error for an earlier datagram would come up here.
                sender.send(&(times.len() as u64).to_be_bytes()).expect("a cut looks like silence to the sender");
                times.push((before, Timestamp::now()));
                counting.store(times.len(), Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            times
        };
        let receiver = move || {
            let (mut arrived, mut buf) = (HashSet::new(), [0; 8]);
            loop {
                let stopped = receiving.load(Ordering::Relaxed);
                match receiver.recv(&mut buf) {
                    Ok(_) => drop(arrived.insert(u64::from_be_bytes(buf))),
                    Err(_) if stopped => return arrived,
                    Err(_) => {}
                }
            }
        };
        Self { stop, sent, sender: std::thread::spawn(sender), receiver: std::thread::spawn(receiver) }
    }
    /// Waits until the wall clock says `moment`, and then for another 100 datagrams: this machine may be busy.
    pub fn run_past(&self, moment: Timestamp) {
        sleep_until(moment);
        let sent = self.sent.load(Ordering::Relaxed);
        eventually("100 datagrams", || self.sent.load(Ordering::Relaxed) > sent + 100);
    }
    pub fn stop(self) -> Trace {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.sender.join().unwrap();
        let arrived = self.receiver.join().unwrap();
        let sent = |(n, (before, after))| Sent { before, after, arrived: arrived.contains(&(n as u64)) };
        Trace(times.into_iter().enumerate().map(sent).collect())
    }
}

fn pair(from: &Ns, to: &Ns, v4: bool) -> (UdpSocket, UdpSocket) {
    let (sender, receiver) = (from.udp(from.address(v4)), to.udp(to.address(v4)));
    sender.connect(SocketAddr::new(to.address(v4), receiver.local_addr().unwrap().port())).unwrap();
    // Nothing may be lost for want of room while this machine is busy.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 32 << 20).unwrap();
    (sender, receiver)
}

pub struct Trace(pub Vec<Sent>);

impl Trace {
    /// First and last of each row of datagrams that did not arrive.
    pub fn gaps(&self) -> Vec<(&Sent, &Sent)> {
        self.0
            .chunk_by(|a, b| a.arrived == b.arrived)
            .filter(|c| !c[0].arrived)
            .map(|c| (&c[0], &c[c.len() - 1]))
            .collect()
    }
    /// Fails unless exactly what was sent inside of the windows was lost. Returns the errors of the edges, in milliseconds:
    /// first lost minus begin, last lost minus end.
    pub fn assert_lost_in(&self, what: &str, windows: &[TimeWindow]) -> Vec<(f64, f64)> {
        let slack = SignedDuration::try_from(ALLOWANCE).unwrap();
        for sent in &self.0 {
            let lost = windows.iter().any(|w| sent.before >= w.from + slack && sent.after < w.to - slack);
            let kept = windows.iter().all(|w| sent.after < w.from - slack || sent.before >= w.to + slack);
            assert!(!lost || !sent.arrived, "{what}: arrived inside of a window: {sent:?}, {windows:?}");
            assert!(!kept || sent.arrived, "{what}: lost outside of every window: {sent:?}, {windows:?}");
        }
        let gaps = self.gaps();
        assert_eq!(gaps.len(), windows.len(), "{what}: gaps {gaps:?}");
        let errors = gaps
            .iter()
            .zip(windows)
            .map(|((first, last), w)| (millis(first.before, w.from), millis(last.before, w.to)));
        let errors = errors.collect::<Vec<_>>();
        println!("{what}: {} datagrams, edges of the cut against the windows (ms): {errors:.3?}", self.0.len());
        errors
    }
    /// Fails unless something arrived that was sent after `moment`, and everything did that was sent `within` after it or later.
    pub fn assert_open_after(&self, moment: Timestamp, within: Duration) {
        let later = moment + SignedDuration::try_from(within).unwrap();
        let lost = self.0.iter().find(|s| s.before >= later && !s.arrived);
        assert!(lost.is_none(), "lost more than {within:?} after {moment}: {lost:?}");
        assert!(self.0.iter().any(|s| s.before >= moment && s.arrived), "nothing arrived after {moment}");
    }
    pub fn last_lost(&self) -> Timestamp {
        self.0.iter().rfind(|s| !s.arrived).expect("something was lost").before
    }
}

fn millis(a: Timestamp, b: Timestamp) -> f64 {
    a.duration_since(b).as_secs_f64() * 1e3
}

/// Sleeps until the wall clock says `moment`. What happens then is measured, never assumed.
pub fn sleep_until(moment: Timestamp) {
    std::thread::sleep(Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default());
}
