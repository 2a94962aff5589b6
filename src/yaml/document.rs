//! Text → [`Node`]: the only file with serde_yaml. Scalars keep the text typed; what YAML allows and a
//! configuration should not have (a second document, too many nodes or bytes) is an error here, repeated keys and
//! tags are found by `audit`.
//!
//! serde_yaml tells either a scalar's kind or its text, so the events are read twice: once for the shape, under a
//! budget that aliases count against, once for the text with the shape known. Plain and quoted scalars come back as
//! slices of the file's text: their addresses are their positions, and nothing has to be walked again for an error.

use std::path::Path;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::error::{Error, Result, SourcePosition};
use crate::file::{self, ReadError};

use super::lines::SourceLines;
use super::syntax::{self, TreeFaults};

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most nodes (keys, scalars, lists, mappings), each use of an alias counted.
const MAX_NODES: usize = 100_000;
/// The most bytes of text, each use of an alias counted.
const MAX_TEXT: usize = 4 * MAX_BYTES;

/// A YAML value as typed, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Offset in the text; `None` for block scalars, folded lines and empty collections: the key's place serves.
    /// What an alias stands for has the place of its anchor.
    pub at: Option<usize>,
    /// What it is.
    pub value: NodeValue,
}

/// A YAML value as typed.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeValue {
    /// A plain `~`, `null` or nothing at all.
    Null,
    /// A scalar's text: `1.10` and `007` stay as they are.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in file order, without repeated keys.
    Map(Vec<MapEntry>),
}

/// One key of a mapping and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct MapEntry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub at: Option<usize>,
    /// The value.
    pub node: Node,
}

impl Node {
    /// Where a scalar stands; `None` for lists and mappings, whose key's place serves.
    pub fn scalar_at(&self) -> Option<usize> {
        self.at.filter(|_| matches!(self.value, NodeValue::Scalar(_)))
    }
}

impl NodeValue {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            NodeValue::Null => "nothing",
            NodeValue::Scalar(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }
}

/// One parsed file: its name as the user gave it, its text (for places) and its tree.
#[derive(Debug)]
pub struct Document {
    /// As the user named it.
    pub file: String,
    /// The folder that relative paths in it start from.
    pub folder: std::path::PathBuf,
    /// The whole text, without a byte order mark.
    pub text: String,
    /// The root.
    pub tree: Node,
    /// What is wrong in it and does not hide the rest: repeated keys, tags, merge keys.
    pub faults: Vec<Error>,
    /// In another program's file, keys that are repeated with an equal value.
    pub repeated_alike: Vec<Error>,
    lines: SourceLines,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileRule {
    /// Ours: tags of the file's own, merge keys and repeated keys are faults.
    Own,
    /// Another program's: `!tag value` is a mapping with the one key `!tag`, merge keys are merged, and a key that is
    /// repeated with an equal value loses nothing.
    Foreign,
}

impl Document {
    /// Parses `text`.
    ///
    /// # Errors
    /// A configuration error with its place.
    pub fn parse(file: &str, folder: &Path, text: String) -> Result<Document> {
        Document::read(file, folder, text, 0, FileRule::Own)
    }

    /// Parses a file of another program, or a part of one with `lines_before` lines of the file before it.
    ///
    /// # Errors
    /// A configuration error with its place.
    pub fn parse_foreign(file: &str, folder: &Path, text: String, lines_before: usize) -> Result<Document> {
        Document::read(file, folder, text, lines_before, FileRule::Foreign)
    }

    fn read(
        file: &str,
        folder: &Path,
        mut text: String,
        lines_before: usize,
        rule: FileRule,
    ) -> Result<Document> {
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        if text.len() > MAX_BYTES {
            return Err(too_large(file));
        }
        let lines = SourceLines::new(&text, lines_before);
        let place = |at, path: &str| lines.place(file, &text, at, path);
        syntax::precheck(&text).map_err(|(at, message)| Error::config(message).at(place(Some(at), "")))?;
        let mut tree = build(&text, rule)
            .map_err(|refused| refused.error(&text, |at| lines.unsure_place(file, &text, at)))?;
        let TreeFaults { mut faults, mut repeated_alike, merge_keys } =
            syntax::audit(&mut tree, &text, &place);
        if rule == FileRule::Own {
            faults.append(&mut repeated_alike);
            faults.extend(merge_keys);
        }
        let (file, folder) = (file.to_owned(), folder.to_owned());
        Ok(Document { file, folder, text, tree, faults, repeated_alike, lines })
    }

