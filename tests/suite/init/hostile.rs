//! Names that would break a text that is put together carelessly: the file stays valid, and shows the right numbers.

use super::{Place, value};
use crate::servers::{CANARY, MariaDb, Postgres};

const NAMES: [&str; 14] = [
    "it's",
    "a\"b`c",
    "new\nline",
    "\n# - x\nqueries: []\n",
    "*/ -- ; DROP TABLE x",
    "${HOME}",
    "a: b",
    "# comment",
    "- item",
    "grün 数 🐘",
    "back\\slash'",
    "\u{1b}[2J\u{202e}\u{feff}",
    " blanks ",
    "{a}, [b], &c, !d, %e",
];

/// The samples of the examples, as `value` of each.
fn samples<'p>(page: &'p str, suffix: &str) -> Vec<&'p str> {
    let is_example = |line: &&str| line.starts_with("odd") && line.contains(&format!("_{suffix}{{"));
    page.lines().filter(is_example).filter_map(|line| line.rsplit(' ').next()).collect()
}

#[test]
fn sqlite_tables_with_odd_names() {
    let place = Place::new();
    let long = "long".repeat(2500);
    let names: Vec<&str> =
        NAMES.iter().copied().chain(["%s", "rate_ms", "jobs_total", "_", "größe"]).collect();
    let make = |file: &str, name: &str| {
        let quoted = name.replace('"', "\"\"");
        let table = format!("CREATE TABLE \"{quoted}\" (x); INSERT INTO \"{quoted}\" VALUES (1), (2), (3)");
        place.sqlite(file, &table);
        format!("sqlite:{file}")
    };
    let urls: Vec<String> =
        names.iter().enumerate().map(|(number, name)| make(&format!("odd{number}.db"), name)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let output = place.run(&[&["init"], &urls[..]].concat());
    // A name that looks like a variable is not one.
    assert_eq!(output.text(), "sql-exporter test\nsql-exporter\n", "{}", output.errors());
    let text = place.written("sql-exporter.yaml");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{feff}']), "{text}");
    assert_eq!(samples(&place.page(), "last_row_id"), vec!["3"; names.len()]);
    // The packs have labels that are too long then.
    let output = place.run(&["init", &make("odd_long.db", &long), "-o", "long.yaml"]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert_eq!(place.run(&["-c", "long.yaml", "check", "--strict"]).code(), 0);
    let page = place.run(&["-c", "long.yaml", "collect", "--collector", "default"]);
    assert_eq!(samples(page.text(), "last_row_id"), ["3"], "{}", page.errors());
}

#[test]
fn postgres_tables_schemas_and_databases_with_odd_names() {
    let server = Postgres::fresh("init");
    let mut urls = Vec::new();
    for name in NAMES {
        let quoted = name.replace('"', "\"\"");
        let database = format!("odd {} {name}", server.database);
        server.run(&format!("CREATE DATABASE \"{}\" TEMPLATE template0", database.replace('"', "\"\"")));
        let odd = Postgres { database: database.clone(), ..server.clone() };
        odd.run(&format!(
            "CREATE SCHEMA \"{quoted}\"; CREATE TABLE \"{quoted}\".\"{quoted}\" (x int);
             INSERT INTO \"{quoted}\".\"{quoted}\" SELECT generate_series(1, 1000); ANALYZE"
        ));
        let encoded: String = database.bytes().map(|byte| format!("%{byte:02X}")).collect();
        urls.push(format!("postgres://postgres:${{PW}}@127.0.0.1:{}/{encoded}", server.port));
    }
    let mut place = Place::new();
    place.set("PW", &server.password);
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let text = place.init(&urls);
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{feff}']), "{text}");
    assert_eq!(place.run(&["check", "--strict"]).code(), 0);
    let page = place.run(&["collect", "--collector", "default"]);
    assert_eq!(
        (page.code(), samples(page.text(), "rows")),
        (0, vec!["1000"; NAMES.len()]),
        "{}",
        page.errors()
    );
}

#[test]
fn mariadb_tables_with_odd_names() {
    let allowed = |name: &&str| !name.ends_with(char::is_whitespace) && !name.contains(['\u{1b}', '🐘']);
    let mut place = Place::new();
    let mut urls = Vec::new();
    for name in NAMES.iter().copied().filter(allowed) {
        let server = MariaDb::fresh("odd");
        server.run(&format!("CREATE TABLE `{}` (x int)", name.replace('`', "``")));
        place.set("PW", &server.password);
        urls.push(format!("mysql://root:${{PW}}@127.0.0.1:{}/{}", server.port, server.database));
    }
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    place.init(&urls);
    assert_eq!(place.run(&["check", "--strict"]).code(), 0);
    let page = place.run(&["collect", "--collector", "default"]);
    assert_eq!((page.code(), page.errors()), (0, ""));
    let sizes = samples(page.text(), "bytes");
    assert!(sizes.len() == urls.len() && sizes.iter().all(|size| *size != "0"), "{sizes:?}");
}

#[test]
fn a_target_named_as_the_packs_names_its_metrics_otherwise() {
    for (file, family) in [
        ("sqlite.db", "app_sqlite_tables_last_row_id"),
        ("pg.db", "app_pg_tables_last_row_id"),
        ("sql_exporter.db", "app_sql_exporter_tables_last_row_id"),
        ("9.db", "app_9_tables_last_row_id"),
    ] {
        let place = Place::new();
        place.sqlite(file, "CREATE TABLE tables (x); INSERT INTO tables VALUES (1)");
        place.init(&[&format!("sqlite:{file}")]);
        assert_eq!(value(&place.page(), family), 1.0);
    }
}

#[test]
fn a_user_with_an_odd_name_stays_in_its_comment() {
    let server = Postgres::fresh("init");
    let role = format!("{}\nqueries: [] # \u{1b}[2J\u{2028}\u{feff}\"${{X}}", server.database);
    server.run(&format!(
        "CREATE ROLE \"{}\" LOGIN SUPERUSER PASSWORD '{CANARY}odd'",
        role.replace('"', "\"\"")
    ));
    let encoded: String = role.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut place = Place::new();
    place.set("PW", &format!("{CANARY}odd"));
    let Postgres { port, database, .. } = &server;
    let text = place.init(&[&format!("postgres://{encoded}:${{PW}}@127.0.0.1:{port}/{database}")]);
    assert!(!text.contains(['\u{1b}', '\u{2028}', '\u{feff}']) && !text.contains("\nqueries: []"), "{text}");
    assert_eq!(place.run(&["check", "--strict"]).code(), 0);
    assert_eq!(place.run(&["test"]).code(), 0);
}
