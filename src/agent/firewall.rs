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

impl Firewall for Netfilter {
    fn arm(&mut self, spec: &TableSpec, gate: Duration) -> Result<(), Error> {
        Netfilter::arm(self, spec, gate)
    }
    fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), Error> {
        Netfilter::cut(self, table, windows, gate)
    }
    fn close_gate(&mut self, table: &str) -> Result<(), Error> {
        Netfilter::close_gate(self, table)
    }
    fn remove(&mut self, table: &str) -> Result<(), Error> {
        Netfilter::remove(self, table)
    }
    fn tables(&mut self) -> Result<Vec<String>, Error> {
        Netfilter::tables(self)
    }
    fn state(&mut self, table: &str) -> Result<Option<TableState>, Error> {
        Netfilter::state(self, table)
    }
    fn send_heal(&mut self, addresses: &[IpAddr], spec: &TableSpec) -> std::io::Result<usize> {
        send_heal(addresses, spec.heal_port, &spec.heal_token)
    }
}
