//! What a server, an extension or a role lacks: `when.extension`, `when.relation` and `without_privilege`.

use crate::checker::{Page, checked};
use crate::exporter::{Exporter, Output, Setup};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// Why a query is skipped on the target `it`; `runs` for one that succeeds.
fn state<'p>(page: &'p Page, query: &str) -> &'p str {
    let row = |family: &str| page.series(family).into_iter().find(|row| row.labels["query"] == query);
    match (row("sql_exporter_query_skipped"), row("sql_exporter_query_success").map(|row| row.value)) {
        (Some(row), None) => row.labels["reason"].as_str(),
        (None, Some(1.0)) => "runs",
        _ => "fails",
    }
}

/// A query with this condition, and what is expected of it.
type Case = (&'static str, &'static str, &'static str);

fn config(entry: &str, cases: &[Case]) -> String {
    let query = |(name, when, _): &Case| {
        format!(
            "  - {{name: {name}, sql: SELECT 1 AS value, when: {{{when}}}, metrics: [{{name: {name}_value, help: x.}}]}}\n"
        )
    };
    let queries: String = cases.iter().map(query).collect();
    format!("databases: {{it: {entry}}}\nqueries:\n{queries}")
}

fn assert_states(page: &Page, cases: &[Case], what: &str) {
    let found: Vec<(&str, &str)> = cases.iter().map(|(name, _, _)| (*name, state(page, name))).collect();
    let expected: Vec<(&str, &str)> = cases.iter().map(|(name, _, state)| (*name, *state)).collect();
    assert_eq!(found, expected, "{what}");
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "it")]), Some(1.0), "{what}");
}

const OF_POSTGRES: [Case; 13] = [
    ("extension", "extension: pg_trgm", "runs"),
    ("extension_version", "extension: 'pg_trgm >=1.3 <90'", "runs"),
    ("extension_old", "extension: 'pg_trgm <1.3'", "when"),
    ("extension_missing", "extension: pg_buffercache", "when"),
    ("extensions", "extension: [plpgsql, pg_trgm]", "runs"),
    ("extensions_one_missing", "extension: [plpgsql, pg_buffercache]", "when"),
    ("table", "relation: theirs.open", "runs"),
    ("catalog", "relation: [pg_catalog.pg_class, pg_catalog.pg_stat_activity]", "runs"),
    ("column", "relation: theirs.partly", "runs"),
    ("missing", "relation: theirs.nothing", "when"),
    ("refused", "relation: theirs.shut", "permission"),
    ("schema_refused", "relation: hidden.open", "permission"),
    ("with_sql", "extension: pg_trgm, relation: theirs.open, sql: SELECT 1 = 2", "when"),
];

/// A database with things that its role may read and others, and that role's name.
fn guarded_postgres(server: &Postgres) -> String {
    let role = format!("{}_plain", server.database);
    let password = &server.password;
    server.run(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{password}'; CREATE EXTENSION pg_trgm; \
         CREATE SCHEMA theirs; GRANT USAGE ON SCHEMA theirs TO {role}; \
         CREATE TABLE theirs.open (a int); GRANT SELECT ON theirs.open TO {role}; \
         CREATE TABLE theirs.partly (a int, b int); GRANT SELECT (a) ON theirs.partly TO {role}; \
         CREATE TABLE theirs.shut (a int); INSERT INTO theirs.shut VALUES (7); \
         CREATE SCHEMA hidden; CREATE TABLE hidden.open (a int); GRANT SELECT ON hidden.open TO {role}"
    ));
    role
}

fn as_role(entry: &str, role: &str) -> String {
    entry.replace("username: postgres", &format!("username: {role}"))
}

