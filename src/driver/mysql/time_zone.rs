//! The session's time zone: from a date or time as the server writes it to the Unix time that its own `UNIX_TIMESTAMP`
//! returns in that session.
//!
//! An offset is exact, and so is a name whose rules are compiled in. `SYSTEM` has no name that could be asked for, so it
//! is read as the offset that the server has now, as far back as it did not change. Each of the three is compared with
//! the server's own `UNIX_TIMESTAMP` for every month from 1970 to 2039 ([`question`]); a time outside the months that
//! agree has no Unix time. Knows no connection.

use std::ops::{Range, RangeInclusive};

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::value::{LocalTimeError, UnixMicros};

/// A row of the answer to [`question`]: a year, and for the 15th of each month how many seconds its midnight is east of
/// UTC; `None` where the server's function does not reach.
pub(super) type YearOffsets = (i16, [Option<i64>; 12]);

/// Asks for the zone and [`YearOffsets`] in each row. The years 2050 and 2200 tell how far `UNIX_TIMESTAMP` reaches.
pub(super) fn question() -> String {
    let mut sql = "SELECT @@time_zone, y".to_owned();
    for month in 1..=12 {
        let date = format!("y*10000+{}", month * 100 + 15);
        sql += &format!(
            ", TIMESTAMPDIFF(SECOND, '1970-01-01', {date})-CAST(NULLIF(UNIX_TIMESTAMP({date}), 0) AS SIGNED)"
        );
    }
    let numbers = |numbers: RangeInclusive<i64>| {
        let numbers: Vec<String> = numbers.map(|number| format!("SELECT {number} AS n")).collect();
        numbers.join(" UNION ALL ")
    };
    sql += &format!(
        " FROM (SELECT tens.n*10+ones.n AS y FROM ({}) AS tens CROSS JOIN ({}) AS ones \
         UNION ALL SELECT 2050 UNION ALL SELECT 2200) AS years ORDER BY y",
        numbers(197..=203),
        numbers(0..=9)
    );
    sql
}

/// The server's own bound.
const MAX_NAME_BYTES: usize = 64;

/// The years that are compared.
const YEARS: RangeInclusive<i16> = 1970..=2039;

/// Every server converts times up to this year.
const LAST_YEAR_OF_ALL: i16 = 2037;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// How the times of one session are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionZone {
    /// The setting that keeps the session in this zone, whatever a function sets.
    setting: Option<String>,
    zone: TimeZone,
    /// The local times, in microseconds, for which `zone` agrees with the server.
    known: Range<i64>,
    range: TimestampRange,
}

/// An offset or a name; `None` for `SYSTEM` and for names that are not compiled in.
fn zone_named(name: &str) -> Option<TimeZone> {
    let compiled_in = TimeZoneDatabase::bundled();
    DateTimeParser::new().parse_time_zone_with(&compiled_in, name).ok()
}

/// Days from 1970-01-01.
pub(super) fn days_since_1970(day: Date) -> i64 {
    day.duration_since(date(1970, 1, 1)).as_hours() / 24
}

/// The Unix time of a local time in microseconds, as `UNIX_TIMESTAMP` counts. Where the clock is set forward, the times
/// that it skips mean the moment at which it is; where it is set back, a `DATETIME` means the first of the two times.
/// `of_timestamp`: the server stores the Unix time itself and knows which.
fn unix_time(zone: &TimeZone, local: i64, of_timestamp: bool) -> UnixMicros {
    let written = Timestamp::from_microsecond(local).map_err(|_| LocalTimeError::OutOfRange)?;
    let at = |offset: Offset| local - i64::from(offset.seconds()) * SECOND;
    match zone.to_ambiguous_timestamp(TimeZone::UTC.to_datetime(written)).offset() {
        AmbiguousOffset::Unambiguous { offset } => Ok(at(offset)),
        AmbiguousOffset::Fold { .. } if of_timestamp => Err(LocalTimeError::Twice),
        AmbiguousOffset::Fold { before, .. } => Ok(at(before)),
        AmbiguousOffset::Gap { before, .. } => {
            let after = Timestamp::from_microsecond(at(before) + SECOND);
            let set = after.ok().and_then(|after| zone.preceding(after).next());
            let set = set.ok_or(LocalTimeError::UnknownOffset)?.timestamp().as_second();
            Ok(set * SECOND + local.rem_euclid(SECOND))
        }
    }
}

