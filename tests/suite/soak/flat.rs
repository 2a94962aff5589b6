//! What the exporter holds, read after every round, and whether it grew: the median over the second window of
//! scrapes against the median over the last one.

use std::fmt::Write;

/// One reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Scrapes answered before it.
    pub(crate) scrapes: usize,
    /// Resident, in KiB.
    pub(crate) memory: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: f64,
    pub(crate) sessions: Option<Sessions>,
}

/// The exporter's sessions, read only while every server can be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sessions {
    /// As the servers count them.
    pub(crate) server: f64,
    /// As `sql_exporter_sessions` says, all states together.
    pub(crate) said: f64,
}

impl Sessions {
    /// Those of the servers that the exporter does not count: left behind, and never closed.
    pub(crate) fn unknown(self) -> f64 {
        (self.server - self.said).max(0.0)
    }

    /// More than the pools may hold.
    pub(crate) fn beyond(self, pools: f64) -> f64 {
        (self.server.max(self.said) - pools).max(0.0)
    }
}

impl Reading {
    /// Reads `/proc` of a running process.
    pub(crate) fn of(pid: u32, scrapes: usize, sessions: Option<Sessions>) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the exporter runs");
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the exporter runs");
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the exporter runs").count();
        Reading {
            scrapes,
            memory: field(&memory, "Rss:"),
            threads: field(&status, "Threads:"),
            descriptors: descriptors as f64,
            sessions,
        }
    }
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// One thing that must not grow.
pub(crate) struct Bound {
    pub(crate) what: &'static str,
    pub(crate) read: fn(&Reading) -> Option<f64>,
    /// It may grow by so many percent, or by `units`, whichever is more.
    pub(crate) percent: f64,
    pub(crate) units: f64,
}

/// The second and the last of the windows that `total` scrapes fall into.
pub(crate) struct Windows<'r> {
    pub(crate) second: Vec<&'r Reading>,
    pub(crate) last: Vec<&'r Reading>,
}

impl<'r> Windows<'r> {
    /// `size` scrapes a window.
    pub(crate) fn new(readings: &'r [Reading], total: usize, size: usize) -> Self {
        let between = |from: usize, to: usize| {
            readings.iter().filter(|reading| (from + 1..=to).contains(&reading.scrapes)).collect()
        };
        Windows { second: between(size, 2 * size), last: between(total - size, total) }
    }

    /// A line a bound; those that do not hold.
    pub(crate) fn compare(&self, bounds: &[Bound]) -> (String, Vec<String>) {
        let mut table = String::from("                              second window        last window\n");
        table.push_str("                             median  highest     median  highest\n");
        let mut grown = Vec::new();
        for bound in bounds {
            let ((before, high), (after, higher)) = (level(&self.second, bound), level(&self.last, bound));
            writeln!(table, "{:26} {before:8} {high:8}   {after:8} {higher:8}", bound.what)
                .expect("a string");
            if after > before + (before * bound.percent / 100.0).max(bound.units) {
                grown.push(format!("{} grew from {before} to {after}", bound.what));
            }
        }
        (table, grown)
    }
}

/// Median and highest.
fn level(readings: &[&Reading], bound: &Bound) -> (f64, f64) {
    let mut values: Vec<f64> = readings.iter().filter_map(|reading| (bound.read)(reading)).collect();
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied();
    median.zip(values.last().copied()).unwrap_or_else(|| panic!("{} was never read in a window", bound.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growing(by: f64) -> Vec<Reading> {
        let reading = |scrapes: u16| Reading {
            scrapes: scrapes.into(),
            memory: 10_000.0 + by * f64::from(scrapes),
            threads: 12.0,
            descriptors: 20.0,
            sessions: None,
        };
        (1..=100).map(reading).collect()
    }

    fn verdict(by: f64) -> Vec<String> {
        let memory =
            Bound { what: "memory", read: |reading| Some(reading.memory), percent: 5.0, units: 200.0 };
        Windows::new(&growing(by), 100, 10).compare(&[memory]).1
    }

    #[test]
    fn what_grows_is_named_from_what_to_what() {
        assert_eq!(verdict(5.0), Vec::<String>::new(), "within five percent");
        assert_eq!(verdict(50.0), ["memory grew from 10800 to 14800"]);
    }
}
