//! The names of families: one that is fixed, or one a row value, made of columns (`mysql_status_{variable_name}`) or of
//! parts of their texts (`mysql_status_{variable_name|^Innodb_(.+)$}`).

use std::sync::Arc;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;

use super::column_text::{BoundText, ColumnText};

/// Metric names that are ours, and the process metrics of every Prometheus client (docs/metrics.md).
const OUR_PREFIXES: [&str; 2] = ["sql_exporter_", "process_"];

/// With what a name begins that is reserved for the exporter.
pub fn our_prefix(name: &str) -> Option<&'static str> {
    OUR_PREFIXES.into_iter().find(|prefix| name.starts_with(prefix))
}

/// Where the families of one metric get their names from.
#[derive(Debug, Clone)]
pub enum Naming {
    /// One family.
    Fixed(Arc<Family>),
    /// One family for each name that rows make.
    ByColumn(NamePattern),
}

/// A name with columns in it, and the rest of its families' heads.
#[derive(Debug, Clone)]
pub struct NamePattern {
    /// As written: `mysql_status_{variable_name}`.
    text: String,
    parts: Vec<NamePart>,
    kind: FamilyKind,
    help: String,
    unit: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NamePart {
    Text(String),
    Column(ColumnText),
}

impl Naming {
    /// Reads a name, fixed or with columns in braces.
    ///
    /// # Errors
    /// What is wrong with it, as a message.
    pub fn new(text: &str, kind: FamilyKind, help: String, unit: Option<Arc<str>>) -> Result<Self, String> {
        if !text.contains(['{', '}']) {
            let family = Family { unit, ..Family::new(MetricName::new(text)?, kind, help) };
            return Ok(Naming::Fixed(Arc::new(family)));
        }
        let parts = parts(text)?;
        Ok(Naming::ByColumn(NamePattern { text: text.to_owned(), parts, kind, help, unit }))
    }

    /// The name as written.
    pub fn text(&self) -> &str {
        match self {
            Naming::Fixed(family) => family.name.as_str(),
            Naming::ByColumn(pattern) => &pattern.text,
        }
    }

    /// The type of all its families.
    pub fn kind(&self) -> FamilyKind {
        match self {
            Naming::Fixed(family) => family.kind,
            Naming::ByColumn(pattern) => pattern.kind,
        }
    }

    /// Their help.
    pub fn help(&self) -> &str {
        match self {
            Naming::Fixed(family) => &family.help,
            Naming::ByColumn(pattern) => &pattern.help,
        }
    }

    /// Their unit.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Naming::Fixed(family) => family.unit.as_deref(),
            Naming::ByColumn(pattern) => pattern.unit.as_deref(),
        }
    }

    /// The columns in the name.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnText> {
        let parts = match self {
            Naming::Fixed(_) => [].as_slice(),
            Naming::ByColumn(pattern) => &pattern.parts,
        };
        parts.iter().filter_map(|part| match part {
            NamePart::Column(column) => Some(column),
            NamePart::Text(_) => None,
        })
    }

    /// The one family, where the name is fixed.
    pub fn fixed(&self) -> Option<&Arc<Family>> {
        match self {
            Naming::Fixed(family) => Some(family),
            Naming::ByColumn(_) => None,
        }
    }
}

/// Literal texts and columns in turn. What is literal must be legal within a name.
fn parts(text: &str) -> Result<Vec<NamePart>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let end =
            closing(after).ok_or_else(|| format!("{text:?}: `{{` is not closed{}", of_pattern(after)))?;
        let (inside, after) = after.split_at(end);
        let column = column_text(inside).map_err(|why| format!("{text:?}: {why}"))?;
        parts.extend([NamePart::Text(before.to_owned()), NamePart::Column(column)]);
        rest = after.strip_prefix('}').unwrap_or(after);
    }
    parts.push(NamePart::Text(rest.to_owned()));
    parts.retain(|part| *part != NamePart::Text(String::new()));
    // A column may hold anything, so a letter in its place shows whether the rest is legal.
    let shape: String = parts
        .iter()
        .map(|part| match part {
            NamePart::Text(text) => text.as_str(),
            NamePart::Column(_) => "c",
        })
        .collect();
    MetricName::new(&shape).map_err(|rule| format!("{text:?}, each column being a `c`: {rule}"))?;
    Ok(parts)
}

