//! Tells the orchestrator that agents came and left: in order and signed, unless a fault says otherwise.

use std::sync::Arc;
use std::time::Duration;

use eap_types::Timestamp;
use eap_types::agentkit::{self, AgentKitSecret, AgentNotification};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::delivery::Letter;
use crate::faults::WebhookFaults;
use crate::journal::{Ending, SentKind};
use crate::registry::Turn;
use crate::shared::{Settings, Shared};

/// How long a webhook that is to come out of order waits for one to go first.
const LONGEST_HOLD: Duration = Duration::from_secs(2);
/// What is signed in place of the body of a forged webhook.
const ANOTHER_BODY: &[u8] = b"{}";
const WRONG_SECRET: &str = "a secret that nobody shares";

/// Sends a webhook by itself. What it gives is cancelled once it was tried, or put off by a fault.
pub(crate) fn announce(
    shared: &Arc<Shared>,
    notification: &AgentNotification,
    turn: Turn,
    room: OwnedSemaphorePermit,
) -> CancellationToken {
    let attempted = CancellationToken::new();
    let Some(url) = shared.settings.webhook_url.clone() else {
        attempted.cancel();
        turn.over.cancel();
        return attempted;
    };
    let faults = shared.webhook_faults();
    let letter = letter(&shared.settings, &faults, notification, turn.at, url);
    // In the journal at once: whoever waits for it need not ask whether it was begun.
    let number = letter.announce(shared);
    let (shared_too, attempted_too) = (Arc::clone(shared), attempted.clone());
    shared.tasks.spawn(async move {
        // Whatever way this ends, nobody waits for it any longer.
        let (_tried, _over, _room) = (attempted_too.clone().drop_guard(), turn.over.clone().drop_guard(), room);
        let sending = Sending { shared: &shared_too, letter: &letter, number, attempted: &attempted_too };
        let ending = sending.carry_out(&faults, turn.before.as_ref(), &turn.over).await;
        shared_too.journal.ended(number, ending);
    });
    attempted
}

fn letter(
    settings: &Settings,
    faults: &WebhookFaults,
    notification: &AgentNotification,
    at: Timestamp,
    url: Url,
) -> Letter {
    let body = serde_json::to_string(notification).expect("notifications can be written");
    let wrong = || AgentKitSecret::new(WRONG_SECRET).expect("it is not empty");
    let secret = if faults.wrong_secret { Some(wrong()) } else { settings.secret.clone() };
    let sent_at =
        Timestamp::from_micros(at.as_micros().saturating_add(faults.clock_offset_seconds.saturating_mul(1_000_000)));
    let signed_body = if faults.forge { ANOTHER_BODY } else { body.as_bytes() };
    let sign = if settings.signs_rfc3339 { agentkit::sign_rfc3339 } else { agentkit::sign };
    let signed = secret.filter(|_| !faults.unsigned).map(|secret| sign(&secret, sent_at, signed_body));
    let headers = signed.iter().flat_map(agentkit::Signed::headers);
    Letter {
        kind: match notification {
            AgentNotification::Register(_) => SentKind::Register,
            _ => SentKind::Deregister,
        },
        agent_id: notification.agent_id().clone(),
        at,
        url,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body,
        bearer: None,
    }
}

struct Sending<'a> {
    shared: &'a Shared,
    letter: &'a Letter,
    number: u64,
    attempted: &'a CancellationToken,
}

impl Sending<'_> {
    async fn carry_out(
        &self,
        faults: &WebhookFaults,
        before: Option<&CancellationToken>,
        over: &CancellationToken,
    ) -> Ending {
        let shared = self.shared;
        // Also if it is never sent: whatever comes after it waits for it alone.
        if let Some(before) = before
            && shared.unless_stopped(before.cancelled()).await.is_none()
        {
            return Ending::Cut;
        }
        if faults.drop {
            return Ending::Dropped;
        }
        if let Some(by) = faults.late {
            self.put_off(over);
            if shared.unless_stopped(tokio::time::sleep(by)).await.is_none() {
                return Ending::Cut;
            }
        }
        let held = if faults.reorder { shared.hold() } else { None };
        if let Some(released) = &held {
            self.put_off(over);
            let wait = tokio::time::timeout(LONGEST_HOLD, released.cancelled());
            if !matches!(shared.unless_stopped(wait).await, Some(Ok(()))) {
                // Nobody went first: the next one may be held.
                shared.release();
            }
        }
        let ending = self.letter.send(shared, self.number, self.attempted).await;
        if held.is_none() {
            shared.release();
        }
        for _ in 0..faults.duplicate {
            if ending == Ending::Cut
                || shared.unless_stopped(self.letter.send_once(shared, self.number)).await.is_none()
            {
                return Ending::Cut;
            }
        }
        ending
    }

    /// Lets whatever comes after it go first, and nobody wait for it.
    fn put_off(&self, over: &CancellationToken) {
        over.cancel();
        self.attempted.cancel();
    }
}
