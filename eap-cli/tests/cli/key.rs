//! Keys and registration secrets: made, used, listed, revoked.

use crate::support::{Server, run};

const ADMIN: &str = "the-operators-own-key-0123456789";

#[test]
fn a_key_is_printed_once_opens_its_scopes_and_nothing_once_it_is_revoked() {
    let server = Server::start(&[], &[("EAP_OPERATOR_KEY", ADMIN)]);
    let with = |key: &str, arguments: &[&str]| run(server.eap(arguments).env("EAP_OPERATOR_KEY", key));
    assert_eq!(with(ADMIN, &["key", "list"]).expect(0).stdout, "no keys\n");
    let made = with(ADMIN, &["key", "create", "--name", "ci", "--preset", "read", "--expires-in", "30d"]).expect(0);
    let key = made.stdout.trim();
    assert!(key.starts_with("eapk_") && made.stderr.contains("it is shown this once"), "{made:?}");
    with(key, &["task", "list"]).expect(0);
    let refused = with(key, &["task", "submit", "--type", "work", "--input", "x"]).expect(3);
    assert!(refused.stderr.contains("this key has not the scope tasks:submit"), "{refused:?}");
    let listed = with(ADMIN, &["key", "list", "--json"]).expect(0).json();
    let id = listed["keys"][0]["key_id"].as_str().expect("an id");
    let table = with(ADMIN, &["key", "list"]).expect(0).stdout;
    assert!(table.starts_with("ID ") && table.contains(id) && table.contains("tasks:read results:read"), "{table}");
    assert!(!table.contains(&key[key.len() - 43..]), "{table}");
    with(ADMIN, &["key", "revoke", id]).expect(0);
    with(key, &["task", "list"]).expect(3);
    assert!(with(ADMIN, &["key", "list"]).expect(0).stdout.contains("revoked"));
    with(ADMIN, &["key", "create", "--name", "none"]).expect(2);
    with(ADMIN, &["key", "create", "--name", "odd", "--scope", "tasks:write"]).expect(2);
    with(ADMIN, &["key", "revoke", "01890a5d-ac96-774b-bcce-b302099a8057"]).expect(3);
}

#[test]
fn a_registration_secret_is_printed_once_and_listed_with_its_limits() {
    let server = Server::start(&[], &[]);
    let create = ["registration-secret", "create", "--name", "fleet", "--max-uses", "2", "--allow-name", "AGENT-*"];
    let made = run(&mut server.eap(&create)).expect(0);
    assert!(made.stdout.starts_with("eapr_"), "{made:?}");
    let listed = run(&mut server.eap(&["registration-secret", "list", "--json"])).expect(0).json();
    let secret = &listed["registration_secrets"][0];
    assert_eq!((&secret["max_uses"], &secret["names"][0]), (&2.into(), &"AGENT-*".into()));
    let id = secret["secret_id"].as_str().expect("an id");
    run(&mut server.eap(&["registration-secret", "revoke", id])).expect(0);
    let table = run(&mut server.eap(&["registration-secret", "list"])).expect(0).stdout;
    assert!(table.contains("revoked") && table.contains("0/2") && table.contains("AGENT-*"), "{table}");
    run(&mut server.eap(&["agent", "rotate-token", "nobody"])).expect(3);
}
