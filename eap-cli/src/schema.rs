//! `eap schema`: the JSON Schemas of all payloads and the OpenAPI document of the API.

use std::path::{Path, PathBuf};

use clap::Args;
use eap_orchestrator::Orchestrator;
use eap_types::PayloadInfo;

use crate::exit::{Exit, Failure};
use crate::output::{Table, print};

/// The name under which the OpenAPI document is asked for and kept.
const OPENAPI: &str = "openapi";

/// Show the JSON Schema of a payload, or the OpenAPI document of the API; without a name, list what there is.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// A payload's name, as in `SubmitTask`, or `openapi`.
    #[arg(value_name = "NAME", conflicts_with = "write")]
    name: Option<String>,
    /// Write every schema and the OpenAPI document into this folder, one file each.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, Failure> {
    match (&args.write, args.name.as_deref()) {
        (Some(folder), _) => write_all(folder)?,
        (None, Some(OPENAPI)) => print(&Orchestrator::openapi())?,
        (None, Some(name)) => print(&text(named(name)?))?,
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
    table.row([OPENAPI, "document"]);
    print(&table.render())
}

fn write_all(folder: &Path) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: &std::io::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let schemas = PayloadInfo::ALL.iter().map(|payload| (payload.name, text(payload)));
    for (name, text) in schemas.chain([(OPENAPI, Orchestrator::openapi())]) {
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// A schema as it stands in its file.
fn text(payload: &PayloadInfo) -> String {
    format!("{:#}\n", payload.json_schema())
}
