//! Everything at once: what was counted, and what is so now.

use std::time::Duration;

use eap_types::{TenantId, Timestamp};

use super::Metrics;
use super::page::{Page, Samples};
use crate::lifecycle::Lifecycle;
use crate::store::{Distribution, StoreStats};

/// Microseconds in the second that they are told in.
const SECOND: f64 = 1e6;

impl Metrics {
    /// The page as `tenant` may see it. It comes even if the store does not answer: then without what the store alone
    /// knows, and says so.
    pub(crate) async fn page(&self, lifecycle: &Lifecycle, tenant: TenantId) -> String {
        let mut page = Page::default();
        let now = lifecycle.clock.now();
        self.tell_about_the_server(&mut page);
        let is_up = self.tell_what_waits(&mut page, lifecycle, tenant, now).await;
        self.tell_what_happened(&mut page);
        self.tell_about_agents(&mut page, lifecycle, now);
        self.tell_about_calls(&mut page, lifecycle);
        tell_about_uploads(&mut page, lifecycle);
        tell_about_the_store(&mut page, is_up, &lifecycle.store.stats());
        self.tell_about_the_sweeper(&mut page, lifecycle, now).await;
        page.finish()
    }

    fn tell_about_the_server(&self, page: &mut Page) {
        let version = env!("CARGO_PKG_VERSION");
        page.gauge("eap_build_info", "Always 1; the label tells the version.").value(&[("version", version)], 1);
        page.gauge("eap_start_time_seconds", "When the orchestrator was made, in seconds since 1970.")
            .value(&[], seconds(Duration::from_micros(self.started.as_micros().unsigned_abs())));
    }

    /// Says whether the store answered.
    async fn tell_what_waits(&self, page: &mut Page, lifecycle: &Lifecycle, tenant: TenantId, now: Timestamp) -> bool {
        let counted = self.queue.depths(&*lifecycle.store).await.map_err(|error| lifecycle.noticed(error));
        let told = counted.as_ref().map(|(depths, _)| self.queue.told(depths, tenant)).unwrap_or_default();
        let mut ready = page.gauge("eap_tasks_ready", "Tasks that an agent may take now.");
        for ((task_type, capability), tasks) in &told.ready {
            ready.value(&[("task_type", task_type), ("capability", capability)], tasks);
        }
        let help = "How long ago the first of the ready tasks, in order of arrival, might have been taken.";
        let mut oldest = page.gauge("eap_tasks_oldest_ready_seconds", help);
        for ((task_type, capability), since) in &told.oldest {
            let labels = [("task_type", task_type.as_str()), ("capability", capability)];
            oldest.value(&labels, seconds(now.saturating_since(*since)));
        }
        let mut delayed = page.gauge("eap_tasks_delayed", "Tasks that wait for their time, delayed or backing off.");
        for (task_type, tasks) in &told.delayed {
            delayed.value(&[("task_type", task_type)], tasks);
        }
        let mut leased = page.gauge("eap_tasks_leased", "Tasks that an agent holds.");
        for (task_type, tasks) in &told.leased {
            leased.value(&[("task_type", task_type)], tasks);
        }
        let mut inbox =
            page.gauge("eap_inbox_tasks", "Tasks that hosts took in and that are not among the others yet.");
        if let Ok((depths, _)) = &counted {
            inbox.value(&[("state", "waiting")], depths.inbox.waiting);
            inbox.value(&[("state", "set_aside")], depths.inbox.set_aside);
        }
        let mut age = page.gauge("eap_tasks_counted_ago_seconds", "How old the counts of tasks are.");
        if let Ok((_, old)) = &counted {
            age.value(&[], seconds(*old));
        }
        counted.is_ok()
    }

