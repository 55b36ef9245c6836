//! Who takes the tasks that became ready: the best score first (docs/protocol.md, section 3, "Order of agents").

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use eap_core::Rating;
use eap_types::{AgentId, Timestamp};

/// A waiting poll that could take a task of some key now.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// The poll's place in the order of arrival.
    pub(super) number: u64,
    /// Whose poll it is.
    pub(super) agent: AgentId,
    /// How many tasks it asks for.
    pub(super) asked: u32,
    /// How many tasks may be handed to its agent, at least one.
    pub(super) room: u32,
    /// How well its agent suits the key, for a task that prefers nobody.
    pub(super) rating: Rating,
    /// When its agent last got a task.
    pub(super) last_served: Option<Timestamp>,
}

/// A poll that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The poll's place in the order of arrival.
    pub(super) number: u64,
    /// How many tasks it may take.
    pub(super) tasks: u32,
}

/// One of the tasks to place that prefers some agents: its place among them all, and whom it prefers.
pub(super) type Preference<'a> = (u32, &'a BTreeSet<AgentId>);

/// Chooses takers for `tasks` ready tasks of one key, at most `polls` of them, in the order in which they are to ask.
///
/// The best takes as many as it asks for and has room for, then the next; among equals a preferred agent, then the one
/// served least recently, then the one that waits longest. Tasks that prefer somebody choose first, one by one; the
/// others then get the places that are left.
pub(super) fn choose(candidates: &[Candidate], polls: usize, tasks: u32, preferring: &[Preference<'_>]) -> Vec<Choice> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by_cached_key(|candidate| Reverse(rank(candidate, None)));
    let mut shares = Shares { polls, of_agent: HashMap::new(), of_poll: BTreeMap::new() };
    let preferring: BTreeMap<u32, &BTreeSet<AgentId>> =
        preferring.iter().filter(|(place, _)| *place < tasks).copied().collect();
    for (place, preferred) in &preferring {
        let open = order.iter().filter(|candidate| shares.open_to(candidate) > 0);
        let Some(best) = open.max_by_key(|candidate| rank(candidate, Some(preferred))) else { break };
        shares.give(best, *place, 1);
    }
    let mut places = (0..tasks).filter(|place| !preferring.contains_key(place));
    let mut left = tasks - u32::try_from(preferring.len()).unwrap_or(tasks);
    for candidate in order {
        // One that asks for more than there is may find something under other keys, too; but where tasks have their
        // takers, it must not take theirs.
        let open = shares.open_to(candidate);
        let share = if preferring.is_empty() { open } else { open.min(left) };
        let Some(place) = (share > 0 && left > 0).then(|| places.next()).flatten() else { continue };
        shares.give(candidate, place, share);
        left = left.saturating_sub(share);
        places.by_ref().take(share as usize - 1).for_each(drop);
    }
    shares.in_order()
}

/// The greatest is the best.
fn rank(candidate: &Candidate, preferred: Option<&BTreeSet<AgentId>>) -> impl Ord + use<> {
    let is_preferred = preferred.is_some_and(|agents| agents.contains(&candidate.agent));
    let rating = if is_preferred { candidate.rating.preferred() } else { candidate.rating };
    (rating.score(), is_preferred, Reverse(candidate.last_served), Reverse(candidate.number))
}

/// What each poll gets so far.
struct Shares<'a> {
    polls: usize,
    of_agent: HashMap<&'a AgentId, u32>,
    /// By the poll's number: the place of its first task, and how many it gets.
    of_poll: BTreeMap<u64, (u32, u32)>,
}

impl<'a> Shares<'a> {
    /// How many tasks more a candidate may be given.
    fn open_to(&self, candidate: &Candidate) -> u32 {
        let (has, agent_has) = (self.of_poll.get(&candidate.number), self.of_agent.get(&candidate.agent));
        if has.is_none() && self.of_poll.len() >= self.polls {
            return 0;
        }
        let asked = candidate.asked.saturating_sub(has.map_or(0, |(_, count)| *count));
        asked.min(candidate.room.saturating_sub(agent_has.copied().unwrap_or(0)))
    }

