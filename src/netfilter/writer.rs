//! Sets, chains, rules and elements of one table as messages of one transaction.

use super::expr::Expressions;
use super::interval::Interval;
use super::numbers::*;
use super::wire::{Attrs, Batch};
use std::borrow::Cow;

/// Elements in one message. The longest (an interval of IPv6) takes 64 bytes, and an attribute ends at 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// Sets are named inside of one transaction by numbers, since the kernel has not numbered them yet. Those with a fixed number
/// are below.
const FIRST_FREE_ID: u32 = 10;

pub struct Set {
    pub name: Cow<'static, str>,
    pub id: u32,
    pub flags: u32,
    /// Data type for listings, and length in bytes.
    pub key: (u32, u32),
    /// Most elements that it will ever have, where packets put them in or the kernel is to know; else 0.
    pub size: u32,
    pub userdata: &'static [u8],
}

pub struct Writer<'a> {
    table: &'a str,
    pub batch: Batch,
    next_id: u32,
}

impl<'a> Writer<'a> {
    pub fn new(table: &'a str) -> Self {
        Self { table, batch: Batch::new(), next_id: FIRST_FREE_ID }
    }
    pub fn push(&mut self, label: impl Into<String>, msg: u16, flags: u16, build: impl FnOnce(&mut Attrs)) {
        self.batch.push(label, msg, flags, |a| build(a.str(TABLE, self.table)));
    }
    pub fn set(&mut self, set: &Set) {
        self.push(format!("set {}", set.name), msg::NEWSET, F_CREATE, |a| {
            a.str(set::NAME, &set.name)
                .be32(set::FLAGS, set.flags)
                .be32(set::KEY_TYPE, set.key.0)
                .be32(set::KEY_LEN, set.key.1)
                .be32(set::ID, set.id)
                .bytes(set::USERDATA, set.userdata);
            if set.size > 0 {
                a.nest(set::DESC, |d| {
                    d.be32(set::DESC_SIZE, set.size);
                });
            }
        });
    }
    /// A set that nothing else has numbered.
    pub fn new_set(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        flags: u32,
        key: (u32, u32),
        userdata: &'static [u8],
    ) -> Set {
        self.number(Set { name: name.into(), id: 0, flags, key, size: 0, userdata })
    }
    fn number(&mut self, set: Set) -> Set {
        let set = Set { id: self.next_id, ..set };
        self.next_id += 1;
        self.set(&set);
        set
    }
    /// A set that is found by hash, of a size that is known.
    pub fn new_hash_set(&mut self, name: String, key: (u32, u32), keys: &[Vec<u8>]) -> Set {
        let size = u32::try_from(keys.len()).expect("fewer than all addresses of IPv4");
        let set = self.number(Set { name: name.into(), id: 0, flags: 0, key, size, userdata: NETWORK_ORDER });
        self.keys(&set, keys);
        set
    }
    /// A set of single bytes for one rule, which has to follow.
    pub fn anonymous(&mut self, datatype: u32, values: &[u8]) -> Set {
        // The kernel counts anonymous sets by this pattern.
        let set = self.new_set("__set%d", set::ANONYMOUS_CONSTANT, (datatype, 1), NETWORK_ORDER);
        self.keys(&set, &values.iter().map(|v| vec![*v]).collect::<Vec<_>>());
        set
    }
    pub fn chain(&mut self, name: &str, build: impl FnOnce(&mut Attrs)) {
        self.push(format!("chain {name}"), msg::NEWCHAIN, F_CREATE, |a| build(a.str(chain::NAME, name)));
    }
    /// A chain that packets enter at a hook, and that lets them pass.
    pub fn base_chain(&mut self, name: &str, hook: u32, priority: i32) {
        self.chain(name, |a| {
            a.nest(chain::HOOK, |h| {
                h.be32(chain::HOOK_NUM, hook).bytes(chain::HOOK_PRIORITY, &priority.to_be_bytes());
            })
            .be32(chain::POLICY, 1)
            .str(chain::TYPE, "filter");
        });
    }
    /// A rule at the end of the chain. `of`: the rule of the spec that it is part of, which its comment says.
    pub fn rule(
        &mut self,
        chain: &str,
        label: &str,
        of: Option<usize>,
        build: impl FnOnce(Expressions<'_>) -> Expressions<'_>,
    ) {
        self.push(label, msg::NEWRULE, F_CREATE | F_APPEND, |a| {
            a.str(rule::CHAIN, chain).nest(rule::EXPRESSIONS, |l| {
                build(Expressions(l));
            });
            if let Some(of) = of {
                a.bytes(rule::USERDATA, &comment(of));
            }
        });
    }
    pub fn elements(&mut self, set: &Set, label: &str, build: impl FnOnce(&mut Attrs)) {
        self.push(label, msg::NEWSETELEM, F_CREATE, |a| {
            a.str(elem::LIST_SET, &set.name).be32(elem::LIST_SET_ID, set.id).nest(elem::LIST_ELEMENTS, build);
        });
    }
    pub fn keys(&mut self, set: &Set, keys: &[Vec<u8>]) {
        self.chunks(set, keys, |l, key| element(l, key, |_| {}));
    }
    /// Elements that count, and that last so long from their last packet.
    pub fn counters(&mut self, set: &Set, keys: &[Vec<u8>], timeout_ms: u64) {
        self.chunks(set, keys, |l, key| {
            element(l, key, |e| {
                e.be64(elem::TIMEOUT, timeout_ms).nest(elem::EXPR, |x| {
                    x.str(rule::EXPR_NAME, "counter").nest(rule::EXPR_DATA, |_| {});
                });
            });
        });
    }
    pub fn intervals(&mut self, set: &Set, intervals: &[Interval]) {
        self.chunks(set, intervals, |l, (from, to)| {
            element(l, from, |_| {});
            if let Some(to) = to {
                element(l, to, |e| {
                    e.be32(elem::FLAGS, elem::INTERVAL_END);
                });
            }
        });
    }
    fn chunks<T>(&mut self, set: &Set, items: &[T], write: impl Fn(&mut Attrs, &T)) {
        for (n, chunk) in items.chunks(ELEMENTS_PER_MESSAGE).enumerate() {
            let first = n * ELEMENTS_PER_MESSAGE;
            let label = format!("elements {first} to {} of set {}", first + chunk.len() - 1, set.name);
            self.elements(set, &label, |l| chunk.iter().for_each(|item| write(l, item)));
        }
    }
}

pub fn element(list: &mut Attrs, key: &[u8], more: impl FnOnce(&mut Attrs)) {
    list.nest(LIST_ELEM, |e| {
        e.nest(elem::KEY, |k| {
            k.bytes(DATA_VALUE, key);
        });
        more(e);
    });
}

/// User data that `nft list` wants of a set (`libnftnl/udata.h`): byte order of the key, in host order itself.
pub const HOST_ORDER: &[u8] = &[0, 4, 1, 0, 0, 0];
pub const NETWORK_ORDER: &[u8] = &[0, 4, 2, 0, 0, 0];
/// For a key of several parts.
pub const PARTS: &[u8] = &[0, 4, 0, 0, 0, 0];

/// Begin of the comment of the rules that belong to one of the spec, before its number. Counts are found by it: [`super::state`].
pub const RULE: &str = "rule ";

/// User data of a rule with a comment (`libnftnl/udata.h`): type 0, length, text with its zero.
fn comment(of: usize) -> Vec<u8> {
    let text = format!("{RULE}{of}");
    let length = u8::try_from(text.len() + 1).expect("comments are short");
    [&[0, length], text.as_bytes(), &[0]].concat()
}
