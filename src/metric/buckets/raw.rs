//! The shape of raw observations: each row is one, counted into buckets when the last row is there.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::LabelBytes;
use crate::metric::samples::{Samples, Tally};
use crate::metric::value::{BoundValues, Values};
use crate::metric::{ColumnUse, Emit, Recipe};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::sets::Sets;
use super::{Bucket, Layout, read_bound};

/// Prometheus's default bounds, in seconds.
const DEFAULT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Takes `buckets` and the keys of one value column.
pub(super) fn read(keys: &mut Keys<'_>, layout: Layout) -> Option<Box<dyn Recipe>> {
    let bounds = read_bounds(keys);
    let values = Values::read_column(keys, |value| {
        value.is_nan().then_some("is not a number, which belongs in no bucket")
    });
    Some(Box::new(Raw { layout, bounds: bounds?, values: values? }))
}

fn read_bounds(keys: &mut Keys<'_>) -> Option<Vec<f64>> {
    let texts = keys.texts("buckets");
    if !keys.has("buckets") {
        return Some(DEFAULT.to_vec());
    }
    let texts = texts?;
    let mut bounds: Vec<f64> = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(bound) = read_bound(text).filter(|bound| bound.is_finite()) else {
            keys.fault("buckets", format!("{text:?} is no finite number (the bucket +Inf is always there)"));
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

struct Raw {
    layout: Layout,
    /// Rising, finite, at least one; the bucket `+Inf` is not among them.
    bounds: Vec<f64>,
    values: Values,
}

impl Recipe for Raw {
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

    fn observes_rows(&self) -> bool {
        true
    }

    fn measures(&self) -> Vec<(&str, f64)> {
        self.values.measures()
    }

    fn uses(&self) -> Vec<ColumnUse> {
        let observed = |taken: ColumnUse| ColumnUse { part: "observation".to_owned(), ..taken };
        self.values.uses().into_iter().map(observed).collect()
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let bounds: Vec<f64> = self.bounds.iter().copied().chain([f64::INFINITY]).collect();
        let marks = bounds.iter().map(|bound| self.layout.mark(*bound)).collect();
        let values = self.values.bind(columns)?;
        Ok(Box::new(Counting { raw: self, bounds, marks, values, sets: Sets::default() }))
    }
}

/// One run: observations counted per label set, written at the end.
struct Counting<'r> {
    raw: &'r Raw,
    /// `+Inf` last.
    bounds: Vec<f64>,
    /// `,le="…"` of each bound.
    marks: Vec<Vec<u8>>,
    values: BoundValues<'r>,
    sets: Sets<Counts>,
}

/// The observations of one label set.
struct Counts {
    /// One a bucket, each only its own observations.
    counts: Vec<u64>,
    sum: f64,
}

impl Emit for Counting<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let Counting { raw, values, sets, bounds, .. } = self;
        values.each(row, out, |out, _, value| {
            let at = find(sets, bounds.len(), labels, out.tally)?;
            let bucket = raw.bounds.partition_point(|bound| *bound < value);
            if let Some(set) = sets.get_mut(at) {
                set.sum += value;
                set.counts.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
            }
            Ok(())
        })
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        find(&mut self.sets, self.bounds.len(), labels, out.tally).map(drop)
    }

    fn gathers(&self) -> bool {
        self.sets.len() > 0
    }

    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        for (labels, set) in self.sets.iter_mut() {
            let places = self.bounds.iter().zip(&self.marks).zip(&set.counts);
            let buckets = places.scan(0, |total, ((bound, mark), count)| {
                *total += count;
                Some(Bucket { bound: *bound, mark, count: *total as f64 })
            });
            self.raw.layout.write(labels, buckets, Some(set.sum), out)?;
        }
        Ok(())
    }
}

/// The position of this label set, taken up where it is new.
///
/// # Errors
/// `limit` as soon as the series of all label sets are too many.
fn find(sets: &mut Sets<Counts>, buckets: usize, labels: &LabelBytes, tally: &Tally) -> Result<usize> {
    if let Some(at) = sets.position(labels) {
        return Ok(at);
    }
    // Each bucket, the sum and the count.
    tally.check_room(((sets.len() + 1) * (buckets + 2)) as u64)?;
    Ok(sets.insert(labels, Counts { counts: vec![0; buckets], sum: 0.0 }))
}
