//! A byte offset in a file's text → its line, column and source line; and which lines may be shown at all.
//!
//! Owns the rule that a source line which may hold a secret never appears in a message. Knows no tree.

use std::borrow::Cow;

use crate::error::SourcePosition;

/// Longer source lines are not shown whole.
const LONGEST_SHOWN: usize = 200;
/// Nor are longer paths, in characters.
const LONGEST_PATH: usize = 400;

/// Words that mark a line, and the block under it, as one that may hold a secret. A near miss counts too: a
/// misspelt `pasword: …` is exactly the line that an error would show.
const SECRET_KEYS: &[&str] = &[
    "password",
    "password_command",
    "url",
    "connection_string",
    "params",
    "session_sql",
    "dsn",
    "uri",
    "basic_auth_users",
];

/// Parts of a word that do the same; one slip leaves `pass` or `sword` whole.
const SECRET_PARTS: &[&str] = &["pass", "sword", "pwd", "secret", "token", "credential"];

/// Characters are counted once for each piece of so many bytes: a whole configuration may stand on one line, and each of
/// its places would count that line anew.
const PIECE: usize = 1024;

/// Where the lines of a text start, and which of them may be shown.
#[derive(Debug, Clone)]
pub(super) struct SourceLines {
    /// The lines of its file before the text, where that is a part of the file.
    pub(super) lines_before: usize,
    starts: Vec<usize>,
    hidden: Vec<bool>,
    /// The characters before each piece of [`PIECE`] bytes.
    before: Vec<usize>,
}

impl SourceLines {
    /// Splits `text` once; every later look-up is a binary search.
    pub(super) fn new(text: &str, lines_before: usize) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(end, _)| end + 1));
        let pieces = text.as_bytes().chunks(PIECE).scan(0, |count, piece| {
            let before = *count;
            *count += characters(piece);
            Some(before)
        });
        SourceLines { lines_before, starts, hidden: hidden_lines(text), before: pieces.collect() }
    }

    /// How many characters begin before the byte `at`.
    fn characters_before(&self, text: &str, at: usize) -> usize {
        let piece = at / PIECE;
        let before = self.before.get(piece).copied().unwrap_or_default();
        before + text.as_bytes().get(piece * PIECE..at).map_or(0, characters)
    }

    /// The place of the byte `at`; without one, of the file as a whole.
    pub(super) fn place(&self, file: &str, text: &str, at: Option<usize>, path: &str) -> SourcePosition {
        let mut place =
            SourcePosition { file: file.to_owned(), path: printable(path), ..SourcePosition::default() };
        if let Some(at) = at {
            let index = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
            let start = self.starts.get(index).copied().unwrap_or(0);
            place.line = self.lines_before + index + 1;
            place.column = self.characters_before(text, at) - self.characters_before(text, start) + 1;
            let hidden = self.hidden.get(index).copied().unwrap_or(true) || secret_path(path);
            if !hidden && place.column <= LONGEST_SHOWN {
                let end = self.starts.get(index + 1).copied().unwrap_or(text.len());
                place.source = text.get(start..end).map(shown);
            }
        }
        place
    }

    /// The place of a fault in a text that is no YAML: its line is hidden where one shortly above is, since what
    /// belongs to which key is just what is not known.
    pub(super) fn unsure_place(&self, file: &str, text: &str, at: Option<usize>) -> SourcePosition {
        const ABOVE: usize = 3;
        let mut place = self.place(file, text, at, "");
        let line = place.line.saturating_sub(self.lines_before);
        let above = self.hidden.get(line.saturating_sub(ABOVE + 1)..line);
        if above.is_none_or(|lines| lines.contains(&true)) {
            place.source = None;
        }
        place
    }
}

/// How many characters begin in these bytes.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The line without control characters (a terminal obeys them), cut to a length that fits.
fn shown(line: &str) -> String {
    let clean = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    cut(line.trim_end(), LONGEST_SHOWN).chars().map(clean).collect()
}

/// A path for a message: control characters escaped, cut to a length that fits.
fn printable(path: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let shown = cut(path, LONGEST_PATH);
    if shown.contains(char::is_control) { shown.chars().map(escaped).collect() } else { shown.into_owned() }
}

