//! The netlink socket: one transaction or one dump at a time, and never without a deadline.

use super::Error;
use super::decode::{Message, messages};
use super::numbers::*;
use super::wire::{self, Attrs, Batch};
use netlink_sys::{Socket as Netlink, SocketAddr};
use rustix::net::{RecvFlags, sockopt};
use std::io;
use std::time::{Duration, Instant};

/// How long the kernel may take to answer one call. It answers in milliseconds unless another's transaction holds its lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// A transaction is one `send`; 10,000 intervals take 640 KB, and the default send buffer is 208 KiB.
const SEND_BUFFER: usize = 8 << 20;
/// The kernel builds dumps in pieces of at most 32 KiB (`netlink_dump`).
const RECEIVE_BUFFER: usize = 64 << 10;
/// Times that a dump is begun again because the rule set changed meanwhile.
const DUMP_TRIES: usize = 20;

/// Why a transaction was not committed: which of its messages the kernel refused first.
pub struct Refusal {
    pub message: usize,
    pub label: String,
    pub source: io::Error,
}

pub struct Socket {
    netlink: Netlink,
    seq: u32,
    buf: Vec<u8>,
}

impl Socket {
    pub fn open() -> io::Result<Self> {
        let mut netlink = Netlink::new(NETLINK_NETFILTER)?;
        netlink.bind_auto()?;
        netlink.connect(&SocketAddr::new(0, 0))?;
        // Errors shall not bring the refused message back with them.
        netlink.set_cap_ack(true)?;
        // Only root of the host may; without it, tables of more than some 3,000 intervals fail with EMSGSIZE.
        if sockopt::set_socket_send_buffer_size_force(&netlink, SEND_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&netlink, SEND_BUFFER)?;
        }
        Ok(Self { netlink, seq: 1, buf: vec![0; RECEIVE_BUFFER] })
    }

    /// Commits the batch, as a whole or not at all. The inner result is the kernel's answer.
    pub fn commit(&mut self, batch: Batch) -> Result<Result<(), Refusal>, Error> {
        let first = self.seq;
        let (bytes, labels) = batch.finish(first);
        let count = u32::try_from(labels.len()).unwrap_or(u32::MAX);
        self.seq = first.wrapping_add(count + 1);
        self.send(&bytes, "the answer to a transaction")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let received = self.receive(deadline, "the answer to a transaction")?;
            for answer in messages(&self.buf[..received]).filter(|m| m.kind == NLMSG_ERROR) {
                let message = answer.seq.wrapping_sub(first); // answers to earlier calls that timed out are far off
                let Some(label) = labels.get(message as usize) else { continue };
                match answer.error() {
                    Some(0) if message == count - 1 => return Ok(Ok(())),
                    Some(0) | None => {}
                    Some(errno) => {
                        let source = io::Error::from_raw_os_error(errno.wrapping_neg());
                        return Ok(Err(Refusal { message: message as usize, label: label.clone(), source }));
                    }
                }
            }
        }
    }

    /// Collects what `read` makes of each message of a dump. The inner result is the kernel's answer.
    pub fn dump<T>(
        &mut self,
        what: &'static str,
        msg: u16,
        build: impl Fn(&mut Attrs),
        read: impl Fn(&Message<'_>) -> T,
    ) -> Result<io::Result<Vec<T>>, Error> {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..DUMP_TRIES {
            let seq = self.seq;
            self.seq = seq.wrapping_add(1);
            self.send(&wire::request(msg, F_DUMP, seq, &build), what)?;
            let (mut rows, mut interrupted, mut done) = (Vec::new(), false, false);
            while !done {
                let received = self.receive(deadline, what)?;
                for message in messages(&self.buf[..received]).filter(|m| m.seq == seq) {
                    interrupted |= message.flags & F_DUMP_INTR != 0;
                    match (message.kind, message.error()) {
                        (NLMSG_ERROR | NLMSG_DONE, Some(errno @ ..0)) => {
                            return Ok(Err(io::Error::from_raw_os_error(errno.wrapping_neg())));
                        }
                        (NLMSG_ERROR | NLMSG_DONE, _) => done = true,
                        _ => rows.push(read(&message)),
                    }
                }
            }
            if !interrupted {
                return Ok(Ok(rows));
            }
        }
        Err(Error::Restless { what })
    }

    fn send(&self, bytes: &[u8], what: &'static str) -> Result<(), Error> {
        // The kernel works a transaction off inside of this call.
        match self.netlink.send(bytes, 0) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(Error::Exchange { what, source: io::ErrorKind::WriteZero.into() }),
            Err(source) => Err(Error::Exchange { what, source }),
        }
    }

    fn receive(&mut self, deadline: Instant, what: &'static str) -> Result<usize, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Silence { what, patience: PATIENCE });
            }
            // Zero would mean for ever, and less than a microsecond is zero to the kernel.
            let left = left.max(Duration::from_millis(1));
            let received = sockopt::set_socket_timeout(&self.netlink, sockopt::Timeout::Recv, Some(left))
                .and_then(|()| rustix::net::recv(&self.netlink, &mut self.buf[..], RecvFlags::TRUNC));
            match received.map_err(io::Error::from) {
                Ok((_, full)) if full > self.buf.len() => return Err(Error::TooLong { what, bytes: full }),
                Ok((received, _)) => return Ok(received),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(source) => return Err(Error::Exchange { what, source }),
            }
        }
    }
}
