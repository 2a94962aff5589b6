//! The shape of one bucket a row: rows of one label set are one histogram, written when the last row is there.

use std::collections::BTreeMap;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::line::LabelBytes;
use crate::metric::column::BoundColumn;
use crate::metric::samples::{Duplicates, Samples};
use crate::metric::values::{BoundValues, Values};
use crate::metric::{Bind, ColumnUse, Emit, Recipe};
use crate::yaml::keys::Keys;

use super::{Bucket, LabelSets, Layout, SumAndCount, of_labels, recipe, refuse_count};

/// Takes `le_column`, `value_column` (the count), `cumulative`, `sum_column`, `count_column` and `scale`, which
/// multiplies bounds and sum.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Recipe> {
    let le_column = keys.text("le_column");
    let values = Values::read_column(keys, refuse_count);
    let is_cumulative = keys.flag("cumulative").unwrap_or(true);
    let totals = SumAndCount::read(keys);
    let (values, scale) = values?.unscaled();
    if scale < 0.0 {
        keys.fault("scale", "a negative factor would turn the order of the bounds");
    }
    let le_column = le_column?;
    let counted = |taken: ColumnUse| ColumnUse { part: "count of a bucket".to_owned(), ..taken };
    let bound = ColumnUse::number(&le_column, "bound of a bucket", "");
    let counts = values.uses().into_iter().map(counted);
    let uses = std::iter::once(bound).chain(counts).chain(totals.uses()).collect();
    let le = layout.le.clone();
    let measures =
        std::iter::once(&le_column).chain(&totals.sum).map(|column| (column.clone(), scale)).collect();
    Some(Recipe {
        measures,
        joins_rows: true,
        refuses_sums: Some(
            "rows of one histogram may have other bounds: add them up in the SQL, grouped by `le_column`",
        ),
        ..recipe(le, uses, RowShape { layout, le_column, values, is_cumulative, totals, scale })
    })
}

struct RowShape {
    layout: Layout,
    le_column: String,
    values: Values,
    is_cumulative: bool,
    totals: SumAndCount<String>,
    scale: f64,
}

impl Bind for RowShape {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(Gathering {
            shape: self,
            le: BoundColumn::new(columns, &self.le_column)?,
            values: self.values.bound(columns)?,
            totals: self.totals.bind(columns)?,
            sets: LabelSets::default(),
            buckets: 0,
        }))
    }
}

struct Gathering<'r> {
    shape: &'r RowShape,
    le: BoundColumn,
    values: BoundValues<'r>,
    totals: SumAndCount<BoundColumn>,
    sets: LabelSets<GatheredRows>,
    /// Of all label sets.
    buckets: usize,
}

/// The rows of one label set.
#[derive(Default)]
struct GatheredRows {
    /// Bound and count, as they come.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

impl Gathering<'_> {
    fn bound(&self, row: &dyn Row) -> Result<f64> {
        match self.le.number(row)? {
            Some(bound) if !bound.is_nan() => Ok(bound * self.shape.scale),
            found => {
                let found = if found.is_some() { "not a number" } else { "NULL" };
                let message = format!("column `{}` is {found}, which bounds no bucket", self.le.name());
                Err(Error::new(Reason::Value, message).with_hint("the highest bound is infinite: '+Inf'"))
            }
        }
    }
}

