//! What a load says of a configuration that has more than one fault, or statements that never run; and that the work of
//! a load, a check and a request grows no faster than what they are given.

use std::fmt::Write;
use std::path::Path;

use sql_exporter::config;
use sql_exporter::config::Config;
use sql_exporter::driver::Drivers;
use sql_exporter::error::Error;
use sql_exporter::inspect::lint;
use sql_exporter::yaml::document::Document;
use sql_exporter::yaml::keys::Reader;

use crate::exporter::Setup;
use crate::process::folder;

fn load(text: &str) -> Result<Config, Vec<Error>> {
    let folder = folder();
    let path = folder.path().join("main.yaml");
    std::fs::write(&path, text).expect("written");
    config::load(&path, &|name| (name == "BIG").then(|| "x".repeat(100_000)), &Drivers::built_in())
}

/// Path and message of each fault.
fn faults(text: &str) -> Vec<String> {
    let faults = load(text).err().unwrap_or_default();
    let said = |fault: &Error| {
        let path = fault.place().map(|place| place.path.clone()).unwrap_or_default();
        let on = fault.target().map(|target| format!(" [{target}]")).unwrap_or_default();
        format!("{path}{on}: {}", fault.message())
    };
    faults.iter().map(said).collect()
}

fn paths(text: &str) -> Vec<String> {
    faults(text).iter().map(|fault| fault.split([':', ' ']).next().unwrap_or_default().to_owned()).collect()
}

const FOUR: &str = "databases:
  pg: {driver: postgres, host: localhost}
  my: {driver: mysql, host: localhost}
  lite: {driver: sqlite, database: a.db}
  console: {driver: pgbouncer, host: localhost}
  writable: {driver: sqlite, database: b.db, read_only: false}
  off: {driver: sqlite, database: c.db, enabled: false}
";

fn query(more: &str) -> String {
    format!("{FOUR}queries:\n- {{name: q, {more}, metrics: [{{name: q, help: x.}}]}}\n")
}

#[test]
fn what_never_runs_is_told_once_with_all_its_targets() {
    let reading = "databases: [pg, my, lite]";
    let first = "a statement may start with SELECT, WITH, VALUES, TABLE, SHOW, EXPLAIN, found";
    for (sql, message) in [
        ("SET a = 1; SELECT 1", "only one statement may be run, found another after `;`".to_owned()),
        ("SELEC 1", format!("{first} SELEC")),
        ("CALL p()", format!("{first} CALL")),
        ("INSERT INTO t VALUES (1)", format!("{first} INSERT")),
    ] {
        let expected = format!("queries[0].sql [pg, my and lite]: {message}");
        assert_eq!(faults(&query(&format!("{reading}, sql: \"{sql}\""))), [expected], "{sql}");
    }
    let show = "queries[0].sql [console]: PgBouncer's console answers SHOW alone, found SELECT";
    assert_eq!(faults(&query("database: console, sql: SELECT 1")), [show]);
    let slip = "queries[0].sql [writable]: no statement starts with SELEC";
    assert_eq!(faults(&query("database: writable, sql: SELEC 1")), [slip]);
    let condition = "queries[0] [lite]: when.sql: only one statement may be run, found another after `;`";
    assert_eq!(
        faults(&query("database: lite, sql: SELECT 1, when: {sql: \"SELECT 1; SELECT 2\"}")),
        [condition]
    );
    let many: String =
        (0..9).map(|n| format!("  t{n}: {{driver: sqlite, database: a.db}}\n")).collect::<String>();
    let text = format!(
        "databases:\n{many}queries: [{{name: q, databases: ['*'], sql: DO 1, metrics: [{{name: q}}]}}]\n"
    );
    assert!(faults(&text)[0].starts_with("queries[0].sql [t0, t1 and 7 more]: "), "{:?}", faults(&text));
}

