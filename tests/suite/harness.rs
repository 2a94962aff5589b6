//! The harness itself: the servers answer, own servers can be frozen, killed and restarted, judges judge.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::exporter::assert_clean;
use crate::judges;
use crate::process::poll;
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres, tls_file};

fn one(access: &Postgres) -> i32 {
    access.client().query_one("SELECT 1", &[]).expect("PostgreSQL answers").get(0)
}

#[test]
fn the_shared_servers_answer_and_databases_are_fresh() {
    let (first, second) = (Postgres::fresh("harness"), Postgres::fresh("harness"));
    assert_ne!(first.database, second.database);
    first.run("CREATE TABLE t (a int)");
    second.run("CREATE TABLE t (a int)");
    let mariadb = MariaDb::fresh("harness");
    mariadb.run("CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n");
    assert_eq!(mariadb.client().query_first("SELECT a FROM t").unwrap(), Some(1));
}

#[test]
fn pgbouncer_reaches_the_database_and_its_console_answers() {
    let pooled = Postgres::fresh("harness").through_pgbouncer();
    assert_eq!(pooled.client().simple_query("SELECT 1").unwrap().len(), 3);
    let console = Postgres { database: "pgbouncer".to_owned(), ..pooled };
    assert!(console.client().simple_query("SHOW POOLS").unwrap().len() > 1);
}

#[test]
fn an_own_postgres_freezes_thaws_dies_and_returns() {
    let mut own = OwnPostgres::start(&["ssl=off"]);
    own.access().run("CREATE TABLE kept (a int)");
    own.freeze();
    let access = own.access().clone();
    let (tell, hear) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || tell.send(one(&access)));
    assert!(hear.recv_timeout(Duration::from_millis(300)).is_err(), "a frozen server answered");
    own.thaw();
    assert_eq!(hear.recv_timeout(Duration::from_secs(30)), Ok(1));
    waiting.join().unwrap().unwrap();
    own.kill();
    assert!(own.access().try_client().is_err());
    own.restart();
    own.access().run("SELECT * FROM kept");
}

#[test]
fn an_own_mariadb_freezes_thaws_dies_and_returns() {
    let mut own = OwnMariaDb::start(&["--skip-ssl"]);
    own.access().run("CREATE DATABASE kept");
    own.freeze();
    own.thaw();
    own.kill();
    assert!(own.access().try_client().is_err());
    own.restart();
    own.access().run("USE kept");
}

#[test]
fn an_own_server_dies_with_its_test() {
    let own = OwnPostgres::start(&[]);
    let port = own.access().port;
    let segment = own.shared_memory().expect("PostgreSQL has a memory segment");
    let exists = || {
        let segments = std::fs::read_to_string("/proc/sysvipc/shm").expect("Linux");
        segments.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(exists());
    drop(own);
    assert!(!exists(), "memory segment {segment} is left");
    let closed = || std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(());
    poll("the port to close", Duration::from_secs(5), closed);
}

#[test]
fn the_certificates_are_there() {
    for name in ["ca.pem", "server.pem", "server.key", "other.pem", "client.key", "stranger-ca.pem"] {
        assert!(tls_file(name).is_file(), "{name}");
    }
}

#[test]
fn the_judges_tell_good_from_bad() {
    let page = judges::judge("# HELP a b\n# TYPE a gauge\na{x=\"\\\\ \\\" \\n é\"} 1.5\n");
    assert_eq!(page.value("a", &[("x", "\\ \" \n é")]), Some(1.5));
    let parsed = judges::prometheus_client("# TYPE a gauge\na{x=\"\\\\ \\\" \\n é\"} NaN\n").unwrap();
    assert_eq!(parsed[0].labels["x"], "\\ \" \n é");
    assert_eq!((parsed[0].kind.as_str(), parsed[0].value.as_str()), ("gauge", "nan"));
    assert!(judges::promtool("a{x=1} 1\n").is_err());
    assert!(judges::prometheus_client("a{x=\"1\"} one\n").is_err());
}

#[test]
fn a_password_in_an_output_is_found() {
    let found = std::panic::catch_unwind(|| assert_clean("a page", b"password=c4nary-1234"));
    let message = found.expect_err("it is found");
    assert!(message.downcast_ref::<String>().is_some_and(|message| message.contains("a password is in")));
}
