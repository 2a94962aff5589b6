//! A shape as JSON Schema, draft-07: what the YAML language server of editors knows best.
//!
//! The reader takes every scalar's text, so a number may be written in quotes, and wherever it expands variables any
//! text with `${` may stand for the value. Nothing at all (`key:`) counts as an absent key.

use serde_json::{Map, Value, json};

use crate::yaml::shape::{Key, Kind, Shape};

use super::about::about;

/// A text that holds a variable.
const VARIABLE: &str = r"\$\{";
/// What stands before `ms` and `KiB`.
const DECIMAL: &str = r"([0-9]+\.?[0-9]*|\.[0-9]+)";

/// The whole schema of a file of the kind `name`.
pub(super) fn text(shape: &Shape, name: &str, title: &str) -> String {
    let scope = if name == "config" { "" } else { name };
    let Value::Object(mut root) = mapping(shape, scope) else { return String::new() };
    root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    root.insert("title".to_owned(), json!(title));
    format!("{:#}\n", Value::Object(root))
}

/// A mapping with these keys and no other; `scope` is what it is called.
fn mapping(shape: &Shape, scope: &str) -> Value {
    let properties: Map<String, Value> =
        shape.keys.iter().map(|key| (key.name.to_owned(), property(key, scope))).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let needed: Vec<&str> = shape.one_of.iter().filter_map(|group| alone(group)).collect();
    for key in &needed {
        // A key with nothing after it is absent.
        if let Some(Value::Array(types)) = schema.pointer_mut(&format!("/properties/{key}/type")) {
            types.retain(|kind| kind != "null");
        }
    }
    if !needed.is_empty() {
        insert(&mut schema, "required", json!(needed));
    }
    let groups = shape.one_of.iter().filter(|group| alone(group).is_none());
    let one_of = |group: &&[&str]| json!({"oneOf": group.iter().map(|key| json!({"required": [key]})).collect::<Vec<_>>()});
    let groups: Vec<Value> = groups.map(one_of).collect();
    if !groups.is_empty() {
        insert(&mut schema, "allOf", json!(groups));
    }
    schema
}

/// The one key of a group of one.
fn alone<'k>(group: &[&'k str]) -> Option<&'k str> {
    if let [key] = group { Some(key) } else { None }
}

fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = schema {
        map.insert(key.to_owned(), value);
    }
}

fn property(key: &Key, scope: &str) -> Value {
    let words =
        key.kinds.iter().find_map(|kind| if let Kind::Words(words) = kind { Some(words) } else { None });
    let kinds: Vec<Value> = match (words, &key.kinds[..]) {
        // Words that are looked up in a list of texts are those of its items.
        (Some(words), [.., Kind::Texts] | [Kind::Texts, ..]) => vec![list_or_one(&of_words(words))],
        _ => key.kinds.iter().map(|kind| of_kind(kind, key.name)).collect(),
    };
    let mut schema = match <[Value; 1]>::try_from(kinds) {
        Ok([only]) => only,
        Err(kinds) => json!({"anyOf": kinds}),
    };
    if let Some(about) = about(scope, key.name) {
        insert(&mut schema, "description", json!(about));
    }
    schema
}

fn of_kind(kind: &Kind, name: &str) -> Value {
    match kind {
        Kind::Text => json!({"type": ["string", "number", "boolean", "null"]}),
        Kind::Flag => {
            let words = ["true", "yes", "on", "false", "no", "off"].map(any_case).join("|");
            form("boolean", &words, "write true or false")
        }
        Kind::Whole(most) => {
            // A bound that no JSON number shows exactly bounds nothing.
            let bounds =
                if *most < 1 << 53 { json!({"minimum": 0, "maximum": most}) } else { json!({"minimum": 0}) };
            with(form("integer", "\\+?[0-9]+", "write a whole number from 0 on"), bounds)
        }
        Kind::Number => {
            let words = ["inf", "infinity", "nan"].map(any_case).join("|");
            form("number", &format!("[+-]?({DECIMAL}([eE][+-]?[0-9]+)?|{words})"), "write a number")
        }
        Kind::Duration => {
            let text = format!("{DECIMAL}(ms|s|m|h|d)?");
            let hint = "write 500ms, 10s, 5m, 1h or a number of seconds";
            with(form("number", &text, hint), json!({"minimum": 0}))
        }
        Kind::Size => {
            let text = format!("([0-9]+\\s*[Bb]?|{DECIMAL}\\s*[KkMmGg][Ii]?[Bb])");
            let hint = "write 64MiB, 16KiB, 1GB or a number of bytes";
            with(form("integer", &text, hint), json!({"minimum": 0}))
        }
        Kind::Words(words) => of_words(words),
        Kind::Texts => list_or_one(&json!({"type": ["string", "number", "boolean"]})),
        Kind::Pairs => {
            let text = json!({"type": ["string", "number", "boolean"]});
            json!({"type": ["object", "null"], "additionalProperties": text})
        }
        Kind::Cells => {
            let cell = json!({"type": ["string", "number", "boolean", "null"]});
            let row = json!({"type": "object", "additionalProperties": cell});
            json!({"type": ["array", "null"], "items": row})
        }
        Kind::Mapping(shape) => or_nothing(mapping(shape, name)),
        Kind::Items(shape) => json!({"type": ["array", "null"], "items": mapping(shape, name)}),
        Kind::Entries(shape) => {
            let entry = or_nothing(mapping(shape, name));
            json!({"type": ["object", "null"], "additionalProperties": entry})
        }
    }
}

/// A value of this type, or a text of this form. `hint` is what editors say of other texts; no standard keyword, and
/// ignored by validators.
fn form(kind: &str, text: &str, hint: &str) -> Value {
    json!({"type": [kind, "string", "null"], "pattern": pattern(text), "patternErrorMessage": hint})
}

fn with(mut schema: Value, more: Value) -> Value {
    if let Value::Object(more) = more {
        more.into_iter().for_each(|(key, value)| insert(&mut schema, &key, value));
    }
    schema
}

fn or_nothing(schema: Value) -> Value {
    with(schema, json!({"type": ["object", "null"]}))
}

fn list_or_one(item: &Value) -> Value {
    json!({"anyOf": [item, {"type": ["array", "null"], "items": item}]})
}

/// The words as an editor offers them, and as the reader takes them: in any case.
fn of_words(words: &[&str]) -> Value {
    let mut offered: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    // YAML reads these two without quotes as flags.
    offered.extend(words.iter().filter_map(|word| word.parse().ok()).map(Value::Bool));
    let forms: Vec<String> = words.iter().copied().map(any_case).collect();
    json!({"anyOf": [{"enum": offered}, {"type": ["string", "null"], "pattern": pattern(&forms.join("|"))}]})
}

/// The whole text is of this form, blanks around it aside; or it holds a variable.
fn pattern(form: &str) -> String {
    format!(r"^\s*({form})\s*$|{VARIABLE}")
}

/// JSON Schema's patterns know no flag for it.
fn any_case(word: &str) -> String {
    let either = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{c}]", c.to_ascii_uppercase()),
        false => c.to_string(),
    };
    word.chars().map(either).collect()
}