#[test]
fn what_may_run_somewhere_is_left_alone() {
    for more in [
        "databases: [pg, my, lite, writable], sql: SELECT 1",
        "databases: ['*'], enabled: false, sql: SELEC 1",
        "database: off, sql: SELEC 1",
        "databases: [writable], sql: DELETE FROM t RETURNING a",
        "databases: [pg, lite], when: {flavor: mariadb}, sql: \"DO 1; DO 2\"",
        "databases: [pg, my], when: {flavor: mysql}, sql: \"SELECT `;` FROM t; -- done\"",
        "database: console, sql: SHOW POOLS",
        "database: pg, sql: \"SELECT $$;$$; -- one\"",
    ] {
        assert_eq!(faults(&query(more)), [""; 0], "{more}");
    }
    // An override, or one of a target, may switch it off.
    let off = query("database: lite, sql: SELEC 1") + "overrides: {q: {enabled: false}}\n";
    assert_eq!(faults(&off), [""; 0]);
}

#[test]
fn both_a_check_and_a_scrape_say_where_a_setting_belongs() {
    let config = "databases: {lite: {driver: sqlite, database: a.db}}\n\
                  queries: [{name: q, sql: \"PRAGMA cache_size = 1; SELECT 1 AS n\", metrics: [{name: q, help: h., value_column: n}]}]\n";
    let check = Setup::new(config).file("a.db", "").args(&["check"]).output();
    let scrape = Setup::new(config).file("a.db", "").once();
    assert_eq!((check.code(), scrape.code()), (2, 2));
    for text in [check.text(), scrape.errors()] {
        assert!(text.contains("belongs in `session_sql` of the target"), "{text}");
        assert!(!text.contains("read_only"), "{text}");
    }
}

#[test]
fn a_merge_key_is_one_fault_and_nothing_follows_from_it() {
    let merged = "databases:\n  app: &db {driver: sqlite, database: a.db, labels: {env: prod}}\n  \
                  stage: {<<: *db, labels: {env: stage}}\n";
    let rest = "queries: [{name: q, databases: ['*'], sql: SELECT v FROM t, metrics: [{name: q, help: h., value_column: v}]}]\n";
    let expected = ["databases.stage.<<: merge keys are not supported"];
    assert_eq!(faults(&format!("{merged}{rest}")), expected);
    // Of several mappings, of one that merges another, and below metrics.
    let several = "databases:\n  a: &a {driver: sqlite}\n  b: &b {<<: *a, database: a.db}\n  c: {<<: [*b, {enabled: false}]}\n";
    assert_eq!(paths(&format!("{several}{rest}")), ["databases.a", "databases.b.<<", "databases.c.<<"]);
    let metric = "databases: {a: {driver: sqlite, database: a.db}}\nqueries:\n- name: q\n  sql: SELECT 1\n  metrics:\n  \
                  - &m {name: m, help: x., value_column: v}\n  - {<<: *m, name: n, timeot: 1}\n";
    assert_eq!(paths(metric), ["queries[0].metrics[1].<<", "queries[0].metrics[1].timeot"]);
    assert_eq!(
        paths(&format!("<<: {{a: 1}}\n{rest}databases: {{a: {{driver: sqlite, database: x}}}}\n")),
        ["<<", "a"]
    );
    assert_eq!(
        paths(&format!("<<: text\n{rest}databases: {{a: {{driver: sqlite, database: x}}}}\n")),
        ["<<"]
    );
}

#[test]
fn a_fault_hides_no_other() {
    let text = "\
databases:
  a: {driver: postgress, url: 'postgres://h:port/d', colour: red}
  b: {driver: mood, colour: red, host: h}
  c: {hots: h}
  d: text
queries:
  - {name: one, database: nowhere, sql: SELECT 1, metrics: [{name: process_x, type: guage, scale: 0}]}
  - {database: a, metrics: [{name: m, labels: [le]}]}
  - {name: q, databse: a, sql_file: missing.sql, timeout: soon, metrics: [{name: 1st}]}
overrides:
  three: {timeout: 0}
exporter: {port: 70000, listn: x}
";
    let expected = [
        "databases.a.driver",
        "databases.a.url",
        "databases.a.colour",
        "databases.b.driver",
        "databases.b.colour",
        "databases.c",
        "databases.c.hots",
        "databases.d",
        "queries[0].metrics[0].type",
        "queries[0].metrics[0].scale",
        "queries[1]",
        "queries[1]",
        "queries[1].metrics[0].labels",
        "queries[2].databse",
        "queries[2].sql_file",
        "queries[2].timeout",
        "queries[2].metrics[0].name",
        "overrides.three.timeout",
        "exporter.port",
        "exporter.listn",
    ];
    let mut found = paths(text);
    found.retain(|path| path != "main.yaml");
    assert_eq!(found, expected, "{:#?}", faults(text));
}

