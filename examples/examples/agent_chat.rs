//! How does an agent let a language model do the work, over any endpoint that speaks OpenAI's chat completions?
//!
//! `CHAT_MODEL=… cargo run -p eap-examples --example agent_chat`, with an orchestrator at `EAP_URL` (default
//! `http://127.0.0.1:8080`). `CHAT_URL` is the base URL of the endpoint (default `http://127.0.0.1:11434/v1`, where
//! Ollama listens), `CHAT_KEY` its key, if it wants one. The task's input is the prompt, its context may have a `system`
//! text.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eap_agent_sdk::types::{Assignment, FailureCode};
use eap_agent_sdk::{Agent, CallError, Handler, HandlerError, HttpCall, Output, TaskContext};
use eap_client::ReqwestCall;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Longer waits than this are the orchestrator's: it tries again later, here or elsewhere.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often one attempt asks.
const TRIES: u32 = 4;
/// Characters of an endpoint's own words that are passed on.
const MAX_SAID: usize = 500;

/// A chat endpoint and what to ask it with.
pub(crate) struct Chat {
    pub(crate) http: Arc<dyn HttpCall>,
    /// As in `https://api.example.com/v1`.
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    pub(crate) model: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    system: Option<String>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: f64,
}

/// Why there is no completion.
enum Trouble {
    /// Asking again may help, after a while that the endpoint may have named.
    Passing { why: String, after: Option<Duration> },
    /// It would end the same.
    Lasting(HandlerError),
}

#[async_trait]
impl Handler for Chat {
    async fn run(&self, task: Assignment, ctx: TaskContext) -> Result<Output, HandlerError> {
        let context: Context = task.context.decode().map_err(|error| HandlerError::invalid_input(error.to_string()))?;
        let system = context.system.map(|text| json!({"role": "system", "content": text}));
        let prompt = json!({"role": "user", "content": task.input_data});
        let messages: Vec<Value> = system.into_iter().chain([prompt]).collect();
        let body = json!({"model": self.model, "messages": messages});
        // Whatever is under way ends with the cancellation: the request is closed, and no model goes on for nobody.
        tokio::select! {
            () = ctx.cancelled() => Err(HandlerError::retry("the task was cancelled")),
            answer = self.complete(&body, Duration::from_secs(task.timeout_seconds), &ctx) => answer,
        }
    }
}

impl Chat {
    async fn complete(&self, body: &Value, deadline: Duration, ctx: &TaskContext) -> Result<Output, HandlerError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, after) = match self.ask(body, deadline).await {
                Ok(completion) => return output(completion),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { why, after }) => (why, after),
            };
            let pause = after.unwrap_or_else(|| Duration::from_secs(1 << tries));
            if tries == TRIES || pause > LONGEST_PAUSE {
                return Err(HandlerError::retry(why).with_code(FailureCode::ResourceExhausted));
            }
            ctx.progress(0.0, format!("waiting {} s: {why}", pause.as_secs())).await;
            sleep(pause).await;
        }
    }

    async fn ask(&self, body: &Value, deadline: Duration) -> Result<Completion, Trouble> {
        let broken = |error: &dyn std::error::Error| Trouble::Lasting(HandlerError::fatal(error.to_string()));
        let mut request = http::Request::post(format!("{}/chat/completions", self.url.trim_end_matches('/')))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(body.to_string().into()).map_err(|error| broken(&error))?;
        let answer = self.http.call(request, deadline).await.map_err(|error| match error {
            CallError::Setup { .. } | CallError::TooLarge { .. } => broken(&error),
            passing => Trouble::Passing { why: passing.to_string(), after: None },
        })?;
        let status = answer.status();
        if status.is_success() {
            return serde_json::from_slice(answer.body()).map_err(|error| broken(&error));
        }
        let why = format!("the endpoint answered {status}{}", said(answer.body()));
        let is_passing = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
        if !is_passing {
            return Err(Trouble::Lasting(HandlerError::fatal(why)));
        }
        let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(Trouble::Passing { why, after: seconds.map(Duration::from_secs) })
    }
}

fn output(completion: Completion) -> Result<Output, HandlerError> {
    let content = completion.choices.into_iter().next().and_then(|choice| choice.message.content);
    let content = content.ok_or_else(|| HandlerError::retry("the endpoint answered without a text"))?;
    let output = Output::of(&content)?;
    Ok(match completion.usage {
        Some(usage) => output.with_tokens_used(usage.total_tokens),
        None => output,
    })
}

/// What an endpoint says is wrong, in the form that they share.
fn said(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body["error"]["message"].as_str() {
        Some(message) => format!(": {}", message.chars().take(MAX_SAID).collect::<String>()),
        None => String::new(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let or = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let chat = Chat {
        http: Arc::new(ReqwestCall::new()?),
        url: or("CHAT_URL", "http://127.0.0.1:11434/v1"),
        key: std::env::var("CHAT_KEY").ok(),
        model: std::env::var("CHAT_MODEL").map_err(|_| "CHAT_MODEL names no model")?,
    };
    let url = or("EAP_URL", "http://127.0.0.1:8080");
    let mut agent = Agent::builder(url, "AGENT-CHAT-01").handle_with("chat", chat).max_concurrent_tasks(4);
    if let Ok(secret) = std::env::var("EAP_REGISTRATION_SECRET") {
        agent = agent.registration_secret(secret);
    }
    let report = agent.build()?.run_until(tokio::signal::ctrl_c()).await?;
    println!("stopped: {report}");
    Ok(())
}
