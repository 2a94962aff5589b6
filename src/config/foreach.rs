//! `foreach`: the values for each of which a query runs once. Their columns are the statement's parameters, in their order,
//! and labels of all samples. Read and checked here; `engine/foreach` runs them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::driver::bounded_text::cut;
use crate::driver::{Parameter, Sql};
use crate::error::{Error, Reason, Result};
use crate::metric::labels::label_name;
use crate::name::LabelName;
use crate::yaml::folds::Folded;
use crate::yaml::keys::Keys;

/// The most values of one query.
pub const MAX_VALUES: usize = 1_000;
/// The most bytes of all of them.
pub const MAX_BYTES: usize = 1 << 20;

/// The most bytes of a text that a message shows.
const MAX_SHOWN: usize = 64;

/// Where the values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreach {
    /// The configuration.
    Values(Arc<ForeachValues>),
    /// The rows of this statement, which runs once before the query.
    Sql {
        /// The statement.
        sql: Sql,
        /// Where lines of the file are joined in it.
        folded: Vec<Folded>,
    },
}

/// The values of one query: rows of equal columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeachValues {
    /// The labels that the columns become.
    pub labels: Vec<LabelName>,
    /// One value a row, each with a text or NULL a column.
    pub values: Vec<Vec<Parameter>>,
    bytes: usize,
}

impl ForeachValues {
    /// No values of these columns.
    pub fn new(labels: Vec<LabelName>) -> Self {
        ForeachValues { labels, ..ForeachValues::default() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// `limit`, if they are too many or too large.
    pub fn add(&mut self, value: Vec<Parameter>) -> Result<()> {
        self.bytes += value.iter().flatten().map(String::len).sum::<usize>();
        let message = match () {
            () if self.values.len() >= MAX_VALUES => format!("foreach has more than {MAX_VALUES} values"),
            () if self.bytes > MAX_BYTES => format!("the values of foreach have more than {MAX_BYTES} bytes"),
            () => {
                self.values.push(value);
                return Ok(());
            }
        };
        Err(Error::new(Reason::Limit, message)
            .with_hint("split the query, or group by the column in its SQL"))
    }

    /// A value as messages call it: `region="eu", shard="7"`.
    pub fn named(&self, value: &[Parameter]) -> String {
        let pair = |(label, text): (&LabelName, &Parameter)| {
            format!("{label}={:?}", cut(text.as_deref().unwrap_or_default(), MAX_SHOWN))
        };
        self.labels.iter().zip(value).map(pair).collect::<Vec<_>>().join(", ")
    }

    /// A value that occurs twice: their series would be the same.
    pub fn repeated(&self) -> Option<&[Parameter]> {
        let mut known = HashSet::new();
        // NULL and an empty text are the same label.
        let labels = |value: &[Parameter]| -> Vec<String> {
            value.iter().map(|text| text.clone().unwrap_or_default()).collect()
        };
        self.values.iter().find(|value| !known.insert(labels(value))).map(Vec::as_slice)
    }
}

impl Foreach {
    /// The statement that runs before the query.
    pub fn sql(&self) -> Option<&Sql> {
        match self {
            Foreach::Values(_) => None,
            Foreach::Sql { sql, .. } => Some(sql),
        }
    }

    /// Its statement, where lines of the file are joined in it.
    pub fn folded(&self) -> &[Folded] {
        match self {
            Foreach::Values(_) => &[],
            Foreach::Sql { folded, .. } => folded,
        }
    }

    /// The labels, as far as the configuration says them.
    pub fn labels(&self) -> &[LabelName] {
        match self {
            Foreach::Values(values) => &values.labels,
            Foreach::Sql { .. } => &[],
        }
    }
}

/// Takes the key `foreach` of a query; `statement` makes the one of `foreach.sql`. Faults are recorded.
pub(super) fn read(keys: &mut Keys<'_>, statement: fn(&str) -> Sql) -> Option<Foreach> {
    let mut keys = keys.inner("foreach")?;
    let hint = "write `values`, a list of mappings of labels to values, or `sql`";
    keys.require_one(&["values", "sql"], "has no values", Some(hint));
    let values = values(&mut keys, "values").map(|values| Foreach::Values(Arc::new(values)));
    let sql = keys.literal("sql").map(|text| statement(&text));
    if sql.as_ref().is_some_and(|sql| sql.text().is_empty()) {
        keys.fault("sql", "has no statement");
    }
    let folded = keys.folded("sql");
    keys.finish();
    values.or(sql.map(|sql| Foreach::Sql { sql, folded }))
}

/// Takes a list of mappings of labels to values, all with the same labels. The first one says the order.
pub(super) fn values(keys: &mut Keys<'_>, key: &'static str) -> Option<ForeachValues> {
    let rows = keys.named_rows(key)?;
    let Some(first) = rows.first().filter(|first| !first.is_empty()) else {
        keys.fault(key, "has no value");
        return None;
    };
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let labels: Vec<Option<LabelName>> = names.iter().map(|name| label_name(keys, key, name)).collect();
    let mut values = ForeachValues::new(labels.into_iter().collect::<Option<_>>()?);
    for (index, row) in rows.iter().enumerate() {
        let texts: HashMap<&str, &Parameter> = row.iter().map(|(name, text)| (name.as_str(), text)).collect();
        let value: Option<Vec<Parameter>> =
            names.iter().map(|name| texts.get(name).map(|text| (*text).clone())).collect();
        let Some(value) = value.filter(|value| value.len() == row.len()) else {
            let message = format!("value {} has other labels than the first one", index + 1);
            keys.fault_with_hint(key, message, format!("each value has the labels {}", names.join(", ")));
            return None;
        };
        if let Err(error) = values.add(value) {
            keys.fault_with_hint(key, error.message(), error.hint().unwrap_or_default());
            return None;
        }
    }
    if let Some(value) = values.repeated() {
        keys.fault(key, format!("the value {} occurs twice", values.named(value)));
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[Option<&str>]) -> ForeachValues {
        let mut values = ForeachValues::new(vec![LabelName::new("a").unwrap()]);
        texts.iter().for_each(|text| values.add(vec![text.map(str::to_owned)]).unwrap());
        values
    }

    #[test]
    fn values_are_bounded_by_number_and_by_bytes() {
        let mut many = values(&vec![Some("x"); MAX_VALUES]);
        assert_eq!(many.add(vec![None]).unwrap_err().reason(), Reason::Limit);
        assert_eq!(many.values.len(), MAX_VALUES);
        let mut long = values(&[None]);
        assert!(long.add(vec![Some("x".repeat(MAX_BYTES))]).is_ok());
        assert_eq!(long.add(vec![Some("x".to_owned())]).unwrap_err().reason(), Reason::Limit);
    }

    #[test]
    fn null_and_an_empty_text_are_one_label() {
        assert_eq!(values(&[Some("x"), None, Some("y")]).repeated(), None);
        assert!(values(&[Some(""), Some("y"), None]).repeated().is_some());
    }
}
