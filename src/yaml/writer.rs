//! What a mapping came to say: defaults merged in, variables replaced. YamlValue with its secrets hidden, and as a digest
//! with them, by which a reload knows whether anything changed.
//!
//! Which values are secret stands in the reader's record: those taken as a secret or concealed, and keys that nobody
//! asked for.

use std::rc::Rc;

use ring::digest::{SHA256, digest};

use super::document::{MapEntry, NodeValue};
use super::expand::expand;
use super::keys::Keys;
use super::record::{Record, Showing};
use super::source::Source;

/// What stands for a secret.
const HIDDEN: &str = "<hidden>";

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YamlValue {
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<YamlValue>),
    /// A mapping, in order.
    Map(Vec<(String, YamlValue)>),
}

/// SHA-256 of what was read, secrets included.
pub type Digest = [u8; 32];

/// The digest of several texts.
#[must_use]
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

impl Keys<'_> {
    /// The mapping with its secrets hidden. Ask once every key was taken: what nobody took is hidden too.
    #[must_use]
    pub fn redacted(&self) -> YamlValue {
        self.effective(true)
    }

    /// The digest of the mapping, secrets included.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest_of(&[self.effective(false).yaml().as_bytes()])
    }

    /// The digest of the mapping without some of its keys.
    #[must_use]
    pub fn digest_without(&self, left_out: &[&str]) -> Digest {
        let mut shown = self.effective(false);
        if let YamlValue::Map(pairs) = &mut shown {
            pairs.retain(|(key, _)| !left_out.contains(&key.as_str()));
        }
        digest_of(&[shown.yaml().as_bytes()])
    }

    fn effective(&self, masked: bool) -> YamlValue {
        let view = View { keys: self, masked };
        let mut pairs = view.pairs(&self.front, self.back.as_ref());
        for entry in self.back.iter().flat_map(Source::entries) {
            if self.front.find(&entry.key).is_none()
                && let Some(back) = &self.back
            {
                pairs.extend(view.pair(back, entry, None));
            }
        }
        YamlValue::Map(pairs)
    }
}

/// How a mapping is looked at.
struct View<'v, 'd> {
    keys: &'v Keys<'d>,
    masked: bool,
}

impl View<'_, '_> {
    fn pairs(&self, source: &Source<'_>, back: Option<&Source<'_>>) -> Vec<(String, YamlValue)> {
        source.entries().iter().filter_map(|entry| self.pair(source, entry, back)).collect()
    }

    /// A key with its value; of two mappings one over the other where they merge.
    fn pair(
        &self,
        source: &Source<'_>,
        entry: &MapEntry,
        back: Option<&Source<'_>>,
    ) -> Option<(String, YamlValue)> {
        let showing = source.record.showing(&entry.key);
        let mut shown = self.value(&entry.tree.value, &showing)?;
        if let YamlValue::Map(own) = &mut shown
            && let Some(behind) = back.and_then(|back| back.entry(&entry.key))
            && let Some(YamlValue::Map(more)) = self.value(&behind.tree.value, &showing)
        {
            let missing: Vec<_> =
                more.into_iter().filter(|(key, _)| own.iter().all(|(known, _)| known != key)).collect();
            own.extend(missing);
        }
        Some((entry.key.clone(), shown))
    }

    /// `None` for nothing.
    fn value(&self, value: &NodeValue, showing: &Showing) -> Option<YamlValue> {
        Some(match value {
            NodeValue::Null => return None,
            NodeValue::Scalar(text) => YamlValue::Text(match showing {
                Showing::Hidden if self.masked => HIDDEN.to_owned(),
                Showing::AsTyped => text.clone(),
                _ => expand(text, self.keys.reader.environment).unwrap_or_else(|_| text.clone()),
            }),
            NodeValue::List(items) => {
                // The mappings of a list were asked for themselves, and hold no secrets.
                YamlValue::List(
                    items.iter().filter_map(|item| self.value(&item.value, &inner(showing, None))).collect(),
                )
            }
            NodeValue::Map(entries) => {
                let shown = |entry: &MapEntry| {
                    Some((
                        entry.key.clone(),
                        self.value(&entry.tree.value, &inner(showing, Some(&entry.key)))?,
                    ))
                };
                YamlValue::Map(entries.iter().filter_map(shown).collect())
            }
        })
    }
}

