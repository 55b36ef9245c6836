//! Dead letters: listed, done again, let be.

use crate::support::{Server, run};

const UNKNOWN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A task that nobody can do any more.
fn die(server: &Server) -> String {
    let submit = ["task", "submit", "--type", "work", "--max-attempts", "1", "--input", "x"];
    let id = run(&mut server.eap(&submit)).expect(0).stdout.trim().to_owned();
    run(&mut server.eap(&["task", "get", &id, "--wait=20"])).expect(1);
    id
}

#[test]
fn a_dead_letter_is_done_again_as_a_new_task_or_let_be() {
    let server = Server::start(&[], &[]);
    assert_eq!(run(&mut server.eap(&["dead", "list"])).expect(0).stdout, "no dead letters\n");
    let _agent = server.agent(&[], &[], "echo no such file >&2; exit 1");
    let (first, second) = (die(&server), die(&server));
    let listed = |arguments: &[&str]| {
        let page = run(&mut server.eap(&[&["dead", "list", "--json"], arguments].concat())).expect(0).json();
        let ids = page["tasks"].as_array().expect("tasks").iter();
        ids.map(|task| task["task_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), [second.clone(), first.clone()]);
    assert_eq!((listed(&["--limit", "1"]).len(), listed(&["--limit", "1", "--type", "other"]).len()), (1, 0));
    assert_eq!((listed(&["--all"]).len(), listed(&["--status", "dead"]).len()), (2, 0));
    let table = run(&mut server.eap(&["dead", "list"])).expect(0).stdout;
    assert!(table.starts_with("ID ") && table.contains(&first) && table.contains("failed"), "{table}");

    let again = run(&mut server.eap(&["dead", "requeue", &first])).expect(0).stdout.trim().to_owned();
    assert_ne!(again, first);
    let repeated = run(&mut server.eap(&["dead", "requeue", &first, "--json"])).expect(0).json();
    assert_eq!((&repeated["task_id"], &repeated["requeued_from"]), (&again.clone().into(), &first.clone().into()));
    let told = run(&mut server.eap(&["dead", "discard", &second])).expect(0);
    assert!(told.stderr.contains(&second) && told.stdout.is_empty(), "{told:?}");
    run(&mut server.eap(&["dead", "discard", &second])).expect(0);
    let left = listed(&[]);
    assert!(!left.contains(&first) && !left.contains(&second), "{left:?}");
    run(&mut server.eap(&["task", "get", &second])).expect(1);
}

#[test]
fn what_is_no_dead_letter_is_refused_with_what_to_do() {
    let server = Server::start(&[], &[]);
    let id = run(&mut server.eap(&["task", "submit", "--type", "work", "--input", "x"])).expect(0).stdout;
    for what in ["requeue", "discard"] {
        let refused = run(&mut server.eap(&["dead", what, id.trim()])).expect(3);
        assert!(
            refused.stderr.contains("NOT_A_DEAD_LETTER") && refused.stderr.contains("eap dead list"),
            "{refused:?}"
        );
        assert!(run(&mut server.eap(&["dead", what, UNKNOWN])).expect(3).stderr.contains("TASK_NOT_FOUND"));
        run(&mut server.eap(&["dead", what, "7"])).expect(2);
    }
}
