//! The key tables of `docs/configuration.md`, and what else speaks of keys: the schema's sentences and
//! `examples/full.yaml`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{KINDS, read, root, schema};

/// Names in the markers `<!-- keys: NAME -->` of the page, and what the mappings are called whose keys stand below.
const SCOPES: &[(&str, &str)] = &[
    ("configuration", ""),
    ("defaults", "defaults"),
    ("included file", "collector"),
    ("databases.<name>", "databases"),
    ("queries[]", "queries"),
    ("metrics[]", "metrics"),
    ("exporter", "exporter"),
    ("tests[]", "tests"),
    ("exporter.http", "http"),
];

/// The page with the key tables.
const PAGE: &str = "docs/configuration.md";

/// The texts in backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The key tables, one key a line: `SCOPE.KEY | default | sentence`.
fn table(page: &str) -> String {
    let (mut lines, mut scope) = (String::new(), None);
    for line in page.lines() {
        if let Some(marker) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            let name = marker.strip_prefix("keys: ");
            scope = SCOPES.iter().find(|(known, _)| Some(*known) == name).map(|(_, scope)| *scope);
        }
        let line = line.replace(r"\|", "|");
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(scope), &[names, default, about]) = (scope, &cells[..]) else { continue };
        let names = quoted(names);
        let defaults: Vec<&str> = default.split(", ").collect();
        for (at, name) in names.iter().enumerate() {
            let first = names[0].rsplit_once('.').map(|(before, _)| before);
            let path = match (name.rsplit_once('.'), first) {
                (Some((before, _)), _) | (None, Some(before)) => {
                    before.rsplit('.').next().unwrap_or_default()
                }
                (None, None) => scope,
            };
            let key = name.rsplit('.').next().unwrap_or_default();
            let default = if defaults.len() == names.len() { defaults[at] } else { default };
            let about =
                if scope == "http" { format!("a limit; beyond it: {about}") } else { about.to_owned() };
            lines += &format!("{path}.{key} | {default} | {about}\n");
        }
    }
    lines
}

#[test]
fn the_sentences_of_the_schema_are_those_of_the_documents() {
    let path = root().join("src/commands/schema/keys.txt");
    let table = table(&crate::documents::read(PAGE));
    if std::env::var_os("TEST_BLESS").is_some() {
        std::fs::write(&path, &table).expect("written");
    }
    assert!(read(&path) == table, "run with TEST_BLESS=1, read the file and commit it");
    for line in table.lines() {
        assert!(line.rsplit(" | ").next().is_some_and(|about| !about.is_empty()), "no sentence: {line}");
    }
}

/// Each property below a schema: its name and its sentence.
fn properties(schema: &Value, found: &mut Vec<(String, String)>) {
    match schema {
        Value::Object(map) => {
            for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let about = property.get("description").and_then(Value::as_str).unwrap_or_default();
                found.push((name.clone(), about.to_owned()));
            }
            map.values().for_each(|value| properties(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, found)),
        _ => {}
    }
}

fn all_properties() -> Vec<(String, String)> {
    let mut found = Vec::new();
    KINDS.iter().for_each(|kind| properties(&schema(kind), &mut found));
    found
}

#[test]
fn each_key_of_the_schema_has_a_sentence_and_each_documented_key_is_in_the_schema() {
    let found = all_properties();
    assert!(found.len() > 200);
    let mute: BTreeSet<&str> =
        found.iter().filter(|(_, about)| about.is_empty()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(mute, BTreeSet::new(), "not in the key tables of docs/configuration.md");
    for line in table(&crate::documents::read(PAGE)).lines() {
        let (key, about) = line.split_once(" | ").unwrap();
        let (key, about) = (key.rsplit('.').next().unwrap(), about.rsplit(" | ").next().unwrap());
        let is_known = found.iter().any(|(name, said)| name == key && said.starts_with(about));
        assert!(is_known, "the reader knows no such key: {line}");
    }
}

#[test]
fn the_full_example_has_every_key() {
    let text = read(&root().join("examples/full.yaml"));
    let has = |key: &str| {
        text.match_indices(key).any(|(at, _)| {
            let before = text[..at].chars().next_back().unwrap_or('\n');
            !before.is_alphanumeric() && before != '_' && text[at + key.len()..].starts_with(':')
        })
    };
    let names: BTreeSet<String> = all_properties().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<&String> = names.iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
