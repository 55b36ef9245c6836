//! What a registration may hold.

use super::*;

#[test]
fn take_http_urls_without_user_and_fragment() {
    for url in ["http://agent-service:8080", "https://a.example/x/?q=1", "http://[::1]:80"] {
        accepted::<Registration>(&registration(&json!({ "endpoint_url": url })));
    }
    let long = format!("http://h/{}", "x".repeat(2048));
    for url in ["agent:8080", "file:///etc", "http://u@h/", "http://u:p@h/", "http://h/#f", "http://", "", &long] {
        let body = registration(&json!({ "endpoint_url": url }));
        assert_eq!(problems::<Registration>(&body), ["body.endpoint_url value_error"], "{url}");
    }
}

#[test]
fn leave_the_servers_keys_alone() {
    let body = registration(&json!({ "metadata": { "auth_token": "x", "is_external": true, "team": "a" } }));
    let metadata = accepted::<Registration>(&body).metadata;
    assert_eq!(metadata.as_str(), r#"{"team":"a"}"#, "an existing client that sends them is let in without them");
}

#[test]
fn have_at_most_16_kib_of_metadata() {
    let metadata = |len: usize| registration(&json!({ "metadata": { "k": "x".repeat(len - r#"{"k":""}"#.len()) } }));
    accepted::<Registration>(&metadata(16 * 1024));
    assert_eq!(problems::<Registration>(&metadata(16 * 1024 + 1)), ["body.metadata value_error"]);
}

#[test]
fn name_at_least_one_transport() {
    let body = registration(&json!({ "transports": [] }));
    assert_eq!(problems::<Registration>(&body), ["body.transports value_error"]);
}
