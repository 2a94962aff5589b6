//! Where YAML joins lines: in a folded block (`>`), and in a plain or quoted scalar over several lines, the end of a line
//! of the file becomes a blank. A `--` comment in it then goes on with what was meant to follow it.
//!
//! serde_yaml does not tell how a scalar is written, so its text is laid beside the lines of the file. Where they do not
//! fit (rare escapes), nothing is said.

use std::borrow::Cow;

use super::document::NodeValue;
use super::keys::Keys;

/// Lines of the file that may stand between a key and the first of its text: the end of a header, comments.
const BEFORE: usize = 100;

/// A scalar's text as typed, with places where a line of the file ends and the text goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The text.
    pub text: String,
    /// Byte offsets in it, rising.
    pub folds: Vec<usize>,
}

impl Keys<'_> {
    /// The scalars under `key` (one, or a list of them) of which lines are joined. Asks nothing.
    #[must_use]
    pub fn folded(&self, key: &str) -> Vec<Folded> {
        let Some(found) = self.look(key) else { return Vec::new() };
        let text = &found.source.document.text;
        let Some(at) = found.entry.at else { return Vec::new() };
        let scalars: Vec<(&str, Option<usize>)> = match found.value() {
            NodeValue::Scalar(scalar) => vec![(scalar, found.entry.tree.at)],
            NodeValue::List(items) => items
                .iter()
                .filter_map(|item| {
                    if let NodeValue::Scalar(scalar) = &item.value {
                        Some((&**scalar, item.at))
                    } else {
                        None
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut rest = text.get(start(text, at + found.entry.key.len())..).unwrap_or_default();
        let mut all = Vec::new();
        // One that is a piece of the file as it stands is not folded.
        for (scalar, _) in scalars.into_iter().filter(|(_, at)| at.is_none()) {
            let (folds, after) = folds(rest, scalar);
            rest = after;
            if !folds.is_empty() {
                all.push(Folded { text: scalar.to_owned(), folds });
            }
        }
        all
    }
}

/// Where the value of a key begins whose name ends at `after`: for an alias, at its anchor.
fn start(text: &str, after: usize) -> usize {
    let rest = text.get(after..).unwrap_or_default();
    let value = rest
        .trim_start_matches(['"', '\'', ' ', '\t'])
        .trim_start_matches(':')
        .trim_start_matches([' ', '\t']);
    let Some(alias) = value.strip_prefix('*') else { return after };
    let name =
        alias.split(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}')).next().unwrap_or_default();
    let anchor = format!("&{name}");
    let ends =
        |at: &usize| text.get(at + anchor.len()..).is_some_and(|rest| rest.starts_with(char::is_whitespace));
    text.match_indices(&anchor).map(|(at, _)| at).find(ends).unwrap_or(after)
}

/// The places in `scalar` where a line of the file ends, and what of the file follows it.
fn folds<'t>(text: &'t str, scalar: &str) -> (Vec<usize>, &'t str) {
    let mut folds = Vec::new();
    let mut lines = text.split_inclusive('\n');
    let mut rest = text;
    let body = scalar.trim();
    let Some(mut at) = scalar.find(body).filter(|_| !body.is_empty()) else { return (folds, text) };
    let first = lines.by_ref().take(BEFORE).find_map(|line| {
        rest = rest.get(line.len()..).unwrap_or_default();
        beginning(line, body)
    });
    let Some(length) = first else { return (folds, text) };
    at += length;
    for line in lines {
        let (gap, left) =
            scalar.get(at..).map_or(("", ""), |left| left.split_at(left.len() - left.trim_start().len()));
        let after = rest.get(line.len()..).unwrap_or_default();
        if left.is_empty() {
            break;
        }
        let line = line.trim();
        if !line.is_empty() {
            let Some(length) = forms(line).iter().find_map(|form| common(left, form)) else { break };
            if !gap.contains('\n') {
                folds.push(at);
            }
            at += gap.len() + length;
        }
        rest = after;
    }
    (folds, rest)
}

/// How much of `body` stands at the end of the line on which it begins.
fn beginning(line: &str, body: &str) -> Option<usize> {
    let word = body.split(char::is_whitespace).next()?;
    forms(line.trim())
        .iter()
        .find_map(|form| form.match_indices(word).find_map(|(at, _)| common(body, form.get(at..)?)))
}

/// The length of what `text` begins with and a line of the file holds: the line, or all that is left of the text and then
/// a quote or a bracket.
fn common(text: &str, line: &str) -> Option<usize> {
    let left = text.trim_end();
    if left.starts_with(line) {
        Some(line.len())
    } else if line.starts_with(left) {
        Some(left.len())
    } else {
        None
    }
}

/// A line as it may be meant: as it stands, and as in quotes of either kind.
fn forms(line: &str) -> Vec<Cow<'_, str>> {
    let mut forms = vec![Cow::Borrowed(line)];
    if line.contains("''") {
        forms.push(line.replace("''", "'").into());
    }
    if line.contains('\\') {
        forms.push(unescaped(line).into());
    }
    forms
}

/// The escapes of double quotes that SQL is likely to have. One at the end of a line joins it with the next.
fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::yaml::document::Document;
    use crate::yaml::keys::Reader;

    /// The text of `sql` with each joint marked.
    fn marked(yaml: &str) -> Vec<String> {
        let document = Document::parse("x.yaml", Path::new("."), yaml.to_owned()).expect("YAML");
        let environment = |_: &str| None;
        let reader = Reader::new(&environment);
        let keys = Keys::root(&document, &reader).expect("a mapping");
        let mark = |Folded { mut text, folds }: Folded| {
            folds.iter().rev().for_each(|fold| text.insert(*fold, '⏎'));
            text.trim().to_owned()
        };
        keys.folded("sql").into_iter().map(mark).collect()
    }

    #[test]
    fn every_form_that_joins_lines_is_seen() {
        for yaml in [
            "sql: >\n  SELECT a -- b\n  FROM t\n",
            "sql: >-\n\n  SELECT a -- b\n  FROM t\nother: 1\n",
            "sql: >2-   # a comment of YAML's\n  SELECT a -- b\n  FROM t\n",
            "sql: &it >\n  SELECT a -- b\n  FROM t\n",
            "sql: SELECT a -- b\n  FROM t\n",
            "sql:\n  SELECT a -- b\n  FROM t\n",
            "{name: q, sql: SELECT a -- b\n  FROM t, other: 1}\n",
            "sql: \"SELECT a -- b\n  FROM t\"\n",
            "sql: 'SELECT a -- b\n\n  FROM t'\n".replace("\n\n", "\n").as_str(),
            "it: &it >\n  SELECT a -- b\n  FROM t\nsql: *it\n",
            "\"sql\": >\n  SELECT a -- b\n  FROM t\n",
        ] {
            assert_eq!(marked(yaml), ["SELECT a -- b⏎ FROM t"], "{yaml}");
        }
        assert_eq!(marked("sql: \"SELECT \\\"a\\\" -- b\n  FROM t\"\n"), ["SELECT \"a\" -- b⏎ FROM t"]);
        assert_eq!(marked("sql: \"SELECT a -- b \\\n  FROM t\"\n"), ["SELECT a -- b ⏎FROM t"]);
        assert_eq!(marked("sql: 'SELECT ''a'' -- b\n  FROM t'\n"), ["SELECT 'a' -- b⏎ FROM t"]);
        assert_eq!(marked("sql: >\n  a\n  b\n\n  c\n    d\n  e\n"), ["a⏎ b\nc\n  d\ne"]);
    }

    #[test]
    fn what_keeps_its_lines_is_not_folded() {
        for yaml in [
            "sql: |\n  SELECT a -- b\n  FROM t\n",
            "sql: SELECT a -- b\n",
            "sql: \"SELECT a -- b\\nFROM t\"\n",
            "sql: >\n  SELECT a -- b\n\n  FROM t\n",
            "sql: [SELECT a, SELECT b]\n",
            "sql: ''\nother: x\n",
        ] {
            assert_eq!(marked(yaml), [""; 0], "{yaml}");
        }
    }

    #[test]
    fn the_texts_of_a_list_are_looked_at_one_by_one() {
        let yaml = "sql:\n  - >\n    SET a\n    = 1\n  - SET b = 2\n  - >\n    SET c\n    = 3\n";
        assert_eq!(marked(yaml), ["SET a⏎ = 1", "SET c⏎ = 3"]);
    }
}
