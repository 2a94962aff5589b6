//! What to write where a value in SQLite is not a number: dates that are text, as SQLite's own date functions read them
//! (<https://sqlite.org/lang_datefunc.html>), and blobs.

use std::ops::RangeInclusive;

use crate::driver::advice::Advice;

/// Of every column: the declared type binds no value. Unix seconds, with their fraction, of a text that SQLite reads as a date.
pub(super) const DATE: Advice = Advice::Write("unixepoch({}, 'subsec')");

/// By what the value is.
pub const TABLE: &[(&str, Advice)] = &[("date as text", DATE), ("BLOB", Advice::Bytes)];

/// True for `2026-01-02`, `2026-01-02 03:04`, `2026-01-02T03:04:05.5`, each with a zone or without: a text that
/// `unixepoch` turns into a number. A time without a date is not one.
pub(super) fn is_date(text: &str) -> bool {
    after_date(text).is_some_and(|rest| rest.is_empty() || after_time(rest).is_some_and(str::is_empty))
}

fn after_date(text: &str) -> Option<&str> {
    let rest = after_number(text, 4, 0..=9999)?.strip_prefix('-')?;
    let rest = after_number(rest, 2, 1..=12)?.strip_prefix('-')?;
    Some(after_number(rest, 2, 1..=31)?.trim_start_matches([' ', '\t', 'T']))
}

fn after_time(text: &str) -> Option<&str> {
    let rest = after_number(text, 2, 0..=24)?.strip_prefix(':')?;
    let mut rest = after_number(rest, 2, 0..=59)?;
    if let Some(seconds) = rest.strip_prefix(':') {
        rest = after_number(seconds, 2, 0..=59)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == fraction.len() {
                return None;
            }
        }
    }
    rest = rest.trim_start_matches(BLANKS);
    if let Some(utc) = rest.strip_prefix(['Z', 'z']) {
        rest = utc;
    } else if let Some(hours) = rest.strip_prefix(['+', '-']) {
        rest = after_number(after_number(hours, 2, 0..=14)?.strip_prefix(':')?, 2, 0..=59)?;
    }
    Some(rest.trim_start_matches(BLANKS))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// What follows a number of so many digits within a range.
fn after_number(text: &str, digits: usize, range: RangeInclusive<u32>) -> Option<&str> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && range.contains(&number.parse().ok()?)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_what_the_function_of_the_advice_reads() {
        let texts = [
            "2026-01-02",
            "2026-01-02 03:04",
            "2026-01-02 03:04:05",
            "2026-01-02T03:04:05.123456",
            "2026-01-02 03:04:05Z",
            "2026-01-02 03:04:05.5+05:30",
            "2026-01-02T03:04:05 -03:30",
            "2026-01-02 ",
            "2026-02-31",
            "2026-01-02 24:00:00",
            "0000-01-01",
            "2026-13-02",
            "2026-00-02",
            "2026-01-32",
            "2026-1-2",
            "2026-01-02x",
            "2026-01-02 25:00",
            "2026-01-02 03:60",
            "2026-01-02 03:04:05 +0000 UTC",
            "2026-01-02 03:04:05.",
            "2026-01-0203:04:05",
            "03:04:05",
            "20260102",
            "yesterday",
            "",
        ];
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for text in texts {
            let seconds: Option<f64> =
                connection.query_row("SELECT unixepoch(?1, 'subsec')", [text], |row| row.get(0)).unwrap();
            // A time alone is of the year 2000 to SQLite, and digits are days.
            let expected = seconds.is_some() && text.contains('-');
            assert_eq!(is_date(text), expected, "{text:?}: {seconds:?}");
        }
    }
}
