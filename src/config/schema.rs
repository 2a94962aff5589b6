//! What a configuration may say: the keys of its files, recorded from the code that reads them, and the documentation of
//! each. The JSON Schema and the tables of `docs/configuration.md` are made from both.
//!
//! Which keys an entry has may depend on another of its keys: each driver and each metric type reads its own. So a
//! sample is read whose entries have every such key. A new one is one line in [`VARIANTS`].

use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;

use crate::driver::{Drivers, Sql};
use crate::metric::TYPES;
use crate::yaml::document::Document;
use crate::yaml::keys::Reader;
use crate::yaml::recording::MappingRecord;
use crate::yaml::writer::YamlValue;

use super::collector;
use super::exporter::{Exporter, HttpLimits};
use super::include::IncludedFile;
use super::loaded_files::{Discovered, LoadedFiles};
use super::query::Query;
use super::settings::Settings;
use super::target::TargetConfig;

/// Keys of a metric that make others be read.
const VARIANTS: [&str; 3] = ["", ", bucket_columns: x", ", le_column: x"];

/// Documentation of the keys that [`settings!`](super::settings) does not declare: under the name of a table, a line
/// `KEY | DEFAULT | WHAT IT IS FOR` for each key. `{query keys}` stands for the declared keys of a query.
const KEYS: &str = include_str!("keys.txt");

/// The tables of `docs/configuration.md`.
const TABLES: [KeyTable; 9] = [
    KeyTable { name: "configuration", scope: "", declared: Vec::new },
    KeyTable { name: "included file", scope: "collector", declared: Vec::new },
    KeyTable { name: "defaults", scope: "defaults", declared: Vec::new },
    KeyTable { name: "databases.<name>", scope: "databases", declared: declared::<TargetConfig> },
    KeyTable { name: "queries[]", scope: "queries", declared: declared::<Query> },
    KeyTable { name: "metrics[]", scope: "metrics", declared: Vec::new },
    KeyTable { name: "exporter", scope: "exporter", declared: declared::<Exporter> },
    KeyTable { name: "exporter.http", scope: "http", declared: declared::<HttpLimits> },
    KeyTable { name: "tests[]", scope: "tests", declared: Vec::new },
];

/// One table of keys.
struct KeyTable {
    /// In its marker, and in `keys.txt`.
    name: &'static str,
    /// What the mapping is called whose keys it lists.
    scope: &'static str,
    /// The keys that are declared in the code.
    declared: fn() -> Vec<KeyDoc>,
}

/// Keys of these mappings are documented with those of another: defaults and overrides are what they are of, and a query
/// may hold the keys of its one metric, a file those of all its queries.
const ALSO: [(&str, &str); 5] = [
    ("database", "databases"),
    ("query", "queries"),
    ("overrides", "queries"),
    ("queries", "metrics"),
    ("collector", "queries"),
];

/// The documentation of one key.
#[derive(Debug, Clone)]
pub struct KeyDoc {
    /// As a table lists it: `timeout`, `tls.mode`.
    key: String,
    default: String,
    about: String,
}

/// The documentation of all keys.
pub struct KeyDocs(Vec<(Vec<KeyDoc>, KeyTable)>);

impl KeyDocs {
    /// All of it.
    pub fn new() -> KeyDocs {
        KeyDocs(TABLES.into_iter().map(|table| (table.docs(), table)).collect())
    }

    /// What `key` of a mapping called `scope` is for, with its default.
    pub fn about(&self, scope: &str, key: &str) -> Option<String> {
        let found = self.0.iter().find_map(|(docs, table)| {
            let nested = format!("{scope}.{key}");
            docs.iter().find(|doc| doc.key == nested || (table.scope == scope && doc.key == key))
        });
        let in_words = |doc: &KeyDoc| match doc.default.strip_prefix("required") {
            Some(or) => format!("{}\n\nRequired{or}", doc.about),
            None if doc.default == "none" => doc.about.clone(),
            None => format!("{}\n\nDefault: {}", doc.about, doc.default),
        };
        found.map(in_words).or_else(|| {
            let mut others = ALSO.iter().filter(|(name, _)| *name == scope);
            others.find_map(|(_, other)| self.about(other, key))
        })
    }

    /// The keys of the mapping called `scope`, without those below them, in the order of its table.
    pub fn order(&self, scope: &str) -> impl Iterator<Item = &str> {
        let docs = self.0.iter().filter(move |(_, table)| table.scope == scope).flat_map(|(docs, _)| docs);
        docs.map(|doc| doc.key.as_str()).filter(|key| !key.contains('.'))
    }

