//! A look at the server before an agent starts, so that a wrong address is said at once and in the command's own words.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use eap_client::{CallError, ClientError, OperatorClient, ReqwestCall};
use eap_types::ErrorCode;

use crate::exit::Failure;
use crate::output::tell;

/// How long the look may take; the agent itself has more patience.
const LOOK: Duration = Duration::from_secs(3);

/// Looks whether the server at `url` can be reached.
///
/// A server that is not there yet is told about, and no failure: the agent waits for it. What no wait mends is one: a
/// certificate that is not trusted, or an address under which the server knows no such path.
pub(super) async fn look(url: &str) -> Result<(), Failure> {
    // What cannot be built here was refused when the agent was built.
    let Ok(http) = ReqwestCall::new() else { return Ok(()) };
    let Ok(client) = OperatorClient::new(url, Arc::new(http)) else { return Ok(()) };
    let Err(error) = client.with_deadline(LOOK).health().await else { return Ok(()) };
    let failure = Failure::of_call(&error, url);
    match &error {
        ClientError::Call(CallError::Connect { source }) if is_certificate(source.as_ref()) => return Err(failure),
        ClientError::Call(CallError::Connect { .. }) => tell(&format!("eap: {failure}; the agent goes on trying\n")),
        ClientError::Call(_) => {
            let failure = failure.and("check --url or EAP_URL");
            tell(&format!("eap: {failure}; the agent goes on trying\n"));
        }
        _ if error.code() == Some(ErrorCode::NotFound) => return Err(failure),
        // Another path of the server may answer all the same.
        _ => {}
    }
    Ok(())
}

/// Whether the server's certificate is what was found wrong.
fn is_certificate(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An I/O error gives as its source that of what it holds, and passes over what it holds.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError::UnknownIssuer;

    use super::*;

    #[test]
    fn a_certificate_is_found_within_other_errors() {
        assert!(is_certificate(&rustls::Error::InvalidCertificate(UnknownIssuer)));
        let held = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(UnknownIssuer));
        // As the HTTP client wraps it.
        assert!(is_certificate(&io::Error::other(held)));
        assert!(!is_certificate(&io::Error::other(rustls::Error::HandshakeNotComplete)));
        assert!(!is_certificate(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
}
