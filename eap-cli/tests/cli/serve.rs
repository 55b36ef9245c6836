//! When `eap serve` starts, when it refuses to, and how it ends.

use nix::sys::signal::Signal;

use crate::support::{Ended, Running, Server, eap, run, until};

const KEY: (&str, &str) = ("EAP_OPERATOR_KEY", "canary-operator-key-000000");
const SECRET: (&str, &str) = ("EAP_REGISTRATION_SECRET", "canary-registration-secret-00");

fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = eap(&["serve", "--database", "memory:"]);
    let ended = run(command.args(arguments).envs(environment.iter().copied())).expect(2);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "a secret is shown: {ended:?}");
    ended
}

#[test]
fn off_loopback_everything_that_is_missing_is_named_in_one_line() {
    let needed = [("operator key", "EAP_OPERATOR_KEY"), ("registration secret", "EAP_REGISTRATION_SECRET")];
    let tls = "a decision on TLS";
    let everywhere = ["--listen", "0.0.0.0:0"];
    let plain = ["--listen", "0.0.0.0:0", "--allow-plaintext"];
    for (arguments, environment, missing) in [
        (&everywhere[..], &[][..], &[needed[0].0, needed[1].0, tls][..]),
        (&everywhere, &[KEY], &[needed[1].0, tls]),
        (&everywhere, &[SECRET], &[needed[0].0, tls]),
        (&everywhere, &[KEY, SECRET], &[tls]),
        (&plain, &[], &[needed[0].0, needed[1].0]),
        (&plain, &[KEY], &[needed[1].0]),
        (&plain, &[SECRET], &[needed[0].0]),
        (&["--listen", "[::]:0", "--behind-tls-proxy"], &[], &[needed[0].0, needed[1].0]),
    ] {
        let ended = refused(arguments, environment);
        for what in [needed[0].0, needed[1].0, tls] {
            let is_named = ended.stderr.contains(&format!("{what} is missing"));
            assert_eq!(is_named, missing.contains(&what), "{what}, {arguments:?}, {environment:?}: {ended:?}");
        }
        for (what, variable) in needed {
            assert_eq!(ended.stderr.contains(variable), missing.contains(&what), "{variable}: {ended:?}");
        }
    }
}

#[test]
fn with_everything_it_serves_others_and_asks_them_for_the_key() {
    let mut command = eap(&["serve", "--listen", "0.0.0.0:0", "--allow-plaintext", "--database", "memory:"]);
    let mut server = Running::start(command.envs([KEY, SECRET]));
    let line = server.line("eap: serving on http://0.0.0.0:");
    let port = line.split(' ').next().expect("the port");
    let list = |key: &str| {
        let url = format!("http://127.0.0.1:{port}");
        run(eap(&["task", "list", "--url", &url]).env("EAP_OPERATOR_KEY", key))
    };
    list(KEY.1).expect(0);
    list("").expect(3);
    list("another-operator-key-0000").expect(3);
}

#[test]
fn a_short_secret_is_refused_on_loopback_too() {
    for variable in [KEY.0, SECRET.0] {
        let ended = refused(&["--listen", "127.0.0.1:0"], &[(variable, "canary-of-23-bytes-0000")]);
        assert!(ended.stderr.contains("fewer than 24 bytes") && ended.stderr.contains(variable), "{ended:?}");
    }
}