impl Emit for Gathering<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let bound = self.bound(row)?;
        let mut found = None;
        self.values.each(row, out, |_, _, count| {
            found = Some(count);
            Ok(())
        })?;
        let Some(count) = found else { return Ok(()) };
        let set = of_labels(&mut self.sets, labels);
        set.buckets.push((bound, count));
        agree(&mut set.sum, self.totals.sum.as_ref(), row, labels, out)?;
        agree(&mut set.count, self.totals.count.as_ref(), row, labels, out)?;
        self.buckets += 1;
        // Each bucket so far, and of each label set the sum and the count.
        out.tally.check_room((self.buckets + 2 * self.sets.len()) as u64)
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, _: &mut Samples<'_>) -> Result<()> {
        let set = of_labels(&mut self.sets, labels);
        *set = GatheredRows { buckets: vec![(f64::INFINITY, 0.0)], sum: Some(0.0), count: None };
        Ok(())
    }

    fn has_pending_rows(&self) -> bool {
        !self.sets.is_empty()
    }

    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        let RowShape { layout, is_cumulative, totals, scale, .. } = self.shape;
        // `,le="…"` of each bound met.
        let mut marks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (labels, set) in &mut self.sets {
            set.complete(*is_cumulative, labels, out)?;
            let all = set.buckets.last().map_or(0.0, |(_, count)| *count);
            let sum = match set.sum {
                _ if totals.sum.is_none() => None,
                Some(sum) => Some(sum * scale),
                // SQL's sum of nothing.
                None if all == 0.0 => Some(0.0),
                None => return Err(out.refused(labels, "its sum is NULL in every row")),
            };
            for (bound, _) in &set.buckets {
                marks.entry(bound.to_bits()).or_insert_with(|| layout.mark(*bound));
            }
            let bucket = |(bound, count): &(f64, f64)| {
                Some(Bucket { bound: *bound, mark: marks.get(&bound.to_bits())?, count: *count })
            };
            layout.write(labels, set.buckets.iter().filter_map(bucket), sum, out)?;
        }
        Ok(())
    }
}

/// Keeps what every row of a label set must say alike; NULL says nothing.
fn agree(
    kept: &mut Option<f64>,
    column: Option<&BoundColumn>,
    row: &dyn Row,
    labels: &LabelBytes,
    out: &Samples<'_>,
) -> Result<()> {
    let Some(column) = column else { return Ok(()) };
    let Some(number) = column.number(row)? else { return Ok(()) };
    match *kept {
        Some(before) if before != number => {
            let why = format!("column `{}` is {before} in one row and {number} in another", column.name());
            Err(out.refused(labels, &why))
        }
        _ => {
            *kept = Some(number);
            Ok(())
        }
    }
}

impl GatheredRows {
    /// Sorts the buckets, makes them cumulative and adds `+Inf`.
    fn complete(&mut self, is_cumulative: bool, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.buckets.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        self.once(labels, out)?;
        if !is_cumulative {
            let mut total = 0.0;
            for (_, count) in &mut self.buckets {
                total += *count;
                *count = total;
            }
        }
        let last = self.buckets.last().copied();
        match (last, self.count) {
            (Some((f64::INFINITY, all)), Some(count)) if all != count => {
                let why = format!("its count is {count}, but the bucket up to +Inf holds {all}");
                Err(out.refused(labels, &why))
            }
            (Some((f64::INFINITY, _)), _) => Ok(()),
            (_, Some(count)) => {
                self.buckets.push((f64::INFINITY, count));
                Ok(())
            }
            // Buckets of their own observations: without a row there is none above.
            (Some((_, all)), None) if !is_cumulative => {
                self.buckets.push((f64::INFINITY, all));
                Ok(())
            }
            (_, None) => Err(out
                .refused(labels, "no row has the bound +Inf, which counts all")
                .with_hint("add that row in the SQL, or name a `count_column`")),
        }
    }

    /// Holds each bound once. Sorted as they are, equal bounds stand side by side.
    fn once(&mut self, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let before = self.buckets.len();
        let twice = self.buckets.windows(2).find_map(|pair| match pair {
            [(left, _), (right, _)] if left == right => Some(*left),
            _ => None,
        });
        match twice {
            None => Ok(()),
            Some(_) if out.duplicates == Duplicates::First => {
                self.buckets.dedup_by(|(right, _), (left, _)| left == right);
                out.tally.skipped.duplicate += (before - self.buckets.len()) as u64;
                Ok(())
            }
            Some(bound) => Err(out.twice(labels, bound)),
        }
    }
}
