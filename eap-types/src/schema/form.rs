//! How a derived schema becomes what its readers need: what may come in, what goes out, what a client should send.

use schemars::Schema;
use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

/// What a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Everything that is taken: both spellings, and `null` wherever a field may be absent.
    Taken,
    /// What is written: never a `null`.
    Written,
    /// What a generated client should send: one spelling, no `null`.
    Sent,
    /// What is written, as a generated client can read it.
    Read,
}

impl Form {
    /// Settings for schemas of this form; their definitions stand at `definitions`.
    pub(crate) fn settings(self, definitions: &'static str) -> SchemaSettings {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = definitions.into();
            settings.meta_schema = None;
            settings.contract = match self {
                Self::Taken | Self::Sent => Contract::Deserialize,
                Self::Written | Self::Read => Contract::Serialize,
            };
        });
        settings.with_transform(RecursiveTransform(move |schema: &mut Schema| self.shape(schema)))
    }

    /// Gives one schema this form; its parts come on their own.
    pub(crate) fn shape(self, schema: &mut Schema) {
        let Some(schema) = schema.as_object_mut() else { return };
        plain_description(schema);
        end_unsigned(schema);
        match self {
            Self::Taken => take_null_as_absent(schema),
            Self::Written => {
                write_no_null(schema);
                keep_first_spelling(schema);
            }
            Self::Sent | Self::Read => {
                write_no_null(schema);
                keep_first_spelling(schema);
                list_words(schema);
                share_members(schema);
            }
        }
    }
}

/// Says where a number of 32 bits ends; `format` alone is a word that no validator has to know.
fn end_unsigned(schema: &mut Map<String, Value>) {
    if schema.get("format").is_some_and(|format| format == "uint32") {
        schema.entry("maximum").or_insert_with(|| json!(u32::MAX));
    }
}

/// Takes what only Rust's own documentation can use out of a description: links and programs.
fn plain_description(schema: &mut Map<String, Value>) {
    let Some(Value::String(text)) = schema.get_mut("description") else { return };
    let words = text.split("\n\n```").next().unwrap_or_default();
    let paragraphs = words.split("\n\n").map(|paragraph| unlinked(&paragraph.replace('\n', " ")));
    *text = paragraphs.collect::<Vec<_>>().join("\n\n");
}

/// ``[`Word`](path)`` and ``[`Word`]`` become `` `Word` ``.
fn unlinked(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find("[`") {
        let Some(end) = rest[start..].find("`]").map(|length| start + length + 1) else { break };
        plain.push_str(&rest[..start]);
        plain.push_str(&rest[start + 1..end]);
        rest = &rest[end + 1..];
        if let Some(close) = rest.strip_prefix('(').and_then(|target| target.find(')')) {
            rest = &rest[close + 2..];
        }
    }
    plain.push_str(rest);
    plain
}

/// Lets every member that may be absent be `null` as well, as the decoder does.
fn take_null_as_absent(schema: &mut Map<String, Value>) {
    let required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(members)) = schema.get_mut("properties") else { return };
    for (name, member) in members {
        // One that is there for its own sake, as the tag of a variant is, cannot be absent.
        if !required.iter().any(|field| field == name)
            && let Value::Object(member) = member
        {
            or_null(member);
        }
    }
}

fn or_null(member: &mut Map<String, Value>) {
    let nothing = json!({ "type": "null" });
    match member.get_mut("type") {
        Some(Value::Array(types)) if types.iter().any(|given| given == "null") => {}
        Some(Value::Array(types)) => types.push(json!("null")),
        Some(one) => *one = json!([one.take(), "null"]),
        None => {
            if let Some(Value::Array(any)) = member.get_mut("anyOf") {
                if !any.contains(&nothing) {
                    any.push(nothing);
                }
            } else if let Some(target) = member.remove("$ref") {
                member.insert("anyOf".to_owned(), json!([{ "$ref": target }, nothing]));
            }
        }
    }
}

