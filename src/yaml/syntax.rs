//! What is wrong with a text before there is a tree, in words for people: libyaml's messages and what to change.
//!
//! Messages here never quote the text: it may hold a secret, and which line it is on is all that is known.

use std::fmt::Write as _;

use indexmap::IndexMap;

use crate::error::{Error, SourcePosition};

use super::document::{MapEntry, Node, NodeValue};
use super::source::{in_path, join};

/// Marks the error of a text that is too much once its aliases are followed.
pub(super) const OVER_BUDGET: &str = "over budget";
const TAG_WITHOUT_MEANING: &str = "a tag (`!…`) has no meaning here";
/// Marks the error of a tag.
pub(super) const TAG: &str = "tag ";

/// A fault of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExplainedFault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) at: Option<usize>,
}

/// What serde_yaml says of a second document.
pub(super) const TWO: &str = "more than one document";

/// libyaml's words for a fault, ours, and what to change. The first match counts.
const WORDS: &[(&str, &str, &str)] = &[
    (
        OVER_BUDGET,
        "more than 100000 nodes or 4 MiB of text, each use of an alias counted",
        "split the file with `include`, or use fewer aliases",
    ),
    ("repetition limit exceeded", "aliases repeat too much of the file", "use fewer aliases"),
    ("recursion limit exceeded", "nested deeper than 128 levels", ""),
    (TAG, TAG_WITHOUT_MEANING, "remove it, or quote the value"),
    (
        "unknown anchor",
        "an alias (`*…`) has no anchor (`&…`) above it",
        "a value that starts with `*` needs quotes",
    ),
    ("a key that is text", "a key must be text", "a text that begins with `{` or `[` needs quotes"),
    (
        "did not find expected alphabetic or numeric character",
        "`*` begins an alias, and `&` an anchor, of which the name is missing",
        "a text that begins with `*` or `&` needs quotes",
    ),
    ("found a tab character", "a tab cannot indent", "use spaces"),
    ("mapping values are not allowed", "a second `:` in one value, or wrong indentation", "quote the value"),
    (
        "block sequence entries are not allowed",
        "a list item is not allowed here",
        "begin the list on a line of its own",
    ),
    ("unknown escape character", "an unknown escape after `\\`", "use single quotes, or write `\\\\`"),
    ("found unexpected end of stream", "a quote is opened here and never closed", ""),
    (
        "could not find expected ':'",
        "a key has no `:`",
        "write `key: value`; a long text needs quotes or `|`",
    ),
    ("did not find expected key", "a key is missing here", "check the indentation and the quotes"),
    ("did not find expected '-' indicator", "a `- ` is missing before a list item", "check the indentation"),
    ("did not find expected ',' or '}'", "after this `{` a comma or the `}` is missing", ""),
    ("did not find expected ',' or ']'", "after this `[` a comma or the `]` is missing", ""),
    ("did not find expected node content", "a value is missing here", "check commas and brackets"),
    (
        "did not find expected <document start>",
        "nothing may follow here",
        "check the indentation and the brackets",
    ),
];

/// Says in our words what `message` (serde_yaml's) at the byte `at` means.
pub(super) fn explain(message: &str, text: &str, at: Option<usize>) -> ExplainedFault {
    let explained = |message: &str, hint: &str, at| ExplainedFault {
        message: message.to_owned(),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
        at,
    };
    if message.contains(TWO) {
        let hint = "one file is one document: remove the `---`";
        return explained("a second document starts here", hint, second_document(text));
    }
    if let Some(dollar) = at.and_then(|at| unquoted_variable(message, text, at)) {
        let hint = "write {port: \"${PORT}\"}";
        return explained("inside braces or brackets `${…}` needs quotes", hint, Some(dollar));
    }
    if let Some(blank) = at.and_then(|at| blank_of_pages(text, at)) {
        let message = "a blank that is not a space stands here: YAML takes it for a letter";
        return explained(
            message,
            "write a space instead: such blanks come with text from web pages",
            Some(blank),
        );
    }
    if message.contains("cannot start any token") {
        return match at.and_then(|at| text.get(at..)).and_then(|rest| rest.chars().next()) {
            Some('\t') => explained("a tab cannot indent", "use spaces", at),
            _ => explained("a value cannot start with this character", "put the value in quotes", at),
        };
    }
    match WORDS.iter().find(|(theirs, ..)| message.contains(theirs)) {
        Some((theirs, ours, hint)) => {
            // libyaml notices far below what was opened and never closed: where it was opened helps more.
            let opened = ["unexpected end of stream", "could not find expected ':'", "expected ',' or"];
            let opened = opened.iter().any(|part| theirs.contains(part));
            explained(ours, hint, if opened { context(message, text).or(at) } else { at })
        }
        None => explained(&format!("not YAML: {message}"), "", at),
    }
}