#[test]
fn a_callback_secret_that_is_none_is_refused_and_not_shown() {
    for wrong in
        ["canary", "whsec_", "whsec_Y2FuYXJ5", "whsec_Y2FuYXJ5LXNpZ25pbmcta2V5LTAxMjM0NTY3ODlhYg== canary", " "]
    {
        let ended = refused(&["--listen", "127.0.0.1:0"], &[("EAP_CALLBACK_SECRET", wrong)]);
        assert!(ended.stderr.contains("EAP_CALLBACK_SECRET") && !ended.stderr.contains("Y2Fu"), "{ended:?}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let here = ["--listen", "127.0.0.1:0"];
    for (arguments, word) in [
        (["--public-url", "ftp://x"], "public_url"),
        (["--config", "/nowhere/eap.json"], "/nowhere/eap.json"),
        (["--operator-key-file", "/nowhere/key"], "/nowhere/key"),
        (["--database", "sqlite:/nowhere/eap.db"], "/nowhere"),
        (["--listen", "nowhere"], "nowhere"),
    ] {
        let mut command = eap(&["serve"]);
        let others = if arguments[0] == "--listen" { &[][..] } else { &here };
        let ended = run(command.args(arguments).args(others)).expect(2);
        assert!(ended.stderr.contains(word), "{ended:?}");
    }
    run(&mut eap(&["serve", "--database", "mysql://x"])).expect(2);
    run(&mut eap(&["serve", "--tls-cert", "cert.pem"])).expect(2);
    run(&mut eap(&["serve", "--allow-plaintext", "--behind-tls-proxy"])).expect(2);
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let files = ["--listen", "127.0.0.1:0", "--tls-cert", "/nowhere/c.pem", "--tls-key", "/nowhere/k.pem"];
    let ended = run(eap(&["serve", "--database", "memory:"]).args(files).env("EAP_LOG", "off")).expect(2);
    assert!(ended.stderr.contains("/nowhere/c.pem") && !ended.stderr.contains("serving on"), "{ended:?}");
}

/// A configuration file with this text, in a directory that lives as long as the test.
fn config(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.json");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().expect("UTF-8").to_owned();
    (dir, file)
}

#[test]
fn access_is_what_the_file_says_and_else_what_the_address_says() {
    let (_dir, keys) = config(r#"{"access": "keys"}"#);
    let ended = refused(&["--listen", "127.0.0.1:0", "--config", &keys], &[]);
    for variable in [KEY.0, SECRET.0] {
        assert!(ended.stderr.contains(&format!("is missing (set {variable}")), "{ended:?}");
    }
    // A key is asked for by any of them; without one, a foreign host name is let in by `open` alone.
    let (_dir, open) = config(r#"{"access": "open"}"#);
    let (_dir, silent) = config(r#"{"timing": {"lease": 60}}"#);
    for (file, status) in [(open, "200"), (silent, "401")] {
        let server = Server::start(&["--config", &file], &[]);
        assert_eq!(status_of_a_foreign_call(&server.url), status, "{file}");
    }
}

/// The status of a list of tasks that a call with another server's name in `Host` is answered with.
fn status_of_a_foreign_call(url: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    let call = "GET /api/v1/tasks HTTP/1.1\r\nhost: eap.example.com\r\nconnection: close\r\n\r\n";
    stream.write_all(call.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn a_secret_that_is_set_and_empty_is_refused() {
    for variable in [KEY.0, SECRET.0] {
        let ended = refused(&["--listen", "127.0.0.1:0"], &[(variable, "")]);
        assert!(ended.stderr.contains(&format!("{variable} is set but empty")), "{ended:?}");
    }
}

#[test]
fn an_address_without_a_host_is_told_how_one_looks() {
    for (listen, why) in [
        (":8080", "names no host"),
        ("8080", "names no host"),
        ("localhost", "names no port"),
        ("localhost:http", "http is no port"),
    ] {
        let ended = refused(&["--listen", listen], &[]);
        assert!(ended.stderr.contains(why), "{ended:?}");
        assert!(ended.stderr.contains("HOST:PORT is expected, as in 127.0.0.1:8080"), "{ended:?}");
    }
}

#[test]
fn one_file_has_one_server_and_the_next_one_finds_what_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("eap.db").display());
    let mut first = Server::start(&["--database", &database], &[]);
    let second = run(&mut eap(&["serve", "--listen", "127.0.0.1:0", "--database", &database])).expect(2);
    assert!(second.stderr.contains(&database), "{second:?}");
    let id = run(&mut first.eap(&["task", "submit", "--type", "work", "--input", "x"])).expect(0).stdout;
    assert_eq!(first.process.stop(), 0);
    let next = Server::start(&["--database", &database], &[]);
    let task = run(&mut next.eap(&["task", "get", id.trim(), "--json"])).expect(0).json();
    assert_eq!(task["status"], "queued");
}

#[test]
fn a_signal_stops_it_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&[], &[]);
        server.process.signal(signal);
        assert_eq!(server.process.code(), 0);
    }
}

#[test]
fn no_log_shows_a_secret() {
    let trace = ("EAP_LOG", "trace");
    let mut server = Server::start(&["--log-format", "json"], &[KEY, SECRET, trace]);
    let mut agent = server.agent(&[], &[SECRET, trace], "printenv");
    let mut submit = server.eap(&["task", "submit", "--type", "work", "--input", "x", "--wait", "--json"]);
    let submitted = run(submit.envs([KEY, trace])).expect(0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(server.process.stop(), 0);
    let everything = [server.process.log(), agent.log(), submitted.stderr, submitted.stdout];
    for text in everything {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_storage_that_fails_ends_the_server_with_a_code_and_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    // No file may grow beyond some hundred kilobytes, as on a disk that breaks.
    let script = "trap '' XFSZ; ulimit -f 500; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_eap"), "serve", "--listen", "127.0.0.1:0", "--database"]);
    command.arg(format!("sqlite:{}", dir.path().join("eap.db").display()));
    let mut server = Running::start(&mut command);
    let url = server.line("eap: serving on ").split(' ').next().expect("the address").to_owned();
    let large = "x".repeat(100_000);
    let file = dir.path().join("input");
    std::fs::write(&file, large).unwrap();
    let submit = ["task", "submit", "--type", "work", "--url", &url, "--input-file", file.to_str().expect("UTF-8")];
    let failed = until("a submit fails", || Some(run(&mut eap(&submit))).filter(|ended| ended.code != 0));
    assert!(matches!(failed.code, 3 | 4), "{failed:?}");
    assert_eq!(server.code(), 1, "{}", server.log());
    let last = server.log();
    assert!(last.lines().any(|line| line.starts_with("eap: stopped because the store failed")), "{last}");
}