#[test]
fn what_follows_from_another_fault_is_not_told() {
    let one = "databases: {a: {driver: sqlite, database: a.db}, b: {driver: sqlite, database: b.db}}\n";
    let metric = "metrics: [{name: m, help: x.}]";
    for (text, path) in [
        // A key that is there misspelt is not missing as well.
        (format!("{one}queries: [{{nmae: q, database: a, sql: SELECT 1, {metric}}}]\n"), "queries[0].nmae"),
        (format!("{one}queries: [{{name: q, databse: a, sql: SELECT 1, {metric}}}]\n"), "queries[0].databse"),
        (format!("{one}queries: [{{name: q, database: a, sqll: SELECT 1, {metric}}}]\n"), "queries[0].sqll"),
        (
            format!("{one}queries: [{{name: q, database: a, sql: SELECT 1, metrcs: []}}]\n"),
            "queries[0].metrcs",
        ),
        (
            format!(
                "datbases: {{a: {{driver: sqlite, database: a.db}}}}\nqueries: [{{name: q, sql: SELECT 1, {metric}}}]\n"
            ),
            "datbases",
        ),
        ("databases: {a: {drver: sqlite, database: a.db}}\n".to_owned(), "databases.a.drver"),
        // An entry that could not be read may be the one that is missed.
        (
            format!("databases: {{a: text}}\nqueries: [{{name: q, database: a, sql: SELECT 1, {metric}}}]\n"),
            "databases.a",
        ),
        (
            format!(
                "{one}queries: [{{name: , database: a, sql: SELECT 1, {metric}}}]\noverrides: {{q: {{interval: 1}}}}\n"
            ),
            "queries[0]",
        ),
        // A driver that was meant has its keys.
        ("databases: {a: {driver: sqllite, database: a.db}}\n".to_owned(), "databases.a.driver"),
        (
            "databases: {a: {driver: mood, host: h, password: c, tls: {mode: require}}}\n".to_owned(),
            "databases.a.driver",
        ),
        ("databases: {a: {url: 'postgress://u@h/d', max_connections: 2}}\n".to_owned(), "databases.a.url"),
        // SQL that is not there refuses nothing else.
        (format!("{one}queries: [{{name: q, database: a, sql: ' ; ', {metric}}}]\n"), "queries[0].sql"),
    ] {
        assert_eq!(paths(&text), [path], "{text}\n{:#?}", faults(&text));
    }
}

#[test]
fn a_hundred_faults_are_enough() {
    let keys: String = (0..5000).map(|n| format!("key{n}: 1\n")).collect();
    let all =
        load(&format!("databases: {{a: {{driver: sqlite, database: a.db}}}}\n{keys}")).err().expect("faults");
    assert_eq!(all.len(), 101);
    assert_eq!(all.last().map(ToString::to_string).as_deref(), Some("4900 more errors are not shown"));
    let run = Setup::new(&format!("databases: {{}}\n{keys}")).args(&["check", "--format", "json"]).output();
    let document: serde_json::Value = serde_json::from_str(run.text()).expect("JSON");
    assert_eq!(document["findings"].as_array().map(Vec::len), Some(101), "{}", run.text());
}

#[test]
fn a_variable_makes_no_endless_text() {
    let big = |count: usize| {
        format!("databases: {{a: {{driver: sqlite, database: \"{}\"}}}}\n", "${BIG}".repeat(count))
    };
    assert_eq!(faults(&big(10)), [""; 0]);
    assert_eq!(faults(&big(11)), ["databases.a.database: its variables expand to more than 1 MiB"]);
}

