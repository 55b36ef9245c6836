//! Which of several agents should have a task: scores, tiers, the breaker, and why one cannot.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use eap_core::{
    Agent, Allowance, Attempt, AttemptOutcome, BreakerPolicy, BreakerTurn, Conclusion, EndOfLease, Hindrance, Push,
    PushSuspension, Rating, RoutingKey, Score, Standing, Task, TaskEvent, TaskSpec, TrackRecord, Verdict, Vitals,
    load_band, room_for_work,
};
use eap_types::{
    AgentState, AgentTier, AgentType, BreakerState, Capabilities, FailureCode, HealthStatus, JsonObject, Labels,
    LeaseId, LoadBand, PushStop, TenantId,
};
use proptest::prelude::*;

use Verdict::{Failure, Success};

fn an_agent(id: &str, offers: &[&str]) -> Agent {
    Agent {
        id: agent(id),
        tenant: TenantId::default(),
        name: "AGENT-01".parse().expect("a valid name"),
        instance_id: None,
        version: "1.0.0".to_owned(),
        agent_type: AgentType::default(),
        capabilities: Capabilities::new(offers.iter().copied()).expect("valid capabilities"),
        labels: Labels::default(),
        endpoint_url: None,
        metadata: JsonObject::default(),
        task_schemas: Default::default(),
        features: None,
        max_concurrent_tasks: 10,
        registered_with: None,
        admitted_capabilities: BTreeSet::new(),
        previous_token: None,
        rotation: None,
        orders: eap_core::Orders::default(),
        push: None,
        platform: None,
        token_sha256: None,
        epoch: 1,
        registered_at: at(0),
        standing: Standing::Active,
    }
}

fn vitals() -> Vitals {
    Vitals::registered(1, at(0))
}

fn key(required: &[&str]) -> RoutingKey {
    RoutingKey {
        required_capabilities: required.iter().map(|word| word.parse().expect("a valid capability")).collect(),
        ..spec().routing
    }
}

/// A record after these verdicts, one a second, with no attempt that could be a trial.
fn after(verdicts: impl IntoIterator<Item = Verdict>) -> TrackRecord {
    let mut record = TrackRecord::default();
    for (second, verdict) in verdicts.into_iter().enumerate() {
        record.conclude(lease(0), Some(verdict), at(second as u64), &BreakerPolicy::default());
    }
    record
}

fn some(successes: usize, failures: usize) -> impl Iterator<Item = Verdict> {
    std::iter::repeat_n(Success, successes).chain(std::iter::repeat_n(Failure, failures))
}

fn hundredths(rating: &Rating) -> [f64; 6] {
    let Rating { tier, capability_match, load, availability, preferred } = rating;
    [tier, capability_match, load, availability, preferred, &rating.score()].map(|part| part.as_f64())
}

#[test]
fn a_tier_follows_the_success_rate_of_enough_results() {
    use AgentTier::{Advanced, Competent, Degraded, Elite, Trainee};
    #[rustfmt::skip]
    let table = [
        // good, bad, tier
        (0, 0, Competent), (4, 0, Competent), (0, 4, Competent),
        (5, 0, Elite),     (0, 5, Degraded),
        (19, 1, Elite),    (47, 3, Advanced), (94, 6, Advanced),
        (17, 3, Advanced), (16, 3, Competent),
        (7, 3, Competent), (6, 3, Trainee),
        (5, 5, Trainee),   (4, 5, Degraded),
    ];
    for (good, bad, tier) in table {
        assert_eq!(after(some(good, bad)).tier(), tier, "{good} good, {bad} bad");
    }
}

#[test]
fn only_the_last_fifty_results_count() {
    let mut record = after(some(0, 60));
    assert_eq!((record.results(), record.success_rate()), (50, Some(0.0)));
    for _ in 0..49 {
        record.conclude(lease(0), Some(Success), at(1_000_000), &BreakerPolicy::default());
    }
    assert_eq!((record.results(), record.success_rate()), (50, Some(0.98)));
    assert_eq!(record.tier(), AgentTier::Elite);
    assert_eq!(TrackRecord::default().success_rate(), None);
}

