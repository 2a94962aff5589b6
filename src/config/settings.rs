//! One declaration a key. [`settings!`] makes of each line a field, its default, how it is read, how `/config` shows it,
//! and its row in the schema and in `docs/configuration.md`: the doc comment is the documentation.
//!
//! It also holds the readers that several keys share. Keys that need more than a reader of one value are taken by the
//! type that they make, and documented in `keys.txt`.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::deadline::duration_text;
use crate::logging::LogFormat;
use crate::yaml::keys::{KeyNumber, Keys};
use crate::yaml::writer::YamlValue;

/// What [`settings!`] declares.
pub(super) trait Settings {
    /// The keys as far as they were written.
    type Written;

    /// Each key with its documentation.
    const ABOUT: &'static [(&'static str, &'static str)];

    /// Sets each key to what was written, or to its default.
    fn set(&mut self, written: Self::Written);

    /// Each key with its value.
    fn shown(&self) -> Vec<(&'static str, YamlValue)>;
}

/// The keys of [`Settings`] as far as they were written.
pub(super) trait Written: Sized {
    /// Takes all keys.
    fn read(keys: &mut Keys<'_>) -> Self;

    /// These, and where one is not written, that of `behind`.
    fn or(self, behind: Self) -> Self;
}

/// Declares a type with keys (`KEY: TYPE = DEFAULT, READER;`) and with other fields (`FIELD: TYPE = DEFAULT;`).
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident, as written $written:ident {
            keys { $($(#[doc = $about:literal])+ $key:ident: $type:ty = $default:expr, $read:expr;)+ }
            fields { $($(#[doc = $doc:literal])+ $field:ident: $field_type:ty = $value:expr;)* }
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[doc = $about])+ pub $key: $type,)+
            $($(#[doc = $doc])+ pub $field: $field_type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)+ $($field: $value,)* }
            }
        }

        impl Settings for $name {
            type Written = $written;

            const ABOUT: &'static [(&'static str, &'static str)] =
                &[$((stringify!($key), concat!($($about),+)),)+];

            fn set(&mut self, written: $written) {
                $(self.$key = written.$key.unwrap_or_else(|| $default);)+
            }

            fn shown(&self) -> Vec<(&'static str, YamlValue)> {
                vec![$((stringify!($key), self.$key.show()),)+]
            }
        }

        #[derive(Debug, Clone, Default, PartialEq)]
        pub(super) struct $written { $($key: Option<$type>,)+ }

        impl Written for $written {
            fn read(keys: &mut Keys<'_>) -> Self {
                $written { $($key: ($read)(keys, stringify!($key)),)+ }
            }

            fn or(self, behind: Self) -> Self {
                $written { $($key: self.$key.or(behind.$key),)+ }
            }
        }
    };
}

pub(super) use settings;

/// A value as `/config` shows it and the documentation names it as a default.
pub(super) trait Show {
    fn show(&self) -> YamlValue;
}

macro_rules! shown_as_text {
    ($($type:ty),*) => {$(
        impl Show for $type {
            fn show(&self) -> YamlValue {
                YamlValue::text(self)
            }
        }
    )*};
}

shown_as_text!(bool, u32, u64, usize, String);

impl Show for Duration {
    fn show(&self) -> YamlValue {
        YamlValue::Text(duration_text(*self))
    }
}

impl Show for PathBuf {
    fn show(&self) -> YamlValue {
        YamlValue::text(self.display())
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> YamlValue {
        self.as_ref().map_or_else(|| YamlValue::text("none"), Show::show)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> YamlValue {
        YamlValue::List(self.iter().map(Show::show).collect())
    }
}

/// One of a closed set of words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Each word with its value; the first of several words for a value is the one shown.
    const WORDS: &'static [(&'static str, Self)];
}

impl Choice for LevelFilter {
    /// `warning` and `critical` are those of other programs' files.
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
        ("off", LevelFilter::Off),
        ("warning", LevelFilter::Warn),
        ("critical", LevelFilter::Error),
    ];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl<T: Choice> Show for T {
    fn show(&self) -> YamlValue {
        YamlValue::text(T::WORDS.iter().find(|(_, value)| value == self).map_or("", |(word, _)| *word))
    }
}

/// Reads one of the words of a key.
pub(super) fn choice<T: Choice>(keys: &mut Keys<'_>, key: &'static str) -> Option<T> {
    keys.choice(key, T::WORDS)
}

/// Makes the reader of a value that may be absent of one that reads it.
pub(super) fn optional<'d, T>(
    read: impl Fn(&mut Keys<'d>, &'static str) -> Option<T>,
) -> impl Fn(&mut Keys<'d>, &'static str) -> Option<Option<T>> {
    move |keys, key| read(keys, key).map(Some)
}

/// A whole number of at least 1.
pub(super) fn at_least_one<T: KeyNumber + Default + PartialEq>(
    keys: &mut Keys<'_>,
    key: &'static str,
) -> Option<T> {
    let count: T = keys.number(key, "a whole number of at least 1")?;
    if count == T::default() {
        keys.fault(key, "0 allows nothing: write a whole number of at least 1");
    }
    Some(count)
}

/// A whole number from 1 to `most`, which is the most `of_what`.
pub(super) fn at_most<T: KeyNumber + Copy + Default + PartialOrd + Display>(
    keys: &mut Keys<'_>,
    key: &'static str,
    most: T,
    of_what: &str,
) -> Option<T> {
    let count: T = at_least_one(keys, key)?;
    if count <= most {
        return Some(count);
    }
    keys.fault(key, format!("{count} is more than {most}, the most {of_what}"));
    None
}

/// A duration above 0.
pub(super) fn above_zero(keys: &mut Keys<'_>, key: &'static str) -> Option<Duration> {
    let time = keys.duration(key)?;
    if time.is_zero() {
        keys.fault(key, "0 leaves no time: write a duration above 0, or leave the key out");
    }
    Some(time)
}

/// A number of bytes.
pub(super) fn bytes<T: TryFrom<u64>>(keys: &mut Keys<'_>, key: &'static str) -> Option<T> {
    T::try_from(keys.size(key)?).ok()
}

/// A number of bytes of at least 1.
pub(super) fn at_least_one_byte<T: TryFrom<u64>>(keys: &mut Keys<'_>, key: &'static str) -> Option<T> {
    let size = keys.size(key)?;
    if size == 0 {
        keys.fault(key, "0 allows nothing: write a size above 0");
    }
    T::try_from(size).ok()
}
