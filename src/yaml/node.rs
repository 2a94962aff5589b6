//! What a YAML text means: scalars as typed, lists and mappings, each with its place.

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
    pub tree: Node,
}

impl NodeValue {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            NodeValue::Null => "nothing",
            NodeValue::Scalar(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }
}