/// Where the `}` stands that closes a `{` before `text`. Braces between the two come in pairs.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_u32;
    let mut braces = text.char_indices().filter(|(_, c)| matches!(c, '{' | '}'));
    let close = braces.find(|(_, brace)| {
        open = if *brace == '{' { open.saturating_add(1) } else { open - 1 };
        open == 0
    });
    close.map(|(at, _)| at)
}

/// What to do about a brace in a pattern.
fn of_pattern(inside: &str) -> &'static str {
    let has_pattern = inside.contains('|');
    if has_pattern { r"; a brace without its partner in a pattern is written \x7B or \x7D" } else { "" }
}

/// What stands between braces: a column, or a column, `|` and a pattern.
fn column_text(inside: &str) -> Result<ColumnText, String> {
    let (column, pattern) = match inside.split_once('|') {
        Some((column, pattern)) => (column.trim(), Some(pattern)),
        None => (inside.trim(), None),
    };
    if column.is_empty() || column.contains('{') {
        return Err("between `{` and `}` stands the name of a column, or one with a pattern: \
                    `{column|pattern}`"
            .to_owned());
    }
    match pattern {
        None => Ok(ColumnText::whole(column)),
        Some(pattern) => ColumnText::part(column, pattern)
            .map_err(|why| if pattern.ends_with('\\') { why + of_pattern(inside) } else { why }),
    }
}

impl NamePattern {
    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind(&self, columns: &[Column]) -> Result<BoundNamePattern<'_>> {
        fn part<'r>(part: &'r NamePart, columns: &[Column]) -> Result<BoundNamePart<'r>> {
            Ok(match part {
                NamePart::Text(text) => BoundNamePart::Text(text),
                NamePart::Column(text) => BoundNamePart::Column(text.bind(columns)?),
            })
        }
        let parts = self.parts.iter().map(|named| part(named, columns)).collect::<Result<_>>()?;
        Ok(BoundNamePattern { pattern: self, parts, scratch: String::new() })
    }
}

#[derive(Debug)]
enum BoundNamePart<'r> {
    Text(&'r str),
    Column(BoundText<'r>),
}

/// A pattern bound to the columns of a result.
#[derive(Debug)]
pub struct BoundNamePattern<'r> {
    pattern: &'r NamePattern,
    parts: Vec<BoundNamePart<'r>>,
    scratch: String,
}

