//! What speaks of keys says the same: the code, the schema, the tables of `docs/configuration.md` and
//! `examples/full.yaml`.

use std::collections::BTreeSet;

use serde_json::Value;
use sql_exporter::config::schema::KeyDocs;

use super::{KINDS, read, root, schema};

/// The text with each table between `<!-- keys: NAME -->` and `<!-- /keys -->` as the code has it, and the names of the
/// tables that were found.
fn with_tables(text: &str) -> (String, Vec<String>) {
    const START: &str = "<!-- keys: ";
    const END: &str = "<!-- /keys -->";
    let tables = KeyDocs::new().tables();
    let (mut out, mut names, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find(START) {
        let name = rest[at + START.len()..].split(" -->").next().unwrap();
        let end = at + rest[at..].find(END).unwrap_or_else(|| panic!("{name}: there is no {END}"));
        let table = tables.iter().find(|(known, _)| *known == name);
        let (_, table) = table.unwrap_or_else(|| panic!("there is no table {name}"));
        out += &format!("{}{START}{name} -->\n{table}{END}", &rest[..at]);
        names.push(name.to_owned());
        rest = &rest[end + END.len()..];
    }
    (out + rest, names)
}

#[test]
fn the_tables_of_keys_are_those_of_the_code() {
    let path = root().join("docs/configuration.md");
    let (text, mut names) = with_tables(&read(&path));
    if std::env::var_os("TEST_BLESS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    assert!(read(&path) == text, "docs/configuration.md: run `make docs`, and commit the file");
    let mut known: Vec<&str> = KeyDocs::new().tables().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known, "each table stands once in docs/configuration.md");
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
    assert_eq!(mute, BTreeSet::new(), "add a line for each to src/config/keys.txt");
    let mut documented = 0;
    for (table, rows) in KeyDocs::new().tables() {
        for row in rows.lines().skip(2) {
            let row = row.replace("\\|", "¦");
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [key, default, about] = cells[..] else { panic!("{table}: {row}") };
            let (key, about) = (key.trim_matches('`').rsplit('.').next().unwrap(), about.replace('¦', "|"));
            assert!(!default.is_empty() && about.ends_with(['.', ':']), "{table}: not a sentence: {row}");
            let is_known = found.iter().any(|(name, said)| name == key && said.starts_with(&about));
            assert!(is_known, "{table}: nothing reads the key of this line: {row}");
            documented += 1;
        }
    }
    assert!(documented > 120, "{documented}");
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
