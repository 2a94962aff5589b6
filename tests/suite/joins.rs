//! Scrapes that meet on one slow query: who shares a run, whose deadline counts, and who may go away.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::checker::{Page, checked};
use crate::exporter::Exporter;
use crate::process::wait_for;
use crate::scrape::success;
use crate::servers::Postgres;
use crate::web_client::connect;

/// A target whose one query runs for two seconds, and who sees it run.
struct Slow {
    exporter: Exporter,
    watch: postgres::Client,
}

impl Slow {
    fn new(module: &str) -> Self {
        let server = Postgres::fresh(module);
        let sql = "SELECT 1 AS value FROM (SELECT pg_sleep(2)) AS joins_mark";
        let exporter = Exporter::serve(&format!(
            "databases:\n  db: {}\nqueries: [{{name: q, sql: {sql}, metrics: [{{name: q_value}}]}}]\n",
            server.entry()
        ));
        Slow { exporter, watch: server.client() }
    }

    fn running(&mut self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() \
                   AND query LIKE '%joins_mark%' AND pid <> pg_backend_pid()";
        self.watch.query_one(sql, &[]).expect("a count").get(0)
    }

    fn wait_for_runs(&mut self, count: i64) {
        wait_for("the query to run", || (self.running() == count).then_some(()));
    }
}

/// One page under a scrape timeout of so many seconds, and how long it took.
fn within(exporter: &Exporter, seconds: &str) -> (Page, Duration) {
    let began = Instant::now();
    let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]);
    (checked(reply.text()), began.elapsed())
}

#[test]
fn a_scraper_with_much_more_time_is_not_cut_at_the_time_of_another() {
    let mut slow = Slow::new("joins_patient");
    std::thread::scope(|scope| {
        let exporter = &slow.exporter;
        let hasty = scope.spawn(|| within(exporter, "1"));
        let watch = &mut slow.watch;
        wait_for("the first run", || {
            let sql = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%joins_mark%' \
                       AND datname = current_database() AND pid <> pg_backend_pid()";
            watch.query_opt(sql, &[]).expect("an answer").map(drop)
        });
        let patient = scope.spawn(|| within(exporter, "8"));
        let (page, took) = hasty.join().expect("a page");
        assert_eq!(success(&page, "db", "q"), Some(0.0));
        assert!(took < Duration::from_secs(1), "{took:?}");
        let (page, took) = patient.join().expect("a page");
        assert_eq!(success(&page, "db", "q"), Some(1.0), "{}", exporter.log());
        assert!(took >= Duration::from_secs(2), "{took:?}: it has a run of its own");
    });
}

#[test]
fn a_joiner_with_little_time_leaves_on_time_and_the_run_goes_on() {
    let mut slow = Slow::new("joins_hasty");
    let address = slow.exporter.address();
    std::thread::scope(|scope| {
        let owner = scope.spawn(move || {
            let header = [("X-Prometheus-Scrape-Timeout-Seconds", "8")];
            checked(crate::web_client::request(address, "GET", "/metrics", &header).text())
        });
        slow.wait_for_runs(1);
        let (page, took) = within(&slow.exporter, "1");
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(success(&page, "db", "q"), Some(0.0));
        assert_eq!(slow.running(), 1, "it had joined the one run, which goes on");
        assert_eq!(success(&owner.join().expect("a page"), "db", "q"), Some(1.0));
    });
}

#[test]
fn an_owner_that_goes_away_does_not_end_the_run_for_others() {
    let mut slow = Slow::new("joins_owner");
    let mut owner = connect(slow.exporter.address());
    owner
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 8\r\n\r\n")
        .expect("the request is sent");
    slow.wait_for_runs(1);
    let address = slow.exporter.address();
    std::thread::scope(|scope| {
        let joiner = scope.spawn(move || {
            let header = [("X-Prometheus-Scrape-Timeout-Seconds", "8")];
            let began = Instant::now();
            let reply = crate::web_client::request(address, "GET", "/metrics", &header);
            (checked(reply.text()), began.elapsed())
        });
        wait_for("the joiner", || {
            let page = checked(slow.exporter.get("/-/metrics").text());
            (page.value("sql_exporter_runs_joined_total", &[]) == Some(1.0)).then_some(())
        });
        drop(owner);
        assert_eq!(slow.running(), 1);
        let (page, _) = joiner.join().expect("a page");
        assert_eq!(success(&page, "db", "q"), Some(1.0), "{}", slow.exporter.log());
    });
}
