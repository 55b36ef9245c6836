//! The stream of events against scripted connections, on a clock that the test owns.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eap_client::{
    AnswerBody, CallError, ClientError, EventStream, HttpCall, MAX_EVENT_BYTES, OperatorClient, ReqwestCall, TaskWatch,
    Told,
};
use eap_types::{
    ErrorCode, EventQuery, EventsReset, ProblemBody, RoutingView, Secret, TaskStatus, TaskView, Timestamp,
};
use tokio::time::{Instant, sleep_until, timeout};

/// What one try to connect comes to.
#[derive(Debug)]
enum Opens {
    Not,
    /// An answer with this status and media type and these headers' worth of patience.
    Refuses(u16, &'static str, Option<u64>),
    Stream(Vec<Piece>),
}

/// What one look at a body comes to; at the end of the list it ends.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// Nothing for so long.
    Wait(Duration),
    Breaks,
}

#[derive(Debug, Default)]
struct Script {
    opens: Mutex<VecDeque<Opens>>,
    /// How the task stands that is asked for; the last one stays.
    statuses: Mutex<VecDeque<TaskStatus>>,
    seen: Mutex<Vec<(http::Request<Bytes>, Instant)>>,
    open: Arc<AtomicUsize>,
}

impl Script {
    fn with(opens: impl IntoIterator<Item = Opens>) -> Arc<Self> {
        Arc::new(Self { opens: Mutex::new(opens.into_iter().collect()), ..Self::default() })
    }

    fn more(&self, opens: impl IntoIterator<Item = Opens>) {
        self.opens.lock().unwrap().extend(opens);
    }

    /// The number after which each connection was to go on.
    fn asked(&self) -> Vec<Option<u64>> {
        let last = |request: &http::Request<Bytes>| {
            let id = request.headers().get("last-event-id")?;
            Some(id.to_str().unwrap().parse().unwrap())
        };
        self.seen.lock().unwrap().iter().map(|(request, _)| last(request)).collect()
    }

    fn times(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }

    async fn stream(self: &Arc<Self>, query: EventQuery) -> Result<EventStream, ClientError> {
        let client = OperatorClient::new("http://orchestrator.test", Arc::clone(self) as Arc<dyn HttpCall>)?;
        client.with_key(Secret::new("the-key")).events(query).await
    }
}

#[async_trait]
impl HttpCall for Script {
    async fn call(&self, request: http::Request<Bytes>, _: Duration) -> Result<http::Response<Bytes>, CallError> {
        assert_eq!(request.uri().path(), format!("/api/v1/tasks/{TASK}"));
        let mut statuses = self.statuses.lock().unwrap();
        let status = *statuses.front().expect("only a watcher of a task makes calls for a whole answer");
        if statuses.len() > 1 {
            statuses.pop_front();
        }
        let (id, kind) = (TASK.parse().unwrap(), "work".parse().unwrap());
        let session = TASK.parse().unwrap();
        let mut task = TaskView::new(id, session, kind, RoutingView::default(), 3, Timestamp::UNIX_EPOCH);
        task.status = status;
        Ok(http::Response::new(serde_json::to_vec(&task).unwrap().into()))
    }

    async fn open(
        &self,
        request: http::Request<Bytes>,
        _: Duration,
    ) -> Result<http::Response<Box<dyn AnswerBody>>, CallError> {
        self.seen.lock().unwrap().push((request, Instant::now()));
        let next = self.opens.lock().unwrap().pop_front();
        let unreachable = || CallError::Connect { source: "refused".into() };
        let (status, media_type, retry_after, pieces) = match next.ok_or_else(unreachable)? {
            Opens::Not => return Err(unreachable()),
            Opens::Stream(pieces) => (200, "text/event-stream; charset=utf-8", None, pieces),
            Opens::Refuses(status, media_type, retry_after) => {
                let code = if status == 401 { ErrorCode::InvalidToken } else { ErrorCode::Unavailable };
                let body = serde_json::to_string(&ProblemBody::new(code, "no", "r1")).unwrap();
                (status, media_type, retry_after, vec![Piece::Text(body)])
            }
        };
        self.open.fetch_add(1, Ordering::SeqCst);
        let body = Body { pieces: pieces.into(), until: None, open: Arc::clone(&self.open) };
        let mut answer = http::Response::builder().status(status).header("content-type", media_type);
        if let Some(seconds) = retry_after {
            answer = answer.header("retry-after", seconds);
        }
        Ok(answer.body(Box::new(body) as Box<dyn AnswerBody>).unwrap())
    }
}

