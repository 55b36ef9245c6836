//! Everything that can go wrong with the reports of agents, on purpose.

use std::time::Duration;

use mock_agentkit::{Ending, ReportFaults};

use crate::http::call;
use crate::receiver::{Call, Receiver, message, platform_agent};

/// The reports of one task, and what became of them.
async fn reports(faults: ReportFaults) -> (Vec<Call>, Vec<mock_agentkit::SentCall>) {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_reports(faults).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message("t"))).await;
    let (calls, sent) = (receiver.calls().split_off(1), mock.sent().split_off(1));
    mock.stop().await;
    (calls, sent)
}

fn states(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::state).collect()
}

#[tokio::test]
async fn reordered_says_busy_after_idle_each_with_its_time() {
    let (calls, _) = reports(ReportFaults::reordered()).await;
    assert_eq!(states(&calls), ["IDLE", "BUSY"]);
    let time = |call: &Call| call.json()["timestamp"].as_str().unwrap().parse::<eap_types::Timestamp>().unwrap();
    assert!(time(&calls[1]) < time(&calls[0]));
}

#[tokio::test]
async fn dropped_is_never_sent() {
    let (calls, sent) = reports(ReportFaults::dropped()).await;
    assert_eq!(calls.len(), 0);
    assert!(sent.len() == 2 && sent.iter().all(|report| report.ending == Ending::Dropped), "{sent:?}");
}

#[tokio::test]
async fn duplicated_comes_again_byte_for_byte() {
    let (calls, _) = reports(ReportFaults::duplicated(1)).await;
    assert_eq!(states(&calls), ["BUSY", "BUSY", "IDLE", "IDLE"]);
    assert!(calls[0].body == calls[1].body && calls[2].body == calls[3].body);
}

#[tokio::test]
async fn late_is_sent_later_than_it_was_so() {
    let late = Duration::from_millis(100);
    let (calls, sent) = reports(ReportFaults::late(late)).await;
    assert_eq!(states(&calls), ["BUSY", "IDLE"]);
    assert!(sent.iter().all(|report| report.attempts[0].at.saturating_since(report.at) >= late), "{sent:?}");
}

#[tokio::test]
async fn so_many_tasks_are_concerned() {
    let receiver = Receiver::start().await;
    let mock = receiver.mock().with_reports(ReportFaults::dropped().times(1)).start().await.unwrap();
    mock.register(platform_agent("a1")).await.unwrap();
    for task in ["t1", "t2"] {
        call("POST", &format!("{}/v1/agents/a1/run", mock.url()), Some(&message(task))).await;
    }
    let calls = receiver.calls();
    assert_eq!(
        (states(&calls[1..]), &calls[1].json()["details"]["current_task"]),
        (vec!["BUSY".into(), "IDLE".into()], &"t2".into())
    );
    mock.stop().await;
}
