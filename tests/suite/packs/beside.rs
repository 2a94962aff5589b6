//! The compat packs beside Debian's exporters on the same servers, where nothing else happens: the same families, types,
//! label names, series and values, but for what differs on purpose or moves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};

use crate::checker::{Page, Sample, checked};
use crate::exporter::Setup;
use crate::judges::judge;
use crate::process::{end, free_port, mortal, wait_for};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

use super::scene_mysql;

/// Families by name, each with the reason; `*` stands for any text.
type List = &'static [(&'static str, &'static str)];

/// What is known to differ between an exporter and its pack.
struct Known {
    /// Families of theirs that the pack does not have.
    absent: List,
    /// Families whose series or values differ.
    different: List,
    /// Families that asking moves: their values are not compared, nor which series they have.
    moving: List,
}

/// 0.11 beside a pack with the names of 0.20.
const POSTGRES: Known = Known {
    absent: &[
        ("pg_scrape_collector_*", "of that exporter itself"),
        ("pg_stat_database_active_time", "pg_stat_database_active_time_seconds_total in 0.20"),
        ("pg_stat_database_checksum_*", "not in 0.20"),
        ("pg_stat_database_conflicts_confl_*", "not in 0.20"),
        ("pg_stat_database_idle_in_transaction_time", "not in 0.20"),
        ("pg_stat_database_session*", "not in 0.20"),
        ("pg_stat_replication_reply_time", "not in 0.20"),
    ],
    different: &[
        ("pg_stat_activity_*", "0.20 has more labels"),
        (
            "pg_settings_extra_float_digits",
            "there the setting of the exporter's own session, here the server's",
        ),
        (
            "pg_settings_tcp_keepalives_*",
            "there the settings of the exporter's own session, here the server's",
        ),
    ],
    moving: &[
        ("pg_exporter_last_scrape_*", "of the exporter itself"),
        ("pg_exporter_scrapes_total", "of the exporter itself"),
        ("pg_locks_count", "each exporter has its own locks"),
        ("pg_stat_archiver_last_archive_age", "an age"),
        ("pg_stat_bgwriter_buffers_*", "asking moves it"),
        ("pg_stat_database_stats_reset", "there cut to seconds in another way"),
    ],
};

/// 0.14 beside a pack with the names of 0.20.
const MYSQL: Known = Known {
    absent: &[
        ("mysql_exporter_collector_*", "of that exporter itself"),
        ("mysql_exporter_scrape*", "of that exporter itself"),
        ("mysqld_exporter_build_info", "of that exporter itself"),
        ("mysql_engine_innodb_*", "in a text that SQL cannot take apart"),
        ("mysql_info_schema_innodb_metrics_lock_lock_*", "a counter on MySQL and a gauge on MariaDB: off"),
        ("mysql_slave_status_gtid_io_pos", "before MariaDB 11.6 in SHOW only"),
        ("mysql_perf_schema_events_statements_cpu_time_seconds_total", "MariaDB has no such column"),
    ],
    different: &[("mysql_info_schema_table_*", "0.20 leaves the schema sys out")],
    moving: &[
        ("mysql_exporter_last_scrape_*", "of the exporter itself"),
        ("mysql_global_status_*", "most of them count what the exporters do"),
        ("mysql_info_schema_processlist_*", "each exporter sees the sessions of both"),
        ("mysql_info_schema_*_statistics_*", "they count what the exporters do"),
        ("mysql_info_schema_innodb_metrics_*", "they count what the exporters do"),
        ("mysql_info_schema_innodb_tablespace_*_size_bytes", "the temporary tablespace grows"),
        ("mysql_info_schema_*query_response_time*", "they count what the exporters do"),
        ("mysql_perf_schema_*", "they count what the exporters do"),
        ("mysql_sys_*", "they count what the exporters do"),
        ("mysql_heartbeat_now_timestamp_seconds", "a clock"),
    ],
};

fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('*')
}

fn listed(list: List, name: &str) -> bool {
    list.iter().any(|(pattern, reason)| !reason.is_empty() && fits(pattern, name))
}

/// One of Debian's exporters.
struct Debian {
    child: Child,
    port: u16,
    /// What the names of its families begin with, and the one that is 1 when it reached its server.
    prefix: &'static str,
}

impl Debian {
    fn start(program: &str, prefix: &'static str, source: &str, options: &[String]) -> Self {
        let port = free_port();
        let mut command = mortal(None, program);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(options);
        command
            .env("DATA_SOURCE_NAME", source)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is part of util-linux");
        let exporter = Debian { child, port, prefix };
        wait_for(program, || exporter.page());
        exporter
    }

