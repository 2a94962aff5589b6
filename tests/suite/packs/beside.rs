//! compat/postgres_exporter beside Debian's prometheus-postgres-exporter on the same server, where nothing else happens:
//! the same families, types, label names, series and values, but for what differs on purpose or moves.

use std::process::{Child, Command, Stdio};

use crate::checker::{Page, Sample, checked};
use crate::process::{end, free_port, mortal, wait_for};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

use super::scrape;

/// Families of 0.11 that 0.20, whose names the pack has, does not have by default; and those of the exporter itself.
/// `*` stands for any end.
const ABSENT: &[(&str, &str)] = &[
    ("pg_exporter_*", "of that exporter itself"),
    ("pg_scrape_collector_*", "of that exporter itself"),
    ("pg_up", "of the file's key `up`, not of a query"),
    ("pg_stat_database_active_time", "pg_stat_database_active_time_seconds_total in 0.20"),
    ("pg_stat_database_checksum_*", "not in 0.20"),
    ("pg_stat_database_conflicts_confl_*", "not in 0.20"),
    ("pg_stat_database_idle_in_transaction_time", "not in 0.20"),
    ("pg_stat_database_session*", "not in 0.20"),
    ("pg_stat_replication_reply_time", "not in 0.20"),
];

/// Families whose series differ, or whose values move.
const DIFFERENT: &[(&str, &str)] = &[
    ("pg_stat_activity_*", "0.20 has more labels"),
    ("pg_locks_count", "each exporter sees its own locks"),
    ("pg_settings_extra_float_digits", "there the setting of the exporter's own session, here the server's"),
    ("pg_settings_tcp_keepalives_*", "there the settings of the exporter's own session, here the server's"),
    ("pg_stat_archiver_last_archive_age", "an age"),
    ("pg_stat_bgwriter_buffers_*", "asking moves it"),
    ("pg_stat_database_stats_reset", "there cut to seconds in another way"),
];

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |stem| name.starts_with(stem))
}

fn listed(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(pattern, reason)| !reason.is_empty() && fits(pattern, name))
}

/// Label names and values without those that say which server or target it is.
fn labels(sample: &Sample) -> Vec<(&str, &str)> {
    let pairs = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    pairs.filter(|(name, _)| !matches!(*name, "server" | "target")).collect()
}

/// Rows that the pack leaves out or that asking moves: shared objects have no database, and both ask `shop`.
fn moves(sample: &Sample) -> bool {
    let database = sample.labels.get("datname").map(String::as_str);
    sample.name.starts_with("pg_stat_database_") && matches!(database, Some("" | "shop"))
}

/// Debian's exporter.
struct Debian {
    child: Child,
    port: u16,
}

impl Debian {
    fn start(access: &Postgres) -> Self {
        let Postgres { port: server, password, database } = access;
        let port = free_port();
        let mut command = mortal(None, "prometheus-postgres-exporter");
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let source =
            format!("postgresql://postgres:{password}@127.0.0.1:{server}/{database}?sslmode=disable");
        command
            .env("DATA_SOURCE_NAME", source)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is part of util-linux");
        let exporter = Debian { child, port };
        wait_for("prometheus-postgres-exporter", || exporter.page());
        exporter
    }

    /// Its page, once it has one of the server.
    fn page(&self) -> Option<Page> {
        let address = format!("http://127.0.0.1:{}/metrics", self.port);
        let output = Command::new("curl").args(["-sf", &address]).output().expect("curl runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let ours: String = text.split_inclusive('\n').filter(|line| line.contains("pg_")).collect();
        let page = checked(&ours);
        (page.value("pg_up", &[]) == Some(1.0)).then_some(page)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
    }
}

/// What differs beyond the lists.
fn differences(theirs: &Page, ours: &Page) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, kind) in theirs.types.iter().filter(|(name, _)| name.starts_with("pg_")) {
        match ours.types.get(name) {
            Some(our_kind) if our_kind != kind => faults.push(format!("{name} is {our_kind}, not {kind}")),
            None if !listed(ABSENT, name) => faults.push(format!("{name} is absent")),
            _ => {}
        }
    }
    let compared = |sample: &&Sample| {
        ours.types.contains_key(&sample.name) && !listed(DIFFERENT, &sample.name) && !moves(sample)
    };
    for sample in theirs.samples.iter().filter(compared) {
        match ours.value(&sample.name, &labels(sample)) {
            Some(value) if (value - sample.value).abs() <= 1e-9 * sample.value.abs() => {}
            value => {
                faults.push(format!("{}{:?}: {value:?}, not {}", sample.name, labels(sample), sample.value))
            }
        }
    }
    faults
}

#[test]
fn the_pack_says_what_debians_postgres_exporter_says() {
    let server = OwnPostgres::start(&["autovacuum=off", "archive_mode=on", "archive_command=/bin/true"]);
    let access = server.access();
    access.run("CREATE DATABASE shop; ");
    let shop = Postgres { database: "shop".to_owned(), ..access.clone() };
    shop.run(
        "CREATE TABLE orders (id serial PRIMARY KEY, note text); \
         INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 1000); DELETE FROM orders WHERE id > 900; \
         SELECT count(*) FROM orders WHERE id = 1; ANALYZE orders",
    );
    shop.run("SELECT pg_create_physical_replication_slot('spare', true)");
    access.run("SELECT pg_switch_wal()");
    let archived = "SELECT 1 FROM pg_stat_archiver WHERE archived_count > 0";
    wait_for("an archived file", || access.client().query_opt(archived, &[]).expect("asked"));
    let debian = Debian::start(&shop);
    let both = || (debian.page().expect("a page"), scrape(&shop.entry(), "compat/postgres_exporter"));
    // The server itself writes a little WAL now and then: a second look tells what moved from what differs.
    let (theirs, ours) = (0..3)
        .map(|_| both())
        .find(|(theirs, ours)| differences(theirs, ours).is_empty())
        .unwrap_or_else(both);
    assert_eq!(differences(&theirs, &ours), [""; 0]);
    let compared = theirs.samples.iter().filter(|sample| ours.types.contains_key(&sample.name)).count();
    assert!(compared > 400, "{compared}");
    for (name, _) in DIFFERENT {
        assert!(ours.types.keys().any(|ours| fits(name, ours)), "{name} is not on our page");
    }
}
