//! How to reach an API server while the network is being cut.
//!
//! Through a Service's address or a load balancer some connections end in the rack that is about to be cut, and a client
//! without deadlines then waits for minutes. A [`Route`] dials API servers by their own addresses, one at a time, in an order
//! that can change during a run; every request has a deadline, and a failure moves on to the next server.

mod fate;
mod route;

pub use fate::fate;
pub use route::{Error, Route};
