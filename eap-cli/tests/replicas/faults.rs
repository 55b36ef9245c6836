//! What can happen to a replica.

use crate::chance::Chance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9`, and it is started again.
    Kill,
    /// It is stopped for longer than a lease, and goes on.
    Stop,
    /// It does not reach its database for a while: connections break, or what it says is swallowed.
    CutOff,
}

impl Fault {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        match chance.below(3) {
            0 => Self::Kill,
            1 => Self::Stop,
            _ => Self::CutOff,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "replica killed",
            Self::Stop => "replica stopped",
            Self::CutOff => "replica cut off",
        }
    }
}
