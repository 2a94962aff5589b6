//! What YAML allows in a tree and a configuration does not: repeated keys, merge keys, tags that serde_yaml drops.
//!
//! A merge key is a fault, and merged all the same: what it brings is not missing as well.

use std::collections::HashMap;

use crate::error::{Error, SourcePosition};

use super::node::{MapEntry, Node, NodeValue};

/// Gives the place of an offset in the text, with a path.
type Locate<'d> = dyn Fn(Option<usize>, &str) -> SourcePosition + 'd;

/// Takes repeated keys out of the tree and merges merge keys; gives a fault for each, and for each tag.
pub(super) fn audit(tree: &mut Node, text: &str, place: &Locate<'_>) -> Vec<Error> {
    // Only then is the text looked at: `!!` is rare, and SQL may hold a `!` anywhere.
    let tags = text.contains("!!") || text.contains("!<");
    let mut walk = Walk { text, place, faults: Vec::new(), tags };
    walk.tree(tree, "");
    walk.faults
}

struct Walk<'d> {
    text: &'d str,
    place: &'d Locate<'d>,
    faults: Vec<Error>,
    tags: bool,
}

impl Walk<'_> {
    fn tree(&mut self, tree: &mut Node, path: &str) {
        match &mut tree.value {
            NodeValue::Null | NodeValue::Scalar(_) => {}
            NodeValue::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let path = format!("{path}[{index}]");
                    if self.tags && item.at.is_some_and(|at| tag_before(self.text, at)) {
                        self.fault(item.at, &path, "a tag (`!…`) has no meaning here", "remove it");
                    }
                    self.tree(item, &path);
                }
            }
            NodeValue::Map(entries) => {
                self.keys(entries, path);
                for entry in entries {
                    let path = join(path, &entry.key);
                    if self.tags && entry.at.is_some_and(|at| tag_after_key(self.text, at, &entry.key)) {
                        self.fault(entry.at, &path, "a tag (`!…`) has no meaning here", "remove it");
                    }
                    self.tree(&mut entry.tree, &path);
                }
            }
        }
    }

    fn keys(&mut self, entries: &mut Vec<MapEntry>, path: &str) {
        let mut first: HashMap<String, Option<usize>> = HashMap::new();
        let mut merged = Vec::new();
        entries.retain_mut(|entry| {
            let at = entry.at;
            if entry.key == "<<" {
                let hint = "put what entries share under `defaults`, or repeat a whole value with an alias";
                self.fault(at, &join(path, "<<"), "merge keys are not supported", hint);
                merged.extend(brought(std::mem::replace(&mut entry.tree.value, NodeValue::Null)));
                return false;
            }
            match first.get(&entry.key) {
                Some(earlier) => {
                    let line = (self.place)(*earlier, "").line;
                    let hint =
                        if line > 0 { format!("it stands in line {line} already") } else { String::new() };
                    self.fault(at, &join(path, &entry.key), "repeated key", &hint);
                    false
                }
                None => {
                    first.insert(entry.key.clone(), at);
                    true
                }
            }
        });
        // The mapping's own keys count more, then those of the mapping that is merged first.
        merged.retain(|entry| first.insert(entry.key.clone(), entry.at).is_none());
        entries.append(&mut merged);
    }

    fn fault(&mut self, at: Option<usize>, path: &str, message: &str, hint: &str) {
        let error = Error::config(message).at((self.place)(at, path));
        self.faults.push(if hint.is_empty() { error } else { error.with_hint(hint) });
    }
}

/// The entries that the value of a merge key brings: those of a mapping, or of several.
fn brought(value: NodeValue) -> Vec<MapEntry> {
    match value {
        NodeValue::Map(entries) => {
            let (merging, own): (Vec<MapEntry>, Vec<MapEntry>) =
                entries.into_iter().partition(|entry| entry.key == "<<");
            own.into_iter().chain(merging.into_iter().flat_map(|entry| brought(entry.tree.value))).collect()
        }
        NodeValue::List(items) => items.into_iter().flat_map(|item| brought(item.value)).collect(),
        NodeValue::Null | NodeValue::Scalar(_) => Vec::new(),
    }
}

/// `path.key`, or `key` at the root.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// True when `!!type` or `!<…>` stands between the key at `at` and its value.
fn tag_after_key(text: &str, at: usize, key: &str) -> bool {
    let after = text.get(at + key.len()..).and_then(|rest| rest.lines().next()).unwrap_or("");
    let after = after.trim_start_matches(['"', '\'']).trim_start();
    let Some(value) = after.strip_prefix(':') else { return false };
    let value = value.trim_start();
    let value = match value.strip_prefix('&') {
        Some(anchored) => anchored.split_once([' ', '\t']).map_or("", |(_, value)| value.trim_start()),
        None => value,
    };
    value.starts_with("!!") || value.starts_with("!<")
}

/// True when `!!type` or `!<…>` stands before the list item at `at`, on its line.
fn tag_before(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|before| before.rsplit('\n').next()).unwrap_or("");
    let before = before.trim_end_matches(['"', '\'', '{', '[', ' ', '\t']);
    let word = before.rsplit([' ', '\t', '[', ',']).next().unwrap_or("");
    (word.starts_with("!!") || word.starts_with("!<")) && !word.ends_with(':')
}