/// The last second of `UNIX_TIMESTAMP`, which differs between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimestampRange {
    /// 2038-01-19: MariaDB before 11.5, MySQL before 8.0.28.
    Signed32,
    /// 2106-02-07: MariaDB since 11.5.
    Unsigned32,
    /// 3001-01-18: MySQL since 8.0.28.
    Far,
}

impl TimestampRange {
    fn last_second(self) -> i64 {
        match self {
            TimestampRange::Signed32 => i64::from(i32::MAX),
            TimestampRange::Unsigned32 => i64::from(u32::MAX),
            TimestampRange::Far => 32_536_771_199,
        }
    }

    /// Zero itself is a moment to all but the newer MariaDB; what lies between it and one second is not to MySQL.
    fn has(self, micros: i64) -> bool {
        let first = micros >= SECOND || (micros == 0 && self != TimestampRange::Unsigned32);
        first && micros.div_euclid(SECOND) <= self.last_second()
    }
}

impl SessionZone {
    /// A zone of which nothing is known.
    pub(super) fn unknown() -> Self {
        SessionZone { setting: None, zone: TimeZone::UTC, known: 0..0, range: TimestampRange::Signed32 }
    }

    /// The zone called `name`, with what the server answered to [`question`].
    pub(super) fn new(name: &str, answer: &[YearOffsets]) -> Self {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '/' | ':');
        let is_named = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_legal);
        let setting = is_named.then(|| format!("time_zone='{name}'"));
        let unknown = SessionZone { setting, ..SessionZone::unknown() };
        let Some(years) = answer.get(..70).filter(|years| years.iter().map(|(year, _)| *year).eq(YEARS))
        else {
            return unknown;
        };
        let reaches = |wanted: i16| {
            answer.iter().any(|(year, months)| *year == wanted && months.iter().all(Option::is_some))
        };
        let range = match (reaches(2050), reaches(2200)) {
            (true, true) => TimestampRange::Far,
            (true, false) => TimestampRange::Unsigned32,
            (false, _) => TimestampRange::Signed32,
        };
        let probes: Vec<(i64, Option<i64>)> = years.iter().flat_map(probes_of).collect();
        let end_of_all = days_since_1970(date(LAST_YEAR_OF_ALL + 1, 1, 1)) * DAY;
        let Some(last) = probes.iter().rposition(|(local, _)| *local < end_of_all) else { return unknown };
        // Without rules of its own it is what the server says now: the newest offset that every server tells.
        let now = || {
            let seconds = i32::try_from(probes.get(last)?.1?).ok()?;
            Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?))
        };
        let Some(zone) = zone_named(name).or_else(now) else { return unknown };
        let agrees = |(local, offset): &(i64, Option<i64>)| {
            offset.map(|offset| unix_time(&zone, *local, false) == Ok(local - offset * SECOND))
        };
        let (before, after) = probes.split_at(last + 1);
        let same = before.iter().rev().take_while(|probe| agrees(probe) == Some(true)).count();
        // A winter in which they agree by chance says nothing of the summers.
        let Some((first, _)) = before.iter().rev().take(same).next_back().filter(|_| same >= 12) else {
            return unknown;
        };
        // Before the first month there is nothing that the server converts.
        let first = if same == before.len() { i64::MIN } else { *first };
        let end = match after.iter().position(|probe| agrees(probe) == Some(false)) {
            None => i64::MAX,
            Some(differs) => probes.get(last + differs).map_or(0, |(local, _)| local + 1),
        };
        SessionZone { zone, known: first..end, range, ..unknown }
    }

    /// `time_zone='+05:00'`: the setting that keeps the session in this zone; `None` where its name is not known.
    pub(super) fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// True where no time of now has a moment.
    pub(super) fn is_unknown(&self) -> bool {
        self.known.is_empty()
    }

    /// The moment of a local time in microseconds; `of_timestamp` for the type `TIMESTAMP`.
    pub(super) fn moment(&self, local: i64, of_timestamp: bool) -> UnixMicros {
        let last = self.range.last_second() * SECOND;
        // In the west the first moment is one of 1969.
        if !(-DAY..last + DAY).contains(&local) {
            return Err(LocalTimeError::OutOfRange);
        }
        if !self.known.contains(&local) {
            // Within a day of the range's ends it depends on the offset whether there is a moment at all.
            let inside = (DAY..last - DAY).contains(&local);
            return Err(if inside { LocalTimeError::UnknownOffset } else { LocalTimeError::OutOfRange });
        }
        let micros = unix_time(&self.zone, local, of_timestamp)?;
        if self.range.has(micros) { Ok(micros) } else { Err(LocalTimeError::OutOfRange) }
    }
}

