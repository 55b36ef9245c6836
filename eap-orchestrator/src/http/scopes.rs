//! Every operator's call against every single scope (T4, T26): the rows come from the table of calls itself, so that
//! none can be missing.

use axum::body::Body;
use axum::extract::Request;
use eap_types::{CreateKey, Scope, Scopes, Secret};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::route::{Caller, Route};
use super::routes::routes;
use crate::auth::Operator;
use crate::config::Access;
use crate::orchestrator::Orchestrator;

const ABSENT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

async fn started() -> Orchestrator {
    let builder = Orchestrator::builder_in_memory().operator_key("canary-operator-key-0123456789");
    let orchestrator = builder.access(Access::Open).build().unwrap();
    orchestrator.start().await.unwrap();
    orchestrator
}

async fn key(orchestrator: &Orchestrator, scopes: Scopes) -> Secret {
    let asked = CreateKey::new("single".parse().unwrap(), scopes);
    orchestrator.create_key(&Operator::host(), asked).await.unwrap().key
}

/// A call that comes with a key and names what is not there; its body, where it takes one, is an empty object.
async fn call(orchestrator: &Orchestrator, route: &Route, key: &Secret) -> (StatusCode, Value) {
    let parts = route.path.split('/').map(|part| if part.starts_with('{') { ABSENT } else { part });
    let request = Request::builder()
        .method(route.method.clone())
        .uri(parts.collect::<Vec<_>>().join("/"))
        .header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    let body = if route.method == Method::GET { Body::empty() } else { Body::from("{}") };
    let router = orchestrator.router().merge(orchestrator.metrics_router());
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    // The answer of a call that is let in may be a stream without end.
    if status != StatusCode::FORBIDDEN {
        return (status, Value::Null);
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn each_scope_opens_its_own_calls_and_no_other() {
    let orchestrator = started().await;
    let mut opened = 0;
    for scope in Scope::ALL {
        let key = key(&orchestrator, [*scope].into_iter().collect()).await;
        for route in routes() {
            let Caller::Operator(needed) = route.caller else { continue };
            let what = format!("{} with {scope}", route.words.id);
            let (status, problem) = call(&orchestrator, &route, &key).await;
            if needed == *scope {
                assert!(!matches!(status.as_u16(), 401 | 403 | 405 | 500..), "{what}: {status}");
                opened += 1;
            } else {
                assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &"FORBIDDEN".into()), "{what}");
                assert_eq!(problem["detail"], format!("this key has not the scope {needed}"), "{what}");
            }
        }
    }
    let rows = routes().iter().filter(|route| matches!(route.caller, Caller::Operator(_))).count();
    assert!(opened == rows && rows > 10, "{opened} of {rows} calls were opened by their own scope");
}

#[tokio::test]
async fn every_scope_but_the_right_one_is_not_enough_and_that_alone_is() {
    let orchestrator = started().await;
    for scope in Scope::ALL {
        let alone: Scopes = [*scope].into_iter().collect();
        let others = key(&orchestrator, Scopes::all().without(alone)).await;
        for route in routes().iter().filter(|route| matches!(route.caller, Caller::Operator(_))) {
            let (status, _) = call(&orchestrator, route, &others).await;
            let is_closed = status == StatusCode::FORBIDDEN;
            assert_eq!(is_closed, route.caller == Caller::Operator(*scope), "{} without {scope}", route.words.id);
        }
    }
}

/// Which scope a call needs, as docs/protocol.md section 5 has it.
fn scope_of(method: &Method, path: &str) -> Scope {
    let reads = method == Method::GET;
    let parts: Vec<_> = path.split('/').skip(1).collect();
    match parts[..] {
        ["metrics"] => Scope::AgentsRead,
        ["api", "v1", "events"] => Scope::TasksRead,
        ["api", "v1", "keys" | "registration-secrets", ..] => Scope::KeysAdmin,
        ["api", "v1", "agents", ..] if reads => Scope::AgentsRead,
        ["api", "v1", "agents" | "agentkit", ..] => Scope::AgentsAdmin,
        ["api", "v1", "tasks", _, "artifacts", ..] => Scope::ResultsRead,
        ["api", "v1", "tasks", _, "cancel"] => Scope::TasksCancel,
        // Whoever may submit may know what is taken.
        ["api", "v1", "task-types", _] => Scope::TasksSubmit,
        ["api", "v1", "tasks" | "dead-letters", ..] if reads => Scope::TasksRead,
        ["api", "v1", "tasks" | "dead-letters", ..] => Scope::TasksSubmit,
        ["api", "v1", "sessions", _, "cancel"] => Scope::TasksCancel,
        ["api", "v1", "workflows" | "sessions", ..] if reads => Scope::TasksRead,
        ["api", "v1", "workflows" | "sessions", ..] => Scope::TasksSubmit,
        _ => panic!("which scope does {method} {path} need?"),
    }
}

#[test]
fn each_call_asks_for_the_scope_that_the_protocol_says() {
    for route in routes() {
        if let Caller::Operator(scope) = route.caller {
            assert_eq!(scope, scope_of(&route.method, route.path), "{}", route.words.id);
        }
    }
}
