//! Keys and secrets that one replica makes and another one is shown.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::{Pair, as_it_is, over_both};
use crate::harness::registration;

over_both! {
    as_it_is => a_key_opens_everywhere_at_once_and_nowhere_a_second_after_its_end, a_secret_lets_in_as_often_as_it_may_over_all;
}

async fn a_key_opens_everywhere_at_once_and_nowhere_a_second_after_its_end(Pair { a, b, .. }: Pair) {
    for (maker, other) in [(&a, &b), (&b, &a)] {
        let made = maker.operator().post("/api/v1/keys").json(&json!({"name": "test", "scopes": ["tasks:read"]}));
        let made = made.send().await.expect(201);
        let key = made["key"].as_str().expect("it is shown");
        other.api.get("/api/v1/tasks").bearer(key).send().await.expect(200);
        let listed = other.operator().get("/api/v1/keys").send().await.expect(200);
        assert_eq!(listed["keys"][0]["key_id"], made["key_id"]);
        let path = format!("/api/v1/keys/{}", made["key_id"].as_str().expect("it has an id"));
        other.operator().api.call(Method::DELETE, &path).bearer(crate::harness::OPERATOR_KEY).send().await.expect(204);
        tokio::time::sleep(Duration::from_secs(1)).await;
        maker.api.get("/api/v1/tasks").bearer(key).send().await.problem(401, "INVALID_TOKEN");
    }
}

async fn a_secret_lets_in_as_often_as_it_may_over_all(Pair { a, b, .. }: Pair) {
    let body = json!({"name": "test", "max_uses": 3});
    let made = a.operator().post("/api/v1/registration-secrets").json(&body).send().await.expect(201);
    let secret = made["registration_secret"].as_str().expect("it is shown").to_owned();
    let register = async |server: &crate::harness::Server, number: usize| {
        let body = registration(&format!("AGENT-{number}"), json!({}));
        let call = server.api.post("/api/v1/agents/external/register").header("x-registration-token", &secret);
        call.json(&body).send().await.status
    };
    let statuses =
        futures_util::future::join_all((0..8).map(|number| register(if number % 2 == 0 { &a } else { &b }, number)))
            .await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 5, "{statuses:?}");
}
