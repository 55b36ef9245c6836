//! A running mock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use eap_types::AgentId;
use eap_types::agentkit::PlatformAgent;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use tracing::{info, warn};

use crate::builder::MockBuilder;
use crate::call::post;
use crate::error::{RegisterError, StartError, TimedOut};
use crate::faults::Faults;
use crate::http::router;
use crate::journal::{Answer, ReceivedCall, SentCall};
use crate::platform;
use crate::registry::Shape;
use crate::shared::{Settings, Shared};
use crate::work::Work;

/// How long a stop waits for what is under way; all of it has been told to end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// An agent platform in this process, until it is stopped or dropped.
#[derive(Debug)]
pub struct MockAgentKit {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Whoever drops the mock without stopping it stops it nevertheless, and does not wait.
    _stop: DropGuard,
}

impl MockAgentKit {
    /// A mock that tells nobody anything, which the builder's methods change.
    pub fn builder() -> MockBuilder {
        MockBuilder::default()
    }

    pub(crate) async fn start(
        listen: SocketAddr,
        settings: Settings,
        faults: Faults,
        work: Work,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared::new(settings, faults, work));
        let (router, stop) = (router(Arc::clone(&shared)), shared.stop.clone());
        let stopped = stop.clone().cancelled_owned();
        shared.tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                warn!(%error, "the mock serves no longer");
            }
        });
        info!(%address, "the mock serves");
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a real agent of this name can be called that the mock is to simulate: its `contactEndpoint`.
    ///
    /// The name is best one that needs no escapes in a URL.
    #[must_use]
    pub fn simulated_endpoint(&self, agent_name: &str) -> String {
        format!("{}{}", self.url(), crate::http::SIMULATED.replace("{agent_name}", agent_name))
    }

    /// Registers an agent in the mock shape, as `POST /v1/agents` does, and waits until the webhook was tried or put off.
    ///
    /// # Errors
    ///
    /// If too much is under way.
    pub async fn register(&self, agent: PlatformAgent) -> Result<(), RegisterError> {
        platform::register(&self.shared, agent, Shape::Mock)?.cancelled().await;
        Ok(())
    }

    /// Registers an agent in the real shape, under the id that it comes with.
    ///
    /// # Errors
    ///
    /// If another agent has its name, or too much is under way.
    pub async fn register_real(&self, agent: PlatformAgent) -> Result<(), RegisterError> {
        platform::register(&self.shared, agent, Shape::Real)?.cancelled().await;
        Ok(())
    }

    /// Takes an agent off, as `DELETE /v1/agents/{id}` does, and waits until the webhook was tried or put off. Says whether it
    /// was there.
    ///
    /// # Errors
    ///
    /// If too much is under way.
    pub async fn remove(&self, agent: &AgentId) -> Result<bool, RegisterError> {
        let Some(attempted) = platform::remove(&self.shared, agent)? else { return Ok(false) };
        attempted.cancelled().await;
        Ok(true)
    }

    /// The agents that are registered, by id.
    #[must_use]
    pub fn agents(&self) -> Vec<PlatformAgent> {
        self.shared.agents.all()
    }

    /// Replaces everything that goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.set_faults(faults);
    }

    /// What goes wrong by now; what was to happen so many times counts down.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults()
    }

    /// Changes how the agents work, from the next task on.
    pub fn set_work(&self, work: Work) {
        self.shared.set_work(work);
    }

    /// Every call that it got, oldest first; those to `/control` are left out. Kept are 10,000, and 64 MiB of bodies.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedCall> {
        self.shared.journal.received()
    }

    /// Every message that it sent or was to send, oldest first, with the answers. Kept are 10,000, and 64 MiB of bodies.
    #[must_use]
    pub fn sent(&self) -> Vec<SentCall> {
        self.shared.journal.sent()
    }

    /// Waits until what it got is enough, and gives it.
    ///
    /// # Errors
    ///
    /// If it is not `within` that time.
    pub async fn received_when(
        &self,
        within: Duration,
        enough: impl Fn(&[ReceivedCall]) -> bool,
    ) -> Result<Vec<ReceivedCall>, TimedOut> {
        let look = self.shared.journal.until(|journal| Some(journal.received()).filter(|calls| enough(calls)));
        tokio::time::timeout(within, look).await.map_err(|_| timed_out(within, &self.received()))
    }

    /// Waits until what it sent is enough, and gives it.
    ///
    /// # Errors
    ///
    /// If it is not `within` that time.
    pub async fn sent_when(
        &self,
        within: Duration,
        enough: impl Fn(&[SentCall]) -> bool,
    ) -> Result<Vec<SentCall>, TimedOut> {
        let look = self.shared.journal.until(|journal| Some(journal.sent()).filter(|calls| enough(calls)));
        tokio::time::timeout(within, look).await.map_err(|_| timed_out(within, &self.sent()))
    }

    /// Sends the bytes of a message again, once, with the headers that it has: a replay. It is not written down.
    pub async fn replay(&self, message: &SentCall) -> Answer {
        let Ok(url) = message.url.parse() else { return Answer::Failed { why: "it has no URL".to_owned() } };
        let mut headers = HeaderMap::new();
        headers.insert(::http::header::CONTENT_TYPE, HeaderValue::from_static(eap_types::header::JSON));
        for (name, value) in &message.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
        let body = Bytes::copy_from_slice(message.body.as_bytes());
        post(&url, headers, body, self.shared.settings.patience.call_timeout).await
    }

    /// Whether no webhook, no task and no forwarded message is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.is_idle()
    }

    /// Takes no more calls, cuts what is under way, and waits until it has ended.
    ///
    /// Gives how many messages were not sent to their end.
    pub async fn stop(self) -> usize {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(STOP_GRACE, self.shared.tasks.wait()).await.is_err() {
            warn!("the mock stopped before all of its calls had ended");
        }
        self.sent().iter().filter(|message| message.is_unfinished()).count()
    }
}

fn timed_out(within: Duration, so_far: &[impl std::fmt::Debug]) -> TimedOut {
    let lines: Vec<String> = so_far.iter().map(|call| format!("{call:?}")).collect();
    TimedOut { within, so_far: if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") } }
}
