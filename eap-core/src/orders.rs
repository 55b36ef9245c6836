//! What operators ask of an agent: to take nothing new, to take work again, to beat at another interval.
//!
//! An order holds from the moment it is given, whether or not the agent has heard of it; the directive that tells the
//! agent is repeated until it says so.

use std::time::Duration;

use eap_types::{Directive, DirectiveId, DirectiveKind, Timestamp};
use serde::{Deserialize, Serialize};

/// The orders that stand for one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// It gets no work until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainOrder>,
    /// It gets work again, and has not heard of that yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<DirectiveId>,
    /// It is to beat at an interval of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<IntervalOrder>,
}

/// The order to take nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// The directive that tells the agent.
    pub id: DirectiveId,
    /// Since when.
    pub at: Timestamp,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the agent said that it has heard.
    #[serde(default)]
    pub is_heard: bool,
}

/// The order to beat at another interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalOrder {
    /// The directive that tells the agent.
    pub id: DirectiveId,
    /// Since when.
    pub at: Timestamp,
    /// The interval.
    #[serde(with = "crate::seconds")]
    pub interval: Duration,
    /// What the agent may go by until it has heard: the longest of those it could still know.
    #[serde(with = "crate::seconds")]
    pub before: Duration,
    /// Whether the agent said that it has heard.
    #[serde(default)]
    pub is_heard: bool,
}

impl Orders {
    /// Whether there are none.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// The orders once it is drained; `None` if it is so already.
    #[must_use]
    pub fn drained(&self, id: DirectiveId, reason: Option<String>, now: Timestamp) -> Option<Self> {
        let drain = DrainOrder { id, at: now, reason, is_heard: false };
        self.drain.is_none().then(|| Self { drain: Some(drain), resume: None, ..self.clone() })
    }

    /// The orders once it is resumed; `None` if it is not drained. `id` is that of the directive, if the agent understands
    /// any.
    #[must_use]
    pub fn resumed(&self, id: Option<DirectiveId>) -> Option<Self> {
        self.drain.is_some().then(|| Self { drain: None, resume: id, ..self.clone() })
    }

    /// The orders once it is to beat at `interval`; `None` if it is so already. It beats at `usual` without any order.
    #[must_use]
    pub fn paced(&self, id: DirectiveId, interval: Duration, usual: Duration, now: Timestamp) -> Option<Self> {
        if self.interval.as_ref().is_some_and(|order| order.interval == interval) {
            return None;
        }
        let before = self.silence_unit(usual);
        let order = IntervalOrder { id, at: now, interval, before, is_heard: false };
        Some(Self { interval: Some(order), ..self.clone() })
    }

    /// The orders once the agent has heard of these directives; `None` if that changes nothing.
    #[must_use]
    pub fn heard(&self, acknowledged: &[DirectiveId]) -> Option<Self> {
        let mut next = self.clone();
        if let Some(drain) = next.drain.as_mut().filter(|drain| acknowledged.contains(&drain.id)) {
            drain.is_heard = true;
        }
        next.resume = next.resume.filter(|id| !acknowledged.contains(id));
        if let Some(order) = next.interval.as_mut().filter(|order| acknowledged.contains(&order.id)) {
            order.is_heard = true;
        }
        (next != *self).then_some(next)
    }

    /// The orders of the process that registers next: it knows of no drain, takes work by itself, and is told the interval
    /// with its registration.
    #[must_use]
    pub fn of_next_epoch(&self) -> Self {
        let mut next = Self { resume: None, ..self.clone() };
        if let Some(drain) = &mut next.drain {
            drain.is_heard = false;
        }
        if let Some(order) = &mut next.interval {
            order.is_heard = true;
        }
        next
    }

    /// The interval at which it is to beat, `usual` unless there is an order.
    #[must_use]
    pub fn interval(&self, usual: Duration) -> Duration {
        self.interval.as_ref().map_or(usual, |order| order.interval)
    }

    /// The interval by which its silence is judged: the longer of old and new until it has heard of the new one.
    #[must_use]
    pub fn silence_unit(&self, usual: Duration) -> Duration {
        match &self.interval {
            None => usual,
            Some(order) if order.is_heard => order.interval,
            Some(order) => order.interval.max(order.before),
        }
    }

