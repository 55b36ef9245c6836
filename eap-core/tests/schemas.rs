//! Which inputs a schema accepts, what is said of the others, and that no schema can make a check run away.

use eap_core::{InputSchema, InputVerdict, TaskInput};
use eap_types::RawJson;
use serde_json::{Value, json};

fn schema(schema: &Value) -> InputSchema {
    let schema = RawJson::from_serialize(schema).unwrap();
    InputSchema::compile(&schema, "schema").unwrap()
}

fn refusal(schema: &Value) -> Vec<String> {
    let schema = RawJson::from_serialize(schema).unwrap();
    let problems = InputSchema::compile(&schema, "schema").expect_err("the schema is refused");
    problems.iter().map(|problem| format!("{} {}", problem.field, problem.kind)).collect()
}

fn input(value: &Value) -> TaskInput {
    TaskInput::new(&RawJson::from_serialize(value).unwrap())
}

fn accepts(of: &Value, value: &Value) -> bool {
    match schema(of).verdict(&mut input(value)) {
        InputVerdict::Accepted => true,
        InputVerdict::Refused => false,
        other => panic!("{of} of {value}: {other:?}"),
    }
}

fn problems(of: &Value, value: &Value) -> Vec<String> {
    let mut input = input(value);
    assert_eq!(schema(of).verdict(&mut input), InputVerdict::Refused, "{of} of {value}");
    let problems = schema(of).problems(&mut input, "body.input");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn each_word_of_a_schema_accepts_and_refuses() {
    let cases = [
        (json!({"not": false, "anyOf": [false, {"type": "null"}]}), json!(null), json!(1)),
        (json!({"type": "integer"}), json!(3.0), json!(3.5)),
        (json!({"type": ["null", "boolean"]}), json!(true), json!(0)),
        (json!({"type": "number"}), json!(1), json!([])),
        (json!({"const": {"a": [1]}}), json!({"a": [1.0]}), json!({"a": [2]})),
        (json!({"enum": ["red", 2]}), json!(2.0), json!("blue")),
        (json!({"minimum": 3}), json!(3), json!(2.9)),
        (json!({"exclusiveMinimum": 3}), json!(3.1), json!(3)),
        (json!({"maximum": 18_446_744_073_709_551_614_u64}), json!(-1), json!(18_446_744_073_709_551_615_u64)),
        (json!({"exclusiveMaximum": 0}), json!(-1), json!(0)),
        (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35)),
        (json!({"multipleOf": 7}), json!(21), json!(22)),
        (json!({"type": "object", "minProperties": 1}), json!({"a": 1}), json!({})),
        (json!({"maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 2})),
        (json!({"minItems": 1}), json!([1]), json!([])),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2])),
        (json!({"uniqueItems": true}), json!([1, "1", [1]]), json!([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}])),
        (json!({"contains": {"type": "null"}}), json!([1, null]), json!([1])),
        (json!({"contains": {"type": "null"}, "minContains": 2, "maxContains": 3}), json!([null, null]), json!([null])),
        (json!({"contains": {"type": "null"}, "minContains": 0, "maxContains": 1}), json!([]), json!([null, null])),
        (
            json!({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}),
            json!(["a", 1]),
            json!(["a", "b"]),
        ),
        (json!({"items": [{"type": "string"}], "additionalItems": false}), json!(["a"]), json!(["a", 1])),
        (json!({"required": ["a"]}), json!({"a": null}), json!({"b": 1})),
        (json!({"dependentRequired": {"a": ["b"]}}), json!({"b": 1}), json!({"a": 1})),
        (json!({"dependencies": {"a": ["b"], "c": {"minProperties": 2}}}), json!({"a": 1, "b": 2}), json!({"c": 1})),
        (json!({"dependentSchemas": {"a": {"required": ["b"]}}}), json!({}), json!({"a": 1})),
        (json!({"propertyNames": {"maxLength": 2}}), json!({"ab": 1}), json!({"abc": 1})),
        (json!({"properties": {"a": {"type": "null"}}}), json!({"b": 1}), json!({"a": 1})),
        (json!({"patternProperties": {"^x": false}}), json!({"ax": 1}), json!({"xa": 1})),
        (
            json!({"properties": {"a": true}, "patternProperties": {"^x": true}, "additionalProperties": false}),
            json!({"a": 1, "xa": 1}),
            json!({"b": 1}),
        ),
        (json!({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}), json!({"a": 1, "b": 1}), json!({"a": 1})),
        (json!({"anyOf": [{"type": "object"}, {"type": "null"}]}), json!(null), json!(1)),
        (json!({"oneOf": [{"minimum": 1}, {"maximum": 2}]}), json!(3), json!(1.5)),
        (json!({"not": {"type": "object"}}), json!(1), json!({})),
        (
            json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}),
            json!({"a": 1, "b": 1}),
            json!({"b": 1}),
        ),
        (json!({"$defs": {"n/o": {"type": "null"}}, "$ref": "#/$defs/n~1o"}), json!(null), json!(1)),
        (
            json!({"definitions": {"a b": {"minimum": 1}}, "allOf": [{"$ref": "#/definitions/a%20b"}]}),
            json!(1),
            json!(0),
        ),
        (
            json!({"properties": {"next": {"$ref": "#"}, "end": {"const": true}}, "additionalProperties": false}),
            json!({"next": {"next": {"end": true}}}),
            json!({"next": {"next": {"end": false}}}),
        ),
        (
            json!({"allOf": [{"properties": {"a": true}}], "unevaluatedProperties": false}),
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
        ),
        (
            json!({"anyOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, true], "unevaluatedProperties": false}),
            json!({"a": 1}),
            json!({"a": 2}),
        ),
        (json!({"prefixItems": [true], "unevaluatedItems": {"type": "null"}}), json!([1, null]), json!([1, 2])),
    ];
    for (schema, good, bad) in cases {
        assert!(accepts(&schema, &good), "{schema} takes {good}");
        assert!(!accepts(&schema, &bad), "{schema} does not take {bad}");
    }
}

