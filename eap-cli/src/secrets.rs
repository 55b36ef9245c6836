//! Keys and secrets, from the environment or from a file: never from the command line, which every user of the machine
//! can read.

use std::fs;
use std::path::Path;

use eap_types::Secret;

use crate::exit::Failure;

/// What operators call with.
pub(crate) const OPERATOR_KEY: &str = "EAP_OPERATOR_KEY";
/// What agents register with.
pub(crate) const REGISTRATION_SECRET: &str = "EAP_REGISTRATION_SECRET";

/// What the server signs callbacks with: one or several secrets.
pub(crate) const CALLBACK_SECRET: &str = "EAP_CALLBACK_SECRET";

/// What an agent platform signs its webhooks with: one or several secrets, each in a line.
pub(crate) const AGENTKIT_SECRET: &str = "EAP_AGENTKIT_SECRET";

/// What the server encrypts secrets with that it has to read again.
pub(crate) const SEALING_KEY: &str = "EAP_SEALING_KEY";

/// As [`read`], but a variable that is set and empty is refused: whoever sets it for a server means to have a secret.
pub(crate) fn read_for_server(variable: &str, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    let secret = read(variable, file)?;
    if secret.is_none() && std::env::var_os(variable).is_some() {
        return Err(Failure::usage(format!("{variable} is set but empty: give it a secret, or unset it")));
    }
    Ok(secret)
}

/// Reads a secret from `file` if one is named, else from the environment variable `variable`. An empty one is none.
pub(crate) fn read(variable: &str, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    let text = match file {
        Some(file) => fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read a secret from {}: {error}", file.display())))?,
        None => match std::env::var(variable) {
            Ok(text) => text,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Failure::usage(format!("{variable} is not valid UTF-8")));
            }
        },
    };
    let text = text.trim();
    match (text.is_empty(), file) {
        (false, _) => Ok(Some(Secret::new(text))),
        (true, None) => Ok(None),
        (true, Some(file)) => Err(Failure::usage(format!("{} holds no secret: it is empty", file.display()))),
    }
}
