//! Fresh TCP connections to every port of the plan: which paths are alive, as seen from this node.

use super::journal::Journal;
use crate::{
    api::SpanKind,
    fault::ProbeTarget,
    observe::{Look, Observation},
};
use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
    time::Duration,
};
use tokio::{
    net::TcpSocket,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

/// Between two probes of one target.
const PERIOD: Duration = Duration::from_secs(1);
/// A little less than a period, so that a silent target is probed as often as others; and than TCP's first retransmission
/// after 1 s (RFC 6298), so that an answer is one to the packet whose time is noted.
const DEADLINE: Duration = Duration::from_millis(950);

/// Probes every target once a period, spread over it. Never returns while there are targets.
pub async fn probe_all(targets: Vec<ProbeTarget>, journal: Journal) {
    let mut tasks = JoinSet::new();
    let (begin, count) = (Instant::now(), targets.len().max(1) as u32);
    for (i, target) in targets.into_iter().enumerate() {
        tasks.spawn(probe(target, begin + PERIOD * i as u32 / count, journal.clone()));
    }
    tasks.join_all().await;
}

/// One connection at a time for each target, so that nothing piles up.
async fn probe(target: ProbeTarget, first: Instant, journal: Journal) {
    let subject = target.subject();
    let mut ticks = interval_at(first, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // The time of the first packet: silence means that it, or the answer to it, was lost.
        let look = Look::begin();
        let (state, detail) = connect(target.address).await;
        if is_of_first_packet(&look, state) {
            let seen = Observation { detail, ..Observation::new(subject.as_str(), state) };
            journal.observe(SpanKind::Probe, look.begun().clone(), seen);
        }
    }
}

/// An agent that was held finds an answer after the deadline, and that may be one to a packet that TCP sent later: after the heal, say. Or
/// it was held before the packet left, and the silence is one of later.
fn is_of_first_packet(look: &Look, state: &str) -> bool {
    if state == "silent" { !look.was_held(DEADLINE) } else { !look.has_lasted(DEADLINE) }
}

/// State and detail of one try.
async fn connect(address: SocketAddr) -> (&'static str, Option<String>) {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => return ("unreachable", Some(error.to_string())),
    };
    match timeout(DEADLINE, socket.connect(address)).await {
        Err(_) => ("silent", None),
        Ok(Ok(stream)) => {
            // Reset instead of a farewell: no state is left on either side, whatever happens to the network.
            let _ = stream.set_zero_linger();
            ("open", None)
        }
        Ok(Err(error)) => failure(&error),
    }
}

fn failure(error: &Error) -> (&'static str, Option<String>) {
    match error.kind() {
        // Somebody answered.
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => ("refused", None),
        ErrorKind::TimedOut => ("silent", None),
        _ => ("unreachable", Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::PortClass;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn open_and_refused_against_real_sockets() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).await.unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(connect(address).await, ("open", None));
            drop(listener);
            assert_eq!(connect(address).await, ("refused", None));
        }
    }

    #[test]
    fn errors_of_the_local_stack_are_not_silence() {
        for (errno, state) in
            [(113, "unreachable"), (101, "unreachable"), (1, "unreachable"), (104, "refused"), (110, "silent")]
        {
            assert_eq!(failure(&Error::from_raw_os_error(errno)).0, state, "{errno}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_was_found_too_late_tells_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let look = Look::begin();
        // The only thread stands still between the first packet and the answer, as that of a process that is stopped.
        let held = async { std::thread::sleep(DEADLINE + Duration::from_millis(20)) };
        let ((state, _), ()) = tokio::join!(connect(listener.local_addr().unwrap()), held);
        assert_eq!(state, "open");
        assert!(!is_of_first_packet(&look, state), "it would be taken for an answer in the cut");
        assert!(is_of_first_packet(&look, "silent"), "no packet was answered, neither the first one");
        std::thread::sleep(Duration::from_secs(1));
        assert!(!is_of_first_packet(&look, "silent"), "when that packet left nobody knows");
    }

    #[tokio::test]
    async fn every_target_gets_its_span() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = |member: &str| ProbeTarget { member: member.into(), class: PortClass::Kubelet, address };
        let journal = Journal::new(String::new(), String::new(), None);
        let probing = tokio::spawn(probe_all(vec![target("a"), target("b")], journal.clone()));
        let both_twice = async {
            loop {
                let spans = journal.status().spans;
                if spans.len() == 2 && spans.iter().all(|s| s.samples >= 2) {
                    return spans;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let spans = timeout(Duration::from_secs(10), both_twice).await.unwrap();
        let seen: Vec<_> = spans.iter().map(|s| (s.subject.as_str(), s.state.as_str())).collect();
        assert_eq!(seen, [("a/Kubelet", "open"), ("b/Kubelet", "open")]);
        probing.abort();
    }
}
