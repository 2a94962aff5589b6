//! Schedules of cron: how often they run something. Queries run when Prometheus scrapes, so the clock time is lost and the
//! pause between two runs is what an `interval` can say.

use std::time::Duration;

use super::durations;
use super::section::Section;
use crate::deadline::duration_text;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// How long a result of queries with the schedule under a key is reused; one that is not a schedule is reported.
pub(super) fn interval(section: &Section<'_>, key: &str) -> Option<String> {
    let pause = section.parsed(key, "a schedule: the queries run at every scrape", shortest_pause)?;
    section.note(
        key,
        "the clock times of the schedule are not kept: a scrape reuses a result as long as the shortest pause between two",
    );
    Some(duration_text(pause))
}

/// The shortest pause between two runs; `None` for what is not a schedule.
fn shortest_pause(schedule: &str) -> Option<Duration> {
    let schedule = schedule.trim();
    let seconds = match schedule {
        "@hourly" => 60 * MINUTE,
        "@daily" | "@midnight" => DAY,
        "@weekly" => 7 * DAY,
        "@monthly" => 28 * DAY,
        "@yearly" | "@annually" => 365 * DAY,
        _ => match schedule.strip_prefix("@every ") {
            Some(pause) => return durations::parse(pause),
            None => of_fields(schedule)?,
        },
    };
    Some(Duration::from_secs(seconds))
}

/// Of the five fields, behind a time zone.
fn of_fields(schedule: &str) -> Option<u64> {
    let is_zone = |word: &&str| word.starts_with("TZ=") || word.starts_with("CRON_TZ=");
    let words: Vec<&str> = schedule.split_whitespace().skip_while(is_zone).collect();
    let [minutes, hours, day, month, weekday] = words.as_slice() else { return None };
    let (minutes, hours) = (values(minutes, 0, 59)?, values(hours, 0, 23)?);
    let is_of_a_day = |c: char| c.is_ascii_alphanumeric() || "*?,-/#".contains(c);
    if ![day, month, weekday].iter().all(|field| field.chars().all(is_of_a_day)) {
        return None;
    }
    let times = || hours.iter().flat_map(|hour| minutes.iter().map(move |minute| hour * 60 + minute));
    let first = times().next()?;
    // The first one of the next day ends the last pause.
    let ends = times().skip(1).chain([first + 24 * 60]);
    let pause = times().zip(ends).map(|(start, end)| end - start).min()?;
    let is_any = |field: &str| matches!(field, "*" | "?");
    let is_one = |field: &str| !is_any(field) && field.chars().all(char::is_alphanumeric);
    Some(match () {
        () if times().count() > 1 => u64::from(pause) * MINUTE,
        () if is_one(weekday) && is_any(day) => 7 * DAY,
        () if is_one(day) && is_any(weekday) => 28 * DAY,
        () => DAY,
    })
}

/// The values of a field, in their order.
fn values(field: &str, least: u32, most: u32) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None if matches!(range, "*" | "?") => (least, most),
            None => {
                let first = range.parse().ok()?;
                (first, if step.is_some() { most } else { first })
            }
        };
        let step = step.map_or(Some(1), |step| step.parse().ok()).filter(|step| *step > 0)?;
        if first < least || last > most || first > last {
            return None;
        }
        values.extend((first..=last).step_by(step));
        values.sort_unstable();
        values.dedup();
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::duration_text;

    #[test]
    fn a_schedule_is_its_shortest_pause() {
        for (schedule, pause) in [
            ("* * * * *", "1m"),
            ("*/5 * * * *", "5m"),
            ("0 * * * *", "1h"),
            ("0,20 * * * *", "20m"),
            ("50,0 0 * * *", "50m"),
            ("0 */6 * * *", "6h"),
            ("5 22,1 * * *", "3h"),
            ("5/20 9-17 * * 1-5", "20m"),
            ("0 0 * * *", "24h"),
            ("CRON_TZ=Europe/Berlin 30 3 * * ?", "24h"),
            ("0 3 * * sun", "168h"),
            ("0 3 1 * *", "672h"),
            ("0 3 1,15 * *", "24h"),
            ("@hourly", "1h"),
            ("@every 1h30m", "90m"),
        ] {
            assert_eq!(shortest_pause(schedule).map(duration_text).as_deref(), Some(pause), "{schedule}");
        }
    }

    #[test]
    fn what_is_not_a_schedule_is_none() {
        for text in [
            "",
            "5m",
            "* * * *",
            "61 * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "@often",
            "* * * * (",
        ] {
            assert_eq!(shortest_pause(text), None, "{text}");
        }
    }
}