/// The text, or so many of its characters and `…`.
pub(super) fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

fn secret_path(path: &str) -> bool {
    path.split(['.', '[']).any(|segment| SECRET_KEYS.contains(&segment))
}

/// One flag a line: the line names a secret, stands in the block under one that does, or goes on with its value.
fn hidden_lines(text: &str) -> Vec<bool> {
    let mut above: Vec<(usize, bool)> = Vec::new();
    let mut hidden = Vec::new();
    let mut before = PreviousLine::default();
    for line in text.split('\n') {
        if line.trim().is_empty() {
            hidden.push(before.hidden);
            continue;
        }
        let depth = depth(line);
        while above.last().is_some_and(|(indent, _)| *indent >= depth) {
            above.pop();
        }
        let here =
            above.last().is_some_and(|(_, secret)| *secret) || names_secret(line) || before.goes_on(line);
        above.push((depth, here));
        hidden.push(here);
        before.note(line, here);
    }
    hidden
}

/// What the line before leaves open. A text that is broken YAML has its lines where they do not belong: a value
/// one line too low, or a quote that was never closed.
#[derive(Default)]
struct PreviousLine {
    hidden: bool,
    quoted: bool,
}

impl PreviousLine {
    fn goes_on(&self, line: &str) -> bool {
        self.hidden && (self.quoted || !key_first(line))
    }

    fn note(&mut self, line: &str, hidden: bool) {
        let odd = line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1;
        self.quoted = hidden && (odd != (self.hidden && self.quoted));
        self.hidden = hidden;
    }
}

/// True for `key: …` and `- key: …`.
fn key_first(line: &str) -> bool {
    let line = line.get(depth(line)..).unwrap_or("");
    let ends = |after: &str| after.is_empty() || after.starts_with([' ', '\t', '\r']);
    let word = |key: &str| {
        key.starts_with(char::is_alphanumeric)
            && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    line.split_once(':').is_some_and(|(key, after)| ends(after) && word(key))
}

/// Columns before the first word; the `- ` of a list item counts as indentation, as YAML has it.
fn depth(line: &str) -> usize {
    let bytes = line.as_bytes();
    let dash = |i: usize| bytes.get(i) == Some(&b'-') && matches!(bytes.get(i + 1), Some(b' ' | b'\t'));
    (0..bytes.len()).find(|&i| !matches!(bytes.get(i), Some(b' ' | b'\t')) && !dash(i)).unwrap_or(0)
}

/// True when a line, or the text of a scalar, names what is likely a secret, whatever stands between the letters.
pub(super) fn names_secret(line: &str) -> bool {
    let word_part = |c: &char| c.is_alphanumeric() || *c == '_';
    let letters: String = line.replace('-', "_").chars().filter(word_part).collect();
    let letters = letters.to_lowercase().replace("password_file", "");
    line.contains("://")
        || line.contains("-----BEGIN")
        || holds_key(line)
        || SECRET_PARTS.iter().any(|part| letters.contains(part))
        || line.split(|c| !word_part(&c)).any(|word| SECRET_KEYS.contains(&word))
        || line.split(':').any(|before| {
            let key = before.rsplit(['{', ',']).next().unwrap_or("");
            near_secret(key.trim_matches(|c| !word_part(&c)))
        })
}

/// True for a `key` that has more behind it than the path of a file: the private key of a web-config file.
fn holds_key(line: &str) -> bool {
    let line = line.get(depth(line)..).unwrap_or_default();
    line.split_once(':').is_some_and(|(key, value)| {
        let value = value.trim();
        key.trim() == "key" && (value.is_empty() || value.starts_with(['|', '>', '"', '\'', '-']))
    })
}

/// A slip of the pen in a key that holds secrets.
fn near_secret(key: &str) -> bool {
    let known = ["password_file", "url_file"];
    (2..=64).contains(&key.len())
        && !known.contains(&key)
        && SECRET_KEYS.iter().any(|secret| {
            let slips = if secret.len() > 7 { 2 } else { 1 };
            key.len().abs_diff(secret.len()) <= slips
                && strsim::osa_distance(&key.to_lowercase(), secret) <= slips
        })
}
