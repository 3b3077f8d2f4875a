//! What an agent asks of the kernel, as a trait, so that its order of doing things is tested without one.

use crate::netfilter::{Error, Netfilter, TableSpec, TableState, TimeWindow, send_heal};
use jiff::Timestamp;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// The calls of [`Netfilter`] and the heal packet.
pub trait Firewall: Send + 'static {
    fn arm(&mut self, spec: &TableSpec, gate: Duration) -> Result<(), Error>;
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), Error>;
    fn close_gate(&mut self, table: &str) -> Result<(), Error>;
    fn remove(&mut self, table: &str) -> Result<(), Error>;
    fn tables(&mut self) -> Result<Vec<String>, Error>;
    fn state(&mut self, table: &str) -> Result<Option<TableState>, Error>;
    fn send_heal(&mut self, addresses: &[IpAddr], spec: &TableSpec) -> std::io::Result<usize>;
    /// The wall clock, by which windows go, and the one that is never stepped, by which gates do.
    fn now(&self) -> (Timestamp, Instant) {
        (Timestamp::now(), Instant::now())
    }
}

/// This node's kernel. The first call opens the socket, and where that fails the next one does: whoever can't ask its kernel still tells
/// others of an abort, which takes no more than a datagram.
#[derive(Default)]
pub struct OwnKernel(Option<Netfilter>);

impl OwnKernel {
    fn open(&mut self) -> Result<&mut Netfilter, Error> {
        match &mut self.0 {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(Netfilter::open()?)),
        }
    }
}

impl Firewall for OwnKernel {
    fn arm(&mut self, spec: &TableSpec, gate: Duration) -> Result<(), Error> {
        self.open()?.arm(spec, gate)
    }
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), Error> {
        self.open()?.cut(table, windows, gate)
    }
    fn close_gate(&mut self, table: &str) -> Result<(), Error> {
        self.open()?.close_gate(table)
    }
    fn remove(&mut self, table: &str) -> Result<(), Error> {
        self.open()?.remove(table)
    }
    fn tables(&mut self) -> Result<Vec<String>, Error> {
        self.open()?.tables()
    }
    fn state(&mut self, table: &str) -> Result<Option<TableState>, Error> {
        self.open()?.state(table)
    }
    fn send_heal(&mut self, addresses: &[IpAddr], spec: &TableSpec) -> std::io::Result<usize> {
        send_heal(addresses, spec.heal_port, &spec.heal_token)
    }
}
