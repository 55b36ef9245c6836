//! Registration secrets: `eap registration-secret create` and `eap registration-secret list`.

use clap::Args;
use eap_types::{
    Capability, CreateRegistrationSecret, CredentialName, NamePattern, RegistrationLimits, RegistrationSecretPage,
};

use super::{End, ListArgs, ago, end};
use crate::exit::{Exit, Failure};
use crate::output::{Table, print, print_json, tell};
use crate::paging::{more, query};
use crate::server::ServerArgs;

/// Make a secret that agents register with, and print it this once.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name: an agent comes back with a secret of the same name only. Several secrets may have the same.
    #[arg(long, value_name = "NAME")]
    name: CredentialName,

    /// How many registrations it lets in [default: any number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_uses: Option<u64>,

    /// A name that agents may have, or the beginning of one and `*`; may be given more than once [default: any].
    #[arg(long = "allow-name", value_name = "NAME")]
    names: Vec<NamePattern>,

    /// A capability that agents may offer; may be given more than once [default: any].
    #[arg(long = "allow-capability", value_name = "CAPABILITY")]
    capabilities: Vec<Capability>,

    #[command(flatten)]
    end: End,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document, the secret in it.
    #[arg(long)]
    json: bool,
}

pub(super) async fn create(args: CreateArgs) -> Result<Exit, Failure> {
    let mut limits = RegistrationLimits::new();
    limits.max_uses = args.max_uses;
    limits.names = args.names.into_iter().collect();
    limits.capabilities = args.capabilities.into_iter().collect();
    let mut asked = CreateRegistrationSecret::new(args.name).with_limits(limits);
    asked.expires_at = args.end.at();
    // Not repeated: each call that arrives makes a secret.
    let made = args.server.client()?.create_registration_secret(&asked).await;
    let made = made.map_err(|error| args.server.failed(&error))?;
    if args.json {
        print_json(&made)?;
    } else {
        let view = &made.view;
        tell(&format!("eap: registration secret {} ({}); it is shown this once\n", view.secret_id, view.name));
        print(&format!("{}\n", made.registration_secret.expose()))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let page =
        args.paging.read(&args.server, async |cursor, limit| client.registration_secrets(&query(cursor, limit)).await);
    let page = page.await?;
    if args.json {
        print_json(&page)?;
    } else {
        print(&listed(&page))?;
    }
    Ok(Exit::Done)
}

fn listed(page: &RegistrationSecretPage) -> String {
    if page.registration_secrets.is_empty() {
        return "no registration secrets\n".to_owned();
    }
    let mut table =
        Table::with_header(&["ID", "NAME", "STATE", "CREATED", "USED", "EXPIRES", "USES", "NAMES", "CAPABILITIES"]);
    for secret in &page.registration_secrets {
        let limits = &secret.limits;
        let uses =
            limits.max_uses.map_or_else(|| "-".to_owned(), |most| format!("{}/{most}", secret.uses.unwrap_or(0)));
        table.row([
            secret.secret_id.to_string(),
            secret.name.to_string(),
            secret.state.to_string(),
            ago(Some(secret.created_at)),
            ago(secret.last_used_at),
            end(secret.expires_at),
            uses,
            words(limits.names.iter()),
            words(limits.capabilities.iter()),
        ]);
    }
    table.render() + &more(page)
}

fn words<T: ToString>(words: impl Iterator<Item = T>) -> String {
    let words: Vec<_> = words.map(|word| word.to_string()).collect();
    if words.is_empty() { "any".to_owned() } else { words.join(" ") }
}
