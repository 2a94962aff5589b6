//! The names of families: one that is fixed, or one a row value, made of columns (`mysql_status_{variable_name}`).

use std::sync::Arc;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;

use super::column::BoundColumn;

/// Metric names that are ours, and the process metrics of every Prometheus client (docs/metrics.md).
pub const OUR_PREFIXES: [&str; 2] = ["sql_exporter_", "process_"];

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
    Column(String),
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
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            Naming::Fixed(_) => [].as_slice(),
            Naming::ByColumn(pattern) => &pattern.parts,
        };
        parts.iter().filter_map(|part| match part {
            NamePart::Column(column) => Some(column.as_str()),
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
        let Some((column, after)) = after.split_once('}') else {
            return Err(format!("{text:?}: `{{` is not closed"));
        };
        if column.trim().is_empty() || column.contains('{') {
            return Err(format!("{text:?}: between `{{` and `}}` stands the name of a column"));
        }
        parts.extend([NamePart::Text(before.to_owned()), NamePart::Column(column.trim().to_owned())]);
        rest = after;
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

impl NamePattern {
    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind(&self, columns: &[Column]) -> Result<BoundNamePattern<'_>> {
        let part = |part: &NamePart| {
            Ok(match part {
                NamePart::Text(text) => BoundNamePart::Text(text.clone()),
                NamePart::Column(name) => BoundNamePart::Column(BoundColumn::new(columns, name)?),
            })
        };
        let parts = self.parts.iter().map(part).collect::<Result<_>>()?;
        Ok(BoundNamePattern { pattern: self, parts, scratch: String::new() })
    }
}

#[derive(Debug)]
enum BoundNamePart {
    Text(String),
    Column(BoundColumn),
}

/// A pattern bound to the columns of a result.
#[derive(Debug)]
pub struct BoundNamePattern<'r> {
    pattern: &'r NamePattern,
    parts: Vec<BoundNamePart>,
    scratch: String,
}

impl BoundNamePattern<'_> {
    /// Makes the name of the family to which `row` belongs, in the place of what `name` held: values in lower case,
    /// what is not legal in a name becomes `_`. Allocates only while `name` grows.
    ///
    /// # Errors
    /// `value` for NULL, for an empty value and for a name of the exporter's own; `limit` for one of more than `longest`
    /// bytes; `protocol` from the row.
    pub fn write(&mut self, row: &dyn Row, longest: usize, name: &mut String) -> Result<()> {
        name.clear();
        for part in &self.parts {
            match part {
                BoundNamePart::Text(text) => name.push_str(text),
                BoundNamePart::Column(column) => {
                    let cell = column.cell(row)?;
                    let value = cell.label(&mut self.scratch);
                    if value.is_empty() {
                        let message = format!("column `{}` is empty and makes no metric name", column.name());
                        return Err(Error::new(Reason::Value, message)
                            .with_hint("leave such rows out in the SQL, or write coalesce(…)"));
                    }
                    if name.len() + value.len() > longest {
                        return Err(too_long(column.name(), value.len(), longest));
                    }
                    let legal =
                        |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
                    let starts = name.is_empty() && value.starts_with(|c: char| c.is_ascii_digit());
                    name.extend(starts.then_some('_').into_iter().chain(value.chars().map(legal)));
                }
            }
        }
        match OUR_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
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
                NamePart::Column("b".into()),
                NamePart::Text("_".into()),
                NamePart::Column("c".into()),
                NamePart::Text("d".into())
            ]
        );
        assert_eq!(parts("{b}").unwrap(), [NamePart::Column("b".into())]);
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        assert_eq!(fault("a_{b"), "\"a_{b\": `{` is not closed");
        assert_eq!(fault("a_{}"), "\"a_{}\": between `{` and `}` stands the name of a column");
        assert_eq!(fault("a_{b{c}}"), "\"a_{b{c}}\": between `{` and `}` stands the name of a column");
        for text in ["a-{b}", "1{b}", "a_{b}}", "a}"] {
            assert!(fault(text).contains("is not a legal metric name"), "{text}: {}", fault(text));
        }
    }
}