    fn tell_what_happened(&self, page: &mut Page) {
        let mut events = page.counter("eap_events_total", "Events that were committed, by kind.");
        for (kind, count) in self.events.all() {
            events.value(&[("kind", kind)], count);
        }
        let mut results = page.counter("eap_results_total", "Results that agents reported, by what became of them.");
        for (outcome, code, count) in self.results.all() {
            results.value(&[("outcome", outcome), ("error_code", code)], count);
        }
        page.counter("eap_attempts_timed_out_total", "Attempts that ran out of their time.")
            .value(&[], self.timeouts.get());
        page.counter("eap_claims_total", "Agents' wishes that were put to the store, by its answer.")
            .value(&[("answer", "granted")], self.claims.granted.get())
            .value(&[("answer", "empty")], self.claims.empty.get())
            .value(&[("answer", "repeated")], self.claims.repeated.get());
    }

    fn tell_about_agents(&self, page: &mut Page, lifecycle: &Lifecycle, now: Timestamp) {
        let liveness = lifecycle.config.timing.liveness();
        let mut agents = page.gauge("eap_agents", "Agents, by state.");
        for (state, count) in lifecycle.directory.count_states(now, &liveness) {
            agents.value(&[("state", state.as_str())], count);
        }
        page.counter("eap_heartbeats_total", "Heartbeats, by answer.")
            .value(&[("answer", "accepted")], self.beats.accepted.get())
            .value(&[("answer", "refused")], self.beats.refused.get());
        page.counter("eap_heartbeats_overtaken_total", "Accepted heartbeats that a later one had overtaken.")
            .value(&[], self.beats.overtaken.get());
        page.counter("eap_polls_total", "Agents' calls for work, by answer.")
            .value(&[("answer", "granted")], self.polls.granted.get())
            .value(&[("answer", "empty")], self.polls.empty.get())
            .value(&[("answer", "refused")], self.polls.refused.get());
        page.gauge("eap_polls_waiting", "Agents' calls that wait for work.").value(&[], self.polls.waiting.get());
        page.gauge("eap_websockets_open", "Agents' WebSockets that are open.").value(&[], self.sockets.get());
    }

    fn tell_about_calls(&self, page: &mut Page, lifecycle: &Lifecycle) {
        let calls = self.http.all();
        let mut requests = page.counter("eap_http_requests_total", "Requests, by call and class of answer.");
        for (call, classes, _) in &calls {
            for (class, count) in classes {
                requests.value(&[("call", call), ("status", class)], count);
            }
        }
        let help = "How long requests took, waiting for work or for a task's end included.";
        let mut took = page.histogram("eap_http_request_seconds", help);
        for (call, _, distribution) in &calls {
            took.distribution(&[("call", call)], distribution, SECOND);
        }
        let connections = &self.connections;
        page.counter("eap_connections_total", "Connections that were taken.").value(&[], connections.opened.get());
        page.counter("eap_connections_refused_total", "Connections that were one too many from their address.")
            .value(&[], connections.refused.get());
        let open = connections.opened.get().saturating_sub(connections.closed.get());
        page.gauge("eap_connections_open", "Connections that are open.").value(&[], open);
        page.gauge("eap_writes_under_way", "Writes that are being carried out.")
            .value(&[], lifecycle.writes_under_way());
        page.counter("eap_writes_refused_total", "Calls refused because too many writes were under way.")
            .value(&[], self.writes_refused.get());
        self.webhooks.tell(page);
    }

