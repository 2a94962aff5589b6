//! What a metric does with each column of a result: for people who write queries, not for scrapes.

use super::Metric;
use super::labels::LabelSource;

/// What a column must hold to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnNeed {
    /// Anything becomes text.
    Anything,
    /// A number, or text that is one.
    Number,
    /// A date, a timestamp or Unix seconds.
    Moment,
}

/// One column in one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnUse {
    /// The column as the configuration names it.
    pub column: String,
    /// What it is: "label `region`", "value", "bound", "part of the name".
    pub part: String,
    /// What is done with its values, where something is: "× 0.001; NULL is skipped".
    pub rule: String,
    /// What it must hold.
    pub needs: ColumnNeed,
}

impl ColumnUse {
    /// A column whose numbers are taken as they are.
    #[must_use]
    pub fn number(column: &str, part: impl Into<String>, rule: impl Into<String>) -> ColumnUse {
        ColumnUse {
            column: column.to_owned(),
            part: part.into(),
            rule: rule.into(),
            needs: ColumnNeed::Number,
        }
    }

    /// A column that may hold anything.
    #[must_use]
    pub fn anything(column: &str, part: impl Into<String>, rule: impl Into<String>) -> ColumnUse {
        ColumnUse { needs: ColumnNeed::Anything, ..ColumnUse::number(column, part, rule) }
    }
}

impl Metric {
    /// Its columns: of its name, its labels, its type, its timestamp.
    #[must_use]
    pub fn uses(&self) -> Vec<ColumnUse> {
        let name = self.naming.columns().map(|column| ColumnUse::anything(column, "part of the name", ""));
        let label = |(name, origin): (_, &LabelSource)| match origin {
            LabelSource::Column(column) => Some(ColumnUse::anything(column, format!("label `{name}`"), "")),
            LabelSource::Fixed(_) | LabelSource::Own => None,
        };
        let stamp = self.timestamp_column.as_deref().map(|column| ColumnUse {
            needs: ColumnNeed::Moment,
            ..ColumnUse::number(column, "timestamp", "")
        });
        name.chain(self.labels.iter().filter_map(label)).chain(self.recipe.uses()).chain(stamp).collect()
    }
}
