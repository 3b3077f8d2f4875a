//! `netfilter`, and the agents that go by it, against the real kernel, in private network namespaces. Run as root:
//! `cargo test --test kernel`.
//!
//! Needs `ip` (iproute2) and, as an independent oracle, `nft`. Add `-- --nocapture` to see what was measured.

mod child;
mod conversations;
mod directions;
mod effects;
mod egress;
mod etcd;
mod fixture;
mod gate;
mod heal;
mod lifecycle;
mod listing;
mod node;
mod racks;
mod sets;
mod shapes;
mod stream;
mod struck;
mod traffic;
mod watch;
mod windows;
