//! `parameters`: one statement for each set of values. They are written into the statement as literals, which is what the
//! drivers of that exporter do: a value of ours (`foreach`) would be a label as well.

use std::collections::HashMap;

use crate::commands::import::dialect::{entries, items};
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::section::Section;
use crate::yaml::document::{MapEntry, Node, NodeValue};

/// The most sets of a query.
const MOST_SETS: usize = 1_000;
/// The most lists that are combined.
const MOST_LISTS: usize = 100;

/// Names with their literals.
type Set = Vec<(String, String)>;

/// The statement for each set; itself where there are none. What cannot be is reported.
pub(super) fn statements(query: &Section<'_>, sql: &str, driver: &SourceDriver) -> Vec<String> {
    let none = [Set::new()];
    let lists = match query.take("parameters") {
        None => Vec::new(),
        Some(parameters) => lists(parameters, driver, query),
    };
    let combined = match lists.as_slice() {
        [] => Some(vec![none.iter().collect()]),
        lists => product(lists),
    };
    let Some(combined) = combined else {
        query.left_out("parameters", format!("the query has more than {MOST_SETS} sets of parameters"));
        return Vec::new();
    };
    if combined.len() > 1 {
        query.note(
            "parameters",
            "each set is a query of its own: sets that make the same series fail, there the last one counts",
        );
    }
    let mut statements = Vec::new();
    for sets in &combined {
        let pairs = || sets.iter().copied().flatten();
        let bytes = sql.len() + pairs().map(|(name, literal)| name.len() + literal.len()).sum::<usize>();
        if !query.may_copy(bytes) {
            return Vec::new();
        }
        let values = pairs().map(|(name, literal)| (name.as_str(), literal.as_str())).collect();
        statements.push(with_values(sql, &values));
    }
    statements
}

/// The lists of sets: one, or several to combine.
fn lists(parameters: &MapEntry, driver: &SourceDriver, query: &Section<'_>) -> Vec<Vec<Set>> {
    match &parameters.node.value {
        NodeValue::List(_) => vec![sets(&parameters.node, "", driver, query)],
        _ => {
            let lists = entries(&parameters.node).iter();
            lists.map(|list| sets(&list.node, &format!("{}__", list.key), driver, query)).collect()
        }
    }
}

/// The sets of a list; their names begin with `prefix`.
fn sets(list: &Node, prefix: &str, driver: &SourceDriver, query: &Section<'_>) -> Vec<Set> {
    let text = &query.input.document.text;
    let pair =
        |entry: &MapEntry| Some((format!("{prefix}{}", entry.key), literal(&entry.node, text, driver)?));
    let set = |item: &Node| {
        let set: Option<Set> = entries(item).iter().map(pair).collect();
        if set.is_none() {
            query.left_out("parameters", "a value is neither a text nor a number: its set is left out");
        }
        set
    };
    items(list).iter().filter_map(set).collect()
}

/// Each combination of the lists; `None` where they are too many.
fn product(lists: &[Vec<Set>]) -> Option<Vec<Vec<&Set>>> {
    if lists.len() > MOST_LISTS {
        return None;
    }
    let mut product: Vec<Vec<&Set>> = vec![Vec::new()];
    for sets in lists {
        if product.len().saturating_mul(sets.len()) > MOST_SETS {
            return None;
        }
        let chosen = std::mem::take(&mut product);
        for chosen in &chosen {
            product.extend(sets.iter().map(|set| [chosen.as_slice(), &[set]].concat()));
        }
    }
    Some(product)
}

/// A value as a statement has it; `None` for lists and mappings.
fn literal(node: &Node, text: &str, driver: &SourceDriver) -> Option<String> {
    let value = match &node.value {
        NodeValue::Null => return Some("NULL".to_owned()),
        NodeValue::Scalar(value) => value,
        NodeValue::List(_) | NodeValue::Map(_) => return None,
    };
    // The place of a quoted scalar is behind the quote; a block has none.
    let before = node.at.and_then(|at| text.get(..at));
    let is_plain = before.is_some_and(|before| !before.ends_with(['"', '\'']));
    let is_number = !value.is_empty()
        && value.strip_prefix('-').unwrap_or(value).starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && value.parse::<f64>().is_ok_and(f64::is_finite);
    // In YAML 1.1 a zero begins an octal number, and 08 is a text.
    let is_digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let after_zero = value.strip_prefix('0').filter(|rest| is_plain && is_digits(rest));
    let octal = after_zero.and_then(|digits| u64::from_str_radix(digits, 8).ok());
    let is_number = is_number && after_zero.is_none();
    if let Some(octal) = octal {
        return Some(octal.to_string());
    }
    Some(match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" if is_plain => "TRUE".to_owned(),
        "false" | "no" | "off" if is_plain => "FALSE".to_owned(),
        _ if is_plain && is_number => value.clone(),
        _ => {
            let escaped = value.replace('\'', "''");
            let is_mysql = *driver == SourceDriver::Ours("mysql");
            format!("'{}'", if is_mysql { escaped.replace('\\', "\\\\") } else { escaped })
        }
    })
}

/// The statement with literals in place of `:name`, and `:` in place of `\:`, as SQLAlchemy reads them.
fn with_values(sql: &str, values: &HashMap<&str, &str>) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(sql.len());
    let mut before = None;
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c == '\\' && after.starts_with(':') {
            out.push(':');
            (before, rest) = (Some(':'), &after[1..]);
            continue;
        }
        let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
        let (name, behind) = after.split_at(end);
        let is_bound =
            c == ':' && !before.is_some_and(|c| is_word(c) || c == ':') && !behind.starts_with(':');
        match values.get(name).filter(|_| is_bound) {
            Some(literal) => {
                out.push_str(literal);
                (before, rest) = (name.chars().next_back(), behind);
            }
            None => {
                out.push(c);
                (before, rest) = (Some(c), after);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_as_sqlalchemy_finds_them() {
        let values = HashMap::from([("a", "1"), ("b__c", "'x'")]);
        for (sql, expected) in [
            ("SELECT :a, :b__c", "SELECT 1, 'x'"),
            ("SELECT x::a, 'b:a', :ab", "SELECT x::a, 'b:a', :ab"),
            (r"SELECT '\:a' || (:a)::text", "SELECT ':a' || (1)::text"),
            (r"SELECT now()\:\:date, ü", "SELECT now()::date, ü"),
            ("SELECT :a:", "SELECT :a:"),
            (":a", "1"),
        ] {
            assert_eq!(with_values(sql, &values), expected);
        }
    }
}
