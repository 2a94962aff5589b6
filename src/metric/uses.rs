//! What a metric does with each column of a result: for people who write queries, not for scrapes.

use super::Metric;
use super::labels::Origin;

/// What a column must hold to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anything becomes text.
    Anything,
    /// A number, or text that is one.
    Number,
    /// A date, a timestamp or Unix seconds.
    Moment,
}

/// One column in one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The column as the configuration names it.
    pub column: String,
    /// What it is: "label `region`", "value", "bound", "part of the name".
    pub part: String,
    /// What is done with its values, where something is: "× 0.001; NULL is skipped".
    pub rule: String,
    /// What it must hold.
    pub needs: Needs,
}

impl Use {
    /// A column whose numbers are taken as they are.
    #[must_use]
    pub fn number(column: &str, part: impl Into<String>, rule: impl Into<String>) -> Use {
        Use { column: column.to_owned(), part: part.into(), rule: rule.into(), needs: Needs::Number }
    }

    /// A column that may hold anything.
    #[must_use]
    pub fn anything(column: &str, part: impl Into<String>, rule: impl Into<String>) -> Use {
        Use { needs: Needs::Anything, ..Use::number(column, part, rule) }
    }
}

impl Metric {
    /// Its columns: of its name, its labels, its type, its timestamp.
    #[must_use]
    pub fn uses(&self) -> Vec<Use> {
        let name = self.naming.columns().map(|column| Use::anything(column, "part of the name", ""));
        let label = |(name, origin): (_, &Origin)| match origin {
            Origin::Column(column) => Some(Use::anything(column, format!("label `{name}`"), "")),
            Origin::Fixed(_) | Origin::Own => None,
        };
        let stamp = self
            .timestamp_column
            .as_deref()
            .map(|column| Use { needs: Needs::Moment, ..Use::number(column, "timestamp", "") });
        name.chain(self.labels.iter().filter_map(label)).chain(self.recipe.uses()).chain(stamp).collect()
    }
}
