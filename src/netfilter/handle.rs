//! Arm, cut, heal, remove and look: the calls an agent makes.

use super::decode::Message;
use super::error::is_lasting;
use super::numbers::*;
use super::socket::{Refusal, Socket};
use super::state::{self, Counters};
use super::table::{self, GATE, WINDOWS};
use super::wire::Batch;
use super::{Error, TableSpec, TableState, TimeWindow};
use crate::api::TABLE_PREFIX;
use rustix::io::Errno;
use std::{io, time::Duration};

/// Shortest gate. The kernel rounds down to its ticks (at worst 10 ms) and takes zero for no timeout at all: a gate that never
/// closes.
const SHORTEST_GATE: Duration = Duration::from_millis(100);

const TABLES: &str = "the list of tables";

/// One netlink socket to nf_tables of the network namespace that it was opened in.
///
/// Every call waits 5 s at most for the kernel's answers. Tables have no owner: they outlive this handle and the process.
pub struct Netfilter {
    socket: Socket,
}

impl Netfilter {
    /// Opens the socket, and asks nothing: [`Self::tables`] shows what is missing.
    ///
    /// # Errors
    /// [`Error::Open`] where the kernel gives none.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)? })
    }

    /// Loads the table with its gate in and no windows: it counts heal packets and drops nothing. The gate closes by itself
    /// after `gate`, measured by the kernel's monotonic clock in milliseconds.
    ///
    /// # Errors
    /// [`Error::TableExists`], [`Error::GateTooShort`] below 100 ms, [`Error::Loss`], or what the kernel refused; then nothing was changed.
    pub fn arm(&mut self, spec: &TableSpec, gate: Duration) -> Result<(), Error> {
        check(&spec.name)?;
        check_gate(&spec.name, gate)?;
        self.socket.commit(table::arm(spec, gate)?)?.map_err(|refusal| match refusal.source {
            e if refusal.message == table::CREATE && is(&e, Errno::EXIST) => {
                Error::TableExists { table: spec.name.clone() }
            }
            _ => refused("arm", &spec.name, refusal),
        })
    }

    /// Loads the windows and lets the gate close after `gate` from now, in one transaction that takes the open gate out first. The same
    /// windows may be loaded again, with another gate.
    ///
    /// Taking and committing is no single moment to the packets: one that arrives in between may delete the element that is
    /// going anyway, and would be lost (seen about once in 100 packets aimed at the transaction). So the heal rule counts
    /// before it deletes, and a count that is not zero after the commit closes the gate again. Should this process die between
    /// the two, the next heal packet heals: whoever sends them sends more than one.
    ///
    /// # Errors
    /// [`Error::GateClosed`] where a heal packet or the gate's timeout came first. After any error but [`Error::Silence`] and
    /// [`Error::Exchange`] nothing has effect; after those two, [`Self::close_gate`] or [`Self::remove`] make sure.
    pub fn cut(&mut self, table: &str, windows: &[TimeWindow], gate: Duration) -> Result<(), Error> {
        check(table)?;
        check_gate(table, gate)?;
        if let Err(refusal) = self.socket.commit(table::cut(table, windows, gate)?)? {
            return Err(match refusal.source {
                e if refusal.message == table::TAKE_GATE && is(&e, Errno::NOENT) => {
                    let table = table.to_owned();
                    if self.exists(&table)? { Error::GateClosed { table } } else { Error::NoTable { table } }
                }
                _ => refused("cut by", table, refusal),
            });
        }
        let healed = match self.counters(table) {
            Ok(Counters { heal: 0, .. }) => return Ok(()),
            Ok(_) => Error::GateClosed { table: table.to_owned() },
            Err(e) => e,
        };
        self.close_gate(table)?;
        Err(healed)
    }

    /// Heals this node: nothing in the table has effect any more. Ok where the gate is closed already, or the table is gone.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn close_gate(&mut self, table: &str) -> Result<(), Error> {
        check(table)?;
        self.unless_absent("close the gate of", table, table::close_gate(table))
    }

    /// Deletes the table. Ok where it is absent.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn remove(&mut self, table: &str) -> Result<(), Error> {
        check(table)?;
        self.unless_absent("remove", table, table::remove(table))
    }

    /// Names of all `inet` tables that may be ours: they begin with [`TABLE_PREFIX`], and [`Self::arm`] would take them. Whoever else has
    /// one that it would not take keeps it, and is in nobody's way.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without CAP_NET_ADMIN; [`Error::Open`] where the kernel has no nf_tables; [`Error::Read`] or another where it
    /// gives no list for once.
    pub fn tables(&mut self) -> Result<Vec<String>, Error> {
        let names = self.socket.dump(TABLES, msg::GETTABLE, |_| {}, own_name)?.map_err(unlisted)?;
        Ok(names.into_iter().flatten().collect())
    }

    /// What the kernel knows about the table; `None` where it is absent. The parts are read one after another.
    ///
    /// # Errors
    /// As of [`Self::tables`], or where the kernel refuses.
    pub fn state(&mut self, table: &str) -> Result<Option<TableState>, Error> {
        if !self.exists(table)? {
            return Ok(None);
        }
        let gate = self.elements("the gate", table, GATE, |m| state::gate(m.attributes()));
        let windows = self.elements("the windows", table, WINDOWS, |m| state::intervals(m.attributes()));
        match (gate, windows) {
            // Removed by another meanwhile.
            (Err(Error::Read { source, .. }), _) | (_, Err(Error::Read { source, .. }))
                if is(&source, Errno::NOENT) =>
            {
                Ok(None)
            }
            (gate, windows) => {
                let Counters { dropped, heal, rules, in_table } = self.counters(table)?;
                Ok(Some(TableState {
                    gate: gate?.into_iter().flatten().next(),
                    windows: windows?.into_iter().sum(),
                    dropped_packets: dropped,
                    rule_packets: rules,
                    rules: in_table,
                    heal_packets: heal,
                }))
            }
        }
    }

    fn exists(&mut self, table: &str) -> Result<bool, Error> {
        Ok(self.tables()?.iter().any(|t| t == table))
    }

    fn counters(&mut self, table: &str) -> Result<Counters, Error> {
        const WHAT: &str = "the rules";
        let ours = |m: &Message<'_>| {
            // Kernels differ in how far they filter.
            (m.attributes().str(TABLE) == Some(table)).then(|| state::count(m.attributes()))
        };
        let build = |a: &mut super::wire::Attrs| {
            a.str(TABLE, table);
        };
        let rules = self.socket.dump(WHAT, msg::GETRULE, build, ours)?;
        let rules = rules.map_err(|source| Error::Read { what: WHAT, source })?;
        Ok(rules.into_iter().flatten().collect())
    }

    fn elements<T>(
        &mut self,
        what: &'static str,
        table: &str,
        set: &str,
        read: impl Fn(&Message<'_>) -> T,
    ) -> Result<Vec<T>, Error> {
        let build = |a: &mut super::wire::Attrs| {
            a.str(TABLE, table).str(elem::LIST_SET, set);
        };
        self.socket.dump(what, msg::GETSETELEM, build, read)?.map_err(|source| Error::Read { what, source })
    }

    fn unless_absent(&mut self, verb: &'static str, table: &str, batch: Batch) -> Result<(), Error> {
        match self.socket.commit(batch)? {
            Err(refusal) if !is(&refusal.source, Errno::NOENT) => Err(refused(verb, table, refusal)),
            _ => Ok(()),
        }
    }
}

