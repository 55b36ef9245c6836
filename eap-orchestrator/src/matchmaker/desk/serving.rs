//! Polls that ask: sent off with claims, many side by side, and answered with what those bring.

use std::sync::Arc;
use std::time::Duration;

use eap_core::{Allowance, RoutingKey, room_for_work};
use eap_types::{AgentId, Timestamp};
use tracing::{debug, warn};

use super::{ASKS_PER_CLAIM, Desk, State};
use crate::announce::lock;
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::matchmaker::handover::Handover;
use crate::matchmaker::waiting::Poll;
use crate::store::{Ask, Claimed};

/// After how long a poll asks again that found what it could take in another transaction's hand.
const CONTENDED: Duration = Duration::from_millis(100);

/// A poll that asks for so many tasks.
pub(super) type Asking = (Poll, u32);

/// What a claim brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The keys of what was leased.
    pub(super) leased: Vec<RoutingKey>,
    pub(super) returning: Returning,
    /// One of them could have taken more, and there was nothing more.
    pub(super) is_exhausted: bool,
}

/// Those that return from a claim without tasks.
#[derive(Debug, Default)]
pub(super) struct Returning {
    /// The polls that got nothing.
    pub(super) empty_handed: Vec<Poll>,
    /// Whose polls ended so: they hung up, or their claim failed.
    pub(super) left: Vec<AgentId>,
}

impl Returning {
    pub(super) fn add(&mut self, others: Self) {
        self.empty_handed.extend(others.empty_handed);
        self.left.extend(others.left);
    }
}

/// Polls that were sent off with a claim.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) polls: Vec<Asking>,
    /// The newest news then.
    pub(super) news: u64,
}

impl Desk {
    /// Sends those of `polls` that may ask now; the others wait.
    pub(super) fn serve(self: &Arc<Self>, state: &mut State, polls: Vec<Poll>) {
        let now = self.lifecycle.clock.now();
        let mut asking = Vec::new();
        for mut poll in polls {
            let (room, is_trial) = room_of(&self.lifecycle, &poll.ask, now).unwrap_or_default();
            let may_repeat = poll.number.is_none() && poll.ask.request_id.is_some();
            poll.is_postponed = room > 0 && is_trial && state.is_out(&poll.ask.agent.id);
            if poll.is_postponed || (room == 0 && !may_repeat) {
                self.park(state, poll);
            } else {
                // With room for nothing it may still be the repeat of a request whose answer was lost: that one gets its
                // tasks in any case (G17).
                let tasks = poll.ask.max_tasks.min(room);
                state.goes_out(&poll.ask.agent.id);
                asking.push((poll, tasks));
            }
        }
        while !asking.is_empty() {
            let rest = asking.split_off(asking.len().min(ASKS_PER_CLAIM));
            let sent = state.send(std::mem::replace(&mut asking, rest));
            let desk = Arc::clone(self);
            self.lifecycle.under_way.spawn(async move {
                let news = sent.news;
                let outcome = desk.claim(sent.polls).await;
                desk.came_back(outcome.returning, news);
            });
        }
    }

    /// One claim for these polls: those who got something are answered.
    pub(super) async fn claim(&self, polls: Vec<Asking>) -> Outcome {
        let (polls, gone): (Vec<Asking>, Vec<Asking>) =
            polls.into_iter().partition(|(poll, _)| !poll.reply.is_closed());
        self.are_back(gone.iter().map(|(poll, _)| poll));
        let mut outcome = if polls.is_empty() {
            Outcome::default()
        } else {
            let claimed = self.lifecycle.claim(asks(&polls)).await;
            self.hand_out(polls, claimed)
        };
        outcome.returning.left.extend(gone.into_iter().map(|(poll, _)| poll.ask.agent.id.clone()));
        outcome
    }

    /// Answers those who got something, or all of them with why the claim failed.
    pub(super) fn hand_out(&self, polls: Vec<Asking>, claimed: Result<Vec<Claimed>, Error>) -> Outcome {
        let (mut outcome, mut served) = (Outcome::default(), Vec::new());
        match claimed {
            Err(error) => {
                warn!(%error, "a claim failed");
                outcome.returning.left.extend(polls.iter().map(|(poll, _)| poll.ask.agent.id.clone()));
                served.extend(polls.into_iter().map(|(poll, _)| (poll, None)));
            }
            Ok(claimed) => {
                for ((poll, _), claimed) in polls.into_iter().zip(claimed) {
                    outcome.is_exhausted |= claimed.is_exhausted;
                    if claimed.tasks.is_empty() {
                        if claimed.is_contended {
                            self.look_again_soon(&poll);
                        }
                        outcome.returning.empty_handed.push(poll);
                    } else {
                        outcome.leased.extend(claimed.tasks.iter().map(|task| task.spec.routing.clone()));
                        served.push((poll, Some(claimed)));
                    }
                }
            }
        }
        self.are_back(served.iter().map(|(poll, _)| poll));
        for (Poll { ask, reply, .. }, claimed) in served {
            let answer = match claimed {
                None => Err(Error::Busy { reason: "work cannot be handed out now" }),
                Some(Claimed { tasks, repeated, .. }) => {
                    debug!(agent.id = %ask.agent.id, tasks = tasks.len(), repeated, "tasks leased");
                    let give_back = ask.request_id.is_none().then(|| (Arc::clone(&self.lifecycle), ask.agent));
                    Ok(Handover::new(tasks, give_back))
                }
            };
            // If nobody is there to take it, the handover knows what to do.
            let _ = reply.send(answer);
        }
        outcome
    }

    /// Another replica had in hand what this poll could take. If it leaves it there, no event will tell.
    fn look_again_soon(&self, poll: &Poll) {
        let (lifecycle, agent) = (Arc::clone(&self.lifecycle), poll.ask.agent.id.clone());
        self.lifecycle.under_way.spawn(async move {
            if lifecycle.stop.run_until_cancelled(tokio::time::sleep(CONTENDED)).await.is_some() {
                lifecycle.announcements.agent_freed(&agent);
            }
        });
    }

    fn are_back<'p>(&self, polls: impl Iterator<Item = &'p Poll>) {
        let mut state = None;
        for poll in polls {
            state.get_or_insert_with(|| lock(&self.state)).comes_back(&poll.ask.agent.id);
        }
    }
}

pub(super) fn asks(polls: &[Asking]) -> Vec<Ask> {
    polls.iter().map(|(poll, tasks)| Ask { max_tasks: *tasks, ..poll.ask.clone() }).collect()
}

/// How many tasks may be handed to the agent that asks, and whether that is a trial; `None` if it is gone or another
/// process by now.
fn room_of(lifecycle: &Lifecycle, ask: &Ask, now: Timestamp) -> Option<(u32, bool)> {
    let entry = lifecycle.directory.get(&ask.agent.id).filter(|entry| entry.agent.epoch == ask.agent.epoch)?;
    Some(entry.with_vitals(|vitals| {
        let is_trial = vitals.record.allowance(now) == Allowance::Trial;
        // The store counts the leases it holds.
        (room_for_work(&entry.agent, vitals, 0, now), is_trial)
    }))
}
