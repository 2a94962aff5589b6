//! Text → [`Node`]: the only file with serde_yaml. Scalars keep the text typed; what YAML allows and a
//! configuration should not have (a second document, too many nodes or bytes) is an error here, repeated keys and
//! tags are found by `audit`.
//!
//! serde_yaml tells either a scalar's kind or its text, so the events are read twice: once for the shape, under a
//! budget that aliases count against, once for the text with the shape known. Plain and quoted scalars come back as
//! slices of the file's text: their addresses are their positions, and nothing has to be walked again for an error.

use std::path::Path;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
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
    let mut nodes = DocumentBudget(MAX_NODES);
    let shape = ShapeSeed { nodes: &mut nodes, rule }.deserialize(events()).map_err(ParseFailure::Yaml)?;
    if matches!(shape, NodeShape::Null) {
        return Err(ParseFailure::Empty);
    }
    let mut bytes = DocumentBudget(MAX_TEXT);
    NodeSeed { shape: &shape, text, bytes: &mut bytes }.deserialize(events()).map_err(ParseFailure::Yaml)
}

/// The error of the second document, if it has one: what follows the first document may be no document at all.
fn second_error(text: &str) -> Option<serde_yaml::Error> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    serde::de::IgnoredAny::deserialize(second).err()
}

/// What is left of a limit.
struct DocumentBudget(usize);

impl DocumentBudget {
    fn spend<E: serde::de::Error>(&mut self, amount: usize) -> Result<(), E> {
        self.0 = self.0.checked_sub(amount).ok_or_else(|| E::custom(syntax::OVER_BUDGET))?;
        Ok(())
    }
}

/// The first reading: what each node is, without its text.
enum NodeShape {
    Null,
    Scalar,
    List(Vec<NodeShape>),
    Map(Vec<NodeShape>),
    Tagged(Box<NodeShape>),
}

struct ShapeSeed<'b> {
    nodes: &'b mut DocumentBudget,
    rule: FileRule,
}

impl ShapeSeed<'_> {
    /// That of a value below.
    fn inner(&mut self) -> ShapeSeed<'_> {
        ShapeSeed { nodes: &mut *self.nodes, rule: self.rule }
    }
}

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = NodeShape;
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<NodeShape, D::Error> {
        events.deserialize_any(self)
    }
}

macro_rules! scalar {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<NodeShape, E> {
            self.nodes.spend(1).map(|()| NodeShape::Scalar)
        })*
    };
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = NodeShape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);
    scalar!(visit_str: &str);

    fn visit_unit<E: serde::de::Error>(self) -> Result<NodeShape, E> {
        self.nodes.spend(1).map(|()| NodeShape::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<NodeShape, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<NodeShape, A::Error> {
        self.nodes.spend(1)?;
        let mut shapes = Vec::new();
        while let Some(shape) = items.next_element_seed(self.inner())? {
            shapes.push(shape);
        }
        Ok(NodeShape::List(shapes))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<NodeShape, A::Error> {
        self.nodes.spend(1)?;
        let mut shapes = Vec::new();
        while entries.next_key_seed(TextSeed { text: "", bytes: &mut DocumentBudget(usize::MAX) })?.is_some()
        {
            self.nodes.spend(1)?;
            shapes.push(entries.next_value_seed(self.inner())?);
        }
        Ok(NodeShape::Map(shapes))
    }

    /// A tag of the file's own (`!Vault`). In our files it is refused at once: what it means is not ours to guess.
    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<NodeShape, A::Error> {
        let (tag, value) = tagged.variant::<String>()?;
        match self.rule {
            FileRule::Own => Err(A::Error::custom(format!("{}{tag}", syntax::TAG))),
            FileRule::Foreign => {
                self.nodes.spend(1)?;
                Ok(NodeShape::Tagged(Box::new(value.newtype_variant_seed(self.inner())?)))
            }
        }
    }
}

/// The second reading: the text of every scalar.
struct NodeSeed<'s> {
    shape: &'s NodeShape,
    text: &'s str,
    bytes: &'s mut DocumentBudget,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Node, D::Error> {
        match self.shape {
            NodeShape::Null | NodeShape::Scalar => {
                let (text, at) = TextSeed { text: self.text, bytes: self.bytes }.deserialize(events)?;
                let null = matches!(self.shape, NodeShape::Null);
                Ok(Node { at, value: if null { NodeValue::Null } else { NodeValue::Scalar(text) } })
            }
            NodeShape::List(_) => events.deserialize_seq(self),
            NodeShape::Map(_) => events.deserialize_map(self),
            NodeShape::Tagged(_) => events.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the same YAML as before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let NodeShape::List(shapes) = self.shape else { return Err(A::Error::custom("a list appeared")) };
        let mut list = Vec::with_capacity(shapes.len());
        for shape in shapes {
            list.extend(items.next_element_seed(NodeSeed {
                shape,
                text: self.text,
                bytes: &mut *self.bytes,
            })?);
        }
        Ok(Node { at: list.first().and_then(|tree| tree.at), value: NodeValue::List(list) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let NodeShape::Map(shapes) = self.shape else { return Err(A::Error::custom("a mapping appeared")) };
        let mut map = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let key = TextSeed { text: self.text, bytes: &mut *self.bytes };
            let Some((key, at)) = entries.next_key_seed(key)? else { break };
            let node =
                entries.next_value_seed(NodeSeed { shape, text: self.text, bytes: &mut *self.bytes })?;
            map.push(MapEntry { key, at, node });
        }
        Ok(Node { at: map.first().and_then(|entry| entry.at), value: NodeValue::Map(map) })
    }

    /// A tag that is kept: its value under its name.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let NodeShape::Tagged(shape) = self.shape else { return Err(A::Error::custom("a tag appeared")) };
        let (tag, value) = tagged.variant::<String>()?;
        let node = value.newtype_variant_seed(NodeSeed { shape, text: self.text, bytes: self.bytes })?;
        let at = node.at;
        Ok(Node { at, value: NodeValue::Map(vec![MapEntry { key: format!("!{tag}"), at, node }]) })
    }
}

/// A scalar's text, and where it stands when it is a slice of the file's text.
struct TextSeed<'s> {
    text: &'s str,
    bytes: &'s mut DocumentBudget,
}

impl<'de> DeserializeSeed<'de> for TextSeed<'_> {
    type Value = (String, Option<usize>);
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Self::Value, D::Error> {
        events.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed<'_> {
    type Value = (String, Option<usize>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key that is text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.bytes.spend(text.len())?;
        Ok((text.to_owned(), None))
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        let offset = (text.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        let at = offset.filter(|at| self.text.get(*at..).is_some_and(|rest| rest.starts_with(text)));
        Ok((self.visit_str(text)?.0, at))
    }
}
