//! Describing an agent, and checking all of the description at once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eap_client::{AgentClient, HttpCall, ReqwestCall};
use eap_types::{
    AgentName, AgentType, Capabilities, Capability, Feature, InstanceId, JsonObject, Labels, RawJson, Registration,
    Secret, TaskType, Timestamp, limits,
};
#[cfg(any(feature = "push", feature = "websocket"))]
use eap_types::{Features, TransportKind};
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;
use crate::chance::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::context::TaskContext;
use crate::driver::{DriverParts, OnRefused, restore};
use crate::error::Error;
use crate::failure::HandlerError;
use crate::handler::{Handler, Typed};
use crate::heart::HeartParts;
use crate::identity::{DataDir, Identity};
use crate::input::Task;
use crate::leases::Leases;
use crate::outbox::Outbox;
use crate::outbox_file::OutboxFile;
use crate::pull::Pull;
#[cfg(feature = "push")]
use crate::push::Pushed;
use crate::registrar::Papers;
use crate::report::Refused;
use crate::session::LeaseRules;
use crate::shared::Shared;
#[cfg(feature = "websocket")]
use crate::socket::Socketed;
use crate::transport::Transport;

const MAX_VERSION_CHARS: usize = 64;
const OUTAGE_GRACE: Duration = Duration::from_secs(600);
const DRAIN_GRACE: Duration = Duration::from_secs(30);
/// Two agents with one identity meet within a heartbeat or a poll, whichever is longer.
const TENURE_MARGIN: Duration = Duration::from_secs(10);
/// The length of a lease of an earlier process, which the orchestrator corrects with the first beat.
const USUAL_LEASE: Duration = Duration::from_secs(60);

