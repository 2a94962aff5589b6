//! How a server writes values as text, where they cannot be asked for in binary: in the simple protocol, and for money.
//!
//! The settings are the administrator's, as they decide what the user's own SQL computes. A value whose style does not
//! tell it exactly is not read.

/// The columns that tell the styles, in the order of [`TextStyles::read`]. A unit of money shows how many decimal places
/// the server's locale has.
pub(super) const COLUMNS: &str = "pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('IntervalStyle'), \
                                  1::pg_catalog.money";
/// So many they are.
pub(super) const COUNT: u16 = 3;

/// The question for a unit of money alone.
pub(super) const MONEY: &str = "SELECT 1::pg_catalog.money";

/// The styles of a session, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TextStyles {
    dates: Option<String>,
    intervals: Option<String>,
    /// Decimal places of money.
    money: Option<usize>,
}

/// How intervals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intervals {
    /// `1 day 02:03:04`.
    Postgres,
    /// `P1DT2H3M4S`.
    Iso,
}

impl TextStyles {
    /// From the values of [`COLUMNS`].
    pub(super) fn read(dates: &str, intervals: &str, unit: &str) -> Self {
        let some = |text: &str| Some(text.to_owned());
        TextStyles { dates: some(dates), intervals: some(intervals), money: Some(places(unit)) }
    }

    /// Where only money is read as text.
    pub(super) fn of_money(unit: &str) -> Self {
        TextStyles { money: Some(places(unit)), ..TextStyles::default() }
    }

    /// True where dates and timestamps are written as `2026-01-02 03:04:05+01`.
    pub(super) fn has_iso_dates(&self) -> bool {
        self.dates.as_deref().is_some_and(|style| style.starts_with("ISO"))
    }

    /// How intervals are written, where they can be read.
    pub(super) fn intervals(&self) -> Option<Intervals> {
        match self.intervals.as_deref()? {
            "postgres" => Some(Intervals::Postgres),
            "iso_8601" => Some(Intervals::Iso),
            _ => None,
        }
    }

    /// Decimal places of money, where they are known.
    pub(super) fn money_digits(&self) -> Option<usize> {
        self.money
    }

    /// `DateStyle German, DMY`, for messages.
    pub(super) fn shown_dates(&self) -> String {
        format!("DateStyle {}", self.dates.as_deref().unwrap_or("is not known"))
    }

    /// `IntervalStyle sql_standard`, for messages.
    pub(super) fn shown_intervals(&self) -> String {
        format!("IntervalStyle {}", self.intervals.as_deref().unwrap_or("is not known"))
    }
}

/// `$1.00` has two decimal places, `1 ¥` none.
fn places(unit: &str) -> usize {
    unit.bytes().filter(u8::is_ascii_digit).count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_money_shows_its_decimal_places() {
        for (unit, expected) in [("$1.00", 2), ("1,00 kr.", 2), ("\u{a5}1", 0), ("1.000", 3), ("", 0)] {
            assert_eq!(TextStyles::of_money(unit).money_digits(), Some(expected), "{unit}");
        }
    }

    #[test]
    fn only_styles_that_tell_a_value_exactly_are_read() {
        let styles = |dates, intervals| TextStyles::read(dates, intervals, "1.00");
        assert!(styles("ISO, DMY", "").has_iso_dates() && !styles("SQL, DMY", "").has_iso_dates());
        assert_eq!(styles("", "postgres").intervals(), Some(Intervals::Postgres));
        assert_eq!(styles("", "postgres_verbose").intervals(), None);
        assert_eq!(TextStyles::default().intervals(), None);
    }
}