#[test]
fn extensions_and_relations_decide_on_postgresql_in_any_way_to_the_server() {
    let server = Postgres::fresh("objects");
    let role = guarded_postgres(&server);
    let pooled = server.through_pgbouncer();
    for (entry, through_pooler) in [
        (as_role(&server.entry(), &role), false),
        (as_role(&server.entry_with("params: {protocol: simple}"), &role), false),
        (as_role(&server.entry_with("snapshot: true"), &role), false),
        // PgBouncer knows the superuser only.
        (pooled.entry(), true),
        (pooled.entry_with("params: {protocol: simple}"), true),
    ] {
        let exporter = Exporter::serve(&config(&entry, &OF_POSTGRES));
        for turn in ["first", "second"] {
            let page = checked(&exporter.metrics());
            let what = format!("{turn} {entry}: {}", exporter.log());
            if through_pooler {
                let seen = |(name, when, state): Case| {
                    (name, when, if state == "permission" { "runs" } else { state })
                };
                assert_states(&page, &OF_POSTGRES.map(seen), &what);
            } else {
                assert_states(&page, &OF_POSTGRES, &what);
            }
        }
    }
}

#[test]
fn the_commands_tell_which_condition_does_not_hold() {
    let server = Postgres::fresh("objects_told");
    let role = guarded_postgres(&server);
    let entry = as_role(&server.entry_with("lint_off: [L010, L011, L012]"), &role);
    let config = config(&entry, &OF_POSTGRES)
        .replace("queries:", "defaults: {query: {lint_off: [L013, L014]}}\nqueries:");
    let output = Setup::new(&config).args(&["check", "--connect", "--strict"]).output();
    let text = output.text();
    assert_eq!(output.code(), 0, "{text}");
    for line in [
        "query extension_old: when.extension: the server has pg_trgm 1.",
        "query extension_missing: when.extension: the server has no pg_buffercache",
        "query missing: when.relation: the server has no theirs.nothing, or hides it from the user",
        "query refused: when.relation: the user lacks a privilege to read theirs.shut",
        "query with_sql: when.sql returns false",
    ] {
        assert!(text.contains(&format!("skipped: target it, {line}")), "{line}: {text}");
    }
    assert_eq!(text.matches("note: ").count(), 2, "what a grant changes: {text}");
    let output = Setup::new(&config).args(&["try", "--query", "refused"]).output();
    let told = "a scrape would leave it out: when.relation: the user lacks a privilege to read theirs.shut";
    assert!(output.text().contains(told), "{}", output.text());
    let output = Setup::new(&config).args(&["test"]).output();
    assert!(output.text().contains("PASS"), "{}", output.text());
}

/// One statement for all conditions of a target, and none at the next scrape.
#[test]
fn a_session_asks_once_what_the_server_has() {
    let server = OwnPostgres::start(&["log_statement=all"]);
    let access = server.access();
    access.run("CREATE EXTENSION pg_trgm; CREATE SCHEMA theirs; CREATE TABLE theirs.open (a int)");
    let entry = access.entry_with("max_connections: 1");
    let cases = [OF_POSTGRES[0], OF_POSTGRES[2], OF_POSTGRES[3], OF_POSTGRES[6], OF_POSTGRES[9]];
    let exporter = Exporter::serve(&config(&entry, &cases));
    for _ in 0..3 {
        assert_states(&checked(&exporter.metrics()), &cases, &exporter.log());
    }
    let asked = server.log().lines().filter(|line| line.contains("FROM pg_extension")).count();
    assert_eq!(asked, 1, "{}", server.log());
    // A fresh session sees what was created meanwhile.
    access.run("CREATE EXTENSION pg_buffercache; CREATE TABLE theirs.nothing (a int)");
    let created = [
        ("extension_missing", "extension: pg_buffercache", "runs"),
        ("missing", "relation: theirs.nothing", "runs"),
    ];
    let output = Setup::new(&config(&entry, &created)).once();
    assert_states(&checked(output.text()), &created, output.errors());
}

