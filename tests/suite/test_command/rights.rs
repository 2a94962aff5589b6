//! What is said of users: those who may do too much, and those whom the printed statements make.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{json as document, made, mariadb_as, only, postgres_as, test, texts, with_file};
use crate::servers::own::OwnPostgres;
use crate::servers::{CANARY, MariaDb, Postgres};

#[test]
fn a_superuser_is_a_warning_and_the_printed_statements_make_a_reader() {
    let server = Postgres::fresh("test_rights");
    server.run("CREATE SCHEMA \"Odd one\"; CREATE TABLE \"Odd one\".a (x int); CREATE TABLE b (x int)");
    let super_user = only(&server.entry());
    assert_eq!(super_user["verdict"], "pass");
    assert_eq!(texts(&super_user["warnings"]), ["postgres is a superuser: nothing is denied to it"]);
    let user = format!("{}_r", server.database);
    server.run(&made(&super_user["grants"], &user));
    let reader = only(&postgres_as(&server, &user, ""));
    assert_eq!((&reader["verdict"], &reader["user"]), (&json!("pass"), &json!(user)));
    assert_eq!((texts(&reader["warnings"]), texts(&reader["grants"])), (vec![], vec![]), "{reader}");
    let query = "queries:\n  - {name: q, sql: 'SELECT count(*) FROM \"Odd one\".a, b', metrics: [{name: q, value_column: count}]}\n";
    let config = format!("databases: {{shop: {}}}\n{query}", postgres_as(&server, &user, ""));
    assert_eq!(crate::exporter::Setup::new(&config).once().code(), 0);
}

#[test]
fn root_is_a_warning_and_the_printed_statements_make_a_reader() {
    let server = MariaDb::fresh("test_rights");
    let root = only(&server.entry());
    assert_eq!(root["verdict"], "pass");
    let warnings = texts(&root["warnings"]);
    assert!(warnings[0].contains("has ALL PRIVILEGES on *.*, SUPER and FILE among them"), "{warnings:?}");
    assert!(!root.to_string().contains("IDENTIFIED BY PASSWORD"), "{root}");
    assert!(texts(&root["grants"])[1].contains("BINLOG MONITOR, SLAVE MONITOR"), "{root}");
    let user = server.database.replace("test_rights", "r");
    server.run(&made(&root["grants"], &user));
    let reader = only(&mariadb_as(&server, &user, ""));
    assert_eq!((reader["verdict"].as_str(), texts(&reader["warnings"])), (Some("pass"), vec![]), "{reader}");
    let name = reader["user"].as_str().unwrap();
    assert!(name.starts_with(&format!("{user}@")), "{name}");
}

/// A PostgreSQL user that was made by these statements, `USER` being its name: its warnings.
fn postgres_warnings(statements: &str) -> Vec<String> {
    let server = Postgres::fresh("test_rights");
    let user = format!("{}_u", server.database);
    server.run(&format!("CREATE ROLE {user} LOGIN PASSWORD '{CANARY}user'"));
    server.run(&statements.replace("USER", &user));
    let told = only(&postgres_as(&server, &user, ""));
    assert_eq!(told["verdict"], "pass", "{told}");
    assert_eq!(texts(&told["grants"]).is_empty(), texts(&told["warnings"]).is_empty());
    texts(&told["warnings"]).iter().map(|text| text.replace(&user, "USER")).collect()
}

#[test]
fn a_postgres_user_who_may_write_is_told_where() {
    let cases = [
        ("CREATE TABLE a (x int); GRANT SELECT ON a TO USER", vec![]),
        ("CREATE TABLE a (x int); ALTER TABLE a OWNER TO USER", vec!["USER owns the table public.a"]),
        ("CREATE TABLE a (x int); GRANT TRUNCATE ON a TO USER", vec!["USER may write the table public.a"]),
        (
            "CREATE TABLE a (x int, y int); CREATE TABLE \"B c\" (x int); GRANT UPDATE (y) ON a TO USER; \
             GRANT INSERT ON \"B c\" TO USER",
            vec!["USER may write tables public.\"B c\" and 1 more"],
        ),
        // Without a way into the schema nothing is written there.
        ("CREATE SCHEMA s; CREATE TABLE s.a (x int); GRANT INSERT ON s.a TO USER", vec![]),
        (
            "ALTER ROLE USER CREATEROLE REPLICATION",
            vec![
                "USER may make and change roles (CREATEROLE)",
                "USER may replicate, which reads everything and keeps WAL from being removed (REPLICATION)",
            ],
        ),
        (
            "GRANT pg_read_server_files, pg_execute_server_program, pg_monitor TO USER",
            vec!["USER is a member of pg_execute_server_program, pg_read_server_files"],
        ),
        // What everybody may execute is not specific to one user.
        (
            "GRANT EXECUTE ON FUNCTION pg_reload_conf(), lo_unlink(oid), pg_stat_reset() TO USER",
            vec!["USER may execute pg_reload_conf, pg_stat_reset, which the read-only mode does not stop"],
        ),
    ];
    for (statements, expected) in cases {
        assert_eq!(postgres_warnings(statements), expected, "{statements}");
    }
}

