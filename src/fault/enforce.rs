//! Who drops the packets of an edge.

use crate::topology::Snapshot;

/// What a member is to its edges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Carries an agent.
    Node,
    /// Has addresses and no agent. `egress`: nodes drop what they send there.
    Endpoint { egress: bool },
}

/// What a member of the snapshot is.
pub fn kind(snapshot: &Snapshot, name: &str) -> Kind {
    match snapshot.node(name) {
        Some(_) => Kind::Node,
        None => Kind::Endpoint { egress: snapshot.endpoints.iter().any(|e| e.name == name && e.egress) },
    }
}

/// The node that drops packets from one member to another: the receiver, else the sender where that is asked for. Between two
/// endpoints there is nobody.
pub fn enforcer<'a>(from: (&'a str, Kind), to: (&'a str, Kind)) -> Option<&'a str> {
    match (from, to) {
        (_, (to, Kind::Node)) => Some(to),
        ((from, Kind::Node), (_, Kind::Endpoint { egress: true })) => Some(from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_drops_or_else_the_sender_or_nobody() {
        let (node, plain, egress) = (Kind::Node, Kind::Endpoint { egress: false }, Kind::Endpoint { egress: true });
        let who = |from, to| enforcer(("a", from), ("b", to));
        assert_eq!([who(node, node), who(plain, node), who(egress, node)], [Some("b"); 3]);
        assert_eq!([who(node, plain), who(node, egress)], [None, Some("a")]);
        assert_eq!([who(plain, egress), who(egress, egress)], [None; 2]);
    }
}
