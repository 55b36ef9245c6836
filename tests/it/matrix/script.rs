//! The handler of every scenario: a task's input says what it does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eap_agent_sdk::{CancelReason, HandlerError, Task, TaskContext};
use serde_json::{Value, json};

use crate::sdk_harness::Gate;

/// What handlers did and heard, in all agents of a world.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Where `gate` and `deaf` wait.
    pub(super) gate: Gate,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    begun: Vec<String>,
    running: usize,
    most_at_once: usize,
    stops: Vec<String>,
}

/// Counts a run as running until it is dropped.
struct Running(Stage);

impl Stage {
    pub(super) fn new() -> Self {
        Self { gate: Gate::closed(), log: Arc::default() }
    }

    fn log<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often a handler began.
    pub(super) fn runs(&self) -> usize {
        self.log(|log| log.begun.len())
    }

    /// The inputs in the order in which handlers began with them.
    pub(super) fn begun(&self) -> Vec<String> {
        self.log(|log| log.begun.clone())
    }

    /// How many ran at once at most.
    pub(super) fn most_at_once(&self) -> usize {
        self.log(|log| log.most_at_once)
    }

    /// Why handlers were told to stop, in the order in which they heard.
    pub(super) fn stops(&self) -> Vec<String> {
        self.log(|log| log.stops.clone())
    }

    fn enter(&self, input: &str) -> Running {
        self.log(|log| {
            log.begun.push(input.to_owned());
            log.running += 1;
            log.most_at_once = log.most_at_once.max(log.running);
        });
        Running(self.clone())
    }

    async fn stopped(&self, ctx: &TaskContext) {
        ctx.cancelled().await;
        let stop = match ctx.cancel_reason() {
            Some(CancelReason::Requested { reason }) => format!("requested: {}", reason.unwrap_or_default()),
            reason => format!("{reason:?}"),
        };
        self.log(|log| log.stops.push(stop));
    }

    /// Does what the input says.
    pub(super) async fn play(self, task: Task<String>, ctx: TaskContext) -> Result<Value, HandlerError> {
        let _running = self.enter(&task.input);
        let (verb, rest) = task.input.split_once(' ').unwrap_or((&task.input, ""));
        let number = || rest.parse::<u32>().expect("the script has a number here");
        match verb {
            "echo" => Ok(json!(rest)),
            "object" => Ok(json!({"said": rest})),
            "swell" => Ok(json!("x".repeat(number() as usize))),
            "length" => Ok(json!(rest.len())),
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(number().into())).await;
                Ok(json!("slept"))
            }
            "fatal" => Err(HandlerError::fatal("no use")),
            "reject" => Err(HandlerError::reject("not me")),
            "invalid" => Err(HandlerError::invalid_input("wrong for everybody")),
            // Until this attempt it goes wrong.
            "retry" if ctx.attempt() < number() => Err(HandlerError::retry("not yet")),
            "panic" => {
                assert!(ctx.attempt() >= number(), "the script wants a panic");
                Ok(json!("calm"))
            }
            "retry" => Ok(json!("at last")),
            "progress" => {
                ctx.progress(0.5, "half way").await;
                self.gate.pass().await;
                Ok(json!("reported"))
            }
            // Word by word, as fast as it can.
            "recite" => {
                for word in rest.split_inclusive(' ') {
                    ctx.emit(word).await;
                }
                Ok(json!("recited"))
            }
            // A dot now and then, and stops when it is told to.
            "tick" => {
                for _ in 0..number() {
                    ctx.emit(".").await;
                    tokio::select! {
                        biased;
                        () = self.stopped(&ctx) => return Err(HandlerError::retry("stopped")),
                        () = tokio::time::sleep(Duration::from_millis(300)) => {}
                    }
                }
                Ok(json!("ticked"))
            }
            // At the gate, and stops when it is told to.
            "gate" => {
                tokio::select! {
                    biased;
                    () = self.stopped(&ctx) => Err(HandlerError::retry("stopped")),
                    () = self.gate.pass() => Ok(json!("through")),
                }
            }
            // At the gate, whatever it is told.
            "deaf" => {
                self.gate.pass().await;
                Ok(json!("through"))
            }
            _ => panic!("no such script: {}", task.input),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.log(|log| log.running -= 1);
    }
}
