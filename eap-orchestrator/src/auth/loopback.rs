//! When a call without a key may be trusted to come from this machine.
//!
//! Loopback is convenient, not trusted: a proxy on the same host, a page in a browser and a rebound name
//! all arrive over it. See docs/protocol.md, section 5.

use std::net::IpAddr;

use http::{HeaderMap, header};

/// The two ends of the connection that a call came over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) listener: IpAddr,
    pub(crate) peer: IpAddr,
}

/// What is known of where a call came from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// Listener, peer, `Host` and headers all say: this machine.
    pub(crate) is_local: bool,
}

/// Headers that a proxy adds: whoever it forwards for is not on this machine.
const FORWARDED: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

impl Ends {
    /// Where a call with these headers came from.
    pub(crate) fn origin(self, headers: &HeaderMap) -> Origin {
        Origin { is_local: self.is_local_call(headers) }
    }

    /// Whether a call with these headers was made on this machine, by a program.
    fn is_local_call(self, headers: &HeaderMap) -> bool {
        let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        self.listener.is_loopback()
            && self.peer.is_loopback()
            && headers.get_all(header::HOST).iter().count() == 1
            && text(header::HOST).is_some_and(is_loopback_host)
            && FORWARDED.iter().all(|name| !headers.contains_key(*name))
            && text(header::ORIGIN)
                .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| is_loopback_host(host)))
            && text(header::HeaderName::from_static("sec-fetch-site"))
                .is_none_or(|site| matches!(site, "same-origin" | "none"))
    }
}

/// Whether `host[:port]` names this machine without asking a resolver.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_plain_call_on_this_machine_is_local() {
        let (here, away): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [10, 0, 0, 7].into());
        let ends = |listener, peer| Ends { listener, peer };
        let plain = headers(&[("host", "127.0.0.1:8080")]);
        assert!(ends(here, here).is_local_call(&plain));
        assert!(ends(here, here).is_local_call(&headers(&[("host", "localhost")])));
        assert!(ends(here, here).is_local_call(&headers(&[("host", "[::1]:80"), ("origin", "http://localhost:3000")])));
        assert!(!ends(away, here).is_local_call(&plain));
        assert!(!ends(here, away).is_local_call(&plain));
        for pairs in [
            &[][..],
            &[("host", "eap.example.com")],
            &[("host", "127.0.0.1.example.com")],
            &[("host", "localhost"), ("x-forwarded-for", "10.0.0.7")],
            &[("host", "localhost"), ("forwarded", "for=10.0.0.7")],
            &[("host", "localhost"), ("origin", "https://evil.example")],
            &[("host", "localhost"), ("origin", "null")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!ends(here, here).is_local_call(&headers(pairs)), "{pairs:?}");
        }
    }
}