#[test]
fn a_text_that_is_json_is_taken_as_either() {
    let of = |word: &str, value: Value| accepts(&json!({ "type": word }), &value);
    assert!(of("string", json!("Guten Morgen")) && of("string", json!("3")) && of("integer", json!("3")));
    assert!(of("string", json!("{\"a\": 1}")) && of("object", json!("{\"a\": 1}")));
    assert!(!of("object", json!("Guten Morgen")) && !of("string", json!({"a": 1})) && !of("integer", json!("\"3\"")));
    let counted = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    assert_eq!(problems(&counted, &json!("{\"a\": 1}")), ["body.input/a: expected a string, got a whole number"]);
    assert_eq!(problems(&counted, &json!("3")), ["body.input: expected an object, got a string"]);
}

#[test]
fn every_problem_is_listed_with_its_place() {
    let of = json!({
        "type": "object",
        "required": ["title", "items"],
        "additionalProperties": false,
        "properties": {
            "title": {"type": "string", "minLength": 2, "pattern": "^[A-Z]"},
            "color": {"enum": ["red", "blue"]},
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        },
        "$defs": {"Item": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}, "required": ["count"]}},
    });
    let value = json!({"title": "a", "color": "green", "items": [{"count": 0}, {"count": "1"}, {}, 4], "so/me": 1});
    assert_eq!(
        problems(&of, &value),
        [
            "body.input/color: must be \"red\" or \"blue\"",
            "body.input/items/0/count: must be at least 1",
            "body.input/items/1/count: expected a whole number, got a string",
            "body.input/items/2/count: is required",
            "body.input/items/3: expected an object, got a whole number",
            "body.input/so~1me: is not allowed here",
            "body.input/title: must have at least 2 characters",
            "body.input/title: must match the pattern ^[A-Z]",
        ]
    );
    assert_eq!(problems(&of, &json!({})), ["body.input/title: is required", "body.input/items: is required"]);
    let many = json!({ "title": "Ab", "items": vec![0; 1000] });
    assert_eq!(problems(&of, &many).len(), 100);
    assert!(accepts(&of, &json!({"title": "Ab", "items": []})));
}

