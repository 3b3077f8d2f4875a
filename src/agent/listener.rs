//! Whose sockets are on a TCP port of this node, in the kernel's own words.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind},
    net::{IpAddr, SocketAddr},
    str::from_utf8,
};

/// Sockets of either family, of the network namespace that the reader is in: an agent's is its node's.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_ESTABLISHED` and `TCP_LISTEN` (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const LISTENS: &str = "0A";

/// A socket that a process has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Socket {
    /// The user whose process made it, or took it from a listening one.
    pub uid: u32,
    /// Tells it from every other socket there is: a process that is started anew has another one.
    pub inode: u64,
}

/// Every socket that listens on this port, on whatever address.
///
/// # Errors
/// Where the kernel's table can't be read.
pub fn on(port: u16) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for table in tables()? {
        found.extend(listeners(table.lines(), port)?);
    }
    Ok(found)
}

/// The other end of a connection within this node, from `here` to `there`. `None` as long as no process has taken it.
///
/// # Errors
/// Where the kernel's table can't be read.
pub fn other_end(here: SocketAddr, there: SocketAddr) -> io::Result<Option<Socket>> {
    for table in tables()? {
        let found = taken(table.lines(), here, there)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn tables() -> io::Result<Vec<BufReader<File>>> {
    let mut tables = Vec::new();
    for table in TABLES {
        match File::open(table) {
            // A kernel that was told to do without IPv6 has no such table.
            Err(error) if error.kind() == ErrorKind::NotFound && table.ends_with('6') => {}
            file => tables.push(BufReader::new(file?)),
        }
    }
    Ok(tables)
}

/// Those that listen come first (`tcp_seq_start`, `net/ipv4/tcp_ipv4.c`): of a node's many connections none is read.
pub fn listeners(lines: impl Iterator<Item = io::Result<String>>, port: u16) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    // The first line names the columns.
    for line in lines.skip(1) {
        let line = line?;
        let Some(row) = Row::read(&line).filter(|row| row.state == LISTENS) else { break };
        if row.local.port() == port {
            found.push(row.socket);
        }
    }
    Ok(found)
}

/// Before it is taken a connection has no inode and passes for root's, and so does what is left of one (`sock_i_uid`, `net/core/sock.c`).
pub fn taken(
    lines: impl Iterator<Item = io::Result<String>>,
    here: SocketAddr,
    there: SocketAddr,
) -> io::Result<Option<Socket>> {
    for line in lines.skip(1) {
        let line = line?;
        let is_other_end = |row: &Row<'_>| {
            row.state == ESTABLISHED && row.local == there && row.remote == here && row.socket.inode != 0
        };
        if let Some(row) = Row::read(&line).filter(is_other_end) {
            return Ok(Some(row.socket));
        }
    }
    Ok(None)
}

/// One line of a table.
struct Row<'l> {
    local: SocketAddr,
    remote: SocketAddr,
    state: &'l str,
    socket: Socket,
}

impl<'l> Row<'l> {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`
    /// (`Documentation/networking/proc_net_tcp.rst`).
    fn read(line: &'l str) -> Option<Self> {
        let mut columns = line.split_whitespace();
        let local = address(columns.nth(1)?)?;
        let remote = address(columns.next()?)?;
        let state = columns.next()?;
        let uid = columns.nth(3)?.parse().ok()?;
        let inode = columns.nth(1)?.parse().ok()?;
        Some(Row { local, remote, state, socket: Socket { uid, inode } })
    }
}

/// `0100007F:2811`: four bytes at a time as this machine has them in memory, and the port. Of a socket of IPv6 that speaks IPv4, the IPv4
/// address.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |digits: &[u8]| Some(u32::from_str_radix(from_utf8(digits).ok()?, 16).ok()?.to_ne_bytes());
    let words: Vec<[u8; 4]> = words.as_bytes().chunks(8).map(word).collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.concat();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2811 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1 0000000000000000 100 0 0 10 0
   1: 0100007F:2813 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31338 1 0000000000000000 100 0 0 10 0
   2: 070012C6:2811 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31339 1 0000000000000000 100 0 0 10 0
   3: 0100007F:D431 0100007F:2811 01 00000000:00000000 00:00000000 00000000   500        0 31342 1 0000000000000000 20 4 30 10 -1
   4: 0100007F:2811 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 31340 1 0000000000000000 20 4 30 10 -1
   5: 0100007F:2811 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   6: 0100007F:2811 0100007F:D433 06 00000000:00000000 03:00000000 00000000     0        0 31343 3 0000000000000000
   7: 0100007F:2814 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31341 1 0000000000000000 100 0 0 10 0
";
    const TABLE6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0000000000000000FFFF00000100007F:2811 0000000000000000FFFF00000100007F:D434 01 00000000:00000000 00:00000000 00000000  1000 0 31350
   1: 00000000000000000000000001000000:2811 00000000000000000000000001000000:D435 01 00000000:00000000 00:00000000 00000000     0 0 31351
";

    fn lines(table: &str) -> impl Iterator<Item = io::Result<String>> {
        table.lines().map(|line| Ok(line.to_owned()))
    }

    fn found(port: u16) -> Vec<(u32, u64)> {
        listeners(lines(TABLE), port).unwrap().into_iter().map(|s| (s.uid, s.inode)).collect()
    }

    #[test]
    fn whoever_listens_on_a_port_is_found_and_connections_are_not_read() {
        assert_eq!(found(10257), [(0, 31337), (0, 31339)]);
        assert_eq!(found(10259), [(1000, 31338)]);
        assert!(found(80).is_empty());
        assert!(found(10260).is_empty(), "after the first connection nobody listens any more");
    }

    /// The tables as a machine with the least byte first writes them.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_other_end_of_a_connection_is_whoever_has_taken_it() {
        let ends = |table: &str, loopback: &str, port: u16| {
            let at = |port: u16| SocketAddr::new(loopback.parse().unwrap(), port);
            taken(lines(table), at(port), at(10257)).unwrap().map(|s| (s.uid, s.inode))
        };
        assert_eq!(ends(TABLE, "127.0.0.1", 54321), Some((0, 31340)), "and not this end");
        assert_eq!(ends(TABLE, "127.0.0.1", 54322), None, "nobody has taken it");
        assert_eq!(ends(TABLE, "127.0.0.1", 54323), None, "it is over");
        assert_eq!(ends(TABLE, "127.0.0.2", 54321), None);
        assert_eq!(ends(TABLE6, "127.0.0.1", 54324), Some((1000, 31350)));
        assert_eq!(ends(TABLE6, "::1", 54325), Some((0, 31351)));
    }

    #[test]
    fn every_listening_socket_is_another_one() {
        let own = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let found = own.each_ref().map(|listener| on(listener.local_addr().unwrap().port()).unwrap());
        let [[first], [second]] = [&found[0][..], &found[1][..]] else { panic!("{found:?}") };
        assert!(first.inode != second.inode && first.uid == second.uid, "{found:?}");
    }

    #[test]
    fn a_connection_of_ones_own_has_another_end_once_it_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        assert_eq!(other_end(here, there).unwrap(), None, "though the kernel knows it");
        let _taken = listener.accept().unwrap();
        let (listening, found) = (on(there.port()).unwrap()[0], other_end(here, there).unwrap().unwrap());
        assert!(found.uid == listening.uid && found.inode != listening.inode, "{found:?} {listening:?}");
    }
}
