//! The command line of the built binary: what it prints, where, and with which exit code.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use crate::checker::checked;
use crate::exporter::{Output, Setup};
use crate::servers::CANARY;

/// A configuration over a SQLite file `shop.db` beside it, with one good query.
const GOOD: &str = "
databases: {shop: {driver: sqlite, database: shop.db}}
queries:
  - {name: stock, sql: SELECT 7 AS units, metrics: [{name: stock_units, help: Units., value_column: units}]}
";

/// The same and one that fails.
const HALF: &str = "
databases: {shop: {driver: sqlite, database: shop.db}}
queries:
  - {name: stock, sql: SELECT 7 AS units, metrics: [{name: stock_units, help: Units., value_column: units}]}
  - {name: broken, sql: SELECT x FROM nowhere, metrics: [{name: broken_value}]}
";

/// A folder with the configuration and an empty database.
pub(crate) fn setup(config: &str) -> Setup {
    let setup = Setup::new(config);
    let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
    shop.execute_batch("CREATE TABLE t (x)").expect("a table");
    setup
}

fn one_line(output: &Output) -> &str {
    let line = output.errors().trim_end();
    assert!(!line.contains("panicked") && !line.contains('\n'), "{line}");
    line
}

#[test]
fn once_prints_the_page_without_process_metrics_and_exits_0() {
    let output = setup(GOOD).once();
    let page = checked(output.text());
    assert_eq!(page.value("stock_units", &[("target", "shop")]), Some(7.0));
    assert_eq!(page.value("sql_exporter_scrapes_total", &[("outcome", "complete")]), Some(1.0));
    assert!(!output.text().contains("\nprocess_"), "{}", output.text());
    assert_eq!((output.code(), output.errors()), (0, ""));
}

