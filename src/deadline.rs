//! A moment by which work must be done, and durations as users write them.
//!
//! Monotonic: no wall clock is read. A deadline is made once and passed down; no callee makes a longer one.

use std::time::{Duration, Instant};

/// A moment on the monotonic clock.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// Far enough in practice, near enough that adding it never overflows.
const MAX_SPAN: Duration = Duration::from_secs(366 * 24 * 3600);

impl Deadline {
    /// `span` from now; longer than a year counts as a year.
    pub fn within(span: Duration) -> Self {
        Deadline::after(Instant::now(), span)
    }

    /// `span` after `start`; longer than a year counts as a year.
    pub fn after(start: Instant, span: Duration) -> Self {
        Deadline(start + span.min(MAX_SPAN))
    }

    /// The earlier of this deadline and `span` from now.
    pub fn or_within(self, span: Duration) -> Self {
        self.min(Deadline::within(span))
    }

    /// The share of the first of `count` attempts in what is left: one that hangs leaves the others theirs.
    pub fn share_of(self, count: usize) -> Self {
        self.or_within(self.left() / u32::try_from(count.max(1)).unwrap_or(u32::MAX))
    }

    /// This deadline, `span` earlier.
    pub fn earlier_by(self, span: Duration) -> Self {
        Deadline(self.0.checked_sub(span).unwrap_or(self.0))
    }

    /// The moment.
    pub fn moment(self) -> Instant {
        self.0
    }

    /// What is left, zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// What is left as a socket's timeout; `None` when nothing is.
    pub fn socket_timeout(self) -> Option<Duration> {
        socket_timeout(self.left())
    }

    /// True when nothing is left.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Never less than a millisecond: sockets count in whole microseconds, some calls in milliseconds, and what is cut to
/// zero there means "no timeout".
fn socket_timeout(left: Duration) -> Option<Duration> {
    (!left.is_zero()).then(|| left.max(Duration::from_millis(1)))
}

/// The limit to set on a server when `left` is left: a little less, so that its own answer arrives first and the session
/// stays usable, on a busy machine too. A tenth up to 20 ms, a twentieth up to 100 ms.
pub fn server_limit(left: Duration) -> Duration {
    let early = (left / 10).min(Duration::from_millis(20)).max((left / 20).min(Duration::from_millis(100)));
    left - early
}

/// Reads `500ms`, `10s`, `5m`, `1h`, `1.5s`; a bare number is seconds (`docs/configuration.md`). At most a year.
///
/// # Errors
/// A sentence with examples of durations.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => f64::NAN,
    };
    match number.parse::<f64>().map(|value| value * factor) {
        Ok(seconds) if seconds.is_finite() && seconds <= MAX_SPAN.as_secs_f64() => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(seconds) if seconds.is_finite() => {
            Err(format!("{text:?} is longer than 366 days, the longest duration"))
        }
        _ => Err(format!("{text:?} is not a duration: write 500ms, 10s, 5m, 1h or a number of seconds")),
    }
}

/// The text that [`parse_duration`] reads, in the largest unit that leaves a whole number.
pub fn duration_text(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match seconds {
        _ if millis != u128::from(seconds) * 1000 => format!("{millis}ms"),
        0 => "0s".to_owned(),
        _ if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_users_write_them() {
        let cases = [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("60", 60_000),
            ("1.5s", 1500),
            ("0", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "1e300", "NaN", "inf", "10 parsecs", "1.2.3s", "99999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "1ms", "1500ms", "59s", "90s", "2m", "1h", "25h"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_servers_limit_comes_a_little_before_ours() {
        for (left, limit) in [(10_000, 9900), (1000, 950), (400, 380), (100, 90), (0, 0)] {
            assert_eq!(server_limit(Duration::from_millis(left)), Duration::from_millis(limit), "{left}");
        }
        assert!(server_limit(Duration::MAX) < Duration::MAX);
    }

    #[test]
    fn the_last_moment_before_a_deadline_is_not_unlimited_for_a_socket() {
        for left in [Duration::from_nanos(1), Duration::from_nanos(999), Duration::from_micros(999)] {
            assert_eq!(socket_timeout(left), Some(Duration::from_millis(1)), "{left:?}");
        }
        assert_eq!(socket_timeout(Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(socket_timeout(Duration::ZERO), None);
        assert_eq!(Deadline::within(Duration::ZERO).socket_timeout(), None);
    }

    #[test]
    fn a_deadline_only_gets_nearer() {
        let far = Deadline::within(Duration::from_secs(60));
        assert!(far.or_within(Duration::from_secs(1)) < far);
        assert_eq!(far.or_within(Duration::from_secs(3600)), far);
        assert!(!far.passed());
        assert!(Deadline::within(Duration::ZERO).passed());
        assert!(!Deadline::within(Duration::MAX).passed());
    }
}
