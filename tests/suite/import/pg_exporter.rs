//! pg_exporter's branches, on real servers as well: what it makes of a result is computed here once more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgres::{SimpleQueryMessage, SimpleQueryRow};
use serde_yaml::Value;

use super::shared::{assert_shared, compat};
use super::{configuration, import, read, samples, types};
use crate::exporter::Setup;
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

/// The published files that are for PostgreSQL.
const FILES: [&str; 4] = ["0110-pg.yml", "0310-pg_size.yml", "0410-pg_activity.yml", "0610-pg_db.yml"];
/// Sessions of the exporter are among what these count.
const OF_SESSIONS: [&str; 5] = [
    "pg_activity_count",
    "pg_activity_max_duration",
    "pg_activity_max_tx_duration",
    "pg_activity_max_conn_duration",
    "pg_db_numbackends",
];

#[test]
fn published_branches_are_converted() {
    for file in FILES {
        let name = format!("pg_exporter-{}", file.trim_end_matches(".yml"));
        assert_shared("pg_exporter", &name, &[file], &[], "postgres");
    }
    assert_shared("pg_exporter", "pg_exporter-console", &["0910-pgbouncer_list.yml"], &[], "pgbouncer");
    let url = ["--url", "postgres://mon:secret@db.example/shop"];
    assert_shared("pg_exporter", "pg_exporter-with-url", &FILES[1..3], &url, "postgres");
}

/// A folder is its files in order, in one result or in several.
#[test]
fn a_folder_is_converted_file_by_file() {
    let branch = |name: &str, column: &str| {
        format!(
            "{name}:\n  query: SELECT 1 AS {column}\n  ttl: 1\n  metrics:\n    - {column}: {{usage: GAUGE}}\n"
        )
    };
    let setup = Setup::empty()
        .file("conf/0000-doc.yml", "# Only comments.\n")
        .file("conf/0100-one.yml", &(branch("one", "a") + &branch("two", "a")))
        .file("conf/0200-two.yaml", &branch("two", "b"))
        .file("conf/note.txt", "no YAML: [");
    let setup = setup.args(&["import", "--from", "pg_exporter", "conf", "-o", "out/"]);
    let output = setup.output();
    assert_eq!(output.code(), 0, "{}", output.errors());
    let replaced =
        "conf/0100-one.yml:6:1: two: a later file has the branch two, too, which replaces this one";
    assert!(output.errors().contains(replaced), "{}", output.errors());
    let text = |name: &str| read(&setup.path().join("out").join(name));
    assert!(text("0100-one.yaml").contains("one_a") && !text("0100-one.yaml").contains("two_a"));
    assert!(text("0200-two.yaml").contains("two_b"));
    assert!(!setup.path().join("out/0000-doc.yaml").exists());
}

/// The samples that pg_exporter makes: series, type and value.
type Expected = BTreeMap<String, (String, f64)>;

/// What the branches for this server make.
fn expected(files: &[PathBuf], server: &Postgres) -> Expected {
    let mut client = server.client();
    let version: i64 = client
        .query_one("SELECT current_setting('server_version_num')::bigint", &[])
        .expect("a version")
        .get(0);
    let mut all = Expected::new();
    for file in files {
        let branches: BTreeMap<String, Value> = serde_yaml::from_str(&read(file)).expect("YAML");
        for (name, branch) in branches {
            let number =
                |key: &str| branch.get(key).and_then(Value::as_str).and_then(|text| text.parse().ok());
            let number = |key: &str| branch.get(key).and_then(Value::as_i64).or_else(|| number(key));
            let tags = branch.get("tags").and_then(Value::as_sequence).cloned().unwrap_or_default();
            let is_for_it = number("min_version").is_none_or(|least| version >= least)
                && number("max_version").is_none_or(|most| version < most)
                && !tags.contains(&Value::from("replica"));
            if is_for_it {
                let prefix = branch.get("name").and_then(Value::as_str).unwrap_or(&name).to_owned();
                let sql = branch["query"].as_str().expect("a statement");
                for message in client.simple_query(sql).expect("rows") {
                    if let SimpleQueryMessage::Row(row) = message {
                        of_row(&branch, &prefix, &row, &mut all);
                    }
                }
            }
        }
    }
    all
}

