//! What peers of the first 1.0 send and get.

use super::*;

#[test]
fn are_those_that_say_nothing_about_features() {
    assert!(accepted::<Registration>(&registration(&json!({}))).is_older_peer());
    assert!(!accepted::<Registration>(&registration(&json!({ "features": [] }))).is_older_peer());
}

#[test]
fn of_the_future_may_announce_what_is_not_known() {
    let given: Registration = accepted(&registration(&json!({ "features": ["telepathy.v3", "pull.v1", "pull.v1"] })));
    let pull: Features = [Feature::PullV1].into_iter().collect();
    assert_eq!(given.features, Some(pull));
}

#[test]
fn agree_on_what_both_understand() {
    let ours: Features = [Feature::PullV1, Feature::WsV1].into_iter().collect();
    let theirs: Features = [Feature::WsV1, Feature::CancelV1].into_iter().collect();
    assert!(ours.intersection(&theirs).iter().eq([Feature::WsV1]));
}

#[test]
fn get_the_input_in_both_spellings() {
    let assignment: Assignment = accepted(&json!({ "task_id": TASK, "input": "do", "context": { "a": [1] } }));
    let for_them = written(&assignment.for_older_peer());
    assert_eq!((&for_them["input"], &for_them["input_data"]), (&json!("do"), &json!("do")));
    assert_eq!(for_them["context"], json!({ "a": [1] }));
    assert_eq!(written(&assignment).get("input"), None);
}

#[test]
fn may_send_directives_that_are_not_known() {
    let directive: Directive =
        serde_json::from_value(json!({ "id": "d-1", "type": "dance", "tempo": 3 })).expect("it is read");
    assert_eq!((directive.id.as_str(), directive.kind), ("d-1", DirectiveKind::Unknown));
}
