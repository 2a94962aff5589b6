//! `schema [KIND]`: prints the JSON Schema of a file that users write, for editors and for who generates files.
//!
//! The keys, what they hold and what they are for come from `config::schema`; here they are written as JSON Schema,
//! draft-07, which the YAML language server of editors knows best. A new kind of file is one line in [`KINDS`].
//!
//! The reader takes the text of every scalar, so a number may be written in quotes, and wherever it expands variables, any
//! text with `${` may stand for the value. Nothing at all (`key:`) counts as an absent key.

use std::rc::Rc;

use argh::{ArgsInfo, FromArgs};
use serde_json::{Map, Value, json};

use crate::config::schema::{self, KeyDocs};
use crate::driver::Drivers;
use crate::error::Error;
use crate::yaml::recording::{KeyRecord, MappingRecord, ValueKind};

use super::{CommandResult, nearest_or_all, print_json};

/// Print the JSON Schema (draft-07) of the configuration, or of an included file.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "schema",
    help_triggers("-h", "--help", "help"),
    example = "Write the schema that editors complete and check with:\n  {command_name} > sql-exporter.schema.json",
    example = "The same for included files:\n  {command_name} collector > collector.schema.json"
)]
pub struct SchemaArgs {
    /// config (default), or collector: an included file
    #[argh(positional)]
    kind: Option<String>,
}

/// A kind of file.
struct FileKind {
    name: &'static str,
    title: &'static str,
    record: fn(&Drivers) -> Rc<MappingRecord>,
}

const KINDS: [FileKind; 2] = [
    FileKind { name: "config", title: "sql-exporter: configuration", record: schema::config },
    FileKind { name: "collector", title: "sql-exporter: included file", record: schema::collector },
];

/// Prints it.
///
/// # Errors
/// An unknown kind, with the nearest.
pub fn run(options: &SchemaArgs) -> CommandResult {
    let name = options.kind.as_deref().unwrap_or("config");
    let kind = KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names = KINDS.map(|kind| kind.name);
        Error::config(format!("no file is of the kind {name:?}")).with_hint(nearest_or_all(name, &names))
    })?;
    let record = (kind.record)(&Drivers::built_in());
    print_json(&schema_text(&record, kind.name, kind.title))?;
    Ok(0)
}

/// A text that holds a variable.
const VARIABLE: &str = r"\$\{";
/// What stands before `ms` and `KiB`.
const DECIMAL: &str = r"([0-9]+\.?[0-9]*|\.[0-9]+)";

/// The whole schema of a file of the kind `name`.
fn schema_text(record: &MappingRecord, name: &str, title: &str) -> String {
    let scope = if name == "config" { "" } else { name };
    let mut schema = mapping(record, scope, &KeyDocs::new());
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(title);
    format!("{schema:#}\n")
}

/// A mapping with these keys and no other; `scope` is what it is called.
fn mapping(record: &MappingRecord, scope: &str, docs: &KeyDocs) -> Value {
    let properties: Map<String, Value> =
        record.keys().iter().map(|key| (key.name.to_owned(), property(key, scope, docs))).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let (single, groups): (Vec<_>, Vec<_>) =
        record.required().into_iter().partition(|group| group.len() == 1);
    let required: Vec<&str> = single.concat();
    for key in &required {
        // A key with nothing after it is absent.
        if let Some(Value::Array(types)) = schema.pointer_mut(&format!("/properties/{key}/type")) {
            types.retain(|kind| kind != "null");
        }
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    let one_of = |group: &&[&str]| {
        let keys: Vec<Value> = group.iter().map(|key| json!({"required": [key]})).collect();
        json!({"oneOf": keys})
    };
    if !groups.is_empty() {
        schema["allOf"] = groups.iter().map(one_of).collect();
    }
    schema
}

fn property(key: &KeyRecord, scope: &str, docs: &KeyDocs) -> Value {
    let words = key.kinds.iter().find_map(|kind| match kind {
        ValueKind::Words(words) => Some(words),
        _ => None,
    });
    let kinds: Vec<Value> = match (words, &key.kinds[..]) {
        // Words that are looked up in a list of texts are those of its items.
        (Some(words), [.., ValueKind::Texts] | [ValueKind::Texts, ..]) => vec![list_or_one(&of_words(words))],
        _ => key.kinds.iter().map(|kind| of_kind(kind, key, docs)).collect(),
    };
    let mut schema = match <[Value; 1]>::try_from(kinds) {
        Ok([only]) => only,
        Err(kinds) => json!({"anyOf": kinds}),
    };
    if let Some(about) = docs.about(scope, key.name) {
        schema["description"] = json!(about);
    }
    schema
}

fn of_kind(kind: &ValueKind, key: &KeyRecord, docs: &KeyDocs) -> Value {
    let inner = || mapping(&key.inner, key.name, docs);
    let text = || json!({"type": ["string", "number", "boolean"]});
    let or_null = || json!({"type": ["string", "number", "boolean", "null"]});
    match kind {
        ValueKind::Text => or_null(),
        ValueKind::Flag => {
            let words = ["true", "yes", "on", "false", "no", "off"].map(any_case).join("|");
            form("boolean", &words, "write true or false")
        }
        ValueKind::Whole(most) => {
            // A bound that no JSON number shows exactly bounds nothing.
            let bounds =
                if *most < 1 << 53 { json!({"minimum": 0, "maximum": most}) } else { json!({"minimum": 0}) };
            with(form("integer", "\\+?[0-9]+", "write a whole number from 0 on"), bounds)
        }
        ValueKind::Number => {
            let words = ["inf", "infinity", "nan"].map(any_case).join("|");
            form("number", &format!("[+-]?({DECIMAL}([eE][+-]?[0-9]+)?|{words})"), "write a number")
        }
        ValueKind::Duration => {
            let text = format!("{DECIMAL}(ms|s|m|h|d)?");
            let hint = "write 500ms, 10s, 5m, 1h or a number of seconds";
            with(form("number", &text, hint), json!({"minimum": 0}))
        }
        ValueKind::Size => {
            let text = format!("([0-9]+\\s*[Bb]?|{DECIMAL}\\s*[KkMmGg][Ii]?[Bb])");
            let hint = "write 64MiB, 16KiB, 1GB or a number of bytes";
            with(form("integer", &text, hint), json!({"minimum": 0}))
        }
        ValueKind::Words(words) => of_words(words),
        ValueKind::Texts => list_or_one(&text()),
        ValueKind::Pairs => json!({"type": ["object", "null"], "additionalProperties": text()}),
        ValueKind::Cells => {
            let row = json!({"type": "object", "additionalProperties": or_null()});
            json!({"type": ["array", "null"], "items": row})
        }
        ValueKind::Mapping => or_nothing(inner()),
        ValueKind::Items => json!({"type": ["array", "null"], "items": inner()}),
        ValueKind::PairsOrEntries => {
            json!({"type": ["object", "null"], "additionalProperties": {"anyOf": [text(), inner()]}})
        }
        ValueKind::Entries => {
            json!({"type": ["object", "null"], "additionalProperties": or_nothing(inner())})
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
        more.into_iter().for_each(|(key, value)| schema[key.as_str()] = value);
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