fn of_row(branch: &Value, prefix: &str, row: &SimpleQueryRow, all: &mut Expected) {
    let columns = branch["metrics"].as_sequence().expect("columns");
    let columns = columns.iter().map(|column| {
        let (name, keys) = column.as_mapping().and_then(|keys| keys.iter().next()).expect("a column");
        (name.as_str().expect("a name"), keys)
    });
    let columns: Vec<(&str, &Value)> = columns.collect();
    let text = |keys: &Value, key: &str| keys.get(key).and_then(Value::as_str).map(str::to_owned);
    let usage = |keys: &Value| text(keys, "usage").unwrap_or_default();
    let exported = |name: &str, keys: &Value| text(keys, "rename").unwrap_or_else(|| name.to_owned());
    let mut labels: Vec<String> = Vec::new();
    for (name, keys) in columns.iter().filter(|(_, keys)| usage(keys) == "LABEL") {
        labels.push(format!("{}=\"{}\"", exported(name, keys), row.get(*name).unwrap_or_default()));
    }
    labels.sort();
    for (name, keys) in &columns {
        let kind = match usage(keys).as_str() {
            "GAUGE" => "gauge",
            "COUNTER" => "counter",
            _ => continue,
        };
        let number = |key: &str| keys.get(key).and_then(Value::as_f64);
        let scale = number("scale").unwrap_or(1.0);
        let value = match row.get(*name) {
            None => number("default").unwrap_or(f64::NAN) * scale,
            Some("t") => 1.0,
            Some("f") => 0.0,
            Some(text) => text.parse::<f64>().expect("a number") * scale,
        };
        let series = format!("{prefix}_{}{{{}}}", exported(name, keys), labels.join(","));
        all.insert(series, (kind.to_owned(), value));
    }
}

#[test]
fn a_real_server_gives_what_pg_exporter_makes_of_it() {
    let Some(folder) = compat("pg_exporter") else { return };
    let own = OwnPostgres::start(&[]);
    let server = own.access();
    server.run("CREATE DATABASE shop");
    let files: Vec<PathBuf> = FILES.iter().map(|file| folder.join(file)).collect();
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let url = format!("postgres://postgres:{}@127.0.0.1:{}/postgres", server.password, server.port);
    let output = import("auto", &paths, &["--url", &url]);
    assert_eq!(output.code(), 0, "{}", output.errors());

    let before = expected(&files, server);
    // A machine at work is slower than the 0.1 s that pg_exporter gives a query.
    let slow = "\noverrides: {\"*\": {timeout: 1m}}\n";
    let setup =
        configuration(&output, "postgres").file("sql-exporter.yaml", &(output.text().to_owned() + slow));
    let setup = setup.env("POSTGRES_PASSWORD", &server.password);
    let page = setup.args(&["collect", "--no-self-metrics", "--timeout", "1m"]).output();
    assert_eq!(page.code(), 0, "{}\n{}", page.errors(), page.text());
    let after = expected(&files, server);

    let found = samples(page.text(), "target");
    let kinds = types(page.text());
    let mut wrong = String::new();
    for (series, (kind, low)) in &before {
        let name = series.split('{').next().unwrap_or_default();
        let high = after.get(series).map_or(f64::NAN, |(_, value)| *value);
        // The two that the import notes: a counter is not NaN, and one that may be -1 is a gauge.
        let kind = if name == "pg_db_cks_fails" { "gauge" } else { kind };
        let Some(value) = found.get(series) else {
            if !(low.is_nan() && kind == "counter") {
                wrong += &format!("missing: {series} {low}\n");
            }
            continue;
        };
        let is_between = *low <= *value && *value <= high || low.is_nan() && value.is_nan();
        if !is_between && !OF_SESSIONS.contains(&name) {
            wrong += &format!("{series} is {value}, expected {low} to {high}\n");
        }
        if kinds.get(name).map(String::as_str) != Some(kind) {
            wrong += &format!("{name} is {:?}, expected {kind}\n", kinds.get(name));
        }
    }
    for series in found.keys().filter(|series| !before.contains_key(*series)) {
        wrong += &format!("more: {series}\n");
    }
    assert!(wrong.is_empty(), "{wrong}{}", page.text());
    assert!(found.len() > 150, "{}", found.len());
    assert!(before["pg_db_cks_fails{datname=\"shop\"}"].1 < 0.0, "the test shows a negative number");
}

#[test]
fn the_real_console_of_pgbouncer_gives_its_lists() {
    let Some(folder) = compat("pg_exporter") else { return };
    let console = Postgres::shared("pgbouncer").through_pgbouncer();
    let url = format!(
        "postgres://postgres:{}@127.0.0.1:{}/pgbouncer?sslmode=disable",
        console.password, console.port
    );
    let output = import("auto", &[&folder.join("0910-pgbouncer_list.yml")], &["--url", &url]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    let slow = "\noverrides: {\"*\": {timeout: 1m}}\n";
    let setup =
        configuration(&output, "pgbouncer").file("sql-exporter.yaml", &(output.text().to_owned() + slow));
    let setup = setup.env("PGBOUNCER_PASSWORD", &console.password);
    let page = setup.args(&["collect", "--no-self-metrics", "--timeout", "1m"]).output();
    assert_eq!(page.code(), 0, "{}\n{}", page.errors(), page.text());
    let rows = console.client().simple_query("SHOW LISTS").expect("rows");
    let lists: Vec<String> = rows
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some(format!("pgbouncer_list_items{{list=\"{}\"}}", row.get("list")?))
            }
            _ => None,
        })
        .collect();
    let found = samples(page.text(), "target");
    assert!(lists.len() > 5 && found.len() == lists.len(), "{lists:?}\n{}", page.text());
    assert!(lists.iter().all(|series| found.contains_key(series)), "{lists:?}\n{}", page.text());
    assert_eq!(types(page.text()).get("pgbouncer_list_items").map(String::as_str), Some("gauge"));
}
