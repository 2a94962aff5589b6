//! The set of series written so far within one query: which line of a buffer has which label set.
//!
//! Holds offsets, not copies: eight bytes per series. Exact, as the bytes are compared; seeded, so that nobody can choose
//! label values that collide.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Where the lines of known series start, found by the bytes before their value.
#[derive(Debug, Default)]
pub struct SeriesSet {
    starts: HashTable<Start>,
    seed: RandomState,
}

/// The hash is kept so that growing the table reads no line again.
#[derive(Debug, Clone, Copy)]
struct Start {
    hash: u32,
    offset: u32,
}

impl Start {
    /// Spreads 32 bits over the 64 that the table looks at (its low bits and its top seven).
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What [`SeriesSet::insert`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The series is new.
    New,
    /// A line before this one has the same name and labels.
    Duplicate,
    /// The lines are longer than 4 GiB.
    Full,
}

impl SeriesSet {
    /// Empty, with capacity for so many.
    pub fn with_capacity(series: usize) -> Self {
        SeriesSet { starts: HashTable::with_capacity(series), seed: RandomState::default() }
    }

    /// Adds the series from `offset` to the end of `lines`, its final blank included: `name{labels} `.
    /// With that blank it is not a prefix of another series, as quotes within a label value are escaped.
    pub fn insert(&mut self, lines: &[u8], offset: usize) -> Inserted {
        let Some(series) = lines.get(offset..) else { return Inserted::Full };
        let Ok(offset) = u32::try_from(offset) else { return Inserted::Full };
        let mut hasher = self.seed.build_hasher();
        hasher.write(series);
        let hash = (hasher.finish() >> 32) as u32;
        let same = |start: &Start| {
            start.hash == hash
                && lines.get(start.offset as usize..).is_some_and(|known| known.starts_with(series))
        };
        match self.starts.entry(Start::spread(hash), same, |start| Start::spread(start.hash)) {
            Entry::Occupied(_) => Inserted::Duplicate,
            Entry::Vacant(place) => {
                place.insert(Start { hash, offset });
                Inserted::New
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(set: &mut SeriesSet, lines: &mut Vec<u8>, series: &str) -> Inserted {
        let start = lines.len();
        lines.extend_from_slice(series.as_bytes());
        lines.push(b' ');
        let inserted = set.insert(lines, start);
        match inserted {
            Inserted::New => lines.extend_from_slice(b"1\n"),
            _ => lines.truncate(start),
        }
        inserted
    }

    #[test]
    fn only_the_same_bytes_are_the_same_series() {
        let (mut set, mut lines) = (SeriesSet::default(), Vec::new());
        for series in ["x", r#"x{a="1"}"#, r#"x{a="1\"}"}"#, r#"x{a="1",b="2"}"#, r#"x{a="12"}"#, "x_sum"] {
            assert_eq!(add(&mut set, &mut lines, series), Inserted::New, "{series}");
            assert_eq!(add(&mut set, &mut lines, series), Inserted::Duplicate, "{series}");
        }
    }

    #[test]
    fn a_hundred_thousand_series_are_all_found_again() {
        let (mut set, mut lines) = (SeriesSet::default(), Vec::new());
        let all: Vec<String> = (0..100_000).map(|n| format!(r#"x{{n="{n}"}}"#)).collect();
        assert!(all.iter().all(|series| add(&mut set, &mut lines, series) == Inserted::New));
        assert!(all.iter().all(|series| add(&mut set, &mut lines, series) == Inserted::Duplicate));
    }
}