#[test]
fn of_several_forms_the_one_that_was_meant_is_told_of() {
    let shape = json!({"anyOf": [
        {"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}}, "required": ["kind", "radius"]},
        {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number"}}, "required": ["kind", "side"]},
        {"type": "null"},
    ]});
    assert_eq!(
        problems(&shape, &json!({"kind": "square", "side": "3"})),
        ["body.input/side: expected a number, got a string"]
    );
    assert_eq!(problems(&shape, &json!({"kind": "square"})), ["body.input/side: is required"]);
    assert_eq!(problems(&shape, &json!({"kind": "star"})), ["body.input: has none of the 3 forms it may have"]);
    assert_eq!(problems(&shape, &json!(3)), ["body.input: has none of the 3 forms it may have"]);
}

#[test]
fn a_schema_that_is_wrong_is_refused_with_every_place() {
    let wrong = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "text",
        "minLength": -1,
        "required": [1],
        "properties": {"a/b": {"pattern": "(?=x)"}, "c": 3, "d": {"$ref": "https://example.com/schema.json"}, "e": {"$ref": "#/$defs/none"}},
        "items": {"$id": "inner", "multipleOf": 0},
        "allOf": [],
        "exclusiveMinimum": true,
        "patternProperties": {"(": true},
        "not": {"$dynamicRef": "#x"},
    });
    let mut refused = refusal(&wrong);
    refused.sort();
    assert_eq!(
        refused,
        [
            "schema/$schema not_supported",
            "schema/allOf value_error",
            "schema/exclusiveMinimum type_error",
            "schema/items/$id not_supported",
            "schema/items/multipleOf value_error",
            "schema/minLength type_error",
            "schema/not/$dynamicRef not_supported",
            "schema/patternProperties/( value_error",
            "schema/properties/a~1b/pattern value_error",
            "schema/properties/c type_error",
            "schema/properties/d/$ref not_supported",
            "schema/properties/e/$ref value_error",
            "schema/required type_error",
            "schema/type value_error",
        ]
    );
    assert_eq!(refusal(&json!([])), ["schema type_error"]);
}

#[test]
fn a_schema_that_refers_to_itself_for_the_same_value_is_refused() {
    for circle in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"anyOf": [true, {"not": {"$ref": "#"}}]}]}),
        json!({"$defs": {"a": {"if": {"$ref": "#/$defs/b"}}, "b": {"dependentSchemas": {"x": {"$ref": "#/$defs/a"}}}}}),
    ] {
        assert_eq!(refusal(&circle).len(), 1, "{circle}");
    }
    schema(&json!({"properties": {"a": {"$ref": "#"}}, "items": {"allOf": [{"$ref": "#"}]}}));
}

#[test]
fn no_schema_makes_a_check_run_away() {
    // Twice the work with every level of the input, or with every definition.
    let deep = (0..30).fold(json!(1), |inner, _| json!({ "x": inner }));
    let level = |least: u64| json!({"type": "object", "properties": {"x": {"$ref": "#"}}, "minProperties": least});
    let doubling = schema(&json!({"anyOf": [level(0), level(1)]}));
    let mut definitions = serde_json::Map::new();
    for number in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/d{}", number + 1) });
        definitions.insert(format!("d{number}"), json!({"anyOf": [{"allOf": [next, next]}, next]}));
    }
    definitions.insert("d40".to_owned(), json!({"type": "null"}));
    let wide = schema(&json!({"$defs": definitions, "$ref": "#/$defs/d0"}));
    for runaway in [doubling, wide] {
        assert_eq!(runaway.verdict(&mut input(&deep)), InputVerdict::Unknown);
    }
}

#[test]
fn a_step_that_takes_long_counts_for_many() {
    let names = |value: Value| Value::Object((0..1_000).map(|number| (format!("n{number}"), value.clone())).collect());
    let (text, list) = (json!("x".repeat(20_000)), json!(vec!["x"; 5_000]));
    let cases = [
        (json!({"maxLength": 20_000}), text.clone()),
        (json!({"pattern": "^x"}), text.clone()),
        (json!({"pattern": "^x{1,900}"}), json!("x".repeat(2_000))),
        (json!({ "const": text }), text.clone()),
        (json!({ "enum": [list] }), list.clone()),
        (json!({"uniqueItems": true}), json!((0..5_000).collect::<Vec<_>>())),
        (json!({"propertyNames": true}), json!({"x".repeat(20_000): 1})),
        (json!({"properties": {"z": true}}), names(json!(1))),
        (json!({"dependentRequired": names(json!([]))}), json!({})),
        (json!({"dependentSchemas": names(json!(true))}), json!({})),
        (json!({"required": names(json!(1)).as_object().unwrap().keys().collect::<Vec<_>>()}), names(json!(1))),
    ];
    for (slow, value) in cases {
        let shown: String = slow.to_string().chars().take(60).collect();
        assert!(accepts(&slow, &value), "{shown} once");
        let often = json!({"$defs": {"slow": slow}, "allOf": vec![json!({"$ref": "#/$defs/slow"}); 500]});
        assert_eq!(schema(&often).verdict(&mut input(&value)), InputVerdict::Unknown, "{shown} often");
    }
}