    fn of_postgres(access: &Postgres) -> Self {
        let Postgres { port, password, database } = access;
        let source = format!("postgresql://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
        Self::start("prometheus-postgres-exporter", "pg_", &source, &[])
    }

    /// With all collectors that it has.
    fn of_mysql(access: &MariaDb) -> Self {
        let program = "prometheus-mysqld-exporter";
        let help = Command::new(program).arg("--help").output().expect("the exporter runs");
        let help = [help.stdout, help.stderr].concat();
        let help = String::from_utf8_lossy(&help);
        let words = help.split([' ', '\n']).map(|word| word.replace("[no-]", ""));
        let collectors: BTreeSet<String> = words
            .filter(|word| word.starts_with("--collect.") && !word.contains(['=', '"']))
            .filter(|word| word != "--collect.heartbeat.utc")
            .collect();
        assert!(collectors.len() > 20, "{collectors:?}");
        let source = format!("root:{}@(127.0.0.1:{})/", access.password, access.port);
        Self::start(program, "mysql", &source, &collectors.into_iter().collect::<Vec<_>>())
    }

    /// Its page, once it has one of the server.
    fn page(&self) -> Option<Page> {
        let address = format!("http://127.0.0.1:{}/metrics", self.port);
        let output = Command::new("curl").args(["-sf", &address]).output().expect("curl runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let of_server = |line: &&str| {
            let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            name.starts_with(self.prefix)
        };
        let page = checked(&text.split_inclusive('\n').filter(of_server).collect::<String>());
        let up = format!("{}_up", self.prefix.trim_end_matches('_'));
        (page.value(&up, &[]) == Some(1.0)).then_some(page)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
    }
}

type Series<'p> = (&'p str, Vec<(&'p str, &'p str)>);

/// A series without the labels that say which server or target it is, and without empty ones, which are none.
fn series(sample: &Sample) -> Series<'_> {
    let pairs = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept = pairs.filter(|(name, value)| !matches!(*name, "server" | "target") && !value.is_empty());
    (&sample.name, kept.collect())
}

/// What differs beyond the lists. A value counts that is the same on the pages of theirs before and after ours.
fn differences(known: &Known, before: &Page, ours: &Page, after: &Page) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, kind) in &after.types {
        match ours.types.get(name) {
            Some(our_kind) if our_kind != kind => faults.push(format!("{name} is {our_kind}, not {kind}")),
            None if !listed(known.absent, name) => faults.push(format!("{name} is absent")),
            _ => {}
        }
    }
    let first: BTreeMap<Series<'_>, f64> = before.samples.iter().map(|s| (series(s), s.value)).collect();
    let our: BTreeMap<Series<'_>, f64> = ours.samples.iter().map(|s| (series(s), s.value)).collect();
    let is_compared = |sample: &&Sample| {
        let stands = first.get(&series(sample)) == Some(&sample.value);
        let family = ours.types.contains_key(&sample.name);
        stands && family && !listed(known.different, &sample.name) && !listed(known.moving, &sample.name)
    };
    for sample in after.samples.iter().filter(is_compared).filter(|sample| !moves(sample)) {
        match our.get(&series(sample)) {
            Some(value) if (value - sample.value).abs() <= 1e-9 * sample.value.abs() => {}
            value => faults.push(format!("{:?}: {value:?}, not {}", series(sample), sample.value)),
        }
    }
    faults
}

/// Rows of PostgreSQL that the pack leaves out or that asking moves: shared objects have no database, and both ask `shop`.
fn moves(sample: &Sample) -> bool {
    let database = sample.labels.get("datname").map(String::as_str);
    sample.name.starts_with("pg_stat_database_") && matches!(database, Some("" | "shop"))
}

/// The exporter and the packs say the same. A second look tells what moved from what differs.
fn say_the_same(debian: &Debian, known: &Known, entry: &str, includes: &str) {
    let config = format!(
        "databases: {{it: {entry}}}\ninclude: [{includes}]\n\
         overrides: {{compat_mysql_user_privileges*: {{enabled: true}}}}\n"
    );
    let mut faults = Vec::new();
    for _ in 0..3 {
        let before = debian.page().expect("a page");
        let ours = judge(Setup::new(&config).once().text());
        let after = debian.page().expect("a page");
        let compared = after.samples.iter().filter(|sample| ours.types.contains_key(&sample.name)).count();
        assert!(compared > 400, "{compared}");
        faults = differences(known, &before, &ours, &after);
        if faults.is_empty() {
            break;
        }
    }
    assert_eq!(faults, [""; 0]);
}

#[test]
fn the_pack_says_what_debians_postgres_exporter_says() {
    let server = OwnPostgres::start(&["autovacuum=off", "archive_mode=on", "archive_command=/bin/true"]);
    let access = server.access();
    access.run("CREATE DATABASE shop");
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
    let debian = Debian::of_postgres(&shop);
    say_the_same(&debian, &POSTGRES, &shop.entry(), "'builtin:compat/postgres_exporter'");
}

#[test]
fn the_packs_say_what_debians_mysqld_exporter_says() {
    let scene = scene_mysql::Scene::new();
    let debian = Debian::of_mysql(scene.source());
    let entry = scene.source().entry().replace("database: mysql, ", "");
    let packs = "'builtin:compat/mysqld_exporter', 'builtin:compat/mysqld_exporter_optional/*'";
    say_the_same(&debian, &MYSQL, &entry, packs);
}
