//! An agent's life: what it becomes after each event, how its silence is read, and what it may take.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{TICK, at, seconds};
use eap_core::{Agent, AgentEvent, LivenessPolicy, RoutingKey, Standing, Vitals};
use eap_types::{
    AgentState, AgentType, Capabilities, Capability, Feature, HealthStatus, JsonObject, Labels, TaskType, TenantId,
};
use proptest::prelude::*;

const BEFORE: u64 = 100;
const NOW: u64 = 200;

fn shown(standing: Option<Standing>) -> &'static str {
    match standing {
        None => "none",
        Some(Standing::Active) => "active",
        Some(Standing::Draining) => "draining",
        Some(Standing::Superseded { at: since }) if since == at(BEFORE) => "superseded",
        Some(Standing::Superseded { at: since }) if since == at(NOW) => "superseded now",
        Some(Standing::Deregistered { at: since }) if since == at(BEFORE) => "deregistered",
        Some(Standing::Deregistered { at: since }) if since == at(NOW) => "deregistered now",
        Some(other) => panic!("a time from nowhere: {other:?}"),
    }
}

#[test]
fn every_standing_answers_every_event_as_the_table_says() {
    let standings = [
        Standing::Active,
        Standing::Draining,
        Standing::Superseded { at: at(BEFORE) },
        Standing::Deregistered { at: at(BEFORE) },
    ];
    #[rustfmt::skip]
    let table = [
        // event        active              draining            superseded          deregistered
        ("register",   ["active",           "active",           "active",           "active"]),
        ("beat",       ["active",           "active",           "superseded",       "none"]),
        ("drain",      ["draining",         "draining",         "superseded",       "none"]),
        ("supersede",  ["superseded now",   "superseded now",   "superseded",       "none"]),
        ("deregister", ["deregistered now", "deregistered now", "deregistered now", "deregistered"]),
    ];
    let found =
        AgentEvent::ALL.map(|event| (event.name(), standings.map(|standing| shown(standing.after(event, at(NOW))))));
    assert_eq!(found, table);
}

#[test]
fn silence_is_read_at_its_exact_boundaries() {
    let policy = LivenessPolicy::default();
    assert_eq!(policy.heartbeat_interval, seconds(30));
    let (suspect, offline) = (seconds(45), seconds(90));
    let times =
        [Duration::ZERO, suspect - TICK, suspect, seconds(60) - TICK, offline - TICK, offline, seconds(1_000_000)];
    let states = |standing: Standing| times.map(|silence| standing.state(silence, &policy).as_str());

    #[rustfmt::skip]
    assert_eq!(states(Standing::Active), ["online", "online", "suspect", "suspect", "suspect", "offline", "offline"]);
    assert_eq!(
        states(Standing::Draining),
        ["draining", "draining", "draining", "draining", "draining", "offline", "offline"]
    );
    assert_eq!(states(Standing::Superseded { at: at(0) }), ["superseded"; 7]);
    assert_eq!(states(Standing::Deregistered { at: at(0) }), ["deregistered"; 7]);
}

#[test]
fn the_boundaries_follow_the_interval() {
    let mut policy = LivenessPolicy::default();
    policy.heartbeat_interval = seconds(5);
    assert_eq!(policy.suspect_after(), Duration::from_millis(7500));
    assert_eq!(policy.offline_after(), seconds(15));
    assert_eq!(policy.plain_lease(), seconds(15));
    // G13: gaps below two intervals never make an agent offline.
    let state = Standing::Active.state(seconds(10) - TICK, &policy);
    assert_ne!(state, AgentState::Offline);
}