    /// Reads and parses the file at `path`; `file` is its name in messages, its folder that of relative paths.
    ///
    /// # Errors
    /// A configuration error: the file cannot be read, is too large, is no UTF-8, or is no YAML.
    pub fn open(file: &str, path: &Path) -> Result<Document> {
        let text = Document::text_of(file, path)?;
        Document::parse(file, file::base_folder(path), text)
    }

    /// The text of the file at `path`; `file` is its name in messages.
    ///
    /// # Errors
    /// As [`Document::open`], but for what is not YAML.
    pub fn text_of(file: &str, path: &Path) -> Result<String> {
        let bytes = file::read_bytes(path, MAX_BYTES as u64).map_err(|unread| match unread {
            ReadError::TooLong(_) => too_large(file),
            ReadError::System(error) => unreadable(file, format!("cannot read the file: {error}")),
            other => unreadable(file, format!("the file {other}")),
        })?;
        String::from_utf8(bytes).map_err(|error| {
            if file::is_utf_16(error.as_bytes()) {
                return unreadable(file, format!("the file {}", ReadError::NotText(true)));
            }
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let place = SourceLines::new(&text, 0).place(file, &text, Some(good), "");
            Error::config("the file is not UTF-8 text").at(place)
        })
    }

    /// How many lines its file has before the text.
    pub fn lines_before(&self) -> usize {
        self.lines.lines_before
    }

    /// The place of an offset in the text.
    pub fn place(&self, at: Option<usize>, path: &str) -> SourcePosition {
        self.lines.place(&self.file, &self.text, at, path)
    }
}

fn unreadable(file: &str, message: String) -> Error {
    Error::config(message).at(SourcePosition { file: file.to_owned(), ..SourcePosition::default() })
}

fn too_large(file: &str) -> Error {
    unreadable(file, "the file is larger than 1 MiB".to_owned())
        .with_hint("split it into several files: a configuration lists them under `include`, and `import` takes them all")
}

/// Why there is no tree.
enum ParseFailure {
    Empty,
    Yaml(serde_yaml::Error),
}

impl ParseFailure {
    fn error(&self, text: &str, place: impl Fn(Option<usize>) -> SourcePosition) -> Error {
        match self {
            ParseFailure::Empty => Error::config("the file is empty").at(place(None)),
            ParseFailure::Yaml(error) => {
                let second = error.to_string().contains(syntax::TWO).then(|| second_error(text)).flatten();
                let error =
                    second.as_ref().filter(|_| syntax::second_document(text).is_none()).unwrap_or(error);
                let position = error.location().map(|location| location.index());
                let explained = syntax::explain(&error.to_string(), text, position);
                Error::config(explained.message).at(place(explained.at)).with_hint_if_any(explained.hint)
            }
        }
    }
}

fn build(text: &str, rule: FileRule) -> Result<Node, ParseFailure> {
    let events = || serde_yaml::Deserializer::from_str(text);
    let budget = &mut DocumentBudget { text, nodes: MAX_NODES, bytes: MAX_TEXT };
    let shape = ShapeSeed { budget, rule };
    let mut tree = shape.deserialize(events()).map_err(ParseFailure::Yaml)?;
    if tree.value == NodeValue::Null {
        return Err(ParseFailure::Empty);
    }
    TextSeed { node: &mut tree, budget }.deserialize(events()).map_err(ParseFailure::Yaml)?;
    Ok(tree)
}

/// The error of the second document, if it has one: what follows the first document may be no document at all.
fn second_error(text: &str) -> Option<serde_yaml::Error> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    IgnoredAny::deserialize(second).err()
}

/// A file's text, and what is left of its limits.
struct DocumentBudget<'t> {
    text: &'t str,
    nodes: usize,
    bytes: usize,
}

impl DocumentBudget<'_> {
    fn spend_node<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| E::custom(syntax::OVER_BUDGET))?;
        Ok(())
    }
}

