//! `schemas/asyncapi.json`: what travels over an agent's WebSocket as an AsyncAPI 3.0 document.
//!
//! It is made from the frames' own types. A test finds a frame that is not described here.

use eap_types::socket::{CancelNotice, Credit, Established, FrameKind, Hello, SUBPROTOCOL};
use eap_types::{
    Components, Directive, Heartbeat, HeartbeatReply, LeaseReply, Payload, ProblemBody, ProgressReply, ProgressReport,
    ReleaseRequest, Released, ResultBatch, ResultsReply, TaskId, path,
};
use serde_json::{Map, Value, json};

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Server,
    Either,
}

/// What there is to say about a frame.
struct About {
    side: Side,
    summary: &'static str,
    /// The schema of its payload, `None` if it has none.
    payload: Option<Value>,
    /// The frames that answer it.
    answers: &'static [FrameKind],
}

const NOTHING: &[FrameKind] = &[];
const ACK: &[FrameKind] = &[FrameKind::Ack, FrameKind::Error];

/// The document for a server whose paths stand behind `/`.
pub(crate) fn document() -> Value {
    let mut components = Components::default();
    let (mut operations, mut carried, mut messages) = (Map::new(), Map::new(), Map::new());
    for kind in FrameKind::ALL {
        let Some(about) = about(*kind, &mut components) else { continue };
        let name = kind.as_str();
        carried.insert(name.to_owned(), json!({ "$ref": format!("#/components/messages/{name}") }));
        // As the document is the server's, it receives what agents send.
        let actions = match about.side {
            Side::Agent => &["receive"][..],
            Side::Server => &["send"],
            Side::Either => &["receive", "send"],
        };
        for action in actions {
            operations.insert(format!("{action}.{name}"), operation(action, name, &about));
        }
        messages.insert(name.to_owned(), message(name, &about));
    }
    components.join(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "EAP orchestrator, an agent's WebSocket",
            "version": eap_types::PROTOCOL_VERSION,
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": { "socket": channel(&carried) },
        "operations": operations,
        "components": {
            "messages": messages,
            "securitySchemes": {
                "agentToken": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "X-Agent-Token",
                    "description": "The `auth_token` that registering gave.",
                },
            },
        },
    }))
}

const ABOUT: &str = "The WebSocket of the External Agent Protocol 1.0, which an agent opens with the subprotocol \
                     `eap.v1+json`. Each text message is one frame. A frame that is answered is the HTTP call of the \
                     same meaning: same fields, same refusals; calls are answered in the order in which they came, so \
                     an answer says that every frame before it is dealt with.";

fn channel(carried: &Map<String, Value>) -> Value {
    let text = |constant: &str| json!({ "type": "string", "const": constant });
    json!({
        "address": format!("{}{}", path::AGENTS_BASE, path::SOCKET),
        "title": "An agent's WebSocket",
        "description": "One connection for each agent: a newer one takes the place of an older one.",
        "parameters": { "agent_id": { "description": "The agent's id, as registering gave it." } },
        "messages": carried,
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "required": ["Sec-WebSocket-Protocol", "X-Agent-Token"],
                    "properties": {
                        "Sec-WebSocket-Protocol": text(SUBPROTOCOL),
                        "X-Agent-Token": { "type": "string", "description": "The `auth_token` that registering gave." },
                    },
                },
                "bindingVersion": "0.1.0",
            },
        },
    })
}

fn operation(action: &str, name: &str, about: &About) -> Value {
    let message = |name: &str| json!({ "$ref": format!("#/channels/socket/messages/{name}") });
    let channel = json!({ "$ref": "#/channels/socket" });
    let mut operation = json!({
        "action": action,
        "channel": channel,
        "summary": about.summary,
        "messages": [message(name)],
    });
    if !about.answers.is_empty() {
        let answers: Vec<Value> = about.answers.iter().map(|kind| message(kind.as_str())).collect();
        operation["reply"] = json!({ "channel": channel, "messages": answers });
    }
    operation
}

fn message(name: &str, about: &About) -> Value {
    let mut frame = json!({
        "type": "object",
        "required": ["type", "id"],
        "properties": {
            "type": { "type": "string", "const": name },
            "id": {
                "type": "integer",
                "minimum": 1,
                "description": "The frame's number, which rises from 1 on each side of a connection.",
            },
            "ref": {
                "type": "integer",
                "minimum": 1,
                "description": "The number of the other side's frame that this one answers.",
            },
            "timestamp": { "type": "string", "format": "date-time", "description": "When it was made; for people." },
        },
    });
    if let Some(payload) = &about.payload {
        frame["properties"]["payload"] = payload.clone();
        if about.side != Side::Either {
            frame["required"] = json!(["type", "id", "payload"]);
        }
    }
    json!({ "name": name, "title": name, "summary": about.summary, "payload": frame })
}

