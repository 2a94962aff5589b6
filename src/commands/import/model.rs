//! What an import makes: files of our configuration, entry by entry, before they are text.
//!
//! An entry holds any of our keys; the load of the result checks them. Knows no dialect and no YAML.

use crate::error::SourcePosition;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// A text that stands for itself: `${` in it is written as `$${`.
    Text(String),
    /// A text with variables that the load replaces: `${NAME}`.
    Expanded(String),
    /// A statement: a block where it does not fit a line. Variables are not replaced in it.
    Sql(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping, in this order.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A mapping.
    pub(super) fn map<K: ToString, V: Into<Value>>(pairs: impl IntoIterator<Item = (K, V)>) -> Value {
        Value::Map(pairs.into_iter().map(|(key, value)| (key.to_string(), value.into())).collect())
    }

    /// About how many bytes it is where it is written.
    fn bytes(&self) -> usize {
        match self {
            Value::Text(text) | Value::Expanded(text) | Value::Sql(text) => text.len(),
            Value::List(items) => items.iter().map(|item| item.bytes() + 2).sum(),
            Value::Map(pairs) => pairs.iter().map(|(key, value)| key.len() + value.bytes() + 4).sum(),
        }
    }

    /// A list.
    pub(super) fn list<V: Into<Value>>(items: impl IntoIterator<Item = V>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

/// Keys with their values, and what belongs to them in the source.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Lines of comments above it, without `#`.
    pub(super) comments: Vec<String>,
    /// Comments behind keys of the source, by key: they stay there where the entry has a key of that name.
    pub(super) behind: Vec<(String, String)>,
    /// Where it comes from: a fault of the result is reported there.
    pub(super) origin: Option<SourcePosition>,
    /// It does not load, and goes.
    pub(super) is_faulty: bool,
    keys: Vec<(&'static str, Value)>,
}

impl Entry {
    /// An entry that comes from `origin`.
    pub(super) fn at(origin: SourcePosition) -> Entry {
        Entry { origin: Some(origin), ..Entry::default() }
    }

    /// Sets a key, in place of the value that it had.
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.keys.iter_mut().find(|(known, _)| *known == key) {
            Some((_, place)) => *place = value,
            None => self.keys.push((key, value)),
        }
    }

    /// Sets a key where there is a value.
    pub(super) fn set_if<V: Into<Value>>(&mut self, key: &'static str, value: Option<V>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Sets a key to a list or a mapping that holds something.
    pub(super) fn set_nonempty(&mut self, key: &'static str, value: Value) {
        let is_empty = match &value {
            Value::List(items) => items.is_empty(),
            Value::Map(pairs) => pairs.is_empty(),
            Value::Text(_) | Value::Expanded(_) | Value::Sql(_) => false,
        };
        self.set_if(key, Some(value).filter(|_| !is_empty));
    }

    /// The comments above it: its own, and those behind keys that it does not have.
    pub(super) fn comments_above(&self) -> Vec<String> {
        let lost = self.behind.iter().filter(|(key, _)| self.get(key).is_none());
        self.comments.iter().cloned().chain(lost.map(|(key, comment)| format!("{key}: {comment}"))).collect()
    }

    /// About how many bytes it is where it is written.
    pub(super) fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|(key, value)| key.len() + value.bytes() + 4);
        let comments = self.comments.iter().chain(self.behind.iter().map(|(_, comment)| comment));
        keys.chain(comments.map(String::len)).sum()
    }

    /// Removes its comments.
    pub(super) fn clear_comments(&mut self) {
        self.comments.clear();
        self.behind.clear();
    }

    /// Whether a comment stands behind one of its keys.
    pub(super) fn has_comment_behind(&self) -> bool {
        self.behind.iter().any(|(key, _)| self.get(key).is_some())
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The value of a key that is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) | Value::Expanded(text) | Value::Sql(text) => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.keys.iter().position(|(known, _)| *known == key)?;
        Some(self.keys.remove(at).1)
    }

    /// Removes an item of a list; the key with its last one.
    pub(super) fn remove_item(&mut self, key: &str, item: &Value) {
        self.keys.retain_mut(|(known, value)| match value {
            Value::List(items) if *known == key => {
                items.retain(|known| known != item);
                !items.is_empty()
            }
            _ => true,
        });
    }

    /// Removes what a path names, `exporter.port`; false where there is no such key.
    pub(super) fn remove_at(&mut self, path: &str) -> bool {
        remove_at(&mut self.keys, path)
    }

    /// Names the targets that it runs on; the only one runs everything.
    pub(super) fn run_on(&mut self, targets: &[String], is_only_target: bool) {
        match targets {
            _ if is_only_target => {}
            [one] if !one.ends_with("/*") => self.set("database", one.as_str()),
            several => self.set("databases", Value::list(several.iter().cloned())),
        }
    }

    /// Adds a code to `lint_off`; false where it is there.
    pub(super) fn silence(&mut self, code: &'static str) -> bool {
        let code = Value::from(code);
        match self.keys.iter_mut().find(|(known, _)| *known == "lint_off") {
            Some((_, Value::List(codes))) if codes.contains(&code) => return false,
            Some((_, Value::List(codes))) => codes.push(code),
            _ => self.set("lint_off", Value::List(vec![code])),
        }
        true
    }

    /// All keys with their values.
    pub(super) fn keys(&self) -> &[(&'static str, Value)] {
        &self.keys
    }
}

fn remove_at<K: AsRef<str>>(pairs: &mut Vec<(K, Value)>, path: &str) -> bool {
    let (key, below) = path.split_once('.').unwrap_or((path, ""));
    match pairs.iter_mut().find(|(known, _)| known.as_ref() == key) {
        Some((_, Value::Map(inner))) if !below.is_empty() => remove_at(inner, below),
        Some(_) => {
            pairs.retain(|(known, _)| known.as_ref() != key);
            true
        }
        None => false,
    }
}

/// A query and its metrics.
#[derive(Debug, Clone, Default)]
pub(super) struct ImportedQuery {
    /// All keys but `metrics`.
    pub(super) entry: Entry,
    /// Each with its keys.
    pub(super) metrics: Vec<Entry>,
}

/// An entry of `databases`.
#[derive(Debug, Clone, Default)]
pub(super) struct ImportedTarget {
    /// Its name.
    pub(super) name: String,
    /// Its keys.
    pub(super) entry: Entry,
}

/// One file of the result.
#[derive(Debug, Clone, Default)]
pub(super) struct OutputFile {
    /// Its name below the folder of `-o DIR/`: `collectors/stock.yaml`.
    pub(super) name: String,
    /// Keys at the top but those below; its comments begin the file.
    pub(super) top: Entry,
    /// Comments at the end.
    pub(super) tail: Vec<String>,
    /// Comments above the keys at the top, line by line.
    pub(super) headings: Vec<(&'static str, String)>,
    /// The targets; of the main file only.
    pub(super) databases: Vec<ImportedTarget>,
    /// The queries.
    pub(super) queries: Vec<ImportedQuery>,
}

/// What an import makes of its inputs.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// The file with the targets; `None` where the source has none.
    pub(super) main: Option<OutputFile>,
    /// Files for `include`.
    pub(super) included: Vec<OutputFile>,
}
