//! The last scrapes of a target as a small drawing, and the same in words.

use std::fmt::Write as _;
use std::time::Duration;

use crate::engine::scrape_times::{PastScrape, REMEMBERED, ScrapeTimes};

use super::render::span;

/// From one bar to the next.
const STEP: usize = 4;
const WIDTH: usize = STEP * REMEMBERED;
const HEIGHT: u32 = 26;
/// What the tallest bar takes of it; above are the dots of those that failed.
const TALLEST: u32 = 20;
/// One scrape in ten may be cut: it has the full height where it took more than so many times the longest of the others.
const MOST_TIMES: f64 = 4.0;

/// `0 0 240 26`
pub(super) fn view_box() -> String {
    format!("0 0 {WIDTH} {HEIGHT}")
}

/// The paths of an SVG: the outline of the good scrapes as bars side by side, to be filled, and a line for each that
/// failed, with a dot at the top. The newest is at the right; the longest has the full height, the others their part of it.
/// One slow scrape does not flatten the others.
pub(super) fn paths(times: &ScrapeTimes) -> [String; 2] {
    let scrapes: Vec<PastScrape> = times.iter().collect();
    let sorted = sorted(times);
    let longest_but = |count: usize| sorted.iter().rev().nth(count).map_or(0.0, Duration::as_secs_f64);
    let tallest = longest_but(0).min(MOST_TIMES * longest_but(sorted.len().div_ceil(10)));
    // No scrape took any time: all bars are of the least height.
    let tallest = tallest.max(f64::MIN_POSITIVE);
    let left = WIDTH - STEP * scrapes.len();
    let (mut good, mut failed) = (format!("M{left} {HEIGHT}"), String::new());
    for (index, scrape) in scrapes.iter().enumerate() {
        let height = bar_height(scrape.took.as_secs_f64() / tallest);
        // Writing to a string does not fail.
        let _ = if scrape.failed {
            let middle = left + STEP * index + STEP / 2;
            write!(failed, "M{middle} {HEIGHT}v-{height}M{middle} 0v3")
                .and_then(|()| write!(good, "V{HEIGHT}h{STEP}"))
        } else {
            write!(good, "V{}h{STEP}", HEIGHT - height)
        };
    }
    let _ = write!(good, "V{HEIGHT}");
    [good, failed]
}

/// At least one pixel: the scrape was there.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to TALLEST")]
fn bar_height(part: f64) -> u32 {
    (part * f64::from(TALLEST)).round().clamp(1.0, f64::from(TALLEST)) as u32
}

fn sorted(times: &ScrapeTimes) -> Vec<Duration> {
    let mut sorted: Vec<Duration> = times.iter().map(|scrape| scrape.took).collect();
    sorted.sort_unstable();
    sorted
}

/// `last scrape 12 ms; of the last 60 scrapes: min 8.1 ms, median 10 ms, max 1.2 s; 2 failed (dotted)`
pub(super) fn in_words(times: &ScrapeTimes) -> Option<String> {
    let last = times.last()?;
    let sorted = sorted(times);
    let at = |index: usize| sorted.get(index).copied().map(span).unwrap_or_default();
    let count = match sorted.len() {
        1 => "1 scrape".to_owned(),
        count => format!("the last {count} scrapes"),
    };
    let mut text = format!(
        "last scrape {}; of {count}: min {}, median {}, max {}",
        span(last.took),
        at(0),
        at(sorted.len() / 2),
        at(sorted.len() - 1)
    );
    let failed = times.iter().filter(|scrape| scrape.failed).count();
    if failed > 0 {
        let _ = write!(text, "; {failed} failed (dotted)");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[(u64, bool)]) -> ScrapeTimes {
        let mut times = ScrapeTimes::default();
        for &(millis, failed) in millis {
            times.push(PastScrape { took: Duration::from_millis(millis), failed });
        }
        times
    }

    #[test]
    fn the_newest_is_at_the_right_and_the_longest_has_the_full_height() {
        let [good, failed] = paths(&times(&[(10, false), (1000, true), (500, false)]));
        assert_eq!(good, "M228 26V25h4V26h4V16h4V26");
        assert_eq!(failed, "M234 26v-20M234 0v3");
        assert_eq!(paths(&ScrapeTimes::default()), ["M240 26V26", ""]);
        assert_eq!(paths(&times(&[(0, false)]))[0], "M236 26V25h4V26", "no time at all");
    }

    #[test]
    fn one_slow_scrape_does_not_flatten_the_others() {
        let [good, _] = paths(&times(&[(30_000, false), (20, false), (10, false), (20, false), (40, false)]));
        assert_eq!(good, "M220 26V6h4V23h4V25h4V23h4V21h4V26");
    }

    #[test]
    fn it_says_the_same_in_words() {
        assert_eq!(in_words(&ScrapeTimes::default()), None);
        let one = in_words(&times(&[(12, false)])).unwrap();
        assert_eq!(one, "last scrape 12 ms; of 1 scrape: min 12 ms, median 12 ms, max 12 ms");
        let three = in_words(&times(&[(30, false), (2000, true), (10, false)])).unwrap();
        assert_eq!(
            three,
            "last scrape 10 ms; of the last 3 scrapes: min 10 ms, median 30 ms, max 2.0 s; 1 failed (dotted)"
        );
    }

    #[test]
    fn sixty_failures_are_drawn_in_two_kilobytes() {
        let [good, failed] = paths(&times(&[(10_000, true); 100]));
        assert!(failed.starts_with("M2 26v-20M2 0v3M6 26v-20M6 0v3"), "{failed}");
        assert!(good.len() + failed.len() < 2048, "{}", good.len() + failed.len());
    }
}