fn an_agent() -> Agent {
    Agent {
        id: common::agent(common::ALPHA),
        tenant: TenantId::default(),
        name: "AGENT-01".parse().expect("a valid name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(["text.translate", "text.summarize"]).expect("valid capabilities"),
        labels: Labels::new([("region", "eu"), ("gpu", "yes")]).expect("valid labels"),
        endpoint_url: None,
        metadata: JsonObject::default(),
        task_schemas: Default::default(),
        features: Some([Feature::PullV1].into_iter().collect()),
        max_concurrent_tasks: 5,
        admitted_capabilities: BTreeSet::new(),
        previous_token: None,
        rotation: None,
        orders: eap_core::Orders::default(),
        push: None,
        platform: None,
        registered_with: None,
        token_sha256: None,
        epoch: 1,
        registered_at: at(0),
        standing: Standing::Active,
    }
}

#[test]
fn an_older_peer_gets_a_lease_as_long_as_its_silence_may_last() {
    let policy = LivenessPolicy::default();
    let mut agent = an_agent();
    assert!(!agent.is_older_peer());
    assert_eq!(agent.lease_length(seconds(60), &policy), seconds(60));
    // Announcing an empty list is not the same as announcing none.
    agent.features = Some([].into_iter().collect());
    assert_eq!(agent.lease_length(seconds(60), &policy), seconds(60));
    agent.features = None;
    assert!(agent.is_older_peer());
    assert_eq!(agent.lease_length(seconds(60), &policy), seconds(90));
}

#[test]
fn the_record_of_an_agent_reads_back_the_same() {
    for standing in [Standing::Active, Standing::Draining, Standing::Superseded { at: at(1) }] {
        for token_sha256 in [None, Some("00".repeat(32))] {
            let agent = Agent { standing, token_sha256, ..an_agent() };
            let text = serde_json::to_string(&agent).expect("a record is JSON");
            assert_eq!(serde_json::from_str::<Agent>(&text).expect("its own JSON"), agent);
        }
    }
}

#[test]
fn a_beat_with_an_older_or_equal_number_is_stale() {
    // A8: 3, 1, 2 leave what 3 said.
    let mut vitals = Vitals::registered(1, at(0));
    assert!(!vitals.is_stale(None));
    assert!(!vitals.is_stale(Some(0)), "the first beat is never stale");
    vitals.seq = Some(3);
    let stale = [None, Some(1), Some(2), Some(3), Some(4)].map(|seq| vitals.is_stale(seq));
    assert_eq!(stale, [false, true, true, true, false]);
    // A new epoch counts anew.
    assert!(!Vitals::registered(2, at(1)).is_stale(Some(1)));
}

#[test]
fn a_busy_or_leaving_agent_takes_no_work() {
    let mut vitals = Vitals::registered(1, at(0));
    assert!(vitals.takes_work(), "before its first beat");
    for (status, takes) in [
        (HealthStatus::Healthy, true),
        (HealthStatus::Degraded, true),
        (HealthStatus::Busy, false),
        (HealthStatus::Offline, false),
    ] {
        vitals.status = Some(status);
        assert_eq!(vitals.takes_work(), takes, "{status}");
    }
}

fn key() -> RoutingKey {
    RoutingKey::of_type(TenantId::default(), "text.translate".parse().expect("a valid task type"))
}

fn capabilities(words: &[&str]) -> BTreeSet<Capability> {
    words.iter().map(|word| word.parse().expect("a valid capability")).collect()
}

#[test]
fn a_key_admits_who_is_of_its_tenant_and_has_all_it_asks_for() {
    let labels = |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied()).expect("valid labels");
    let agent_id = |id: &str| Some(common::agent(id));
    let admits = |key: RoutingKey| key.admits(&an_agent());

    assert!(admits(key()));
    assert!(!admits(RoutingKey { tenant: TenantId::from_bytes([1; 16]), ..key() }), "another tenant");
    let both = capabilities(&["text.summarize", "text.translate"]);
    assert!(admits(RoutingKey { required_capabilities: both, ..key() }));
    let more = capabilities(&["text.translate", "speech"]);
    assert!(!admits(RoutingKey { required_capabilities: more, ..key() }), "one is missing");
    // The type picks the handler; what is matched are the capabilities.
    let task_type: TaskType = "other".parse().expect("a valid task type");
    assert!(admits(RoutingKey { task_type, ..key() }));
    assert!(admits(RoutingKey { labels: labels(&[("region", "eu")]), ..key() }), "extra labels do not matter");
    assert!(!admits(RoutingKey { labels: labels(&[("region", "us")]), ..key() }));
    assert!(!admits(RoutingKey { labels: labels(&[("region", "eu"), ("zone", "")]), ..key() }));
    assert!(admits(RoutingKey { agent_id: agent_id(common::ALPHA), ..key() }));
    assert!(!admits(RoutingKey { agent_id: agent_id(common::BETA), ..key() }), "for another agent");
}