#[test]
fn telling_of_what_is_far_down_counts_for_many_steps_and_ends_with_the_second_form_that_may_be_meant() {
    let name = "é".repeat(100);
    let down = |leaf: Value| (0..12).fold(leaf, |inner, _| json!({ "properties": { name.clone(): inner } }));
    let deep = (0..12).fold(json!({}), |inner, _| json!({ name.clone(): inner }));
    let missing: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let far = down(json!({ "required": missing }));
    let mut at_the_door = far.clone();
    at_the_door["minProperties"] = json!(2);
    let is_worn_out = |forms: Vec<Value>| {
        let mut input = input(&deep);
        let _ = schema(&json!({ "anyOf": forms })).problems(&mut input, "body.input");
        schema(&json!(true)).verdict(&mut input) == InputVerdict::Unknown
    };
    assert!(is_worn_out(vec![at_the_door; 10]), "each form is tried, and has a hundred long places");
    assert!(!is_worn_out(vec![json!(false), far.clone()]));
    assert!(!is_worn_out(vec![far; 10]), "of ten, two are enough to know that none of them alone was meant");
}

#[test]
fn many_schemas_have_the_steps_of_one_together() {
    let slow = schema(&json!({"maxLength": 20_000}));
    let mut input = input(&json!("x".repeat(20_000)));
    let verdicts: Vec<_> = (0..1_000).map(|_| slow.verdict(&mut input)).collect();
    assert_eq!((verdicts[0], verdicts[999]), (InputVerdict::Accepted, InputVerdict::Unknown));
    assert!(!input.was_cut_short(), "only a list of problems can be one that was cut short");
    let _ = slow.problems(&mut input, "body.input");
    assert!(input.was_cut_short());
    let _ = schema(&json!(false)).problems(&mut input, "body.input");
    assert!(!input.was_cut_short(), "this one had its steps");
}

#[test]
fn a_schema_with_many_deep_places_or_patterns_is_read_within_bounds() {
    // As many places as fit, each below a name as long as fits.
    let wide = json!({"properties": {"x".repeat(20_000): {"allOf": vec![json!({"type": 1}); 1_500]}}});
    let problems = InputSchema::compile(&RawJson::from_serialize(&wide).unwrap(), "schema").unwrap_err();
    assert_eq!(problems.len(), 100);
    assert!(problems.iter().all(|problem| problem.field.len() < 200));
    let patterns = json!({"allOf": (0..65).map(|number| json!({"pattern": format!("^{number}")})).collect::<Vec<_>>()});
    assert_eq!(refusal(&patterns), ["schema/allOf/64/pattern value_error"]);
    let mut count = 1;
    let refused = RawJson::from_serialize(&json!({"type": 1, "pattern": "a", "not": {"pattern": "b"}})).unwrap();
    InputSchema::compile_counted(&refused, "schema", &mut count).unwrap_err();
    assert_eq!(count, 3, "those of a schema that is refused were compiled as well");
}

#[test]
fn no_schema_exhausts_the_stack() {
    let chain = |link: &dyn Fn(Value) -> Value| {
        let mut definitions = serde_json::Map::new();
        for number in 0..1_000 {
            definitions.insert(format!("d{number}"), link(json!({ "$ref": format!("#/$defs/d{}", number + 1) })));
        }
        definitions.insert("d1000".to_owned(), json!({"type": "null"}));
        schema(&json!({"$defs": definitions, "$ref": "#/$defs/d0"}))
    };
    let chains = [
        chain(&|next| next),
        chain(&|next| json!({"dependentSchemas": {"x": next}})),
        chain(&|next| json!({"anyOf": [next]})),
        chain(&|next| json!({"allOf": [next], "unevaluatedProperties": true})),
    ];
    // Half of what a thread of a server has.
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let checks = small.spawn(move || {
        for chain in &chains {
            assert_eq!(chain.verdict(&mut input(&json!({"x": 1}))), InputVerdict::Unknown);
            assert!(!chain.problems(&mut input(&json!({"x": 1})), "body.input").is_empty());
        }
    });
    checks.unwrap().join().unwrap();
}
