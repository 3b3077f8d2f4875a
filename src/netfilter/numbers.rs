//! Numbers of `linux/netfilter/nf_tables.h`, `nfnetlink.h` and `netlink.h`, under their names there.

/// `NETLINK_NETFILTER`.
pub const NETLINK_NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES`.
pub const SUBSYS_NFTABLES: u16 = 10;
/// `NFPROTO_INET`: the family of every table of ours.
pub const NFPROTO_INET: u8 = 1;
pub const NFPROTO_IPV4: u8 = 2;
pub const NFPROTO_IPV6: u8 = 10;
pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_ICMPV6: u8 = 58;

/// Message kinds below 16 belong to netlink itself.
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const BATCH_BEGIN: u16 = 16;
pub const BATCH_END: u16 = 17;

pub const F_REQUEST: u16 = 0x1;
pub const F_ACK: u16 = 0x4;
/// In answers: the rule set changed during the dump.
pub const F_DUMP_INTR: u16 = 0x10;
pub const F_EXCL: u16 = 0x200;
pub const F_DUMP: u16 = 0x300;
pub const F_CREATE: u16 = 0x400;
pub const F_APPEND: u16 = 0x800;

pub mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const NEWSET: u16 = 9;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
}

/// The name of the table is attribute 1 of tables, chains, rules, sets and lists of elements alike.
pub const TABLE: u16 = 1;
/// The items of every list.
pub const LIST_ELEM: u16 = 1;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
pub const DATA_VALUE: u16 = 1;
pub const DATA_VERDICT: u16 = 2;

pub mod table {
    pub const FLAGS: u16 = 2;
    /// `NFT_TABLE_F_OWNER`: goes with the socket that made it.
    pub const OWNER: u32 = 2;
}

pub mod chain {
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    pub const TYPE: u16 = 7;
    pub const HOOK_NUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    /// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_LOCAL_OUT`, `NF_INET_POST_ROUTING`.
    pub const PREROUTING: u32 = 0;
    pub const FORWARD: u32 = 2;
    pub const OUTPUT: u32 = 3;
    pub const POSTROUTING: u32 = 4;
}

pub mod rule {
    pub const CHAIN: u16 = 2;
    pub const EXPRESSIONS: u16 = 4;
    pub const USERDATA: u16 = 7;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
    /// `NFTA_COUNTER_PACKETS`.
    pub const COUNTER_PACKETS: u16 = 2;
}

pub mod set {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DESC: u16 = 9;
    pub const ID: u16 = 10;
    pub const USERDATA: u16 = 13;
    /// Within the description.
    pub const DESC_SIZE: u16 = 1;
    /// `NFT_SET_ANONYMOUS | NFT_SET_CONSTANT`.
    pub const ANONYMOUS_CONSTANT: u32 = 0x1 | 0x2;
    /// `NFT_SET_INTERVAL`.
    pub const INTERVAL: u32 = 0x4;
    /// `NFT_SET_TIMEOUT | NFT_SET_EVAL`: elements time out, and rules may put them in and delete them.
    pub const DYNAMIC_TIMEOUT: u32 = 0x10 | 0x20;
}

pub mod elem {
    /// Of the list: which set, and its elements.
    pub const LIST_SET: u16 = 2;
    pub const LIST_ELEMENTS: u16 = 3;
    pub const LIST_SET_ID: u16 = 4;
    /// Of one element.
    pub const KEY: u16 = 1;
    pub const FLAGS: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const EXPIRATION: u16 = 5;
    pub const EXPR: u16 = 7;
    /// `NFT_SET_ELEM_INTERVAL_END`.
    pub const INTERVAL_END: u32 = 1;
}

/// Keys of `meta`.
pub mod meta {
    pub const MARK: u32 = 3;
    pub const IIF: u32 = 4;
    pub const OIF: u32 = 5;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
    pub const PKTTYPE: u32 = 19;
    pub const TIME_NS: u32 = 30;
}

/// Bases of `payload`.
pub mod base {
    pub const NETWORK: u32 = 1;
    pub const TRANSPORT: u32 = 2;
}

/// Data types of the `nft` program (`include/datatype.h` of nftables): the kernel only keeps them, `nft list` needs them.
pub mod datatype {
    pub const IPV4_ADDR: u32 = 7;
    pub const IPV6_ADDR: u32 = 8;
    pub const INET_PROTO: u32 = 12;
    /// A key of two parts: their types side by side in six bits each, `inet_proto` (12) and `inet_service` (13).
    pub const INET_PROTO_AND_SERVICE: u32 = 12 << 6 | 13;
    pub const MARK: u32 = 19;
    pub const ICMPV6_TYPE: u32 = 29;
    pub const TIME: u32 = 43;
}
