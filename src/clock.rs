//! When something happened, in Unix time that stays correct when the wall clock is set.
//!
//! The monotonic clock alone decides which of two moments is later and how old one is. The wall clock is only for what
//! people and Prometheus see.

use std::time::{Duration, Instant, SystemTime};

/// How far the wall clock may differ from the monotonic one before it counts as set. Gradual corrections apply to both.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A moment of the past on both clocks, in the order of the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    at: Instant,
    /// The wall clock at that moment.
    wall: SystemTime,
}

impl Timestamp {
    /// Now.
    pub fn now() -> Timestamp {
        Timestamp::new(Instant::now(), SystemTime::now())
    }

    /// The moment `at`, when the wall clock showed `wall`.
    pub fn new(at: Instant, wall: SystemTime) -> Timestamp {
        Timestamp { at, wall }
    }

    /// How long ago it was.
    pub fn age(self) -> Duration {
        self.at.elapsed()
    }

    /// The time from `earlier` to this moment; zero where that was not earlier.
    pub fn since(self, earlier: Instant) -> Duration {
        self.at.saturating_duration_since(earlier)
    }

    /// Seconds since the Unix epoch.
    pub fn unix_seconds(self) -> f64 {
        let moment = self.wall_as_of(Timestamp::now());
        moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64())
    }

    /// True when both clocks advanced equally from this moment to `later`: the wall clock was not set, and the machine did
    /// not sleep.
    pub fn agrees_with(self, later: Timestamp) -> bool {
        let expected = self.wall + later.at.saturating_duration_since(self.at);
        let apart = |one: SystemTime, other: SystemTime| one.duration_since(other).unwrap_or_default();
        apart(later.wall, expected).max(apart(expected, later.wall)) <= TOLERANCE
    }

    /// The wall-clock time of this moment as seen from `now`: what the clock showed then, unless it was ahead and has been
    /// set back since. (A clock that was set forward looks like a machine that slept.)
    fn wall_as_of(self, now: Timestamp) -> SystemTime {
        let age = now.at.saturating_duration_since(self.at);
        let by_age = now.wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.wall.duration_since(by_age).is_ok_and(|ahead| ahead > TOLERANCE) { by_age } else { self.wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000
    }

    #[test]
    fn a_clock_that_was_ahead_leaves_nothing_in_the_future() {
        let start = Instant::now();
        let ahead = Timestamp::new(start, noon() + DAY);
        let now = Timestamp::new(start + HOUR, noon() + HOUR);
        assert_eq!(ahead.wall_as_of(now), noon());
        assert_eq!(
            ahead.wall_as_of(Timestamp::new(start + HOUR, noon() + DAY + HOUR)),
            noon() + DAY,
            "not set yet"
        );
    }

    #[test]
    fn small_corrections_a_clock_set_forward_and_a_machine_that_slept_change_nothing() {
        let start = Instant::now();
        let then = Timestamp::new(start, noon());
        for (passed, shown) in [(HOUR, HOUR - TOLERANCE / 2), (HOUR, HOUR + DAY), (Duration::ZERO, DAY)] {
            assert_eq!(then.wall_as_of(Timestamp::new(start + passed, noon() + shown)), noon());
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_in_both_directions() {
        let (start, hour) = (Instant::now(), noon() + HOUR);
        let then = Timestamp::new(start, noon());
        let runs_on = |wall| then.agrees_with(Timestamp::new(start + HOUR, wall));
        assert!(runs_on(hour) && runs_on(hour + TOLERANCE) && runs_on(hour - TOLERANCE));
        assert!(!runs_on(hour + TOLERANCE * 2) && !runs_on(hour - TOLERANCE * 2));
    }

    #[test]
    fn the_later_of_two_moments_is_so_by_the_monotonic_clock() {
        let start = Instant::now();
        let (ahead, right) = (Timestamp::new(start, noon() + DAY), Timestamp::new(start + HOUR, noon()));
        assert_eq!(ahead.max(right), right);
    }
}
