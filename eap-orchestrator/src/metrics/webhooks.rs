//! Webhooks of an agent platform, by what became of them.

use super::Counter;
use super::page::Page;
use crate::lifecycle::Noticed;

/// One counter for each way a webhook can end.
#[derive(Debug, Default)]
pub(crate) struct WebhookCounters {
    applied: Counter,
    duplicate: Counter,
    outdated: Counter,
    pub(crate) unsigned: Counter,
    pub(crate) bad_timestamp: Counter,
    pub(crate) outside_window: Counter,
    pub(crate) bad_signature: Counter,
}

impl WebhookCounters {
    /// It was taken.
    pub(crate) fn noticed(&self, noticed: Noticed) {
        let counter = match noticed {
            Noticed::Applied => &self.applied,
            Noticed::Duplicate => &self.duplicate,
            Noticed::Outdated => &self.outdated,
        };
        counter.add(1);
    }

    pub(super) fn tell(&self, page: &mut Page) {
        let mut webhooks =
            page.counter("eap_webhooks_total", "Webhooks of the agent platform, by what became of them.");
        for (outcome, counter) in [
            ("applied", &self.applied),
            ("duplicate", &self.duplicate),
            ("outdated", &self.outdated),
            ("unsigned", &self.unsigned),
            ("bad_timestamp", &self.bad_timestamp),
            ("outside_window", &self.outside_window),
            ("bad_signature", &self.bad_signature),
        ] {
            webhooks.value(&[("outcome", outcome)], counter.get());
        }
    }
}
