//! Values in PostgreSQL's binary format, which no setting of a session changes.
//!
//! Source: the `…send` functions of `src/backend/utils/adt`. Each function returns `None` for bytes that are not a value.

use crate::value::Cell;

use super::datetime;

/// Days from 1970-01-01 to PostgreSQL's own first day, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const SECOND: i64 = 1_000_000;
/// A day in microseconds.
const DAY: i64 = 86_400 * SECOND;

const INFINITE: Cell<'static> = Cell::Float(f64::INFINITY);
const MINUS_INFINITE: Cell<'static> = Cell::Float(f64::NEG_INFINITY);

/// A `date`.
pub(super) fn date(bytes: &[u8]) -> Option<Cell<'static>> {
    Some(match i32::from_be_bytes(bytes.try_into().ok()?) {
        i32::MAX => INFINITE,
        i32::MIN => MINUS_INFINITE,
        days => Cell::Date(i64::from(days) + EPOCH_DAYS),
    })
}

/// A `time`.
pub(super) fn time(bytes: &[u8]) -> Option<Cell<'static>> {
    Some(Cell::Time(i64::from_be_bytes(bytes.try_into().ok()?)))
}

/// A `timetz`, as the time of day it is then in UTC.
pub(super) fn time_with_zone(bytes: &[u8]) -> Option<Cell<'static>> {
    let (local, west) = bytes.split_at_checked(8)?;
    let local = i64::from_be_bytes(local.try_into().ok()?);
    let west = i64::from(i32::from_be_bytes(west.try_into().ok()?)) * SECOND;
    // In UTC it may be the day before or after; `24:00:00` of UTC itself stays.
    Some(Cell::Time(if west == 0 { local } else { local.checked_add(west)?.rem_euclid(DAY) }))
}

/// A `timestamp` or `timestamptz`.
pub(super) fn timestamp(bytes: &[u8], zoned: bool) -> Option<Cell<'static>> {
    Some(match i64::from_be_bytes(bytes.try_into().ok()?) {
        i64::MAX => INFINITE,
        i64::MIN => MINUS_INFINITE,
        micros => datetime::moment(i128::from(micros) + i128::from(EPOCH_DAYS * DAY), zoned),
    })
}

/// An `interval`.
pub(super) fn interval(bytes: &[u8]) -> Option<Cell<'static>> {
    let (micros, rest) = bytes.split_at_checked(8)?;
    let (days, months) = rest.split_at_checked(4)?;
    let micros = i64::from_be_bytes(micros.try_into().ok()?);
    let days = i32::from_be_bytes(days.try_into().ok()?);
    let months = i32::from_be_bytes(months.try_into().ok()?);
    // Infinite since PostgreSQL 17.
    Some(match (months, days, micros) {
        (i32::MAX, i32::MAX, i64::MAX) => INFINITE,
        (i32::MIN, i32::MIN, i64::MIN) => MINUS_INFINITE,
        _ => Cell::Interval { months, days, micros },
    })
}

/// A `real`.
pub(super) fn float4(bytes: &[u8]) -> Option<Cell<'static>> {
    Some(Cell::Float32(f32::from_be_bytes(bytes.try_into().ok()?)))
}

/// A `double precision`.
pub(super) fn float8(bytes: &[u8]) -> Option<Cell<'static>> {
    Some(Cell::Float(f64::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments_count_from_2000_and_may_be_infinite() {
        assert_eq!(date(&0_i32.to_be_bytes()), Some(Cell::Date(EPOCH_DAYS)));
        assert_eq!(date(&i32::MAX.to_be_bytes()), Some(INFINITE));
        assert_eq!(date(&i32::MIN.to_be_bytes()), Some(MINUS_INFINITE));
        let stamp = |micros: i64| timestamp(&micros.to_be_bytes(), true);
        let micros = 946_684_800 * SECOND + 1;
        assert_eq!(stamp(1), Some(Cell::DateTime { micros, zoned: true }));
        assert_eq!(stamp(i64::MIN), Some(MINUS_INFINITE));
        assert_eq!(stamp(i64::MAX - 1), Some(Cell::Float(9_224_318_721_654.776)));
    }

    #[test]
    fn a_time_with_a_zone_is_that_of_utc() {
        let bytes = |hours: i64, west: i32| {
            [(hours * 3600 * SECOND).to_be_bytes().as_slice(), &west.to_be_bytes()].concat()
        };
        assert_eq!(time_with_zone(&bytes(1, -7200)), Some(Cell::Time(23 * 3600 * SECOND)));
        assert_eq!(time_with_zone(&bytes(24, 0)), Some(Cell::Time(DAY)));
        assert_eq!(time(&DAY.to_be_bytes()), Some(Cell::Time(DAY)));
    }

    #[test]
    fn an_interval_has_three_parts() {
        let bytes = |micros: i64, days: i32, months: i32| {
            [micros.to_be_bytes().as_slice(), &days.to_be_bytes(), &months.to_be_bytes()].concat()
        };
        assert_eq!(interval(&bytes(-5, 3, 14)), Some(Cell::Interval { months: 14, days: 3, micros: -5 }));
        assert_eq!(interval(&bytes(i64::MAX, i32::MAX, i32::MAX)), Some(INFINITE));
        assert_eq!(interval(&bytes(i64::MIN, i32::MIN, i32::MIN)), Some(MINUS_INFINITE));
    }

    #[test]
    fn bytes_of_another_length_are_not_a_value() {
        for bytes in [&b""[..], b"123", b"123456789", b"12345678901234567"] {
            for read in
                [date, time, time_with_zone, interval, float4, float8, |bytes: &_| timestamp(bytes, false)]
            {
                assert_eq!(read(bytes), None, "{bytes:?}");
            }
        }
        assert_eq!(float8(&0.1_f64.to_be_bytes()), Some(Cell::Float(0.1)));
        assert_eq!(float4(&0.1_f32.to_be_bytes()), Some(Cell::Float32(0.1)));
    }
}
