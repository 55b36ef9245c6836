//! The contract of [`Repository`] as tests, for back ends in and outside this crate (feature `conformance`).
//!
//! One line in a test file of the back end gives one `#[tokio::test]` per check:
//!
//! ```
//! use eap_orchestrator::store::{MemoryStore, conformance};
//!
//! conformance::suite!(async |clock| MemoryStore::new(clock));
//! ```
//!
//! The closure opens an empty store that takes its time from the given clock, once per check. What must
//! live as long as the store (a temporary folder, say) is returned beside it, as a pair. The crate that
//! uses the suite depends on `tokio` with the features `macros` and `rt`. Without macros, the same goes by
//! [`CHECKS`] and [`run`].

mod agents;
mod callbacks;
mod claim_order;
mod claim_room;
mod commits;
mod credentials;
mod depths;
mod events;
mod harness;
mod lists;
mod purge;
mod records;
mod requests;
mod routing;
mod samples;
mod session_lists;
mod sessions;
mod states;
mod workflows;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use eap_types::Timestamp;

use self::harness::Harness;
use super::Repository;
use crate::clock::{Clock, ManualClock};

/// A store that was opened for one check.
pub struct Opened {
    store: Arc<dyn Repository>,
    /// Dropped after the check.
    guard: Box<dyn Any + Send>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("store", &self.store).finish_non_exhaustive()
    }
}

impl From<Arc<dyn Repository>> for Opened {
    fn from(store: Arc<dyn Repository>) -> Self {
        Self { store, guard: Box::new(()) }
    }
}

impl<R: Repository> From<R> for Opened {
    fn from(store: R) -> Self {
        Self { store: Arc::new(store), guard: Box::new(()) }
    }
}

impl<R: Repository, G: Any + Send> From<(R, G)> for Opened {
    fn from((store, guard): (R, G)) -> Self {
        Self { store: Arc::new(store), guard: Box::new(guard) }
    }
}

/// One sentence of the contract, and how it is checked.
#[derive(Clone, Copy)]
pub struct Check {
    name: &'static str,
    run: fn(Harness) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Check {
    /// The promise that is checked; also the name of the test.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// Every check there is.
pub const CHECKS: &[Check] = crate::__store_conformance!(@each list);

/// Runs the check of this name on a store that `open` gives.
///
/// Needs a tokio runtime with time, single-threaded or not: calls that race are made from threads of
/// its blocking pool.
///
/// # Panics
///
/// If the store breaks the contract, if the check is not done within 30 s, or if there is no such check.
pub async fn run<T: Into<Opened>>(name: &str, open: impl AsyncFnOnce(Arc<dyn Clock>) -> T) {
    let check = CHECKS.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("there is no check called {name}"));
    // Not a whole second: a store that cuts times to milliseconds is found out.
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_123_457)));
    let Opened { store, guard } = open(Arc::clone(&clock) as Arc<dyn Clock>).await.into();
    let done = (check.run)(Harness::new(store, clock));
    let outcome = tokio::time::timeout(Duration::from_secs(30), done).await;
    drop(guard);
    assert!(outcome.is_ok(), "{name}: the store did not answer within 30 s");
}

/// Writes one test per check; its argument is an async closure that opens an empty store on a given clock.
///
/// `suite!(if there_is_a_server(), async |clock| …)` is for a back end whose server may be missing: the condition is asked by
/// each test, which does nothing where it does not hold. Whoever answers it should say so aloud.
#[doc(inline)]
pub use crate::__store_conformance as suite;

