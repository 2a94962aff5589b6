//! Ranges of versions as Go's semver libraries write them (`>=10.0.0 <12.0.0 || >=14.0.0`) → `when`.

use super::model::Value;

/// Alternatives, each of comparisons that all hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VersionRange(Vec<Vec<Comparison>>);

#[derive(Debug, PartialEq, Eq)]
struct Comparison {
    operator: &'static str,
    /// At most three.
    numbers: Vec<u32>,
}

/// The longer ones first, and what they are here.
const OPERATORS: [(&str, &str); 8] =
    [(">=", ">="), ("<=", "<="), ("!=", "!="), ("==", "="), (">", ">"), ("<", "<"), ("=", "="), ("!", "!=")];

impl VersionRange {
    /// Reads a range; `None` for what has no counterpart (`~1.2`, `1.2 - 1.4`).
    pub(super) fn read(text: &str) -> Option<VersionRange> {
        let alternatives = text.split("||").map(|alternative| {
            // `>= 10` is one comparison.
            let mut text = alternative.replace(',', " ");
            for (operator, _) in OPERATORS {
                while text.contains(&format!("{operator} ")) {
                    text = text.replace(&format!("{operator} "), operator);
                }
            }
            let comparisons: Vec<Comparison> =
                text.split_whitespace().map(Comparison::read).collect::<Option<_>>()?;
            (!comparisons.is_empty()).then_some(comparisons)
        });
        alternatives.collect::<Option<_>>().map(VersionRange)
    }

    /// The key of `when` that says it, and its value.
    pub(super) fn condition(&self) -> (&'static str, Value) {
        if let [comparisons] = self.0.as_slice() {
            let words: Vec<String> = comparisons.iter().map(Comparison::text).collect();
            return ("version", Value::from(words.join(" ")));
        }
        let all = |comparisons: &Vec<Comparison>| {
            let each: Vec<String> = comparisons.iter().map(Comparison::sql).collect();
            each.join(" AND ")
        };
        let alternatives: Vec<String> = self.0.iter().map(all).collect();
        let sql = format!(
            "SELECT {}\nFROM (SELECT current_setting('server_version_num')::int AS version) AS server",
            alternatives.join("\n  OR ")
        );
        ("sql", Value::Sql(sql))
    }
}

impl Comparison {
    fn read(word: &str) -> Option<Comparison> {
        let (operator, version) = OPERATORS
            .iter()
            .find_map(|(theirs, ours)| Some((*ours, word.strip_prefix(theirs)?)))
            .unwrap_or(("=", word));
        let version = version.strip_prefix('v').unwrap_or(version);
        let is_wildcard = |part: &&str| matches!(*part, "x" | "X" | "*");
        let numbers: Vec<u32> = version
            .split('.')
            .take_while(|part| !is_wildcard(part))
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        (1..=3).contains(&numbers.len()).then_some(Comparison { operator, numbers })
    }

    /// `>=10.0.0` is `>=10`: a number that is left out counts as 0 there.
    fn text(&self) -> String {
        let mut numbers = self.numbers.as_slice();
        while let [rest @ .., 0] = numbers
            && !rest.is_empty()
            && matches!(self.operator, ">=" | "<")
        {
            numbers = rest;
        }
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        format!("{}{}", self.operator, numbers.join("."))
    }

    /// With PostgreSQL's number of a version: 90605 for 9.6.5, 150004 for 15.4. Fewer numbers mean every version that begins
    /// with them: 15 is 150000 to 159999.
    fn sql(&self) -> String {
        let part = |index: usize| u64::from(self.numbers.get(index).copied().unwrap_or(0));
        let (first, count) = match (part(0), self.numbers.len()) {
            (major, 1) => (major * 10_000, 10_000),
            (major @ 10.., _) => (major * 10_000 + part(1), 1),
            (major, 2) => (major * 10_000 + part(1) * 100, 100),
            (major, _) => (major * 10_000 + part(1) * 100 + part(2), 1),
        };
        let last = first + count - 1;
        match (self.operator, count) {
            ("=", 2..) => format!("version BETWEEN {first} AND {last}"),
            ("!=", 2..) => format!("version NOT BETWEEN {first} AND {last}"),
            ("!=", _) => format!("version <> {first}"),
            (operator @ (">" | "<="), _) => format!("version {operator} {last}"),
            (operator, _) => format!("version {operator} {first}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> Option<(&'static str, Value)> {
        VersionRange::read(text).map(|range| range.condition())
    }

    #[test]
    fn ranges_are_comparisons() {
        for (range, expected) in [
            (">=10.0.0", ">=10"),
            (">=9.4.0 <10.0.0", ">=9.4 <10"),
            (">=12.0.0 <=15.0.0", ">=12 <=15.0.0"),
            (">= 11.0.0, < 13", ">=11 <13"),
            ("10.x", "=10"),
            ("!12.1.0", "!=12.1.0"),
            ("==9.6.5", "=9.6.5"),
        ] {
            assert_eq!(condition(range), Some(("version", Value::from(expected))), "{range}");
        }
    }

    #[test]
    fn alternatives_are_a_statement() {
        let sql = "SELECT version < 90600\n  OR version >= 100000 AND version <> 120001\n\
                   FROM (SELECT current_setting('server_version_num')::int AS version) AS server";
        assert_eq!(condition("<9.6.0 || >=10.0.0 !12.1.0"), Some(("sql", Value::Sql(sql.to_owned()))));
        let Some((_, Value::Sql(sql))) = condition("9.6.x || =14 || >15 || <=12 !11 !9.5") else {
            panic!("no statement")
        };
        for condition in [
            "BETWEEN 90600 AND 90699",
            "BETWEEN 140000 AND 149999",
            "> 159999",
            "<= 129999 AND version NOT BETWEEN 110000 AND 119999 AND version NOT BETWEEN 90500 AND 90599",
        ] {
            assert!(sql.contains(&format!("version {condition}\n")), "{condition}: {sql}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_none() {
        for range in ["", "~1.2", "^10", "1.2 - 1.4", ">=a", "||", "1.2.3.4", ">="] {
            assert_eq!(condition(range), None, "{range}");
        }
    }
}
