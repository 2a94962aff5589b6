//! The shape of one bucket a column: each row is a whole histogram, its buckets cumulative.

use std::collections::HashSet;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::line::LabelBytes;
use crate::metric::column::BoundColumn;
use crate::metric::samples::Samples;
use crate::metric::value::read_scale;
use crate::metric::{ColumnUse, Emit, Recipe};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::{Bucket, Layout, read_bound};

/// Takes `bucket_columns`, `sum_column`, `count_column` and `scale`, which multiplies the sum.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Box<dyn Recipe>> {
    let buckets = read_buckets(keys);
    let (sum, count) = (keys.text("sum_column"), keys.text("count_column"));
    let scale = read_scale(keys);
    let buckets = buckets?;
    // After a faulty bound it is not known whether that was meant for all.
    let is_whole = buckets.len() == keys.count("bucket_columns");
    let has_all = buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
    if is_whole && !has_all && count.is_none() && !keys.has("count_column") {
        let message = "nothing says how many there are in all";
        keys.fault_with_hint("bucket_columns", message, "add the bucket \"+Inf\", or `count_column`");
    }
    Some(Box::new(Columns { layout, buckets, has_all, sum, count, scale }))
}

/// The bounds with their columns, rising.
fn read_buckets(keys: &mut Keys<'_>) -> Option<Vec<(f64, String)>> {
    let mut buckets: Vec<(f64, String)> = Vec::new();
    let mut known = HashSet::new();
    for (text, column) in keys.pairs("bucket_columns")? {
        match read_bound(&text) {
            None => keys.fault("bucket_columns", format!("{text:?} is no bound: a number or +Inf")),
            // Adding 0 makes one of both zeros.
            Some(bound) if !known.insert((bound + 0.0).to_bits()) => {
                keys.fault("bucket_columns", format!("the bound {text} is given twice"));
            }
            Some(bound) => buckets.push((bound, column)),
        }
    }
    if keys.count("bucket_columns") == 0 {
        keys.fault("bucket_columns", "no bucket is given");
    }
    buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    Some(buckets)
}

struct Columns {
    layout: Layout,
    buckets: Vec<(f64, String)>,
    /// The last bucket is `+Inf`; else the count stands for it.
    has_all: bool,
    sum: Option<String>,
    count: Option<String>,
    scale: f64,
}

impl Recipe for Columns {
    fn own_label(&self) -> Option<&LabelName> {
        Some(&self.layout.le)
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 0.0)
            .then_some("is no histogram: only 0, a histogram without observations, can stand for no rows")
    }

    fn uses(&self) -> Vec<ColumnUse> {
        let bucket =
            |(bound, column): &(f64, String)| ColumnUse::number(column, format!("bucket up to {bound}"), "");
        let sum = self.sum.iter().map(|column| ColumnUse::number(column, "sum", ""));
        let count = self.count.iter().map(|column| ColumnUse::number(column, "count", ""));
        self.buckets.iter().map(bucket).chain(sum).chain(count).collect()
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let optional =
            |name: &Option<String>| name.as_ref().map(|name| BoundColumn::new(columns, name)).transpose();
        let of_bucket = |(bound, name): &(f64, String)| {
            Ok(Field {
                bound: *bound,
                mark: self.layout.mark(*bound),
                column: BoundColumn::new(columns, name)?,
            })
        };
        let (count, sum) = (optional(&self.count)?, optional(&self.sum)?);
        let mut fields: Vec<Field> = self.buckets.iter().map(of_bucket).collect::<Result<_>>()?;
        if let Some(column) = count.clone().filter(|_| !self.has_all) {
            fields.push(Field { bound: f64::INFINITY, mark: self.layout.mark(f64::INFINITY), column });
        }
        Ok(Box::new(Writing { recipe: self, fields, sum, count, counts: Vec::new() }))
    }
}

struct Field {
    bound: f64,
    mark: Vec<u8>,
    column: BoundColumn,
}

struct Writing<'r> {
    recipe: &'r Columns,
    /// `+Inf` last.
    fields: Vec<Field>,
    sum: Option<BoundColumn>,
    count: Option<BoundColumn>,
    /// Of the row at hand, one a field.
    counts: Vec<f64>,
}

impl Writing<'_> {
    /// Reads the row's counts; false for a row in which all are NULL.
    fn read(&mut self, row: &dyn Row) -> Result<bool> {
        self.counts.clear();
        let mut null = None;
        for field in &self.fields {
            match field.column.number(row)? {
                Some(count) => self.counts.push(count),
                None => null = Some(&field.column),
            }
        }
        match null {
            Some(column) if !self.counts.is_empty() => {
                let name = column.name();
                Err(Error::new(Reason::Value, format!("column `{name}` is NULL while other buckets are not"))
                    .with_hint(column.written("coalesce({}, 0)")))
            }
            null => Ok(null.is_none()),
        }
    }

    fn write(&self, labels: &LabelBytes, sum: Option<f64>, out: &mut Samples<'_>) -> Result<()> {
        let places = self.fields.iter().zip(&self.counts);
        let buckets =
            places.map(|(field, count)| Bucket { bound: field.bound, mark: &field.mark, count: *count });
        self.recipe.layout.write(labels, buckets, sum, out)
    }
}

impl Emit for Writing<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        if !self.read(row)? {
            out.tally.skipped.null += 1;
            return Ok(());
        }
        let all = self.counts.last().copied().unwrap_or_default();
        if let Some(column) = &self.count
            && let Some(count) = column.number(row)?.filter(|count| *count != all)
        {
            let why = format!("column `{}` counts {count}, the bucket up to +Inf holds {all}", column.name());
            return Err(out.refused(labels, &why));
        }
        let sum = match &self.sum {
            None => None,
            Some(column) => match column.number(row)? {
                Some(sum) => Some(sum * self.recipe.scale),
                // SQL's sum of nothing.
                None if all == 0.0 => Some(0.0),
                None => {
                    return Err(out.refused(labels, &format!("its sum, column `{}`, is NULL", column.name())));
                }
            },
        };
        self.write(labels, sum, out)
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.counts.clear();
        self.counts.resize(self.fields.len(), 0.0);
        self.write(labels, self.sum.as_ref().map(|_| 0.0), out)
    }
}
