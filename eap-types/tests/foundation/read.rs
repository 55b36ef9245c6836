//! The decoder names every problem of a body at once.

use eap_types::{Decode, DecodeError, ErrorCode, FieldProblem, Fields, JsonObject, RawJson, TaskId, from_json};

#[derive(Debug, PartialEq)]
struct Part {
    id: TaskId,
    share: Option<f64>,
}

impl Decode for Part {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id");
        let share = fields.fraction("share");
        Some(Self { id: id?, share })
    }
}

#[derive(Debug, PartialEq)]
struct Order {
    name: String,
    note: Option<String>,
    count: u64,
    urgent: bool,
    cost: Option<f64>,
    extra: JsonObject,
    input: Option<RawJson>,
    first: Option<Part>,
    parts: Vec<Part>,
}

impl Decode for Order {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name");
        let note = fields.text("note", 5);
        let count = fields.range("count", 1..=10, Some(2));
        let urgent = fields.or_default("urgent");
        let cost = fields.finite_non_negative("cost");
        let extra = fields.json_object("extra").unwrap_or_default();
        let input = fields.raw("input");
        let first = fields.object("first");
        let parts = fields.array("parts").unwrap_or_default();
        fields.refuse_unbuilt("drone");
        if fields.or("version", "1.0".to_owned()) == "2.0" {
            fields.unsupported_version("2.0");
        }
        Some(Self { name: name?, note, count: count?, urgent, cost, extra, input, first, parts })
    }
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn read(body: &str) -> Result<Order, DecodeError> {
    from_json(body.as_bytes())
}

