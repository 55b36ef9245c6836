//! Which endpoints the server calls (docs/reliability.md, section 4).
//!
//! Whoever names an address for the server to call could name one that only the server reaches: the metadata service of
//! its cloud, its own loopback, the intranet. So a URL is looked at twice: when it is named, where a literal address or
//! a wrong scheme is refused at once, and at every dial, on each address that its name then resolves to.
//! All of it is a pure function over URL, addresses and [`Rules`].

mod class;
mod endpoint;
#[cfg(test)]
mod oracle;
mod policy;
mod range;
mod rules;
#[cfg(test)]
mod table;

pub(crate) use class::Class;
pub(crate) use endpoint::Endpoint;
pub use policy::{EndpointPolicy, EndpointProfile};
pub use range::{AddressRange, RangeError};
pub(crate) use rules::Guard;
#[cfg(feature = "outbound")]
pub(crate) use rules::Rules;

/// Why an endpoint is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("must be an absolute URL")]
    NotAUrl,
    #[error("must have at most 2048 characters")]
    TooLong,
    #[error("must start with http:// or https://")]
    Scheme,
    #[error("must not carry a user name or password")]
    UserInfo,
    #[error("must not have a fragment")]
    Fragment,
    #[error("must name a host")]
    Host,
    #[error("must name a port other than 0")]
    Port,
    #[error("must start with https://: the server's endpoint policy allows no plain HTTP to this host")]
    PlainHttp,
    #[error("names a host that the server's endpoint policy does not list")]
    HostNotListed,
    #[error("names a port that the server's endpoint policy does not list")]
    PortNotListed,
    #[error("leads to a {} address, which the server's endpoint policy does not allow", class.as_str())]
    Address { class: Class },
    #[error("leads back to the server itself")]
    OwnListener,
}
