//! A target that suffers beside three that are well, and what the exporter holds meanwhile.

use std::time::{Duration, Instant};

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::Exporter;
use crate::process::wait_for;
use crate::servers::{MariaDb, Postgres};

/// A target that is to suffer, called `sick`, beside three that are well.
pub(super) struct Ward {
    pub(super) exporter: Exporter,
    base: Base,
}

/// What the exporter holds when all is well.
#[derive(Debug, Clone, Copy)]
struct Base {
    threads: usize,
    descriptors: usize,
    sessions: f64,
}

/// Threads of lanes that an outage may leave behind for the half minute for which they wait for more to do.
const IDLE_LANES: usize = 12;

/// One session, so that the number of sessions is known.
pub(super) const CONNECT: &str = "connect_timeout: 2s, max_connections: 1";

/// The configuration: `sql` on the sick target, a constant on the others.
pub(super) fn config(entry: &str, sql: &str) -> String {
    let (postgres, mariadb) = (Postgres::fresh("ward"), MariaDb::fresh("ward"));
    format!(
        "databases:\n  sick: {entry}\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: shop.db, max_connections: 1}}\nqueries:\n\
         - {{name: sick_one, database: sick, sql: \"{sql}\", metrics: [{{name: sick_one}}]}}\n\
         - {{name: sick_two, database: sick, sql: SELECT 2 AS value, metrics: [{{name: sick_two}}]}}\n\
         - {{name: well, databases: [pg, my, lite], sql: SELECT 3 AS value, metrics: [{{name: well}}]}}\n",
        postgres.entry_with("max_connections: 1"),
        mariadb.entry_with("max_connections: 1")
    )
}

impl Ward {
    pub(super) fn open(entry: &str) -> Self {
        Ward::of(setup(&config(entry, "SELECT 1 AS value")).serve())
    }

    pub(super) fn of(exporter: Exporter) -> Self {
        let ward = Ward { base: Base { threads: 0, descriptors: 0, sessions: 0.0 }, exporter };
        // The second page finds every session open.
        assert!((0..2).all(|_| ward.page("5").is_good()), "{}", ward.exporter.log());
        Ward { base: ward.held(), ..ward }
    }

    fn held(&self) -> Base {
        let process = format!("/proc/{}", self.exporter.pid());
        let count =
            |folder: &str| std::fs::read_dir(format!("{process}/{folder}")).map_or(0, Iterator::count);
        let page = checked(self.exporter.get("/-/metrics").text());
        let sessions = page.series("sql_exporter_sessions").iter().map(|row| row.value).sum();
        Base { threads: count("task"), descriptors: count("fd"), sessions }
    }

    pub(super) fn page(&self, seconds: &str) -> Seen {
        let began = Instant::now();
        let reply = self.exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]);
        let (page, took) = (checked(reply.text()), began.elapsed());
        let log = self.exporter.log();
        assert!(took < Duration::from_secs(seconds.parse().expect("seconds")), "{took:?}: {log}");
        for target in ["pg", "my", "lite"] {
            assert_eq!(page.value("well", &[("target", target)]), Some(3.0), "{target}: {log}");
            assert_eq!(
                page.value("sql_exporter_target_up", &[("target", target)]),
                Some(1.0),
                "{target}: {log}"
            );
        }
        Seen(page)
    }

    /// Two pages of the outage, each in so many seconds: the others are good, the sick one fails for one of these reasons.
    pub(super) fn suffers(&self, seconds: &str, reasons: &[&str]) {
        for _ in 0..2 {
            let seen = self.page(seconds);
            for query in ["sick_one", "sick_two"] {
                let reason = seen.reason(query);
                assert!(reasons.contains(&&*reason), "{query}: {reason}\n{}", self.exporter.log());
                assert!(seen.0.series(query).is_empty());
            }
        }
    }

    /// After the recovery: the first page that is not held back is good, and nothing is held any more.
    pub(super) fn recovers(&self) {
        // And until the server has ended what it went on with.
        wait_for("the end of the back-off", || {
            let seen = self.page("5");
            let backoff = seen.0.value("sql_exporter_target_backoff_seconds", &[("target", "sick")]);
            (backoff == Some(0.0) && !seen.is_wedged()).then_some(())
        });
        let seen = self.page("5");
        let failures = seen.0.series("sql_exporter_query_failure_reason");
        assert!(seen.is_good(), "{failures:?}\n{}", self.exporter.log());
        self.holds_no_more(IDLE_LANES);
    }

    /// What the outage cost is given back, but for so many threads that wait for more to do.
    pub(super) fn holds_no_more(&self, idle: usize) {
        let mut last = self.base;
        let limit = Duration::from_secs(60);
        let is_base = || {
            let (held, base) = (self.held(), self.base);
            last = held;
            let late =
                checked(self.exporter.get("/-/metrics").text()).value("sql_exporter_late_workers", &[]);
            held.threads <= base.threads + idle
                && held.descriptors <= base.descriptors
                && held.sessions <= base.sessions
                && late == Some(0.0)
        };
        let began = Instant::now();
        let mut is_base = is_base;
        while !is_base() {
            if began.elapsed() > limit {
                let page = self.exporter.get("/-/metrics").text().to_owned();
                let sessions: Vec<&str> =
                    page.lines().filter(|row| row.starts_with("sql_exporter_sessions{")).collect();
                panic!("before the outage {:?}, after it {last:?}: {sessions:#?}", self.base);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(super) struct Seen(pub(super) Page);

impl Seen {
    pub(super) fn is_good(&self) -> bool {
        let value = |name| self.0.value(name, &[("target", "sick")]);
        value("sick_one") == Some(1.0) && value("sick_two") == Some(2.0)
    }

    /// Sessions go on in the server.
    fn is_wedged(&self) -> bool {
        let rows = self.0.series("sql_exporter_query_failure_reason");
        rows.iter().any(|row| row.labels["reason"] == "wedged")
    }

    /// The one reason for which a query fails.
    pub(super) fn reason(&self, query: &str) -> String {
        let rows = self.0.series("sql_exporter_query_failure_reason");
        let found: Vec<_> = rows.iter().filter(|row| row.labels["query"] == query).collect();
        assert_eq!(found.len(), 1, "{query}: {rows:?}");
        found[0].labels["reason"].clone()
    }
}
