//! `histogram` of raw observations: each row is one, counted into cumulative buckets when the last row is there.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line::{self, LabelBytes};
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::samples::{Samples, Tally};
use super::value::{BoundValues, Values};
use super::{Emit, MetricType, Recipe};

/// Prometheus's default bounds, in seconds.
const DEFAULT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The type.
pub struct Histogram;

impl MetricType for Histogram {
    fn name(&self) -> &'static str {
        "histogram"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Histogram
    }

    fn read(&self, keys: &mut Keys<'_>) -> Option<Box<dyn Recipe>> {
        let bounds = read_bounds(keys);
        let values = Values::read_column(keys, |value| {
            value.is_nan().then_some("is not a number, which belongs in no bucket")
        });
        let le = LabelName::new("le").ok()?;
        Some(Box::new(Raw { le, bounds: bounds?, values: values? }))
    }
}

fn read_bounds(keys: &mut Keys<'_>) -> Option<Vec<f64>> {
    if !keys.has("buckets") {
        return Some(DEFAULT.to_vec());
    }
    let texts = keys.texts("buckets")?;
    let mut bounds: Vec<f64> = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(bound) = text.trim().parse::<f64>().ok().filter(|bound| bound.is_finite()) else {
            keys.fault("buckets", format!("{text:?} is no finite number (the bucket +Inf is always there)"));
            return None;
        };
        if let Some(last) = bounds.last().filter(|last| **last >= bound) {
            keys.fault("buckets", format!("{bound} comes after {last}: bounds rise, each once"));
            return None;
        }
        bounds.push(bound);
    }
    if bounds.is_empty() {
        keys.fault("buckets", "no bound is given");
        return None;
    }
    Some(bounds)
}

struct Raw {
    le: LabelName,
    /// Rising, finite, at least one; the bucket `+Inf` is not among them.
    bounds: Vec<f64>,
    values: Values,
}

impl Raw {
    /// Observations below zero make a sum that may fall, which the formats do not allow in a histogram.
    fn has_sum(&self) -> bool {
        self.bounds.iter().all(|bound| *bound >= 0.0)
    }
}

impl Recipe for Raw {
    fn suffixes(&self) -> &'static [&'static str] {
        if self.has_sum() { &["_bucket", "_sum", "_count"] } else { &["_bucket"] }
    }

    fn own_label(&self) -> Option<&LabelName> {
        Some(&self.le)
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 0.0)
            .then_some("is no histogram: only 0, a histogram without observations, can stand for no rows")
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let all = self.bounds.iter().copied().chain([f64::INFINITY]);
        let marks = all.map(|bound| {
            let mut mark = Vec::new();
            line::open_label(&self.le, &mut mark);
            line::bound(bound, &mut mark);
            mark.push(b'"');
            mark
        });
        let counts = Counts { buckets: self.bounds.len() + 1, ..Counts::default() };
        Ok(Box::new(Counting {
            raw: self,
            marks: marks.collect(),
            values: self.values.bind(columns)?,
            counts,
        }))
    }
}

/// One run: observations counted per label set, written at the end.
struct Counting<'r> {
    raw: &'r Raw,
    /// `,le="…"` of each bucket, `+Inf` last.
    marks: Vec<Vec<u8>>,
    values: BoundValues<'r>,
    counts: Counts,
}

impl Emit for Counting<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let Counting { raw, values, counts, .. } = self;
        values.each(row, out, |out, _, value| {
            let set = counts.set(labels, out.tally)?;
            counts.observe(set, raw.bounds.partition_point(|bound| *bound < value), value);
            Ok(())
        })
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.counts.set(labels, out.tally).map(drop)
    }

    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        for (labels, counts, sum) in self.counts.each() {
            let mut total = 0;
            for (mark, count) in self.marks.iter().zip(counts) {
                total += count;
                out.add("_bucket", labels, mark, total as f64)?;
            }
            if self.raw.has_sum() {
                out.add("_sum", labels, b"", sum)?;
                out.add("_count", labels, b"", total as f64)?;
            }
        }
        Ok(())
    }
}

/// Counts and sums of each label set, in the order first seen.
#[derive(Default)]
struct Counts {
    labels: Vec<LabelBytes>,
    /// Positions in `labels`.
    known: HashTable<usize>,
    seed: RandomState,
    /// Buckets of a label set, `+Inf` included.
    buckets: usize,
    /// `buckets` of them a label set, each only its own observations.
    counts: Vec<u64>,
    sums: Vec<f64>,
}

impl Counts {
    /// The position of this label set, taken up where it is new.
    ///
    /// # Errors
    /// `limit` as soon as the series of all label sets are too many.
    fn set(&mut self, labels: &LabelBytes, tally: &Tally) -> Result<usize> {
        let Counts { labels: all, known, seed, .. } = self;
        let hash = seed.hash_one(labels.as_bytes());
        let same = |set: &usize| all.get(*set).is_some_and(|set| set == labels);
        if let Some(set) = known.find(hash, same) {
            return Ok(*set);
        }
        let set = all.len();
        // Each bucket, the sum and the count.
        tally.check_room(((set + 1) * (self.buckets + 2)) as u64)?;
        known.insert_unique(hash, set, |set| all.get(*set).map_or(0, |set| seed.hash_one(set.as_bytes())));
        all.push(labels.clone());
        self.counts.resize((set + 1) * self.buckets, 0);
        self.sums.push(0.0);
        Ok(set)
    }

    fn observe(&mut self, set: usize, bucket: usize, value: f64) {
        if let (Some(count), Some(sum)) =
            (self.counts.get_mut(set * self.buckets + bucket), self.sums.get_mut(set))
        {
            *count += 1;
            *sum += value;
        }
    }

    fn each(&self) -> impl Iterator<Item = (&LabelBytes, &[u64], f64)> {
        let counts = self.counts.chunks_exact(self.buckets);
        self.labels.iter().zip(counts).zip(&self.sums).map(|((labels, counts), sum)| (labels, counts, *sum))
    }
}
