//! Units by their words in names: how many of Prometheus' base units one is.
//!
//! Source: <https://prometheus.io/docs/practices/naming/#base-units>. A new unit is a line in [`UNITS`].

/// One unit.
#[derive(Debug, PartialEq)]
pub(super) struct Unit {
    /// The words for it; the first is the one to show.
    words: &'static [&'static str],
    /// Words that mean it only where a unit is expected: `us` in a metric name may be a country.
    short: &'static [&'static str],
    /// The base unit.
    pub(super) base: &'static str,
    /// How many of them it is.
    pub(super) factor: f64,
}

const UNITS: &[Unit] = &[
    unit(&["seconds"], &["second"], "seconds", 1.0),
    unit(&["secs", "sec"], &[], "seconds", 1.0),
    unit(&["milliseconds", "ms", "msec", "msecs", "millis", "millisecond"], &[], "seconds", 1e-3),
    unit(&["microseconds", "usec", "usecs", "micros", "microsecond"], &["us"], "seconds", 1e-6),
    unit(&["nanoseconds", "nanos", "nanosecond"], &["ns"], "seconds", 1e-9),
    unit(&["minutes", "mins"], &["minute"], "seconds", 60.0),
    unit(&["hours", "hrs"], &["hour"], "seconds", 3600.0),
    unit(&["days"], &["day"], "seconds", 86_400.0),
    unit(&["weeks"], &["week"], "seconds", 604_800.0),
    unit(&["bytes"], &["byte"], "bytes", 1.0),
    unit(&["bits"], &["bit"], "bytes", 0.125),
    unit(&["kilobytes", "kb", "kbytes", "kib", "kibibytes"], &[], "bytes", 1024.0),
    unit(&["megabytes", "mb", "mbytes", "mib", "mebibytes"], &[], "bytes", 1_048_576.0),
    unit(&["gigabytes", "gb", "gbytes", "gib", "gibibytes"], &[], "bytes", 1_073_741_824.0),
    unit(&["terabytes", "tb", "tbytes", "tib", "tebibytes"], &[], "bytes", 1_099_511_627_776.0),
    unit(&["ratio"], &[], "ratio", 1.0),
    unit(&["percent", "pct", "percentage"], &[], "ratio", 0.01),
];

const fn unit(
    words: &'static [&'static str],
    short: &'static [&'static str],
    base: &'static str,
    factor: f64,
) -> Unit {
    Unit { words, short, base, factor }
}

/// Words at the end of a name that say how numbers were aggregated, not what they are.
const AGGREGATES: [&str; 12] =
    ["total", "sum", "count", "bucket", "max", "min", "avg", "average", "mean", "median", "last", "limit"];

/// Words before a unit that make it a span of time or a part of a rate: `sold_last_hours`, `orders_per_days`.
const SPANS: [&str; 7] = ["last", "past", "previous", "next", "per", "in", "within"];

impl Unit {
    /// The word to show.
    pub(super) fn name(&self) -> &'static str {
        self.words.first().copied().unwrap_or_default()
    }

    /// True for seconds, bytes and ratios themselves, spelt as Prometheus spells them.
    pub(super) fn is_base(&self) -> bool {
        self.name() == self.base
    }

    /// The base unit as a sentence names it.
    pub(super) fn base_in_words(&self) -> &'static str {
        if self.base == "ratio" { "a ratio from 0 to 1" } else { self.base }
    }

    fn is_called(&self, word: &str, short_too: bool) -> bool {
        self.words.contains(&word) || (short_too && self.short.contains(&word))
    }
}

/// The unit that a name ends in, before `_total` and its like, and its word.
pub(super) fn of_name(name: &str) -> Option<(&'static Unit, &str)> {
    find(name, false)
}

/// The same of a column's name, which may use a shorter word.
pub(super) fn of_column(name: &str) -> Option<&'static Unit> {
    find(name, true).map(|(unit, _)| unit)
}

fn find(name: &str, short_too: bool) -> Option<(&'static Unit, &str)> {
    let mut words = name.rsplit('_').skip_while(|word| AGGREGATES.contains(&word.to_lowercase().as_str()));
    let word = words.next()?;
    let before = words.next()?.to_lowercase();
    let is_span = SPANS.contains(&before.as_str()) || before.starts_with(|c: char| c.is_ascii_digit());
    let lower = word.to_lowercase();
    let unit = UNITS.iter().find(|unit| unit.is_called(&lower, short_too))?;
    (!is_span).then_some((unit, word))
}

/// The unit that a help names: `… in milliseconds`, `… (ms)`.
pub(super) fn of_help(help: &str) -> Option<&'static Unit> {
    let words: Vec<&str> = help.split_whitespace().collect();
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let named = |word: &str| UNITS.iter().find(|unit| unit.is_called(&bare(word), true));
    let after_in = |pair: &&[&str]| matches!(pair, [first, _] if first.eq_ignore_ascii_case("in"));
    let after = words.windows(2).filter(after_in).find_map(|pair| named(pair.last()?));
    let in_brackets =
        |word: &&&str| word.starts_with('(') && word.trim_end_matches(['.', ',']).ends_with(')');
    after.or_else(|| words.iter().filter(in_brackets).find_map(|word| named(word)))
}

/// True when two factors mean the same: a kilobyte of 1000 bytes is one of 1024.
pub(super) fn is_same(one: f64, other: f64) -> bool {
    (0.88..1.13).contains(&(one / other).abs())
}

/// A factor as it is written in a configuration: `0.001`, `60`, `1e-9`.
pub(super) fn number(factor: f64) -> String {
    let rounded = format!("{factor:.15}").trim_end_matches('0').trim_end_matches('.').to_owned();
    if rounded.len() > 12 { format!("{factor:e}") } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_name_is_its_last_word_that_says_what_the_number_is() {
        let cases = [
            ("wait_seconds", Some("seconds")),
            ("wait_ms_total", Some("milliseconds")),
            ("wait_time_ms_max", Some("milliseconds")),
            ("heap_mb", Some("megabytes")),
            ("idle_percent", Some("percent")),
            ("sold_last_24_hours", None),
            ("orders_per_days", None),
            ("orders_us", None),
            ("ms", None),
            ("items", None),
        ];
        for (name, unit) in cases {
            assert_eq!(of_name(name).map(|(unit, _)| unit.name()), unit, "{name}");
        }
        assert_eq!(of_column("wait_us").map(Unit::name), Some("microseconds"));
    }

    #[test]
    fn the_unit_of_a_help_stands_after_in_or_in_brackets() {
        let cases = [
            ("Time spent waiting, in milliseconds.", Some("milliseconds")),
            ("Heap (MB).", Some("megabytes")),
            ("Queries longer than 100 ms.", None),
            ("Rows in tables.", None),
        ];
        for (help, unit) in cases {
            assert_eq!(of_help(help).map(Unit::name), unit, "{help}");
        }
    }

    #[test]
    fn factors_are_shown_as_they_are_written() {
        for (factor, text) in
            [(1e-3, "0.001"), (60.0, "60"), (1e-9, "0.000000001"), (0.01, "0.01"), (1024.0, "1024")]
        {
            assert_eq!(number(factor), text);
        }
        assert!(is_same(1024.0, 1000.0) && !is_same(1.0, 0.001) && is_same(-1.0, 1.0));
    }
}