/// Whatever goes wrong elsewhere, no table but ours is ever touched.
fn check(table: &str) -> Result<(), Error> {
    if is_ours(table) { Ok(()) } else { Err(Error::Name { table: table.to_owned() }) }
}

/// Whether a table of this name can have been made here.
fn is_ours(table: &str) -> bool {
    let plain = |rest: &str| {
        !rest.is_empty() && rest.len() <= 200 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    table.strip_prefix(TABLE_PREFIX).is_some_and(plain)
}

fn own_name(table: &Message<'_>) -> Option<String> {
    table.attributes().str(TABLE).filter(|name| is_ours(name)).map(str::to_owned)
}

/// Why the kernel gives no list of tables.
fn unlisted(source: io::Error) -> Error {
    match source {
        e if is(&e, Errno::PERM) => Error::NotPermitted,
        e if is_lasting(&e) => Error::Open(e),
        source => Error::Read { what: TABLES, source },
    }
}

fn check_gate(table: &str, gate: Duration) -> Result<(), Error> {
    match gate {
        gate if gate >= SHORTEST_GATE => Ok(()),
        gate => Err(Error::GateTooShort { table: table.to_owned(), gate, minimum: SHORTEST_GATE }),
    }
}

pub fn is(e: &io::Error, errno: Errno) -> bool {
    e.raw_os_error() == Some(errno.raw_os_error())
}

pub fn refused(verb: &'static str, table: &str, Refusal { message, label, source }: Refusal) -> Error {
    Error::Refused { verb, table: table.to_owned(), what: label, message, source }
}

#[cfg(test)]
mod tests {
    use super::super::decode::messages;
    use super::super::wire;
    use super::*;

    #[test]
    fn a_table_is_ours_by_a_name_that_we_could_have_given_it() {
        let listed = |name: &str| {
            let answer = wire::request(msg::NEWTABLE, 0, 1, |a| {
                a.str(TABLE, name);
            });
            messages(&answer).find_map(|table| own_name(&table))
        };
        for name in ["rackpartition-1a2b3c4d", "rackpartition-own", "rackpartition-a-b"] {
            assert_eq!(listed(name).as_deref(), Some(name));
        }
        for name in ["rackpartition-x_y", "rackpartition-", "rackpartition_watch_1a2b3c4d", "kube-proxy"] {
            assert_eq!(listed(name), None);
        }
    }

    #[test]
    fn a_kernel_that_is_busy_is_asked_again_and_one_without_nf_tables_is_not() {
        for errno in [Errno::BUSY, Errno::NOMEM, Errno::INTR, Errno::AGAIN] {
            assert!(matches!(unlisted(errno.into()), Error::Read { .. }), "{errno}");
        }
        assert!(matches!(unlisted(Errno::INVAL.into()), Error::Open(_)));
        assert!(matches!(unlisted(Errno::PERM.into()), Error::NotPermitted));
    }
}
