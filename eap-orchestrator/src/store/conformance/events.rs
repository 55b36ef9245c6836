//! Events: their numbers, and what a reader that follows them sees.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eap_core::NoteKind;
use eap_types::{TaskId, TenantId};

use super::harness::Harness;
use super::samples;
use crate::store::{Change, Event, EventKind, EventSeq, NewEvent};

pub(super) async fn events_read_back_in_the_order_of_commits(h: Harness) {
    let task = TaskId::v7(h.now(), h.draw());
    let full = NewEvent {
        tenant: samples::tenant(3),
        at: h.now(),
        kind: EventKind::Task(NoteKind::AttemptFailed),
        task: Some(task),
        agent: Some(samples::agent_id("ägent \"7\" @ home")),
        attempt: Some(u32::MAX),
        detail: samples::json(),
    };
    let plain = NewEvent { kind: EventKind::AgentSuperseded, ..samples::event(h.now()) };
    let written = [full.clone(), plain.clone(), plain, full];
    let mut heads = Vec::new();
    for events in written.chunks(2) {
        heads.push(h.commit(Change { events: events.to_vec(), ..Change::default() }).await.head);
    }
    let expected: Vec<Event> = (1..)
        .zip(written)
        .map(|(number, NewEvent { tenant, at, kind, task, agent, attempt, detail })| Event {
            seq: EventSeq(number),
            tenant,
            at,
            kind: kind.as_str().to_owned(),
            task,
            agent,
            attempt,
            detail,
        })
        .collect();
    assert_eq!(h.events().await, expected);
    assert_eq!(heads, [EventSeq(2), EventSeq(4)]);
    assert_eq!(h.store.head().await.expect("a read succeeds"), EventSeq(4));
}

pub(super) async fn events_are_read_by_cursor_limit_and_task(h: Harness) {
    let (a, b) = (TaskId::v7(h.now(), h.draw()), TaskId::v7(h.now(), h.draw()));
    let about = |task| NewEvent { task, ..samples::event(h.now()) };
    let events = [Some(a), Some(b), None, Some(a), Some(b), Some(a)].map(about).to_vec();
    h.commit(Change { events, ..Change::default() }).await;
    let read = async |after, task, limit| -> Vec<u64> {
        let events = h.store.events(EventSeq(after), task, limit).await.expect("a read succeeds");
        events.iter().map(|event| event.seq.0).collect()
    };
    assert_eq!(read(0, None, 100).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(read(2, None, 3).await, [3, 4, 5]);
    assert_eq!(read(6, None, 3).await, [0; 0]);
    assert_eq!(read(0, Some(a), 100).await, [1, 4, 6]);
    assert_eq!(read(1, Some(a), 1).await, [4]);
    assert_eq!(read(2, Some(b), 100).await, [5]);
}

pub(super) async fn racing_commits_leave_no_gap(h: Harness) {
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (store, task) = (Arc::clone(&h.store), TaskId::v7(h.now(), h.draw()));
            let mut change = samples::events(3, h.now());
            change.events.iter_mut().for_each(|event| event.task = Some(task));
            async move { (task, store.commit(change).await.expect("a commit succeeds").head) }
        })
        .collect();
    let answers = h.race(calls).await;
    let numbers: Vec<u64> = h.events().await.iter().map(|event| event.seq.0).collect();
    assert_eq!(numbers, (1..=48).collect::<Vec<_>>());
    for (task, head) in answers {
        let own = h.store.events(EventSeq(0), Some(task), 10).await.expect("a read succeeds");
        let order: Vec<_> = own.iter().map(|event| event.attempt).collect();
        assert_eq!(order, [Some(0), Some(1), Some(2)]);
        assert!(own.iter().all(|event| event.seq <= head), "the head of a commit includes its own events");
    }
}

pub(super) async fn what_a_store_wrote_itself_is_no_news_to_it(h: Harness) {
    let agent = h.register(&["a"]).await;
    h.submit("a").await;
    h.claim(h.ask(&agent, 1)).await;
    h.commit(samples::events(3, h.now())).await;
    let head = h.store.head().await.expect("a read succeeds");
    assert!(head > EventSeq(3));
    for after in [EventSeq(0), EventSeq(2), head] {
        let news = h.store.news(after, 2).await.expect("a read succeeds");
        assert_eq!((news.events, news.upto), (Vec::new(), head));
    }
}

pub(super) async fn a_reader_never_meets_a_smaller_number(h: Harness) {
    const WRITERS: usize = 6;
    const COMMITS: usize = 8;
    type Call = Pin<Box<dyn Future<Output = Option<Vec<EventSeq>>> + Send>>;
    let done = Arc::new(AtomicUsize::new(0));
    let write = || -> Call {
        let (store, change, done) = (Arc::clone(&h.store), samples::events(2, h.now()), Arc::clone(&done));
        Box::pin(async move {
            for _ in 0..COMMITS {
                store.commit(change.clone()).await.expect("a commit succeeds");
            }
            done.fetch_add(1, Ordering::SeqCst);
            None
        })
    };
    let follow = || -> Call {
        let (store, done) = (Arc::clone(&h.store), Arc::clone(&done));
        Box::pin(async move {
            let mut seen = Vec::new();
            loop {
                // Asked before the read: what was written by then must be in it.
                let is_last = done.load(Ordering::SeqCst) == WRITERS;
                let after = seen.last().copied().unwrap_or_default();
                let new = store.events(after, None, 5).await.expect("a read succeeds");
                if is_last && new.is_empty() {
                    return Some(seen);
                }
                seen.extend(new.iter().map(|event| event.seq));
            }
        })
    };
    let calls = (0..WRITERS).map(|_| write()).chain((0..2).map(|_| follow())).collect::<Vec<_>>();
    let expected: Vec<EventSeq> = (1..=(WRITERS * COMMITS * 2) as u64).map(EventSeq).collect();
    let followed: Vec<_> = h.race(calls).await.into_iter().flatten().collect();
    assert_eq!(followed, [expected.clone(), expected]);
    assert!(h.events().await.iter().all(|event| event.tenant == TenantId::default()));
}
