//! `summary`: quantiles that the database has worked out, with sum and count where it has them.

use std::collections::HashSet;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line;
use crate::exposition::line::LabelBytes;
use crate::exposition::series::{Inserted, SeriesSet};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::buckets::no_count;
use super::column::BoundColumn;
use super::samples::Samples;
use super::value::read_scale;
use super::{ColumnUse, Emit, MetricType, Recipe};

/// The type.
pub struct Summary;

impl MetricType for Summary {
    fn name(&self) -> &'static str {
        "summary"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Summary
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        let given = ["quantile_columns", "sum_column", "count_column"].map(|key| keys.has(key));
        let quantiles = read_quantiles(keys);
        let (sum, count) = (keys.text("sum_column"), keys.text("count_column"));
        let scale = read_scale(keys);
        if scale < 0.0 {
            keys.fault("scale", "a negative factor makes quantiles and sums negative");
        }
        if !given.contains(&true) {
            let hint = "write `quantile_columns: {\"0.5\": column}`, `sum_column` or `count_column`";
            keys.fault_with_hint("type", "a summary without a column shows nothing", hint);
        }
        let label = LabelName::new("quantile").ok()?;
        Some(Box::new(Columns { label, quantiles: quantiles?, sum, count, scale }))
    }
}

fn read_quantiles(keys: &mut Keys<'_>) -> Option<Vec<(f64, String)>> {
    let pairs = keys.pairs("quantile_columns");
    if !keys.has("quantile_columns") {
        return Some(Vec::new());
    }
    let mut quantiles: Vec<(f64, String)> = Vec::new();
    let mut known = HashSet::new();
    for (text, column) in pairs? {
        let number = text.trim().parse::<f64>().ok().filter(|quantile| (0.0..=1.0).contains(quantile));
        match number {
            None => keys.fault("quantile_columns", format!("{text:?} is no quantile: a number from 0 to 1")),
            // Adding 0 makes one of both zeros.
            Some(quantile) if !known.insert((quantile + 0.0).to_bits()) => {
                keys.fault("quantile_columns", format!("the quantile {text} is given twice"));
            }
            Some(quantile) => quantiles.push((quantile, column)),
        }
    }
    quantiles.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    Some(quantiles)
}

struct Columns {
    label: LabelName,
    /// Rising.
    quantiles: Vec<(f64, String)>,
    sum: Option<String>,
    count: Option<String>,
    /// Multiplies quantiles and sum.
    scale: f64,
}

impl Recipe for Columns {
    fn own_label(&self) -> Option<&LabelName> {
        Some(&self.label)
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 0.0 || self.count.is_none())
            .then_some("stands for no rows only as a count of 0, with `count_column`")
    }

    fn refuses_sums(&self) -> Option<&'static str> {
        Some("quantiles cannot be added up")
    }

    fn measures(&self) -> Vec<(&str, f64)> {
        let quantiles = self.quantiles.iter().map(|(_, column)| column);
        quantiles.chain(&self.sum).map(|column| (column.as_str(), self.scale)).collect()
    }

    fn uses(&self) -> Vec<ColumnUse> {
        let scaled = if self.scale.to_bits() == 1_f64.to_bits() {
            String::new()
        } else {
            format!("× {}", self.scale)
        };
        let quantile = |(quantile, column): &(f64, String)| {
            ColumnUse::number(column, format!("quantile {quantile}"), scaled.as_str())
        };
        let sum = self.sum.iter().map(|column| ColumnUse::number(column, "sum", scaled.as_str()));
        let count = self.count.iter().map(|column| ColumnUse::number(column, "count", ""));
        self.quantiles.iter().map(quantile).chain(sum).chain(count).collect()
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let mut fields = Vec::new();
        for (quantile, name) in &self.quantiles {
            let mut own = Vec::new();
            line::open_label(&self.label, &mut own);
            line::bound(*quantile, &mut own);
            own.push(b'"');
            let column = BoundColumn::new(columns, name)?;
            fields.push(Field { suffix: "", own, column, scale: self.scale, refuses: negative });
        }
        for (suffix, name, scale, refuses) in
            [("_sum", &self.sum, self.scale, no_sum as Refusal), ("_count", &self.count, 1.0, no_count)]
        {
            if let Some(name) = name {
                let column = BoundColumn::new(columns, name)?;
                fields.push(Field { suffix, own: Vec::new(), column, scale, refuses });
            }
        }
        Ok(Box::new(Writing { fields, known: Vec::new(), groups: SeriesSet::default() }))
    }
}

type Refusal = fn(f64) -> Option<&'static str>;

/// A quantile of nothing is NaN.
fn negative(value: f64) -> Option<&'static str> {
    (value < 0.0).then_some("is negative, which a quantile cannot be")
}

fn no_sum(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("is not a number, which a sum cannot be"),
        _ if value < 0.0 => Some("is negative, which the sum of a summary cannot be"),
        _ => None,
    }
}

struct Field {
    suffix: &'static str,
    own: Vec<u8>,
    column: BoundColumn,
    scale: f64,
    refuses: Refusal,
}

struct Writing {
    fields: Vec<Field>,
    /// The labels of the rows so far: NULLs leave samples out, so two rows of one summary may share none.
    known: Vec<u8>,
    groups: SeriesSet,
}

impl Writing {
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

impl Emit for Writing {
    /// NULL leaves out its one sample.
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        if !self.is_new(labels)? {
            return out.again(labels);
        }
        for Field { suffix, own, column, scale, refuses } in &self.fields {
            match column.number(row)?.map(|number| number * scale) {
                None => out.tally.skipped.null += 1,
                Some(value) => match refuses(value) {
                    None => out.add(suffix, labels, own, value)?,
                    Some(why) => return Err(column.bad_value(&column.cell(row)?, why)),
                },
            }
        }
        Ok(())
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let plain = self.fields.iter().filter(|field| !field.suffix.is_empty());
        plain.map(|field| field.suffix).try_for_each(|suffix| out.add(suffix, labels, b"", 0.0))
    }
}
