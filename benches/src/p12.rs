//! P12: how big the release build of `eap` is, and how long a first build of an agent takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use crate::BoxError;
use crate::load::rounded;
use crate::report::{Floor, Report};

#[derive(Debug, Serialize)]
struct Size {
    eap_mb: f64,
}

#[derive(Debug, Serialize)]
struct Build {
    cold_build_seconds: f64,
}

const AGENT: &str = r#"//! The README's agent.
use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext};

async fn translate(task: Task<String>, _: TaskContext) -> Result<String, HandlerError> {
    Ok(task.input.to_uppercase())
}

#[tokio::main]
async fn main() -> Result<(), eap_agent_sdk::Error> {
    let agent = Agent::builder("http://127.0.0.1:8080", "AGENT-COLD-01").handle("translate", translate).build()?;
    agent.run_until(std::future::pending::<()>()).await?;
    Ok(())
}
"#;

/// Builds `eap` in release mode and, if asked, a new agent from nothing; crates are fetched beforehand.
pub(crate) fn measure(cold: bool, report: &mut Report) -> Result<(), BoxError> {
    let workspace = workspace();
    if report.is_quick() {
        eprintln!("P12 has no quick form: it builds in release mode");
        return Ok(());
    }
    cargo(&workspace, &["build", "--release", "--locked", "--package", "eap-cli"], None)?;
    let eap = std::env::current_exe()?.with_file_name("eap");
    let eap_mb = rounded(fs::metadata(eap)?.len() as f64 / 1e6);
    report.add("P12", "ours", 1, &(), &Size { eap_mb })?;
    report.floor(Floor::at_most("P12", "release eap, MB", 20.0, report.spread("P12", "ours", "eap_mb")));
    if cold {
        let cold_build_seconds = build_agent(&workspace)?;
        report.add("P12", "agent", 1, &(), &Build { cold_build_seconds })?;
        report.floor(Floor::at_most(
            "P12",
            "cold build of an agent, s",
            90.0,
            report.spread("P12", "agent", "cold_build_seconds"),
        ));
    }
    Ok(())
}

fn build_agent(workspace: &Path) -> Result<f64, BoxError> {
    let folder = tempfile::tempdir()?;
    let agent = folder.path().join("agent");
    fs::create_dir_all(agent.join("src"))?;
    fs::write(agent.join("src/main.rs"), AGENT)?;
    let sdk = workspace.join("eap-agent-sdk");
    let manifest = format!(
        "[package]\nname = \"cold-agent\"\nedition = \"2024\"\n\n[dependencies]\neap-agent-sdk = {{ path = {sdk:?} }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n[workspace]\n"
    );
    fs::write(agent.join("Cargo.toml"), manifest)?;
    // The same versions as ours.
    fs::copy(workspace.join("Cargo.lock"), agent.join("Cargo.lock"))?;
    cargo(&agent, &["fetch"], None)?;
    let began = Instant::now();
    cargo(&agent, &["build", "--offline"], Some(&folder.path().join("target")))?;
    Ok(rounded(began.elapsed().as_secs_f64()))
}

fn cargo(folder: &Path, arguments: &[&str], target: Option<&Path>) -> Result<(), BoxError> {
    let mut command = Command::new("cargo");
    command.args(arguments).arg("--quiet").current_dir(folder);
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", arguments.join(" ")).into()) }
}

/// The folder of the workspace that this program was built from.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}