#[test]
fn collect_is_the_same_as_once() {
    let names = |output: &Output| -> Vec<String> {
        output.text().lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    let (once, collect) = (setup(GOOD).once(), setup(GOOD).args(&["collect"]).output());
    assert_eq!(names(&once), names(&collect));
    assert_eq!((once.code(), collect.code()), (0, 0));
}

#[test]
fn once_exits_1_when_a_query_failed_and_says_which_and_why() {
    let output = setup(HALF).once();
    let page = checked(output.text());
    assert_eq!(page.value("stock_units", &[("target", "shop")]), Some(7.0), "the good one is there");
    assert_eq!(output.code(), 1);
    let line = one_line(&output);
    assert!(line.contains("query broken on target shop fails: sql: no such table: nowhere"), "{line}");
}

#[test]
fn collect_narrows_to_a_query_a_target_or_a_collector() {
    let output = setup(HALF).args(&["collect", "--query", "stock", "--no-self-metrics"]).output();
    assert_eq!(
        output.text(),
        "# HELP stock_units Units.\n# TYPE stock_units gauge\nstock_units{target=\"shop\"} 7\n"
    );
    assert_eq!(output.code(), 0);
    let unknown = setup(HALF).args(&["collect", "--query=stok"]).output();
    assert_eq!(
        (unknown.code(), one_line(&unknown)),
        (2, "error: unknown query `stok`; nearest: stock, broken")
    );
}

#[test]
fn collect_writes_a_file_as_a_whole_also_when_a_query_failed() {
    let setup = setup(HALF).args(&["collect", "--output", "page.prom"]);
    let output = setup.output();
    assert_eq!((output.code(), output.text()), (1, ""));
    let written = std::fs::read_to_string(setup.path().join("page.prom")).expect("the page");
    assert_eq!(checked(&written).value("stock_units", &[("target", "shop")]), Some(7.0));
    let left = std::fs::read_dir(setup.path()).expect("the folder").count();
    assert_eq!(left, 3, "configuration, database and page: no temporary file");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let output = setup(GOOD).args(&["collect", "--output", "no/page.prom"]).output();
    assert_eq!(
        (output.code(), one_line(&output)),
        (1, "error: --output no/page.prom: there is no folder no")
    );
}

#[test]
fn a_dash_is_stdout() {
    let setup = setup(GOOD).args(&["collect", "--no-self-metrics", "--output", "-"]);
    let output = setup.output();
    assert_eq!(checked(output.text()).value("stock_units", &[]), Some(7.0));
    assert!(!setup.path().join("-").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let setup = setup(GOOD);
    let exporter = env!("CARGO_BIN_EXE_sql-exporter");
    let script = format!("{exporter} -c sql-exporter.yaml --once | true; test ${{PIPESTATUS[0]}} = 0");
    let status = std::process::Command::new("bash").args(["-c", &script]).current_dir(setup.path()).status();
    assert!(status.expect("bash").success());
}

#[test]
fn the_version_and_the_help_go_to_stdout() {
    let version = Setup::empty().args(&["--version"]).output();
    assert_eq!(version.text(), concat!("sql-exporter ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = Setup::empty().args(&["--help"]).output();
    for word in ["run", "collect", "packs", "health", "--config", "--once", "--log-level"] {
        assert!(help.text().contains(word), "{word} in {}", help.text());
    }
    assert_eq!((version.code(), help.code()), (0, 0));
}

#[test]
fn packs_lists_the_built_in_collectors_and_prints_one() {
    let list = Setup::empty().args(&["packs"]).output();
    assert!(
        list.text().lines().any(|line| line.trim_start().starts_with("sqlite/pages ")),
        "{}",
        list.text()
    );
    let one = Setup::empty().args(&["packs", "sqlite/pages"]).output();
    assert!(one.text().contains("queries:"), "{}", one.text());
    let wrong = Setup::empty().args(&["packs", "sqlite/page"]).output();
    let line = "error: no built-in collector \"sqlite/page\"; did you mean sqlite/pages?";
    assert_eq!((wrong.code(), one_line(&wrong)), (2, line));
    for folder in ["sqlite", "builtin:sqlite/"] {
        let wrong = Setup::empty().args(&["packs", folder]).output();
        let hint = "; the folder sqlite has sqlite/";
        assert!(wrong.code() == 2 && one_line(&wrong).contains(hint), "{}", wrong.errors());
    }
}

#[test]
fn a_page_is_printed_in_the_format_asked_for() {
    let output = setup(GOOD).args(&["collect", "--format", "openmetrics"]).output();
    assert_eq!(output.code(), 0);
    assert!(output.text().ends_with("# EOF\n"), "{}", output.text());
    let output = setup(GOOD).args(&["collect", "--format", "xml"]).output();
    let line = "error: --format \"xml\": the formats are text and openmetrics";
    assert_eq!((output.code(), one_line(&output)), (2, line));
}

#[test]
fn wrong_words_are_one_clear_line_and_exit_2() {
    let cases: [(&[&str], &str); 7] = [
        (&["colect"], "unknown command `colect`; did you mean `collect`?"),
        (&["--config"], "--config needs a value"),
        (&["--log-level", "loud"], "--log-level: \"loud\" is not one of"),
        (&["--log-format", "xml"], "--log-format: \"xml\" is not one of"),
        (&["--listen", "nonsense"], "--listen: \"nonsense\" is not an address"),
        (&["packs", "--once"], "--once is the command `collect`"),
        (&["--once", "--timeout=0s"], "Error parsing option '--timeout' with value '0s': 0 leaves no time"),
    ];
    for (args, message) in cases {
        let output = setup(GOOD).args(args).output();
        assert_eq!(output.code(), 2, "{args:?}: {}", output.errors());
        assert!(one_line(&output).starts_with(&format!("error: {message}")), "{args:?}: {}", output.errors());
    }
}

#[test]
fn a_variable_that_is_not_utf_8_is_not_taken_for_one_that_is_not_set() {
    let setup = setup(GOOD);
    let mut command = std::process::Command::new(crate::exporter::program());
    command
        .current_dir(setup.path())
        .arg("check")
        .env("SQL_EXPORTER_CONFIG", OsStr::from_bytes(b"x\xff.yaml"));
    let output = command.output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: x\u{fffd}.yaml: cannot read the file"), "{said}");
}

/// A name with another letter in its place may be that of another file.
#[test]
fn an_argument_that_is_not_utf_8_is_refused() {
    let setup = setup(GOOD);
    let mut command = std::process::Command::new(crate::exporter::program());
    command.current_dir(setup.path()).args(["collect", "--output"]).arg(OsStr::from_bytes(b"x\xff.prom"));
    let output = command.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: the argument \"x\u{fffd}.prom\" is not UTF-8"), "{said}");
    assert_eq!(setup.path().read_dir().expect("a folder").count(), 2);
}

#[test]
fn a_wrong_configuration_is_exit_2_with_file_line_and_column() {
    let missing = Setup::empty().args(&["-c", "nowhere.yaml"]).output();
    assert_eq!(missing.code(), 2);
    assert!(one_line(&missing).contains("nowhere.yaml"), "{}", missing.errors());
    let none = Setup::empty().output();
    assert_eq!(none.code(), 2);
    assert!(one_line(&none).contains("./sql-exporter.yaml"), "{}", none.errors());
    for arguments in [&["check", "shop.yaml"][..], &["shop.yaml"]] {
        let alone = Setup::empty().args(arguments).output();
        assert_eq!(alone.code(), 2);
        assert!(one_line(&alone).ends_with("write `-c FILE` for a configuration"), "{}", alone.errors());
    }
    let unset = Setup::new("databases: {a: {driver: sqlite, database: \"${NOT_SET}\"}}\n").output();
    assert_eq!(unset.code(), 2);
    assert!(unset.errors().contains("sql-exporter.yaml:1:44: databases.a.database:"), "{}", unset.errors());
    assert!(unset.errors().contains("NOT_SET"), "{}", unset.errors());
    let driver = Setup::new("databases: {a: {driver: postgrex, database: x}}\n").output();
    assert_eq!(driver.code(), 2);
    assert!(driver.errors().contains("did you mean \"postgres\""), "{}", driver.errors());
}

#[test]
fn an_unreadable_configuration_is_one_line() {
    let setup = Setup::empty().args(&["-c", "folder"]);
    std::fs::create_dir(setup.path().join("folder")).expect("a folder");
    let output = setup.output();
    assert_eq!(output.code(), 2);
    assert!(one_line(&output).contains("folder"), "{}", output.errors());
    if !crate::process::is_root() {
        let secret = Setup::new(GOOD);
        let file = secret.path().join("sql-exporter.yaml");
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o000)).expect("a mode");
        assert_eq!(secret.output().code(), 2);
    }
}