// The one list of checks: `list` makes it the constant above, `test` makes it tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_conformance {
    (@list () $($module:ident :: $name:ident,)*) => {
        &[$(Check { name: stringify!($name), run: |harness| Box::pin($module::$name(harness)) }),*]
    };
    (@test ($open:expr) $($module:ident :: $name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::store::conformance::run(stringify!($name), $open).await;
            }
        )*
    };
    (@test_if ($open:expr, $ready:expr) $($module:ident :: $name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                if $ready {
                    $crate::store::conformance::run(stringify!($name), $open).await;
                }
            }
        )*
    };
    (@each $what:ident $($argument:expr),*) => {
        $crate::__store_conformance! { @$what ($($argument),*)
            records::a_task_reads_back_as_it_was_written,
            records::a_task_reads_back_in_every_phase,
            records::an_agent_reads_back_as_it_was_written,
            records::a_result_reads_back_byte_for_byte,
            records::what_was_never_written_is_not_there,
            records::an_update_moves_the_revision_and_keeps_the_spec,
            records::tasks_are_read_by_id,
            records::reads_carry_the_stores_time,
            commits::a_change_lands_whole,
            commits::a_stale_task_writes_nothing_of_its_change,
            commits::a_stale_agent_writes_nothing_of_its_change,
            commits::an_update_of_what_is_not_there_is_a_conflict,
            commits::a_taken_task_id_is_a_duplicate,
            commits::a_taken_idempotency_key_is_a_duplicate,
            commits::a_key_of_a_batch_gives_its_tasks_back,
            commits::an_idempotency_key_is_unique_within_its_scope_alone,
            commits::a_second_result_is_a_duplicate,
            commits::a_result_of_what_is_not_there_is_a_conflict,
            commits::the_first_late_result_of_an_attempt_is_kept,
            commits::a_failed_change_leaves_its_neighbours_alone,
            commits::of_racing_updates_one_wins,
            commits::a_write_whose_caller_left_still_lands,
            commits::a_closed_store_refuses_everything,
            agents::a_taken_agent_id_is_a_duplicate,
            agents::a_taken_identity_is_a_duplicate,
            agents::an_identity_is_unique_per_tenant_and_with_an_instance_alone,
            agents::vitals_are_the_last_writers_and_move_no_revision,
            agents::agents_are_read_by_id_and_by_when_they_were_seen,
            agents::the_pulse_is_the_last_one_written,
            credentials::a_credential_reads_back_as_it_was_written,
            credentials::a_taken_credential_id_is_a_duplicate,
            credentials::a_stale_credential_writes_nothing_of_its_change,
            credentials::of_racing_uses_of_a_secret_one_wins,
            credentials::the_time_of_use_is_the_last_writers_and_moves_no_revision,
            credentials::ended_credentials_go_by_their_own_age,
            events::events_read_back_in_the_order_of_commits,
            events::events_are_read_by_cursor_limit_and_task,
            events::racing_commits_leave_no_gap,
            events::what_a_store_wrote_itself_is_no_news_to_it,
            events::a_reader_never_meets_a_smaller_number,
            claim_order::a_claim_takes_by_priority_then_insertion,
            claim_order::a_claim_merges_all_routing_keys_into_that_order,
            claim_order::a_released_task_keeps_its_place,
            claim_order::refused_tasks_are_passed_over,
            claim_order::decide_is_asked_about_what_may_be_taken_alone,
            claim_order::a_claim_is_written_whole,
            claim_order::a_claim_tells_the_newest_events_number,
            claim_order::racing_claims_never_share_a_task,
            claim_order::a_claim_says_when_nothing_is_left,
            claim_order::a_task_is_written_and_claimed_in_one_call,
            claim_order::a_change_that_is_refused_claims_nothing,
            claim_room::a_claim_fills_the_room_and_no_more,
            claim_room::earlier_asks_of_the_same_claim_count,
            claim_room::large_tasks_fill_an_answer_before_the_room_does,
            claim_room::there_is_one_answer_per_ask_in_order,
            claim_room::racing_claims_of_one_agent_keep_within_its_room,
            requests::a_repeated_request_gets_the_same_tasks,
            requests::a_request_id_belongs_to_one_agent,
            requests::a_request_id_is_free_again_after_its_leases,
            requests::racing_repeats_get_the_same_tasks,
            routing::an_unknown_agent_gets_nothing,
            routing::an_agent_that_is_not_active_gets_nothing,
            routing::an_agent_of_another_epoch_gets_nothing,
            routing::an_agent_that_changed_is_matched_as_it_is_now,
            routing::work_never_crosses_tenants,
            routing::an_ask_may_name_task_types,
            routing::capabilities_labels_and_agent_id_route,
            routing::a_delayed_task_waits_until_it_is_made_ready,
            routing::leased_and_final_tasks_are_not_claimed,
            lists::the_longest_due_comes_first,
            lists::what_is_not_due_is_not_listed,
            lists::an_agents_leases_come_oldest_first,
            lists::leased_tasks_page_in_order_of_id,
            lists::tasks_page_newest_first,
            lists::dead_letters_are_listed_until_they_are_disposed_of,
            lists::tasks_are_listed_by_tenant_status_agent_and_type,
            depths::tasks_are_counted_by_what_they_wait_for,
            depths::ready_tasks_are_counted_by_what_they_need,
            depths::a_delayed_task_is_as_old_as_its_start,
            depths::what_was_done_is_counted,
            states::a_webhook_takes_effect_once,
            states::of_racing_deliveries_of_a_webhook_one_wins,
            states::what_an_agent_said_reads_back_in_order_of_its_own_time,
            states::the_newest_of_every_agent_is_found,
            states::old_webhooks_and_states_go_and_the_newest_state_stays,
            states::what_an_agent_said_goes_with_it,
            sessions::a_session_reads_back_as_it_was_written,
            sessions::a_session_reads_back_in_every_phase,
            sessions::an_update_moves_the_revision_of_a_session_and_keeps_its_spec,
            sessions::a_stale_session_writes_nothing_of_its_change,
            sessions::a_taken_session_id_is_a_duplicate,
            sessions::a_task_is_a_step_of_one_session_at_most,
            sessions::of_racing_updates_of_a_session_one_wins,
            sessions::a_steps_end_its_session_and_the_next_task_are_one_commit,
            sessions::a_steps_task_finds_its_session,
            session_lists::sessions_page_newest_first,
            session_lists::sessions_are_listed_by_tenant_status_workflow_and_agent,
            session_lists::open_sessions_page_in_order_of_id,
            session_lists::old_sessions_go_by_their_own_age,
            session_lists::sessions_go_in_steps_and_their_numbers_with_them,
            workflows::a_workflow_reads_back_as_it_was_written,
            workflows::the_version_of_a_workflow_that_was_kept_last_is_the_newest,
            workflows::a_version_of_a_workflow_that_is_kept_is_a_duplicate,
            workflows::of_racing_definitions_of_a_version_one_is_kept,
            workflows::workflows_page_by_their_newest_version,
            workflows::no_purge_takes_a_workflow,
            callbacks::a_callback_reads_back_as_it_was_written,
            callbacks::callbacks_come_by_time_then_task_and_page_on,
            callbacks::a_stale_callback_writes_nothing_of_its_change,
            callbacks::a_second_callback_of_a_task_is_a_duplicate,
            callbacks::a_callback_of_what_is_not_there_is_a_conflict,
            callbacks::a_callback_that_is_not_written_leaves_its_task_alone,
            callbacks::a_task_whose_callback_is_not_over_is_not_purged,
            purge::old_final_tasks_go_with_all_that_is_theirs,
            purge::what_is_not_final_or_not_old_stays,
            purge::a_purge_goes_on_in_steps,
            purge::events_late_results_and_keys_go_by_their_own_age,
            purge::agents_go_unless_they_hold_a_lease,
            purge::a_purged_agent_leaves_its_identity_free,
        }
    };
    (if $ready:expr, $open:expr) => {
        $crate::__store_conformance! { @each test_if $open, $ready }
    };
    ($open:expr) => {
        $crate::__store_conformance! { @each test $open }
    };
}
