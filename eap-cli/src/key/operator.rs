//! Operator keys: `eap key create` and `eap key list`.

use clap::Args;
use eap_types::{CreateKey, CredentialName, KeyPage, Scope, ScopePreset};

use super::{End, ListArgs, ago, end};
use crate::exit::{Exit, Failure};
use crate::output::{Table, print, print_json, tell};
use crate::paging::{more, query};
use crate::server::ServerArgs;

/// Make an operator key, and print it this once.
///
/// It opens what its scopes and presets say, and nothing that the calling key does not open itself.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name in lists and logs; several keys may have the same.
    #[arg(long, value_name = "NAME")]
    name: CredentialName,

    /// One thing it opens; may be given more than once: tasks:submit, tasks:read, tasks:cancel, results:read,
    /// agents:read, agents:report, agents:admin, keys:admin.
    #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "preset")]
    scopes: Vec<Scope>,

    /// Several scopes at once: read, submit (and read), or admin.
    #[arg(long, value_name = "PRESET")]
    preset: Option<ScopePreset>,

    #[command(flatten)]
    end: End,

    #[command(flatten)]
    server: ServerArgs,

    /// Print the answer as one JSON document, the key in it.
    #[arg(long)]
    json: bool,
}

pub(super) async fn create(args: CreateArgs) -> Result<Exit, Failure> {
    let mut asked = CreateKey::new(args.name, args.scopes.into_iter().collect());
    asked.preset = args.preset;
    asked.expires_at = args.end.at();
    // Not repeated: each call that arrives makes a key.
    let made = args.server.client()?.create_key(&asked).await.map_err(|error| args.server.failed(&error))?;
    if args.json {
        print_json(&made)?;
    } else {
        let view = &made.view;
        tell(&format!("eap: key {} ({}): {}; it is shown this once\n", view.key_id, view.name, view.scopes));
        print(&format!("{}\n", made.key.expose()))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let page = args.paging.read(&args.server, async |cursor, limit| client.keys(&query(cursor, limit)).await);
    let page = page.await?;
    if args.json {
        print_json(&page)?;
    } else {
        print(&listed(&page))?;
    }
    Ok(Exit::Done)
}

fn listed(page: &KeyPage) -> String {
    if page.keys.is_empty() {
        return "no keys\n".to_owned();
    }
    let mut table = Table::with_header(&["ID", "NAME", "STATE", "CREATED", "USED", "EXPIRES", "SCOPES"]);
    for key in &page.keys {
        table.row([
            key.key_id.to_string(),
            key.name.to_string(),
            key.state.to_string(),
            ago(Some(key.created_at)),
            ago(key.last_used_at),
            end(key.expires_at),
            key.scopes.to_string(),
        ]);
    }
    table.render() + &more(page)
}
