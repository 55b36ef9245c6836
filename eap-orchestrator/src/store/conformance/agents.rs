//! Agents: their identity, their vitals, and the sweeper's pulse.

use std::time::Duration;

use eap_core::{Agent, Vitals};

use super::harness::{Harness, assert_duplicate, registering};
use super::samples;
use crate::store::{AgentWrite, Change, Stored};

fn instance(text: &str) -> Option<eap_types::InstanceId> {
    Some(text.parse().expect("the sample is an instance id"))
}

pub(super) async fn a_taken_agent_id_is_a_duplicate(h: Harness) {
    let agent = h.register(&["a"]).await;
    let before = h.known(&agent.id).await;
    let other = Agent { id: agent.id.clone(), version: "2".to_owned(), ..h.agent(&["b"]) };
    let change = Change { events: samples::events(1, h.now()).events, ..registering(other, h.now()) };
    let head = h.store.head().await.expect("a read succeeds");
    assert_duplicate(&h.store.commit(change).await);
    assert_eq!(h.known(&agent.id).await, before);
    assert_eq!(h.store.head().await.expect("a read succeeds"), head);
}

pub(super) async fn a_taken_identity_is_a_duplicate(h: Harness) {
    let owner = h.register_as(&["a"], |agent| agent.instance_id = instance("1")).await;
    let other = h.register_as(&["a"], |agent| agent.instance_id = instance("2")).await;
    let newcomer = Agent { instance_id: instance("1"), ..h.agent(&["a"]) };
    assert_duplicate(&h.store.commit(registering(newcomer.clone(), h.now())).await);
    assert!(h.known(&newcomer.id).await.is_none());

    let (Stored { record, revision, .. }, _) = h.known(&other.id).await.expect("the agent is stored");
    let moved = AgentWrite::Update { agent: Agent { instance_id: instance("1"), ..record }, revision };
    assert_duplicate(&h.store.commit(Change { agents: vec![moved], ..Change::default() }).await);

    // Its own identity is no hindrance to its owner.
    let (Stored { record, revision, .. }, _) = h.known(&owner.id).await.expect("the agent is stored");
    let again = AgentWrite::Update { agent: Agent { epoch: 2, ..record }, revision };
    h.commit(Change { agents: vec![again], ..Change::default() }).await;
}

pub(super) async fn an_identity_is_unique_per_tenant_and_with_an_instance_alone(h: Harness) {
    h.register(&["a"]).await;
    h.register(&["a"]).await;
    h.register_as(&["a"], |agent| agent.instance_id = instance("1")).await;
    h.register_as(&["a"], |agent| (agent.instance_id, agent.tenant) = (instance("1"), samples::tenant(1))).await;
    let name = "AGENT-CHECK-02".parse().expect("the sample is a name");
    h.register_as(&["a"], |agent| (agent.instance_id, agent.name) = (instance("1"), name)).await;
    assert_eq!(h.store.agents().await.expect("a read succeeds").len(), 5);
}

pub(super) async fn vitals_are_the_last_writers_and_move_no_revision(h: Harness) {
    let (agent, other) = (h.register(&["a"]).await, h.register(&["a"]).await);
    let (before, registered) = h.known(&agent.id).await.expect("the agent is stored");
    let beaten = Vitals { seq: Some(2), last_seen: h.now() + Duration::from_secs(1), ..registered.clone() };
    let last = samples::full_vitals(h.now());
    for vitals in [beaten, last.clone()] {
        let unknown = (samples::agent_id("nobody"), vitals.clone());
        let beats = vec![unknown, (agent.id.clone(), vitals.clone())];
        h.commit(Change { vitals: beats, ..Change::default() }).await;
        assert_eq!(h.known(&agent.id).await, Some((before.clone(), vitals)));
    }
    assert_eq!(h.known(&other.id).await.map(|(_, vitals)| vitals), Some(registered));
    assert_eq!(h.store.agents().await.expect("a read succeeds").len(), 2, "an unknown agent is passed over");

    h.stand(&agent.id, eap_core::Standing::Draining).await;
    let (_, vitals) = h.known(&agent.id).await.expect("the agent is stored");
    assert_eq!(vitals, last, "a new record keeps the vitals");
}

pub(super) async fn agents_are_read_by_id_and_by_when_they_were_seen(h: Harness) {
    let (first, second) = (h.register(&["a"]).await, h.register(&["a"]).await);
    h.advance(10);
    let beat = Vitals::registered(1, h.now());
    h.commit(Change { vitals: vec![(second.id.clone(), beat.clone())], ..Change::default() }).await;
    let ids = [second.id.clone(), samples::agent_id("nobody"), first.id.clone()];
    let mut read = h.store.agents_of(&ids).await.expect("a read succeeds");
    read.sort_by(|(a, _), (b, _)| a.record.id.cmp(&b.record.id));
    assert_eq!(read, h.store.agents().await.expect("a read succeeds"));
    assert_eq!(h.store.agents_of(&[]).await.expect("a read succeeds"), []);
    let seen = async |since| h.store.vitals_since(since).await.expect("a read succeeds");
    assert_eq!(seen(h.now()).await, [(second.id, beat)]);
    assert_eq!(seen(h.now() - Duration::from_secs(10)).await.len(), 2);
    assert_eq!(seen(h.now() + Duration::from_micros(1)).await, []);
}

pub(super) async fn the_pulse_is_the_last_one_written(h: Harness) {
    for _ in 0..2 {
        h.clock.advance(Duration::from_micros(1_000_001));
        h.commit(Change { pulse: Some(h.now()), ..Change::default() }).await;
        h.commit(Change::default()).await;
        assert_eq!(h.store.pulse().await.expect("a read succeeds"), Some(h.now()));
        let at_work = h.store.replicas().await.expect("a read succeeds");
        assert_eq!(at_work, [(h.store.replica(), h.now())]);
    }
}