/// The first reading: what each node is, and the texts of keys.
struct ShapeSeed<'b, 't> {
    budget: &'b mut DocumentBudget<'t>,
    rule: FileRule,
}

impl<'t> ShapeSeed<'_, 't> {
    /// That of a value below.
    fn inner(&mut self) -> ShapeSeed<'_, 't> {
        ShapeSeed { budget: &mut *self.budget, rule: self.rule }
    }

    fn node<E: serde::de::Error>(self, value: NodeValue) -> Result<Node, E> {
        self.budget.spend_node()?;
        Ok(Node { at: None, value })
    }
}

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_, '_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Node, D::Error> {
        events.deserialize_any(self)
    }
}

macro_rules! scalar {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<Node, E> {
            self.node(NodeValue::Scalar(String::new()))
        })*
    };
}

impl<'de> Visitor<'de> for ShapeSeed<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);
    scalar!(visit_str: &str);

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.node(NodeValue::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        self.node(NodeValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        let mut key = Node { at: None, value: NodeValue::Scalar(String::new()) };
        while entries.next_key_seed(TextSeed { node: &mut key, budget: &mut *self.budget })?.is_some() {
            self.budget.spend_node()?;
            let node = entries.next_value_seed(self.inner())?;
            if let NodeValue::Scalar(text) = &mut key.value {
                map.push(MapEntry { key: std::mem::take(text), at: key.at.take(), node });
            }
        }
        self.node(NodeValue::Map(map))
    }

    /// A tag of the file's own (`!Vault`). In our files it is refused at once: what it means is not ours to guess.
    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<Node, A::Error> {
        let (tag, value) = tagged.variant::<String>()?;
        if self.rule == FileRule::Own {
            return Err(A::Error::custom(format!("{}{tag}", syntax::TAG)));
        }
        let node = value.newtype_variant_seed(self.inner())?;
        self.node(NodeValue::Map(vec![MapEntry { key: format!("!{tag}"), at: None, node }]))
    }
}

/// The second reading: the text of a scalar, or of every scalar below, and where it stands when it is a slice of the
/// file's text.
struct TextSeed<'b, 't> {
    node: &'b mut Node,
    budget: &'b mut DocumentBudget<'t>,
}

impl<'de> DeserializeSeed<'de> for TextSeed<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<(), D::Error> {
        match self.node.value {
            NodeValue::Null | NodeValue::Scalar(_) => events.deserialize_str(self),
            NodeValue::List(_) | NodeValue::Map(_) => events.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for TextSeed<'_, '_> {
    type Value = ();

    /// The shape is known: only a key can be something else.
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let left = self.budget.bytes.checked_sub(text.len());
        self.budget.bytes = left.ok_or_else(|| E::custom(syntax::OVER_BUDGET))?;
        if let NodeValue::Scalar(own) = &mut self.node.value {
            text.clone_into(own);
        }
        Ok(())
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<(), E> {
        let offset = (text.as_ptr() as usize).checked_sub(self.budget.text.as_ptr() as usize);
        let is_there = |at: &usize| self.budget.text.get(*at..).is_some_and(|rest| rest.starts_with(text));
        self.node.at = offset.filter(is_there);
        self.visit_str(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let NodeValue::List(list) = &mut self.node.value else { return Ok(()) };
        for node in &mut *list {
            items.next_element_seed(TextSeed { node, budget: &mut *self.budget })?;
        }
        self.node.at = list.first().and_then(|item| item.at);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let NodeValue::Map(map) = &mut self.node.value else { return Ok(()) };
        for MapEntry { node, .. } in &mut *map {
            entries.next_key::<IgnoredAny>()?;
            entries.next_value_seed(TextSeed { node, budget: &mut *self.budget })?;
        }
        self.node.at = map.first().and_then(|entry| entry.at);
        Ok(())
    }

    /// A tag that is kept: its value under its name.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value) = tagged.variant::<IgnoredAny>()?;
        let NodeValue::Map(map) = &mut self.node.value else { return Ok(()) };
        let Some(MapEntry { at, node, .. }) = map.first_mut() else { return Ok(()) };
        value.newtype_variant_seed(TextSeed { node, budget: self.budget })?;
        (*at, self.node.at) = (node.at, node.at);
        Ok(())
    }
}