    fn give(&mut self, candidate: &'a Candidate, place: u32, tasks: u32) {
        *self.of_agent.entry(&candidate.agent).or_default() += tasks;
        let (first, count) = self.of_poll.entry(candidate.number).or_insert((place, 0));
        *first = place.min(*first);
        *count += tasks;
    }

    fn in_order(self) -> Vec<Choice> {
        let mut chosen: Vec<_> = self.of_poll.into_iter().collect();
        chosen.sort_by_key(|(_, (first, _))| *first);
        chosen.into_iter().map(|(number, (_, tasks))| Choice { number, tasks }).collect()
    }
}

#[cfg(test)]
mod tests {
    use eap_core::{BreakerPolicy, RoutingKey, Verdict, Vitals};
    use eap_types::TenantId;

    use super::super::waiting::tests::agent;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    /// A poll of an agent that did `good` and `bad` work, holds `leases` of 5 tasks, and asks for `asked`.
    fn candidate(number: u64, name: &str, (good, bad): (u32, u32), leases: u32, asked: u32) -> Candidate {
        let agent = agent(name, "sum");
        let mut vitals = Vitals::registered(1, at(0));
        for verdict in 0..good + bad {
            let verdict = if verdict < good { Verdict::Success } else { Verdict::Failure };
            let lease_id = eap_types::LeaseId::from_bytes([0; 16]);
            vitals.record.conclude(lease_id, Some(verdict), at(0), &BreakerPolicy::default());
        }
        let key = RoutingKey::of_type(TenantId::default(), "sum".parse().unwrap());
        let rating = Rating::of(&agent, &vitals, leases, &key);
        Candidate { number, agent: agent.id.clone(), asked, room: 5 - leases, rating, last_served: None }
    }

    fn plain(number: u64, name: &str) -> Candidate {
        candidate(number, name, (0, 0), 0, 1)
    }

    fn chosen(choices: &[Choice]) -> Vec<(u64, u32)> {
        choices.iter().map(|choice| (choice.number, choice.tasks)).collect()
    }

    fn names(names: &[&str]) -> BTreeSet<AgentId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_best_score_is_chosen_and_alone() {
        let candidates = [
            candidate(1, "a", (5, 5), 0, 1),
            candidate(2, "b", (7, 3), 4, 1),
            candidate(3, "c", (20, 0), 1, 1),
            candidate(4, "d", (0, 0), 0, 1),
        ];
        assert_eq!(chosen(&choose(&candidates, 9, 1, &[])), [(3, 1)]);
        assert_eq!(chosen(&choose(&candidates, 9, 9, &[])), [(3, 1), (4, 1), (1, 1), (2, 1)]);
        assert_eq!(chosen(&choose(&candidates, 2, 9, &[])), [(3, 1), (4, 1)], "two polls at most");
        assert_eq!(chosen(&choose(&candidates, 9, 0, &[])), []);
        assert_eq!(chosen(&choose(&[], 9, 3, &[])), []);
    }

    #[test]
    fn among_equals_the_one_served_least_recently_then_the_longest_waiting() {
        let served = |second| Some(at(second));
        let candidates = [
            Candidate { last_served: served(20), ..plain(1, "a") },
            Candidate { last_served: served(10), ..plain(2, "b") },
            plain(3, "c"),
            plain(4, "d"),
        ];
        assert_eq!(chosen(&choose(&candidates, 9, 4, &[])), [(3, 1), (4, 1), (2, 1), (1, 1)]);
    }

    #[test]
    fn one_poll_takes_what_it_asks_for_as_far_as_its_agent_has_room() {
        let candidates = [
            candidate(1, "a", (20, 0), 0, 4),
            // The same agent's second poll has the one place that is left.
            candidate(2, "a", (20, 0), 0, 4),
            candidate(3, "a", (20, 0), 0, 4),
            candidate(4, "b", (0, 0), 0, 100),
        ];
        assert_eq!(chosen(&choose(&candidates, 9, 3, &[])), [(1, 4)]);
        assert_eq!(chosen(&choose(&candidates, 9, 20, &[])), [(1, 4), (2, 1), (4, 5)]);
        let on_trial = [Candidate { room: 1, ..candidate(1, "a", (0, 5), 0, 4) }, candidate(2, "b", (0, 0), 3, 1)];
        assert_eq!(chosen(&choose(&on_trial, 9, 9, &[])), [(2, 1), (1, 1)]);
    }