/// The same on MariaDB; a statement a line.
fn mariadb_warnings(statements: &str) -> Vec<String> {
    let server = MariaDb::fresh("test_rights");
    let user = server.database.replace("test_rights", "u");
    let name = format!("'{user}'@'%'");
    server.run(&format!("CREATE USER {name} IDENTIFIED BY '{CANARY}user'"));
    server.run(&statements.replace("USER", &name).replace("BASE", &server.database));
    let told = only(&mariadb_as(&server, &user, ""));
    assert_eq!(told["verdict"], "pass", "{told}");
    let plain = |text: &&str| text.replace(&format!("{user}@%"), "USER").replace(&server.database, "BASE");
    texts(&told["warnings"]).iter().map(plain).collect()
}

#[test]
fn a_mariadb_user_who_may_write_is_told_where() {
    let role = format!("role_{}", std::process::id());
    let by_role = format!(
        "CREATE ROLE {role};\nGRANT SELECT, UPDATE ON BASE.* TO {role};\nGRANT {role} TO USER;\nSET DEFAULT ROLE {role} FOR USER"
    );
    let cases = [
        ("GRANT SELECT ON BASE.* TO USER", vec![]),
        ("GRANT ALL ON BASE.* TO USER", vec!["USER has ALL PRIVILEGES on `BASE`.*"]),
        (
            "GRANT SELECT, FILE ON *.* TO USER;\nGRANT SELECT ON BASE.* TO USER",
            vec!["USER has FILE: it may read and write files on the server's machine"],
        ),
        ("GRANT SELECT, INSERT, DROP ON BASE.* TO USER", vec!["USER has INSERT, DROP on `BASE`.*"]),
        (
            "GRANT SELECT ON BASE.* TO USER WITH GRANT OPTION",
            vec!["USER may grant its privileges on `BASE`.* to others (GRANT OPTION)"],
        ),
        (&by_role, vec!["USER has UPDATE on `BASE`.*"]),
    ];
    for (statements, expected) in cases {
        assert_eq!(mariadb_warnings(statements), expected, "{statements}");
    }
}

#[test]
fn a_file_is_a_warning_only_where_it_may_be_written() {
    let warnings = |more: &str| {
        let config =
            format!("databases: {{shop: {{driver: sqlite, database: app.db, {more}}}}}\nqueries: []\n");
        let (code, told) = document(with_file(test(&config)));
        assert_eq!(code, 0, "{told}");
        texts(&told["targets"][0]["warnings"]).len()
    };
    assert_eq!((warnings(""), warnings("read_only: false")), (0, 1));
}

#[test]
fn a_file_that_may_not_be_written_is_none_where_the_mode_counts() {
    let config = "databases: {shop: {driver: sqlite, database: app.db, read_only: false}}\nqueries: []\n";
    let setup = with_file(test(config));
    std::fs::set_permissions(setup.path().join("app.db"), PermissionsExt::from_mode(0o444)).expect("a mode");
    // Root may write whatever the mode says.
    let expected = usize::from(crate::process::is_root());
    let (_, told) = document(setup);
    assert_eq!(texts(&told["targets"][0]["warnings"]).len(), expected, "{told}");
}

#[test]
fn an_admin_of_pgbouncers_console_is_a_warning() {
    let console = Postgres::shared("pgbouncer").through_pgbouncer();
    let told = only(&console.entry().replace("driver: postgres", "driver: pgbouncer"));
    assert_eq!(
        (&told["verdict"], &told["flavor"], &told["user"]),
        (&json!("pass"), &json!("pgbouncer"), &json!("postgres"))
    );
    assert_eq!(
        texts(&told["warnings"]),
        ["postgres is one of admin_users and may PAUSE, KILL and SHUTDOWN the pooler"]
    );
    assert!(texts(&told["grants"])[0].starts_with("stats_users = exporter"), "{told}");
    let pooled = only(&Postgres::fresh("test_rights").through_pgbouncer().entry());
    assert_eq!((&pooled["role"], &pooled["flavor"]), (&json!("primary"), &json!("postgresql")), "{pooled}");
}

#[test]
fn a_standby_is_a_replica() {
    let primary = OwnPostgres::start(&["max_wal_senders=3"]);
    let standby = OwnPostgres::standby_of(primary.access());
    let role = |server: &OwnPostgres| only(&server.access().entry())["role"].take();
    assert_eq!((role(&primary), role(&standby)), (json!("primary"), json!("replica")));
}
