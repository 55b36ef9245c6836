//! What an operator says about the endpoints that the server calls.

use serde::{Deserialize, Serialize};
use url::Host;

use super::AddressRange;

/// Which endpoints the server calls: callbacks, and whatever else others name to it.
///
/// Some addresses are never called, whatever the profile: those of metadata services, link-local, tunnels, reserved
/// ranges, and the server's own listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EndpointPolicy {
    /// Which rules hold. Default: `auto`. The lists below belong to `custom`.
    pub profile: EndpointProfile,
    /// Hosts that may be called by plain HTTP. Default: none.
    pub allow_http_hosts: Vec<String>,
    /// The only hosts that are called, as in `hooks.example.com` or `*.example.com`. Default: any.
    pub allow_hosts: Vec<String>,
    /// Ranges that are called beside the public ones. One address alone (`/32`, `/128`) opens even one that is never called
    /// otherwise. Default: none.
    pub allow_cidrs: Vec<AddressRange>,
    /// The only ports that are called. Default: any.
    pub allow_ports: Vec<u16>,
}

/// A set of rules for the endpoints that are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndpointProfile {
    /// `dev` while the server listens on loopback alone and no proxy is in front of it; otherwise `prod`, also where a
    /// host mounts the router itself.
    #[default]
    Auto,
    /// Plain HTTP, and this machine and private networks as well as public ones.
    Dev,
    /// HTTPS to public addresses alone.
    Prod,
    /// As `prod`, with what the lists open and narrow.
    Custom,
}

impl EndpointPolicy {
    /// What is wrong with it, each by its key.
    pub(crate) fn problems(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        let lists = [
            (!self.allow_http_hosts.is_empty(), "endpoints.allow_http_hosts is read under profile custom alone"),
            (!self.allow_hosts.is_empty(), "endpoints.allow_hosts is read under profile custom alone"),
            (!self.allow_cidrs.is_empty(), "endpoints.allow_cidrs is read under profile custom alone"),
            (!self.allow_ports.is_empty(), "endpoints.allow_ports is read under profile custom alone"),
        ];
        if self.profile != EndpointProfile::Custom {
            found.extend(lists.into_iter().filter(|(is_set, _)| *is_set).map(|(_, problem)| problem));
        }
        let are_hosts = |hosts: &[String]| hosts.iter().all(|host| HostPattern::parse(host).is_some());
        if !are_hosts(&self.allow_http_hosts) {
            found.push("endpoints.allow_http_hosts has an entry that is no host, as in hooks.example.com");
        }
        if !are_hosts(&self.allow_hosts) {
            found.push("endpoints.allow_hosts has an entry that is no host, as in hooks.example.com");
        }
        if self.allow_ports.contains(&0) {
            found.push("endpoints.allow_ports has port 0");
        }
        found
    }
}

/// One entry of a list of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    Exactly(Host),
    /// Names below this one, which begins with a dot.
    Below(String),
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (parent, is_below) = text.strip_prefix("*.").map_or((text, false), |parent| (parent, true));
        let parent = parent.strip_suffix('.').unwrap_or(parent);
        if parent.contains('*') {
            return None;
        }
        // An address of IPv6 stands in brackets in a URL; in a list it need not.
        let host = Host::parse(parent).or_else(|_| Host::parse(&format!("[{parent}]"))).ok()?;
        match host {
            Host::Domain(name) if is_below => Some(Self::Below(format!(".{name}"))),
            _ if is_below => None,
            host => Some(Self::Exactly(host)),
        }
    }

    pub(super) fn admits(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exactly(listed), host) => listed == host,
            (Self::Below(parent), Host::Domain(name)) => name.len() > parent.len() && name.ends_with(parent),
            (Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named() {
        let policy = EndpointPolicy {
            profile: EndpointProfile::Prod,
            allow_http_hosts: vec!["a b".into()],
            allow_hosts: vec!["*.10.0.0.1".into(), "x".into()],
            allow_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
            allow_ports: vec![0],
        };
        assert_eq!(policy.problems().len(), 7, "{:?}", policy.problems());
        assert_eq!(EndpointPolicy::default().problems(), <[&str; 0]>::default());
        let lists_alone = EndpointPolicy { profile: EndpointProfile::Custom, ..policy };
        assert_eq!(lists_alone.problems().len(), 3, "{:?}", lists_alone.problems());
    }

    #[test]
    fn a_pattern_admits_its_host_in_every_spelling_and_no_other() {
        let admits =
            |pattern: &str, host: &str| HostPattern::parse(pattern).unwrap().admits(&Host::parse(host).unwrap());
        for (pattern, host) in [
            ("hooks.example.com", "HOOKS.example.COM"),
            ("Hooks.Example.com.", "hooks.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("10.0.0.1", "0x0a000001"),
            ("fd12::1", "[fd12:0::1]"),
            ("[fd12::1]", "[fd12::1]"),
            ("*.example.com", "a.example.com"),
            ("*.example.com", "a.b.example.com"),
        ] {
            assert!(admits(pattern, host), "{pattern} admits {host}");
        }
        for (pattern, host) in [
            ("hooks.example.com", "a.hooks.example.com"),
            ("hooks.example.com", "hooks.example.com.evil.test"),
            ("*.example.com", "example.com"),
            ("*.example.com", "evilexample.com"),
            ("*.example.com", "a.example.com.evil.test"),
            ("10.0.0.1", "10.0.0.2"),
        ] {
            assert!(!admits(pattern, host), "{pattern} does not admit {host}");
        }
        for wrong in ["", "*", "*.", "a/b", "a:80", "http://a", "user@a", "*.10.0.0.1", "*.*.a b"] {
            assert_eq!(HostPattern::parse(wrong), None, "{wrong}");
        }
    }
}
