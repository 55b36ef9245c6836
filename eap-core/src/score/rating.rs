//! How well an agent suits a task: the score and its parts.

use eap_types::{AgentTier, HealthStatus, LoadBand};

use crate::agent::{Agent, Vitals};
use crate::routing::RoutingKey;

/// A part of one, in millionths: whole numbers, so that equal scores are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u32);

impl Score {
    /// The best there is.
    pub const ONE: Self = Self(1_000_000);

    /// The number between 0 and 1.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE.0)
    }

    const fn hundredths(count: u32) -> Self {
        Self(count * 10_000)
    }
}

/// How well an agent suits a task, in parts that carry their weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rating {
    /// For its tier, at most 0.4.
    pub tier: Score,
    /// For how little it can do beside what is required, at most 0.3: those that can do more are kept for it.
    pub capability_match: Score,
    /// For the room it has, at most 0.2.
    pub load: Score,
    /// For how it says it is doing, at most 0.1; none if it was not heard of for too long.
    pub availability: Score,
    /// 0.2 if the task prefers it.
    pub preferred: Score,
}

impl Rating {
    /// Rates an agent that holds `leases` tasks against a task of this key that prefers nobody.
    #[must_use]
    pub fn of(agent: &Agent, vitals: &Vitals, leases: u32, key: &RoutingKey) -> Self {
        Self {
            tier: tier(vitals.record.tier()),
            capability_match: capability_match(key.required_capabilities.len(), agent.capabilities.len()),
            load: load(load_band(leases, agent.max_concurrent_tasks)),
            availability: availability(vitals.status),
            preferred: Score::default(),
        }
    }

    /// The same for a task that prefers the agent.
    #[must_use]
    pub fn preferred(self) -> Self {
        Self { preferred: Score::hundredths(20), ..self }
    }

    /// The same for an agent that is suspect by its silence.
    #[must_use]
    pub fn suspect(self) -> Self {
        Self { availability: Score::default(), ..self }
    }

    /// The sum of the parts, at most 1.
    #[must_use]
    pub fn score(&self) -> Score {
        let Self { tier, capability_match, load, availability, preferred } = self;
        let sum = tier.0 + capability_match.0 + load.0 + availability.0 + preferred.0;
        Score(sum).min(Score::ONE)
    }
}

fn tier(tier: AgentTier) -> Score {
    Score::hundredths(match tier {
        AgentTier::Elite => 40,
        AgentTier::Advanced => 32,
        AgentTier::Competent => 24,
        AgentTier::Trainee => 16,
        _ => 0,
    })
}

fn capability_match(required: usize, offered: usize) -> Score {
    let most = u64::from(Score::hundredths(30).0);
    let (required, offered) = (required as u64, (offered as u64).max(1));
    // Rounded to the nearest millionth, so that three thirds are one.
    let part = (most * required.min(offered) + offered / 2) / offered;
    Score(u32::try_from(part).unwrap_or(u32::MAX))
}

/// How much of `most` tasks `leases` are.
#[must_use]
pub fn load_band(leases: u32, most: u32) -> LoadBand {
    let (leases, most) = (u64::from(leases), u64::from(most));
    match leases {
        _ if leases >= most => LoadBand::Full,
        0 => LoadBand::Idle,
        _ if leases * 2 < most => LoadBand::Optimal,
        _ if leases * 5 < most * 4 => LoadBand::High,
        _ => LoadBand::Critical,
    }
}

fn load(band: LoadBand) -> Score {
    Score::hundredths(match band {
        LoadBand::Idle => 20,
        LoadBand::Optimal => 16,
        LoadBand::High => 10,
        LoadBand::Critical => 4,
        _ => 0,
    })
}

/// One that has not said anything yet counts as healthy.
fn availability(status: Option<HealthStatus>) -> Score {
    Score::hundredths(match status {
        None | Some(HealthStatus::Healthy) => 10,
        Some(HealthStatus::Degraded) => 5,
        Some(_) => 0,
    })
}
