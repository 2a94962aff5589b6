//! The shape of one bucket a column: each row is a whole histogram, its buckets cumulative.

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::line::LabelBytes;
use crate::metric::column::BoundColumn;
use crate::metric::samples::Samples;
use crate::metric::values::{read_numbered_columns, read_scale};
use crate::metric::{Bind, ColumnUse, Emit, Recipe};
use crate::yaml::keys::Keys;

use super::{Bucket, Layout, SumAndCount, read_bound, recipe};

/// Takes `bucket_columns`, `sum_column`, `count_column` and `scale`, which multiplies the sum.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Recipe> {
    let buckets = read_numbered_columns(keys, "bucket_columns", ("bound", "a number or +Inf"), read_bound);
    let totals = SumAndCount::read(keys);
    let scale = read_scale(keys);
    let buckets = buckets?;
    if keys.count("bucket_columns") == 0 {
        keys.fault("bucket_columns", "no bucket is given");
    }
    // After a faulty bound it is not known whether that was meant for all.
    let is_whole = buckets.len() == keys.count("bucket_columns");
    let has_all = buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
    if is_whole && !has_all && totals.count.is_none() && !keys.has("count_column") {
        let message = "nothing says how many there are in all";
        keys.fault_with_hint("bucket_columns", message, "add the bucket \"+Inf\", or `count_column`");
    }
    let bucket =
        |(bound, column): &(f64, String)| ColumnUse::number(column, format!("bucket up to {bound}"), "");
    let uses = buckets.iter().map(bucket).chain(totals.uses()).collect();
    let mut bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
    bounds.extend((!has_all).then_some(f64::INFINITY));
    let marks = bounds.iter().map(|bound| layout.mark(*bound)).collect();
    let columns = buckets.into_iter().map(|(_, column)| column).collect();
    let le = layout.le.clone();
    let measures = totals.sum.iter().map(|column| (column.clone(), scale)).collect();
    let shape = ColumnShape { layout, bounds, marks, columns, totals, scale };
    Some(Recipe { measures, unscaled: Some("bucket_columns"), ..recipe(le, uses, shape) })
}

struct ColumnShape {
    layout: Layout,
    /// Rising, `+Inf` last.
    bounds: Vec<f64>,
    /// `,le="…"` of each bound.
    marks: Vec<Vec<u8>>,
    /// One a bound; without the last one the count stands for it.
    columns: Vec<String>,
    totals: SumAndCount<String>,
    scale: f64,
}

impl Bind for ColumnShape {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let totals = self.totals.bind(columns)?;
        let bound = self.columns.iter().map(|name| BoundColumn::new(columns, name));
        let mut buckets = bound.collect::<Result<Vec<_>>>()?;
        if buckets.len() < self.bounds.len() {
            buckets.extend(totals.count.clone());
        }
        Ok(Box::new(BoundShape { shape: self, buckets, totals, counts: Vec::new() }))
    }
}

struct BoundShape<'r> {
    shape: &'r ColumnShape,
    buckets: Vec<BoundColumn>,
    totals: SumAndCount<BoundColumn>,
    /// Of the row at hand, one a bucket.
    counts: Vec<f64>,
}

impl BoundShape<'_> {
    /// Reads the row's counts; false for a row in which all are NULL.
    fn read(&mut self, row: &dyn Row) -> Result<bool> {
        self.counts.clear();
        let mut null = None;
        for column in &self.buckets {
            match column.number(row)? {
                Some(count) => self.counts.push(count),
                None => null = Some(column),
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
        let ColumnShape { layout, bounds, marks, .. } = self.shape;
        let buckets = bounds.iter().zip(marks).zip(&self.counts);
        let buckets = buckets.map(|((bound, mark), count)| Bucket { bound: *bound, mark, count: *count });
        layout.write(labels, buckets, sum, out)
    }
}

impl Emit for BoundShape<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        if !self.read(row)? {
            out.tally.skipped.null += 1;
            return Ok(());
        }
        let all = self.counts.last().copied().unwrap_or_default();
        if let Some(column) = &self.totals.count
            && let Some(count) = column.number(row)?.filter(|count| *count != all)
        {
            let why = format!("column `{}` counts {count}, the bucket up to +Inf holds {all}", column.name());
            return Err(out.refused(labels, &why));
        }
        let sum = match &self.totals.sum {
            None => None,
            Some(column) => match column.number(row)? {
                Some(sum) => Some(sum * self.shape.scale),
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
        self.counts.resize(self.buckets.len(), 0.0);
        self.write(labels, self.totals.sum.as_ref().map(|_| 0.0), out)
    }
}