/// Work of this thread, in nanoseconds on a processor: what others do on the machine does not count.
pub(crate) fn cost(mut work: impl FnMut()) -> f64 {
    let read = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        text.split(' ').next().and_then(|spent| spent.parse::<f64>().ok()).expect("a number")
    };
    let once = |work: &mut dyn FnMut()| {
        let before = read();
        work();
        read() - before
    };
    (0..3).map(|_| once(&mut work)).fold(f64::INFINITY, f64::min)
}

/// Eight times the input costs about eight times as much: far less than the 64 times of a square.
fn grows_as_its_input(what: &str, size: usize, make: impl Fn(usize) -> String, work: impl Fn(&str)) {
    const TIMES: usize = 8;
    let [small, large] = [size, size * TIMES].map(|size| {
        let text = make(size);
        cost(|| work(&text))
    });
    let ratio = large / small;
    assert!(
        ratio < 24.0,
        "{what}: {TIMES} times the input costs {ratio:.1} times as much: {small} → {large} ns"
    );
}

fn loaded(text: &str) {
    let plan = load(text);
    drop(plan);
}

fn checked(text: &str) {
    let plan = load(text).unwrap_or_else(|faults| panic!("{faults:?}"));
    drop(lint::run(&plan));
}

/// So many entries of a list or mapping, each made of its number.
fn repeated(count: usize, entry: impl Fn(usize) -> String) -> String {
    (0..count).map(entry).collect()
}

const ONE: &str = "databases: {a: {driver: sqlite, database: a.db}}\n";

#[test]
fn the_work_of_a_load_grows_as_its_input() {
    grows_as_its_input(
        "unknown keys",
        500,
        |n| format!("{ONE}{}", repeated(n, |n| format!("unknown_key_{n}: 1\n"))),
        loaded,
    );
    grows_as_its_input(
        "places on one long line",
        200,
        |n| {
            format!(
                "{{databases: {{a: {{driver: sqlite, database: a.db}}}}, queries: [{}]}}\n",
                repeated(n, |n| {
                    format!("{{name: q{n}, sql: SELECT 1, metrics: [{{name: m{n}, help: é.}}]}}, ")
                })
            )
        },
        loaded,
    );
    grows_as_its_input(
        "labels and states",
        500,
        |n| {
            format!(
                "{ONE}queries: [{{name: q, sql: SELECT 1, metrics: [{{name: m, type: stateset, state_column: s, states: [{0}], labels: [{0}]}}]}}]\n",
                repeated(n, |n| format!("s{n}, "))
            )
        },
        loaded,
    );
    grows_as_its_input(
        "tests",
        100,
        |n| {
            format!(
                "{ONE}queries: [{{name: q, sql: SELECT 1, metrics: [{{name: m}}]}}]\ntests:\n{}",
                repeated(n, |n| format!("- {{name: t{n}, query: q, rows: [{{a: 1}}], error: x}}\n"))
            )
        },
        loaded,
    );
    grows_as_its_input(
        "columns of rows",
        500,
        |n| {
            format!(
                "{ONE}queries: [{{name: q, sql: SELECT 1, metrics: [{{name: m}}]}}]\ntests: [{{name: t, query: q, error: x, rows: [{{{0}}}, {{{0}}}]}}]\n",
                repeated(n, |n| format!("c{n}: 1, "))
            )
        },
        loaded,
    );
}

