//! The shape of raw observations: each row is one, counted into buckets when the last row is there.

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::LabelBytes;
use crate::metric::samples::{Samples, Tally};
use crate::metric::values::{BoundValues, Values};
use crate::metric::{Bind, ColumnUse, Emit, Recipe};
use crate::yaml::keys::Keys;

use super::{Bucket, Layout, read_bound, recipe};

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
        Ok(Box::new(Counting { shape: self, values: self.values.bind(columns)?, sets: IndexMap::default() }))
    }
}

/// One run: observations counted per label set, in the order first seen.
struct Counting<'r> {
    shape: &'r RawShape,
    values: BoundValues<'r>,
    sets: IndexMap<LabelBytes, Observations, RandomState>,
}

/// The observations of one label set.
struct Observations {
    /// One a bucket, each only its own observations.
    counts: Vec<u64>,
    sum: f64,
}

impl Emit for Counting<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let Counting { shape, values, sets } = self;
        values.each(row, out, |out, _, value| {
            let set = find(sets, shape.bounds.len(), labels, out.tally)?;
            let bucket = shape.bounds.partition_point(|bound| *bound < value);
            set.sum += value;
            set.counts.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
            Ok(())
        })
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        find(&mut self.sets, self.shape.bounds.len(), labels, out.tally).map(drop)
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

/// What is counted for this label set, begun where it is new.
///
/// # Errors
/// `limit` as soon as the series of all label sets are too many.
fn find<'s>(
    sets: &'s mut IndexMap<LabelBytes, Observations, RandomState>,
    buckets: usize,
    labels: &LabelBytes,
    tally: &Tally,
) -> Result<&'s mut Observations> {
    let at = match sets.get_index_of(labels) {
        Some(at) => at,
        None => {
            // Each bucket, the sum and the count.
            tally.check_room(((sets.len() + 1) * (buckets + 2)) as u64)?;
            sets.insert_full(labels.clone(), Observations { counts: vec![0; buckets], sum: 0.0 }).0
        }
    };
    Ok(&mut sets[at])
}