#[test]
fn plugins_and_tables_decide_on_mariadb() {
    let server = MariaDb::fresh("objects");
    let (name, password) = (&server.database, &server.password);
    server.run(&format!(
        "CREATE TABLE {name}.open (a int);\nCREATE VIEW {name}.seen AS SELECT 1 AS a;\nCREATE DATABASE {name}_x;\n\
         CREATE TABLE {name}_x.shut (a int);\nCREATE USER {name}_p@'%' IDENTIFIED BY '{password}';\n\
         GRANT SELECT ON {name}.* TO {name}_p@'%'"
    ));
    let entry = server.entry().replace("username: root", &format!("username: {name}_p"));
    let case = |query: &str, when: &str| {
        format!(
            "  - {{name: {query}, sql: SELECT 1 AS value, when: {{{when}}}, metrics: [{{name: {query}_value, help: x.}}]}}\n"
        )
    };
    let queries = [
        case("plugin", "extension: innodb"),
        case("plugin_version", "extension: 'InnoDB >=1'"),
        case("plugin_missing", "extension: group_replication"),
        case("table", &format!("relation: {name}.open")),
        case("view", &format!("relation: {name}.seen")),
        case("schema", "relation: information_schema.tables"),
        case("hidden", &format!("relation: {name}_x.shut")),
        case("missing", "relation: nowhere.nothing"),
    ];
    let config = format!("databases: {{it: {entry}}}\nqueries:\n{}", queries.concat());
    let exporter = Exporter::serve(&config);
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        let states = ["plugin", "plugin_version", "table", "view", "schema"].map(|query| state(&page, query));
        assert_eq!(states, ["runs"; 5], "{}", exporter.log());
        let states = ["plugin_missing", "hidden", "missing"].map(|query| state(&page, query));
        assert_eq!(states, ["when"; 3], "{}", exporter.log());
    }
}

#[test]
fn sqlite_has_relations_in_main_and_no_extension() {
    const CASES: [Case; 5] = [
        ("table", "relation: main.orders", "runs"),
        ("case", "relation: MAIN.Orders", "runs"),
        ("missing", "relation: main.nothing", "when"),
        ("elsewhere", "relation: temp.orders", "when"),
        ("extension", "extension: json1", "when"),
    ];
    let shop = crate::sqlite::Shop::new();
    let entry = format!("{{driver: sqlite, database: {}}}", shop.path().display());
    let output = Setup::new(&config(&entry, &CASES)).once();
    assert_states(&checked(output.text()), &CASES, output.errors());
}

/// SQLite joins 500 SELECTs at most.
#[test]
fn sqlite_is_asked_for_any_number_of_relations() {
    let shop = crate::sqlite::Shop::new();
    let tables: String = (0..600).map(|number| format!("CREATE TABLE t{number} (a);")).collect();
    shop.write(&tables);
    let names: Vec<String> = (0..600).map(|number| format!("main.t{number}")).collect();
    let queries = format!(
        "queries:\n  - {{name: all, sql: SELECT 1 AS value, when: {{relation: [{}]}}, metrics: [{{name: all_value}}]}}\n",
        names.join(", ")
    );
    let entry = format!("databases: {{it: {{driver: sqlite, database: {}}}}}\n", shop.path().display());
    let output = Setup::new(&format!("{entry}{queries}")).once();
    assert_eq!(state(&checked(output.text()), "all"), "runs", "{}", output.errors());
}

#[test]
fn the_console_of_pgbouncer_has_neither() {
    let console =
        Postgres { database: "pgbouncer".to_owned(), ..Postgres::shared("postgres").through_pgbouncer() };
    let entry = console.entry_with("tls: {mode: disable}").replace("driver: postgres", "driver: pgbouncer");
    let queries = ["relation: pgbouncer.pools", "extension: pgbouncer", "flavor: pgbouncer"].map(|when| {
        let name = when.split(':').next().unwrap_or_default();
        format!("  - {{name: {name}, sql: SHOW LISTS, when: {{{when}}}, metrics: [{{name: {name}_value, help: x., labels: [list], value_column: items}}]}}\n")
    });
    let output = Setup::new(&format!("databases: {{it: {entry}}}\nqueries:\n{}", queries.concat())).once();
    let page = checked(output.text());
    let states = ["relation", "extension", "flavor"].map(|query| state(&page, query));
    assert_eq!(states, ["when", "when", "runs"], "{}", output.errors());
}

