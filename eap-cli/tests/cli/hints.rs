//! A refusal names its own cause, and what is advised fits it; what succeeds says so.

use crate::support::{Server, run};

const ADMIN: &str = "the-operators-own-key-0123456789";
const NOWHERE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn a_key_that_ended_is_told_so() {
    let server = Server::start(&[], &[("EAP_OPERATOR_KEY", ADMIN)]);
    let with = |key: &str, arguments: &[&str]| run(server.eap(arguments).env("EAP_OPERATOR_KEY", key));
    let made = with(ADMIN, &["key", "create", "--name", "ci", "--preset", "read"]).expect(0).stdout;
    let listed = with(ADMIN, &["key", "list", "--json"]).expect(0).json();
    let id = listed["keys"][0]["key_id"].as_str().expect("an id");
    assert_eq!(with(ADMIN, &["key", "revoke", id]).expect(0).stdout, format!("{id} revoked\n"));
    let refused = with(made.trim(), &["task", "list"]).expect(3);
    assert!(refused.stderr.contains("this operator key was revoked"), "{refused:?}");
    assert!(refused.stderr.contains("EAP_OPERATOR_KEY or --operator-key-file"), "{refused:?}");
    let unknown = with("another-key-that-is-none-of-these", &["task", "list"]).expect(3);
    assert!(unknown.stderr.contains("a valid operator key is needed"), "{unknown:?}");
}

#[test]
fn a_secret_that_does_not_admit_an_agent_is_told_so() {
    let server = Server::start(&[], &[]);
    let create = ["registration-secret", "create", "--name", "fleet", "--allow-name", "AGENT-FLEET-*"];
    let secret = run(&mut server.eap(&create)).expect(0).stdout;
    let agent = ["agent", "run", "--name", "AGENT-X-01", "--capability", "work", "--", "cat"];
    let refused = run(server.eap(&agent).env("EAP_REGISTRATION_SECRET", secret.trim())).expect(3);
    assert!(refused.stderr.contains("to a secret that admits this agent"), "{refused:?}");
    assert!(!refused.stderr.contains("the server's registration secret"), "{refused:?}");
    let listed = run(&mut server.eap(&["registration-secret", "list", "--json"])).expect(0).json();
    let id = listed["registration_secrets"][0]["secret_id"].as_str().expect("an id");
    let revoked = run(&mut server.eap(&["registration-secret", "revoke", id])).expect(0);
    assert_eq!(revoked.stdout, format!("{id} revoked\n"));
}

#[test]
fn what_is_not_there_is_no_matter_of_the_address() {
    let server = Server::start(&[], &[]);
    for (arguments, advice) in [
        (&["agent", "reconcile"][..], "eap serve --agentkit-url"),
        (&["key", "revoke", NOWHERE], "`eap key list`"),
        (&["registration-secret", "revoke", NOWHERE], "`eap registration-secret list`"),
    ] {
        let refused = run(&mut server.eap(arguments)).expect(3);
        assert!(refused.stderr.contains(advice) && !refused.stderr.contains("--url or"), "{refused:?}");
    }
}

#[test]
fn an_agent_that_is_asked_for_a_new_token_is_named() {
    let server = Server::start(&[], &[]);
    let _agent = server.agent(&[], &[], "cat");
    let agents = run(&mut server.eap(&["agent", "list", "--json"])).expect(0).json();
    let id = agents["agents"][0]["agent_id"].as_str().expect("it has an id");
    let asked = run(&mut server.eap(&["agent", "rotate-token", id])).expect(0);
    assert_eq!(asked.stdout, format!("{id} is asked to get a new token\n"));
}

#[test]
fn json_input_is_said_to_be_what_it_is() {
    let help = run(&mut crate::support::eap(&["task", "submit", "--help"])).expect(0).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("in compact form") && !help.contains("travels as such rather than as text"), "{help}");
}
