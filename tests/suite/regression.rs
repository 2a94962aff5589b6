//! One test per bug that was found by use, by what a user saw.

use std::process::Command;

use crate::checker::checked;
use crate::exporter::Setup;
use crate::process::variable;
use crate::servers::{MariaDb, Postgres};

const SQLITE: &str = "{driver: sqlite, database: shop.db}";

fn endless(target: &str, sql: &str) -> String {
    format!(
        "- {{name: slow_{target}, database: {target}, timeout: 200ms, sql: '{sql}', metrics: [{{name: slow_{target}}}]}}\n"
    )
}

/// The server had answered: it stopped the statement. Its target was called down, and the good result was withheld.
#[test]
fn a_query_past_its_timeout_hides_no_reused_result_of_its_target() {
    let (postgres, mariadb) = (Postgres::fresh("regression"), MariaDb::fresh("regression"));
    let config = format!(
        "databases:\n  pg: {}\n  my: {}\n  lite: {SQLITE}\n\
         queries:\n\
         - {{name: kept, interval: 1h, databases: ['*'], sql: SELECT 1 AS value, metrics: [{{name: kept}}]}}\n{}{}{}",
        postgres.entry(),
        mariadb.entry(),
        endless("pg", "SELECT 1 AS value FROM pg_sleep(60)"),
        endless("my", "SELECT sleep(60) AS value"),
        endless(
            "lite",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS value FROM n"
        ),
    );
    let exporter = Setup::new(&config).file("shop.db", "").serve();
    for scrape in 1..=4 {
        let page = checked(&exporter.metrics());
        for target in ["pg", "my", "lite"] {
            let row = |name: &str| page.value(name, &[("target", target)]);
            let stands = (row("kept"), row("sql_exporter_target_up"));
            assert_eq!(stands, (Some(1.0), Some(1.0)), "{target}, scrape {scrape}: {}", exporter.log());
            let failing = format!("slow_{target}");
            let labels = [("query", failing.as_str()), ("reason", "timeout")];
            assert_eq!(page.value("sql_exporter_query_failure_reason", &labels), Some(1.0), "{target}");
        }
    }
}

/// An argument that is no UTF-8 was a panic.
#[test]
fn an_argument_of_any_bytes_gets_one_line_and_exit_code_2() {
    use std::os::unix::ffi::OsStrExt;
    let word = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let done = Command::new(env!("CARGO_BIN_EXE_sql-exporter")).arg(word).output().expect("it runs");
    let line = String::from_utf8_lossy(&done.stderr);
    assert_eq!((done.status.code(), line.lines().count()), (Some(2), 1), "{line}");
}

/// A full disk behind `--once > page.prom` was exit 0 and an empty file.
#[test]
fn a_page_that_cannot_be_written_is_exit_code_1() {
    let setup = Setup::new(&format!("databases: {{lite: {SQLITE}}}\n")).file("shop.db", "");
    for words in ["-c sql-exporter.yaml --once", "packs", "--version"] {
        let script = format!("{} {words} > /dev/full", env!("CARGO_BIN_EXE_sql-exporter"));
        let done = Command::new("sh").args(["-c", &script]).current_dir(setup.path()).output().expect("sh");
        let line = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), line.contains("stdout: No space left")), (Some(1), true), "{line}");
    }
}

/// A warning of the load was one line with the caret's picture run into it.
#[test]
fn a_warning_of_the_load_is_one_line_without_the_source() {
    let config = format!("databases: {{lite: {SQLITE}}}\ninclude: ['none/*.yaml']\n");
    let log = Setup::new(&config).file("shop.db", "").once();
    let line = log.errors().trim_end();
    assert!(line.ends_with("sql-exporter.yaml:2:1: include: no file matches \"none/*.yaml\""), "{line}");
}

/// A target's label `state` took the place of the one on its rows of `sessions`: three rows were one series.
#[test]
fn a_target_label_of_the_sessions_rows_is_a_fault() {
    let config = "databases: {lite: {driver: sqlite, database: shop.db, labels: {state: on}}}\n";
    let run = Setup::new(config).once();
    let fault = "databases.lite.labels: the label state is used by the exporter's own metrics";
    assert!(run.code() == 2 && run.errors().contains(fault), "{}", run.errors());
}

/// The hint was `read_only: false`, which does not help: one statement is one statement.
#[test]
fn a_second_statement_gets_a_hint_that_helps() {
    let config = format!(
        "databases: {{lite: {SQLITE}}}\n\
         queries: [{{name: q, sql: SELECT 1 AS value; SELECT 2, metrics: [{{name: x}}]}}]\n"
    );
    let run = Setup::new(&config).file("shop.db", "").once();
    let hint = "found another after `;`; write each as a query of its own\n";
    assert!(run.code() == 2 && run.errors().contains(hint), "{}", run.errors());
}

/// The pause after a refused password lasted its 30 seconds, though the right one had been written.
#[test]
fn a_written_password_file_ends_the_pause_after_a_refusal() {
    let config = format!(
        "databases: {{pg: {{driver: postgres, host: 127.0.0.1, port: {}, username: postgres, database: postgres, \
         password_file: password}}}}\n",
        variable("TEST_POSTGRES_PORT")
    );
    let exporter = Setup::new(&config).file("password", "not this one").serve();
    let up = || checked(&exporter.metrics()).value("sql_exporter_target_up", &[("target", "pg")]);
    assert_eq!((up(), up()), (Some(0.0), Some(0.0)), "refused, then in back-off: {}", exporter.log());
    std::fs::write(exporter.file("password"), variable("TEST_POSTGRES_PASSWORD")).expect("a file");
    assert_eq!(up(), Some(1.0), "{}", exporter.log());
}

/// The exporter started itself again with settings for glibc's allocator, which its commands then had too.
#[test]
fn a_command_has_the_environment_that_the_exporter_was_started_with() {
    let config = format!(
        "databases: {{pg: {{driver: postgres, host: 127.0.0.1, port: {}, username: postgres, database: postgres, \
         password_command: [sh, -c, 'cat /proc/self/environ > seen; cat password']}}}}\n",
        variable("TEST_POSTGRES_PORT")
    );
    let setup = Setup::new(&config)
        .file("password", &variable("TEST_POSTGRES_PASSWORD"))
        .env("ONE", "a b")
        .env("MALLOC_ARENA_MAX", "7");
    let exporter = setup.serve();
    assert_eq!(checked(&exporter.metrics()).value("sql_exporter_target_up", &[("target", "pg")]), Some(1.0));
    let names = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("UTF-8");
        let mut variables: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        variables.sort();
        variables
    };
    let path = format!("PATH={}", std::env::var("PATH").expect("set"));
    let given = ["MALLOC_ARENA_MAX=7", "ONE=a b", &path].map(str::to_owned);
    assert_eq!(names(std::fs::read(format!("/proc/{}/environ", exporter.pid())).expect("it runs")), given);
    // A shell adds what it is and where; nothing else may be new.
    let mut seen = names(std::fs::read(exporter.file("seen")).expect("the command ran"));
    seen.retain(|variable| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| variable.starts_with(own)));
    assert_eq!(seen, given);
    assert_eq!(exporter.stop("TERM").0, Some(0));
}