    /// What there is to tell the agent.
    pub fn directives(&self) -> impl Iterator<Item = Directive> {
        let drain = self
            .drain
            .as_ref()
            .filter(|drain| !drain.is_heard)
            .map(|drain| Directive::new(drain.id.clone(), DirectiveKind::Drain { reason: drain.reason.clone() }));
        let resume = self.resume.clone().map(|id| Directive::new(id, DirectiveKind::Resume));
        let interval = self.interval.as_ref().filter(|order| !order.is_heard).map(|order| {
            let heartbeat_interval_seconds = order.interval.as_secs();
            Directive::new(order.id.clone(), DirectiveKind::SetInterval { heartbeat_interval_seconds })
        });
        [drain, resume, interval].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: Duration = Duration::from_secs(30);

    fn id(word: &str) -> DirectiveId {
        word.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn told(orders: &Orders) -> Vec<String> {
        orders.directives().map(|directive| directive.id.as_str().to_owned()).collect()
    }

    #[test]
    fn a_drain_holds_at_once_and_is_told_until_it_is_heard() {
        let orders = Orders::default().drained(id("d-1"), Some("upgrade".to_owned()), at(1)).unwrap();
        assert_eq!(told(&orders), ["d-1"]);
        assert_eq!(orders.drained(id("d-2"), None, at(2)), None, "it is drained already");
        assert_eq!(orders.heard(&[id("another")]), None);
        let heard = orders.heard(&[id("another"), id("d-1")]).unwrap();
        assert!(heard.drain.is_some() && told(&heard).is_empty());
        assert_eq!(heard.heard(&[id("d-1")]), None, "once is enough");
        assert_eq!(told(&heard.of_next_epoch()), ["d-1"], "who comes next has not heard");
    }

    #[test]
    fn a_resume_ends_the_drain_and_is_told_in_its_place() {
        let orders = Orders::default().drained(id("d-1"), None, at(1)).unwrap();
        assert_eq!(Orders::default().resumed(Some(id("r-1"))), None, "it is not drained");
        let resumed = orders.resumed(Some(id("r-1"))).unwrap();
        assert_eq!((resumed.drain.is_none(), told(&resumed)), (true, vec!["r-1".to_owned()]));
        assert!(resumed.heard(&[id("r-1")]).unwrap().is_blank());
        assert!(resumed.of_next_epoch().is_blank(), "who comes next takes work anyway");
        assert_eq!(told(&resumed.drained(id("d-2"), None, at(2)).unwrap()), ["d-2"]);
        assert!(orders.resumed(None).unwrap().is_blank(), "whoever understands no directive is told nothing");
    }

    #[test]
    fn silence_is_judged_by_the_longer_interval_until_the_new_one_is_heard() {
        let seconds = Duration::from_secs;
        let paced = |orders: &Orders, word: &str, interval| orders.paced(id(word), seconds(interval), H, at(1));
        let usual = Orders::default();
        assert_eq!((usual.interval(H), usual.silence_unit(H)), (H, H));
        let slower = paced(&usual, "i-1", 300).unwrap();
        assert_eq!((slower.interval(H), slower.silence_unit(H)), (seconds(300), seconds(300)));
        assert_eq!(paced(&slower, "i-2", 300), None);
        // It may have heard of the 300 s or not, and is to beat every 5 s now.
        let faster = paced(&slower, "i-2", 5).unwrap();
        assert_eq!((faster.interval(H), faster.silence_unit(H)), (seconds(5), seconds(300)));
        assert_eq!(told(&faster), ["i-2"]);
        let heard = faster.heard(&[id("i-2")]).unwrap();
        assert_eq!((heard.silence_unit(H), told(&heard)), (seconds(5), vec![]));
        assert_eq!(faster.of_next_epoch().silence_unit(H), seconds(5), "the registration says it");
        let text = serde_json::to_string(&faster).unwrap();
        assert_eq!(serde_json::from_str::<Orders>(&text).unwrap(), faster);
    }
}