/// Queries of the user that the server refuses, failing and skipped.
fn refused(entry: &str, sql: &str) -> String {
    format!(
        "databases: {{it: {entry}}}\nqueries:\n\
         \x20 - {{name: strict, sql: '{sql}', metrics: [{{name: strict_value, help: x., value_column: a}}]}}\n\
         include: [pack.yaml]\n"
    )
}

fn pack(sql: &str) -> String {
    format!(
        "without_privilege: skip\nqueries:\n\
         \x20 - {{name: lenient, sql: '{sql} ', metrics: [{{name: lenient_value, help: x., value_column: a}}]}}\n\
         \x20 - {{name: asked, sql: SELECT 1 AS a, when: {{sql: '{sql}'}}, metrics: [{{name: asked_value, help: x., value_column: a}}]}}\n\
         \x20 - {{name: own, sql: '{sql}  ', without_privilege: fail, metrics: [{{name: own_value, help: x., value_column: a}}]}}\n\
         \x20 - {{name: broken, sql: SELECT nothing FROM nowhere_at_all, metrics: [{{name: broken_value, help: x., value_column: a}}]}}\n"
    )
}

const LENIENT: [&str; 2] = ["lenient", "asked"];

fn assert_refused(page: &Page, what: &str) {
    assert_eq!(LENIENT.map(|query| state(page, query)), ["permission"; 2], "{what}");
    assert_eq!(["strict", "own", "broken"].map(|query| state(page, query)), ["fails"; 3], "{what}");
    assert!(page.series("lenient_value").is_empty() && page.series("asked_value").is_empty(), "{what}");
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "it")]), Some(1.0), "{what}");
}

#[test]
fn a_query_that_postgresql_refuses_is_skipped_where_it_says_so_and_not_asked_at_each_scrape() {
    let server = OwnPostgres::start(&[]);
    let access = server.access();
    let role = guarded_postgres(access);
    for more in ["", "snapshot: true"] {
        let entry = as_role(&access.entry_with(more), &role);
        let sql = "SELECT a FROM theirs.shut";
        let before = refusals(&server);
        let exporter = Setup::new(&refused(&entry, sql)).file("pack.yaml", &pack(sql)).serve();
        assert_refused(&checked(&exporter.metrics()), &exporter.log());
        let first = refusals(&server) - before;
        for _ in 0..3 {
            assert_refused(&checked(&exporter.metrics()), &exporter.log());
        }
        // The two that fail are asked each time.
        assert_eq!((first, refusals(&server) - before), (4, 10), "{more}: {}", server.log());
        let log = exporter.log();
        let told = log.lines().filter(|line| line.contains("query lenient on target it is skipped")).count();
        assert_eq!(told, 1, "{log}");
        assert!(log.contains("permission denied for table shut") && log.contains("docs/packs.md"), "{log}");
        access.run(&format!("GRANT SELECT ON theirs.shut TO {role}"));
        assert_eq!(state(&checked(&exporter.metrics()), "lenient"), "permission", "as noted");
        exporter.request("POST", "/-/reload", &[]);
        let page = checked(&exporter.metrics());
        assert_eq!(LENIENT.map(|query| state(&page, query)), ["runs"; 2], "{}", exporter.log());
        assert_eq!(page.value("lenient_value", &[("target", "it")]), Some(7.0));
        access.run(&format!("REVOKE SELECT ON theirs.shut FROM {role}"));
    }
}

