//! The expressions rules are made of, one line each; values pass through register 1 unless a method says otherwise.

use super::numbers::*;
use super::wire::Attrs;
use super::writer::Set;

const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;

/// Writes the expressions of one rule in order.
pub struct Expressions<'a>(pub &'a mut Attrs);

impl Expressions<'_> {
    fn expr(self, name: &str, data: impl FnOnce(&mut Attrs)) -> Self {
        self.0.nest(LIST_ELEM, |e| {
            e.str(rule::EXPR_NAME, name).nest(rule::EXPR_DATA, data);
        });
        self
    }
    /// Loads a `meta` value.
    pub fn meta(self, key: u32) -> Self {
        self.expr("meta", |a| {
            a.be32(1, REG_1).be32(2, key);
        })
    }
    /// Goes on only where the packet is a datagram of UDP to this port whose payload begins with these bytes.
    pub fn datagram(self, port: u16, payload: &[u8; 16]) -> Self {
        self.meta(meta::L4PROTO)
            .eq(&[IPPROTO_UDP])
            .payload(base::TRANSPORT, 2, 2)
            .eq(&port.to_be_bytes())
            .payload(base::TRANSPORT, 8, 16)
            .eq(payload)
    }
    /// Goes on only where the register starts with these bytes.
    pub fn eq(self, value: &[u8]) -> Self {
        self.cmp(0, value)
    }
    pub fn not_eq(self, value: &[u8]) -> Self {
        self.cmp(1, value)
    }
    /// Goes on only where the number in the register, in host order, is less.
    pub fn below(self, limit: u32) -> Self {
        self.hton(4).cmp(2, &limit.to_be_bytes())
    }
    fn cmp(self, op: u32, value: &[u8]) -> Self {
        self.expr("cmp", |a| {
            a.be32(1, REG_1).be32(2, op).nest(3, |d| {
                d.bytes(DATA_VALUE, value);
            });
        })
    }
    /// Loads `len` bytes of the packet; `base` is one of [`base`], `offset` in bytes.
    pub fn payload(self, base: u32, offset: u32, len: u32) -> Self {
        self.payload_to(REG_1, base, offset, len)
    }
    /// The same into another register.
    pub fn payload_to(self, register: u32, base: u32, offset: u32, len: u32) -> Self {
        self.expr("payload", |a| {
            a.be32(1, register).be32(2, base).be32(3, offset).be32(4, len);
        })
    }
    /// Goes on only where the register is in the set, or, unless `inside`, where it is not.
    pub fn look_up(self, set: &Set, inside: bool) -> Self {
        const INVERTED: u32 = 1;
        self.expr("lookup", |a| {
            a.str(1, &set.name).be32(2, REG_1).be32(4, set.id);
            if !inside {
                a.be32(5, INVERTED);
            }
        })
    }
    /// Turns a 64 bit number from host to network order: interval sets compare bytes.
    pub fn hton64(self) -> Self {
        self.hton(8)
    }
    fn hton(self, len: u32) -> Self {
        const HTON: u32 = 1;
        self.expr("byteorder", |a| {
            a.be32(1, REG_1).be32(2, REG_1).be32(3, HTON).be32(4, len).be32(5, len);
        })
    }
    /// Loads a key that is the same for every packet of either family: `meta mark & 0`.
    pub fn constant(self) -> Self {
        self.meta(meta::MARK).and(&[0; 4])
    }
    /// Keeps the bits of the register that are in `mask`.
    pub fn and(self, mask: &[u8]) -> Self {
        let len = u32::try_from(mask.len()).expect("a register has 16 bytes");
        self.expr("bitwise", |a| {
            a.be32(1, REG_1).be32(2, REG_1).be32(3, len);
            for (kind, value) in [(4, mask), (5, &vec![0; mask.len()])] {
                a.nest(kind, |d| {
                    d.bytes(DATA_VALUE, value);
                });
            }
        })
    }
    /// Loads a random number below `modulus`.
    pub fn random(self, modulus: u32) -> Self {
        const RANDOM: u32 = 1;
        self.expr("numgen", |a| {
            a.be32(1, REG_1).be32(2, modulus).be32(3, RANDOM);
        })
    }
    /// Loads a hash below `modulus` of `len` bytes from `register` on.
    pub fn jhash(self, register: u32, len: u32, modulus: u32, seed: u32) -> Self {
        self.expr("hash", |a| {
            a.be32(1, register).be32(2, REG_1).be32(3, len).be32(4, modulus).be32(5, seed);
        })
    }
    /// Deletes the register's value from the set. Goes on whether it was there or not.
    pub fn delete_from(self, set: &Set) -> Self {
        const OP_DELETE: u32 = 2;
        self.expr("dynset", |a| {
            a.str(1, &set.name).be32(2, set.id).be32(3, OP_DELETE).be32(4, REG_1);
        })
    }
    /// Puts the register's value into the set, or makes its element last anew, and counts there. `timeout_ms`: how long it lasts.
    pub fn count_in(self, set: &Set, timeout_ms: u64) -> Self {
        const OP_UPDATE: u32 = 1;
        self.expr("dynset", |a| {
            a.str(1, &set.name).be32(2, set.id).be32(3, OP_UPDATE).be32(4, REG_1).be64(6, timeout_ms).nest(7, |e| {
                e.str(rule::EXPR_NAME, "counter").nest(rule::EXPR_DATA, |_| {});
            });
        })
    }
    pub fn counter(self) -> Self {
        self.expr("counter", |_| {})
    }
    pub fn accept(self) -> Self {
        self.verdict(1, None)
    }
    pub fn drop(self) -> Self {
        self.verdict(0, None)
    }
    /// Back to the chain that jumped here.
    pub fn back(self) -> Self {
        self.verdict(-5, None)
    }
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(-3, Some(chain))
    }
    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        self.expr("immediate", |a| {
            a.be32(1, REG_VERDICT).nest(2, |d| {
                d.nest(DATA_VERDICT, |v| {
                    v.be32(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        v.str(2, chain);
                    }
                });
            });
        })
    }
    /// `reject with tcp reset`. The packet must be one of TCP.
    pub fn reject_tcp(self) -> Self {
        const TCP_RST: u32 = 1;
        self.expr("reject", |a| {
            a.be32(1, TCP_RST).bytes(2, &[0]);
        })
    }
    /// `reject with icmpx admin-prohibited`, which suits either family.
    pub fn reject_icmp(self) -> Self {
        const ICMPX: u32 = 2;
        const ADMIN_PROHIBITED: u8 = 3;
        self.expr("reject", |a| {
            a.be32(1, ICMPX).bytes(2, &[ADMIN_PROHIBITED]);
        })
    }
}
