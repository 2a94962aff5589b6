//! The judge that counts: a real Prometheus scrapes one exporter with all three databases.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

use crate::exporter::Setup;
use crate::process::{end, folder, free_port, mortal, variable, wait_for};
use crate::servers::MariaDb;
use crate::servers::own::OwnPostgres;
use crate::web_client::{exchange, request};

/// A running Prometheus that scrapes one address every second; killed at drop.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn scraping(exporter: SocketAddr) -> Self {
        Prometheus::scraping_all(&[("sql", exporter)])
    }

    /// Scrapes each address as a job of this name.
    fn scraping_all(jobs: &[(&str, SocketAddr)]) -> Self {
        let job = |(name, address): &(&str, SocketAddr)| {
            format!("- {{job_name: {name}, static_configs: [{{targets: ['{address}']}}]}}\n")
        };
        Prometheus::with_jobs(&jobs.iter().map(job).collect::<String>())
    }

    /// Runs these `scrape_configs`.
    pub(crate) fn with_jobs(jobs: &str) -> Self {
        let config = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}");
        Prometheus::with_files(&config, &[])
    }

    /// Runs a whole configuration, with files that it names beside it.
    pub(crate) fn with_files(config: &str, files: &[(String, String)]) -> Self {
        let folder = folder();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file can be written");
        }
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
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// What the API answers under a path; null while Prometheus starts.
    pub(crate) fn get(&self, path: &str) -> Value {
        if std::net::TcpStream::connect(self.address).is_err() {
            return Value::Null;
        }
        // HTTP/1.0, so that the answer does not come in chunks.
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let answer = exchange(self.address, request.as_bytes());
        let text = String::from_utf8_lossy(&answer);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
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

/// Takes connections on a port of its own and asks the exporter in the place of each client, but for text alone.
fn text_only(exporter: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("a port");
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            // A scrape's head comes in one piece; what it says but for its path does not matter here.
            let Ok(1..) = client.read(&mut head) else { continue };
            let reply = request(exporter, "GET", "/metrics", &[("Accept", "text/plain;version=0.0.4")]);
            assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            let length = reply.body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&reply.body));
        }
    });
    address
}

/// Expressions over every type, and what they are.
const OF_EVERY_TYPE: &[(&str, &str)] = &[
    ("stock{item=\"né 💚\"}", "-2.5"),
    ("disk_bytes{kind=\"free\"}", "+Inf"),
    ("sold_total", "12345678901234567000"),
    ("busy_seconds_total", "0.5"),
    ("requests", "7"),
    ("what", "1"),
    ("raw_seconds_bucket{verb=\"a\",le=\"1.0\"}", "2"),
    ("raw_seconds_sum{verb=\"a\"}", "0.75"),
    ("raw_seconds_count{verb=\"b\"}", "1"),
    ("histogram_quantile(0.5, raw_seconds_bucket{verb=\"a\"})", "0.1"),
    ("histogram_quantile(0.5, columns_bucket)", "0.55"),
    ("by_row_bucket{verb=\"a\",le=\"0.5\"}", "1"),
    ("below_zero_bucket{le=\"-1.0\"}", "1"),
    ("age_seconds_gsum", "55"),
    ("age_seconds_gcount", "2"),
    ("histogram_quantile(1, age_seconds_bucket)", "100"),
    ("took_seconds{verb=\"a\",quantile=\"0.99\"}", "1"),
    ("took_seconds_sum{verb=\"a\"}", "12.5"),
    ("took_seconds_count{verb=\"b\"}", "0"),
    ("db_info{version=\"3.45\"}", "1"),
    ("job_state{id=\"1\",job_state=\"busy\"}", "1"),
    ("job_state{id=\"1\",job_state=\"idle\"}", "0"),
    ("db_aborted_total", "2"),
];

#[test]
fn prometheus_reads_the_same_numbers_of_every_type_from_both_formats() {
    let exporter = crate::formats::all();
    let jobs = [("open", exporter.address()), ("text", text_only(exporter.address()))];
    let prometheus = Prometheus::scraping_all(&jobs);
    for (expression, expected) in OF_EVERY_TYPE {
        let found = wait_for(expression, || {
            let found = prometheus.query(expression);
            (found.len() == 2).then_some(found)
        });
        for one in found {
            let (job, value) = (&one["metric"]["job"], &one["value"][1]);
            let same = value == expected || close(value.as_str(), expected);
            assert!(same, "{expression} of {job}: {value}, not {expected}");
        }
    }
}

/// A quantile is worked out by Prometheus, with an error of its own.
fn close(value: Option<&str>, expected: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    let pair = value.and_then(number).zip(number(expected));
    pair.is_some_and(|(one, other)| (one - other).abs() < 1e-9 * other.abs().max(1.0))
}