#[test]
fn a_port_in_use_is_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = setup(GOOD).args(&["--listen", &address]).output();
    assert_eq!(output.code(), 1);
    let expected = format!("error: cannot listen on {address}: the port is in use; ");
    assert!(one_line(&output).starts_with(&expected), "{}", output.errors());
}

#[test]
fn a_privileged_port_is_exit_1() {
    // Root may listen anywhere: the test runs as nobody then, from a copy that nobody may read.
    let setup = setup(GOOD);
    std::fs::set_permissions(setup.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
    let exporter = setup.path().join("exporter");
    // By another process: a file that this one has open for writing may be inherited by what other tests start, and
    // cannot be run meanwhile.
    let copied =
        std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_sql-exporter")).arg(&exporter).status();
    assert!(copied.expect("cp is there").success());
    let mut command = if crate::process::is_root() {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all"])
            .arg(&exporter);
        command
    } else {
        std::process::Command::new(&exporter)
    };
    let command =
        command.args(["-c", "sql-exporter.yaml", "--listen", "127.0.0.1:81"]).current_dir(setup.path());
    let output = command.output().expect("setpriv is part of util-linux");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.starts_with("error: cannot listen on 127.0.0.1:81: the port is privileged; "), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_environment_stands_between_flags_and_the_file() {
    let quiet = format!("{HALF}exporter: {{log_level: ERROR}}\n");
    assert_eq!(setup(&quiet).once().errors(), "", "the file");
    let loud = setup(&quiet).env("LOG_LEVEL", "WARN").once();
    assert!(one_line(&loud).contains("query broken"), "the variable of Du-gui/export-sql: {}", loud.errors());
    let ours = setup(&quiet).env("LOG_LEVEL", "WARN").env("SQL_EXPORTER_LOG_LEVEL", "error").once();
    assert_eq!(ours.errors(), "", "our variable");
    let flag = setup(&quiet).env("SQL_EXPORTER_LOG_LEVEL", "error").args(&["--log-level", "warn"]).once();
    assert!(one_line(&flag).contains("query broken"), "the flag: {}", flag.errors());
    let exporter = setup(GOOD).env("EXPORTER_PORT", "tcp://10.0.0.1:1").serve();
    exporter.wait_for_log("EXPORTER_PORT=tcp://10.0.0.1:1 ignored");
}

#[test]
fn health_asks_a_running_exporter() {
    let exporter = setup(GOOD).serve();
    let address = exporter.address().to_string();
    let healthy = Setup::empty().args(&["health", "--listen", &address]).output();
    assert_eq!((healthy.code(), healthy.text()), (0, "healthy\n"));
    assert_eq!(exporter.stop("TERM").0, Some(0));
    let below = setup(&format!("{GOOD}exporter: {{route_prefix: sql}}\n")).serve();
    let ask = |config: &str| {
        let arguments = ["health", "-c", config, "--listen", &below.address().to_string()].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Setup::empty().args(&arguments).output()
    };
    let asked = ask(&below.file("sql-exporter.yaml").display().to_string());
    assert_eq!((asked.code(), asked.text()), (0, "healthy\n"));
    let unknown = ask("/nowhere.yaml");
    assert_eq!(unknown.code(), 1, "without the configuration the prefix is not known");
    let hint = " answers 404; if the exporter has TLS or a `route_prefix`, name its configuration with -c";
    assert!(one_line(&unknown).contains(hint), "{}", unknown.errors());
    // A broken file is not a broken exporter: it still serves what it has loaded.
    let broken = format!(
        "databases: {{shop: {{drover: sqlite}}}}\nqueries: [{{}}]\nexporter: {{route_prefix: sql, listen: \"{}\"}}\n",
        below.address()
    );
    std::fs::write(below.file("sql-exporter.yaml"), broken).expect("written");
    let file = below.file("sql-exporter.yaml").display().to_string();
    assert_eq!((ask(&file).code(), ask(&file).text()), (0, "healthy\n"));
    let without_address = Setup::empty().args(&["health", "-c", &file]).output();
    assert_eq!((without_address.code(), without_address.text()), (0, "healthy\n"));
    let gone = Setup::empty().args(&["health", "--listen", &address]).output();
    assert_eq!(gone.code(), 1);
    assert!(one_line(&gone).contains("does not answer"), "{}", gone.errors());
}

#[test]
fn a_log_line_is_written_once_a_change_and_bears_no_secret() {
    let password = format!("{CANARY}-@:/#%' x");
    let config = format!(
        "databases:\n  shop: {{driver: sqlite, database: shop.db}}\n  far: {{driver: postgres, host: 127.0.0.1, port: 1, username: u, password: \"{password}\"}}\n\
         queries:\n  - {{name: flip, database: shop, sql: SELECT x FROM flip, metrics: [{{name: flip_value, value_column: x}}]}}\n"
    );
    let exporter = setup(&config).serve();
    let shop = rusqlite::Connection::open(exporter.file("shop.db")).expect("the database");
    for _ in 0..3 {
        exporter.metrics();
    }
    shop.execute_batch("CREATE TABLE flip AS SELECT 1 AS x").expect("a table");
    for _ in 0..2 {
        exporter.metrics();
    }
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(0), "{log}");
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("query flip on target shop fails: sql: no such table: flip"), 1, "{log}");
    assert_eq!(count("query flip on target shop works again"), 1, "{log}");
    assert_eq!(count("target far is down: connect: "), 1, "{log}");
    assert_eq!(log.lines().count(), 5, "listening, three changes, stopping:\n{log}");
}

