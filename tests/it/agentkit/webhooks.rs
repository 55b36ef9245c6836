//! Webhooks: whose they are, how often they take effect, in which order (G25 to G28, A41 to A46).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::platform::{
    NOTIFY, SECRET, Webhook, deregister, detail, mac, register, registry, seconds, setups, with_face,
};
use crate::harness::{OPERATOR_KEY, Server, Setup};

fn success(message: &str) -> Value {
    json!({"status": "success", "message": message})
}

#[tokio::test]
async fn an_agent_comes_and_goes_by_webhook() {
    for setup in setups() {
        let server = setup.start().await;
        let came = Webhook::at(&server, 0, &register("a1")).send(&server).await;
        assert_eq!(came.expect(200), success("Agent a1 registered successfully."));
        let shown = server.operator().agent("a1").await.expect(200);
        assert_eq!((&shown["name"], &shown["state"]), (&json!("Summarizer"), &json!("online")));
        assert_eq!(shown["capabilities"], json!(["summarize"]));
        assert_eq!(shown["max_concurrent_tasks"], 1);
        let mut free = register("a2");
        free["agent_details"]["capabilities"] = json!(["Text Summary (short)", "summarize", "Summarize"]);
        Webhook::at(&server, 0, &free).send(&server).await.expect(200);
        let shown = server.operator().agent("a2").await.expect(200);
        assert_eq!(shown["capabilities"], json!(["summarize", "text_summary__short"]));
        server.advance(30 * 24 * 3600);
        assert_eq!(registry(&server, "a1").await, "online", "it beats never, and silence means nothing");
        let mut again = register("a1");
        again["agent_details"]["version"] = json!("2.0.0");
        again["agent_details"]["metadata"] = json!({"max_concurrent_tasks": 3});
        let again = Webhook::at(&server, 0, &again).send(&server).await;
        assert_eq!(again.expect(200), success("Agent a1 registered successfully."));
        let shown = server.operator().agent("a1").await.expect(200);
        assert_eq!((&shown["version"], &shown["max_concurrent_tasks"]), (&json!("2.0.0"), &json!(3)));
        let went = Webhook::at(&server, 0, &deregister("a1")).send(&server).await;
        assert_eq!(went.expect(200), success("Agent a1 deregistered successfully."));
        assert_eq!(registry(&server, "a1").await, "deregistered");
        let unknown = Webhook::at(&server, 0, &deregister("nobody")).send(&server).await;
        assert_eq!(unknown.expect(200), success("Agent nobody deregistered successfully."));
        server.stop().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_said_as_ops_core_says_it() {
    let server = with_face(Setup::memory(), &[SECRET]).manual_clock().start().await;
    let send = async |body: Value| Webhook::at(&server, 0, &body).send(&server).await;
    let details = register("a1")["agent_details"].clone();
    let unknown = send(json!({"event_type": "FOO", "agent_details": details})).await;
    assert_eq!(detail(unknown, 400), "Unknown event type: FOO");
    let missing = send(json!({"event_type": "REGISTER", "agent_details": {"agentName": "x"}})).await;
    assert_eq!(detail(missing, 400), "Missing agentId in agent_details for REGISTER event.");
    let mut wrong = register("a1");
    wrong["agent_details"]["capabilities"] = json!(["fine", "日本"]);
    wrong["agent_details"]["contactEndpoint"] = json!("ftp://x");
    let problems = detail(send(wrong.clone()).await, 422);
    assert_eq!(problems[0]["loc"], json!(["body", "agent_details", "contactEndpoint"]), "{problems}");
    wrong["agent_details"]["contactEndpoint"] = json!("http://x");
    let problems = detail(send(wrong).await, 422);
    assert_eq!(problems[0]["loc"], json!(["body", "agent_details", "capabilities", 1]), "{problems}");
    let garbage = Webhook::signed(SECRET, seconds(&server).to_string(), "{".to_owned()).send(&server).await;
    assert_eq!(detail(garbage, 422)[0]["type"], "json_invalid");
    let large = Webhook::signed(SECRET, seconds(&server).to_string(), " ".repeat(70_000)).send(&server).await;
    detail(large, 413);
    detail(send(json!({"event_type": "REGISTER", "agent_details": {"agentId": "external"}})).await, 422);
    assert_eq!(registry(&server, "a1").await, "404");
}

#[tokio::test]
async fn an_agent_that_did_not_come_by_webhook_is_out_of_reach() {
    for setup in setups() {
        let server = setup.start().await;
        let agent = server.agent("AGENT-A").await;
        for body in [register(&agent.id), deregister(&agent.id)] {
            detail(Webhook::at(&server, 0, &body).send(&server).await, 403);
        }
        assert_eq!(registry(&server, &agent.id).await, "online");
        agent.beat(json!({"status": "healthy"})).await.expect(200);
        server.stop().await;
    }
}

/// Every way in which a signature can be wrong, and none of them tells anything or changes anything (G25, A41).
#[tokio::test]
async fn only_what_the_platform_signed_is_taken() {
    for setup in setups() {
        let server = setup.start().await;
        let now = seconds(&server).to_string();
        let body = register("a1").to_string();
        let good = Webhook::signed(SECRET, now.clone(), body.clone());
        let with = |change: &dyn Fn(&mut Webhook)| {
            let mut webhook = good.clone();
            change(&mut webhook);
            webhook
        };
        let bad = [
            ("Invalid signature", Webhook::signed("another word", now.clone(), body.clone())),
            ("Invalid signature", Webhook::signed("", now.clone(), body.clone())),
            ("Invalid signature", with(&|webhook| webhook.body.push(' '))),
            ("Invalid signature", with(&|webhook| webhook.signature.replace_range(0..2, "zz"))),
            ("Invalid signature", with(&|webhook| webhook.signature.truncate(63))),
            ("Invalid signature", with(&|webhook| webhook.timestamp = (seconds(&server) + 1).to_string())),
            ("Signature headers malformed", with(&|webhook| webhook.signature.clear())),
            ("Signature headers malformed", with(&|webhook| webhook.timestamp.clear())),
            ("Timestamp malformed", Webhook::signed(SECRET, format!("{now}.0"), body.clone())),
            ("Timestamp malformed", Webhook::signed(SECRET, format!("+{now}"), body.clone())),
            ("Timestamp malformed", Webhook::signed(SECRET, "2027-01-15T08:00:00".to_owned(), body.clone())),
        ];
        for (why, webhook) in bad {
            assert_eq!(detail(webhook.send(&server).await, 401), why, "{webhook:?}");
        }
        // What is signed is one text: its dots may stand anywhere.
        let signed = format!("{now}.{body}");
        for (place, _) in signed.match_indices('.') {
            if place != now.len() {
                let (timestamp, rest) = (signed[..place].to_owned(), signed[place + 1..].to_owned());
                let split = with(&|webhook| (webhook.timestamp, webhook.body) = (timestamp.clone(), rest.clone()));
                assert_eq!(detail(split.send(&server).await, 401), "Timestamp malformed", "{split:?}");
            }
        }
        let twice = good.call(&server).header("x-agentkit-signature", &good.signature).send().await;
        assert_eq!(detail(twice, 401), "Signature headers malformed");
        let unsigned = server.api.post(NOTIFY).bytes(body.clone());
        assert_eq!(detail(unsigned.send().await, 401), "Signature headers missing");
        let key = server.api.post(NOTIFY).bytes("{").bearer(OPERATOR_KEY);
        assert_eq!(detail(key.send().await, 401), "Signature headers missing", "before the body is looked at");
        assert_eq!(registry(&server, "a1").await, "404");
        good.send(&server).await.expect(200);
        assert_eq!(registry(&server, "a1").await, "online");
        server.stop().await;
    }
}

#[tokio::test]
async fn every_form_of_a_good_signature_is_taken() {
    let server = with_face(Setup::sqlite(), &[SECRET]).manual_clock().start().await;
    let body = |agent: &str| register(agent).to_string();
    let mut upper = Webhook::signed(SECRET, seconds(&server).to_string(), body("upper"));
    upper.signature = upper.signature.to_uppercase();
    upper.send(&server).await.expect(200);
    for (agent, timestamp) in [("z", "2027-01-15T08:00:00Z"), ("zone", "2027-01-15T10:00:00.25+02:00")] {
        Webhook::signed(SECRET, timestamp.to_owned(), body(agent)).send(&server).await.expect(200);
    }
    let standard = async |secret: &str, key: &str, agent: &str| {
        let (id, now, body) = (format!("msg.{agent}"), seconds(&server).to_string(), body(agent));
        server.orchestrator.replace_agentkit_secrets(vec![secret.parse().unwrap()]).unwrap();
        let signature = STANDARD.encode(mac(key, format!("{id}.{now}.{body}").as_bytes()));
        let call = server.api.post(NOTIFY).bytes(body).header("webhook-id", &id).header("webhook-timestamp", &now);
        call.header("webhook-signature", &format!("v1,{signature}")).send().await
    };
    let key = "thirty-two bytes of a key, plain";
    standard(key, key, "plain").await.expect(200);
    let secret = format!("whsec_{}", STANDARD.encode(key));
    standard(&secret, key, "whsec").await.expect(200);
    assert_eq!(standard(&secret, key, "whsec").await.expect(200)["duplicate"], true);
    detail(standard(&secret, "thirty-two bytes of another key!", "other").await, 401);
    for agent in ["upper", "z", "zone", "plain", "whsec"] {
        assert_eq!(registry(&server, agent).await, "online", "{agent}");
    }
    assert_eq!(registry(&server, "other").await, "404");
}

#[tokio::test]
async fn the_window_ends_after_five_minutes_either_way() {
    for setup in setups() {
        let server = setup.start().await;
        for (offset, is_taken) in [(-301, false), (-300, true), (-299, true), (299, true), (300, true), (301, false)] {
            let agent = format!("at{offset}");
            let answer = Webhook::at(&server, offset, &register(&agent)).send(&server).await;
            if is_taken {
                answer.expect(200);
            } else {
                assert_eq!(detail(answer, 401), "Timestamp outside the window");
            }
            assert_eq!(registry(&server, &agent).await, if is_taken { "online" } else { "404" });
        }
        let (_, _, page) = server.api.get("/metrics").bearer(OPERATOR_KEY).page().await;
        assert!(page.contains("eap_webhooks_total{outcome=\"outside_window\"} 2"), "{page}");
        assert!(page.contains("eap_webhooks_total{outcome=\"applied\"} 4"), "{page}");
        server.stop().await;
    }
}

/// A42: also after a restart, and with the digits in another case.
#[tokio::test]
async fn a_repeat_has_no_effect_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.db");
    let clock =
        std::sync::Arc::new(eap_orchestrator::ManualClock::at(eap_types::Timestamp::from_seconds(1_800_000_000)));
    let start = async || with_face(Setup::sqlite_at(&file), &[SECRET]).clock(clock.clone()).start().await;
    let server = start().await;
    let came = Webhook::at(&server, 0, &register("a1"));
    came.send(&server).await.expect(200);
    let went = Webhook::at(&server, 0, &deregister("a1"));
    went.send(&server).await.expect(200);
    let repeated = json!({"status": "success", "message": "Agent a1 registered successfully.", "duplicate": true});
    assert_eq!(came.send(&server).await.expect(200), repeated);
    let mut shouted = came.clone();
    shouted.signature = shouted.signature.to_uppercase();
    assert_eq!(shouted.send(&server).await.expect(200), repeated);
    server.stop().await;
    let server = start().await;
    assert_eq!(came.send(&server).await.expect(200), repeated, "after a restart");
    assert_eq!(registry(&server, "a1").await, "deregistered");
    server.stop().await;
}

#[tokio::test]
async fn of_the_same_webhook_at_once_one_takes_effect() {
    for setup in setups() {
        let server = setup.start().await;
        let came = Webhook::at(&server, 0, &register("a1"));
        let answers = futures_util::future::join_all((0..8).map(|_| came.send(&server))).await;
        let duplicates = answers.into_iter().filter(|answer| answer.clone().expect(200)["duplicate"] == true).count();
        assert_eq!(duplicates, 7);
        assert_eq!(registry(&server, "a1").await, "online");
        server.stop().await;
    }
}

/// A44.
#[tokio::test]
async fn an_older_event_than_the_newest_changes_nothing() {
    for setup in setups() {
        let server = setup.start().await;
        let stale = json!({"status": "success", "message": "Agent a1 registered successfully.", "ignored": "stale"});
        Webhook::at(&server, 10, &deregister("a1")).send(&server).await.expect(200);
        let older = Webhook::at(&server, 9, &register("a1"));
        assert_eq!(older.send(&server).await.expect(200), stale, "a tombstone of one that was never there");
        assert_eq!(registry(&server, "a1").await, "deregistered");
        assert_eq!(older.send(&server).await.expect(200)["duplicate"], true);
        Webhook::at(&server, 11, &register("a1")).send(&server).await.expect(200);
        assert_eq!(registry(&server, "a1").await, "online");
        let older = Webhook::at(&server, 10, &deregister("a1")).send(&server).await.expect(200);
        assert_eq!(older["duplicate"], true);
        let older = Webhook::at(&server, 8, &deregister("a1")).send(&server).await.expect(200);
        assert_eq!(older["ignored"], "stale");
        assert_eq!(registry(&server, "a1").await, "online");
        // Within one second they apply as they come.
        Webhook::at(&server, 11, &deregister("a1")).send(&server).await.expect(200);
        assert_eq!(registry(&server, "a1").await, "deregistered");
        server.stop().await;
    }
}

/// A46.
#[tokio::test]
async fn secrets_are_replaced_without_a_gap() {
    let server =
        with_face(Setup::memory(), &["the new word, long enough to count", "the old word, long enough to count"])
            .manual_clock()
            .start()
            .await;
    let send = async |secret: &str, agent: &str| {
        Webhook::signed(secret, seconds(&server).to_string(), register(agent).to_string()).send(&server).await
    };
    send("the new word, long enough to count", "a1").await.expect(200);
    send("the old word, long enough to count", "a2").await.expect(200);
    let both = futures_util::future::join_all((0..20).map(|number| {
        let agent = format!("b{number}");
        let send = &send;
        async move { send("the new word, long enough to count", &agent).await }
    }));
    let reload = async {
        tokio::task::yield_now().await;
        server
            .orchestrator
            .replace_agentkit_secrets(vec!["the new word, long enough to count".parse().unwrap()])
            .unwrap();
    };
    let (answers, ()) = tokio::join!(both, reload);
    answers.into_iter().for_each(|answer| drop(answer.expect(200)));
    assert_eq!(detail(send("the old word, long enough to count", "a3").await, 401), "Invalid signature");
    send("the new word, long enough to count", "a3").await.expect(200);
    // One that can be guessed takes no place.
    server.orchestrator.replace_agentkit_secrets(vec!["23 bytes are not enough".parse().unwrap()]).unwrap_err();
    send("the new word, long enough to count", "a4").await.expect(200);
}

#[tokio::test]
async fn unsigned_webhooks_are_taken_where_a_call_may_do_without_a_key_or_by_option() {
    let unsigned = async |server: &Server| server.api.post(NOTIFY).json(&register("a1")).send().await;
    let local = with_face(Setup::memory(), &[]).config(|config| config.access = eap_orchestrator::Access::Loopback);
    let server = local.start().await;
    unsigned(&server).await.expect(200);
    let forwarded = server.api.post(NOTIFY).header("x-forwarded-for", "10.0.0.1").json(&register("a2")).send().await;
    assert_eq!(detail(forwarded, 401), "Signature headers missing");
    let again = unsigned(&server).await.expect(200);
    assert_eq!(again.get("duplicate"), None, "without a signature no webhook can be told from another");

    let keyed =
        with_face(Setup::memory(), &[SECRET]).config(|config| config.access = eap_orchestrator::Access::Loopback);
    detail(unsigned(&keyed.start().await).await, 401);
    detail(unsigned(&with_face(Setup::memory(), &[]).start().await).await, 401);
    let by_option = with_face(Setup::memory(), &[SECRET])
        .config(|config| config.agentkit.as_mut().expect("it is there").unsigned = true);
    unsigned(&by_option.start().await).await.expect(200);
}

#[tokio::test]
async fn without_the_face_its_paths_are_not_there() {
    let server = Setup::memory().start().await;
    for path in [NOTIFY, "/v1/opscore/agent/a1/state"] {
        assert_eq!(detail(server.operator().post(path).json(&json!({})).send().await, 404), "Not Found");
    }
    let shown = server.operator().get("/v1/opscore/agent/a1/state").send().await;
    assert_eq!(detail(shown, 404), "Not Found");
}
