//! Sessions and servers that die.

use sql_exporter::error::Reason;

use crate::process::wait_for;

use super::bench::{Bench, Query};
use super::subject::Subject;

/// The target is down for `reason` in the scrape after its server was killed, and up in the one after its return.
pub(super) fn server_killed<S: Subject>(reason: Reason) {
    let mut subject = S::own(&[]);
    let bench = Bench::new(&subject.entry(&[]), &[Query::new("q", "SELECT 1 AS value")]);
    for _ in 0..2 {
        let seen = bench.scrape();
        assert!(seen.up() && seen.value("q") == 1.0);
        subject.kill();
        for _ in 0..2 {
            let seen = bench.scrape();
            assert!(!seen.up(), "{}", seen.text);
            seen.failed("q", reason);
        }
        subject.restart();
    }
    let seen = bench.scrape();
    assert!(seen.up() && seen.value("q") == 1.0);
}

/// Sessions that died between two scrapes cost nothing: the second is as good as the first.
pub(super) fn dead_while_idle<S: Subject>() {
    let subject = S::fresh();
    let queries = ["p", "q", "r"].map(|name| Query::new(name, "SELECT 1 AS value"));
    let bench = Bench::new(&subject.entry(&[]), &queries);
    for _ in 0..3 {
        let seen = bench.scrape();
        assert!(seen.good("p").good("q").good("r").up());
        // A page may leave before the sessions that made it are back.
        wait_for("idle sessions", || {
            (bench.sessions("idle") > 0.0 && bench.sessions("busy") == 0.0).then_some(())
        });
        subject.end_idle_sessions();
    }
}
