//! The shape of raw observations: each row is one, counted into buckets when the last row is there.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::LabelBytes;
use crate::metric::samples::Samples;
use crate::metric::values::{BoundValues, Values};
use crate::metric::{Bind, ColumnUse, Emit, Recipe};
use crate::yaml::keys::Keys;

use super::{Bucket, LabelSets, Layout, of_labels, read_bound, recipe};

/// Prometheus's default bounds, in seconds.
const DEFAULT_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Takes `buckets` and the keys of one value column.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Recipe> {
    let bounds = read_bounds(keys);
    let values = Values::read_column(keys, |value| {
        value.is_nan().then_some("is not a number, which belongs in no bucket")
    })?;
    let mut bounds = bounds?;
    bounds.push(f64::INFINITY);
    let marks = bounds.iter().map(|bound| layout.mark(*bound)).collect();
    let observed = |taken: ColumnUse| ColumnUse { part: "observation".to_owned(), ..taken };
    let uses = values.uses().into_iter().map(observed).collect();
    Some(Recipe {
        joins_rows: true,
        observes_rows: true,
        measures: values.measures(),
        unscaled: keys.has("buckets").then_some("buckets"),
        ..recipe(layout.le.clone(), uses, RawShape { layout, bounds, marks, values })
    })
}

fn read_bounds(keys: &mut Keys<'_>) -> Option<Vec<f64>> {
    let texts = keys.texts("buckets");
    if !keys.has("buckets") {
        return Some(DEFAULT_BOUNDS.to_vec());
    }
    let texts = texts?;
    let mut bounds: Vec<f64> = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(bound) = read_bound(text).filter(|bound| bound.is_finite()) else {
            let message = format!("{text:?} is not a finite number (the bucket +Inf is always there)");
            keys.fault("buckets", message);
            continue;
        };
        match bounds.last().filter(|last| **last >= bound) {
            Some(last) => {
                keys.fault("buckets", format!("{bound} comes after {last}: bounds rise, each once"));
            }
            None => bounds.push(bound),
        }
    }
    if texts.is_empty() {
        keys.fault("buckets", "no bound is given");
    }
    Some(bounds)
}

struct RawShape {
    layout: Layout,
    /// Rising, `+Inf` last.
    bounds: Vec<f64>,
    /// `,le="…"` of each bound.
    marks: Vec<Vec<u8>>,
    values: Values,
}

impl Bind for RawShape {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(Counting {
            shape: self,
            values: self.values.bound(columns)?,
            sets: LabelSets::default(),
        }))
    }
}

/// One run: observations counted per label set.
struct Counting<'r> {
    shape: &'r RawShape,
    values: BoundValues<'r>,
    sets: LabelSets<Observations>,
}

/// The observations of one label set.
#[derive(Default)]
struct Observations {
    /// One a bucket, each only its own observations; empty before the first one.
    counts: Vec<u64>,
    sum: f64,
}

impl Counting<'_> {
    /// # Errors
    /// `limit` as soon as the series of all label sets are too many: each bucket, the sum and the count.
    fn check_room(&self, out: &Samples<'_>) -> Result<()> {
        out.tally.check_room((self.sets.len() * (self.shape.bounds.len() + 2)) as u64)
    }
}

impl Emit for Counting<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let Counting { shape, values, sets } = self;
        values.each(row, out, |_, _, value| {
            let set = of_labels(sets, labels);
            set.counts.resize(shape.bounds.len(), 0);
            let bucket = shape.bounds.partition_point(|bound| *bound < value);
            set.sum += value;
            set.counts.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
            Ok(())
        })?;
        self.check_room(out)
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        of_labels(&mut self.sets, labels).counts.resize(self.shape.bounds.len(), 0);
        self.check_room(out)
    }

    fn has_pending_rows(&self) -> bool {
        !self.sets.is_empty()
    }

    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        let RawShape { layout, bounds, marks, .. } = self.shape;
        for (labels, set) in &self.sets {
            let buckets =
                bounds.iter().zip(marks).zip(&set.counts).scan(0, |total, ((bound, mark), count)| {
                    *total += count;
                    Some(Bucket { bound: *bound, mark, count: *total as f64 })
                });
            layout.write(labels, buckets, Some(set.sum), out)?;
        }
        Ok(())
    }
}