impl BoundNamePattern<'_> {
    /// False when `row` does not match a pattern in the name: the metric leaves it out.
    ///
    /// # Errors
    /// `protocol` from the row.
    pub fn find(&mut self, row: &dyn Row) -> Result<bool> {
        for part in &mut self.parts {
            if let BoundNamePart::Column(text) = part
                && !text.find(row, &mut self.scratch)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the name of the family to which `row` belongs, the one that [`BoundNamePattern::find`] saw last, in the place
    /// of what `name` held: values in lower case, what is not legal in a name becomes `_`. Allocates only while `name`
    /// grows.
    ///
    /// # Errors
    /// `value` for NULL, for an empty value and for a name of the exporter's own; `limit` for one of more than `longest`
    /// bytes; `protocol` from the row.
    pub fn write(&mut self, row: &dyn Row, longest: usize, name: &mut String) -> Result<()> {
        name.clear();
        for part in &mut self.parts {
            match part {
                BoundNamePart::Text(text) => name.push_str(text),
                BoundNamePart::Column(text) => {
                    let cell = text.column().cell(row)?;
                    let value = text.take(cell.label(&mut self.scratch));
                    let length = value.len();
                    if length == 0 {
                        return Err(empty(text));
                    }
                    if name.len() + length > longest {
                        return Err(too_long(text.column().name(), length, longest));
                    }
                    let legal =
                        |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
                    let starts = name.is_empty() && value.starts_with(|c: char| c.is_ascii_digit());
                    name.extend(starts.then_some('_').into_iter().chain(value.chars().map(legal)));
                }
            }
        }
        match our_prefix(name) {
            None => Ok(()),
            Some(prefix) => {
                let message = format!("a row makes the metric name {name}; {prefix}… are the exporter's own");
                Err(Error::new(Reason::Value, message).with_hint("begin `name` with a prefix of its own"))
            }
        }
    }

    /// The family of a name that [`BoundNamePattern::write`] made.
    ///
    /// # Errors
    /// `value` for a name that is not legal, which none is.
    pub fn family(&self, name: &str) -> Result<Family> {
        let name = MetricName::new(name).map_err(|rule| Error::new(Reason::Value, rule))?;
        let NamePattern { kind, help, unit, .. } = self.pattern;
        Ok(Family { unit: unit.clone(), ..Family::new(name, *kind, help.clone()) })
    }
}

fn empty(text: &BoundText<'_>) -> Error {
    let column = text.column().name();
    let (message, hint) = if text.has_pattern() {
        let message =
            format!("the pattern finds an empty text in column `{column}`, which makes no metric name");
        (message, "write `+` instead of `*` in the pattern: rows that do not match are left out")
    } else {
        let message = format!("column `{column}` is empty and makes no metric name");
        (message, "leave such rows out in the SQL, or write coalesce(…)")
    };
    Error::new(Reason::Value, message).with_hint(hint)
}

/// A name is never cut: two that begin alike would be one.
fn too_long(column: &str, length: usize, longest: usize) -> Error {
    let message = format!(
        "column `{column}`: {length} bytes make a metric name that is too long, max_label_length is {longest}"
    );
    Error::new(Reason::Limit, message).with_hint("shorten it in the SQL, or put the column into a label")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Naming::new(text, FamilyKind::Gauge, String::new(), None).map(drop).unwrap_err()
    }

    #[test]
    fn braces_hold_columns() {
        assert_eq!(
            parts("a_{b}_{ c }d").unwrap(),
            [
                NamePart::Text("a_".into()),
                NamePart::Column(ColumnText::whole("b")),
                NamePart::Text("_".into()),
                NamePart::Column(ColumnText::whole("c")),
                NamePart::Text("d".into())
            ]
        );
        assert_eq!(parts("{b}").unwrap(), [NamePart::Column(ColumnText::whole("b"))]);
    }

    #[test]
    fn a_bar_divides_a_column_from_its_pattern() {
        let part = |column: &str, pattern: &str| NamePart::Column(ColumnText::part(column, pattern).unwrap());
        assert_eq!(parts("{b|^x(.+)$}").unwrap(), [part("b", "^x(.+)$")]);
        assert_eq!(
            parts("a_{ b |^(c|d)_[0-9]{2,3}\\x7B(.)$}_e{f}").unwrap(),
            [
                NamePart::Text("a_".into()),
                part("b", "^(c|d)_[0-9]{2,3}\\x7B(.)$"),
                NamePart::Text("_e".into()),
                NamePart::Column(ColumnText::whole("f")),
            ]
        );
    }

    #[test]
    fn a_bad_pattern_is_said() {
        let brace = r"; a brace without its partner in a pattern is written \x7B or \x7D";
        assert_eq!(fault("a_{b|^[{]}"), format!("\"a_{{b|^[{{]}}\": `{{` is not closed{brace}"));
        let said = fault(r"a_{b|^\}c$}");
        assert!(said.contains(r"the pattern `^\` is not a regular expression: "), "{said}");
        assert!(said.ends_with(brace), "{said}");
        assert_eq!(fault("a_{b|}"), "\"a_{b|}\": the pattern is empty");
        let said = fault("a_{b|(}");
        assert!(said.starts_with("\"a_{b|(}\": the pattern `(` is not a regular expression: "), "{said}");
        assert!(fault("a_{|x}").contains("stands the name of a column"), "{}", fault("a_{|x}"));
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        assert_eq!(fault("a_{b"), "\"a_{b\": `{` is not closed");
        for text in ["a_{}", "a_{b{c}}"] {
            let start = format!("{text:?}: between `{{` and `}}` stands the name of a column, ");
            assert!(fault(text).starts_with(&start), "{}", fault(text));
        }
        for text in ["a-{b}", "1{b}", "a_{b}}", "a}"] {
            assert!(fault(text).contains("is not a legal metric name"), "{text}: {}", fault(text));
        }
    }
}