#[test]
fn a_load_has_its_band() {
    use LoadBand::{Critical, Full, High, Idle, Optimal};
    #[rustfmt::skip]
    let table = [
        (0, 1, Idle), (1, 1, Full), (2, 1, Full), (0, 0, Full),
        (1, 2, High), (1, 3, Optimal), (2, 3, High),
        (4, 10, Optimal), (5, 10, High), (7, 10, High), (8, 10, Critical), (9, 10, Critical), (10, 10, Full),
        (u32::MAX - 1, u32::MAX, Critical),
    ];
    for (leases, most, band) in table {
        assert_eq!(load_band(leases, most), band, "{leases} of {most}");
    }
}

#[test]
fn a_score_is_the_sum_of_its_weighted_parts() {
    let both = an_agent(ALPHA, &["text.summarize", "text.translate"]);
    let rating = Rating::of(&both, &vitals(), 0, &key(&["text.translate"]));
    assert_eq!(hundredths(&rating), [0.24, 0.15, 0.2, 0.1, 0.0, 0.69]);
    assert_eq!(hundredths(&rating.preferred()), [0.24, 0.15, 0.2, 0.1, 0.2, 0.89]);
    assert_eq!(hundredths(&rating.suspect()), [0.24, 0.15, 0.2, 0.0, 0.0, 0.59]);

    let specialist = an_agent(ALPHA, &["text.translate"]);
    let mut known = vitals();
    known.record = after(some(20, 0));
    let rating = Rating::of(&specialist, &known, 0, &key(&["text.translate"]));
    assert_eq!(hundredths(&rating), [0.4, 0.3, 0.2, 0.1, 0.0, 1.0]);
    assert_eq!(rating.preferred().score(), Score::ONE, "at most 1");

    known.record = after(some(0, 5));
    known.status = Some(HealthStatus::Degraded);
    let rating = Rating::of(&specialist, &known, 8, &key(&["text.translate"]));
    assert_eq!(hundredths(&rating), [0.0, 0.3, 0.04, 0.05, 0.0, 0.39]);
    known.status = Some(HealthStatus::Busy);
    let rating = Rating::of(&specialist, &known, 10, &key(&[]));
    assert_eq!(hundredths(&rating), [0.0; 6]);
}

#[test]
fn each_tier_load_and_word_has_its_weight() {
    let specialist = an_agent(ALPHA, &["a"]);
    let tiers = [(20, 0), (17, 3), (7, 3), (5, 5), (4, 5)].map(|(good, bad)| {
        let known = Vitals { record: after(some(good, bad)), ..vitals() };
        Rating::of(&specialist, &known, 0, &key(&["a"])).tier.as_f64()
    });
    assert_eq!(tiers, [0.4, 0.32, 0.24, 0.16, 0.0]);
    let loads = [0, 1, 5, 8, 10].map(|leases| Rating::of(&specialist, &vitals(), leases, &key(&["a"])).load.as_f64());
    assert_eq!(loads, [0.2, 0.16, 0.1, 0.04, 0.0]);
    let words = [None, Some(HealthStatus::Healthy), Some(HealthStatus::Degraded), Some(HealthStatus::Offline)];
    let words = words
        .map(|status| Rating::of(&specialist, &Vitals { status, ..vitals() }, 0, &key(&["a"])).availability.as_f64());
    assert_eq!(words, [0.1, 0.1, 0.05, 0.0]);
}

