//! What operators ask of agents.

use crate::support::{Server, run};

#[test]
fn a_drained_agent_gets_no_work_until_it_is_resumed() {
    let server = Server::start(&[], &[]);
    let _agent = server.agent(&[], &[], "cat");
    let agents = run(&mut server.eap(&["agent", "list", "--json"])).expect(0).json();
    let id = agents["agents"][0]["agent_id"].as_str().expect("it has an id").to_owned();
    let drained = run(&mut server.eap(&["agent", "drain", &id, "--reason", "an upgrade"])).expect(0);
    assert_eq!(drained.stdout, format!("{id} draining\n"));
    let submit = ["task", "submit", "--type", "work", "--input", "x"];
    let task = run(&mut server.eap(&submit)).expect(0).stdout.trim().to_owned();
    let explained = run(&mut server.eap(&["explain", &task])).expect(0).stdout;
    assert!(explained.contains("drained"), "{explained}");
    let shown = run(&mut server.eap(&["agent", "get", &id])).expect(0).stdout;
    assert!(shown.contains("draining") && shown.contains("heard yet: an upgrade"), "{shown}");
    let waited = run(&mut server.eap(&["task", "get", &task, "--wait=1"])).expect(5);
    assert!(waited.stdout.contains("queued"), "{waited:?}");
    let resumed = run(&mut server.eap(&["agent", "resume", &id, "--json"])).expect(0).json();
    assert_eq!((&resumed["state"], resumed.get("drain")), (&"online".into(), None));
    run(&mut server.eap(&["task", "get", &task, "--wait"])).expect(0);
    run(&mut server.eap(&["agent", "drain", "nobody"])).expect(3);

    run(&mut server.eap(&["agent", "interval", &id, "7"])).expect(0);
    let shown = run(&mut server.eap(&["agent", "get", &id])).expect(0).stdout;
    assert!(shown.contains("every 7 s"), "{shown}");
    let refused = run(&mut server.eap(&["agent", "interval", &id, "0"])).expect(2);
    assert!(refused.stderr.contains("1..=3600"), "{refused:?}");
}
