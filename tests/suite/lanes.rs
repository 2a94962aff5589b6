//! Lanes: how many queries run at once, that none is idle while there is work, and that sick targets do not hold up
//! healthy ones. Times are bounds with slack; `EXACT_TIMES=1` holds the claims themselves, on a quiet machine.

use std::time::{Duration, Instant, SystemTime};

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::Exporter;
use crate::process::bound;
use crate::proxy::{Mode, Proxy};
use crate::servers::Postgres;

/// One page in which every query is good, and how long it took.
fn whole_page(exporter: &Exporter) -> (Page, Duration) {
    let began = Instant::now();
    let page = checked(&exporter.metrics());
    let took = began.elapsed();
    let failed: Vec<_> =
        page.series("sql_exporter_query_success").into_iter().filter(|row| row.value != 1.0).collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", exporter.log());
    (page, took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Queries of these many milliseconds on one target. Their sleep is cast, so that the value is a number.
fn sleepers(server: &Postgres, more: &str, times: &[u64]) -> Exporter {
    let query = |(n, ms): (usize, &u64)| {
        let sql = format!("SELECT 1 AS value FROM (SELECT pg_sleep({ms} / 1000.0)) AS lanes_mark");
        format!("  - {{name: q{n}, sql: '{sql}', metrics: [{{name: q{n}_value}}]}}\n")
    };
    let queries: String = times.iter().enumerate().map(query).collect();
    Exporter::serve(&format!("databases:\n  db: {}\nqueries:\n{queries}", server.entry_with(more)))
}

/// The median of three pages of eight queries of half a second, and the most that ran at once.
fn eight_halves(module: &str, more: &str) -> (Duration, i64) {
    let server = Postgres::fresh(module);
    let mut watch = server.client();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() \
                 AND query LIKE '%lanes_mark%' AND pid <> pg_backend_pid()";
    let exporter = sleepers(&server, more, &[500; 8]);
    // The first opens the sessions and learns how long each query takes.
    whole_page(&exporter);
    let mut most = 0;
    let times = (0..3).map(|_| {
        std::thread::scope(|scope| {
            let scrape = scope.spawn(|| whole_page(&exporter).1);
            while !scrape.is_finished() {
                most = most.max(watch.query_one(count, &[]).expect("a count").get(0));
                std::thread::sleep(Duration::from_millis(20));
            }
            scrape.join().expect("a page")
        })
    });
    (median(times.collect()), most)
}

#[test]
fn eight_queries_of_half_a_second_take_as_long_as_one_on_eight_lanes() {
    let (took, at_once) = eight_halves("lanes8", "max_connections: 8");
    assert!(took < bound(Duration::from_millis(530)), "{took:?}");
    assert_eq!(at_once, 8);
}

#[test]
fn eight_queries_of_half_a_second_take_as_long_as_three_on_three_lanes() {
    let (took, at_once) = eight_halves("lanes3", "connect_timeout: 3s");
    assert!(took < bound(Duration::from_millis(1550)), "{took:?}");
    assert_eq!(at_once, 3, "the default of max_connections");
}

#[test]
fn fifty_queries_of_10_to_400_ms_keep_three_lanes_busy_to_the_end() {
    // In an order that has nothing to do with their length; 37 and 50 have no common factor.
    let times: Vec<u64> = (0..50).map(|n| 10 + (n * 37 % 50) * 390 / 49).collect();
    let exporter = sleepers(&Postgres::fresh("lanes50"), "connect_timeout: 3s", &times);
    whole_page(&exporter);
    let (_, took) = whole_page(&exporter);
    let ideal = Duration::from_millis(times.iter().sum::<u64>() / 3);
    assert!(took < bound(ideal.mul_f64(1.3)), "{took:?}, ideal {ideal:?}");
}

#[test]
fn a_hundred_black_holed_targets_do_not_hold_up_a_hundred_healthy_ones() {
    let hole = Proxy::before(Postgres::shared("postgres").port);
    hole.set(Mode::Swallow);
    let mut config = "databases:\n".to_owned();
    for n in 0..100 {
        let port = hole.port();
        config.push_str(&format!(
            "  hole{n}: {{driver: postgres, host: 127.0.0.1, port: {port}, username: u}}\n"
        ));
        config.push_str(&format!("  good{n}: {{driver: sqlite, database: shop.db}}\n"));
    }
    let sql = "SELECT (julianday() - 2440587.5) * 86400.0 AS value";
    let exporter = setup(&format!(
        "{config}queries:\n\
         - {{name: when, databases: ['good*'], sql: '{sql}', metrics: [{{name: ran_seconds}}]}}\n\
         - {{name: lost, databases: ['hole*'], sql: SELECT 1 AS value, metrics: [{{name: lost}}]}}\n"
    ))
    .serve();
    // The holes are one server, with its share of the workers.
    // A scrape takes as long as a hole does, so that the first back-offs are over at the next.
    for turn in 0..4 {
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")]);
        let page = checked(reply.text());
        let ran = page.series("ran_seconds");
        assert!(ran.len() == 100, "scrape {turn}: {} of 100\n{}", ran.len(), exporter.log());
        let latest = ran.iter().map(|row| row.value - began.as_secs_f64()).fold(0.0, f64::max);
        let allowed = bound(Duration::from_millis(500)).as_secs_f64();
        assert!(latest < allowed, "scrape {turn}: the last healthy one ran after {latest} s");
        assert!(page.series("lost").is_empty());
    }
}