#[test]
fn the_canonical_text_of_a_key_is_pinned_for_it_is_stored() {
    let key = RoutingKey {
        labels: Labels::new([("zone", "a b\"\\\n"), ("region", "eu=\u{200b}é")]).expect("valid labels"),
        agent_id: Some("agent 7 +x".parse().expect("a valid id")),
        required_capabilities: capabilities(&["b", "a"]),
        ..key()
    };
    assert_eq!(
        key.canonical(),
        "00000000-0000-0000-0000-000000000000 text.translate +a +b region=\"eu=\u{200b}é\" zone=\"a b\\\"\\\\\\n\" @agent 7 +x"
    );
}

/// Values and ids made of what the canonical text itself is made of.
fn nasty(longest: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(" a=".to_owned()),
        Just(" b=\"\"".to_owned()),
        Just(" +a".to_owned()),
        Just(" @x".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\n".to_owned()),
        Just("\n".to_owned()),
        Just("\\u000a".to_owned()),
        Just("x".to_owned()),
    ];
    prop::collection::vec(piece, 0..longest).prop_map(|pieces| pieces.concat())
}

fn nasty_key() -> impl Strategy<Value = RoutingKey> {
    let word = prop::sample::select(vec!["a", "b", "a.b", "a:b"]);
    let label = prop::sample::select(vec!["a", "b", "a/b", "a.b"]);
    let tenant = (0_u8..2).prop_map(|byte| TenantId::from_bytes([byte; 16]));
    let parts = (
        tenant,
        word.clone(),
        prop::collection::btree_set(word, 0..3),
        prop::collection::btree_map(label, nasty(3), 0..3),
        prop::option::of(nasty(3)),
    );
    parts.prop_map(|(tenant, task_type, required, labels, agent_id)| RoutingKey {
        tenant,
        task_type: task_type.parse().expect("a valid task type"),
        required_capabilities: capabilities(&required.into_iter().collect::<Vec<_>>()),
        labels: Labels::new(labels).expect("valid labels"),
        // What is no valid id has nobody to be confused with.
        agent_id: agent_id.and_then(|id| id.parse().ok()),
    })
}

proptest! {
    #[test]
    fn two_keys_have_the_same_text_exactly_when_they_are_equal(keys in prop::collection::vec(nasty_key(), 2..60)) {
        let mut by_text: BTreeMap<String, RoutingKey> = BTreeMap::new();
        for key in keys {
            prop_assert_eq!(key.canonical(), key.clone().canonical());
            prop_assert!(!key.canonical().contains('\n'), "one line per key");
            if let Some(other) = by_text.insert(key.canonical(), key.clone()) {
                prop_assert_eq!(key, other);
            }
        }
    }
}

#[test]
fn what_was_heard_elsewhere_counts_by_its_number_and_never_by_an_older_process() {
    let here = Vitals { seq: Some(4), current_load: 0.4, beaten_at: Some(at(40)), ..Vitals::registered(2, at(40)) };
    let also = |elsewhere: &Vitals| {
        let mut vitals = here.clone();
        vitals.hear_also(elsewhere);
        vitals
    };
    let later = Vitals { seq: Some(5), current_load: 0.5, beaten_at: Some(at(30)), last_seen: at(30), ..here.clone() };
    assert_eq!(also(&later), Vitals { last_seen: at(40), ..later.clone() });
    let poll = Vitals { last_seen: at(50), ..here.clone() };
    assert_eq!(also(&poll), poll, "a sign of life without a word");
    let overtaken =
        Vitals { seq: Some(3), current_load: 0.3, last_seen: at(60), beaten_at: Some(at(60)), ..here.clone() };
    assert_eq!(also(&overtaken), Vitals { last_seen: at(60), ..here.clone() });
    for epoch in [1, 3] {
        assert_eq!(also(&Vitals { epoch, ..later.clone() }), here, "another process");
    }
    // Beats without numbers count by when they were heard.
    let plain = |second, load| Vitals { seq: None, current_load: load, beaten_at: Some(at(second)), ..here.clone() };
    let mut vitals = plain(10, 0.1);
    vitals.hear_also(&plain(20, 0.2));
    vitals.hear_also(&plain(15, 0.15));
    assert!((vitals.current_load - 0.2).abs() < f64::EPSILON);
    assert!(plain(10, 0.1).are_newer_than(&Vitals { epoch: 1, last_seen: at(99), ..here.clone() }));
    assert!(!here.are_newer_than(&here) && poll.are_newer_than(&here));
}
