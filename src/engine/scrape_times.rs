//! How long the last scrapes of a target took, in a ring of a fixed size: for the status page alone.
//!
//! An entry is one scrape of the target, of all of its queries or of some: the time from the start of the scrape until the
//! last run that it waited for had ended, or until it gave up at its deadline. Time in line for a worker counts, and a
//! result that was reused takes none. The scrape failed where the target was down or the page lacks one of the queries.
//! Knows no query and no page.

use std::time::Duration;

/// How many scrapes of a target are remembered.
pub const REMEMBERED: usize = 60;

/// One scrape of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastScrape {
    /// How long it took.
    pub took: Duration,
    /// The target was down, or a query is not on the page.
    pub failed: bool,
}

/// The last scrapes of a target.
#[derive(Debug, Clone)]
pub struct ScrapeTimes {
    /// In microseconds, of more than an hour at most; the newest is last, and the last `count` are known.
    micros: [u32; REMEMBERED],
    /// One bit a scrape, set where it failed; that of the newest is the lowest.
    failed: u64,
    count: usize,
}

impl Default for ScrapeTimes {
    fn default() -> Self {
        ScrapeTimes { micros: [0; REMEMBERED], failed: 0, count: 0 }
    }
}

impl ScrapeTimes {
    /// Adds the newest one. The oldest is forgotten where there are [`REMEMBERED`].
    pub fn push(&mut self, scrape: PastScrape) {
        self.micros.rotate_left(1);
        self.micros[REMEMBERED - 1] = u32::try_from(scrape.took.as_micros()).unwrap_or(u32::MAX);
        self.failed = (self.failed << 1) | u64::from(scrape.failed);
        self.count = (self.count + 1).min(REMEMBERED);
    }

    /// Those that are known, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = PastScrape> {
        (0..self.count).rev().map(|age| PastScrape {
            took: Duration::from_micros(self.micros[REMEMBERED - 1 - age].into()),
            failed: (self.failed >> age) & 1 == 1,
        })
    }

    /// The newest one.
    pub fn last(&self) -> Option<PastScrape> {
        self.iter().last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: u64) -> ScrapeTimes {
        let mut times = ScrapeTimes::default();
        for number in 1..=count {
            times.push(PastScrape { took: Duration::from_secs(number), failed: number % 7 == 0 });
        }
        times
    }

    #[test]
    fn a_target_remembers_its_last_scrapes_in_256_bytes() {
        assert!(size_of::<ScrapeTimes>() <= 256, "{}", size_of::<ScrapeTimes>());
        for (count, first) in [(0, 1), (1, 1), (59, 1), (60, 1), (61, 2), (1000, 941)] {
            let expected = (first..=count)
                .map(|number| PastScrape { took: Duration::from_secs(number), failed: number % 7 == 0 });
            let expected: Vec<PastScrape> = expected.collect();
            assert_eq!(times(count).iter().collect::<Vec<_>>(), expected);
            assert_eq!(times(count).last(), expected.last().copied());
        }
    }
}
