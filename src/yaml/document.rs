//! Text → [`Node`]: the only file with serde_yaml. Scalars keep the text typed; what YAML allows and a
//! configuration should not have (a second document, too many nodes or bytes) is an error here, repeated keys and
//! tags are found by `audit`.
//!
//! serde_yaml tells either a scalar's kind or its text, so the events are read twice: once for the shape, under a
//! budget that aliases count against, once for the text with the shape known. Plain and quoted scalars come back as
//! slices of the file's text: their addresses are their positions, and nothing has to be walked again for an error.

use std::path::Path;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor,
};

use crate::error::{Error, Result, SourcePosition};
use crate::file;
use crate::file::ReadError;

use super::place::Lines;
use super::{audit, syntax};

pub use super::node::{MapEntry, Node, NodeValue};

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most nodes (keys, scalars, lists, mappings), each use of an alias counted.
const MAX_NODES: usize = 100_000;
/// The most bytes of text, each use of an alias counted.
const MAX_TEXT: usize = 4 * MAX_BYTES;

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
    lines: Lines,
}

impl Document {
    /// Parses `text`.
    ///
    /// # Errors
    /// A configuration error with its place.
    pub fn parse(file: &str, folder: &Path, mut text: String) -> Result<Document> {
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        if text.len() > MAX_BYTES {
            return Err(too_large(file));
        }
        let lines = Lines::new(&text);
        let place = |at, path: &str| lines.place(file, &text, at, path);
        syntax::precheck(&text).map_err(|(at, message)| Error::config(message).at(place(Some(at), "")))?;
        let mut tree = build(&text).map_err(|refused| refused.error(&text, &lines, file))?;
        let faults = audit::audit(&mut tree, &text, &place);
        Ok(Document { file: file.to_owned(), folder: folder.to_owned(), text, tree, faults, lines })
    }

    /// Reads and parses the file at `path`; `file` is its name in messages, its folder that of relative paths.
    ///
    /// # Errors
    /// A configuration error: the file cannot be read, is too large, is no UTF-8, or is no YAML.
    pub fn open(file: &str, path: &Path) -> Result<Document> {
        let bytes = file::read_bytes(path, MAX_BYTES as u64).map_err(|unread| match unread {
            ReadError::TooLong(_) => too_large(file),
            ReadError::System(error) => unreadable(file, format!("cannot read the file: {error}")),
            other => unreadable(file, format!("the file {other}")),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            Error::config("the file is not UTF-8 text").at(Lines::new(&text).place(
                file,
                &text,
                Some(good),
                "",
            ))
        })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Document::parse(file, folder, text)
    }

    /// The place of an offset in the text.
    #[must_use]
    pub fn place(&self, at: Option<usize>, path: &str) -> SourcePosition {
        self.lines.place(&self.file, &self.text, at, path)
    }
}

fn unreadable(file: &str, message: String) -> Error {
    Error::config(message).at(SourcePosition { file: file.to_owned(), ..SourcePosition::default() })
}

fn too_large(file: &str) -> Error {
    unreadable(file, "the file is larger than 1 MiB".to_owned()).with_hint("split it with `include`")
}

/// Why there is no tree.
enum Refused {
    Empty,
    Yaml(serde_yaml::Error),
}

impl Refused {
    fn error(&self, text: &str, lines: &Lines, file: &str) -> Error {
        let place = |at| lines.unsure_place(file, text, at);
        match self {
            Refused::Empty => Error::config("the file is empty").at(place(None)),
            Refused::Yaml(error) => {
                let second = error.to_string().contains(syntax::TWO).then(|| second_error(text)).flatten();
                let error =
                    second.as_ref().filter(|_| syntax::second_document(text).is_none()).unwrap_or(error);
                let position = error.location().map(|location| location.index());
                let explained = syntax::explain(&error.to_string(), text, position);
                let error = Error::config(explained.message).at(place(explained.at));
                match explained.hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
        }
    }
}

fn build(text: &str) -> Result<Node, Refused> {
    let events = || serde_yaml::Deserializer::from_str(text);
    let mut nodes = Budget(MAX_NODES);
    let shape = Survey(&mut nodes).deserialize(events()).map_err(Refused::Yaml)?;
    if matches!(shape, Shape::Null) {
        return Err(Refused::Empty);
    }
    let mut bytes = Budget(MAX_TEXT);
    Gather { shape: &shape, text, bytes: &mut bytes }.deserialize(events()).map_err(Refused::Yaml)
}

/// The error of the second document, if it has one: what follows the first document may be no document at all.
fn second_error(text: &str) -> Option<serde_yaml::Error> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    serde::de::IgnoredAny::deserialize(second).err()
}