fn about(kind: FrameKind, components: &mut Components) -> Option<About> {
    use FrameKind as Kind;
    use Side::{Agent, Either, Server};
    let frame = |side, summary, payload, answers| About { side, summary, payload, answers };
    Some(match kind {
        Kind::Hello => {
            let hello = components.value::<Hello>();
            frame(Agent, "The first frame: what the agent holds.", Some(hello), ACK)
        }
        Kind::AgentHeartbeat => {
            let (beat, answers) = (components.sent(&Heartbeat::INFO), &[FrameKind::Heartbeat, FrameKind::Error]);
            frame(Agent, "A heartbeat.", Some(beat), answers)
        }
        Kind::Credit => {
            let credit = components.value::<Credit>();
            frame(Agent, "The agent takes so many tasks more.", Some(credit), NOTHING)
        }
        Kind::TaskAccepted => {
            let task = of_task(components, None);
            frame(Agent, "The agent has begun with a task; for whoever reads along.", Some(task), NOTHING)
        }
        Kind::TaskRejected => {
            let release = components.sent(&ReleaseRequest::INFO);
            frame(Agent, "The agent does not take a task.", Some(of_task(components, Some(release))), ACK)
        }
        Kind::TaskProgress => {
            let report = components.sent(&ProgressReport::INFO);
            frame(Agent, "How far a task is.", Some(of_task(components, Some(report))), ACK)
        }
        Kind::TaskResult => frame(Agent, "Results.", Some(components.sent(&ResultBatch::INFO)), ACK),
        Kind::TaskReleased => {
            let release = components.sent(&ReleaseRequest::INFO);
            frame(Agent, "The agent hands a task back.", Some(of_task(components, Some(release))), ACK)
        }
        Kind::Pong => frame(Agent, "The agent lives; for clients that cannot answer a ping.", None, NOTHING),
        Kind::Established => {
            let limits = components.read_value::<Established>();
            frame(Server, "The first frame: the limits of the connection.", Some(limits), NOTHING)
        }
        Kind::TaskAssigned => {
            let tasks = components.read(&LeaseReply::INFO);
            frame(Server, "Tasks with their leases.", Some(tasks), NOTHING)
        }
        Kind::TaskCancel => {
            let notice = components.read_value::<CancelNotice>();
            frame(Server, "Work on a task is to stop; acknowledged in a heartbeat.", Some(notice), NOTHING)
        }
        Kind::Directive => {
            let directive = components.read_value::<Directive>();
            frame(Server, "Something else the agent is asked to do.", Some(directive), NOTHING)
        }
        Kind::Heartbeat => {
            let reply = components.read(&HeartbeatReply::INFO);
            frame(Server, "The answer to a heartbeat.", Some(reply), NOTHING)
        }
        Kind::Ack => {
            let replies =
                [&ResultsReply::INFO, &ProgressReply::INFO, &Released::INFO].map(|reply| components.read(reply));
            let summary = "The frame `ref`, and each before it, is dealt with; a call's answer is its payload.";
            frame(Either, summary, Some(json!({ "anyOf": replies })), NOTHING)
        }
        Kind::Error => {
            let problem = components.read(&ProblemBody::INFO);
            frame(
                Server,
                "The frame `ref` is refused; without `ref`, a message that was no frame.",
                Some(problem),
                NOTHING,
            )
        }
        _ => return None,
    })
}

/// A payload that names its task beside what the call of the same meaning carries.
fn of_task(components: &mut Components, body: Option<Value>) -> Value {
    let named = json!({
        "type": "object",
        "required": ["task_id"],
        "properties": { "task_id": components.value::<TaskId>() },
    });
    match body {
        Some(body) => json!({ "allOf": [named, body] }),
        None => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_described_and_goes_somewhere() {
        let document = document();
        for kind in FrameKind::ALL {
            let name = kind.as_str();
            assert_eq!(document["components"]["messages"][name]["name"], json!(name));
            let operations = document["operations"].as_object().unwrap();
            assert!(operations.keys().any(|operation| operation.split_once('.').unwrap().1 == name), "{name}");
        }
    }
}
