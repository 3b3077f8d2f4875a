//! Writes netlink attributes, single requests, and the one transaction type that nf_tables has.

use super::numbers::*;

/// Attribute payloads. Integers of nf_tables are big-endian, always; only contents of registers are not integers to it.
#[derive(Default)]
pub struct Attrs(Vec<u8>);

impl Attrs {
    /// # Panics
    /// Where the value does not fit netlink's 16 bits of length: lists are chunked so that they do.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(4 + value.len()).expect("attributes are kept under 64 KiB");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, format!("{value}\0").as_bytes())
    }
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }
    pub fn nest(&mut self, kind: u16, build: impl FnOnce(&mut Attrs)) -> &mut Self {
        const NLA_F_NESTED: u16 = 1 << 15;
        // In place, the length afterwards: ten thousand peers are sixty thousand of these.
        let at = self.0.len();
        self.bytes(kind | NLA_F_NESTED, &[]);
        build(self);
        let len = u16::try_from(self.0.len() - at).expect("attributes are kept under 64 KiB");
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// Appends one message: `nlmsghdr`, `nfgenmsg`, attributes.
fn message(buf: &mut Vec<u8>, kind: u16, flags: u16, seq: u32, family: u8, res_id: u16, attrs: &Attrs) {
    let len = u32::try_from(20 + attrs.0.len()).expect("messages are kept under 64 KiB");
    buf.extend(len.to_ne_bytes());
    buf.extend(kind.to_ne_bytes());
    buf.extend((F_REQUEST | flags).to_ne_bytes());
    buf.extend(seq.to_ne_bytes());
    buf.extend(0u32.to_ne_bytes()); // port: the kernel fills it in
    buf.extend([family, 0]);
    buf.extend(res_id.to_be_bytes());
    buf.extend(&attrs.0);
}

/// A single message of the `inet` family outside of any transaction.
pub fn request(msg: u16, flags: u16, seq: u32, build: impl FnOnce(&mut Attrs)) -> Vec<u8> {
    let mut attrs = Attrs::default();
    build(&mut attrs);
    let mut buf = Vec::new();
    message(&mut buf, SUBSYS_NFTABLES << 8 | msg, flags, seq, NFPROTO_INET, 0, &attrs);
    buf
}

/// One atomic transaction: begin, messages, end. Each message has a label for errors; the begin is message 0.
pub struct Batch {
    buf: Vec<u8>,
    labels: Vec<String>,
    last: usize,
}

impl Batch {
    pub fn new() -> Self {
        let mut batch = Self { buf: Vec::new(), labels: vec!["the transaction".into()], last: 0 };
        message(&mut batch.buf, BATCH_BEGIN, 0, 0, 0, SUBSYS_NFTABLES, &Attrs::default());
        batch
    }
    /// Appends one message. `label` says what it is about.
    pub fn push(&mut self, label: impl Into<String>, msg: u16, flags: u16, build: impl FnOnce(&mut Attrs)) {
        self.last = self.buf.len();
        let seq = u32::try_from(self.labels.len()).expect("a few hundred messages");
        self.buf.extend(request(msg, flags, seq, build));
        self.labels.push(label.into());
    }
    /// Bytes of the transaction, which has to be one `send`, and its labels. Message `n` has the sequence number `first + n`.
    ///
    /// Only the last real message asks for an answer: errors come back unasked, and one answer without an error says that the
    /// whole transaction was committed.
    pub fn finish(mut self, first: u32) -> (Vec<u8>, Vec<String>) {
        let end = u32::try_from(self.labels.len()).expect("a few hundred messages");
        message(&mut self.buf, BATCH_END, 0, end, 0, SUBSYS_NFTABLES, &Attrs::default());
        self.update(self.last + 6, |b: [u8; 2]| (u16::from_ne_bytes(b) | F_ACK).to_ne_bytes());
        let mut at = 0;
        while at < self.buf.len() {
            self.update(at + 8, |b: [u8; 4]| u32::from_ne_bytes(b).wrapping_add(first).to_ne_bytes());
            at += self.read_len(at);
        }
        (self.buf, self.labels)
    }
    fn read_len(&self, at: usize) -> usize {
        let bytes: [u8; 4] = self.buf[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    }
    fn update<const N: usize>(&mut self, at: usize, change: impl FnOnce([u8; N]) -> [u8; N]) {
        let bytes: [u8; N] = self.buf[at..at + N].try_into().expect("inside of a header");
        self.buf[at..at + N].copy_from_slice(&change(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_big_endian() {
        let mut a = Attrs::default();
        a.str(1, "ab").be32(2, 0x0102_0304).nest(3, |n| {
            n.bytes(1, &[9]);
        });
        assert_eq!(
            a.0,
            [&[7, 0, 1, 0, b'a', b'b', 0, 0][..], &[8, 0, 2, 0, 1, 2, 3, 4], &[12, 0, 3, 0x80, 5, 0, 1, 0, 9, 0, 0, 0]]
                .concat()
        );
    }

    #[test]
    #[should_panic(expected = "under 64 KiB")]
    fn an_attribute_over_64_kib_is_not_cut_short() {
        Attrs::default().bytes(1, &vec![0; 1 << 16]);
    }

    #[test]
    fn a_transaction_is_framed_and_only_its_last_message_is_acknowledged() {
        let mut batch = Batch::new();
        batch.push("table", msg::NEWTABLE, F_CREATE | F_EXCL, |a| {
            a.str(TABLE, "abc");
        });
        batch.push("flush", msg::DELSETELEM, 0, |_| {});
        let (buf, labels) = batch.finish(7);
        assert_eq!(labels, ["the transaction", "table", "flush"]);
        let expected = [
            &[20, 0, 0, 0, 16, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..],
            &[28, 0, 0, 0, 0, 10, 1, 6, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 1, 0, b'a', b'b', b'c', 0],
            &[20, 0, 0, 0, 14, 10, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[20, 0, 0, 0, 17, 0, 1, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ];
        assert_eq!(buf, expected.concat());
    }
}
