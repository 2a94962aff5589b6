//! A database whose owner sets `search_path` to a schema that has a trap for each name of the catalog: no pack, and
//! nothing that a session asks for itself, steps into one.

use sql_exporter::config::packs;

use crate::checker::Page;
use crate::exporter::Setup;
use crate::judges::judge;
use crate::servers::Postgres;

use super::{failed, scrape, wait_for_statistics};

/// How the trap says that it was stepped into.
const CALLED: &str = "mine.";

/// Made by its owner, who is nobody special.
fn hostile() -> Postgres {
    let server = Postgres::fresh("hostile");
    let Postgres { database, .. } = &server;
    server.run(&format!("CREATE ROLE {database}_owner; ALTER DATABASE {database} OWNER TO {database}_owner"));
    server.run(&format!("SET ROLE {database}_owner; {}", include_str!("hostile.sql")));
    server.run(&format!("ALTER DATABASE {database} SET search_path = mine, pg_catalog, public"));
    wait_for_statistics(database);
    server
}

/// One value from another database, as a superuser who meets no trap.
fn truth(sql: &str) -> f64 {
    let sql = format!("SELECT ({sql})::float8");
    Postgres::shared("postgres").client().query_one(&sql, &[]).expect("asked").get(0)
}

/// The numbers of the packs that stay what they are while other tests work on the server.
fn is_true(page: &Page, database: &str) {
    assert_eq!(failed(page), [""; 0]);
    let setting = |name: &str| truth(&format!("SELECT setting FROM pg_settings WHERE name = '{name}'"));
    assert_eq!(page.value("pg_connections_max", &[]), Some(setting("max_connections")));
    assert_eq!(page.value("pg_connections_reserved", &[]), Some(setting("superuser_reserved_connections")));
    assert_eq!(page.value("pg_replication_is_replica", &[]), Some(0.0));
    let here = [("datname", database)];
    let size = truth(&format!("SELECT pg_database_size('{database}')"));
    let ratio = page.value("pg_database_size_bytes", &here).expect("the size") / size;
    assert!((0.8..1.2).contains(&ratio), "{ratio} of {size}");
    let age = page.value("pg_database_xid_age", &here).expect("the age");
    assert!(
        age > 1.0
            && age
                <= truth(&format!("SELECT age(datfrozenxid) FROM pg_database WHERE datname = '{database}'"))
    );
    assert!(page.value("pg_database_commits_total", &here).expect("commits") >= 1.0);
    assert_eq!(page.series("pg_locks_waiting_sessions").len(), 1);
    assert!(!page.series("pg_connections").is_empty() && !page.series("pg_oldest_query_seconds").is_empty());
}

/// Queries of a user, one for each kind of name that the catalog has, and a condition.
const UNQUALIFIED: [(&str, &str); 5] = [
    ("function", "sql: SELECT now() AS value"),
    ("aggregate", "sql: 'SELECT count(*) AS value FROM pg_catalog.pg_namespace'"),
    ("operator", "sql: SELECT 1 + 1 AS value"),
    ("relation", "sql: SELECT oid AS value FROM pg_namespace"),
    ("condition", "sql: SELECT 1 AS value, when: {sql: 'SELECT 1 = 1'}"),
];

#[test]
fn every_kind_of_name_has_a_trap_into_which_queries_of_a_user_step() {
    let server = hostile();
    let mut client = server.client();
    for (kind, least) in
        [("functions", 3000), ("aggregates", 100), ("operators", 700), ("relations", 120), ("types", 50)]
    {
        let sql = format!(
            "SELECT count OPERATOR(pg_catalog.>=) {least} FROM mine.made() WHERE kind OPERATOR(pg_catalog.=) '{kind}'"
        );
        assert!(client.query_one(&sql, &[]).expect("counted").get::<_, bool>(0), "{kind}");
    }
    let query = |(name, sql): (&str, &str)| {
        format!("  - {{name: {name}, {sql}, metrics: [{{name: 'x_{name}', help: x., type: gauge}}]}}\n")
    };
    // A type raises no error: what the owner made of int4 is text, and has a length.
    let of_type = ("type", "sql: \"SELECT pg_catalog.length('12345'::int4) AS value\"");
    let queries: String = UNQUALIFIED.into_iter().chain([of_type]).map(query).collect();
    let output = Setup::new(&format!("databases: {{it: {}}}\nqueries:\n{queries}", server.entry())).once();
    let page = judge(output.text());
    assert_eq!(page.value("x_type", &[]), Some(5.0), "{}", output.errors());
    for (name, _) in UNQUALIFIED {
        assert!(failed(&page).contains(&name), "{name}: {}", output.errors());
        let said = output.errors().lines().find(|line| line.contains(&format!("query {name} ")));
        assert!(said.is_some_and(|line| line.contains(CALLED)), "{name}: {}", output.errors());
    }
}

