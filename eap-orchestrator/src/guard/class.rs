//! What kind of network an address belongs to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::canary;

/// What kind of network an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// This machine.
    Loopback,
    /// A network of somebody's own.
    Private,
    /// The internet.
    Public,
    /// No place to call: metadata services, link-local, tunnels that may end anywhere, reserved ranges.
    Never,
}

impl Class {
    /// The class of an address; one of IPv4 that is written as IPv6 (`::ffff:a.b.c.d`) is that of IPv4.
    pub(crate) fn of(address: IpAddr) -> Self {
        let address = if canary::sings("mapped-not-unwrapped") { address } else { address.to_canonical() };
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// The word for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
            Self::Never => "reserved",
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] => Class::Loopback,
        // Alibaba's metadata service, in the middle of the range for carriers.
        [100, 100, 100, 200] => Class::Never,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        // "This network"; link-local, where metadata services live; IETF protocols; 6to4 relays.
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [192, 88, 99, _] => Class::Never,
        // Documentation; benchmarking.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18..=19, ..] => Class::Never,
        // Multicast, class E, broadcast.
        [224..=255, ..] => Class::Never,
        _ => Class::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // The metadata service of EC2, in the range for private networks.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Class::Never,
        [0xfc00..=0xfdff, ..] => Class::Private,
        // `::`, and IPv4 in ways that a router may undo: compatible, translated, NAT64, 6to4. Teredo lies within
        // 2001::/23, which the IETF keeps for its protocols, benchmarking among them.
        [0, 0, 0, 0, 0 | 0xffff, 0, _, _] => Class::Never,
        [0x0064, 0xff9b, 0, 0, 0, 0, _, _] | [0x0064, 0xff9b, 1, ..] | [0x2002, ..] => Class::Never,
        [0x2001, 0..=0x01ff, ..] => Class::Never,
        // Documentation; discard-only; segment routing.
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x0100, 0, 0, 0, ..] | [0x5f00, ..] => Class::Never,
        // Link-local and its predecessor, multicast.
        [0xfe80..=0xffff, ..] => Class::Never,
        _ => Class::Public,
    }
}
