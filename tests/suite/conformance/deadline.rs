//! Queries past their deadline: they end, in the server too, and harm no other.

use std::time::{Duration, Instant};

use sql_exporter::error::Reason;

use crate::process::{bound, poll};

use super::bench::{Bench, LONG, Query};
use super::subject::Subject;

/// A scrape's deadline that leaves the statement most of its time on a busy machine too, where the way to the server takes
/// longer.
const SCRAPE: Duration = Duration::from_secs(1);
/// After the answer a second session sees no statement of ours.
const STOPPED: Duration = Duration::from_millis(200);
/// A statement that runs on after its deadline is found out long before it would end by itself.
const BOUND: Duration = Duration::from_secs(10);

/// Each of `endless` runs for a minute at least. It ends at its own timeout and at the scrape's deadline, in
/// twenty of twenty runs, in the server too.
pub(super) fn ends<S: Subject>(endless: &[&str]) {
    let subject = S::fresh();
    let mut seen_running = 0;
    for turn in 0..20 {
        let sql = endless[turn % endless.len()];
        let by_timeout = turn % 4 < 2;
        let query = Query::new("endless", sql);
        let query = if by_timeout { query.with("timeout: 300ms") } else { query };
        let queries = [query, Query::new("quick", "SELECT 1 AS value")];
        let bench = Bench::new(&subject.entry(&[("max_connections", "1")]), &queries);
        assert_eq!(bench.only("quick").value("quick"), 1.0);
        let budget = if by_timeout { LONG } else { SCRAPE };
        let seen = std::thread::scope(|scope| {
            let scrape = scope.spawn(|| bench.only_within("endless", budget));
            let mut found = false;
            while !scrape.is_finished() {
                found |= subject.is_running(&bench);
            }
            seen_running += usize::from(found);
            scrape.join().expect("a page")
        });
        seen.failed("endless", Reason::Timeout);
        assert!(seen.took < BOUND, "{sql}: {:?}", seen.took);
        let took = seen.own("query_duration_seconds", "endless").expect("how long it took");
        assert!(took < BOUND.as_secs_f64(), "{sql}: {took} s");
        // Nothing ended it before. The page's time counts from the request; the query may begin later, on a busy machine.
        let (whole, least) = if by_timeout { (took, 0.2) } else { (seen.took.as_secs_f64(), 0.7) };
        assert!(whole >= least, "{sql}: {whole} s");
        let answered = Instant::now();
        poll(sql, BOUND, || (!subject.is_running(&bench)).then_some(()));
        let took = answered.elapsed();
        assert!(took < bound(STOPPED), "turn {turn}, {sql}: stopped {took:?} after the answer");
        // The target's only lane is free again: at once after a timeout of the query's own, soon after it was left
        // behind by a scrape, which finds it `wedged` until then.
        let quick = || bench.only("quick").is_good("quick");
        if by_timeout { assert!(quick()) } else { poll("the lane", BOUND, || quick().then_some(())) }
    }
    assert!(seen_running > 0, "no statement was ever seen to run: that none runs afterwards proves nothing");
}

/// `sql` is quick while the table `pace` says 0 and endless while it says `slow`. Its neighbours, on one session and
/// in one batch with it, are good in the same scrape.
pub(super) fn spares<S: Subject>(sql: &str, slow: u32) {
    let subject = S::fresh();
    subject.run("CREATE TABLE pace (seconds INT);\nINSERT INTO pace VALUES (0)");
    let queries = [
        Query::new("before", "SELECT 1 AS value"),
        Query::new("struck", sql).with("timeout: 300ms"),
        Query::new("after", "SELECT 2 AS value"),
    ];
    let bench = Bench::new(&subject.entry(&[("max_connections", "1")]), &queries);
    for _ in 0..5 {
        subject.run("UPDATE pace SET seconds = 0");
        // The first makes all of them known as quick, so that the next hands them over together.
        for _ in 0..2 {
            assert!(bench.scrape().good("before").good("struck").good("after").up());
        }
        subject.run(&format!("UPDATE pace SET seconds = {slow}"));
        let seen = bench.scrape();
        seen.failed("struck", Reason::Timeout);
        assert_eq!((seen.value("before"), seen.value("after")), (1.0, 2.0));
    }
}
