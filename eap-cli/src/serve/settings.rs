//! From options, environment and file to a configuration, or to one line that names everything that is missing.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use eap_orchestrator::{Access, Config, MIN_SECRET_BYTES, OperatorKey, RegistrationSecret, Tls};
use eap_types::webhook::SigningSecret;
use eap_types::{IdError, Secret};
use serde::Deserialize;

use super::ServeArgs;
use crate::exit::Failure;
use crate::secrets;

/// The configuration of a server that listens on `address`.
///
/// Off loopback a key, a secret and a decision on TLS are needed (docs/protocol.md section 5); on loopback whoever runs
/// programs on this machine may go without, unless the file says otherwise.
pub(super) fn config_for(args: &ServeArgs, address: SocketAddr) -> Result<Config, Failure> {
    let (mut config, access) = args.config.as_deref().map_or_else(|| Ok((Config::default(), None)), from_file)?;
    if let Some(key) = secrets::read_for_server(secrets::OPERATOR_KEY, args.operator_key_file.as_deref())? {
        config.operator_key = Some(OperatorKey::new(key.expose()));
    }
    let secret = secrets::read_for_server(secrets::REGISTRATION_SECRET, args.registration_secret_file.as_deref())?;
    if let Some(secret) = secret {
        config.registration_secret = Some(RegistrationSecret::new(secret.expose()));
    }
    if let Some(secrets) = secrets::read_for_server(secrets::CALLBACK_SECRET, args.callback_secret_file.as_deref())? {
        config.callbacks.secrets = signing_secrets(&secrets)?;
    }
    if let Some(key) = secrets::read_for_server(secrets::SEALING_KEY, args.sealing_key_file.as_deref())? {
        config.sealing_key = Some(key);
    }
    args.agentkit.add_to(&mut config.agentkit)?;
    if let Some(folder) = &args.workflows {
        config.workflows.extend(crate::workflow::definitions_in(folder)?);
    }
    if let Some(tls) = chosen_tls(args) {
        config.tls = tls;
    }
    if let Some(url) = &args.public_url {
        config.public_url = Some(url.clone());
    }
    if let Some(names) = args.name_policy {
        config.name_policy = names.into();
    }
    let usual = if address.ip().is_loopback() { Access::Loopback } else { Access::Keys };
    config.access = access.unwrap_or(usual);
    let missing = missing(&config, address);
    if missing.is_empty() {
        return Ok(config);
    }
    Err(Failure::usage(format!("cannot serve on {address}: {}", missing.join("; "))))
}

/// Everything that has to be set or mended, in the words of the command line.
fn missing(config: &Config, address: SocketAddr) -> Vec<String> {
    let exposed = !address.ip().is_loopback();
    let needs_keys = exposed || config.access == Access::Keys;
    let mut missing = Vec::new();
    let key = config.operator_key.as_ref().map(|key| &key.secret);
    let secret = config.registration_secret.as_ref().map(|secret| &secret.secret);
    let needs_key = needs_keys && config.operator_keys.is_empty();
    let needs_secret = needs_keys && config.registration_secrets.is_empty();
    missing.extend(problem_of(key, "the operator key", secrets::OPERATOR_KEY, "--operator-key-file", needs_key));
    missing.extend(problem_of(
        secret,
        "the registration secret",
        secrets::REGISTRATION_SECRET,
        "--registration-secret-file",
        needs_secret,
    ));
    if exposed && config.tls == Tls::Undecided {
        let choice = "--tls-cert and --tls-key, --behind-tls-proxy, or --allow-plaintext";
        missing.push(format!("a decision on TLS is missing (choose {choice})"));
    }
    if let Err(problems) = config.validate() {
        // Keys are named above, in words that say where they are set.
        let others = problems.iter().filter(|problem| !is_about_secrets(problem));
        missing.extend(others.map(str::to_owned));
    }
    missing
}

/// One secret or several, with white space between them.
fn signing_secrets(text: &Secret) -> Result<Vec<SigningSecret>, Failure> {
    let secrets: Result<_, IdError> = text.expose().split_whitespace().map(str::parse).collect();
    let told = |error| format!("{} (or --callback-secret-file): each {error}", secrets::CALLBACK_SECRET);
    secrets.map_err(|error| Failure::usage(told(error)))
}

fn problem_of(secret: Option<&Secret>, what: &str, variable: &str, flag: &str, needed: bool) -> Option<String> {
    match secret {
        None if needed => Some(format!("{what} is missing (set {variable} or {flag})")),
        Some(secret) if secret.expose().len() < MIN_SECRET_BYTES => {
            Some(format!("{what} has fewer than {MIN_SECRET_BYTES} bytes ({variable} or {flag})"))
        }
        _ => None,
    }
}

fn chosen_tls(args: &ServeArgs) -> Option<Tls> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(Tls::Files { cert: cert.clone(), key: key.clone() }),
        _ if args.behind_tls_proxy => Some(Tls::BehindProxy),
        _ if args.allow_plaintext => Some(Tls::Plaintext),
        _ => None,
    }
}

/// What a file says about access; it has a default of its own in a configuration, which tells nothing.
#[derive(Deserialize)]
struct Chosen {
    access: Option<Access>,
}

/// The configuration in a file, and the access if it is set there.
fn from_file(path: &Path) -> Result<(Config, Option<Access>), Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read --config {}: {error}", path.display())))?;
    let config = serde_json::from_str(&text).and_then(|config| Ok((config, serde_json::from_str(&text)?)));
    let (config, Chosen { access }) = config
        .map_err(|error| Failure::usage(format!("--config {} is not a configuration: {error}", path.display())))?;
    Ok((config, access))
}

fn is_about_secrets(problem: &str) -> bool {
    problem.starts_with("operator_key.")
        || problem.starts_with("operator_key ")
        || problem.starts_with("registration_secret.")
        || problem.starts_with("registration_secret ")
}
