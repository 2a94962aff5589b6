//! The log and the pages while databases fail: one line per change of state, and never a password.

use crate::exporter::{Exporter, Setup};
use crate::servers::own::OwnPostgres;

const QUERIES: &str = "
queries:
  - {name: one, sql: SELECT value FROM one, metrics: [{name: one}]}
";

fn lines<'l>(log: &'l str, words: &str) -> Vec<&'l str> {
    log.lines().filter(|line| line.contains(words)).collect()
}

#[test]
fn a_target_that_goes_and_returns_is_two_lines() {
    let mut postgres = OwnPostgres::start(&[]);
    postgres.access().run("CREATE TABLE one (value int); INSERT INTO one VALUES (1)");
    let exporter = Exporter::serve(&format!("databases:\n  pg: {}{QUERIES}", postgres.access().entry()));
    assert!(exporter.metrics().contains("one{target=\"pg\"} 1"));
    postgres.kill();
    (0..3).for_each(|_| drop(exporter.metrics()));
    postgres.restart();
    (0..3).for_each(|_| drop(exporter.metrics()));
    exporter.wait_for_log("target pg is back");
    let log = exporter.log();
    assert_eq!(lines(&log, "target pg is down").len(), 1, "{log}");
    assert_eq!(lines(&log, "target pg is back").len(), 1, "{log}");
}

#[test]
fn a_password_is_in_no_log_and_on_no_page_whatever_goes_wrong() {
    let refused = "databases: {a: {url: 'postgres://u:c4nary-url@127.0.0.1:1/d'}, \
         b: {driver: mysql, host: 127.0.0.1, port: 1, username: u, password: c4nary-field}}";
    let setup = Setup::new(&format!("{refused}{}", QUERIES.replace("sql:", "databases: ['*'], sql:")));
    let exporter = setup.args(&["--log-level", "trace"]).serve();
    // Each answer and the whole log are searched for the canary by the access itself.
    for path in ["/metrics", "/", "/-/metrics", "/-/healthy", "/config", "/nothing"] {
        exporter.get(path);
    }
    let faulty = Setup::new("databases: {a: {url: 'postgres://u:c4nary-url@h:port/d', pasword: c4nary-key}}");
    assert_eq!(faulty.once().code(), 2);
    let command = "databases: {a: {driver: mysql, password_command: [sh, -c, 'echo c4nary-out; echo no credentials >&2; \
         exit 1'], host: 127.0.0.1, port: 1}}";
    let output = Setup::new(&format!("{command}{QUERIES}")).once();
    assert_eq!(output.code(), 1, "{}", output.errors());
}

/// What stands behind the `?` of a request may be anybody's secret, sent to the wrong place.
#[test]
fn no_request_s_query_reaches_the_log() {
    let setup = Setup::new("databases: {a: {driver: sqlite, database: x.db}}").file("x.db", "");
    let exporter = setup.args(&["--log-level", "trace"]).serve();
    for path in
        ["/probe?target=a&query=W0RD", "/metrics?token=W0RD", "/nothing?W0RD", "/W0RD?W0RD", "/probe?W0RD"]
    {
        exporter.get(path);
    }
    exporter.request("DELETE", "/metrics?W0RD", &[("Authorization", "Bearer W0RD")]);
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(0));
    assert!(!log.contains("W0RD"), "{log}");
}
