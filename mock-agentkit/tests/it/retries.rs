//! What is tried again, how often, and what is final.

use std::time::Duration;

use mock_agentkit::{Answer, Ending, MockAgentKit, SentKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::http::call;
use crate::receiver::{Receiver, SOON, message, platform_agent};

#[tokio::test]
async fn a_webhook_is_tried_again_with_the_same_bytes_until_it_is_taken() {
    for status in [408, 425, 429, 500, 503] {
        let receiver = Receiver::start().await;
        let mock = receiver.mock().start().await.unwrap();
        receiver.answers(&[status, status]);
        mock.register(platform_agent("a1")).await.unwrap();
        let calls = receiver.wait_for(3).await;
        for call in &calls[1..] {
            assert_eq!((&call.body, &call.headers), (&calls[0].body, &calls[0].headers), "{status}");
        }
        let sent = mock.sent_when(SOON, |sent| sent[0].ending == Ending::Taken).await.unwrap();
        let answers: Vec<_> = sent[0].attempts.iter().map(|attempt| attempt.answer.status()).collect();
        assert_eq!(answers, [Some(status), Some(status), Some(200)]);
        mock.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_is_final() {
    for status in [301, 400, 401, 403, 422] {
        let receiver = Receiver::start().await;
        let mock = receiver.mock().start().await.unwrap();
        receiver.answers(&[status]);
        mock.register(platform_agent("a1")).await.unwrap();
        let sent = mock.sent_when(SOON, |sent| sent[0].ending != Ending::Pending).await.unwrap();
        assert_eq!((sent[0].ending, sent[0].status(), receiver.calls().len()), (Ending::Refused, Some(status), 1));
        mock.stop().await;
    }
}

#[tokio::test]
async fn after_so_many_tries_it_is_given_up() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().tries(3, Duration::from_millis(1)).start().await.unwrap();
    receiver.answers(&[500; 10]);
    mock.register(platform_agent("a1")).await.unwrap();
    let sent = mock.sent_when(SOON, |sent| sent[0].ending != Ending::Pending).await.unwrap();
    assert_eq!((sent[0].ending, sent[0].attempts.len(), receiver.calls().len()), (Ending::GivenUp, 3, 3));
    mock.stop().await;
}

#[tokio::test]
async fn nobody_there_and_no_answer_in_time_are_tried_again() {
    // Bound and never accepted from: a call is connected and waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let mock = MockAgentKit::builder()
            .notifies(format!("http://{address}"))
            .tries(2, Duration::from_millis(1))
            .waits_for_answers(Duration::from_millis(50))
            .start()
            .await
            .unwrap();
        mock.register(platform_agent("a1")).await.unwrap();
        let sent = mock.sent_when(SOON, |sent| sent[0].ending == Ending::GivenUp).await.unwrap();
        assert_eq!(sent[0].attempts.len(), 2);
        assert!(sent[0].attempts.iter().all(|attempt| matches!(attempt.answer, Answer::Failed { .. })), "{sent:?}");
        mock.stop().await;
    }
}

#[tokio::test]
async fn reports_are_tried_again_in_order() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    receiver.answers(&[503, 202, 500, 429, 202]);
    call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await;
    let states: Vec<String> = receiver.calls()[1..].iter().map(crate::receiver::Call::state).collect();
    assert_eq!(states, ["BUSY", "BUSY", "IDLE", "IDLE", "IDLE"]);
    let sent = mock.sent();
    assert!(sent[1..].iter().all(|call| call.kind == SentKind::State && call.ending == Ending::Taken), "{sent:?}");
    mock.stop().await;
}

#[tokio::test]
async fn a_stop_cuts_what_is_under_way_and_says_so() {
    let receiver = Receiver::start().await;
    let mock =
        receiver.mock().tries(5, Duration::from_secs(3600)).works_for(Duration::from_secs(3600)).start().await.unwrap();
    receiver.answers(&[503]);
    mock.register(platform_agent("a1")).await.unwrap();
    let run = format!("{}/v1/agents/a1/run", mock.url());
    let running = tokio::spawn(async move { call("POST", &run, Some(&message("t"))).await });
    mock.sent_when(SOON, |sent| sent.get(1).is_some_and(|busy| busy.ending == Ending::Taken)).await.unwrap();
    let mut idle = tokio::net::TcpStream::connect(mock.address()).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, mock.stop()).await, Ok(1), "the webhook was to be tried again");
    assert_eq!(running.await.unwrap().0, 503);
    // Not whether somebody listens there: another test may have got the port by now.
    let closed = tokio::time::timeout(SOON, idle.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test]
async fn a_stop_waits_for_nobody_who_is_slow_to_send() {
    let mock = MockAgentKit::builder().start().await.unwrap();
    let mut slow = tokio::net::TcpStream::connect(mock.address()).await.unwrap();
    let head = "POST /v1/agents HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    slow.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "it waits for the body");
    mock.stop().await;
    let mut answer = String::new();
    tokio::time::timeout(SOON, slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn what_makes_no_sense_is_named_at_once() {
    let error = MockAgentKit::builder()
        .notifies("https://x")
        .notifies_at("nowhere")
        .reports_to("http://")
        .secret("")
        .tries(0, Duration::ZERO)
        .start()
        .await
        .expect_err("nothing of it makes sense");
    assert_eq!(error.to_string().split("; ").count(), 5, "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = MockAgentKit::builder().listens_on(address).start().await.expect_err("somebody listens there");
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}