/// The offset of what libyaml was in when it stumbled: `…, while parsing a flow mapping at line 3 column 5`.
fn context(message: &str, text: &str) -> Option<usize> {
    let (_, while_in) = message.split_once(", while ")?;
    let Some((_, position)) = while_in.rsplit_once(" at line ") else { return Some(0) };
    let (line, column) = position.split_once(" column ")?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let within = text.get(start..)?.char_indices().nth(column.checked_sub(1)?)?;
    Some(start + within.0)
}

/// The offset of `${` when the fault at `at` comes from a variable without quotes in a flow collection: there
/// `{` begins a mapping, and libyaml stumbles at the brace or at what follows on the same line.
fn unquoted_variable(message: &str, text: &str, at: usize) -> Option<usize> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    let flow = message.contains("a flow ");
    let candidates = line.match_indices("${").map(|(dollar, _)| dollar);
    let unquoted = |dollar: &usize| {
        let before = line.get(..*dollar).unwrap_or("");
        start + dollar <= at
            && before.matches(['"', '\'']).count() % 2 == 0
            && (flow || before.contains(['{', '[']))
    };
    candidates.filter(unquoted).map(|dollar| start + dollar).next()
}

/// The offset of a no-break space or its like in the line of the fault at `at`, or in the line before, where a space would
/// indent or follow a key: the fault comes from it.
fn blank_of_pages(text: &str, at: usize) -> Option<usize> {
    let line_start = |before: &str| before.rfind('\n').map_or(0, |end| end + 1);
    let own = line_start(text.get(..at)?);
    let starts = [line_start(text.get(..own.saturating_sub(1))?), own];
    starts.into_iter().find_map(|start| {
        let line = text.get(start..)?.lines().next()?;
        let blank = line.find(|c: char| c.is_whitespace() && !c.is_ascii())?;
        let before = line.get(..blank)?.trim_end();
        (before.is_empty() || before.ends_with([':', '-'])).then_some(start + blank)
    })
}

/// The line that starts the second document: the first `---` after any content, or else the `...` before it.
pub(super) fn second_document(text: &str) -> Option<usize> {
    let mut offset = 0;
    let mut content = false;
    for line in text.split_inclusive('\n') {
        let marker = line.starts_with("---")
            && matches!(line.as_bytes().get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n'));
        let end = line.trim_end() == "...";
        if content && (marker || end) {
            return Some(offset);
        }
        let trimmed = line.trim_start();
        content |= marker || !(trimmed.is_empty() || trimmed.starts_with('#') || line.starts_with('%'));
        offset += line.len();
    }
    None
}

/// The most work of this kind: at each separator, libyaml looks at every bracket that is open.
const MOST_BRACKET_LOOKS: usize = 200_000_000;

/// What is refused before libyaml sees the text: characters that YAML does not allow (reported there without a
/// place), and brackets without end. Gives the offset and a message. Brackets in comments and texts count too: only a
/// parser knows what is in one, and no file that a person writes has so many.
pub(super) fn precheck(text: &str) -> Result<(), (usize, String)> {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let (mut depth, mut looks) = (0_usize, 0_usize);
    for (at, c) in text.char_indices() {
        if !allowed(c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            return Err((at, format!("the character U+{:04X} is not allowed in YAML", u32::from(c))));
        }
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' | ':' => {}
            _ => continue,
        }
        looks += depth;
        if looks > MOST_BRACKET_LOOKS {
            return Err((at, "too many brackets are open".to_owned()));
        }
    }
    Ok(())
}

/// Gives the place of an offset in the text, with a path.
type Locate<'d> = dyn Fn(Option<usize>, &str) -> SourcePosition + 'd;

/// What is wrong in a tree and does not hide the rest.
#[derive(Debug, Default)]
pub(super) struct TreeFaults {
    /// Repeated keys and tags.
    pub(super) faults: Vec<Error>,
    /// Repeated keys with the value that the first one has.
    pub(super) repeated_alike: Vec<Error>,
    pub(super) merge_keys: Vec<Error>,
}

