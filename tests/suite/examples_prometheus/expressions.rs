//! What an expression names: metrics, selectors and labels. promtool parses; this only splits into words.

use std::collections::BTreeSet;

/// An expression and where it stands.
pub(super) struct Expression {
    pub(super) place: String,
    pub(super) text: String,
}

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) metrics: BTreeSet<String>,
    /// `name{…}`, as written.
    pub(super) selectors: BTreeSet<String>,
    pub(super) labels: BTreeSet<String>,
}

const OPERATORS: &[&str] = &["and", "or", "unless", "bool", "offset"];
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

impl Expression {
    /// With what Grafana puts in the place of variables: everything, and `interval` for the rate's.
    pub(super) fn resolved(&self, interval: &str) -> String {
        let text = self.text.replace("$__rate_interval", interval);
        let mut resolved = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            resolved += before;
            resolved += ".*";
            rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        }
        resolved + rest
    }

    /// The labels that the legend shows: a place ends in ` | LEGEND`.
    pub(super) fn legend_labels(&self) -> BTreeSet<String> {
        self.place.rsplit_once(" | ").map_or_else(BTreeSet::new, |(_, legend)| after(legend, "{{"))
    }
}

/// The names that follow each `mark`.
pub(super) fn after(text: &str, mark: &str) -> BTreeSet<String> {
    text.split(mark).skip(1).map(|rest| identifier(rest).to_owned()).filter(|name| !name.is_empty()).collect()
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')));
    &text[..end.unwrap_or(text.len())]
}

/// The text behind the bracket that closes the one at its beginning; what is in quotes does not count.
fn behind(text: &str, close: char) -> (&str, &str) {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if c == close && !quoted => return (&text[1..at], &text[at + 1..]),
            _ => {}
        }
    }
    panic!("{close} is missing in {text}")
}

/// Takes an expression apart.
pub(super) fn words(text: &str) -> Words {
    let mut found = Words::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '[' => behind(rest, ']').1,
            '"' => behind(rest, '"').1,
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            'a'..='z' | 'A'..='Z' | '_' => word(rest, &mut found),
            other => &rest[other.len_utf8()..],
        };
    }
    found
}

fn word<'t>(text: &'t str, found: &mut Words) -> &'t str {
    let name = identifier(text);
    let rest = &text[name.len()..];
    let next = rest.trim_start();
    if GROUPING.contains(&name) && next.starts_with('(') {
        let (list, rest) = behind(next, ')');
        found
            .labels
            .extend(list.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
        return rest;
    }
    let is_aggregation = ["by", "without"].contains(&identifier(next));
    if is_aggregation || OPERATORS.contains(&name) || GROUPING.contains(&name) || next.starts_with('(') {
        return rest;
    }
    found.metrics.insert(name.to_owned());
    if !next.starts_with('{') {
        found.selectors.insert(name.to_owned());
        return rest;
    }
    let (matchers, rest) = behind(next, '}');
    found.selectors.insert(format!("{name}{{{matchers}}}"));
    found.labels.extend(matched(matchers));
    rest
}

/// The labels that matchers name: what stands before each operator outside quotes.
fn matched(matchers: &str) -> Vec<String> {
    let outside: String = matchers.split('"').step_by(2).collect::<Vec<_>>().join("\"");
    let before_operator =
        |part: &str| part.trim_matches([',', ' ', '"']).trim_end_matches(['=', '!', '~']).to_owned();
    outside.split(',').map(before_operator).filter(|label| !label.is_empty()).collect()
}

#[test]
fn an_expression_is_taken_apart() {
    let found = words(
        "sum by (le, a) (rate(x_total{b=\"}, c=\", d!~\"e\"}[5m])) / on (f) group_left () y > 0.5e9 and z unless g:h:i == 1",
    );
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found.metrics, set(&["x_total", "y", "z", "g:h:i"]));
    assert_eq!(found.labels, set(&["le", "a", "b", "d", "f"]));
    assert!(found.selectors.contains("x_total{b=\"}, c=\", d!~\"e\"}"));
}

#[test]
fn variables_become_everything() {
    let expression =
        Expression { place: String::new(), text: "rate(x{a=~\"$a_b\"}[$__rate_interval])".to_owned() };
    assert_eq!(expression.resolved("9s"), "rate(x{a=~\".*\"}[9s])");
}