/// Takes `null` out: an absent member is left out of what we write.
fn write_no_null(schema: &mut Map<String, Value>) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|given| given != "null");
        if let [one] = &mut types[..] {
            let one = one.take();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|one| *one != json!({ "type": "null" }));
        if let [Value::Object(one)] = &mut any[..] {
            let one = std::mem::take(one);
            schema.remove("anyOf");
            // What is said of the member goes before what is said of its type.
            for (key, value) in one {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// Of two spellings of one member, keeps the one that we write ourselves.
fn keep_first_spelling(schema: &mut Map<String, Value>) {
    let Some(Value::Array(any)) = schema.get("anyOf") else { return };
    let spellings: Option<Vec<Value>> = any.iter().map(|one| one.get("required")?.get(0).cloned()).collect();
    let Some(spellings) = spellings else { return };
    schema.remove("anyOf");
    if let (Some(Value::Object(members)), Some((first, others))) =
        (schema.get_mut("properties"), spellings.split_first())
    {
        for other in others.iter().filter_map(Value::as_str) {
            members.remove(other);
        }
        if let Value::Array(required) = schema.entry("required").or_insert_with(|| json!([]))
            && !required.contains(first)
        {
            required.push(first.clone());
        }
    }
}

/// Words that are listed one by one, each with its meaning, become one list: generators make an enum of it.
fn list_words(schema: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = schema.get("oneOf") else { return };
    let word =
        |variant: &Value| Some((variant.get("const")?.as_str()?.to_owned(), variant.get("description").cloned()));
    let Some(words) = variants.iter().map(word).collect::<Option<Vec<_>>>() else { return };
    let meanings = words.iter().map(|(word, meaning)| match meaning.as_ref().and_then(Value::as_str) {
        Some(meaning) => format!("- `{word}`: {meaning}"),
        None => format!("- `{word}`"),
    });
    let meanings = meanings.collect::<Vec<_>>().join("\n");
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let about = format!("{about}\n\n{meanings}").trim_start().to_owned();
    schema.insert("description".to_owned(), json!(about));
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), words.into_iter().map(|(word, _)| word).collect());
    schema.remove("oneOf");
}

/// Members beside a choice of objects go into each of them: most generators read only the choice.
fn share_members(schema: &mut Map<String, Value>) {
    let is_choice_of_objects = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .is_some_and(|variants| variants.iter().all(|variant| variant.get("properties").is_some()));
    if !is_choice_of_objects {
        return;
    }
    let Some(Value::Object(shared)) = schema.remove("properties") else { return };
    let required = schema.remove("required").and_then(|required| required.as_array().cloned()).unwrap_or_default();
    schema.remove("type");
    for variant in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::Object(members)) = variant.get_mut("properties") {
            members.extend(shared.clone());
        }
        if let Some(Value::Array(own)) = variant.get_mut("required") {
            own.extend(required.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(form: Form, schema: Value) -> Value {
        let mut schema: Schema = schema.try_into().unwrap();
        form.shape(&mut schema);
        schema.to_value()
    }

    #[test]
    fn a_description_keeps_its_words_alone() {
        let text = "The name of an\nagent, see [`AgentName`](crate::AgentName) and [`Labels`].\n\nMore.\n\n```\nlet x = 1;\n```";
        let plain = shaped(Form::Written, json!({ "description": text }));
        assert_eq!(plain, json!({ "description": "The name of an agent, see `AgentName` and `Labels`.\n\nMore." }));
    }

    #[test]
    fn what_may_be_absent_may_be_null_on_the_way_in_and_never_is_on_the_way_out() {
        let schema = json!({
            "type": "object",
            "properties": {
                "a": { "type": "integer" },
                "b": { "$ref": "#/$defs/B", "default": null },
                "c": { "type": ["string", "null"] },
            },
            "required": ["a"],
        });
        let taken = shaped(Form::Taken, schema.clone());
        assert_eq!(taken["properties"]["a"], json!({ "type": "integer" }));
        assert_eq!(taken["properties"]["b"]["anyOf"], json!([{ "$ref": "#/$defs/B" }, { "type": "null" }]));
        let member = |form, member: &Value| shaped(form, member.clone());
        for form in [Form::Written, Form::Sent, Form::Read] {
            assert_eq!(member(form, &taken["properties"]["b"]), json!({ "$ref": "#/$defs/B" }));
            assert_eq!(member(form, &taken["properties"]["c"]), json!({ "type": "string" }));
        }
    }

    #[test]
    fn words_become_one_list_for_generators_and_keep_their_meaning() {
        let words = json!({ "oneOf": [{ "const": "a", "type": "string", "description": "First." }, { "const": "b" }] });
        let listed = shaped(Form::Read, words.clone());
        assert_eq!(listed["enum"], json!(["a", "b"]));
        assert_eq!(listed["description"], "- `a`: First.\n- `b`");
        assert_eq!(shaped(Form::Written, words.clone()), words);
    }
}
