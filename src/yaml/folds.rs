//! Where YAML joins lines: in a folded block (`>`), and in a plain or quoted scalar over several lines, the end of a line
//! of the file becomes a blank. A `--` comment in it then goes on with what was meant to follow it.
//!
//! serde_yaml does not say how a scalar is written, so its text is laid beside the file. Where they do not fit (rare
//! escapes), no line counts as joined.

/// How many places in the file are tried as the first of a scalar: its first word may also stand in a comment above it.
const STARTS: usize = 100;

/// A scalar's text as typed, with places where a line of the file ends and the text goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// The text.
    pub text: String,
    /// Byte offsets in it, rising.
    pub folds: Vec<usize>,
}

/// Those of `scalars` of which lines are joined; they are the values, in order, of a key whose name ends at `after_key`.
pub fn folded<'s>(text: &str, after_key: usize, scalars: impl Iterator<Item = &'s str>) -> Vec<Folded> {
    let mut rest = text.get(start(text, after_key)..).unwrap_or_default();
    let of_scalar = |scalar: &str| {
        let (folds, after) = folds(rest, scalar);
        rest = after;
        Folded { text: scalar.to_owned(), folds }
    };
    scalars.map(of_scalar).filter(|folded| !folded.folds.is_empty()).collect()
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
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\');
    let word = scalar.trim_start().split(ends_word).next().unwrap_or_default();
    let starts = text.match_indices(word).map(|(at, _)| at).take(if word.is_empty() { 0 } else { STARTS });
    let found = starts.filter_map(|at| text.get(at..)).find_map(|rest| laid_beside(rest, scalar));
    found.unwrap_or((Vec::new(), text))
}

/// Lays `scalar` beside a piece of the file that begins with it, blanks apart and escapes left out. `None` where they do
/// not fit.
fn laid_beside<'t>(text: &'t str, scalar: &str) -> Option<(Vec<usize>, &'t str)> {
    let blanks = |at: usize| scalar.get(at..).map_or(0, |rest| rest.len() - rest.trim_start().len());
    let mut folds = Vec::new();
    let mut at = blanks(0);
    // Where in the scalar the line of the file ended.
    let mut line_end = None;
    let mut escaped = false;
    for (offset, c) in text.char_indices() {
        let next = scalar.get(at..)?.chars().next();
        if at + blanks(at) == scalar.len() {
            return Some((folds, &text[offset..]));
        }
        match c {
            '\n' => line_end = line_end.or(Some(at)),
            _ if c.is_whitespace() => {
                at += if line_end.is_none() && next == Some(c) { c.len_utf8() } else { 0 }
            }
            'n' | 't' if escaped => {}
            _ => {
                let gap = scalar.get(at..at + blanks(at))?;
                let is_joined = !gap.contains('\n');
                at += gap.len();
                folds.extend(line_end.take().filter(|_| is_joined));
                if scalar.get(at..)?.starts_with(c) {
                    at += c.len_utf8();
                } else if !matches!(c, '\\' | '\'') {
                    return None;
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    (at + blanks(at) == scalar.len()).then_some((folds, ""))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::yaml::document::Document;
    use crate::yaml::keys::{Keys, Reader};

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
