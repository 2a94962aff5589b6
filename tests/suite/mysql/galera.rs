//! A node that is outside its Galera cluster: it refuses every statement that reads a table, and KILL.

use std::path::Path;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, ServerWork};
use sql_exporter::error::Reason;

use super::{LONG, login, open};
use crate::checker::checked;
use crate::exporter::Exporter;
use crate::process::{free_port, needs_tests_run, wait_for};
use crate::recorder::run;
use crate::servers::own::OwnMariaDb;

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// A cluster of one node.
fn node() -> OwnMariaDb {
    needs_tests_run();
    assert!(Path::new(PROVIDER).exists(), "Debian's package galera-4 comes with mariadb-server");
    let provider = format!("--wsrep-provider={PROVIDER}");
    let options = format!(
        "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{};ist.recv_addr=127.0.0.1:{};gcache.size=1M",
        free_port(),
        free_port()
    );
    OwnMariaDb::start(&[
        "--wsrep-on=ON",
        "--wsrep-cluster-address=gcomm://",
        "--wsrep-node-address=127.0.0.1",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        &provider,
        &options,
    ])
}

#[test]
fn a_node_outside_its_cluster_shows_its_state_and_is_asked_for_no_kill() {
    let server = node();
    let exporter = || {
        Exporter::serve(&format!(
            "databases:\n  node: {}\ninclude: ['builtin:mysql/galera']\n\
             queries:\n  - {{name: users, database: node, sql: SELECT count(*) AS n FROM mysql.user, metrics: \
             [{{name: users, help: Users., value_column: n}}]}}\n",
            server.access().entry()
        ))
    };
    let value = |exporter: &Exporter, name| checked(&exporter.metrics()).value(name, &[("target", "node")]);
    let inside = exporter();
    assert_eq!(value(&inside, "mysql_galera_ready"), Some(1.0));
    assert_eq!(value(&inside, "mysql_galera_cluster_changes_total"), Some(1.0));
    // The server closes all its connections.
    server.access().run("SET GLOBAL wsrep_cluster_address = ''");
    wait_for("the node to be outside", || (value(&inside, "mysql_galera_ready") == Some(0.0)).then_some(()));
    let outside = exporter();
    assert_eq!(value(&outside, "mysql_galera_state"), Some(0.0));
    // The server says 18446744073709551615.
    assert_eq!(value(&outside, "mysql_galera_cluster_changes_total"), None);
    assert_eq!(value(&outside, "users"), None);
    outside.wait_for_log("WSREP has not yet prepared node");
    assert!(!outside.log().contains("KILL"), "{}", outside.log());
    let mut session = open(login(server.access())).unwrap();
    let (sink, health) = run(&mut *session, "SELECT count(*) FROM mysql.user", LONG);
    assert_eq!(sink.reason(), Reason::Server);
    assert!(matches!(health, Health::Spent) && session.server_work() == ServerWork::Answered, "{health:?}");
    let mut session = open(login(server.access())).unwrap();
    let health = session.snapshot(true, Deadline::within(LONG));
    assert!(matches!(health, Health::Lost(_)) && session.server_work() == ServerWork::Answered, "{health:?}");
}

/// Such a node refuses the question for the time zone at a login.
#[test]
fn a_session_of_before_its_node_was_ready_learns_its_zone() {
    let server = node();
    server.access().run("SET GLOBAL wsrep_reject_queries = 'ALL'");
    let mut session = open(login(server.access())).unwrap();
    let date = "SELECT DATE '2026-01-02'";
    assert!(run(&mut *session, date, LONG).0.good()[0][0].contains("UnknownOffset"));
    server.access().run("SET GLOBAL wsrep_reject_queries = 'NONE'");
    let (sink, health) = run(&mut *session, date, LONG);
    assert_eq!(sink.good()[0], ["LocalDate { days: 20455, moment: Ok(1767312000000000) }"]);
    assert!(matches!(health, Health::Clean), "{health:?}");
}