/// What happens, by which events, and what the last of them says of the agent, if it ends an attempt.
type Row = (&'static str, Vec<TaskEvent>, Option<Option<Verdict>>);

#[test]
fn an_attempt_says_of_its_agent_what_the_table_says() {
    let results = |what| vec![report(ALPHA, by_lease(1), what)];
    let released = |why| vec![release(ALPHA, by_lease(1), why)];
    let coded = |code| eap_core::Report::of(&result_failed(code, "no"));
    let table: Vec<Row> = vec![
        ("completed", results(completed("a")), Some(Some(Success))),
        ("failed", results(failed("a")), Some(Some(Failure))),
        ("invalid input", results(fatal("a")), Some(None)),
        ("cancelled by its agent", results(coded(FailureCode::Cancelled)), Some(Some(Failure))),
        ("timed out by its agent", results(coded(FailureCode::Timeout)), Some(Some(Failure))),
        ("rejected", results(rejected("a")), Some(None)),
        ("unsupported", results(coded(FailureCode::UnsupportedTask)), Some(None)),
        ("handed back", released(handed_back()), Some(None)),
        ("not delivered", released(undelivered()), Some(None)),
        ("draining", released(EndOfLease::Draining), Some(None)),
        ("deregistered", released(EndOfLease::Deregistered), Some(None)),
        ("unclaimed", released(EndOfLease::Unclaimed), Some(None)),
        ("without a place", released(EndOfLease::NoPlace), Some(None)),
        ("at something else", released(EndOfLease::NotFree), Some(None)),
        ("cancelled", vec![cancel()], Some(None)),
        ("forgotten", vec![forget(ALPHA, 1)], Some(Some(Failure))),
        ("lapsed", vec![due()], Some(Some(Failure))),
        ("progress", vec![progress(ALPHA, by_lease(1), 1)], None),
        ("renewed", vec![renew(ALPHA, 1)], None),
        ("started afresh", vec![TaskEvent::FreshStart], None),
        // What comes after a lapse: a success counts beside it, a failure not again.
        ("late success", vec![due(), report(ALPHA, by_lease(1), completed("a"))], Some(Some(Success))),
        ("late failure", vec![due(), report(ALPHA, by_lease(1), failed("a"))], Some(None)),
        ("late rejection", vec![due(), report(ALPHA, by_lease(1), rejected("a"))], None),
    ];
    for (what, events, expected) in table {
        let mut life = Life::new();
        life.assign(ALPHA, 1).wait(LEASE);
        let mut concluded = None;
        for event in events {
            let before = life.task.clone();
            life.go(event);
            concluded = Conclusion::of(&before, &life.task.state);
        }
        let expected = expected.map(|verdict| Conclusion { agent: agent(ALPHA), lease_id: lease(1), verdict });
        assert_eq!(concluded, expected, "{what}");
    }
}

#[test]
fn an_attempt_that_ran_to_its_time_limit_is_a_failure_and_a_new_attempt_ends_nothing() {
    let mut life = Life::of(TaskSpec { timeout: seconds(10), ..spec() });
    let before = life.task.clone();
    life.go(assign(ALPHA, 1));
    assert_eq!(Conclusion::of(&before, &life.task.state), None);
    let before = life.task.clone();
    life.sweep();
    assert_eq!(Conclusion::of(&before, &life.task.state).and_then(|ended| ended.verdict), Some(Failure));
    let before = life.task.clone();
    life.sweep();
    life.go(assign(BETA, 2));
    assert_eq!(Conclusion::of(&before, &life.task.state), None);
}

/// A record whose breaker opened at `at(4)`.
fn opened() -> TrackRecord {
    after(some(0, 5))
}

fn policy() -> BreakerPolicy {
    BreakerPolicy::default()
}

#[test]
fn the_breaker_opens_at_five_results_below_three_in_ten() {
    let open = |verdicts: Vec<Verdict>| after(verdicts).breaker(at(10)) == BreakerState::Open;
    assert!(!open(vec![Failure; 4]), "too few results");
    assert!(open(vec![Failure; 5]));
    assert!(open(vec![Success, Failure, Failure, Failure, Failure]));
    assert!(!open(vec![Success, Success, Failure, Failure, Failure]));
    assert!(!open(some(3, 7).collect()), "exactly three in ten");
    assert!(open(some(3, 8).collect()));
    assert_eq!(opened().allowance(at(33)), Allowance::Cooling { until: at(34) });
}

#[test]
fn after_the_cool_down_one_trial_decides() {
    let mut record = opened();
    assert_eq!(record.allowance(at(34) - TICK), Allowance::Cooling { until: at(34) });
    assert_eq!((record.allowance(at(34)), record.breaker(at(34))), (Allowance::Trial, BreakerState::HalfOpen));
    record.serve(lease(1), at(40));
    assert_eq!((record.allowance(at(41)), record.breaker(at(41))), (Allowance::OnTrial, BreakerState::HalfOpen));
    // What it held before decides nothing, whatever becomes of it.
    assert_eq!(record.conclude(lease(9), Some(Success), at(42), &policy()), None);
    assert_eq!(record.allowance(at(42)), Allowance::OnTrial);
    assert_eq!(record.conclude(lease(1), Some(Success), at(43), &policy()), Some(BreakerTurn::Closed));
    assert_eq!((record.allowance(at(43)), record.breaker(at(43))), (Allowance::Any, BreakerState::Closed));
    // The old failures still make its tier; they do not open the breaker again.
    assert_eq!((record.results(), record.tier()), (7, AgentTier::Degraded));
    for second in 0..4 {
        assert_eq!(record.conclude(lease(0), Some(Failure), at(50 + second), &policy()), None);
    }
    let turn = record.conclude(lease(0), Some(Failure), at(60), &policy());
    assert_eq!(turn, Some(BreakerTurn::Opened { until: at(90) }), "the first cool-down again");
}

#[test]
fn each_failed_trial_doubles_the_cool_down_up_to_ten_minutes() {
    let mut record = opened();
    let mut now = at(4);
    let mut lengths = Vec::new();
    for number in 1..8 {
        let Allowance::Cooling { until } = record.allowance(now) else { panic!("it cools down") };
        lengths.push(until.saturating_since(now).as_secs());
        now = until;
        record.serve(lease(number), now);
        record.conclude(lease(number), Some(Failure), now, &policy());
    }
    assert_eq!(lengths, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn a_trial_that_says_nothing_makes_room_for_another() {
    let mut record = opened();
    record.serve(lease(1), at(34));
    assert_eq!(record.conclude(lease(1), None, at(35), &policy()), None);
    assert_eq!(record.allowance(at(35)), Allowance::Trial);
    record.serve(lease(2), at(36));
    let turn = record.conclude(lease(2), Some(Failure), at(37), &policy());
    assert_eq!(turn, Some(BreakerTurn::Opened { until: at(97) }));
}

#[test]
fn what_an_open_breaker_did_not_keep_off_is_no_trial() {
    // A claim may have been under way when it opened.
    let mut record = opened();
    record.serve(lease(1), at(5));
    assert_eq!(record.last_served(), Some(at(5)));
    assert_eq!(record.conclude(lease(1), Some(Success), at(6), &policy()), None);
    assert_eq!(record.breaker(at(6)), BreakerState::Open);
}

#[test]
fn a_record_survives_being_kept_and_a_trial_is_then_given_anew() {
    let mut record = opened();
    record.serve(lease(1), at(34));
    let vitals = Vitals { record: record.clone(), ..vitals() };
    let text = serde_json::to_string(&vitals).expect("vitals are JSON");
    let read: Vitals = serde_json::from_str(&text).expect("its own JSON");
    assert_eq!((read.record.results(), read.record.tier()), (5, AgentTier::Degraded));
    assert_eq!(read.record.last_served(), Some(at(34)));
    assert_eq!(read.record.allowance(at(34)), Allowance::Trial);
    // Vitals from before there were records read as those of a new agent, and one without results adds nothing.
    let text = serde_json::to_string(&self::vitals()).expect("vitals are JSON");
    assert!(!text.contains("record"), "{text}");
    assert!(serde_json::from_str::<Vitals>(&text).expect("its own JSON").record.is_blank());
}

#[test]
fn every_reason_why_an_agent_cannot_take_a_task_is_named() {
    let labels = |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied()).expect("valid labels");
    let routing = RoutingKey { labels: labels(&[("region", "eu"), ("gpu", "yes")]), ..key(&["a", "b", "c"]) };
    let mut task = Task::submitted(TaskSpec { routing, ..spec() });
    let mut other = an_agent(ALPHA, &["b"]);
    other.labels = labels(&[("region", "us")]);
    let find = |task: &Task, agent: &Agent, vitals: &Vitals, leases, state| {
        Hindrance::all(task, agent, vitals, leases, state, at(100))
    };
    let missing = [
        Hindrance::MissingCapabilities(vec!["a".parse().expect("valid"), "c".parse().expect("valid")]),
        Hindrance::MissingLabels(vec![("gpu".into(), "yes".into()), ("region".into(), "eu".into())]),
    ];
    assert_eq!(find(&task, &other, &vitals(), 0, AgentState::Online), missing);

    let mut able = an_agent(ALPHA, &["a", "b", "c", "d"]);
    able.labels = labels(&[("region", "eu"), ("gpu", "yes"), ("zone", "1")]);
    assert_eq!(find(&task, &able, &vitals(), 9, AgentState::Suspect), []);
    assert_eq!(find(&task, &able, &vitals(), 10, AgentState::Offline), [Hindrance::Offline, Hindrance::Full]);
    let says = |status| Vitals { status: Some(status), ..vitals() };
    assert_eq!(find(&task, &able, &says(HealthStatus::Busy), 0, AgentState::Online), [Hindrance::Busy]);
    assert_eq!(find(&task, &able, &says(HealthStatus::Offline), 0, AgentState::Online), [Hindrance::Draining]);
    let standing = |standing| Agent { standing, ..able.clone() };
    assert_eq!(find(&task, &standing(Standing::Draining), &vitals(), 0, AgentState::Draining), [Hindrance::Draining]);
    let gone = standing(Standing::Superseded { at: at(1) });
    assert_eq!(find(&task, &gone, &vitals(), 0, AgentState::Superseded), [Hindrance::Superseded]);

    let push = |suspended| Some(Push { suspended, ..Push::by_platform() });
    let suspended = PushSuspension { at: at(1), why: PushStop::Gone };
    let suspended = Agent { push: push(Some(suspended)), ..able.clone() };
    let hindrance = Hindrance::PushSuspended { why: PushStop::Gone };
    assert!(hindrance.ends_by_poll() && !Hindrance::Full.ends_by_poll());
    assert_eq!(find(&task, &suspended, &vitals(), 0, AgentState::Online), [hindrance]);
    let pushed_to = Agent { push: push(None), ..able.clone() };
    assert_eq!(find(&task, &pushed_to, &vitals(), 0, AgentState::Online), []);

    task.state.excluded.insert(agent(ALPHA), at(101));
    assert_eq!(find(&task, &able, &vitals(), 0, AgentState::Online), [Hindrance::Excluded { until: at(101) }]);
    task.state.excluded.insert(agent(ALPHA), at(100));
    assert_eq!(find(&task, &able, &vitals(), 0, AgentState::Online), []);
    task.state.excluded.clear();

    let mut known = Vitals { record: opened(), ..vitals() };
    let early = Hindrance::all(&task, &able, &known, 0, AgentState::Online, at(33));
    assert_eq!(early, [Hindrance::BreakerOpen { until: at(34) }]);
    assert_eq!(find(&task, &able, &known, 0, AgentState::Online), [], "a trial is due");
    known.record.serve(lease(1), at(99));
    assert_eq!(find(&task, &able, &known, 0, AgentState::Online), [Hindrance::OnTrial]);

    let named = |id: &str| RoutingKey { agent_id: Some(agent(id)), ..key(&["a"]) };
    for (routing, expected) in [
        (named(BETA), vec![Hindrance::OtherAgent]),
        (named(ALPHA), vec![]),
        (RoutingKey { tenant: TenantId::from_bytes([1; 16]), ..key(&["a"]) }, vec![Hindrance::OtherAgent]),
    ] {
        let task = Task::submitted(TaskSpec { routing, ..spec() });
        assert_eq!(find(&task, &able, &vitals(), 0, AgentState::Online), expected);
    }
}

#[test]
fn an_agent_of_a_platform_that_is_not_free_is_hindered_by_its_own_word() {
    for free in ["UNKNOWN", "idle", "Finished"] {
        assert_eq!(Hindrance::by_report(free), None, "{free}");
    }
    for state in ["BUSY", "error", "INITIALIZING", "rebooting"] {
        assert_eq!(Hindrance::by_report(state), Some(Hindrance::NotFree { state: state.to_owned() }));
    }
}

#[test]
fn what_was_given_back_or_cancelled_uses_up_no_attempt() {
    let attempt = |number, outcome| Attempt {
        number,
        agent: agent(ALPHA),
        epoch: 1,
        lease_id: lease(1),
        outcome,
        started_at: at(1),
        ended_at: None,
        error_code: None,
        message: None,
        reported: None,
        given_up: false,
        inactive: false,
    };
    let mut task = Task::submitted(spec());
    assert_eq!((task.state.attempts_used(), task.state.last_end()), (0, None));
    use AttemptOutcome::{Cancelled, Completed, Expired, Failed, Open, Released};
    for (number, (outcome, used, ended)) in (1..).zip([
        (Released, 0, 1),
        (Failed, 1, 2),
        (Expired, 2, 3),
        (Cancelled, 2, 4),
        (Completed, 3, 5),
        (Open, 3, 5),
    ]) {
        task.state.attempts.push(attempt(number, outcome));
        let last = task.state.last_end().map(|attempt| attempt.number);
        assert_eq!((task.state.attempts_used(), last), (used, Some(ended)), "{outcome}");
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    Serve,
    End(usize, Option<Verdict>),
}

fn happening() -> impl Strategy<Value = Happening> {
    let verdict = prop::sample::select(vec![None, Some(Success), Some(Failure), Some(Failure)]);
    prop_oneof![
        (1_u64..400).prop_map(Happening::Wait),
        Just(Happening::Serve),
        (0_usize..8, verdict).prop_map(|(which, verdict)| Happening::End(which, verdict)),
    ]
}

fn numbered(number: usize) -> LeaseId {
    lease(u32::try_from(number).expect("few leases"))
}

proptest! {
    #[test]
    fn a_score_is_never_past_one_and_being_preferred_never_hurts(
        results in prop::collection::vec(any::<bool>(), 0..80),
        offered in 1_usize..64, required in 0_usize..64, leases in 0_u32..12,
        status in prop::option::of(prop::sample::select(HealthStatus::ALL)),
    ) {
        let words: Vec<String> = (0..offered).map(|number| format!("c{number}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let agent = an_agent(ALPHA, &words);
        let required = key(&words[..required.min(offered)]);
        let verdicts = results.iter().map(|good| if *good { Success } else { Failure });
        let known = Vitals { status, record: after(verdicts), ..vitals() };
        let rating = Rating::of(&agent, &known, leases, &required);
        prop_assert!(rating.score() <= Score::ONE);
        prop_assert!(rating.preferred().score() >= rating.score());
        prop_assert!(rating.preferred().score() <= Score::ONE);
        // More to do, or more that it could do beside, never makes it suit better.
        prop_assert!(Rating::of(&agent, &known, leases + 1, &required).score() <= rating.score());
        let sum: f64 = hundredths(&rating)[..5].iter().sum();
        prop_assert!((sum.min(1.0) - rating.score().as_f64()).abs() < 1e-9);
    }

    /// An open breaker lets nothing through before its time, then one task at a time until one of them decides.
    #[test]
    fn a_breaker_lets_one_trial_through_at_a_time(history in prop::collection::vec(happening(), 1..200)) {
        let mut record = TrackRecord::default();
        let mut now = at(0);
        let mut held: Vec<LeaseId> = Vec::new();
        let mut trial: Option<LeaseId> = None;
        for (number, happening) in history.into_iter().enumerate() {
            match happening {
                Happening::Wait(length) => now += seconds(length),
                Happening::Serve => {
                    let allowance = record.allowance(now);
                    if matches!(allowance, Allowance::Cooling { .. } | Allowance::OnTrial) {
                        continue;
                    }
                    record.serve(numbered(number), now);
                    held.push(numbered(number));
                    if allowance == Allowance::Trial {
                        prop_assert_eq!(trial, None);
                        trial = Some(numbered(number));
                        prop_assert_eq!(record.allowance(now), Allowance::OnTrial);
                    }
                }
                Happening::End(which, verdict) => {
                    if held.is_empty() {
                        continue;
                    }
                    let ended = held.remove(which % held.len());
                    let turn = record.conclude(ended, verdict, now, &policy());
                    match turn {
                        Some(BreakerTurn::Closed) => {
                            prop_assert_eq!((trial, verdict), (Some(ended), Some(Success)));
                        }
                        Some(BreakerTurn::Opened { until }) => {
                            // Also with a success, when it is the fifth result and the first good one.
                            prop_assert!(verdict.is_some());
                            let length = until.saturating_since(now);
                            prop_assert!(length >= seconds(30) && length <= Duration::from_secs(600));
                            prop_assert_eq!(record.allowance(until - TICK), Allowance::Cooling { until });
                            prop_assert_eq!(record.allowance(until), Allowance::Trial);
                        }
                        None => {}
                    }
                    if trial == Some(ended) {
                        trial = None;
                        prop_assert!(record.allowance(now) != Allowance::OnTrial);
                    }
                }
            }
            prop_assert_eq!(trial.is_some(), record.allowance(now) == Allowance::OnTrial);
            prop_assert!(record.results() <= 50);
            prop_assert!(record.success_rate().is_none_or(|rate| (0.0..=1.0).contains(&rate)));
        }
    }

    /// The matchmaker's quick answer and the reasons an operator is shown are the same decision.
    #[test]
    fn there_is_room_for_work_exactly_when_nothing_about_the_agent_hinders(
        standing in prop::sample::select(vec![
            Standing::Active, Standing::Active, Standing::Draining, Standing::Superseded { at: at(1) },
            Standing::Deregistered { at: at(1) },
        ]),
        status in prop::option::of(prop::sample::select(HealthStatus::ALL)),
        leases in 0_u32..12, breaker in 0_u8..4,
    ) {
        let mut record = if breaker == 0 { TrackRecord::default() } else { opened() };
        let now = if breaker == 1 { at(10) } else { at(34) };
        if breaker == 2 {
            record.serve(lease(1), now);
        }
        let agent = Agent { standing, ..an_agent(ALPHA, &["a"]) };
        let known = Vitals { status, record, ..vitals() };
        let task = Task::submitted(TaskSpec { routing: key(&["a"]), ..spec() });
        let found = Hindrance::all(&task, &agent, &known, leases, AgentState::Online, now);
        let room = room_for_work(&agent, &known, leases, now);
        prop_assert_eq!(room > 0, found.is_empty(), "{:?}", found);
        prop_assert!(room + leases <= agent.max_concurrent_tasks.max(leases));
        if breaker == 3 {
            prop_assert!(room <= 1, "one trial");
        }
    }
}

#[test]
fn who_is_preferred_is_kept_with_a_task_and_no_part_of_its_key() {
    let preferring = TaskSpec { preferred_agents: BTreeSet::from([agent(ALPHA), agent(BETA)]), ..spec() };
    let text = serde_json::to_string(&preferring).expect("a spec is JSON");
    assert_eq!(serde_json::from_str::<TaskSpec>(&text).expect("its own JSON"), preferring);
    assert_eq!(preferring.routing, spec().routing);
    let text = serde_json::to_string(&spec()).expect("a spec is JSON");
    assert!(!text.contains("preferred"), "{text}");
}
