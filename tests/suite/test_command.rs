//! The command `test`: what it says of targets that work, of those that do not, and in which form.

mod engine;
mod failures;
mod form;
mod rights;

use serde_json::Value;

use crate::exporter::Setup;
use crate::servers::{CANARY, MariaDb, Postgres};

/// `test` over a configuration.
fn test(config: &str) -> Setup {
    Setup::new(config).args(&["test"])
}

/// A SQLite file beside the configuration.
fn with_file(setup: Setup) -> Setup {
    let made = rusqlite::Connection::open(setup.path().join("app.db")).expect("a database");
    made.execute_batch("CREATE TABLE t (x)").expect("a table");
    setup
}

/// Runs it with `--format json`: the exit code and the document.
fn json(setup: Setup) -> (i32, Value) {
    let output = setup.args(&["--format", "json"]).output();
    assert_eq!(output.errors(), "");
    let document = serde_json::from_str(output.text()).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code(), document)
}

/// The only target of a configuration with this entry.
fn only(entry: &str) -> Value {
    let (_, mut document) = json(test(&format!("databases: {{shop: {entry}}}\nqueries: []\n")));
    document["targets"][0].take()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect()
}

fn postgres_as(server: &Postgres, user: &str, more: &str) -> String {
    let Postgres { port, database, .. } = server;
    format!(
        "{{driver: postgres, host: 127.0.0.1, port: {port}, database: {database}, username: {user}, \
         password: '{CANARY}user', {more}}}"
    )
}

fn mariadb_as(server: &MariaDb, user: &str, more: &str) -> String {
    let MariaDb { port, database, .. } = server;
    format!(
        "{{driver: mysql, host: 127.0.0.1, port: {port}, database: {database}, username: {user}, \
         password: '{CANARY}user', {more}}}"
    )
}

/// The statements that `test` printed, for a user of this name.
fn made(grants: &Value, user: &str) -> String {
    texts(grants).join("\n").replace("exporter", user).replace('…', &format!("{CANARY}user"))
}
