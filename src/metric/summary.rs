//! `summary`: quantiles that the database has worked out, with sum and count where it has them.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::{self, LabelBytes};
use crate::exposition::series::{Inserted, SeriesSet};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::histogram::refuse_count;
use super::samples::Samples;
use super::values::{read_numbered_columns, read_scale, scale_rule};
use super::{Bind, ColumnUse, Emit, NumberRule, Recipe};

/// Takes `quantile_columns`, `sum_column`, `count_column` and `scale`.
pub(super) fn read(keys: &mut Keys<'_>, _: Option<&str>) -> Option<Recipe> {
    let given = ["quantile_columns", "sum_column", "count_column"].map(|key| keys.has(key));
    let quantile = |text: &str| text.trim().parse().ok().filter(|quantile| (0.0..=1.0).contains(quantile));
    let wanted = ("quantile", "a number from 0 to 1");
    let quantiles = read_numbered_columns(keys, "quantile_columns", wanted, quantile);
    let (sum, count) = (keys.text("sum_column"), keys.text("count_column"));
    let scale = read_scale(keys);
    if scale < 0.0 {
        keys.fault("scale", "a negative factor makes quantiles and sums negative");
    }
    if !given.contains(&true) {
        let hint = "write `quantile_columns: {\"0.5\": column}`, `sum_column` or `count_column`";
        keys.fault_with_hint("type", "a summary without a column shows nothing", hint);
    }
    let quantiles = if given[0] { quantiles? } else { Vec::new() };
    let rule = scale_rule(scale).unwrap_or_default();
    let label = LabelName::of_code("quantile");
    let mut columns = Vec::new();
    let mut uses = Vec::new();
    for (quantile, name) in quantiles {
        let type_label = line::bound_label(&label, quantile);
        uses.push(ColumnUse::number(&name, format!("quantile {quantile}"), rule.as_str()));
        columns.push(SummaryColumn { suffix: "", type_label, name, scale, refuses: refuse_quantile });
    }
    if let Some(name) = sum {
        uses.push(ColumnUse::number(&name, "sum", rule));
        columns.push(SummaryColumn {
            suffix: "_sum",
            type_label: Vec::new(),
            name,
            scale,
            refuses: refuse_sum,
        });
    }
    let measures = columns.iter().map(|column| (column.name.clone(), column.scale)).collect();
    let has_count = count.is_some();
    if let Some(name) = count {
        uses.push(ColumnUse::number(&name, "count", ""));
        let (type_label, scale, refuses) = (Vec::new(), 1.0, refuse_count as NumberRule);
        columns.push(SummaryColumn { suffix: "_count", type_label, name, scale, refuses });
    }
    Some(Recipe {
        type_label: Some(label),
        refuses_empty: if has_count {
            |value| (value != 0.0).then_some(ONLY_EMPTY)
        } else {
            |_| Some(ONLY_EMPTY)
        },
        refuses_sums: Some("quantiles cannot be added up"),
        measures,
        ..Recipe::new(uses, SummaryColumns(columns))
    })
}

const ONLY_EMPTY: &str = "stands for no rows only as a count of 0, with `count_column`";

/// A quantile of nothing is NaN.
fn refuse_quantile(value: f64) -> Option<&'static str> {
    (value < 0.0).then_some("is negative, which a quantile cannot be")
}

fn refuse_sum(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("is not a number, which a sum cannot be"),
        _ if value < 0.0 => Some("is negative, which the sum of a summary cannot be"),
        _ => None,
    }
}

/// Quantiles, rising; then sum and count.
struct SummaryColumns(Vec<SummaryColumn>);

struct SummaryColumn {
    suffix: &'static str,
    /// `,quantile="…"`
    type_label: Vec<u8>,
    name: String,
    scale: f64,
    refuses: NumberRule,
}

impl Bind for SummaryColumns {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let bind = |column: &'r SummaryColumn| Ok((column, BoundColumn::new(columns, &column.name)?));
        let columns = self.0.iter().map(bind).collect::<Result<_>>()?;
        Ok(Box::new(BoundSummary { columns, known: Vec::new(), groups: SeriesSet::default() }))
    }
}

struct BoundSummary<'r> {
    columns: Vec<(&'r SummaryColumn, BoundColumn)>,
    /// The labels of the rows so far: NULLs leave samples out, so two rows of one summary may share none.
    known: Vec<u8>,
    groups: SeriesSet,
}

impl BoundSummary<'_> {
    /// False for a second row of these labels.
    fn is_new(&mut self, labels: &LabelBytes) -> Result<bool> {
        let start = self.known.len();
        self.known.extend_from_slice(labels.as_bytes());
        self.known.push(b' ');
        match self.groups.insert(&self.known, start) {
            Inserted::New => Ok(true),
            Inserted::Duplicate => {
                self.known.truncate(start);
                Ok(false)
            }
            Inserted::Full => Err(Samples::full()),
        }
    }
}

impl Emit for BoundSummary<'_> {
    /// NULL leaves out its one sample.
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        if !self.is_new(labels)? {
            return out.again(labels);
        }
        for (SummaryColumn { suffix, type_label, scale, refuses, .. }, column) in &self.columns {
            match column.number(row)?.map(|number| number * scale) {
                None => out.tally.skipped.null += 1,
                Some(value) => match refuses(value) {
                    None => out.add(suffix, labels, type_label, value)?,
                    Some(why) => return Err(column.bad_value(&column.cell(row)?, why)),
                },
            }
        }
        Ok(())
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let mut totals =
            self.columns.iter().map(|(column, _)| column.suffix).filter(|suffix| !suffix.is_empty());
        totals.try_for_each(|suffix| out.add(suffix, labels, b"", 0.0))
    }
}
