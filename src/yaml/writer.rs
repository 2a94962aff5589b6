//! The one YAML writer, and what a mapping came to say: defaults merged in and variables replaced. With its secrets
//! hidden it is shown; with them it makes a digest, by which a reload knows whether anything changed.
//!
//! Which values are secret stands in the record of the mapping: those taken as a secret or concealed, and keys that
//! nobody asked for. What is written reads back as the same.

use std::fmt::{Display, Write as _};
use std::rc::Rc;

use ring::digest::{SHA256, digest};

use super::document::{MapEntry, NodeValue};
use super::reader::Environment;
use super::recording::{MappingRecord, Showing};
use super::scalar::expand;
use super::source::MappingSource;

/// What stands for a secret.
const HIDDEN: &str = "<hidden>";

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YamlValue {
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<YamlValue>),
    /// A mapping, in order.
    Map(Vec<(String, YamlValue)>),
}

impl Default for YamlValue {
    /// An empty mapping.
    fn default() -> Self {
        YamlValue::Map(Vec::new())
    }
}

impl YamlValue {
    /// A scalar.
    pub fn text(text: impl Display) -> YamlValue {
        YamlValue::Text(text.to_string())
    }

    /// A mapping.
    pub fn map<K: Display>(pairs: impl IntoIterator<Item = (K, YamlValue)>) -> YamlValue {
        YamlValue::Map(pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
    }

    /// What stands for a secret.
    pub fn hidden() -> YamlValue {
        YamlValue::text(HIDDEN)
    }

    /// Sets the value of a key of a mapping; where the key is absent, only with `or_add`. True where it was there.
    pub fn set(&mut self, key: &str, value: YamlValue, or_add: bool) -> bool {
        let YamlValue::Map(pairs) = self else { return false };
        let known = pairs.iter_mut().find(|(known, _)| known == key);
        match known {
            Some((_, place)) => *place = value,
            None if or_add => pairs.push((key.to_owned(), value)),
            None => return false,
        }
        true
    }

    /// Leaves out the keys of a mapping that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str, &YamlValue) -> bool) {
        if let YamlValue::Map(pairs) = self {
            pairs.retain(|(key, value)| wanted(key, value));
        }
    }

    /// As YAML, which reads back as the same.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        out
    }

    fn write(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            YamlValue::Text(text) => {
                let has_lines = text.trim_end_matches('\n').contains('\n');
                let block = if has_lines { block(text, depth + 1) } else { None };
                out.push_str(&block.unwrap_or_else(|| scalar(text)));
                out.push('\n');
            }
            YamlValue::List(items) => {
                for item in items {
                    out.extend([&*indent, "-"]);
                    item.write_below(depth, out);
                }
            }
            YamlValue::Map(pairs) => {
                for (key, value) in pairs {
                    out.extend([&*indent, &*scalar(key), ":"]);
                    value.write_below(depth, out);
                }
            }
        }
    }

    /// After `-` or `key:`.
    fn write_below(&self, depth: usize, out: &mut String) {
        match self {
            YamlValue::Text(_) => {
                out.push(' ');
                self.write(depth, out);
            }
            YamlValue::List(items) if items.is_empty() => out.push_str(" []\n"),
            YamlValue::Map(pairs) if pairs.is_empty() => out.push_str(" {}\n"),
            YamlValue::List(_) | YamlValue::Map(_) => {
                out.push('\n');
                self.write(depth + 1, out);
            }
        }
    }
}

/// A key or a value on one line, in block or flow style: as it is where nothing in it means anything to YAML, else in
/// double quotes.
pub fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    // JSON's strings are YAML's, but for some characters that YAML takes for ends of lines or refuses.
    let mut out = String::new();
    for character in serde_json::Value::from(text).to_string().chars() {
        if is_plain_character(character) {
            out.push(character);
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
    }
    out
}

