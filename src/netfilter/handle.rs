//! Arm, cut, heal, remove and look: the calls an agent makes.

use super::{Error, TableSpec, TableState, TimeWindow};
use std::time::Duration;

/// One netlink socket to nf_tables of the network namespace it was opened in. Every call is bounded in time.
#[derive(Debug)]
pub struct Netfilter {}

impl Netfilter {
    /// # Errors
    /// [`Error::NotPermitted`] without CAP_NET_ADMIN.
    pub fn open() -> Result<Self, Error> {
        unimplemented!()
    }
    /// Loads the table with its gate in and no windows.
    ///
    /// # Errors
    /// [`Error::TableExists`] where the table is there already.
    pub fn arm(&mut self, _spec: &TableSpec, _gate: Duration) -> Result<(), Error> {
        unimplemented!()
    }
    /// Loads the windows and the final gate in one transaction.
    ///
    /// # Errors
    /// [`Error::GateClosed`] where a heal packet or the gate's timeout came first.
    pub fn cut(&mut self, _table: &str, _windows: &[TimeWindow], _gate: Duration) -> Result<(), Error> {
        unimplemented!()
    }
    /// Heals this node. Ok if the gate was closed already.
    ///
    /// # Errors
    /// [`Error::NoTable`] where there is no such table.
    pub fn close_gate(&mut self, _table: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// Deletes the table. Ok if it is absent.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn remove(&mut self, _table: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// Names of all tables of ours.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn tables(&mut self) -> Result<Vec<String>, Error> {
        unimplemented!()
    }
    /// What the kernel knows about a table; `None` where it is absent.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn state(&mut self, _table: &str) -> Result<Option<TableState>, Error> {
        unimplemented!()
    }
}
