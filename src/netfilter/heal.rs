//! The heal packet: one UDP datagram that opens an armed node without any process there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::{io, time::Duration};

/// How long one datagram may wait for room in the send buffer.
const PATIENCE: Duration = Duration::from_millis(100);

/// Payload of a heal packet: the token, and nothing before it, since the kernel compares the first 16 bytes after the UDP
/// header (`@th,64,128`).
pub fn heal_packet(token: &[u8; 16]) -> Vec<u8> {
    token.to_vec()
}

/// Sends one heal packet to UDP port `port` of each address and returns how many left. That a packet left does not mean that
/// it arrived: send again until the node says so or its deadline has passed.
///
/// # Errors
/// Where no socket could be opened for any address. An address that cannot be reached only counts as not sent.
pub fn send_heal(addresses: &[IpAddr], port: u16, token: &[u8; 16]) -> io::Result<usize> {
    let packet = heal_packet(token);
    let (mut sent, mut opened, mut failure) = (0, false, None);
    for v4 in [true, false] {
        let mut family = addresses.iter().filter(|a| a.is_ipv4() == v4).peekable();
        if family.peek().is_none() {
            continue;
        }
        match open(v4) {
            Ok(socket) => {
                opened = true;
                sent += family.filter(|a| socket.send_to(&packet, (**a, port)).is_ok()).count();
            }
            Err(e) => failure = Some(e),
        }
    }
    match failure {
        Some(e) if !opened => Err(e),
        _ => Ok(sent),
    }
}

fn open(v4: bool) -> io::Result<UdpSocket> {
    let any = if v4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_address_does_not_stop_the_rest() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // 255.255.255.255 needs SO_BROADCAST, so sending to it fails.
        let addresses = ["255.255.255.255", "127.0.0.1"].map(|a| a.parse().unwrap());
        assert_eq!(send_heal(&addresses, here.local_addr().unwrap().port(), b"0123456789abcdef").unwrap(), 1);
        let mut buf = [0; 64];
        let received = here.recv(&mut buf).unwrap();
        assert_eq!(&buf[..received], b"0123456789abcdef");
        assert_eq!(send_heal(&[], 1, &[0; 16]).unwrap(), 0);
    }
}
