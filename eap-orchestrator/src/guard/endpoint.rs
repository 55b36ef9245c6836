//! A URL to call, as far as its form goes.

use std::fmt;
use std::net::IpAddr;

use eap_types::limits::MAX_ENDPOINT_URL_CHARS;
use url::{Host, Url};

use super::Refused;

/// A URL whose form is right. Odd spellings of an address (decimal, octal, hex) are those of the address by now.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    url: Url,
    host: Host,
    port: u16,
}

impl Endpoint {
    /// Reads a URL and checks its form.
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_ENDPOINT_URL_CHARS {
            return Err(Refused::TooLong);
        }
        let mut url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => Refused::Host,
            url::ParseError::InvalidPort => Refused::Port,
            _ => Refused::NotAUrl,
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Refused::Fragment);
        }
        // `example.com.` and `example.com` are one host: lists of hosts have to see them as one.
        if let Some(Host::Domain(name)) = url.host()
            && let Some(bare) = name.strip_suffix('.').map(str::to_owned)
        {
            url.set_host(Some(&bare)).map_err(|_| Refused::Host)?;
        }
        let host = url.host().ok_or(Refused::Host)?.to_owned();
        if let Host::Domain(name) = &host
            && name.split('.').any(str::is_empty)
        {
            return Err(Refused::Host);
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(Refused::Port)?;
        // What is sent is this form of it; one that no request can carry is refused here and not at the first try.
        url.as_str().parse::<http::Uri>().map_err(|_| Refused::NotAUrl)?;
        Ok(Self { url, host, port })
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address itself, where the URL holds one instead of a name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// Scheme, host and port: calls with the same ones reach the same server.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}:{}", self.url.scheme(), self.host, self.port)
    }

    #[cfg(any(test, feature = "outbound"))]
    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

/// Path and query may hold a secret of the receiver's.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.origin()).finish()
    }
}
