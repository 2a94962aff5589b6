//! The judge that counts: a real Prometheus scrapes one exporter with all three databases.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::exporter::Setup;
use crate::process::{end, folder, free_port, mortal, variable, wait_for};
use crate::servers::MariaDb;
use crate::servers::own::OwnPostgres;
use crate::web_client::exchange;

/// A running Prometheus that scrapes one address every second; killed at drop.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn scraping(exporter: SocketAddr) -> Self {
        let folder = folder();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: sql, static_configs: [{{targets: ['{exporter}']}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("a file can be written");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = mortal(None, &variable("TEST_PROMETHEUS"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"]);
        command.arg(format!("--web.listen-address={address}")).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is part of util-linux");
        Prometheus { child, address, _folder: folder }
    }

    /// The API's answer to an instant query: `data.result`. Empty while Prometheus starts.
    fn query(&self, expression: &str) -> Vec<Value> {
        if std::net::TcpStream::connect(self.address).is_err() {
            return Vec::new();
        }
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        // HTTP/1.0, so that the answer does not come in chunks.
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        let answer = exchange(self.address, request.as_bytes());
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Every sample of one series of the last minutes: when (Unix seconds) and what.
    fn samples(&self, series: &str) -> Vec<(f64, String)> {
        let result = self.query(&format!("{series}[5m]"));
        assert!(result.len() < 2, "{series} is several series: {result:?}");
        let values = result.first().and_then(|series| series["values"].as_array());
        let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.to_owned()));
        values.into_iter().flatten().filter_map(sample).collect()
    }

    /// What the series were when scraped after `moment`.
    fn since(&self, series: &str, moment: f64) -> Vec<String> {
        let later = |(when, value): (f64, String)| (when > moment).then_some(value);
        self.samples(series).into_iter().filter_map(later).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

fn answer(target: &str) -> String {
    format!("answer{{target=\"{target}\"}}")
}

fn up(target: &str) -> String {
    format!("sql_exporter_target_up{{target=\"{target}\"}}")
}

const QUERIES: &str = "
queries:
  - name: answer
    databases: ['*']
    sql: SELECT value FROM answer
    metrics: [{name: answer, help: The answer.}]
";

/// The three databases hold 1, 2 and 3.
fn three_databases(postgres: &OwnPostgres, mariadb: &MariaDb) -> Setup {
    postgres.access().run("CREATE TABLE answer (value int); INSERT INTO answer VALUES (1)");
    mariadb.run("CREATE TABLE answer (value int);\nINSERT INTO answer VALUES (2);\n");
    let databases = format!(
        "databases:\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: lite.db}}\n",
        postgres.access().entry(),
        mariadb.entry()
    );
    let setup = Setup::new(&format!("{databases}{QUERIES}"));
    let lite = rusqlite::Connection::open(setup.path().join("lite.db")).expect("a file can be made");
    lite.execute_batch("CREATE TABLE answer (value int); INSERT INTO answer VALUES (3);")
        .expect("SQLite writes");
    setup
}

#[test]
fn prometheus_sees_three_databases_and_one_of_them_die_and_return() {
    let mut postgres = OwnPostgres::start(&[]);
    let exporter = three_databases(&postgres, &MariaDb::fresh("prometheus")).serve();
    let prometheus = Prometheus::scraping(exporter.address());

    for (target, value) in [("pg", "1"), ("my", "2"), ("lite", "3")] {
        let samples = wait_for("two scrapes", || {
            let samples = prometheus.since(&answer(target), 0.0);
            (samples.len() >= 2).then_some(samples)
        });
        assert!(samples.iter().all(|sample| sample == value), "{target}: {samples:?}");
    }

    postgres.kill();
    let killed = now();
    let after = wait_for("three scrapes without PostgreSQL", || {
        let after = prometheus.since(&up("pg"), killed);
        (after.len() >= 3).then_some(after)
    });
    // The first scrape that began after the kill says so already, and each one until it returns.
    assert!(after.iter().all(|sample| sample == "0"), "{after:?}");
    assert!(prometheus.since(&answer("pg"), killed).is_empty());
    for (target, value) in [("my", "2"), ("lite", "3")] {
        let fresh = prometheus.since(&answer(target), killed);
        assert!(fresh.len() >= 2 && fresh.iter().all(|sample| sample == value), "{target}: {fresh:?}");
        assert!(prometheus.since(&up(target), 0.0).iter().all(|sample| sample == "1"), "{target} was not up");
    }

    postgres.restart();
    let returned = now();
    wait_for("PostgreSQL to be good again", || {
        let up = prometheus.since(&up("pg"), returned).contains(&"1".to_owned());
        let good = prometheus.since(&answer("pg"), returned).contains(&"1".to_owned());
        (up && good).then_some(())
    });
}
