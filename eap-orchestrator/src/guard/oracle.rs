//! Second opinions on the class of an address (T1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Class;

/// docs/reliability.md, section 4, once more: as ranges, of which the narrowest decides.
const RANGES: &[(Class, &[&str])] = &[
    (Class::Public, &["0.0.0.0/0", "::/0"]),
    (Class::Loopback, &["127.0.0.0/8", "::1/128"]),
    (Class::Private, &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]),
    (
        Class::Never,
        &[
            // Link-local, metadata services.
            "169.254.0.0/16",
            "fe80::/10",
            "fec0::/10",
            "fd00:ec2::254/128",
            "100.100.100.200/32",
            // This network, multicast, broadcast and class E.
            "0.0.0.0/8",
            "::/128",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "240.0.0.0/4",
            "ff00::/8",
            // Documentation, benchmarking, IETF protocols.
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
            "3fff::/20",
            "198.18.0.0/15",
            "2001:2::/48",
            "192.0.0.0/24",
            "2001::/23",
            // IPv4 in disguise, and what tunnels.
            "192.88.99.0/24",
            "2002::/16",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2001::/32",
            "::/96",
            "::ffff:0:0:0/96",
            // Discard, segment routing.
            "100::/64",
            "5f00::/16",
        ],
    ),
];

/// The bits of an address as a text of zeros and ones.
fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
        IpAddr::V6(address) => address.octets().iter().map(|byte| format!("{byte:08b}")).collect(),
    }
}

/// IPv4 written as IPv6, by its text.
fn unwrapped(address: IpAddr) -> IpAddr {
    let digits = digits(address);
    match digits.strip_prefix(&format!("{:0>80}{:1>16}", "", "")) {
        Some(inner) if digits.len() == 128 => {
            Ipv4Addr::from(u32::from_str_radix(inner, 2).expect("32 digits are a number")).into()
        }
        _ => address,
    }
}

/// The bits that the addresses of a range begin with, how many bits those have, and its class.
fn ranges() -> Vec<(String, usize, Class)> {
    let texts = RANGES.iter().flat_map(|(class, texts)| texts.iter().map(move |text| (*class, *text)));
    texts
        .map(|(class, text)| {
            let (first, bits) = text.split_once('/').expect("a range has two parts");
            let first = digits(first.parse().expect("a range begins with an address"));
            let bits: usize = bits.parse().expect("a range ends with a number");
            (first[..bits].to_owned(), first.len(), class)
        })
        .collect()
}

fn second_opinion(ranges: &[(String, usize, Class)], address: IpAddr) -> Class {
    let given = digits(unwrapped(address));
    let fitting = ranges.iter().filter(|(start, width, _)| *width == given.len() && given.starts_with(start));
    fitting.max_by_key(|(start, ..)| start.len()).expect("the whole of each family is a range").2
}

/// Every address next to an end of a range.
fn ends() -> Vec<IpAddr> {
    let mut ends = Vec::new();
    for text in RANGES.iter().flat_map(|(_, texts)| texts.iter()) {
        let (first, bits) = text.split_once('/').unwrap();
        let bits: u32 = bits.parse().unwrap();
        match first.parse().unwrap() {
            IpAddr::V4(first) => {
                let first = first.to_bits();
                let last = first | u32::MAX.checked_shr(bits).unwrap_or(0);
                for end in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
                    ends.push(Ipv4Addr::from(end).into());
                    ends.push(Ipv4Addr::from(end).to_ipv6_mapped().into());
                    ends.push(Ipv4Addr::from(end).to_ipv6_compatible().into());
                }
            }
            IpAddr::V6(first) => {
                let first = first.to_bits();
                let last = first | u128::MAX.checked_shr(bits).unwrap_or(0);
                for end in [first.wrapping_sub(1), first, last, last.wrapping_add(1)] {
                    ends.push(Ipv6Addr::from(end).into());
                }
            }
        }
    }
    ends
}

#[test]
fn the_class_of_an_address_is_that_of_the_narrowest_range_at_every_end() {
    let (ranges, ends) = (ranges(), ends());
    assert!(ends.len() > 200);
    for address in ends {
        assert_eq!(Class::of(address), second_opinion(&ranges, address), "{address}");
    }
}

#[test]
fn the_class_of_an_address_is_that_of_the_narrowest_range_anywhere() {
    // A generator of its own (splitmix64), so that a failure is the same again.
    let mut state = 7_u64;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let ranges = ranges();
    for _ in 0..20_000 {
        let v4 = Ipv4Addr::from(draw() as u32);
        let v6 = Ipv6Addr::from(u128::from(draw()) << 64 | u128::from(draw()));
        for address in [IpAddr::from(v4), v4.to_ipv6_mapped().into(), v6.into()] {
            assert_eq!(Class::of(address), second_opinion(&ranges, address), "{address}");
        }
    }
    // One bit away from an end of a range: where mistakes would be.
    let ends = ends();
    for _ in 0..20_000 {
        let near = match ends[draw() as usize % ends.len()] {
            IpAddr::V4(end) => Ipv4Addr::from(end.to_bits() ^ 1 << (draw() % 32)).into(),
            IpAddr::V6(end) => Ipv6Addr::from(end.to_bits() ^ 1 << (draw() % 128)).into(),
        };
        assert_eq!(Class::of(near), second_opinion(&ranges, near), "{near}");
    }
}

#[test]
fn what_is_public_here_is_global_to_python_as_well() {
    /// What Python takes for global and we do not call: 6to4, relays of it, and what the IETF keeps for itself.
    fn is_refused_knowingly(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => matches!(address.octets(), [192, 88, 99, _] | [192, 0, 0, _]),
            IpAddr::V6(address) => matches!(
                address.segments(),
                [0x2002 | 0x5f00 | 0xfec0..=0xfeff, ..]
                    | [0x2001, 0..=0x01ff, ..]
                    | [0x0064, 0xff9b, ..]
                    | [0, 0, 0, 0, 0 | 0xffff, 0, ..]
                    | [0x3fff, 0..=0x0fff, ..]
            ),
        }
    }
    let lines = include_str!("addresses.txt").lines().filter(|line| !line.starts_with('#'));
    let mut seen = 0;
    for line in lines {
        let (address, opinion) = line.split_once(' ').expect("a line is an address and an opinion");
        let address: IpAddr = address.parse().expect("a line begins with an address");
        let (ours, theirs) = (Class::of(address) == Class::Public, opinion == "global");
        // This Python has no firm opinion of an IPv4 address that is written as IPv6.
        let is_mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
        assert!(!ours || theirs || is_mapped, "{address} is public here and special to Python");
        assert!(
            ours || !theirs || is_mapped || is_refused_knowingly(address),
            "{address} is global to Python and refused here"
        );
        seen += 1;
    }
    assert!(seen > 600, "{seen}");
}