struct Body {
    pieces: VecDeque<Piece>,
    until: Option<Instant>,
    open: Arc<AtomicUsize>,
}

#[async_trait]
impl AnswerBody for Body {
    async fn piece(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            match self.pieces.front().cloned() {
                None => return Ok(None),
                Some(Piece::Breaks) => return Err(CallError::Broken { source: "reset".into() }),
                Some(Piece::Wait(length)) => {
                    sleep_until(*self.until.get_or_insert_with(|| Instant::now() + length)).await;
                    self.until = None;
                    self.pieces.pop_front();
                }
                Some(Piece::Text(text)) => {
                    self.pieces.pop_front();
                    return Ok(Some(text.into()));
                }
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn begins_at(id: u64) -> Piece {
    Piece::Text(format!(":\nid: {id}\n\n"))
}

const TASK: &str = "0190b2c4-0000-7000-8000-000000000001";

async fn watch(script: Script) -> Result<TaskWatch, ClientError> {
    let http = Arc::new(script) as Arc<dyn HttpCall>;
    OperatorClient::new("http://orchestrator.test", http)?.watch_task(TASK.parse().unwrap()).await
}

/// All that a watched task tells, in a word each.
async fn all(mut task: TaskWatch) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(news) = task.next().await.unwrap() {
        told.push(news.event().map_or_else(|| "reset".to_owned(), |event| event.seq.to_string()));
    }
    told
}

fn reset(oldest: u64) -> Piece {
    Piece::Text(format!("id: {}\nevent: reset\ndata: {{\"oldest\":{oldest}}}\n\n", oldest - 1))
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_over_is_watched_up_to_the_newest_event_though_its_end_is_not_kept() {
    let opens =
        [Opens::Stream(vec![begins_at(9)]), Opens::Stream(vec![reset(4), events([4, 6]), begins_at(9), hangs()])];
    let statuses = Mutex::new([TaskStatus::Failed].into());
    let script = Script { opens: Mutex::new(opens.into()), statuses, ..Script::default() };
    // After the reset it is looked up once more, and the newest event with it.
    script.opens.lock().unwrap().push_back(Opens::Stream(vec![begins_at(9)]));
    assert_eq!(all(watch(script).await.unwrap()).await, ["4", "6"], "what went before is only old");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_end_is_among_what_is_gone_is_found_to_be_over() {
    let stream = vec![begins_at(0), events([1]), reset(40), begins_at(50), hangs()];
    let opens = [Opens::Stream(stream), Opens::Stream(vec![begins_at(50)])];
    let statuses = Mutex::new([TaskStatus::Leased, TaskStatus::Completed].into());
    let script = Script { opens: Mutex::new(opens.into()), statuses, ..Script::default() };
    assert_eq!(all(watch(script).await.unwrap()).await, ["1", "reset"]);
}

fn event(id: u64) -> String {
    format!(
        "id: {id}\nevent: task.ready\ndata: {{\"seq\":{id},\"at\":\"2026-03-01T12:00:00Z\",\"kind\":\"task.ready\"}}\n\n"
    )
}

fn events(ids: impl IntoIterator<Item = u64>) -> Piece {
    Piece::Text(ids.into_iter().map(event).collect())
}

/// Longer than any server is silent.
fn hangs() -> Piece {
    Piece::Wait(Duration::from_secs(365 * 24 * 3600))
}

fn seq(told: Told) -> u64 {
    match told {
        Told::Event(event) => event.seq,
        Told::Reset(reset) => panic!("{reset:?}"),
    }
}

async fn take(stream: &mut EventStream, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        ids.push(seq(stream.next().await.unwrap()));
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_after_the_last_whole_event_whatever_ends_it() {
    let half = Piece::Text(event(6)[..40].to_owned());
    let http = Script::with([
        Opens::Stream(vec![begins_at(4), events([5]), half, Piece::Breaks]),
        Opens::Not,
        Opens::Stream(vec![begins_at(5), events([6, 7])]),
        Opens::Stream(vec![begins_at(7), begins_at(9), Piece::Breaks]),
        Opens::Stream(vec![begins_at(9), events([10]), hangs()]),
        Opens::Refuses(503, "application/problem+json", None),
        Opens::Stream(vec![events([11]), hangs()]),
    ]);
    let task = "0190b2c4-0000-7000-8000-000000000001".parse().unwrap();
    let query =
        EventQuery::new().with_kind("task.ready,task.dead").with_task_id(task).with_agent_id("a 1".parse().unwrap());
    let mut stream = http.stream(query).await.unwrap();
    assert_eq!(stream.last_id(), Some(4), "it is sure of where it begins");
    assert_eq!(take(&mut stream, 5).await, [5, 6, 7, 10, 11]);
    assert_eq!(stream.last_id(), Some(11));
    let none = [None, Some(5), Some(5), Some(7), Some(9), Some(10), Some(10)];
    assert_eq!(http.asked(), none);
    for (request, _) in http.seen.lock().unwrap().iter() {
        assert_eq!(request.method(), "GET");
        let query = "task_id=0190b2c4-0000-7000-8000-000000000001&agent_id=a+1&kind=task.ready%2Ctask.dead";
        assert_eq!(request.uri().to_string(), format!("http://orchestrator.test/api/v1/events?{query}"));
        assert_eq!(request.headers()["authorization"], "Bearer the-key");
        assert_eq!(request.headers()["accept"], "text/event-stream");
    }
    assert_eq!(http.open.load(Ordering::SeqCst), 1, "what is left is closed");
    drop(stream);
    assert_eq!(http.open.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_event_that_comes_before_any_place_is_not_lost() {
    let http = Script::with([Opens::Stream(vec![events([5, 6]), Piece::Breaks]), Opens::Stream(vec![events([7])])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    assert_eq!(stream.last_id(), None);
    assert_eq!(take(&mut stream, 3).await, [5, 6, 7]);
    assert_eq!(http.asked(), [None, Some(6)]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_told_in_its_place() {
    let reset = text("id: 10\nevent: reset\ndata: {\"oldest\":11}\n\n");
    let http =
        Script::with([Opens::Stream(vec![begins_at(3), reset, Piece::Breaks]), Opens::Stream(vec![events([11])])]);
    let mut stream = http.stream(EventQuery::new().with_after(3)).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Told::Reset(EventsReset::new(11)));
    assert_eq!(take(&mut stream, 1).await, [11]);
    assert_eq!(http.asked(), [Some(3), Some(10)]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_loses_nothing() {
    let slow = |ids: std::ops::Range<u64>| {
        let cut = |id: u64| {
            let whole = event(id);
            let (head, rest) = whole.split_at(20);
            [text(head), Piece::Wait(Duration::from_secs(3)), text(rest), Piece::Wait(Duration::from_secs(3))]
        };
        ids.flat_map(cut).collect::<Vec<_>>()
    };
    let http = Script::with([Opens::Stream(slow(1..4)), Opens::Not, Opens::Stream(slow(4..7))]);
    let mut stream = http.stream(EventQuery::new().with_after(0)).await.unwrap();
    let (mut ids, started) = (Vec::new(), Instant::now());
    while ids.len() < 6 {
        assert!(started.elapsed().as_secs() < 60, "it comes to no end: {ids:?}");
        if let Ok(told) = timeout(Duration::from_millis(70), stream.next()).await {
            ids.push(seq(told.unwrap()));
        }
    }
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert_eq!(http.asked(), [Some(0), Some(3), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_opened_again() {
    let beats = (0..10).flat_map(|_| [Piece::Wait(Duration::from_secs(15)), text(":\n\n")]);
    let first = [begins_at(1)].into_iter().chain(beats).chain([hangs()]).collect();
    let again = Opens::Stream(vec![events([2]), hangs()]);
    let http = Script::with([Opens::Stream(first), again, Opens::Stream(vec![events([3])])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    let started = Instant::now();
    assert_eq!(take(&mut stream, 1).await, [2]);
    let waited = started.elapsed().as_secs();
    assert!((195..197).contains(&waited), "{waited} s: beats keep it, three missing ones end it");
    // However short the patience of whoever asks.
    let told = loop {
        assert!(started.elapsed().as_secs() < 400, "the silence never ends");
        if let Ok(told) = timeout(Duration::from_secs(1), stream.next()).await {
            break told.unwrap();
        }
    };
    assert_eq!(seq(told), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_an_error_after_a_while_and_the_next_call_tries_again() {
    let http = Script::with([Opens::Stream(vec![begins_at(1), Piece::Wait(Duration::from_secs(30))])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap().with_patience(Duration::from_secs(60));
    let started = Instant::now();
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Call(CallError::Connect { .. })), "{error:?}");
    let waited = started.elapsed().as_secs();
    assert!((90..101).contains(&waited), "{waited} s");
    let times = http.times();
    assert!(times.len() < 25, "the pauses grow: {}", times.len());
    let last = times[times.len() - 1] - times[times.len() - 2];
    assert!(last >= Duration::from_secs(5), "{last:?}");
    // A server that is there again is found at once.
    http.more([Opens::Stream(vec![events([2]), Piece::Breaks]), Opens::Not, Opens::Stream(vec![events([3])])]);
    assert_eq!(take(&mut stream, 2).await, [2, 3], "the next outage is a new one");
}

#[tokio::test(start_paused = true)]
async fn only_connections_that_come_to_nothing_make_the_pauses_grow() {
    let pauses = async |connection: Vec<Piece>| {
        let length: Duration =
            connection.iter().map(|piece| if let Piece::Wait(length) = piece { *length } else { Duration::ZERO }).sum();
        let opens = (0..8).map(|_| Opens::Stream(connection.clone())).chain([Opens::Stream(vec![events([99])])]);
        let http = Script::with(opens);
        let mut stream = http.stream(EventQuery::new().with_after(1)).await.unwrap();
        while seq(stream.next().await.unwrap()) != 99 {}
        let times = http.times();
        times.windows(2).map(|pair| pair[1] - pair[0] - length).max().unwrap()
    };
    let short = Duration::from_millis(202);
    assert!(pauses(vec![begins_at(1), events([2])]).await <= short, "each told something");
    assert!(pauses(vec![begins_at(1), Piece::Wait(Duration::from_secs(11))]).await <= short, "each held for long");
    assert!(pauses(vec![begins_at(1)]).await > Duration::from_secs(5), "each ended at once");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_stands_is_told_at_once() {
    let refusal = || Opens::Refuses(401, "application/problem+json", None);
    let http =
        Script::with([refusal(), Opens::Stream(vec![begins_at(1)]), refusal(), Opens::Stream(vec![events([2])])]);
    let error = http.stream(EventQuery::new()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidToken));
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    assert_eq!(stream.next().await.unwrap_err().code(), Some(ErrorCode::InvalidToken));
    assert_eq!(take(&mut stream, 1).await, [2], "whoever goes on goes on");
    // Nothing is tried again for the first connection.
    let http = Script::with([]);
    assert!(matches!(http.stream(EventQuery::new()).await, Err(ClientError::Call(CallError::Connect { .. }))));
    assert_eq!(http.times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_server_is_given_the_time_it_asks_for() {
    let busy = Opens::Refuses(503, "application/problem+json", Some(7));
    let http = Script::with([Opens::Stream(vec![begins_at(1)]), busy, Opens::Stream(vec![events([2])])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    assert_eq!(take(&mut stream, 1).await, [2]);
    let times = http.times();
    assert!(times[2] - times[1] >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_stream_of_events_is_unreadable() {
    for opens in [
        Opens::Refuses(200, "text/html", None),
        Opens::Refuses(200, "text/event-streams", None),
        Opens::Stream(vec![text("id: seven\n\n")]),
        Opens::Stream(vec![text("data: {}\n\n")]),
    ] {
        let told = format!("{opens:?}");
        let opened = Script::with([opens]).stream(EventQuery::new()).await;
        let error = match opened {
            Ok(mut stream) => stream.next().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, ClientError::Unreadable { status: 200, .. }), "{told}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_is_an_error_and_the_next_one_follows() {
    let http = Script::with([Opens::Stream(vec![begins_at(1), text("id: 2\ndata: {\n\n"), events([3])])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    assert!(matches!(stream.next().await, Err(ClientError::Unreadable { source: Some(_), .. })));
    assert_eq!(take(&mut stream, 1).await, [3]);
    assert_eq!(http.times().len(), 1, "on the same connection");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_is_told_each_time_and_can_be_left_out() {
    let endless = || {
        let pieces = std::iter::repeat_n(text(&"x".repeat(64 * 1024)), 20);
        Opens::Stream([begins_at(1), text("id: 2\ndata: ")].into_iter().chain(pieces).chain([hangs()]).collect())
    };
    let http = Script::with([endless(), endless(), Opens::Stream(vec![events([3])])]);
    let mut stream = http.stream(EventQuery::new()).await.unwrap();
    for _ in 0..2 {
        let error = stream.next().await.unwrap_err();
        assert!(matches!(error, ClientError::Call(CallError::TooLarge { limit: MAX_EVENT_BYTES })), "{error:?}");
    }
    assert_eq!((http.open.load(Ordering::SeqCst), stream.last_id()), (0, Some(1)));
    let mut stream = http.stream(EventQuery::new().with_after(2)).await.unwrap();
    assert_eq!(take(&mut stream, 1).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_can_be_read_up_to_a_number() {
    let http = Script::with([
        Opens::Stream(vec![begins_at(0), events([1, 2]), Piece::Breaks]),
        Opens::Stream(vec![begins_at(2), events([4]), begins_at(6), hangs()]),
    ]);
    let mut stream = http.stream(EventQuery::new().with_after(0)).await.unwrap();
    let mut ids = Vec::new();
    while let Some(told) = stream.next_until(6).await.unwrap() {
        ids.push(seq(told));
    }
    assert_eq!((ids, stream.last_id()), (vec![1, 2, 4], Some(6)));
    assert_eq!(stream.next_until(3).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_to_know_is_told_of_an_outage_and_of_its_end() {
    let http = Script::with([Opens::Stream(vec![begins_at(1)]), Opens::Not, Opens::Stream(vec![events([2])])]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let stream = http.stream(EventQuery::new()).await.unwrap();
    let mut stream = stream.with_on_outage(move |outage| {
        noted.lock().unwrap().push(outage.map(|error| matches!(error, ClientError::Call(CallError::Connect { .. }))));
    });
    assert_eq!(take(&mut stream, 1).await, [2]);
    assert_eq!(*told.lock().unwrap(), [Some(false), Some(true), None]);
}

#[tokio::test]
async fn an_exchange_of_whole_answers_refuses_a_stream() {
    #[derive(Debug)]
    struct Whole;
    #[async_trait]
    impl HttpCall for Whole {
        async fn call(&self, _: http::Request<Bytes>, _: Duration) -> Result<http::Response<Bytes>, CallError> {
            panic!("a stream is no call for a whole answer")
        }
    }
    let client = OperatorClient::new("http://orchestrator.test", Arc::new(Whole)).unwrap();
    let error = client.events(EventQuery::new()).await.unwrap_err();
    assert!(matches!(error, ClientError::Call(CallError::Setup { .. })), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = OperatorClient::new(&url, Arc::new(ReqwestCall::new().unwrap())).unwrap();
    let client = client.with_deadline(Duration::from_millis(100));
    let opened = timeout(Duration::from_secs(10), client.events(EventQuery::new())).await;
    let error = opened.expect("its own deadline is much shorter").unwrap_err();
    assert!(matches!(error, ClientError::Call(CallError::Timeout { .. })), "{error:?}");
}
