//! The heal packet: one UDP datagram that opens an armed node without any process there.

use std::{io, net::IpAddr};

/// Payload of a heal packet: the token, and nothing before it, since the kernel compares the first 16 bytes after the UDP
/// header (`@th,64,128`).
pub fn heal_packet(token: &[u8; 16]) -> Vec<u8> {
    token.to_vec()
}

/// Sends one heal packet to each address.
///
/// # Errors
/// Only where no socket of any family could be opened.
pub fn send_heal(_addresses: &[IpAddr], _port: u16, _token: &[u8; 16]) -> io::Result<usize> {
    unimplemented!()
}