/// How a value below another is shown: hidden below what is hidden, else as its own key was asked.
fn inner(showing: &Showing, key: Option<&str>) -> Showing {
    match (showing, key) {
        (Showing::Hidden, _) => Showing::Hidden,
        (Showing::Expanded(record), Some(key)) if !record.is_empty() => record.showing(key),
        _ => Showing::Expanded(Rc::new(Record::default())),
    }
}

impl YamlValue {
    /// A scalar.
    #[must_use]
    pub fn text(text: impl std::fmt::Display) -> YamlValue {
        YamlValue::Text(text.to_string())
    }

    /// What stands for a secret.
    #[must_use]
    pub fn hidden() -> YamlValue {
        YamlValue::text(HIDDEN)
    }

    /// Replaces the value of a key; adds it with `or_add`. Nothing happens to what is no mapping.
    pub fn set(&mut self, key: &str, value: YamlValue, or_add: bool) {
        let YamlValue::Map(pairs) = self else { return };
        match pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, place)) => *place = value,
            None if or_add => pairs.push((key.to_owned(), value)),
            None => {}
        }
    }

    /// As YAML, which reads back as the same.
    #[must_use]
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        out
    }

    fn write(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        match self {
            YamlValue::Text(text) => {
                scalar(text, depth, out);
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
                    out.push_str(&indent);
                    scalar(key, usize::MAX, out);
                    out.push(':');
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

/// A text as plain as YAML allows: as it is, in double quotes, or as a block where it has lines. A key (`depth` is the
/// largest number) has no block.
fn scalar(text: &str, depth: usize, out: &mut String) {
    let is_block = depth != usize::MAX && text.trim_end_matches('\n').contains('\n');
    if is_block && text.split('\n').all(is_plain_line) && !text.starts_with([' ', '\n', '\t']) {
        out.push('|');
        out.push_str(match text.len() - text.trim_end_matches('\n').len() {
            0 => "-",
            1 => "",
            _ => "+",
        });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                out.push_str(&"  ".repeat(depth + 1));
                out.push_str(line);
            }
        }
    } else if is_plain(text) {
        out.push_str(text);
    } else {
        // JSON's strings are YAML's, but for some characters that YAML takes for ends of lines or refuses.
        for character in serde_json::Value::from(text).to_string().chars() {
            if is_plain_character(character) {
                out.push(character);
            } else {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
        }
    }
}

fn is_plain_line(line: &str) -> bool {
    line.chars().all(is_plain_character)
}

fn is_plain_character(c: char) -> bool {
    c == '\t'
        || !(c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'))
}

/// A text that means itself without quotes, whatever reads it.
fn is_plain(text: &str) -> bool {
    let first =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '<' | '(') || !c.is_ascii();
    let rest = |c: char| {
        first(c)
            || matches!(
                c,
                ' ' | '-'
                    | '+'
                    | '='
                    | '('
                    | ')'
                    | '>'
                    | '$'
                    | '%'
                    | ';'
                    | '~'
                    | '^'
                    | '@'
                    | '*'
                    | ','
                    | '\''
                    | '|'
            )
    };
    // A flag is no text in quotes; the other words that YAML reads as one are.
    let words = ["null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(first)
        && !text.ends_with(' ')
        && text.chars().all(|c| rest(c) || c == ':')
        && !text.contains(": ")
        && !text.ends_with(':')
        && is_plain_line(text)
        && !words.iter().any(|word| text.eq_ignore_ascii_case(word))
}
