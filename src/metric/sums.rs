//! `duplicates: sum`: samples wait until the last row, and those of one label set are added up.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::exposition::block::{BlockBuilder, Inserted};
use crate::exposition::line::LabelBytes;

/// The samples of one metric in one family, in the order first seen.
#[derive(Debug, Default)]
pub struct Sums {
    all: Vec<Sum>,
    /// Positions in `all`.
    known: HashTable<usize>,
    seed: RandomState,
    /// The series at hand; kept for its memory.
    labels: LabelBytes,
}

#[derive(Debug)]
struct Sum {
    suffix: &'static str,
    /// With the type's own.
    labels: LabelBytes,
    value: f64,
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summed {
    /// It is the first of its series.
    New,
    /// It was added to others.
    Added,
    /// The sum of finite numbers is not finite.
    Overflow,
}

impl Sums {
    /// True when no sample waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a sample to those of its series. NaN and infinities do as in any sum.
    pub fn add(&mut self, suffix: &'static str, labels: &LabelBytes, own: &[u8], value: f64) -> Summed {
        let Sums { all, known, seed, labels: series } = self;
        let (before, after) = labels.around_gap();
        series.clear();
        [before, own, after].into_iter().for_each(|part| series.bytes_mut().extend_from_slice(part));
        let hash = |suffix: &str, labels: &LabelBytes| {
            let mut hasher = seed.build_hasher();
            hasher.write(suffix.as_bytes());
            hasher.write_u8(b'{');
            hasher.write(labels.as_bytes());
            hasher.finish()
        };
        let same = |at: &usize| all.get(*at).is_some_and(|sum| sum.suffix == suffix && sum.labels == *series);
        let here = hash(suffix, series);
        if let Some(sum) = known.find(here, same).copied().and_then(|at| all.get_mut(at)) {
            let is_finite = sum.value.is_finite() && value.is_finite();
            sum.value += value;
            return if is_finite && !sum.value.is_finite() { Summed::Overflow } else { Summed::Added };
        }
        let at = all.len();
        all.push(Sum { suffix, labels: series.clone(), value });
        known.insert_unique(here, at, |at| all.get(*at).map_or(0, |sum| hash(sum.suffix, &sum.labels)));
        Summed::New
    }

    /// Writes the sums.
    ///
    /// # Errors
    /// The first that has no room: its line would be longer than offsets can say.
    pub fn write(self, draft: &mut BlockBuilder) -> Result<(), Inserted> {
        self.all.iter().try_for_each(|sum| match draft.add(sum.suffix, &sum.labels, b"", sum.value) {
            Inserted::New => Ok(()),
            refused => Err(refused),
        })
    }
}
