//! The command: what it takes from its arguments and its environment, and how it ends.

#![cfg(feature = "cli")]

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::http::call;
use crate::receiver::{Receiver, SOON, agent, message};

/// The command without anything of the caller's environment.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-agentkit"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it and reads where it listens.
async fn started(command: &mut Command) -> (Child, String) {
    let mut child = command.arg("--listen").arg("127.0.0.1:0").spawn().expect("the command is built");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("it says where it listens").unwrap();
    let line = line.expect("it says where it listens");
    let url = line.strip_prefix("mock-agentkit listens on ").expect("the first line").to_owned();
    (child, url)
}

#[tokio::test]
async fn it_is_told_by_the_environment_and_ends_when_it_is_asked_to() {
    let (receiver, reports) = (Receiver::start().await, Receiver::start().await);
    let (mut child, url) = started(
        command()
            .env("OPSCORE_INTERNAL_URL", &receiver.url)
            .env("OPSCORE_WEBHOOK_SECRET", "from the environment")
            .env("OPSCORE_API_URL", &reports.url)
            .env("OPSCORE_API_KEY", "a-key")
            .env("OPSCORE_WEBHOOK_URL", "")
            .args(["--work-ms", "1", "--fault", "webhooks.duplicate=1", "--fault", "webhooks.times=1"]),
    )
    .await;
    call("POST", &format!("{url}/v1/agents"), Some(&agent("a1"))).await;
    let calls = receiver.wait_for(2).await;
    assert_eq!(calls[0].path, "/v1/opscore/internal/agent/notify");
    assert!(calls[0].is_signed_with("from the environment") && calls[0].body == calls[1].body);
    call("POST", &format!("{url}/v1/agents/a1/run"), Some(&message("t"))).await;
    let calls = reports.calls();
    assert_eq!((calls.len(), calls[0].header("authorization")), (2, Some("Bearer a-key")));

    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill is there").success());
    let status = tokio::time::timeout(SOON, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn an_exact_webhook_address_goes_before_the_base() {
    let receiver = Receiver::start().await;
    let (_child, url) = started(
        command()
            .env("OPSCORE_INTERNAL_URL", "http://127.0.0.1:9")
            .env("OPSCORE_WEBHOOK_URL", format!("{}/hook", receiver.url)),
    )
    .await;
    call("POST", &format!("{url}/v1/agents"), Some(&agent("a1"))).await;
    assert_eq!(receiver.wait_for(1).await[0].path, "/hook");
    assert_eq!(call("GET", &format!("{url}/health"), None).await, (200, json!({ "status": "ok" })));
}

#[tokio::test]
async fn what_makes_no_sense_ends_with_2() {
    for wrong in
        [&["--opscore-url", "nowhere"][..], &["--fault", "webhooks.explode"], &["--tries", "0"], &["--work-ms", "x"]]
    {
        let output = command().args(["--listen", "127.0.0.1:0"]).args(wrong).output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.is_empty()), (Some(2), false), "{wrong:?}: {told}");
    }
}

#[tokio::test]
async fn the_help_names_everything_and_shows_no_secret() {
    let output = command()
        .arg("--help")
        .env("OPSCORE_WEBHOOK_SECRET", "s3cret")
        .env("OPSCORE_API_KEY", "s3cret")
        .output()
        .await
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for word in [
        "--listen",
        "OPSCORE_INTERNAL_URL",
        "OPSCORE_API_URL",
        "OPSCORE_API_KEY",
        "OPSCORE_WEBHOOK_URL",
        "OPSCORE_WEBHOOK_SECRET",
        "curl",
        "/control/faults",
        "/control/work",
        "/control/received",
        "/control/sent",
        "webhooks.drop",
        "late_ms",
        "duplicate",
        "reorder",
        "forge",
        "wrong_secret",
        "unsigned",
        "clock_offset_seconds",
        "runs.late_ms",
        "status=",
        "work.crash",
        "fail",
        "reports.drop",
    ] {
        assert!(help.contains(word), "{word} is missing");
    }
    assert!(!help.contains("s3cret"));
}