/// Describes an agent; [`AgentBuilder::build`] checks the description as a whole.
#[must_use]
pub struct AgentBuilder {
    url: String,
    name: String,
    handlers: Vec<(String, Arc<dyn Handler>)>,
    task_schemas: Vec<(String, Value)>,
    capabilities: Vec<String>,
    labels: Vec<(String, String)>,
    version: Option<String>,
    agent_type: AgentType,
    metadata: Option<Value>,
    max_concurrent_tasks: u32,
    registration_secret: Option<Secret>,
    instance_id: Option<String>,
    data_dir: Option<PathBuf>,
    outage_grace: Duration,
    drain_grace: Duration,
    fence_locally: bool,
    poll_wait: Duration,
    #[cfg(feature = "push")]
    push: Option<crate::push::Push>,
    #[cfg(feature = "websocket")]
    websocket: bool,
    http: Option<Arc<dyn HttpCall>>,
    on_refused: Option<OnRefused>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl AgentBuilder {
    pub(crate) fn new(url: String, name: String) -> Self {
        Self {
            url,
            name,
            handlers: Vec::new(),
            task_schemas: Vec::new(),
            capabilities: Vec::new(),
            labels: Vec::new(),
            version: None,
            agent_type: AgentType::default(),
            metadata: None,
            max_concurrent_tasks: limits::DEFAULT_CONCURRENT_TASKS,
            registration_secret: None,
            instance_id: None,
            data_dir: None,
            outage_grace: OUTAGE_GRACE,
            drain_grace: DRAIN_GRACE,
            fence_locally: false,
            poll_wait: limits::DEFAULT_LEASE_WAIT,
            #[cfg(feature = "push")]
            push: None,
            #[cfg(feature = "websocket")]
            websocket: false,
            http: None,
            on_refused: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// Does tasks of this type with an async function; the type becomes a capability of the agent.
    ///
    /// The function takes any type that serde can read and gives any that it can write: `String` is
    /// the input's text, `serde_json::Value` its JSON or else its text, any other type is read from
    /// the text as JSON. A handler that gives artifacts uses [`AgentBuilder::handle_with`].
    pub fn handle<T, O, F, R>(self, task_type: impl Into<String>, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Task<T>, TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        self.handle_with(task_type, Typed::new(handler))
    }

    /// Does tasks of this type with an async function, as [`AgentBuilder::handle`] does, and publishes the JSON Schema of
    /// its input: what does not fit is refused when it is submitted, with every problem, instead of failing here.
    ///
    /// ```
    /// use eap_agent_sdk::{Agent, HandlerError, Task, TaskContext, schemars};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Order {
    ///     item: String,
    ///     #[schemars(range(min = 1))]
    ///     count: u32,
    /// }
    ///
    /// async fn pack(order: Task<Order>, _: TaskContext) -> Result<String, HandlerError> {
    ///     Ok(format!("{} x {}", order.input.count, order.input.item))
    /// }
    ///
    /// let agent = Agent::builder("http://127.0.0.1:8080", "packer").handle_typed("order.pack", pack).build()?;
    /// # Ok::<(), eap_agent_sdk::Error>(())
    /// ```
    pub fn handle_typed<T, O, F, R>(self, task_type: impl Into<String>, handler: F) -> Self
    where
        T: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Task<T>, TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, HandlerError>> + Send + 'static,
    {
        let task_type = task_type.into();
        self.task_schema(task_type.clone(), schema_for!(T).to_value()).handle(task_type, handler)
    }

    /// Publishes a JSON Schema of a task type's input, in the place of one published before; for a [`Handler`], which
    /// has no type of its own. All schemas of an agent have at most 40 KiB together.
    pub fn task_schema(mut self, task_type: impl Into<String>, schema: Value) -> Self {
        self.task_schemas.push((task_type.into(), schema));
        self
    }

    /// Does tasks of this type with a [`Handler`]; the type becomes a capability of the agent.
    ///
    /// An agent with one handler uses it for every task it gets, whatever the type.
    pub fn handle_with(mut self, task_type: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.push((task_type.into(), Arc::new(handler)));
        self
    }

    /// Announces a capability beside those of the handlers.
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.capabilities.push(capability.into());
        self
    }

    /// Sets a free word to route by, as in `region=eu`.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Sets the agent's own version, at most 64 characters. Default `1.0.0`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the kind of agent, for people and statistics. Default `implementer`.
    pub fn agent_type(mut self, agent_type: AgentType) -> Self {
        self.agent_type = agent_type;
        self
    }

    /// Sets what else there is to say about the agent: a JSON object of at most 16 KiB.
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Sets how many tasks run at once, 1 to 1000. Default 5.
    pub fn max_concurrent_tasks(mut self, tasks: u32) -> Self {
        self.max_concurrent_tasks = tasks;
        self
    }

    /// Sets the registration secret of the orchestrator. Default none, which only a loopback takes.
    pub fn registration_secret(mut self, secret: impl Into<String>) -> Self {
        self.registration_secret = Some(Secret::new(secret));
        self
    }

    /// Tells this agent apart from others of its name, 1 to 128 visible characters.
    ///
    /// Default: the one kept in the data directory, else a random one for each process.
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// Keeps identity and unsent results in this directory, which one process at a time can use.
    ///
    /// It is made if need be; what is in it is readable by its owner alone. Default: memory, so that
    /// a crash costs unsent results, which other attempts then make again.
    ///
    /// It belongs to the agent's name and the orchestrator's URL, and serves no other.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Sets how long past the end of a lease a handler keeps running while nothing answers.
    /// Default 10 minutes.
    pub fn outage_grace(mut self, grace: Duration) -> Self {
        self.outage_grace = grace;
        self
    }

    /// Sets how long a stopping agent waits for its handlers. Default 30 seconds.
    ///
    /// It bounds the agent, not the process: a handler that blocks its thread cannot be cut off, and a
    /// runtime as `#[tokio::main]` makes it waits for that thread at exit. Such work belongs into a
    /// process of its own, or the program ends with `std::process::exit`.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Stops a handler when its lease ends by the agent's own count, without any grace.
    ///
    /// For handlers whose effects must not overlap with those of the next attempt.
    pub fn fence_locally(mut self) -> Self {
        self.fence_locally = true;
        self
    }

    /// Sets how long a request for tasks waits for one, in whole seconds, at most 60. Default 25.
    pub fn poll_wait(mut self, wait: Duration) -> Self {
        self.poll_wait = wait;
        self
    }

    /// Has tasks pushed to the agent instead of asking for them; the handlers stay as they are.
    #[cfg(feature = "push")]
    pub fn push(mut self, push: crate::push::Push) -> Self {
        self.push = Some(push);
        self
    }

    /// Keeps a WebSocket open that tasks come over, and over which results and progress go; the handlers stay as they are.
    ///
    /// While there is none, as behind a proxy that lets none through, the agent asks for its tasks and posts its reports,
    /// and tries again, at first soon and then once a minute.
    #[cfg(feature = "websocket")]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// Makes all calls through this, from both of the agent's threads. Default: sockets.
    pub fn http(mut self, http: Arc<dyn HttpCall>) -> Self {
        self.http = Some(http);
        self
    }

    /// Calls this for each result that the orchestrator refused for good, on the agent's own task:
    /// it must not block.
    pub fn on_refused(mut self, callback: impl Fn(Refused) + Send + Sync + 'static) -> Self {
        self.on_refused = Some(Arc::new(callback));
        self
    }

    /// Sets what tells the time. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets what draws random numbers. Default: the system's.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Checks the description, opens the data directory and puts the agent together.
    ///
    /// Nothing is sent before the agent is started.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names everything that is wrong with the description; the other errors are
    /// about the data directory.
    pub fn build(self) -> Result<Agent, Error> {
        let mut problems = Vec::new();
        let name: Option<AgentName> = noted(&mut problems, self.name.parse());
        let handlers = self.checked_handlers(&mut problems);
        let capabilities = self.checked_capabilities(&mut problems);
        let task_schemas = self.checked_schemas(&mut problems);
        let labels = noted(&mut problems, Labels::new(self.labels.iter().cloned()));
        let metadata = self.checked_metadata(&mut problems);
        let instance_id: Option<Option<InstanceId>> =
            noted(&mut problems, self.instance_id.as_ref().map(|id| id.parse()).transpose());
        let http = match &self.http {
            Some(http) => Some(http.clone()),
            None => noted(&mut problems, ReqwestCall::new()).map(|call| Arc::new(call) as Arc<dyn HttpCall>),
        };
        let client = http.and_then(|http| noted(&mut problems, AgentClient::new(&self.url, http)));
        self.check_numbers(&mut problems);
        let (Some(name), Some(capabilities), Some(labels), Some(metadata), Some(instance_id), Some(client), []) =
            (name, capabilities, labels, metadata, instance_id, client, problems.as_slice())
        else {
            return Err(Error::Invalid { problems });
        };
        if !name.is_opencode() {
            warn!(%name, "OpenCode would refuse the name: it wants AGENT- and capital letters");
        }
        let mut registration = Registration::new(name, capabilities)
            .with_agent_type(self.agent_type.clone())
            .with_labels(labels)
            .with_metadata(metadata)
            .with_max_concurrent_tasks(self.max_concurrent_tasks)
            .with_features([
                Feature::PullV1,
                Feature::ProgressV1,
                Feature::DirectivesV1,
                Feature::CancelV1,
                Feature::RotateV1,
                Feature::ArtifactsV1,
            ]);
        registration.task_schemas = task_schemas;
        if let Some(version) = &self.version {
            registration = registration.with_version(version);
        }
        self.assemble(registration, instance_id, client, handlers)
    }

    fn checked_handlers(&self, problems: &mut Vec<String>) -> HashMap<TaskType, Arc<dyn Handler>> {
        let mut handlers = HashMap::new();
        for (task_type, handler) in &self.handlers {
            match task_type.parse::<TaskType>() {
                Ok(known) if handlers.contains_key(&known) => {
                    problems.push(format!("the task type {known} has two handlers"));
                }
                Ok(new) => {
                    handlers.insert(new, handler.clone());
                }
                Err(error) => problems.push(format!("handler {task_type:?}: {error}")),
            }
        }
        if self.handlers.is_empty() {
            problems.push("the agent has no handler".to_owned());
        }
        handlers
    }

    fn checked_capabilities(&self, problems: &mut Vec<String>) -> Option<Capabilities> {
        let mut words: Vec<Capability> =
            self.handlers.iter().filter_map(|(task_type, _)| task_type.parse().ok()).collect();
        for word in &self.capabilities {
            match word.parse() {
                Ok(capability) => words.push(capability),
                Err(error) => problems.push(format!("capability {word:?}: {error}")),
            }
        }
        if words.is_empty() {
            // Said already: there is no handler, or none with a task type.
            return None;
        }
        noted(problems, Capabilities::new(words))
    }

    fn checked_schemas(&self, problems: &mut Vec<String>) -> BTreeMap<TaskType, RawJson> {
        let mut schemas = BTreeMap::new();
        for (task_type, schema) in &self.task_schemas {
            match (task_type.parse::<TaskType>(), RawJson::from_serialize(schema)) {
                (Ok(task_type), Ok(schema)) => {
                    schemas.insert(task_type, schema);
                }
                // A handler's type is told of with the handlers.
                (Err(_), _) if self.handlers.iter().any(|(known, _)| known == task_type) => {}
                (Err(error), _) => problems.push(format!("schema of {task_type:?}: {error}")),
                (_, Err(error)) => problems.push(format!("schema of {task_type:?}: {error}")),
            }
        }
        if schemas.values().map(|schema| schema.as_str().len()).sum::<usize>() > limits::MAX_TASK_SCHEMAS_BYTES {
            problems.push("the schemas of task types are larger than 40 KiB together".to_owned());
        }
        schemas
    }

    fn checked_metadata(&self, problems: &mut Vec<String>) -> Option<JsonObject> {
        let Some(metadata) = &self.metadata else { return Some(JsonObject::default()) };
        let metadata = RawJson::from_serialize(metadata).and_then(JsonObject::try_from);
        match metadata {
            Ok(metadata) if metadata.as_str().len() <= limits::MAX_METADATA_BYTES => Some(metadata),
            Ok(_) => {
                problems.push("the metadata is larger than 16 KiB".to_owned());
                None
            }
            Err(error) => {
                problems.push(format!("metadata: {error}"));
                None
            }
        }
    }

    fn check_numbers(&self, problems: &mut Vec<String>) {
        if !(1..=limits::MAX_CONCURRENT_TASKS).contains(&self.max_concurrent_tasks) {
            problems.push(format!("max_concurrent_tasks must be 1 to {}", limits::MAX_CONCURRENT_TASKS));
        }
        if self.poll_wait > limits::MAX_WAIT {
            problems.push(format!("poll_wait must be at most {} s", limits::MAX_WAIT.as_secs()));
        }
        if self.version.as_ref().is_some_and(|version| version.chars().count() > MAX_VERSION_CHARS) {
            problems.push(format!("version must have at most {MAX_VERSION_CHARS} characters"));
        }
        #[cfg(all(feature = "push", feature = "websocket"))]
        if self.push.is_some() && self.websocket {
            problems.push("tasks are pushed to an agent or come over its WebSocket, not both".to_owned());
        }
        // Beyond a year, sums of times could leave what the system's clock can say.
        let longest = Duration::from_secs(365 * 24 * 3600);
        for (grace, name) in [(self.outage_grace, "outage_grace"), (self.drain_grace, "drain_grace")] {
            if grace > longest {
                problems.push(format!("{name} must be at most a year"));
            }
        }
    }

    fn assemble(
        self,
        registration: Registration,
        instance_id: Option<InstanceId>,
        client: AgentClient,
        handlers: HashMap<TaskType, Arc<dyn Handler>>,
    ) -> Result<Agent, Error> {
        #[cfg(feature = "push")]
        let (registration, listener) = match &self.push {
            None => (registration, None),
            Some(push) => {
                let fail = |source| match push.address() {
                    Some(address) => Error::Listen { address, source },
                    None => Error::Invalid { problems: vec![source.to_string()] },
                };
                let (listener, url) = push.open().map_err(fail)?;
                let mut features: Vec<Feature> = registration.features.iter().flat_map(Features::iter).collect();
                features.push(Feature::PushAsyncV1);
                let registration = registration
                    .with_features(features)
                    .with_transports([TransportKind::Push, TransportKind::Pull])
                    .with_endpoint_url(url);
                (registration, listener)
            }
        };
        #[cfg(feature = "websocket")]
        let registration = if self.websocket {
            let features: Vec<Feature> = registration.features.iter().flat_map(Features::iter).collect();
            registration
                .with_features(features.into_iter().chain([Feature::WsV1]))
                .with_transports([TransportKind::Ws, TransportKind::Pull])
        } else {
            registration
        };
        let data_dir = self.data_dir.as_deref().map(DataDir::open).transpose()?.map(Arc::new);
        let kept = data_dir.as_ref().map(|dir| dir.identity()).transpose()?.flatten();
        let url = client.base_url();
        if let (Some(dir), Some(kept)) = (&data_dir, &kept) {
            dir.check_owner(kept, &registration.name, &url)?;
        }
        let instance_id = instance_id
            .or_else(|| kept.as_ref().map(|kept| kept.instance_id.clone()))
            .unwrap_or_else(|| random_instance(&*self.entropy, self.clock.now()));
        // With another instance the kept token belongs to somebody else.
        let is_same = |kept: &Identity| kept.instance_id == instance_id;
        let live_token = kept.filter(is_same).and_then(|kept| kept.auth_token);
        if let Some(dir) = &data_dir {
            let identity = Identity {
                name: registration.name.clone(),
                url: Some(url),
                instance_id: instance_id.clone(),
                agent_id: None,
                auth_token: live_token.clone(),
            };
            keep(dir, &identity)?;
        }
        let rules = LeaseRules { outage_grace: self.outage_grace, fence_locally: self.fence_locally };
        let leases = Leases::new(rules);
        let shared = Arc::new(Shared::new(leases, self.max_concurrent_tasks, self.clock, self.entropy));
        shared.client.set(client.clone()).expect("nobody else has it yet");
        let outbox = match &data_dir {
            None => Outbox::new(None),
            Some(dir) => {
                let fail = |source| Error::DataDir { path: dir.path().to_owned(), source };
                let (file, left) = OutboxFile::open(dir.path()).map_err(fail)?;
                let mut outbox = Outbox::new(Some(file));
                restore(&mut outbox, &shared, left, USUAL_LEASE);
                outbox
            }
        };
        let heart_stop = CancellationToken::new();
        let papers = Papers {
            registration: registration.with_instance_id(instance_id),
            secret: self.registration_secret,
            live_token,
            data_dir: data_dir.clone(),
            tenure_window: self.poll_wait.max(limits::HEARTBEAT_INTERVAL) + TENURE_MARGIN,
            patience: self.outage_grace,
            #[cfg(feature = "push")]
            takes_pushes: self.push.is_some(),
            #[cfg(not(feature = "push"))]
            takes_pushes: false,
        };
        let heart =
            HeartParts { url: self.url, http: self.http, papers, shared: shared.clone(), stop: heart_stop.clone() };
        let pull = Pull::new(shared.clone(), self.poll_wait);
        let transport: Box<dyn Transport> = match () {
            #[cfg(feature = "push")]
            () if self.push.is_some() => Box::new(Pushed::new(shared.clone(), pull)),
            #[cfg(feature = "websocket")]
            () if self.websocket => Box::new(Socketed::new(shared.clone(), pull)),
            () => Box::new(pull),
        };
        let driver = DriverParts {
            transport,
            shared,
            client,
            handlers,
            outbox,
            on_refused: self.on_refused,
            data_dir,
            drain_grace: self.drain_grace,
            #[cfg(feature = "push")]
            takes_pushes: self.push.is_some(),
            stop: CancellationToken::new(),
            heart_stop,
        };
        Ok(Agent {
            driver,
            heart,
            #[cfg(feature = "push")]
            listener,
        })
    }
}

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task_types: Vec<&String> = self.handlers.iter().map(|(task_type, _)| task_type).collect();
        f.debug_struct("AgentBuilder")
            .field("name", &self.name)
            .field("handlers", &task_types)
            .field("max_concurrent_tasks", &self.max_concurrent_tasks)
            .finish_non_exhaustive()
    }
}

/// Keeps the instance id from the first start on, also if that never reaches the orchestrator.
fn keep(dir: &DataDir, identity: &Identity) -> Result<(), Error> {
    dir.save(identity).map_err(|source| Error::DataDir { path: dir.path().to_owned(), source })
}

fn random_instance(entropy: &dyn Entropy, now: Timestamp) -> InstanceId {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    // Any UUID will do, and an agent id is one.
    let id = eap_types::AgentId::v7(now, random);
    id.as_str().parse().expect("a UUID has visible characters only")
}

fn noted<T, E: std::error::Error>(problems: &mut Vec<String>, outcome: Result<T, E>) -> Option<T> {
    outcome.map_err(|error| problems.push(error.to_string())).ok()
}
