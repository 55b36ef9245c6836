//! Ranges of addresses, as in `172.16.0.0/12`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of addresses, written as an address and the number of its bits that count: `172.16.0.0/12`, `fd12::/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text that names no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range of addresses is written as in 172.16.0.0/12, with no bits set beyond those that count")]
pub struct RangeError(());

impl AddressRange {
    /// Whether an address lies in the range; one of IPv4 that is written as IPv6 does if it does as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, width) = bits_of(self.first);
        let (given, other) = bits_of(address.to_canonical());
        width == other && masked(given, width, self.bits) == first
    }

    /// Whether it is one address and no more.
    #[must_use]
    pub fn is_one_address(&self) -> bool {
        self.bits == bits_of(self.first).1
    }
}

/// An address as a number, and how many bits it has.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The number without the bits that do not count.
fn masked(number: u128, width: u8, bits: u8) -> u128 {
    let loose = u32::from(width - bits);
    number.checked_shr(loose).and_then(|number| number.checked_shl(loose)).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (address, bits) = text.split_once('/').ok_or(RangeError(()))?;
        let address: IpAddr = address.parse().map_err(|_| RangeError(()))?;
        if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RangeError(()));
        }
        let bits: u8 = bits.parse().map_err(|_| RangeError(()))?;
        let (number, width) = bits_of(address);
        if bits > width || masked(number, width, bits) != number {
            return Err(RangeError(()));
        }
        // A range of IPv4 that is written as IPv6 is kept as what it stands for.
        match address.to_canonical() {
            first @ IpAddr::V4(_) if address.is_ipv6() && bits >= 96 => Ok(Self { first, bits: bits - 96 }),
            _ => Ok(Self { first: address, bits }),
        }
    }
}

impl TryFrom<String> for AddressRange {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().expect("the sample is a range")
    }

    #[test]
    fn a_range_holds_its_ends_and_not_their_neighbours() {
        for (text, inside, outside) in [
            ("172.16.0.0/12", ["172.16.0.0", "172.31.255.255", "::ffff:172.16.0.1"], ["172.15.255.255", "172.32.0.0"]),
            ("10.1.2.3/32", ["10.1.2.3", "::ffff:a01:203", "10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255", "8.8.8.8"], ["::", "2606:4700::1"]),
            ("fd12::/16", ["fd12::", "fd12:ffff::1", "fd12:0:1::"], ["fd11:ffff::", "fd13::"]),
            ("::/0", ["::", "ffff::1", "2606:4700::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
            ("::ffff:10.0.0.0/104", ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1"], ["11.0.0.0", "::a00:1"]),
        ] {
            for address in inside {
                assert!(range(text).contains(address.parse().unwrap()), "{address} in {text}");
            }
            for address in outside {
                assert!(!range(text).contains(address.parse().unwrap()), "{address} not in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "fd12::1/16",
            "x/8",
            "fd12::/129",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/ 8",
            "010.0.0.0/8",
        ] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_address_is_told_from_many() {
        for one in ["10.1.2.3/32", "fd12::1/128", "::ffff:10.1.2.3/128"] {
            assert!(range(one).is_one_address(), "{one}");
        }
        for many in ["10.1.2.2/31", "fd12::2/127", "0.0.0.0/0", "fd12::/32"] {
            assert!(!range(many).is_one_address(), "{many}");
        }
    }
}