#[test]
fn the_work_of_the_lints_grows_as_the_runs_of_queries() {
    // The same statement everywhere and no two queries together: pairs of queries × targets are not looked at.
    grows_as_its_input(
        "one statement on many targets",
        20,
        |n| {
            let targets = repeated(n, |n| format!("  t{n}: {{driver: sqlite, database: a.db}}\n"));
            let queries = repeated(n, |n| {
                format!(
                    "- {{name: q{n}, database: t{n}, sql: SELECT count(*) AS n FROM orders, interval: {n}, \
                     metrics: [{{name: m{n}_total, type: counter, help: x., value_column: n}}]}}\n"
                )
            });
            format!("databases:\n{targets}queries:\n{queries}")
        },
        checked,
    );
    grows_as_its_input(
        "comments in a statement",
        200,
        |n| {
            format!(
                "{ONE}queries:\n- name: q\n  metrics: [{{name: m, help: x.}}]\n  sql: |\n    SELECT 1\n{}",
                repeated(n, |n| format!("    -- comment {n}\n    + {n}\n"))
            )
        },
        checked,
    );
}

#[test]
fn a_load_of_many_targets_shares_their_queries() {
    let targets = repeated(50, |n| format!("  t{n}: {{driver: sqlite, database: a.db}}\n"));
    let queries = repeated(50, |n| {
        format!(
            "- {{name: q{n}, databases: ['*'], sql: SELECT {n} AS v, metrics: [{{name: m{n}, value_column: v}}]}}\n"
        )
    });
    let plan = load(&format!("databases:\n{targets}queries:\n{queries}overrides: {{q0: {{timeout: 1s}}}}\n"))
        .expect("a plan");
    let [first, .., last] = plan.targets.as_slice() else { panic!("50 targets") };
    assert!(first.queries.iter().zip(&last.queries).all(|(one, other)| std::sync::Arc::ptr_eq(one, other)));
}

#[test]
fn links_in_circles_are_not_followed_round_and_round() {
    let setup = Setup::new(
        "include: ['files/**/*.yaml']\ndatabases: {a: {driver: sqlite, database: a.db}}\n",
    )
    .file("files/in/one.yaml", "queries: [{name: q, sql: SELECT 1, metrics: [{name: q, help: h.}]}]\n");
    for link in ["a", "b", "c", "d"] {
        std::os::unix::fs::symlink(setup.path().join("files"), setup.path().join("files/in").join(link))
            .expect("a link");
    }
    let output = setup.args(&["check"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    assert!(output.text().contains("in 2 files: 1 target, 1 query"), "{}", output.text());
}

/// An answer is as short as its question is long, and made without a search.
#[test]
fn a_long_unknown_name_is_refused_without_a_search() {
    let queries = repeated(300, |n| {
        format!(
            "- {{name: orders_by_region_and_status_{n}, sql: SELECT 1 AS v, metrics: [{{name: m{n}, help: h., value_column: v}}]}}\n"
        )
    });
    let exporter = Setup::new(&format!("{ONE}queries:\n{queries}")).file("a.db", "").serve();
    let long = "x".repeat(15_000);
    for path in [
        "/metrics?query=",
        "/metrics?target=",
        "/metrics?collect[]=",
        "/probe?target=a&query=",
        "/probe?target=",
    ] {
        let reply = exporter.get(&format!("{path}{long}"));
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.text().len() < 300 && !reply.text().contains("nearest"), "{path}: {}", reply.text());
    }
    let mut many = String::from("/metrics?query=orders_by_region_and_status_1");
    (0..1500).for_each(|n| write!(many, "&query={n}").expect("text"));
    let reply = exporter.get(&many);
    assert_eq!(
        (reply.status, reply.text().starts_with("unknown query `0`; nearest: ")),
        (400, true),
        "{}",
        reply.text()
    );
}

/// A document of one line has its columns, whatever stands before them.
#[test]
fn columns_are_counted_in_characters_however_long_the_line() {
    let text = format!("{{a: {}, bé: {{x: 1}}}}\n", "é".repeat(5000));
    let document = Document::parse("x.yaml", Path::new("."), text.clone()).expect("YAML");
    for (what, character) in [("a", 1), ("é", 4), ("x", text.chars().position(|c| c == 'x').expect("an x"))]
    {
        let at = text.char_indices().nth(character).map(|(at, _)| at);
        assert_eq!(document.place(at, "").column, character + 1, "{what}");
    }
    let environment = |_: &str| None;
    assert!(Reader::new(&environment).finish().faults.is_empty());
}
