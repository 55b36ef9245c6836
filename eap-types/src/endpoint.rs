//! URLs of others that the server is to call: their form.

use url::Url;

use crate::Fields;
use crate::limits::MAX_ENDPOINT_URL_CHARS;

/// Reads a URL and checks its form alone; which addresses may be called is the server's endpoint policy.
pub(crate) fn decode(fields: &mut Fields<'_>, name: &str) -> Option<String> {
    let given = fields.text(name, MAX_ENDPOINT_URL_CHARS)?;
    if let Err(why) = check(&given) {
        fields.problem(name, "value_error", why);
    }
    Some(given)
}

fn check(given: &str) -> Result<(), &'static str> {
    let url = Url::parse(given).map_err(|_| "must be an absolute URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a user name or password");
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment");
    }
    Ok(())
}