#[track_caller]
fn problems(body: &str) -> Vec<String> {
    match read(body) {
        Err(DecodeError::Invalid { problems }) => {
            problems.iter().map(|problem| format!("{} [{}]", problem, problem.kind)).collect()
        }
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn a_whole_body_is_read() {
    let body = format!(
        r#"{{"name": "a", "note": "ééééé", "count": 10, "urgent": true, "cost": 3, "extra": {{"x": [1]}},
            "input": [1.0], "first": {{"id": "{ID}", "share": 1}}, "parts": [{{"id": "{ID}"}}], "unknown": 1e999}}"#
    );
    let id: TaskId = ID.parse().unwrap();
    let order = read(&body).unwrap();
    assert_eq!(order.first, Some(Part { id, share: Some(1.0) }));
    assert_eq!(order.parts, [Part { id, share: None }]);
    assert_eq!((order.name.as_str(), order.note.as_deref(), order.count), ("a", Some("ééééé"), 10));
    assert_eq!((order.urgent, order.cost, order.extra.as_str()), (true, Some(3.0), r#"{"x": [1]}"#));
    assert_eq!(order.input.unwrap().as_str(), "[1.0]");
}

#[test]
fn null_in_an_optional_field_means_absent() {
    let sparse = read(r#"{"name": "a"}"#).unwrap();
    let nulls = r#"{"name": "a", "note": null, "count": null, "urgent": null, "cost": null, "extra": null,
        "input": null, "first": null, "parts": null, "drone": null, "version": null}"#;
    assert_eq!(read(nulls).unwrap(), sparse);
    assert_eq!((sparse.count, sparse.urgent, sparse.extra.is_empty()), (2, false, true));
}

#[test]
fn null_in_a_required_field_means_missing() {
    assert_eq!(problems(r#"{"name": null}"#), ["body.name: is required [missing]"]);
}

#[test]
fn every_problem_is_named_with_its_path() {
    let body = format!(
        r#"{{"note": "123456", "count": 11, "urgent": "yes", "cost": -1, "extra": [], "input": "\ud800",
            "first": {{"share": 1.5}}, "parts": [{{"id": "{ID}"}}, {{"id": "x", "share": "0.5"}}, 7], "drone": [1]}}"#
    );
    assert_eq!(
        problems(&body),
        [
            "body.name: is required [missing]",
            "body.note: must have at most 5 characters [value_error]",
            "body.count: must be between 1 and 10 [value_error]",
            "body.urgent: expected true or false, got a string [type_error]",
            "body.cost: must not be below 0 [value_error]",
            "body.extra: expected an object, got a list [type_error]",
            "body.input: text is not JSON: unexpected end of hex escape [value_error]",
            "body.first.id: is required [missing]",
            "body.first.share: must be between 0 and 1 [value_error]",
            "body.parts[1].id: task id must be a UUID [value_error]",
            "body.parts[1].share: expected a number, got a string [type_error]",
            "body.parts[2]: expected an object, got a number [type_error]",
            "body.drone: drone is not served by this version [not_supported]",
        ]
    );
}

#[test]
fn a_whole_number_is_neither_text_nor_a_fraction_nor_negative() {
    for (count, message) in [
        (r#""3""#, "expected a whole number, got a string [type_error]"),
        ("3.5", "expected a whole number, got a fraction [type_error]"),
        ("-3", "is out of range [value_error]"),
        ("99999999999999999999", "is out of range [value_error]"),
        ("0", "must be between 1 and 10 [value_error]"),
    ] {
        let found = problems(&format!(r#"{{"name": "a", "count": {count}}}"#));
        assert_eq!(found, [format!("body.count: {message}")]);
    }
}

#[test]
fn a_key_that_comes_twice_is_a_problem_at_every_level_that_is_read() {
    assert_eq!(problems(r#"{"name": "a", "name": "b"}"#), ["body.name: comes more than once [duplicate]"]);
    let body = format!(r#"{{"name": "a", "first": {{"id": "{ID}", "\u0069d": "{ID}"}}}}"#);
    assert_eq!(problems(&body), ["body.first.id: comes more than once [duplicate]"]);
    assert!(read(r#"{"name": "a", "extra": {"k": 1, "k": 2}}"#).is_ok());
}

#[test]
fn what_is_not_json_is_malformed() {
    for body in [&b""[..], b" ", b"{", b"{\"a\": nul}", b"{} x", b"{\"a\": \xff}", b"{'a': 1}", b"{\"\\ud800\": 1}"] {
        let error = from_json::<Order>(body).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { .. }), "{error:?}");
        assert_eq!(error.code(), ErrorCode::MalformedJson);
    }
}

#[test]
fn json_that_is_no_object_is_a_problem_of_the_body() {
    for body in ["[]", "1", "\"a\"", "null", " true "] {
        assert_eq!(problems(body), ["body: expected an object [type_error]"], "{body}");
    }
}

#[test]
fn depth_is_checked_before_anything_is_parsed() {
    let nested = |depth: usize| format!(r#"{{"name": "a", "x": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(31)).is_ok());
    assert_eq!(read(&nested(32)), Err(DecodeError::TooDeep));
    assert_eq!(from_json::<Order>("[".repeat(1_000_000).as_bytes()), Err(DecodeError::TooDeep));
    assert_eq!(DecodeError::TooDeep.code(), ErrorCode::MalformedJson);
}

#[test]
fn an_unsupported_version_goes_before_every_other_problem() {
    let error = read(r#"{"version": "2.0"}"#).unwrap_err();
    assert_eq!(error, DecodeError::UnsupportedVersion { given: "2.0".to_owned() });
    assert_eq!(error.code(), ErrorCode::UnsupportedVersion);
}

#[test]
fn a_field_that_is_not_built_may_be_empty() {
    for empty in ["[]", "{}", "\"\"", "[ ]", "null"] {
        assert!(read(&format!(r#"{{"name": "a", "drone": {empty}}}"#)).is_ok(), "{empty}");
    }
    for given in ["0", "false", "[[]]", "\"x\"", "{\"a\": 1}"] {
        assert_eq!(problems(&format!(r#"{{"name": "a", "drone": {given}}}"#)).len(), 1, "{given}");
    }
}

#[test]
fn a_flood_of_problems_is_counted_and_not_listed() {
    let body = format!(r#"{{"name": "a", "parts": [{}7]}}"#, "7,".repeat(9_999));
    let found = problems(&body);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "body: has 9900 more problems [value_error]");
}

#[test]
fn a_long_name_does_not_come_back_whole() {
    let name = "é".repeat(100_000);
    let found = problems(&format!(r#"{{"name": "a", "{name}": 1, "{name}": 2}}"#));
    assert!(found[0].len() < 300, "{}", found[0].len());
}

#[derive(Debug)]
struct Batch(Vec<Result<Part, Vec<FieldProblem>>>);

impl Decode for Batch {
    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        fields.each("parts", 4).map(Self)
    }
}

#[test]
fn a_batch_of_more_than_its_limit_is_refused_whole() {
    let error = from_json::<Batch>(br#"{"parts": [0, 0, 0, 0, 0]}"#).unwrap_err();
    let problems = error.problems();
    assert_eq!((problems.len(), problems[0].field.as_str()), (1, "body.parts"));
}

#[test]
fn a_bad_entry_of_a_batch_does_not_spoil_the_others() {
    let body = format!(r#"{{"parts": [{{"id": "{ID}"}}, {{"share": 2}}, 7, {{"id": "{ID}"}}]}}"#);
    let Batch(parts) = from_json(body.as_bytes()).unwrap();
    assert!(parts[0].is_ok() && parts[3].is_ok());
    let named = |index: usize| parts[index].as_ref().unwrap_err().iter().map(|p| p.field.as_str()).collect::<Vec<_>>();
    assert_eq!(named(1), ["body.parts[1].id", "body.parts[1].share"]);
    assert_eq!(named(2), ["body.parts[2]"]);
    assert_eq!(from_json::<Batch>(b"{}").unwrap_err().problems()[0].kind, "missing");
}

#[test]
fn one_line_tells_every_problem() {
    let error = read(r#"{"count": 0}"#).unwrap_err();
    assert_eq!(error.to_string(), "body.name: is required; body.count: must be between 1 and 10");
    assert_eq!(error.problems().len(), 2);
}

/// The outcome of a decoder that forgets to note its problem is still an error.
#[test]
fn nothing_read_and_nothing_noted_is_still_refused() {
    #[derive(Debug)]
    struct Never;
    impl Decode for Never {
        fn decode(_: &mut Fields<'_>) -> Option<Self> {
            None
        }
    }
    assert_eq!(from_json::<Never>(b"{}").unwrap_err().problems().len(), 1);
}
