//! The expressions rules are made of, one line each; values pass through register 1.

use super::numbers::*;
use super::wire::Attrs;

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
    /// Goes on only where the register starts with these bytes.
    pub fn eq(self, value: &[u8]) -> Self {
        self.expr("cmp", |a| {
            a.be32(1, REG_1).be32(2, 0).nest(3, |d| {
                d.bytes(DATA_VALUE, value);
            });
        })
    }
    /// Loads `len` bytes of the packet; `base` is one of [`base`], `offset` in bytes.
    pub fn payload(self, base: u32, offset: u32, len: u32) -> Self {
        self.expr("payload", |a| {
            a.be32(1, REG_1).be32(2, base).be32(3, offset).be32(4, len);
        })
    }
    /// Goes on only where the register is in the set.
    pub fn lookup(self, set: &str, id: u32) -> Self {
        self.expr("lookup", |a| {
            a.str(1, set).be32(2, REG_1).be32(4, id);
        })
    }
    /// Turns a 64 bit number from host to network order: interval sets compare bytes.
    pub fn hton64(self) -> Self {
        const HTON: u32 = 1;
        self.expr("byteorder", |a| {
            a.be32(1, REG_1).be32(2, REG_1).be32(3, HTON).be32(4, 8).be32(5, 8);
        })
    }
    /// Loads a key that is the same for every packet of either family: `meta mark & 0`.
    pub fn constant(self) -> Self {
        self.meta(meta::MARK).expr("bitwise", |a| {
            a.be32(1, REG_1).be32(2, REG_1).be32(3, 4);
            for mask_and_xor in [4, 5] {
                a.nest(mask_and_xor, |d| {
                    d.bytes(DATA_VALUE, &[0; 4]);
                });
            }
        })
    }
    /// Deletes the register's value from the set. Goes on whether it was there or not.
    pub fn delete_from(self, set: &str, id: u32) -> Self {
        const OP_DELETE: u32 = 2;
        self.expr("dynset", |a| {
            a.str(1, set).be32(2, id).be32(3, OP_DELETE).be32(4, REG_1);
        })
    }
    pub fn counter(self) -> Self {
        self.expr("counter", |_| {})
    }
    pub fn accept(self) -> Self {
        self.verdict(1)
    }
    pub fn drop(self) -> Self {
        self.verdict(0)
    }
    fn verdict(self, code: u32) -> Self {
        self.expr("immediate", |a| {
            a.be32(1, REG_VERDICT).nest(2, |d| {
                d.nest(DATA_VERDICT, |v| {
                    v.be32(1, code);
                });
            });
        })
    }
}