#[test]
fn a_json_log_is_one_object_a_line_with_its_parts_as_fields() {
    let exporter = setup(HALF).args(&["--log-format", "json"]).serve();
    exporter.metrics();
    let (_, log) = exporter.stop("INT");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let failing = lines.iter().find(|line| line["query"] == "broken").expect("a line about the query");
    assert_eq!(
        (&failing["level"], &failing["target"], &failing["reason"]),
        (&"warn".into(), &"shop".into(), &"sql".into())
    );
    assert!(lines.iter().all(|line| line["time"].is_string() && line["message"].is_string()), "{log}");
}

#[test]
fn what_ends_a_start_is_a_line_of_a_json_log_too() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let broken = "databases: {shop: {driver: sqlite}}\nexporter: {log_format: json, log_level: off}\n";
    for (config, arguments, code, message) in [
        (broken, &["run"][..], 2, "a SQLite target needs a file"),
        ("databases: [", &["--log-format", "json"], 2, "sql-exporter.yaml:1:"),
        (GOOD, &["--log-format", "json", "--listen", &address], 1, "the port is in use"),
    ] {
        let output = setup(config).args(arguments).output();
        let lines: Vec<serde_json::Value> =
            output.errors().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(output.code(), code, "{lines:?}");
        let said =
            |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(message));
        assert!(lines.iter().any(|line| line["level"] == "error" && said(line)), "{lines:?}");
    }
}
