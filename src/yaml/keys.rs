//! The strict reader: each key is taken by name and type; what nobody took is an error with the nearest key.
//!
//! Faults are collected in the [`Reader`], not returned: a method answers `None` for "absent or faulty".
//! One reader serves the configuration, web-config files, query tests, imports and drivers.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Place};
use crate::secret::Secret;

use super::tree::Document;

/// Looks up an environment variable.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// Collects the faults and warnings of one load, over all its files.
pub struct Reader<'e> {
    environment: &'e Environment,
}

impl<'e> Reader<'e> {
    /// A reader with no faults yet.
    #[must_use]
    pub fn new(environment: &'e Environment) -> Self {
        Reader { environment }
    }

    /// Records a fault.
    pub fn fault(&self, error: Error) {
        let _ = (error, &self.environment);
        todo!()
    }

    /// Records something that does not stop the load.
    pub fn warn(&self, warning: Error) {
        let _ = warning;
        todo!()
    }

    /// True when a fault was recorded.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        todo!()
    }

    /// The faults in file order, and the warnings.
    #[must_use]
    pub fn finish(self) -> (Vec<Error>, Vec<Error>) {
        todo!()
    }
}

/// One mapping being read. Take what you know, then [`Keys::finish`].
pub struct Keys<'d> {
    document: &'d Document,
    reader: &'d Reader<'d>,
}

impl<'d> Keys<'d> {
    /// The document's root mapping; `None` (and a fault) when it is something else.
    pub fn root(document: &'d Document, reader: &'d Reader<'d>) -> Option<Keys<'d>> {
        let _ = Keys { document, reader };
        todo!()
    }

    /// The same mapping with `defaults` behind it: a key this one lacks is taken from there; maps merge one level.
    /// Places of values taken from the defaults point there. Unknown keys are looked for in this mapping only.
    #[must_use]
    pub fn over(self, defaults: Option<&Keys<'d>>) -> Keys<'d> {
        let _ = (defaults, self.document, self.reader);
        todo!()
    }

    /// `databases.shop`; empty at the root.
    #[must_use]
    pub fn path(&self) -> &str {
        todo!()
    }

    /// The folder that relative paths start from (the folder of the file that holds `key`).
    #[must_use]
    pub fn folder(&self, key: &str) -> PathBuf {
        let _ = key;
        todo!()
    }

    /// True when the key is there, whatever its value (it still counts as unknown until taken).
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        let _ = key;
        todo!()
    }

    /// A scalar, expanded. A list or mapping is a fault. `~` and an empty value count as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let _ = key;
        todo!()
    }

    /// A scalar as typed, without expansion: for `sql`.
    pub fn literal(&mut self, key: &'static str) -> Option<String> {
        let _ = key;
        todo!()
    }

    /// A scalar, expanded; its text never appears in a message.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let _ = key;
        todo!()
    }

    /// `true` or `false` (also yes/no, on/off, any case).
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let _ = key;
        todo!()
    }

    /// A number, expanded; `what` names it in the message: "a port from 1 to 65535".
    pub fn number<T: FromStr>(&mut self, key: &'static str, what: &str) -> Option<T> {
        let _ = (key, what);
        todo!()
    }

    /// `500ms`, `10s`, `5m`, `1h`, or a number of seconds.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let _ = key;
        todo!()
    }

    /// `64MiB`, `16KiB`, `1GB`, or a number of bytes.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        let _ = key;
        todo!()
    }

    /// One word of a closed set, case-insensitively; else a fault that lists them and hints at the nearest.
    pub fn choice<T: Copy>(&mut self, key: &'static str, table: &[(&'static str, T)]) -> Option<T> {
        let _ = (key, table);
        todo!()
    }

    /// A path, relative to the file that names it.
    pub fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let _ = key;
        todo!()
    }

    /// A list of scalars, or one scalar; expanded.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let _ = key;
        todo!()
    }

    /// A mapping of scalars in file order; values expanded, keys as typed.
    pub fn pairs(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        let _ = key;
        todo!()
    }

    /// True when the value under `key` is a mapping (`labels` may be a list or a map).
    #[must_use]
    pub fn is_mapping(&self, key: &str) -> bool {
        let _ = key;
        todo!()
    }

    /// A nested mapping.
    pub fn inner(&mut self, key: &'static str) -> Option<Keys<'d>> {
        let _ = key;
        todo!()
    }

    /// A list of mappings.
    pub fn items(&mut self, key: &'static str) -> Option<Vec<Keys<'d>>> {
        let _ = key;
        todo!()
    }

    /// A mapping of names to mappings, in file order.
    pub fn entries(&mut self, key: &'static str) -> Option<Vec<(String, Keys<'d>)>> {
        let _ = key;
        todo!()
    }

    /// Refuses a key that a later version brings: "`when` is not built yet", whatever its value.
    pub fn refuse(&mut self, key: &'static str) {
        let _ = key;
        todo!()
    }

    /// Records a fault at `key` (or at this mapping, for "").
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        let _ = (key, message.into());
        todo!()
    }

    /// Records a fault at `key` with what to change.
    pub fn fault_with_hint(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let _ = (key, message.into(), hint.into());
        todo!()
    }

    /// Records a warning at `key`.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        let _ = (key, message.into());
        todo!()
    }

    /// The place of `key` (or of this mapping, for ""), for errors that are raised later. Cheap to keep.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        let _ = key;
        todo!()
    }

    /// The last call: keys nobody took are faults, each with the nearest key that was asked for.
    pub fn finish(self) {
        todo!()
    }
}

/// The name in `candidates` nearest to `text`, when it is near enough to be meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let _ = (text, candidates.into_iter().next());
    todo!()
}
