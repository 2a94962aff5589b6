//! The command line as a user meets it: what a bad start says, exit codes, `--once`, `packs`, `health`.

use std::net::TcpListener;

use crate::exporter::{Output, Setup};
use crate::judges::judge;
use crate::process::is_root;

const FILE: &str = "databases: {a: {driver: sqlite, database: a.db}}\n\
     queries: [{name: one, sql: SELECT 1 AS value, metrics: [{name: one}]}]\n";

/// A configuration over an SQLite file that exists.
fn good() -> Setup {
    let setup = Setup::new(FILE);
    rusqlite::Connection::open(setup.path().join("a.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (a)")
        .unwrap();
    setup
}

/// The run ended with this code, said nothing on stdout and one thing on stderr that holds `words`.
#[track_caller]
fn refuses(output: &Output, code: i32, words: &str) {
    let errors = output.errors();
    assert_eq!((output.code(), output.text()), (code, ""), "{errors}");
    assert_eq!(errors.matches("error: ").count(), 1, "{errors}");
    assert!(errors.contains(words), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn a_bad_configuration_ends_with_2_and_says_why() {
    refuses(&Setup::empty().output(), 2, "no configuration file");
    refuses(&Setup::empty().args(&["-c", "nothing.yaml"]).output(), 2, "nothing.yaml: cannot read the file");
    refuses(&Setup::empty().args(&["-c", "."]).once(), 2, ".: cannot read the file: Is a directory");
    let unset = "databases: {a: {driver: sqlite, database: '${NOT_SET_ANYWHERE}'}}";
    refuses(&Setup::new(unset).once(), 2, "sql-exporter.yaml:1:");
    refuses(&Setup::new(unset).once(), 2, "NOT_SET_ANYWHERE is not set");
    refuses(
        &Setup::new("databases: {a: {driver: postgrs, host: b}}").once(),
        2,
        "did you mean \"postgres\"?",
    );
}

#[test]
fn bad_words_end_with_2_and_say_why() {
    for (words, why) in [
        (&["--listen", "1.2.3:99999"][..], "is not a port"),
        (&["--listen", "no-such-host.invalid:80"], "has no address"),
        (&["--listen="], "--listen"),
        (&["--log-level", "loud"], "\"loud\" is not one of"),
        (&["--frob"], "--frob"),
        (&["frob"], "unknown command `frob`"),
        (&["check"], "`check` is not built yet"),
        (&["collect", "--query", "nope"], "unknown query `nope`"),
        (&["collect", "--timeout", "soon"], "is not a duration"),
        (&["packs", "nope"], "no built-in collector \"nope\""),
    ] {
        refuses(&good().args(words).output(), 2, why);
    }
}

#[test]
fn a_port_in_use_ends_with_1_and_names_the_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses(&good().args(&["--listen", &address]).output(), 1, &format!("cannot listen on {address}"));
}

#[test]
fn a_privileged_port_ends_with_1_and_says_so() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim() == "0" {
        return; // This machine has no privileged ports.
    }
    let mut setup = good().args(&["--listen", "127.0.0.1:1"]);
    if is_root() {
        setup = setup.as_user("postgres");
    }
    refuses(&setup.output(), 1, "127.0.0.1:1: ");
}

#[test]
fn an_address_that_the_machine_lacks_ends_with_1() {
    refuses(&good().args(&["--listen", "192.0.2.1:9399"]).output(), 1, "cannot listen on 192.0.2.1:9399");
}

#[test]
fn once_prints_a_page_and_tells_by_its_exit_code_whether_all_was_good() {
    let output = good().once();
    assert_eq!(output.code(), 0, "{}", output.errors());
    let page = judge(output.text());
    assert_eq!(page.value("one", &[("target", "a")]), Some(1.0));
    assert!(!output.text().contains("process_"));

    let missing = Setup::new(FILE).once();
    assert_eq!(missing.code(), 1, "{}", missing.errors());
    let page = judge(missing.text());
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "a")]), Some(0.0));
    assert_eq!(page.value("sql_exporter_query_success", &[("query", "one")]), Some(0.0));
    assert!(page.series("one").is_empty());
}

#[test]
fn shared_options_work_before_and_after_the_command() {
    for words in [
        &["--log-level=debug", "collect", "--no-self-metrics"][..],
        &["collect", "--no-self-metrics", "--log-level", "debug"],
        &["--once", "--no-self-metrics"],
    ] {
        let output = good().args(words).output();
        assert_eq!(output.code(), 0, "{words:?}: {}", output.errors());
        assert_eq!(output.text(), "# TYPE one gauge\none{target=\"a\"} 1\n", "{words:?}");
    }
}

#[test]
fn an_output_file_is_written_also_when_a_query_failed() {
    let setup = Setup::new(FILE).args(&["collect", "--output", "page.prom"]);
    let output = setup.output();
    assert_eq!((output.code(), output.text()), (1, ""), "{}", output.errors());
    let page = judge(&std::fs::read_to_string(setup.path().join("page.prom")).unwrap());
    assert_eq!(page.value("sql_exporter_query_success", &[("query", "one")]), Some(0.0));
}

#[test]
fn version_packs_and_health_answer() {
    let version = Setup::empty().args(&["--version"]).output();
    assert_eq!(
        (version.code(), version.text()),
        (0, concat!("sql-exporter ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let packs = Setup::empty().args(&["packs"]).output();
    assert!(packs.code() == 0 && packs.text().contains("sqlite/pages"), "{}", packs.text());
    let pack = Setup::empty().args(&["packs", "sqlite/pages"]).output();
    assert!(pack.code() == 0 && pack.text().contains("queries:"), "{}", pack.text());

    let exporter = good().serve();
    let address = exporter.address().to_string();
    let healthy = good().args(&["health", "--listen", &address]).output();
    assert_eq!(healthy.code(), 0, "{}", healthy.errors());
    drop(exporter);
    assert_eq!(good().args(&["health", "--listen", &address]).output().code(), 1);
}

#[test]
fn the_environment_stands_between_flag_and_file() {
    // The database is missing, which is worth a line.
    let is_json = |setup: Setup| setup.once().errors().starts_with('{');
    let text_in_file = || Setup::new(&format!("exporter: {{log_format: text}}\n{FILE}"));
    let json_around = || text_in_file().env("SQL_EXPORTER_LOG_FORMAT", "json");
    assert!(!is_json(text_in_file()));
    assert!(is_json(json_around()), "the environment wins over the file");
    assert!(!is_json(json_around().args(&["--log-format", "text"])), "a flag wins over the environment");
    let named = good().env("SQL_EXPORTER_CONFIG", "nothing.yaml").once();
    assert_eq!(named.code(), 0, "a flag wins: {}", named.errors());
    let named = Setup::empty().env("CONFIG_FILE", "elsewhere.yaml").once();
    refuses(&named, 2, "elsewhere.yaml");
    let injected = good().env("EXPORTER_PORT", "tcp://10.0.0.1:9399").once();
    assert_eq!(injected.code(), 0);
    assert!(injected.errors().contains("EXPORTER_PORT"), "{}", injected.errors());
}
