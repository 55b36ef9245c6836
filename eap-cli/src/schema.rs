//! `eap schema`: the JSON Schemas of all payloads, the OpenAPI document of the API and the AsyncAPI document of its sockets.

use std::path::{Path, PathBuf};

use clap::Args;
use eap_orchestrator::Orchestrator;
use eap_types::PayloadInfo;

use crate::exit::{Exit, Failure};
use crate::output::{Table, print};

/// A document's name, and its text.
type Document = (&'static str, fn() -> String);

/// The documents beside the schemas, by the names under which they are asked for and kept.
const DOCUMENTS: [Document; 2] = [("openapi", Orchestrator::openapi), ("asyncapi", Orchestrator::asyncapi)];

/// Show the JSON Schema of a payload, or a document of the API: `openapi` for its calls, `asyncapi` for agents' WebSockets;
/// without a name, list what there is.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// A payload's name, as in `SubmitTask`, or `openapi` or `asyncapi`.
    #[arg(value_name = "NAME", conflicts_with = "write")]
    name: Option<String>,
    /// Write every schema and document into this folder, one file each.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, Failure> {
    match (&args.write, args.name.as_deref()) {
        (Some(folder), _) => write_all(folder)?,
        (None, Some(name)) => match DOCUMENTS.iter().find(|(document, _)| *document == name) {
            Some((_, document)) => print(&document())?,
            None => print(&text(named(name)?))?,
        },
        (None, None) => list()?,
    }
    Ok(Exit::Done)
}

fn named(name: &str) -> Result<&'static PayloadInfo, Failure> {
    PayloadInfo::named(name)
        .ok_or_else(|| Failure::usage(format!("there is no payload `{name}`; `eap schema` lists the names")))
}

fn list() -> Result<(), Failure> {
    let mut table = Table::with_header(&["NAME", "ROLE", "EXAMPLES"]);
    for payload in PayloadInfo::ALL {
        let examples: Vec<&str> = payload.examples.iter().map(|(name, _)| *name).collect();
        table.row([payload.name, payload.role.as_str(), &examples.join(" ")]);
    }
    for (document, _) in DOCUMENTS {
        table.row([document, "document"]);
    }
    print(&table.render())
}

fn write_all(folder: &Path) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: &std::io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let schemas = PayloadInfo::ALL.iter().map(|payload| (payload.name, text(payload)));
    for (name, text) in schemas.chain(DOCUMENTS.map(|(name, document)| (name, document()))) {
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// A schema as it stands in its file.
fn text(payload: &PayloadInfo) -> String {
    format!("{:#}\n", payload.json_schema())
}