/// What is left of a limit.
struct Budget(usize);

impl Budget {
    fn spend<E: serde::de::Error>(&mut self, amount: usize) -> Result<(), E> {
        self.0 = self.0.checked_sub(amount).ok_or_else(|| E::custom(syntax::OVER_BUDGET))?;
        Ok(())
    }
}

/// The first reading: what each node is, without its text.
enum Shape {
    Null,
    Scalar,
    List(Vec<Shape>),
    Map(Vec<Shape>),
}

struct Survey<'b>(&'b mut Budget);

impl<'de> DeserializeSeed<'de> for Survey<'_> {
    type Value = Shape;
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Shape, D::Error> {
        events.deserialize_any(self)
    }
}

macro_rules! scalar {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: serde::de::Error>(self, _: $type) -> Result<Shape, E> {
            self.0.spend(1).map(|()| Shape::Scalar)
        })*
    };
}

impl<'de> Visitor<'de> for Survey<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);
    scalar!(visit_str: &str);

    fn visit_unit<E: serde::de::Error>(self) -> Result<Shape, E> {
        self.0.spend(1).map(|()| Shape::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Shape, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        self.0.spend(1)?;
        let mut shapes = Vec::new();
        while let Some(shape) = items.next_element_seed(Survey(&mut *self.0))? {
            shapes.push(shape);
        }
        Ok(Shape::List(shapes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        self.0.spend(1)?;
        let mut shapes = Vec::new();
        while entries.next_key_seed(Text { text: "", bytes: &mut Budget(usize::MAX) })?.is_some() {
            self.0.spend(1)?;
            shapes.push(entries.next_value_seed(Survey(&mut *self.0))?);
        }
        Ok(Shape::Map(shapes))
    }

    /// A tag of the file's own (`!Vault`). It is refused at once: what it means is not ours to guess.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Shape, A::Error> {
        let (tag, _value) = tagged.variant::<String>()?;
        Err(A::Error::custom(format!("{}{tag}", syntax::TAG)))
    }
}

/// The second reading: the text of every scalar.
struct Gather<'s> {
    shape: &'s Shape,
    text: &'s str,
    bytes: &'s mut Budget,
}

impl<'de> DeserializeSeed<'de> for Gather<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Node, D::Error> {
        match self.shape {
            Shape::Null | Shape::Scalar => {
                let (text, at) = Text { text: self.text, bytes: self.bytes }.deserialize(events)?;
                let null = matches!(self.shape, Shape::Null);
                Ok(Node { at, value: if null { NodeValue::Null } else { NodeValue::Scalar(text) } })
            }
            Shape::List(_) => events.deserialize_seq(self),
            Shape::Map(_) => events.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Gather<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the same YAML as before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let Shape::List(shapes) = self.shape else { return Err(A::Error::custom("a list appeared")) };
        let mut list = Vec::with_capacity(shapes.len());
        for shape in shapes {
            list.extend(items.next_element_seed(Gather {
                shape,
                text: self.text,
                bytes: &mut *self.bytes,
            })?);
        }
        Ok(Node { at: list.first().and_then(|tree| tree.at), value: NodeValue::List(list) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let Shape::Map(shapes) = self.shape else { return Err(A::Error::custom("a mapping appeared")) };
        let mut map = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let key = Text { text: self.text, bytes: &mut *self.bytes };
            let Some((key, at)) = entries.next_key_seed(key)? else { break };
            let tree = entries.next_value_seed(Gather { shape, text: self.text, bytes: &mut *self.bytes })?;
            map.push(MapEntry { key, at, tree });
        }
        Ok(Node { at: map.first().and_then(|entry| entry.at), value: NodeValue::Map(map) })
    }
}

/// A scalar's text, and where it stands when it is a slice of the file's text.
struct Text<'s> {
    text: &'s str,
    bytes: &'s mut Budget,
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = (String, Option<usize>);
    fn deserialize<D: Deserializer<'de>>(self, events: D) -> Result<Self::Value, D::Error> {
        events.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
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
