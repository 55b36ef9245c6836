//! Webhooks can be lost: the platform's own list of agents is compared with what is known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eap_core::{Agent, Standing};
use eap_types::agentkit::{AgentNotification, PlatformAgent, PlatformReply, Reconciled};
use eap_types::{AgentId, RawJson, from_json, path};
use http::{Method, Request};
use tracing::{debug, info, warn};

use super::platform::platform_agent_changed;
use super::{Lifecycle, Noticed, Notified};
use crate::clock::draw_chance;
use crate::error::{Error, causes};
use crate::outbound::{CallLimits, Configured, OutboundCall};

/// How long the platform may take to answer, and how large its list may be.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 8 * 1024 * 1024;
/// The longest pause between two tries at the start.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Lifecycle {
    /// Brings what is known of the platform's agents in line with its own list, and says what that changed.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<Reconciled, Error> {
        let base = self.config.agentkit.as_ref().and_then(|face| face.url.as_deref()).ok_or(Error::NoPlatform)?;
        let outbound = self.outbound.clone().ok_or(Error::NoPlatform)?;
        // What a webhook says that is sent from now on is newer than the list, and so is one that comes from now on: they are
        // signed to the second, by another clock.
        let asked_at = self.clock.now();
        let before = self.directory.of_platform();
        let is_as_before = |id: &AgentId| {
            let now = self.directory.get(id).filter(|entry| entry.agent.platform.is_some());
            match (before.get(id), now) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, &now.agent),
                (before, now) => before.is_none() && now.is_none(),
            }
        };
        let (listed, mut skipped) = listed(&*outbound, base).await?;
        let mut done = Reconciled::new();
        let ids: BTreeSet<_> = listed.iter().map(|agent| agent.agent_id.clone()).collect();
        for told in listed {
            let id = told.agent_id.clone();
            if !is_as_before(&id) {
                continue;
            }
            let known = self.directory.get(&id);
            let is_new = known.as_ref().is_none_or(|entry| is_gone(&entry.agent));
            if known.is_some_and(|entry| !platform_agent_changed(&entry.agent, &told)) {
                continue;
            }
            let notified = Notified { told: AgentNotification::Register(told), sent_at: asked_at, digest: None };
            match self.notified(notified).await {
                Ok(Noticed::Applied) if is_new => done.added.push(id),
                Ok(Noticed::Applied) => done.changed.push(id),
                Ok(_) => {}
                Err(error @ (Error::Store(_) | Error::Busy { .. } | Error::Broken)) => return Err(error),
                Err(refused) => {
                    debug!(agent.id = %id, %refused, "an agent of the platform's list is not taken");
                    skipped += 1;
                }
            }
        }
        for (id, agent) in &before {
            if ids.contains(id) || agent.standing != Standing::Active || !is_as_before(id) {
                continue;
            }
            let notified =
                Notified { told: AgentNotification::Deregister(id.clone()), sent_at: asked_at, digest: None };
            if self.notified(notified).await? == Noticed::Applied {
                done.removed.push(id.clone());
            }
        }
        done.skipped = skipped;
        let Reconciled { added, changed, removed, .. } = &done;
        info!(
            added = added.len(),
            changed = changed.len(),
            removed = removed.len(),
            skipped,
            "reconciled with the platform"
        );
        Ok(done)
    }

    /// The same at the start, as often as it takes until the platform has answered once.
    pub(crate) async fn reconcile_at_start(self: Arc<Self>) {
        let mut pause = self.config.timing.sweep_interval;
        loop {
            match self.stop.run_until_cancelled(self.reconcile()).await {
                None | Some(Ok(_) | Err(Error::NoPlatform)) => return,
                Some(Err(error @ Error::PlatformUnlisted)) => return info!(%error, "a webhook that is lost stays lost"),
                Some(Err(error)) => {
                    warn!(%error, "the agents of the platform are those of its webhooks, until it can be asked");
                }
            }
            // Half of it at least: a platform that is down is not asked at once again.
            let share = 0.5 + draw_chance(&*self.entropy).get() / 2.0;
            if self.stop.run_until_cancelled(tokio::time::sleep(pause.mul_f64(share))).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The platform's list, and how many of its entries make no sense.
async fn listed(outbound: &dyn OutboundCall, base: &str) -> Result<(Vec<PlatformAgent>, u32), Error> {
    let silent = |reason: String| Error::PlatformSilent { reason };
    let url = crate::outbound::below(base, path::PLATFORM_AGENTS).ok_or(Error::NoPlatform)?;
    let request = Request::builder().method(Method::GET).uri(url).extension(Configured).body(Bytes::new());
    let request = request.map_err(|error| silent(error.to_string()))?;
    let limits = CallLimits::headers_within(PATIENCE).with_answer(LONGEST);
    let answer = outbound.call(request, limits).await.map_err(|error| silent(causes(&error)))?;
    if matches!(answer.status().as_u16(), 404 | 405 | 501) {
        return Err(Error::PlatformUnlisted);
    }
    if !answer.status().is_success() {
        return Err(silent(format!("its answer has status {}", answer.status().as_u16())));
    }
    let entries = serde_json::from_slice::<PlatformReply>(answer.body()).ok().and_then(|reply| reply.data);
    let entries: Option<Vec<RawJson>> = entries.and_then(|data| data.decode().ok());
    // Without a list nobody is taken for gone.
    let entries = entries.ok_or_else(|| silent("its answer has no list of agents".to_owned()))?;
    let mut skipped = 0;
    let read = |entry: RawJson| from_json(entry.as_str().as_bytes()).inspect_err(|_| skipped += 1).ok();
    let agents = entries.into_iter().filter_map(read).collect();
    Ok((agents, skipped))
}

fn is_gone(agent: &Agent) -> bool {
    matches!(agent.standing, Standing::Deregistered { .. })
}