/// What a pack is safe from is not in its text: the same text in a file of the user's steps into traps.
#[test]
fn a_copy_of_the_packs_steps_into_traps_in_queries_and_in_conditions() {
    let server = hostile();
    let config = format!("databases: {{it: {}}}\ninclude: ['copies/*.yaml']\n", server.entry());
    let packs = packs::names().into_iter().filter(|name| name.starts_with("postgres/"));
    let setup = packs.fold(Setup::new(&config), |setup, pack| {
        setup.file(
            &format!("copies/{}", pack.replace("postgres/", "") + ".yaml"),
            packs::text(pack).expect("a pack"),
        )
    });
    let output = setup.once();
    let page = judge(output.text());
    let called = output.errors().lines().filter(|line| line.contains(CALLED)).count();
    let (stepped, ran) = (failed(&page).len(), page.series("sql_exporter_query_success").len());
    // Older servers run fewer of them. The rest call nothing whose name has a trap. What fails without a call has stepped into
    // the trap of a type: PostgreSQL then finds no operator for it.
    assert!(stepped * 5 >= ran * 2, "{stepped} of {ran}: {}", output.errors());
    assert!(called * 3 >= ran && stepped >= called, "{called} of {ran}: {}", output.errors());
    let condition = |line: &str| line.contains("when.sql: ") && line.contains(CALLED);
    assert!(output.errors().lines().any(condition), "{}", output.errors());
}

#[test]
fn no_pack_steps_into_a_trap_of_a_hostile_search_path_in_any_way_to_the_server() {
    let server = hostile();
    let pooled = server.through_pgbouncer();
    for entry in [
        server.entry(),
        server.entry_with("params: {protocol: simple}"),
        server.entry_with("snapshot: true"),
        server.entry_with("read_only: false"),
        pooled.entry(),
        pooled.entry_with("params: {protocol: simple}"),
    ] {
        // Beside a query of the user's, whose names are those of the session.
        let config = format!(
            "databases: {{it: {entry}}}\ninclude: ['builtin:postgres/*']\noverrides: {{pg_database_size: {{interval: 0}}}}\n\
             queries:\n  - {{name: mine, sql: 'SELECT 1 AS value', metrics: [{{name: mine, help: x.}}]}}\n  \
             - {{name: path, sql: 'SELECT pg_catalog.current_setting(''search_path'') AS path', \
             metrics: [{{name: path, help: x., labels: [path], value: 1}}]}}\n"
        );
        let exporter = Setup::new(&config).serve();
        // First runs, then in groups.
        for _ in 0..4 {
            let page = judge(&exporter.metrics());
            is_true(&page, &server.database);
            assert_eq!(page.value("path", &[("path", "mine, pg_catalog, public")]), Some(1.0), "{entry}");
        }
        assert!(!exporter.log().contains(CALLED), "{}", exporter.log());
    }
}

#[test]
fn a_role_that_may_only_monitor_sees_the_same() {
    let server = hostile();
    let (name, password) = (&server.database, &server.password);
    server.run(&format!("CREATE ROLE {name}_monitor LOGIN PASSWORD '{password}' IN ROLE pg_monitor"));
    let entry = super::postgres_entry(&server, &format!("{name}_monitor"));
    is_true(&scrape(&entry, "postgres/*"), name);
}

#[test]
fn the_commands_step_into_none() {
    let server = hostile();
    let lints = "lint_off: [L011, L012]";
    for entry in [
        server.entry_with(lints),
        server.entry_with(&format!("params: {{protocol: simple}}, {lints}")),
        server.through_pgbouncer().entry_with(lints),
    ] {
        let config = format!("databases: {{it: {entry}}}\ninclude: ['builtin:postgres/*']\n");
        for (words, code) in [
            (&["check", "--connect", "--strict"][..], 0),
            (&["test"], 0),
            (&["try", "--query", "pg_locks", "--plan"], 0),
            (&["try", "--query", "pg_replication_standbys"], 0),
        ] {
            let output = Setup::new(&config).args(words).output();
            assert_eq!(output.code(), code, "{words:?}: {}{}", output.text(), output.errors());
            assert!(!output.text().contains(CALLED), "{words:?}: {}", output.text());
        }
    }
}

/// An enum is a type that the driver asks the server about.
#[test]
fn what_a_session_asks_about_a_type_of_the_database_steps_into_none() {
    let server = hostile();
    server.run("CREATE SCHEMA theirs; CREATE TYPE theirs.mood AS ENUM ('7')");
    for more in ["", "snapshot: true"] {
        let config = format!(
            "databases: {{it: {}}}\nqueries:\n  - {{name: mood, sql: \"SELECT '7'::theirs.mood AS value\", \
             metrics: [{{name: mood, help: x.}}]}}\n",
            server.entry_with(more)
        );
        let output = Setup::new(&config).once();
        assert_eq!(judge(output.text()).value("mood", &[]), Some(7.0), "{more}: {}", output.errors());
    }
}