    async fn tell_about_the_sweeper(&self, page: &mut Page, lifecycle: &Lifecycle, now: Timestamp) {
        let sweeper = &self.sweeper;
        page.counter("eap_sweeps_total", "Rounds of the sweeper, by outcome.")
            .value(&[("outcome", "done")], sweeper.done.get())
            .value(&[("outcome", "failed")], sweeper.failed.get());
        page.counter("eap_purged_rows_total", "Rows of the store that were old enough to go.")
            .value(&[], sweeper.purged.get());
        let last = match sweeper.last.get() {
            0 => self.started,
            micros => Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)),
        };
        page.gauge("eap_sweeper_silent_seconds", "How long ago the sweeper last ended a round well.")
            .value(&[], seconds(now.saturating_since(last)));
        page.counter("eap_followed_events_total", "Events of other replicas that were taken in.")
            .value(&[], self.followed.get());
        page.gauge("eap_behind_seconds", "How long ago it was last looked at what other replicas did.")
            .value(&[], seconds(lifecycle.behind()));
        let mut overdue =
            page.gauge("eap_sweeper_overdue_seconds", "How long the longest due task has waited for the sweeper.");
        if let Ok(due) = lifecycle.store.due(now, 1).await {
            let late = due.first().and_then(|task| task.record.due_at()).map(|at| now.saturating_since(at));
            overdue.value(&[], seconds(late.unwrap_or_default()));
        }
    }
}

fn tell_about_uploads(page: &mut Page, lifecycle: &Lifecycle) {
    let Some(shelf) = &lifecycle.artifacts else { return };
    page.gauge(
        "eap_artifact_bytes",
        "Bytes of uploaded artifacts: those kept when it was last looked, and parts begun since.",
    )
    .value(&[], shelf.bytes());
    page.gauge("eap_artifact_parts_open", "Parts of artifacts that are being received.").value(&[], shelf.open());
    page.counter("eap_artifact_received_bytes_total", "Bytes of artifacts that were received and kept.")
        .value(&[], shelf.received.get());
    page.counter("eap_artifacts_total", "Artifacts whose upload became whole.").value(&[], shelf.completed.get());
}

fn tell_about_the_store(page: &mut Page, is_up: bool, stats: &StoreStats) {
    page.gauge("eap_store_up", "1 if the store answered for this page, else 0.").value(&[], u8::from(is_up));
    page.counter("eap_store_commits_total", "Changes that were committed.").value(&[], stats.commits);
    page.counter("eap_store_claims_total", "Claims that were served.").value(&[], stats.claims);
    page.counter("eap_store_transactions_total", "Transactions that these shared.").value(&[], stats.transactions);
    let distribution = |mut samples: Samples<'_>, distribution: &Option<Distribution>, unit| {
        if let Some(distribution) = distribution {
            samples.distribution(&[], distribution, unit);
        }
    };
    let requests = page.histogram("eap_store_batch_requests", "How many requests shared a transaction.");
    distribution(requests, &stats.batch, 1.0);
    let leased = page.histogram("eap_store_claimed_tasks", "How many tasks a transaction with claims leased.");
    distribution(leased, &stats.claimed, 1.0);
    let took = page.histogram("eap_store_transaction_seconds", "How long transactions took, commit included.");
    distribution(took, &stats.transaction_micros, SECOND);
    let took = page.histogram("eap_store_commit_seconds", "How long it took to bring a transaction to the disk.");
    distribution(took, &stats.commit_micros, SECOND);
    let errors = &stats.errors;
    page.counter("eap_store_errors_total", "Calls of the store that were answered with an error, by kind.")
        .value(&[("kind", "conflict")], errors.conflict)
        .value(&[("kind", "duplicate")], errors.duplicate)
        .value(&[("kind", "full")], errors.full)
        .value(&[("kind", "unavailable")], errors.unavailable)
        .value(&[("kind", "failed")], errors.failed)
        .value(&[("kind", "refused")], errors.refused)
        .value(&[("kind", "closed")], errors.closed);
    page.gauge("eap_store_waiting_requests", "Requests that wait to be written.").value(&[], stats.waiting);
    let sizes = [
        ("eap_store_data_bytes", "Bytes in the database file.", stats.data_bytes),
        ("eap_store_log_bytes", "Bytes in the log that is written ahead of it.", stats.log_bytes),
    ];
    for (name, help, bytes) in sizes {
        let mut samples = page.gauge(name, help);
        if let Some(bytes) = bytes {
            samples.value(&[], bytes);
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
