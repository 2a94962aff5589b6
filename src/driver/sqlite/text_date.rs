//! Dates that are kept as text, as SQLite's own date functions read them (<https://sqlite.org/lang_datefunc.html>).

/// True for `2026-01-02`, `2026-01-02 03:04`, `2026-01-02T03:04:05.5`, each with a zone or without: a text of which
/// `unixepoch` makes a number. A time without a date is not one.
pub(super) fn is_date(text: &str) -> bool {
    read(text.as_bytes()).is_some()
}

fn read(text: &[u8]) -> Option<()> {
    let mut rest = text;
    number(&mut rest, 4, 0..=9999)?;
    sign(&mut rest, b"-")?;
    number(&mut rest, 2, 1..=12)?;
    sign(&mut rest, b"-")?;
    number(&mut rest, 2, 1..=31)?;
    while sign(&mut rest, b" \tT").is_some() {}
    if rest.is_empty() {
        return Some(());
    }
    number(&mut rest, 2, 0..=24)?;
    sign(&mut rest, b":")?;
    number(&mut rest, 2, 0..=59)?;
    if sign(&mut rest, b":").is_some() {
        number(&mut rest, 2, 0..=59)?;
        if sign(&mut rest, b".").is_some() {
            sign(&mut rest, b"0123456789")?;
            while sign(&mut rest, b"0123456789").is_some() {}
        }
    }
    while sign(&mut rest, b" \t").is_some() {}
    if sign(&mut rest, b"Zz").is_none() && sign(&mut rest, b"+-").is_some() {
        number(&mut rest, 2, 0..=14)?;
        sign(&mut rest, b":")?;
        number(&mut rest, 2, 0..=59)?;
    }
    while sign(&mut rest, b" \t").is_some() {}
    rest.is_empty().then_some(())
}

/// One of these bytes; another one stays.
fn sign(rest: &mut &[u8], signs: &[u8]) -> Option<()> {
    let (first, after) = rest.split_first()?;
    if !signs.contains(first) {
        return None;
    }
    *rest = after;
    Some(())
}

/// So many digits, within a range.
fn number(rest: &mut &[u8], digits: usize, range: std::ops::RangeInclusive<u32>) -> Option<()> {
    let (head, after) = rest.split_at_checked(digits)?;
    let text =
        std::str::from_utf8(head).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    *rest = after;
    range.contains(&text.parse().ok()?).then_some(())
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
            let seconds: Option<i64> =
                connection.query_row("SELECT unixepoch(?1)", [text], |row| row.get(0)).unwrap();
            // A time alone is of the year 2000 to SQLite, and digits are days.
            let expected = seconds.is_some() && text.contains('-');
            assert_eq!(is_date(text), expected, "{text:?}: {seconds:?}");
        }
    }
}
