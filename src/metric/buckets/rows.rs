//! The shape of one bucket a row: rows of one label set are one histogram, written when the last row is there.

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::line::LabelBytes;
use crate::metric::column::BoundColumn;
use crate::metric::samples::{Duplicates, Samples, Tally};
use crate::metric::value::{BoundValues, Values};
use crate::metric::{ColumnUse, Emit, Recipe};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::sets::Sets;
use super::{Bucket, Layout, no_count};

/// Takes `le_column`, `value_column` (the count), `cumulative`, `sum_column`, `count_column` and `scale`, which
/// multiplies bounds and sum.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Box<dyn Recipe>> {
    let le_column = keys.text("le_column");
    let values = Values::read_column(keys, no_count);
    let is_cumulative = keys.flag("cumulative").unwrap_or(true);
    let (sum, count) = (keys.text("sum_column"), keys.text("count_column"));
    let (values, scale) = values?.unscaled();
    if scale < 0.0 {
        keys.fault("scale", "a negative factor would turn the order of the bounds");
    }
    Some(Box::new(Rows { layout, le_column: le_column?, values, is_cumulative, sum, count, scale }))
}

struct Rows {
    layout: Layout,
    le_column: String,
    values: Values,
    is_cumulative: bool,
    sum: Option<String>,
    count: Option<String>,
    scale: f64,
}

impl Recipe for Rows {
    fn own_label(&self) -> Option<&LabelName> {
        Some(&self.layout.le)
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 0.0)
            .then_some("is no histogram: only 0, a histogram without observations, can stand for no rows")
    }

    fn joins_rows(&self) -> bool {
        true
    }

    fn refuses_sums(&self) -> Option<&'static str> {
        Some("rows of one histogram may have other bounds: add them up in the SQL, grouped by `le_column`")
    }

    fn uses(&self) -> Vec<ColumnUse> {
        let counted = |taken: ColumnUse| ColumnUse { part: "count of a bucket".to_owned(), ..taken };
        let sum = self.sum.iter().map(|column| ColumnUse::number(column, "sum", ""));
        let count = self.count.iter().map(|column| ColumnUse::number(column, "count", ""));
        let bound = ColumnUse::number(&self.le_column, "bound of a bucket", "");
        std::iter::once(bound)
            .chain(self.values.uses().into_iter().map(counted))
            .chain(sum)
            .chain(count)
            .collect()
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let optional =
            |name: &Option<String>| name.as_ref().map(|name| BoundColumn::new(columns, name)).transpose();
        Ok(Box::new(Gathering {
            recipe: self,
            le: BoundColumn::new(columns, &self.le_column)?,
            values: self.values.bind(columns)?,
            sum: optional(&self.sum)?,
            count: optional(&self.count)?,
            sets: Sets::default(),
            buckets: 0,
            marks: Vec::new(),
        }))
    }
}

struct Gathering<'r> {
    recipe: &'r Rows,
    le: BoundColumn,
    values: BoundValues<'r>,
    sum: Option<BoundColumn>,
    count: Option<BoundColumn>,
    sets: Sets<Gathered>,
    /// Of all label sets.
    buckets: usize,
    /// `,le="…"` of each bound met, by rising bounds.
    marks: Vec<(f64, Vec<u8>)>,
}

/// The rows of one label set.
#[derive(Default)]
struct Gathered {
    /// Bound and count, as they come.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

impl Gathering<'_> {
    fn bound(&self, row: &dyn Row) -> Result<f64> {
        match self.le.number(row)? {
            Some(bound) if !bound.is_nan() => Ok(bound * self.recipe.scale),
            found => {
                let found = if found.is_some() { "not a number" } else { "NULL" };
                let message = format!("column `{}` is {found}, which bounds no bucket", self.le.name());
                Err(Error::new(Reason::Value, message).with_hint("the highest bound is infinite: '+Inf'"))
            }
        }
    }

    fn find(&mut self, labels: &LabelBytes, tally: &Tally) -> Result<usize> {
        self.buckets += 1;
        let at = self.sets.position(labels).unwrap_or_else(|| self.sets.insert(labels, Gathered::default()));
        // Each bucket so far, and of each label set the sum and the count.
        tally.check_room((self.buckets + 2 * self.sets.len()) as u64)?;
        Ok(at)
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
        let at = self.find(labels, out.tally)?;
        let sum = self.sum.as_ref().map(|column| Ok((column, column.number(row)?))).transpose()?;
        let all = self.count.as_ref().map(|column| Ok((column, column.number(row)?))).transpose()?;
        let Some(set) = self.sets.get_mut(at) else { return Ok(()) };
        set.buckets.push((bound, count));
        agree(&mut set.sum, sum, labels, out)?;
        agree(&mut set.count, all, labels, out)
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let at = self.find(labels, out.tally)?;
        if let Some(set) = self.sets.get_mut(at) {
            *set = Gathered { buckets: vec![(f64::INFINITY, 0.0)], sum: Some(0.0), count: None };
        }
        Ok(())
    }

    fn gathers(&self) -> bool {
        self.sets.len() > 0
    }

    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        let Gathering { recipe, sets, marks, sum, .. } = self;
        for (labels, set) in sets.iter_mut() {
            let sum = sum.as_ref().map(|_| set.sum.map(|sum| sum * recipe.scale));
            set.complete(recipe.is_cumulative, labels, out)?;
            let all = set.buckets.last().map_or(0.0, |(_, count)| *count);
            let sum = match sum {
                // SQL's sum of nothing.
                Some(None) if all == 0.0 => Some(0.0),
                Some(None) => return Err(out.refused(labels, "its sum is NULL in every row")),
                sum => sum.flatten(),
            };
            for (bound, _) in &set.buckets {
                if let Err(at) = place(marks, *bound) {
                    marks.insert(at, (*bound, recipe.layout.mark(*bound)));
                }
            }
            let mark = |bound| {
                place(marks, bound).ok().and_then(|at| marks.get(at)).map(|(_, mark)| mark.as_slice())
            };
            let buckets = set.buckets.iter();
            let buckets = buckets.filter_map(|(bound, count)| {
                Some(Bucket { bound: *bound, mark: mark(*bound)?, count: *count })
            });
            recipe.layout.write(labels, buckets, sum, out)?;
        }
        Ok(())
    }
}

fn place(marks: &[(f64, Vec<u8>)], bound: f64) -> std::result::Result<usize, usize> {
    marks.binary_search_by(|(known, _)| known.total_cmp(&bound))
}

/// Keeps what every row of a label set must say alike; NULL says nothing.
fn agree(
    kept: &mut Option<f64>,
    found: Option<(&BoundColumn, Option<f64>)>,
    labels: &LabelBytes,
    out: &Samples<'_>,
) -> Result<()> {
    let Some((column, Some(number))) = found else { return Ok(()) };
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

impl Gathered {
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