/// Where the server refuses some of the values, these fail; where it refuses all of them, the query is skipped.
#[test]
fn a_query_with_foreach_is_skipped_where_the_server_refuses_all_values() {
    let server = Postgres::fresh("objects_foreach");
    let role = guarded_postgres(&server);
    server.run(
        "CREATE FUNCTION theirs.ask(text) RETURNS int LANGUAGE plpgsql STABLE AS \
         $$BEGIN IF $1 LIKE 'shut%' THEN RETURN (SELECT a FROM theirs.shut); END IF; RETURN 1; END$$",
    );
    let query = |name: &str, values: &str| {
        format!(
            "  - {{name: {name}, without_privilege: skip, foreach: {{values: [{values}]}}, sql: SELECT theirs.ask($1) AS value, \
             metrics: [{{name: {name}_value}}]}}\n"
        )
    };
    let entry = as_role(&server.entry(), &role);
    let queries = query("all", "{of: shut}, {of: shut too}") + &query("some", "{of: shut}, {of: open}");
    let config = format!("databases: {{it: {entry}}}\nqueries:\n{queries}");
    let output = Setup::new(&config).args(&["try", "--query", "all"]).output();
    let skipped = "a scrape would leave it out: without_privilege: skip";
    assert!(output.text().contains(skipped) && output.code() == 1, "{}", output.text());
    let exporter = Exporter::serve(&config);
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        assert_eq!(
            ["all", "some"].map(|query| state(&page, query)),
            ["permission", "fails"],
            "{}",
            exporter.log()
        );
        assert!(page.series("all_value").is_empty());
        assert_eq!(page.value("some_value", &[("target", "it"), ("of", "open")]), Some(1.0));
        assert_eq!(page.series("some_value").len(), 1);
    }
}

fn refusals(server: &OwnPostgres) -> usize {
    server.log().lines().filter(|line| line.contains("ERROR:  permission denied for table shut")).count()
}

/// All that the role may see is there: nothing failed.
fn is_success(output: &Output) {
    assert_eq!(output.code(), 0, "{}", output.errors());
}

#[test]
fn a_query_that_mariadb_refuses_is_a_note_of_check_and_no_failure_of_once() {
    let server = MariaDb::fresh("refused");
    let (name, password) = (&server.database, &server.password);
    server.run(&format!(
        "CREATE DATABASE {name}_x;\nCREATE TABLE {name}_x.shut (a int);\nINSERT INTO {name}_x.shut VALUES (7);\n\
         CREATE USER {name}_p@'%' IDENTIFIED BY '{password}';\nGRANT SELECT ON {name}.* TO {name}_p@'%'"
    ));
    let entry = server
        .entry_with("lint_off: [L010, L011, L012]")
        .replace("username: root", &format!("username: {name}_p"));
    let sql = format!("SELECT a FROM {name}_x.shut");
    let exporter = Setup::new(&refused(&entry, &sql)).file("pack.yaml", &pack(&sql)).serve();
    for _ in 0..2 {
        assert_refused(&checked(&exporter.metrics()), &exporter.log());
    }
    let only = "queries:\n  - {name: lenient, sql: 'SQL', without_privilege: skip, metrics: [{name: lenient_value, help: x., value_column: a}]}\n"
        .replace("SQL", &sql);
    let config = format!("databases: {{it: {entry}}}\n{only}");
    is_success(&Setup::new(&config).once());
    let output = Setup::new(&config).args(&["check", "--connect", "--strict"]).output();
    is_success(&output);
    assert!(
        output.text().contains("note: ") && output.text().contains("SELECT command denied"),
        "{}",
        output.text()
    );
    assert!(output.text().contains("skipped: target it, query lenient: "), "{}", output.text());
    let output = Setup::new(&config).args(&["try", "--query", "lenient"]).output();
    assert!(
        output.text().contains("a scrape would leave it out: without_privilege: skip"),
        "{}",
        output.text()
    );
}
