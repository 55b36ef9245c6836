//! Webhooks that took effect, and what agents of a platform said of their state.

use std::sync::Arc;

use eap_core::Standing;
use eap_types::{AgentId, Timestamp};

use super::harness::{Harness, assert_duplicate, registering};
use super::purge::{keeping_all, purge};
use super::samples;
use crate::store::{Change, Cutoffs, StateRow, WebhookRow};

/// A webhook and an event that shows whether the change it came with was written.
fn webhook(number: u8, now: Timestamp) -> Change {
    Change { webhook: Some(WebhookRow { digest: [number; 32], received_at: now }), ..samples::events(1, now) }
}

pub(super) async fn a_webhook_takes_effect_once(h: Harness) {
    h.commit(webhook(1, h.now())).await;
    assert_duplicate(&h.store.commit(webhook(1, h.now())).await);
    assert_eq!(h.events().await.len(), 1, "nothing of the repeat was written");
    h.commit(webhook(2, h.now())).await;
    assert_eq!(h.events().await.len(), 2);
}

pub(super) async fn of_racing_deliveries_of_a_webhook_one_wins(h: Harness) {
    let calls = (0..4).map(|_| {
        let (store, change) = (Arc::clone(&h.store), webhook(1, h.now()));
        async move { store.commit(change).await.is_ok() }
    });
    let outcomes = h.race(calls).await;
    assert_eq!(outcomes.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(h.events().await.len(), 1);
}

/// What an agent said at a second of its own clock, received now.
fn said(agent: &AgentId, epoch: u64, second: i64, state: &str, now: Timestamp) -> StateRow {
    let (agent, state, details) = (agent.clone(), state.to_owned(), None);
    StateRow { agent, epoch, reported_at: Timestamp::from_seconds(second), received_at: now, state, details }
}

async fn say(h: &Harness, states: impl IntoIterator<Item = StateRow>) {
    h.commit(Change { states: states.into_iter().collect(), ..Change::default() }).await;
}

async fn all(h: &Harness, agent: &AgentId) -> Vec<StateRow> {
    h.store.states(agent, 100).await.expect("a read succeeds")
}

async fn words(h: &Harness, agent: &AgentId) -> Vec<String> {
    all(h, agent).await.into_iter().map(|row| row.state).collect()
}

pub(super) async fn what_an_agent_said_reads_back_in_order_of_its_own_time(h: Harness) {
    let (agent, other) = (samples::agent_id("a"), samples::agent_id("ägent \"7\" @ home"));
    let awkward = StateRow {
        details: Some(samples::json()),
        reported_at: Timestamp::from_micros(-1),
        ..said(&other, (1 << 53) + 1, 0, samples::AWKWARD, h.now())
    };
    say(&h, [awkward.clone(), said(&agent, 1, 20, "idle", h.now())]).await;
    say(&h, [said(&agent, 1, 10, "BUSY", h.now())]).await;
    say(&h, [said(&agent, 1, 20, "idle again", h.now()), said(&agent, 1, 20, "and again", h.now())]).await;
    assert_eq!(words(&h, &agent).await, ["and again", "idle again", "idle", "BUSY"], "then of arrival");
    say(&h, [said(&agent, 2, 5, "of the next registration", h.now())]).await;
    assert_eq!(words(&h, &agent).await[..2], ["of the next registration", "and again"]);
    assert_eq!(h.store.states(&agent, 2).await.expect("a read succeeds").len(), 2);
    let read = all(&h, &other).await;
    assert_eq!(read, std::slice::from_ref(&awkward));
    assert_eq!(
        read[0].details.as_ref().map(|details| details.as_str()),
        awkward.details.as_ref().map(|details| details.as_str())
    );
    assert_eq!(all(&h, &samples::agent_id("nobody")).await, []);
}

pub(super) async fn the_newest_of_every_agent_is_found(h: Harness) {
    assert_eq!(h.store.newest_states().await.expect("a read succeeds"), []);
    let (a, b, c) = (samples::agent_id("a"), samples::agent_id("b"), samples::agent_id("c"));
    let newest = [said(&a, 1, 9, "a9", h.now()), said(&b, 2, 1, "b1", h.now()), said(&c, 1, 1, "second", h.now())];
    say(&h, [newest[1].clone(), newest[0].clone(), said(&c, 1, 1, "first", h.now()), newest[2].clone()]).await;
    say(&h, [said(&a, 1, 8, "older", h.now()), said(&b, 1, 99, "of a registration before", h.now())]).await;
    let mut found = h.store.newest_states().await.expect("a read succeeds");
    found.sort_by(|one, other| one.agent.cmp(&other.agent));
    assert_eq!(found, newest);
}

pub(super) async fn old_webhooks_and_states_go_and_the_newest_state_stays(h: Harness) {
    let agent = samples::agent_id("a");
    h.commit(webhook(1, h.now())).await;
    say(&h, [said(&agent, 1, 30, "newest", h.now()), said(&agent, 1, 10, "old", h.now())]).await;
    h.advance(10);
    h.commit(webhook(2, h.now())).await;
    say(&h, [said(&agent, 1, 20, "young", h.now())]).await;
    let purged = purge(&h, Cutoffs { webhooks: h.now(), states: h.now(), ..keeping_all() }).await;
    assert_eq!(purged.rows, 2);
    assert_eq!(words(&h, &agent).await, ["newest", "young"], "however old the newest is");
    h.commit(webhook(1, h.now())).await;
    assert_duplicate(&h.store.commit(webhook(2, h.now())).await);
    assert_eq!(purge(&h, Cutoffs { webhooks: h.now(), states: h.now(), ..keeping_all() }).await.rows, 0);
}

pub(super) async fn what_an_agent_said_goes_with_it(h: Harness) {
    let mut agent = h.agent(&["a"]);
    agent.standing = Standing::Deregistered { at: h.now() };
    h.commit(registering(agent.clone(), h.now())).await;
    let other = samples::agent_id("other");
    say(&h, [said(&agent.id, 1, 1, "idle", h.now()), said(&other, 1, 1, "idle", h.now())]).await;
    h.advance(1);
    assert_eq!(purge(&h, Cutoffs { agents: h.now(), ..keeping_all() }).await.agents, [agent.id.clone()]);
    assert_eq!(all(&h, &agent.id).await, []);
    assert_eq!(words(&h, &other).await, ["idle"]);
}
