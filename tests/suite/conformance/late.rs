//! Statements that do not end when they are told to.

use std::time::{Duration, Instant};

use super::bench::{Bench, LONG, Query};
use super::subject::Subject;
use crate::process::wait_for;

/// `sql` takes some seconds, whatever it is told. `count` counts the sessions of the server that run it: never more than
/// `max_connections`. While all of them go on the target is wedged; then it goes on.
pub(super) fn stubborn<S: Subject>(sql: &str, count: &str) {
    let subject = S::fresh();
    if subject.lacks(sql) {
        return;
    }
    let queries =
        [Query::new("stubborn", sql).with("timeout: 200ms"), Query::new("next", "SELECT 1 AS value")];
    let bench = Bench::new(&subject.entry(&[("max_connections", "1")]), &queries);
    let (start, mut wedged) = (Instant::now(), 0);
    while wedged < 3 && start.elapsed() < LONG {
        let seen = bench.only_within("stubborn", Duration::from_millis(500));
        assert!(!seen.is_good("stubborn"));
        wedged += usize::from(seen.text.contains("reason=\"wedged\""));
        let running: u32 = subject.ask(count).trim().parse().expect("a number");
        assert!(running <= 1 && bench.sessions("late") <= 1.0, "{running} sessions");
    }
    assert!(wedged > 0, "all sessions went on in the server, and the target was not wedged");
    wait_for("the target to go on", || bench.only("next").is_good("next").then_some(()));
    wait_for("no late session", || (bench.sessions("late") == 0.0).then_some(()));
}
