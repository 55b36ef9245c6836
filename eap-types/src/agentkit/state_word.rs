//! The words for how an agent of a platform is doing, compared whatever their case.

/// How an agent is doing, as far as its word is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateWord {
    /// `unknown`: it has not said yet.
    Unknown,
    /// `initializing`: it does not take work yet.
    Initializing,
    /// `idle`: it takes work.
    Idle,
    /// `active` or `busy`: it is at work.
    Active,
    /// `error`: something went wrong.
    Error,
    /// `finished`: it is done with its work and takes more.
    Finished,
    /// A word of the agent's own.
    Other,
}

impl StateWord {
    /// The state before an agent has said any.
    pub const INITIAL: &'static str = "UNKNOWN";
    /// The word for an agent at work that the agents of AgentKit use.
    pub const BUSY: &'static str = "BUSY";
    /// The word for an agent that takes work.
    pub const IDLE: &'static str = "IDLE";
    /// The word for an agent that failed.
    pub const ERROR: &'static str = "ERROR";

    /// Every word that is known.
    const KNOWN: [(&'static str, Self); 7] = [
        ("unknown", Self::Unknown),
        ("initializing", Self::Initializing),
        ("idle", Self::Idle),
        ("active", Self::Active),
        ("busy", Self::Active),
        ("error", Self::Error),
        ("finished", Self::Finished),
    ];

    /// What a word says, in any case.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        known.map_or(Self::Other, |(_, state)| state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_in_any_case_and_busy_is_active() {
        for (word, state) in StateWord::KNOWN {
            assert_eq!((StateWord::of(word), StateWord::of(&word.to_uppercase())), (state, state), "{word}");
        }
        assert_eq!((StateWord::of("Busy"), StateWord::of("aCTIVE")), (StateWord::Active, StateWord::Active));
        assert_eq!(StateWord::of(StateWord::INITIAL), StateWord::Unknown);
        assert_eq!(StateWord::of(StateWord::BUSY), StateWord::Active);
        assert_eq!(StateWord::of(StateWord::IDLE), StateWord::Idle);
        assert_eq!(StateWord::of(StateWord::ERROR), StateWord::Error);
        for word in ["", "asleep", "idle ", "unknown!"] {
            assert_eq!(StateWord::of(word), StateWord::Other, "{word:?}");
        }
    }
}
