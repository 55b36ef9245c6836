//! The decision: whether an endpoint is called, and at which of its addresses.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use super::policy::HostPattern;
use super::{Class, Endpoint, EndpointPolicy, EndpointProfile, Refused};
use crate::announce::lock;

/// The policy as it holds now.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    profile: Profile,
    own: Vec<SocketAddr>,
    /// Whether an address is one of this machine's: a listener on the wildcard answers on each of them.
    is_local: fn(IpAddr) -> bool,
}

#[derive(Clone, Debug)]
enum Profile {
    /// An operator chose the endpoint.
    #[cfg(any(test, feature = "outbound"))]
    None,
    Dev,
    /// `prod` has none of the lists.
    Listed {
        http_hosts: Vec<HostPattern>,
        hosts: Vec<HostPattern>,
        ranges: Vec<super::AddressRange>,
        ports: Vec<u16>,
    },
}

impl Rules {
    pub(crate) fn new(
        policy: &EndpointPolicy,
        is_exposed: bool,
        own: Vec<SocketAddr>,
        is_local: fn(IpAddr) -> bool,
    ) -> Self {
        let patterns = |hosts: &[String]| hosts.iter().filter_map(|host| HostPattern::parse(host)).collect();
        let profile = match policy.profile {
            EndpointProfile::Dev => Profile::Dev,
            EndpointProfile::Auto if !is_exposed => Profile::Dev,
            EndpointProfile::Auto | EndpointProfile::Prod => {
                Profile::Listed { http_hosts: Vec::new(), hosts: Vec::new(), ranges: Vec::new(), ports: Vec::new() }
            }
            EndpointProfile::Custom => Profile::Listed {
                http_hosts: patterns(&policy.allow_http_hosts),
                hosts: patterns(&policy.allow_hosts),
                ranges: policy.allow_cidrs.clone(),
                ports: policy.allow_ports.clone(),
            },
        };
        Self { profile, own, is_local }
    }

    /// The same for an endpoint that an operator chose: anything but the server itself.
    #[cfg(any(test, feature = "outbound"))]
    pub(crate) fn without_profile(self) -> Self {
        Self { profile: Profile::None, ..self }
    }

    /// Says what can be said before a name is resolved: of scheme, host and port, and of an address if the URL holds one.
    pub(crate) fn admit(&self, endpoint: &Endpoint) -> Result<(), Refused> {
        if let Profile::Listed { http_hosts, hosts, ports, .. } = &self.profile {
            let is_listed = |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.admits(endpoint.host()));
            if endpoint.is_plain() && !is_listed(http_hosts) {
                return Err(Refused::PlainHttp);
            }
            if !hosts.is_empty() && !is_listed(hosts) {
                return Err(Refused::HostNotListed);
            }
            if !ports.is_empty() && !ports.contains(&endpoint.port()) {
                return Err(Refused::PortNotListed);
            }
        }
        match endpoint.address() {
            Some(address) => self.admit_address(SocketAddr::new(address, endpoint.port())),
            None => Ok(()),
        }
    }

    /// Whether an agent's token may travel there: encrypted, within this machine, or where an operator allowed plain HTTP
    /// to this very host.
    pub(crate) fn may_carry_token(&self, endpoint: &Endpoint) -> bool {
        let is_loopback = match endpoint.host() {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(_) | url::Host::Ipv6(_) => {
                endpoint.address().is_some_and(|address| address.to_canonical().is_loopback())
            }
        };
        let is_listed = match &self.profile {
            #[cfg(any(test, feature = "outbound"))]
            Profile::None => false,
            Profile::Dev => false,
            Profile::Listed { http_hosts, .. } => http_hosts.iter().any(|pattern| pattern.admits(endpoint.host())),
        };
        !endpoint.is_plain() || is_loopback || is_listed
    }

    /// The places to dial, given what the endpoint's name resolved to just now.
    #[cfg(any(test, feature = "outbound"))]
    pub(crate) fn places(&self, endpoint: &Endpoint, resolved: &[IpAddr]) -> Result<Vec<SocketAddr>, Refused> {
        self.admit(endpoint)?;
        let literal = endpoint.address();
        let addresses = literal.as_ref().map_or(resolved, std::slice::from_ref);
        let mut refused = Refused::Host;
        let mut places = Vec::new();
        for address in addresses {
            let place = SocketAddr::new(*address, endpoint.port());
            match self.admit_address(place) {
                Ok(()) => places.push(place),
                Err(why) => refused = why,
            }
        }
        if places.is_empty() { Err(refused) } else { Ok(places) }
    }

    fn admit_address(&self, place: SocketAddr) -> Result<(), Refused> {
        let address = place.ip().to_canonical();
        // Before any list: a range names machines, and whoever opens one for a neighbour does not mean the server itself.
        if self.own.iter().any(|own| self.answers_at(own, address, place.port())) {
            return Err(Refused::OwnListener);
        }
        let class = Class::of(address);
        let is_allowed = match (&self.profile, class) {
            #[cfg(any(test, feature = "outbound"))]
            (Profile::None, _) => true,
            (Profile::Dev, Class::Loopback | Class::Private) | (_, Class::Public) => true,
            (Profile::Dev, Class::Never) => false,
            (Profile::Listed { ranges, .. }, class) => {
                ranges.iter().any(|range| range.contains(address) && (class != Class::Never || range.is_one_address()))
            }
        };
        if is_allowed { Ok(()) } else { Err(Refused::Address { class }) }
    }

    fn answers_at(&self, own: &SocketAddr, address: IpAddr, port: u16) -> bool {
        let ip = own.ip().to_canonical();
        own.port() == port
            && (ip == address || ip.is_unspecified() && (address.is_loopback() || (self.is_local)(address)))
    }
}

/// Keeps the policy, and knows where the server listens.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: EndpointPolicy,
    is_behind_proxy: bool,
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Default)]
struct Listeners {
    addresses: Vec<SocketAddr>,
    rules: Option<Arc<Rules>>,
}

impl Guard {
    pub(crate) fn new(policy: EndpointPolicy, is_behind_proxy: bool) -> Self {
        Self { policy, is_behind_proxy, listeners: Mutex::default() }
    }

    /// The server answers at `address` from now on.
    pub(crate) fn listens(&self, address: SocketAddr) {
        let mut listeners = lock(&self.listeners);
        listeners.addresses.push(address);
        listeners.rules = None;
    }

    /// The rules as they hold now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        let mut listeners = lock(&self.listeners);
        if let Some(rules) = &listeners.rules {
            return Arc::clone(rules);
        }
        let own = listeners.addresses.clone();
        let is_loopback = !own.is_empty() && own.iter().all(|listener| listener.ip().to_canonical().is_loopback());
        let is_exposed = !is_loopback || self.is_behind_proxy;
        let rules = Arc::new(Rules::new(&self.policy, is_exposed, own, is_of_this_machine));
        listeners.rules = Some(Arc::clone(&rules));
        rules
    }
}

/// Whether an address is one of this machine's: only those can be bound. Nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
