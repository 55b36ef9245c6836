//! Everything that can go wrong with webhooks, on purpose.

use std::time::Duration;

use mock_agentkit::{Ending, WebhookFaults};

use crate::receiver::{Call, Receiver, SECRET, SOON, platform_agent};

fn events(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{} {}", call.event().0, call.event().1)).collect()
}

/// The one webhook that a mock with these faults sends.
async fn webhook(faults: WebhookFaults) -> (Call, mock_agentkit::SentCall) {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_webhooks(faults).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let sent = mock.sent_when(SOON, |sent| sent[0].ending != Ending::Pending).await.unwrap();
    mock.stop().await;
    (receiver.calls().remove(0), sent[0].clone())
}

fn sent_seconds(call: &Call) -> i64 {
    call.header("x-agentkit-timestamp").unwrap().parse().unwrap()
}

#[tokio::test]
async fn dropped_is_never_sent_and_the_next_is() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_webhooks(WebhookFaults::dropped().times(1)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    mock.register(platform_agent("a2")).await.unwrap();
    assert_eq!(events(&receiver.calls()), ["REGISTER a2"]);
    let sent = mock.sent_when(SOON, |sent| sent[1].ending == Ending::Taken).await.unwrap();
    assert_eq!((sent[0].ending, sent[0].attempts.len()), (Ending::Dropped, 0));
    mock.stop().await;
}

#[tokio::test]
async fn late_is_overtaken_and_keeps_its_time() {
    let receiver = Receiver::start().await;
    let late = WebhookFaults::late(Duration::from_secs(1)).times(1);
    let mock = receiver.mock().with_webhooks(late).signs_rfc3339().start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    assert_eq!(receiver.calls().len(), 0, "the registration does not wait for it");
    mock.remove(&"a1".parse().unwrap()).await.unwrap();
    let calls = receiver.wait_for(2).await;
    assert_eq!(events(&calls), ["DEREGISTER a1", "REGISTER a1"]);
    let time = |call: &Call| call.header("x-agentkit-timestamp").unwrap().parse::<eap_types::Timestamp>().unwrap();
    assert!(time(&calls[1]) < time(&calls[0]) && calls[1].is_signed_with(SECRET));
    mock.stop().await;
}

#[tokio::test]
async fn duplicated_comes_again_byte_for_byte() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_webhooks(WebhookFaults::duplicated(2)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let calls = receiver.wait_for(3).await;
    for copy in &calls[1..] {
        assert_eq!((&copy.body, &copy.headers), (&calls[0].body, &calls[0].headers));
    }
    let sent = mock.sent_when(SOON, |sent| sent[0].ending == Ending::Taken).await.unwrap();
    assert_eq!((sent.len(), sent[0].attempts.len()), (1, 3));
    mock.stop().await;
}

#[tokio::test]
async fn reordered_comes_after_the_next() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_webhooks(WebhookFaults::reordered()).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    mock.remove(&"a1".parse().unwrap()).await.unwrap();
    receiver.wait_for(2).await;
    mock.register(platform_agent("a2")).await.unwrap();
    mock.register(platform_agent("a3")).await.unwrap();
    let calls = receiver.wait_for(4).await;
    assert_eq!(events(&calls), ["DEREGISTER a1", "REGISTER a1", "REGISTER a3", "REGISTER a2"]);
    assert!(calls.iter().all(|call| call.is_signed_with(SECRET)));
    mock.stop().await;
}

#[tokio::test]
async fn reordered_comes_by_itself_if_no_other_does() {
    let (call, sent) = webhook(WebhookFaults::reordered()).await;
    assert_eq!((events(&[call]), sent.ending), (vec!["REGISTER a1".to_owned()], Ending::Taken));
}

#[tokio::test]
async fn forged_has_a_signature_that_is_not_its_own() {
    let (call, _) = webhook(WebhookFaults::forged()).await;
    assert!(!call.is_signed_with(SECRET));
    let signature = call.header("x-agentkit-signature").unwrap();
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");
    let of_another = Call { body: "{}".into(), ..call };
    assert!(of_another.is_signed_with(SECRET), "it is one of the secret's, over another body");
}

#[tokio::test]
async fn under_a_wrong_secret_it_is_signed_with_another() {
    let (call, _) = webhook(WebhookFaults::under_a_wrong_secret()).await;
    assert!(!call.is_signed_with(SECRET) && call.is_signed_with("a secret that nobody shares"));
}

#[tokio::test]
async fn unsigned_has_no_signature() {
    let (call, _) = webhook(WebhookFaults::unsigned()).await;
    assert!(call.header("x-agentkit-signature").is_none() && call.header("x-agentkit-timestamp").is_none());
}

#[tokio::test]
async fn a_clock_can_be_off_either_way() {
    for offset in [-301, -299, 299, 301] {
        let (call, sent) = webhook(WebhookFaults::off_by_seconds(offset)).await;
        assert_eq!(sent_seconds(&call), sent.at.as_micros() / 1_000_000 + offset);
        assert!(call.is_signed_with(SECRET), "what it says is signed");
    }
}

#[tokio::test]
async fn a_message_can_be_replayed_in_another_spelling() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    let mut sent = mock.sent()[0].clone();
    assert_eq!(mock.replay(&sent).await.status(), Some(200));
    sent.headers[1].1 = sent.headers[1].1.to_uppercase();
    receiver.answers(&[401]);
    assert_eq!(mock.replay(&sent).await.status(), Some(401));
    let calls = receiver.calls();
    assert_eq!((&calls[1].body, &calls[1].headers), (&calls[0].body, &calls[0].headers));
    let (first, third) = (calls[0].header("x-agentkit-signature"), calls[2].header("x-agentkit-signature"));
    assert_eq!(first.map(str::to_uppercase).as_deref(), third);
    mock.stop().await;
}
