//! The shape of a file: which keys each mapping has and of what kind their values are, as a survey's record tells.
//!
//! A new kind of value is a variant of [`Kind`], noted by its method in `values` and written by `command/schema`.

use std::str::FromStr;

/// One mapping: its keys in the order in which they are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Without those that are only known to be refused.
    pub keys: Vec<Key>,
    /// Of each of these groups exactly one key must be there; a group of one is a key that must.
    pub one_of: Vec<&'static [&'static str]>,
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What its value may be: any of these.
    pub kinds: Vec<Kind>,
}

/// What a value may be. A scalar may also hold `${…}`, save in [`Kind::Cells`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Any scalar.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from 0 to this.
    Whole(u64),
    /// Any number.
    Number,
    /// `500ms`, or a number of seconds.
    Duration,
    /// `64MiB`, or a number of bytes.
    Size,
    /// One of these words, in any case.
    Words(Vec<&'static str>),
    /// A list of texts, or one.
    Texts,
    /// A mapping of names to texts.
    Pairs,
    /// A list of rows: each a mapping of columns to scalars or nothing.
    Cells,
    /// A mapping.
    Mapping(Shape),
    /// A list of mappings.
    Items(Shape),
    /// A mapping of any names to mappings.
    Entries(Shape),
}

impl Shape {
    /// A key that is only refused has no place, whatever was asked.
    pub(super) fn add(&mut self, name: &str, kind: Kind) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.name == name) {
            key.add(kind);
        }
    }

    /// What one of the two takes; needed is what both need.
    pub(super) fn or(mut self, other: Shape) -> Shape {
        self.one_of.retain(|group| other.one_of.contains(group));
        for key in other.keys {
            match self.keys.iter_mut().find(|known| known.name == key.name) {
                Some(known) => key.kinds.into_iter().for_each(|kind| known.add(kind)),
                None => self.keys.push(key),
            }
        }
        self
    }
}

impl Key {
    /// Mappings become one that may be any of them; a closed set of words is more than "text".
    fn add(&mut self, kind: Kind) {
        let merged = self.kinds.iter_mut().any(|known| match (known, &kind) {
            (Kind::Mapping(known), Kind::Mapping(more))
            | (Kind::Items(known), Kind::Items(more))
            | (Kind::Entries(known), Kind::Entries(more)) => {
                *known = std::mem::take(known).or(more.clone());
                true
            }
            (known, kind) => known == kind,
        });
        if !merged {
            self.kinds.push(kind);
        }
        if self.kinds.iter().any(|kind| matches!(kind, Kind::Words(_))) {
            self.kinds.retain(|kind| *kind != Kind::Text);
        }
    }
}

/// A number that a key may hold.
pub trait Number: FromStr {
    /// As a survey notes it.
    const KIND: Kind;
}

macro_rules! whole {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const KIND: Kind = Kind::Whole(<$number>::MAX as u64);
        }
    )*};
}

whole!(u8, u16, u32, u64, usize);

impl Number for f64 {
    const KIND: Kind = Kind::Number;
}
