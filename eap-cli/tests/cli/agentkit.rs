//! `eap serve` with the face of an agent platform, which `mock-agentkit` plays.

use std::fs;
use std::time::Duration;

use eap_tests::ports::free_address;
use eap_types::agentkit::PlatformAgent;
use mock_agentkit::{Ending, MockAgentKit};

use crate::support::{Running, eap, run, until};

const KEY: &str = "canary-operator-key-000000";

fn agent(id: &str) -> PlatformAgent {
    PlatformAgent::new(id.parse().unwrap(), id.to_uppercase(), "http://127.0.0.1:9").with_capabilities(["summarize"])
}

#[test]
fn an_agent_of_a_platform_does_the_work_and_its_secret_is_replaced_without_a_restart() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (address, secrets, log) = (free_address().to_string(), dir.path().join("secrets"), "info");
    let url = format!("http://{address}");
    fs::write(&secrets, "the old word, long enough to count\n").unwrap();
    let kit = |secret: &str| {
        let builder = MockAgentKit::builder().notifies(&url).reports_to(&url).secret(secret).key(KEY);
        runtime.block_on(builder.works_for(Duration::from_millis(5)).start()).expect("a port is free")
    };
    let mock = kit("the old word, long enough to count");
    let mut command = eap(&["serve", "--listen", &address, "--database", "memory:", "--agentkit-url", &mock.url()]);
    command
        .args(["--agentkit-secret-file", secrets.to_str().unwrap()])
        .env("EAP_OPERATOR_KEY", KEY)
        .env("EAP_LOG", log);
    let mut server = Running::start(&mut command);
    server.line("eap: serving on ");
    runtime.block_on(mock.register(agent("a1"))).expect("its id is new");
    let mut submit = eap(&["task", "submit", "--url", &url, "--type", "summarize", "--wait", "--input", "some text"]);
    let ended = run(submit.env("EAP_OPERATOR_KEY", KEY)).expect(0);
    assert!(ended.stdout.contains("simulated_success"), "{ended:?}");
    let list = || run(eap(&["agent", "list", "--url", &url, "--json"]).env("EAP_OPERATOR_KEY", KEY)).expect(0);
    assert!(list().stdout.contains("\"a1\""));

    fs::write(&secrets, "the new word, long enough to count\n").unwrap();
    until("the file is read again", || server.log().contains("are replaced").then_some(()));
    fs::write(&secrets, "the new word, long enough to count\nshort\n").unwrap();
    let told = format!("{}, line 2: the secret has fewer than 24 bytes", secrets.display());
    until("what is wrong with it is told", || server.log().contains(&told).then_some(()));
    let ending = |mock: &MockAgentKit| {
        until("it has an end", || {
            mock.sent().last().map(|sent| sent.ending).filter(|ending| *ending != Ending::Pending)
        })
    };
    runtime.block_on(mock.register(agent("a2"))).expect("its id is new");
    assert_eq!(ending(&mock), Ending::Refused);
    let renewed = kit("the new word, long enough to count");
    runtime.block_on(renewed.register(agent("a3"))).expect("its id is new");
    assert_eq!(ending(&renewed), Ending::Taken);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_wrong_address_of_a_platform_is_named_and_so_is_a_missing_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (short, missing) = (dir.path().join("secrets"), dir.path().join("no-such-file"));
    fs::write(&short, "\nthe first word, long enough to count\nshort\n").unwrap();
    let [short, missing] = [&short, &missing].map(|path| path.to_str().expect("UTF-8"));
    for (arguments, told) in [
        (&["--agentkit-url", "kit:8000"][..], "agentkit.url"),
        (&["--agentkit-secret", " "], "--agentkit-secret"),
        (&["--agentkit-secret-file", short], &format!("{short}, line 3: the secret has fewer than 24 bytes")),
        (&["--agentkit-secret-file", missing], missing),
    ] {
        let mut command = eap(&["serve", "--database", "memory:", "--listen", "127.0.0.1:0"]);
        let ended = run(command.args(arguments)).expect(2);
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}
