//! Where two spellings are taken.

use super::*;

#[test]
fn input_data_wins_over_input() {
    let both = json!({ "task_id": TASK, "input": "adr", "input_data": "flat" });
    assert_eq!(accepted::<Assignment>(&both).input_data, "flat");
    let both: SubmitTask = accepted(&submit(&json!({ "input_data": "flat" })));
    assert_eq!(both.input_text(), "flat");
}

#[test]
fn one_of_the_two_is_enough_and_needed() {
    let adr: Assignment = accepted(&json!({ "task_id": TASK, "input": "adr", "input_data": null }));
    assert_eq!(adr.input_data, "adr");
    assert_eq!(problems::<Assignment>(&json!({ "task_id": TASK })), ["body.input_data missing"]);
    assert_eq!(problems::<Assignment>(&json!({ "task_id": TASK, "input": 5 })), ["body.input type_error"]);
}

#[test]
fn flat_figures_win_over_nested_ones() {
    let body = result(&json!({
        "tokens_used": 1, "metrics": { "tokens_used": 2, "execution_time_ms": 3.5 },
    }));
    let given: TaskResult = accepted(&body);
    assert_eq!((given.tokens_used, given.execution_time_ms, given.cost_usd), (Some(1.0), Some(3.5), None));
    let text = written(&given);
    assert_eq!(text["metrics"], json!({ "tokens_used": 1, "execution_time_ms": 3.5 }));
    assert_eq!((&text["tokens_used"], &text["execution_time_ms"]), (&json!(1), &json!(3.5)));
}

#[test]
fn cancelled_means_failed_with_a_code() {
    let given: TaskResult = accepted(&result(&json!({ "status": "cancelled" })));
    assert_eq!((given.status, given.error_code), (ResultStatus::Failed, Some(FailureCode::Cancelled)));
    assert_eq!(written(&given)["status"], "failed");
}