/// Takes repeated keys out of the tree and merges merge keys; gives a fault for each, and for each tag.
pub(super) fn audit(node: &mut Node, text: &str, place: &Locate<'_>) -> TreeFaults {
    // Only then is the text looked at: `!!` is rare, and SQL may hold a `!` anywhere.
    let tags = text.contains("!!") || text.contains("!<");
    let mut walk = TreeCheck { text, place, path: String::new(), found: TreeFaults::default(), tags };
    walk.node(node);
    walk.found
}

struct TreeCheck<'d> {
    text: &'d str,
    place: &'d Locate<'d>,
    /// Of the node at hand.
    path: String,
    found: TreeFaults,
    tags: bool,
}

impl TreeCheck<'_> {
    fn node(&mut self, node: &mut Node) {
        let length = self.path.len();
        match &mut node.value {
            NodeValue::Null | NodeValue::Scalar(_) => {}
            NodeValue::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    // Writing to a text cannot fail.
                    let _ = write!(self.path, "[{index}]");
                    self.check_tag(item.at, tag_before);
                    self.node(item);
                    self.path.truncate(length);
                }
            }
            NodeValue::Map(entries) => {
                self.keys(entries);
                for entry in entries {
                    self.path.extend([if length > 0 { "." } else { "" }, &in_path(&entry.key)]);
                    self.check_tag(entry.at, |text, at| tag_after_key(text, at, &entry.key));
                    self.node(&mut entry.node);
                    self.path.truncate(length);
                }
            }
        }
    }

    fn check_tag(&mut self, at: Option<usize>, is_tagged: impl Fn(&str, usize) -> bool) {
        if self.tags && at.is_some_and(|at| is_tagged(self.text, at)) {
            let fault = self.fault(at, &self.path, TAG_WITHOUT_MEANING, "remove it");
            self.found.faults.push(fault);
        }
    }

    fn keys(&mut self, entries: &mut Vec<MapEntry>) {
        let mut own: IndexMap<String, MapEntry> = IndexMap::with_capacity(entries.len());
        let mut merged = Vec::new();
        for entry in std::mem::take(entries) {
            let at = entry.at;
            if entry.key == "<<" {
                let hint = "put what entries share under `defaults`, or repeat a whole value with an alias";
                let fault = self.fault(at, &join(&self.path, "<<"), "merge keys are not supported", hint);
                self.found.merge_keys.push(fault);
                merged.extend(brought(entry.node.value));
                continue;
            }
            match own.get(&entry.key) {
                Some(earlier) => {
                    let line = (self.place)(earlier.at, "").line;
                    let hint =
                        if line > 0 { format!("the first one is in line {line}") } else { String::new() };
                    let fault = self.fault(at, &join(&self.path, &entry.key), "repeated key", &hint);
                    let is_scalar = matches!(entry.node.value, NodeValue::Scalar(_));
                    let is_alike = is_scalar && entry.node.value == earlier.node.value;
                    let of_kind =
                        if is_alike { &mut self.found.repeated_alike } else { &mut self.found.faults };
                    of_kind.push(fault);
                }
                None => drop(own.insert(entry.key.clone(), entry)),
            }
        }
        // The mapping's own keys count more, then those of the mapping that is merged first.
        for entry in merged {
            own.entry(entry.key.clone()).or_insert(entry);
        }
        entries.extend(own.into_values());
    }

    fn fault(&self, at: Option<usize>, path: &str, message: &str, hint: &str) -> Error {
        let error = Error::config(message).at((self.place)(at, path));
        if hint.is_empty() { error } else { error.with_hint(hint) }
    }
}

/// The entries that the value of a merge key brings: those of a mapping, or of several.
fn brought(value: NodeValue) -> Vec<MapEntry> {
    match value {
        NodeValue::Map(entries) => {
            let (merging, own): (Vec<MapEntry>, Vec<MapEntry>) =
                entries.into_iter().partition(|entry| entry.key == "<<");
            own.into_iter().chain(merging.into_iter().flat_map(|entry| brought(entry.node.value))).collect()
        }
        NodeValue::List(items) => items.into_iter().flat_map(|item| brought(item.value)).collect(),
        NodeValue::Null | NodeValue::Scalar(_) => Vec::new(),
    }
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