    #[test]
    fn a_preferred_agent_comes_first_unless_another_is_that_much_better() {
        let candidates =
            [plain(1, "a"), plain(2, "b"), candidate(3, "c", (5, 5), 0, 1), candidate(4, "d", (20, 0), 0, 1)];
        let one = |agents: &[&str]| chosen(&choose(&candidates[..3], 9, 1, &[(0, &names(agents))]));
        assert_eq!(one(&["b"]), [(2, 1)]);
        assert_eq!(one(&["a", "b"]), [(1, 1)]);
        assert_eq!(one(&["c"]), [(3, 1)], "0.16 + 0.2 against 0.24");
        assert_eq!(one(&["nobody"]), [(1, 1)], "a preference restricts nothing");
        // d has all of 1 without being preferred; b comes to 1 with it, and a tie goes to the preferred.
        assert_eq!(chosen(&choose(&candidates, 9, 1, &[(0, &names(&["b"]))])), [(2, 1)]);
        assert_eq!(chosen(&choose(&candidates, 9, 1, &[(0, &names(&["c"]))])), [(4, 1)]);
    }

    #[test]
    fn of_several_tasks_each_goes_to_whom_it_prefers_and_in_its_order() {
        let candidates = [candidate(1, "a", (0, 0), 0, 4), candidate(2, "b", (0, 0), 0, 4), plain(3, "c")];
        let (a, b) = (names(&["a"]), names(&["b"]));
        // The third prefers b: without a preference, all three would be a's.
        assert_eq!(chosen(&choose(&candidates, 9, 3, &[(2, &b)])), [(1, 2), (2, 1)]);
        assert_eq!(chosen(&choose(&candidates, 9, 2, &[(0, &b), (1, &a)])), [(2, 1), (1, 1)]);
        // Whom everybody prefers takes what it has room for; the rest goes to others.
        let all: Vec<Preference<'_>> = (0..6).map(|place| (place, &b)).collect();
        assert_eq!(chosen(&choose(&candidates, 9, 6, &all)), [(2, 4), (1, 2)]);
        // What was announced beyond the tasks that are left is nobody's.
        assert_eq!(chosen(&choose(&candidates, 9, 1, &[(5, &b)])), [(1, 4)]);
    }

    #[test]
    fn never_more_is_given_than_asked_and_than_there_is_room() {
        for tasks in 0..40 {
            for polls in 0..6 {
                let candidates = [
                    candidate(1, "a", (20, 0), 2, 2),
                    candidate(2, "a", (20, 0), 2, 3),
                    candidate(3, "b", (0, 0), 0, 7),
                    candidate(4, "c", (5, 5), 4, 9),
                ];
                let (b, c) = (names(&["b"]), names(&["c", "a"]));
                for preferring in [&[][..], &[(0, &b)][..], &[(0, &c), (1, &b), (4, &c)][..]] {
                    let choices = choose(&candidates, polls, tasks, preferring);
                    let given = |name: &str| -> u32 {
                        let of = |choice: &&Choice| candidates[choice.number as usize - 1].agent.as_str() == name;
                        choices.iter().filter(of).map(|choice| choice.tasks).sum()
                    };
                    assert!(choices.len() <= polls && (tasks > 0 || choices.is_empty()));
                    assert!(given("a") <= 3 && given("b") <= 5 && given("c") <= 1);
                    for choice in &choices {
                        assert!((1..=candidates[choice.number as usize - 1].asked).contains(&choice.tasks));
                    }
                    let total = given("a") + given("b") + given("c");
                    if polls >= 4 {
                        assert!(total >= tasks.min(9), "{choices:?} for {tasks} tasks");
                    }
                }
            }
        }
    }
}