/// A text as a block that is indented by twice `depth`, without the end of its last line; `None` where no block can hold
/// it.
pub fn block(text: &str, depth: usize) -> Option<String> {
    let is_block =
        text.chars().all(|c| c == '\n' || is_plain_character(c)) && !text.starts_with([' ', '\n', '\t']);
    is_block.then(|| {
        let mut out = String::from(match text.len() - text.trim_end_matches('\n').len() {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            let indent = if line.is_empty() { String::new() } else { "  ".repeat(depth) };
            out.extend(["\n", &indent, line]);
        }
        out
    })
}

/// A comment's text without what YAML does not allow, or takes for the end of its line.
pub fn comment(text: &str) -> String {
    let is_odd = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().filter(|c| !is_odd(*c)).collect::<String>().trim_end().to_owned()
}

/// Control characters may give orders to a terminal, and marks of direction turn a line around.
fn is_plain_character(c: char) -> bool {
    let is_odd =
        matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    c == '\t' || !(c.is_control() || is_odd)
}

/// A text that means itself without quotes, whatever reads it. `true` and `false` do: a flag is not text in quotes.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let is_first = |c: char| c.is_alphanumeric() || "/._<(".contains(c);
    let is_inner = |c: char| is_first(c) || " -+=)>$%;~^@*'|:".contains(c);
    text.starts_with(is_first)
        && text.chars().all(is_inner)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// SHA-256 of what was read, secrets included.
pub type Digest = [u8; 32];

/// The digest of several texts.
pub fn digest_of(parts: &[&[u8]]) -> Digest {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
        whole.extend_from_slice(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &whole).as_ref());
    bytes
}

/// What a mapping says over its defaults; with `masked`, its secrets are hidden.
pub(super) fn effective(
    own: &MappingSource<'_>,
    defaults: Option<&MappingSource<'_>>,
    environment: &Environment,
    masked: bool,
) -> YamlValue {
    let view = EffectiveView { environment, masked };
    let mut pairs: Vec<_> = own.entries.iter().filter_map(|entry| view.pair(own, entry, defaults)).collect();
    if let Some(defaults) = defaults {
        let missing = defaults.entries.iter().filter(|entry| own.find(&entry.key).is_none());
        pairs.extend(missing.filter_map(|entry| view.pair(defaults, entry, None)));
    }
    YamlValue::Map(pairs)
}

/// How a mapping is looked at.
struct EffectiveView<'v> {
    environment: &'v Environment,
    masked: bool,
}

impl EffectiveView<'_> {
    /// A key with its value, merged with the default where both are mappings.
    fn pair(
        &self,
        source: &MappingSource<'_>,
        entry: &MapEntry,
        defaults: Option<&MappingSource<'_>>,
    ) -> Option<(String, YamlValue)> {
        let showing = source.record.showing(&entry.key);
        let mut value = self.value(&entry.node.value, &showing)?;
        if let YamlValue::Map(own) = &mut value
            && let Some(default) = defaults.and_then(|defaults| defaults.entry(&entry.key))
            && let Some(YamlValue::Map(mut more)) = self.value(&default.node.value, &showing)
        {
            more.retain(|(key, _)| own.iter().all(|(known, _)| known != key));
            own.append(&mut more);
        }
        Some((entry.key.clone(), value))
    }

    /// `None` for nothing.
    fn value(&self, value: &NodeValue, showing: &Showing) -> Option<YamlValue> {
        Some(match value {
            NodeValue::Null => return None,
            NodeValue::Scalar(text) => YamlValue::Text(match showing {
                Showing::Hidden if self.masked => HIDDEN.to_owned(),
                Showing::AsTyped => text.clone(),
                _ => expand(text, self.environment).unwrap_or_else(|_| text.clone()),
            }),
            NodeValue::List(items) => {
                // The mappings of a list are read by themselves, and hold no secrets.
                let inner = inner(showing, None);
                YamlValue::List(items.iter().filter_map(|item| self.value(&item.value, &inner)).collect())
            }
            NodeValue::Map(entries) => YamlValue::Map(
                entries
                    .iter()
                    .filter_map(|entry| {
                        let value = self.value(&entry.node.value, &inner(showing, Some(&entry.key)))?;
                        Some((entry.key.clone(), value))
                    })
                    .collect(),
            ),
        })
    }
}

/// How a value below another is shown: hidden below what is hidden, else as its own key was asked for.
fn inner(showing: &Showing, key: Option<&str>) -> Showing {
    match (showing, key) {
        (Showing::Hidden, _) => Showing::Hidden,
        (Showing::Expanded(record), Some(key)) if !record.is_empty() => record.showing(key),
        _ => Showing::Expanded(Rc::new(MappingRecord::default())),
    }
}