    /// The tables as Markdown, each with its name.
    pub fn tables(&self) -> Vec<(&'static str, String)> {
        let row = |doc: &KeyDoc| {
            format!(
                "| `{}` | {} | {} |\n",
                doc.key,
                doc.default.replace('|', "\\|"),
                doc.about.replace('|', "\\|")
            )
        };
        let table = |docs: &[KeyDoc]| {
            let rows: String = docs.iter().map(row).collect();
            format!("| key | default | what it is for |\n|---|---|---|\n{rows}")
        };
        self.0.iter().map(|(docs, known)| (known.name, table(docs))).collect()
    }
}

impl Default for KeyDocs {
    fn default() -> Self {
        KeyDocs::new()
    }
}

impl KeyTable {
    /// The keys of the table in `keys.txt`, then those declared in the code.
    fn docs(&self) -> Vec<KeyDoc> {
        let query_keys: Vec<String> = Query::ABOUT.iter().map(|(key, _)| format!("`{key}`")).collect();
        let text = KEYS.replace("{query keys}", &query_keys.join(", "));
        let lines = text.lines().skip_while(|line| line.strip_prefix("## ") != Some(self.name)).skip(1);
        let written = lines.take_while(|line| !line.starts_with("## ")).filter_map(|line| {
            let mut cells = line.splitn(3, " | ").map(str::to_owned);
            Some(KeyDoc { key: cells.next()?, default: cells.next()?, about: cells.next()? })
        });
        written.chain((self.declared)()).collect()
    }
}

/// The keys of a type, with the defaults that it has.
fn declared<T: Settings + Default>() -> Vec<KeyDoc> {
    let defaults = T::default().shown();
    let of_key = |((key, about), (_, default)): (&(&str, &str), &(&str, YamlValue))| KeyDoc {
        key: (*key).to_owned(),
        default: default_text(key, default),
        about: about.trim().to_owned(),
    };
    T::ABOUT.iter().zip(&defaults).map(of_key).collect()
}

/// A default as people write it: `64MiB` for a number of bytes.
fn default_text(key: &str, value: &YamlValue) -> String {
    const MIB: u64 = 1 << 20;
    let text = match value {
        YamlValue::Text(text) if text == "none" => return text.clone(),
        YamlValue::Text(text) => text,
        YamlValue::List(items) => {
            return items.iter().map(|item| default_text(key, item)).collect::<Vec<_>>().join(", ");
        }
        YamlValue::Map(_) => return String::new(),
    };
    match text.parse::<u64>() {
        Ok(bytes) if key.ends_with("_bytes") && bytes % MIB == 0 => format!("`{}MiB`", bytes / MIB),
        Ok(bytes) if key.ends_with("_bytes") && bytes % 1024 == 0 => format!("`{}KiB`", bytes / 1024),
        _ => format!("`{text}`"),
    }
}

/// What the main configuration may say.
pub fn config(drivers: &Drivers) -> Rc<MappingRecord> {
    let databases: String = drivers.names().fold("databases:\n".to_owned(), |text, driver| {
        text + &format!("  {driver}: {{driver: {driver}}}\n")
    });
    recorded(&(databases + &queries()), |document, reader| {
        LoadedFiles::open(document, Path::new(""), drivers, reader).read(&[], Discovered::Sample, reader);
    })
}

/// What an included file may say.
pub fn collector(drivers: &Drivers) -> Rc<MappingRecord> {
    recorded(&queries(), |document, reader| {
        let file = IncludedFile { collector: String::new(), statement: Sql::new, document };
        collector::included(&file, &collector::defaults(None, drivers), drivers, reader);
    })
}

/// A query for each kind of metric, in the list and in the short form.
fn queries() -> String {
    let (mut metrics, mut short) = (String::new(), String::new());
    for kind in TYPES {
        for variant in VARIANTS {
            // Writing to a text cannot fail.
            let _ = writeln!(metrics, "    - {{type: {}{variant}}}", kind.name);
            let _ = writeln!(short, "- {{metric_name: x, type: {}{variant}}}", kind.name);
        }
    }
    format!("queries:\n- metrics:\n{metrics}{short}")
}

fn recorded(text: &str, read: impl Fn(Document, &Reader<'_>)) -> Rc<MappingRecord> {
    let environment = |_: &str| None;
    let reader = Reader::for_schema(&environment);
    // Invariant: a sample is YAML; one that was not would make an empty schema, which a test would see.
    if let Ok(document) = Document::parse("sample", Path::new(""), text.to_owned()) {
        read(document, &reader);
    }
    reader.recorded()
}