/// The local times of a year's answers in microseconds, and their offsets.
fn probes_of((year, months): &YearOffsets) -> impl Iterator<Item = (i64, Option<i64>)> + use<> {
    let year = *year;
    (1..).zip(*months).map(move |(month, offset)| (days_since_1970(date(year, month, 15)) * DAY, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server tells that is so many seconds east of UTC at a local time in microseconds, and ends with `last`.
    fn answer(east: impl Fn(i64) -> i64, last: TimestampRange) -> Vec<YearOffsets> {
        let offset = |local: i64| {
            let offset = east(local);
            (local / SECOND - offset <= last.last_second()).then_some(offset)
        };
        let months = |year| [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(|month| offset(at(year, month, 15)));
        YEARS.chain([2050, 2200]).map(|year| (year, months(year))).collect()
    }

    /// The same of a zone whose rules are known.
    fn by_rule(zone: &TimeZone) -> impl Fn(i64) -> i64 {
        |local| (local - unix_time(zone, local, false).unwrap()) / SECOND
    }

    fn at(year: i16, month: i8, day: i8) -> i64 {
        days_since_1970(date(year, month, day)) * DAY
    }

    #[test]
    fn an_offset_converts_what_the_server_reaches() {
        for (reach, last) in [
            (TimestampRange::Signed32, "2038-01-19"),
            (TimestampRange::Unsigned32, "2106-02-07"),
            (TimestampRange::Far, "3001-01-18"),
        ] {
            let zone = SessionZone::new("+05:30", &answer(|_| 19_800, reach));
            assert_eq!(zone.range, reach);
            let end = reach.last_second() * SECOND + 19_800 * SECOND;
            assert_eq!(zone.moment(end + 999_999, true), Ok(end + 999_999 - 19_800 * SECOND), "{last}");
            assert_eq!(zone.moment(end + SECOND, true), Err(LocalTimeError::OutOfRange), "{last}");
            assert_eq!(zone.moment(i64::MAX, false), Err(LocalTimeError::OutOfRange));
            assert_eq!(zone.moment(-1, false), Err(LocalTimeError::OutOfRange));
            assert_eq!(zone.moment(0, false), Err(LocalTimeError::OutOfRange), "1969 in UTC");
            assert_eq!(zone.moment(19_801 * SECOND, false), Ok(SECOND));
            assert_eq!(zone.moment(19_800 * SECOND, false).is_ok(), reach != TimestampRange::Unsigned32);
            assert_eq!(zone.moment(19_800 * SECOND + 1, false), Err(LocalTimeError::OutOfRange));
            assert_eq!(zone.setting(), Some("time_zone='+05:30'"));
            let west = SessionZone::new("-03:30", &answer(|_| -12_600, reach));
            for of_timestamp in [true, false] {
                assert_eq!(west.moment(-12_599 * SECOND, of_timestamp), Ok(SECOND));
                assert_eq!(west.moment(-12_601 * SECOND, of_timestamp), Err(LocalTimeError::OutOfRange));
            }
        }
        let fixed = TimeZone::fixed(Offset::from_seconds(-12_600).unwrap());
        assert_eq!(zone_named("-03:30"), Some(fixed));
        assert_eq!(zone_named("SYSTEM").or(zone_named("+5")).or(zone_named("")), None);
    }

    #[test]
    fn a_name_converts_by_its_rules_and_where_the_clock_is_set_as_the_server_does() {
        let berlin = zone_named("Europe/Berlin").unwrap();
        let zone = SessionZone::new("Europe/Berlin", &answer(by_rule(&berlin), TimestampRange::Far));
        assert_eq!(zone.moment(at(2026, 1, 2), true), Ok(at(2026, 1, 2) - 3600 * SECOND));
        assert_eq!(zone.moment(at(2026, 7, 2), true), Ok(at(2026, 7, 2) - 7200 * SECOND));
        // 2:30 is not there on 29 March; it comes twice on 25 October.
        let half_past_two = 9_000 * SECOND + 5;
        let set_forward = at(2026, 3, 29) + 3600 * SECOND;
        assert_eq!(zone.moment(at(2026, 3, 29) + half_past_two, false), Ok(set_forward + 5));
        let twice = at(2026, 10, 25) + half_past_two;
        assert_eq!(zone.moment(twice, false), Ok(twice - 7200 * SECOND));
        assert_eq!(zone.moment(twice, true), Err(LocalTimeError::Twice));
        // What is before and after it comes once.
        assert_eq!(zone.moment(twice + 3600 * SECOND, true), Ok(twice));
    }

    #[test]
    fn a_name_that_the_server_means_otherwise_is_not_converted() {
        // A server's tables that know no summer time.
        let zone = SessionZone::new("Europe/Berlin", &answer(|_| 3600, TimestampRange::Far));
        assert_eq!(zone.moment(at(2026, 1, 2), false), Err(LocalTimeError::UnknownOffset));
        assert!(zone.is_unknown());
        assert_eq!(
            zone.setting(),
            Some("time_zone='Europe/Berlin'"),
            "the session's zone stays all the same"
        );
        // MySQL's own tables end in 2037: what is later has no summer time there.
        let berlin = zone_named("Europe/Berlin").unwrap();
        let tell = |local: i64| if local < at(2038, 1, 1) { by_rule(&berlin)(local) } else { 3600 };
        let zone = SessionZone::new("Europe/Berlin", &answer(tell, TimestampRange::Far));
        assert!(zone.moment(at(2037, 7, 2), false).is_ok());
        assert_eq!(zone.moment(at(2040, 7, 2), false), Err(LocalTimeError::UnknownOffset));
    }

    #[test]
    fn the_servers_own_zone_is_known_as_far_back_as_its_offset_stayed() {
        let since_2017 = |local| if local < at(2017, 1, 1) { 7200 } else { 10_800 };
        for name in ["SYSTEM", "Our/Own"] {
            let zone = SessionZone::new(name, &answer(since_2017, TimestampRange::Signed32));
            assert_eq!(zone.moment(at(2026, 7, 2), true), Ok(at(2026, 7, 2) - 10_800 * SECOND));
            assert_eq!(zone.moment(at(2016, 7, 2), true), Err(LocalTimeError::UnknownOffset));
            assert!(!zone.is_unknown());
        }
        let always = SessionZone::new("SYSTEM", &answer(|_| 0, TimestampRange::Signed32));
        assert_eq!(always.moment(0, false), Ok(0));
        assert_eq!(always.moment(at(2040, 1, 1), false), Err(LocalTimeError::OutOfRange));
        // Summer time, and Morocco's month without it.
        let summer = |local: i64| if (local / DAY) % 365 > 180 { 3600 } else { 0 };
        assert!(SessionZone::new("SYSTEM", &answer(summer, TimestampRange::Far)).is_unknown());
        let ramadan = |local: i64| if local / DAY / 29 == 700 { 0 } else { 3600 };
        let zone = SessionZone::new("SYSTEM", &answer(ramadan, TimestampRange::Far));
        assert_eq!(zone.moment(at(2025, 1, 2), false), Err(LocalTimeError::UnknownOffset));
    }

    #[test]
    fn what_a_server_did_not_tell_is_not_guessed() {
        let whole = answer(|_| 0, TimestampRange::Far);
        let mut gap = whole.clone();
        gap.remove(7);
        for part in [&whole[..10], &whole[..0], &gap[..]] {
            let zone = SessionZone::new("+00:00", part);
            assert!(zone.is_unknown());
            assert_eq!(zone.moment(at(2026, 1, 2), false), Err(LocalTimeError::UnknownOffset));
        }
        assert_eq!(SessionZone::new("x' OR", &whole).setting(), None);
        assert_eq!(SessionZone::unknown().setting(), None);
    }
}
