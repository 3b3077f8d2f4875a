//! Reads what the kernel answers: messages, and attributes inside of them. Whatever the bytes, it never panics.

/// One netlink message without its header.
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The number that an `NLMSG_ERROR` carries: 0, or a negative errno.
    pub fn error(&self) -> Option<i32> {
        self.body.first_chunk().map(|b| i32::from_ne_bytes(*b))
    }
    /// Attributes of a message of nf_tables: what follows `nfgenmsg`.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes(self.body.get(4..).unwrap_or_default())
    }
}

/// Messages of one datagram. Ends at the first that is cut short.
pub fn messages(mut buf: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; 16] = buf.first_chunk()?;
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body: buf.get(16..len)?,
        };
        buf = buf.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A row of attributes.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Kind, without its flags, and payload of each. Ends at the first that is cut short.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut buf = self.0;
        std::iter::from_fn(move || {
            let header: &[u8; 4] = buf.first_chunk()?;
            let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
            let payload = buf.get(4..len)?;
            buf = buf.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, payload))
        })
    }
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|a| a.0 == kind).map(|a| a.1)
    }
    /// The attributes inside of one; none where it is absent.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or_default())
    }
    pub fn str(self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?.split(|b| *b == 0).next()?).ok()
    }
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }
    pub fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{self, Attrs};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_writer_wrote_is_read_back() {
        let build = |a: &mut Attrs| {
            a.str(1, "rackpartition-x").be32(2, 7).nest(3, |n| {
                n.be64(5, u64::MAX);
            });
        };
        let mut buf = wire::request(9, 0x300, 41, build);
        buf.extend(wire::request(10, 0, 42, |_| {}));
        let read: Vec<_> = messages(&buf).collect();
        assert_eq!(
            read.iter().map(|m| (m.kind, m.flags, m.seq)).collect::<Vec<_>>(),
            [(0xa09, 0x301, 41), (0xa0a, 1, 42)]
        );
        let attributes = read[0].attributes();
        assert_eq!(attributes.str(1), Some("rackpartition-x"));
        assert_eq!(attributes.be32(2), Some(7));
        assert_eq!(attributes.nested(3).be64(5), Some(u64::MAX));
        assert_eq!((attributes.be64(2), attributes.get(4)), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut buf in prop::collection::vec(any::<u8>(), 0..200), len in 0u8..80, inner in 0u8..40) {
            for round in 0..2 {
                for message in messages(&buf) {
                    message.error();
                    for (kind, payload) in message.attributes().iter() {
                        let inside = Attributes(payload);
                        for (k, _) in inside.iter() {
                            let _ = (inside.str(k), inside.be32(k), inside.be64(kind));
                        }
                    }
                }
                // Mostly nonsense so far; now with lengths that lead further in.
                if round == 0 && buf.len() > 24 {
                    buf[..4].copy_from_slice(&u32::from(len).to_ne_bytes());
                    buf[20..22].copy_from_slice(&u16::from(inner).to_ne_bytes());
                }
            }
        }
    }
}
