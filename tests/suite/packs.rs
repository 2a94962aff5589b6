//! The built-in collectors on real servers: every query succeeds, the page passes all judges, known values are there.

mod beside;
pub(crate) mod described;
mod families;
mod hostile;
mod privileges;
mod scene;
mod scene_mysql;
mod sqlite;
mod strict;
mod up;

use crate::checker::Page;
use crate::exporter::Setup;
use crate::judges::judge;
use crate::process::wait_for;
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres};
use crate::sqlite::Shop;

/// One scrape of the packs `pattern` on the target `entry`.
fn scrape(entry: &str, pattern: &str) -> Page {
    let config = format!("databases: {{it: {entry}}}\ninclude: ['builtin:{pattern}']\n");
    let output = Setup::new(&config).once();
    assert!(output.code() < 2, "{}", output.errors());
    judge(output.text())
}

/// The queries that the page reports as failed.
fn failed(page: &Page) -> Vec<&str> {
    let rows = page.series("sql_exporter_query_success");
    assert!(!rows.is_empty(), "no query ran");
    rows.into_iter().filter(|row| row.value < 1.0).map(|row| row.labels["query"].as_str()).collect()
}

/// The queries that are skipped as the user lacks a privilege.
fn lacking(page: &Page) -> Vec<&str> {
    let rows = page.series("sql_exporter_query_skipped").into_iter();
    rows.filter(|row| row.labels["reason"] == "permission").map(|row| row.labels["query"].as_str()).collect()
}

/// Waits until the server's statistics hold a commit in a fresh database: before PostgreSQL 15 they come late.
fn wait_for_statistics(database: &str) {
    let mut client = Postgres::shared("postgres").client();
    wait_for("the statistics of a fresh database", || {
        let query = "SELECT 1 FROM pg_stat_database WHERE datname = $1 AND xact_commit > 0";
        client.query_opt(query, &[&database]).expect("asked")
    });
}

fn postgres_entry(server: &Postgres, user: &str) -> String {
    server.entry().replace("username: postgres", &format!("username: {user}"))
}

#[test]
fn postgres_packs_succeed_for_a_monitoring_role_and_for_one_without_any_privilege() {
    let server = Postgres::fresh("packs");
    let (name, password) = (&server.database, &server.password);
    server.run(&format!(
        "CREATE ROLE {name}_plain LOGIN PASSWORD '{password}'; \
         CREATE ROLE {name}_monitor LOGIN PASSWORD '{password}' IN ROLE pg_monitor"
    ));
    wait_for_statistics(name);
    for user in ["monitor", "plain"] {
        let page = scrape(&postgres_entry(&server, &format!("{name}_{user}")), "postgres/*");
        assert_eq!(failed(&page), [""; 0], "{user}");
        let lacks_files = lacking(&page).contains(&"pg_wal_files");
        assert_eq!(lacks_files, user == "plain", "{:?}", lacking(&page));
        assert!(page.value("pg_connections_max", &[]).expect("the limit") >= 1.0);
        let here = [("datname", name.as_str())];
        assert!(page.value("pg_database_size_bytes", &here).expect("the size") > 1e6);
        assert!(page.value("pg_database_commits_total", &here).expect("commits") >= 1.0);
        assert_eq!(page.value("pg_replication_is_replica", &[]), Some(0.0));
        assert_eq!(page.types["pg_database_rows_written_total"], "counter");
    }
}

#[test]
fn the_locks_pack_shows_a_session_that_waits_and_the_connections_pack_its_transaction() {
    let server = Postgres::fresh("packs_locks");
    server.run("CREATE TABLE t (a int)");
    let mut holder = server.client();
    holder.batch_execute("BEGIN; LOCK TABLE t").expect("locked");
    let waiting = std::thread::spawn({
        let server = server.clone();
        move || server.run("BEGIN; LOCK TABLE t; COMMIT")
    });
    wait_for("a session that waits", || {
        let query = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
        holder.query_opt(query, &[]).expect("asked")
    });

    let page = scrape(&server.entry(), "postgres/*");
    let mode = [("datname", server.database.as_str()), ("mode", "AccessExclusiveLock")];
    let locks = |granted| page.value("pg_locks", &[mode[0], mode[1], ("granted", granted)]);
    assert_eq!((locks("true"), locks("false")), (Some(1.0), Some(1.0)));
    assert!(page.value("pg_locks_waiting_sessions", &[]).expect("waiting") >= 1.0);
    assert!(page.value("pg_oldest_transaction_seconds", &mode[..1]).expect("the age") > 0.0);
    let idle = [mode[0], ("state", "idle in transaction")];
    assert_eq!(page.value("pg_connections", &idle), Some(1.0));

    holder.batch_execute("COMMIT").expect("unlocked");
    waiting.join().expect("the lock was granted");
}

#[test]
fn the_replication_pack_shows_both_ends_and_what_a_slot_holds_back() {
    let mut primary = OwnPostgres::start(&["wal_level=replica"]);
    let access = primary.access();
    access.run("SELECT pg_create_physical_replication_slot('spare', true)");
    let mut replica = OwnPostgres::standby_of(access);
    wait_for("the standby to stream", || {
        let query = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL";
        access.client().query_opt(query, &[]).expect("asked")
    });

    let page = scrape(&access.entry(), "postgres/replication");
    assert_eq!(failed(&page), [""; 0]);
    assert_eq!(page.value("pg_replication_is_replica", &[]), Some(0.0));
    assert!(page.series("pg_replication_lag_seconds").is_empty());
    let standby = [("application_name", "walreceiver"), ("client_addr", "127.0.0.1")];
    assert!(page.value("pg_replication_standby_lag_bytes", &standby).expect("the lag") >= 0.0);
    let slot = [("slot_name", "spare"), ("slot_type", "physical")];
    assert_eq!(page.value("pg_replication_slot_active", &slot), Some(0.0));
    assert!(page.value("pg_replication_slot_retained_bytes", &slot).expect("bytes") >= 0.0);

    let page = scrape(&replica.access().entry(), "postgres/*");
    assert_eq!(failed(&page), [""; 0]);
    assert_eq!(page.value("pg_replication_is_replica", &[]), Some(1.0));
    assert!(page.value("pg_replication_lag_seconds", &[]).expect("the lag") >= 0.0);

    // Started again without its primary, it knows no transaction that it replayed: that is not a lag of 0.
    primary.kill();
    replica.restart();
    let page = scrape(&replica.access().entry(), "postgres/{replication,essential}");
    assert_eq!(page.value("pg_receiver_streaming", &[]), Some(0.0));
    let ages = [
        "pg_replication_lag_seconds",
        "pg_server_replay_lag_seconds",
        "pg_replay_last_transaction_age_seconds",
    ];
    for family in ages {
        assert_ne!(page.value(family, &[]), Some(0.0), "{family}");
    }
}

/// The system's own catalog has TOAST tables, too, in the same schema as those of users.
#[test]
fn the_server_pack_counts_the_relations_of_users_alone() {
    let server = Postgres::fresh("relations");
    let relations = |page: &Page| {
        let rows = page.series("pg_relations").into_iter().map(|row| (row.labels["kind"].clone(), row.value));
        let mut rows: Vec<_> = rows.map(|(kind, count)| format!("{kind} {count}")).collect();
        rows.sort();
        rows
    };
    assert_eq!(relations(&scrape(&server.entry(), "postgres/server")), [""; 0]);
    server.run("CREATE TABLE notes (note text)");
    let page = scrape(&server.entry(), "postgres/server");
    assert_eq!(relations(&page), ["index 1", "table 1", "toast table 1"]);
    // It has -1 pages then, from version 14 on.
    server.run("CREATE TABLE parts (a int) PARTITION BY LIST (a); ANALYZE parts");
    let page = scrape(&server.entry(), "postgres/server");
    assert_eq!(page.value("pg_relations_size_bytes", &[("kind", "partitioned table")]), Some(0.0));
}

/// The oldest database stops the writes of all.
#[test]
fn a_database_that_takes_no_connections_counts_for_the_wraparound() {
    let server = OwnPostgres::start(&[]);
    server.access().run("UPDATE pg_database SET datfrozenxid = '3' WHERE NOT datallowconn");
    let page = scrape(&server.access().entry(), "postgres/{essential,vacuum}");
    let age = |ratio: f64| ratio * 2_144_483_648.0;
    let of_database =
        |name| age(page.value("pg_database_wraparound_ratio", &[("datname", name)]).expect(name));
    let of_server = age(page.value("pg_server_wraparound_ratio", &[]).expect("the ratio"));
    assert!(of_database("template0") > of_database("postgres") + 500.0, "{page:?}");
    // Both queries may begin some transactions.
    assert!((of_server - of_database("template0")).abs() < 100.0, "{of_server}");
}

/// They live and die with a session, and autovacuum leaves them alone.
#[test]
fn temporary_tables_of_other_sessions_are_not_among_the_tables() {
    let server = Postgres::fresh("temporary");
    server.run("CREATE TABLE kept (a int PRIMARY KEY)");
    let mut session = server.client();
    session.batch_execute("CREATE TEMP TABLE scratch (a int PRIMARY KEY)").expect("created");
    let page = scrape(&server.entry(), "postgres/{tables,indexes,vacuum}");
    for family in ["pg_table_live_rows", "pg_table_xid_age", "pg_index_scans_total"] {
        let names: Vec<_> =
            page.series(family).into_iter().map(|row| row.labels["relname"].as_str()).collect();
        assert_eq!(names, ["kept"], "{family}");
    }
    for family in ["pg_tables", "pg_tables_never_vacuumed", "pg_indexes"] {
        assert_eq!(page.series(family).first().map(|row| row.value), Some(1.0), "{family}");
    }
}

#[test]
fn mysql_packs_succeed_for_a_monitoring_user_and_what_another_one_lacks_is_a_privilege() {
    let server = MariaDb::fresh("packs");
    let (name, password) = (&server.database, &server.password);
    // MySQL has no SLAVE MONITOR; a comment for MariaDB only.
    server.run(&format!(
        "CREATE USER {name}_m@'%' IDENTIFIED BY '{password}';\n\
         GRANT PROCESS, REPLICATION CLIENT /*M! , SLAVE MONITOR */ ON *.* TO {name}_m@'%';\n\
         GRANT SELECT ON performance_schema.* TO {name}_m@'%';\nGRANT SELECT ON {name}.* TO {name}_m@'%';\n\
         CREATE USER {name}_n@'%' IDENTIFIED BY '{password}';\nGRANT SELECT ON {name}.* TO {name}_n@'%'"
    ));
    for user in ["m", "n"] {
        // What the user may not see is skipped.
        let entry = server.entry().replace("username: root", &format!("username: {name}_{user}"));
        for packs in ["compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"] {
            assert_eq!(failed(&scrape(&entry, packs)), [""; 0], "{user}: {packs}");
        }
        let page = scrape(&entry, "m{ysql,ariadb}/*");
        assert_eq!(failed(&page), [""; 0], "{user}");
        assert_eq!(lacking(&page).is_empty(), user == "m", "{:?}", lacking(&page));
        assert_eq!(page.series("mysql_innodb_history_list_length").is_empty(), user == "n");
        assert_eq!(page.series("mysql_transactions").is_empty(), user == "n");
        assert_eq!(page.value("mysql_server_connections_max", &[]), page.value("mysql_connections_max", &[]));
        assert!(page.value("mysql_uptime_seconds", &[]).expect("the uptime") >= 0.0);
        assert!(page.value("mysql_connections_max", &[]).expect("the limit") >= 1.0);
        assert!(page.value("mysql_innodb_page_size_bytes", &[]).expect("the size") >= 4096.0);
        assert_eq!(page.types["mysql_commands_total"], "counter");
    }
}

/// MariaDB says of such a table that it is none.
#[test]
fn mysql_packs_have_tables_with_system_versioning() {
    let server = MariaDb::fresh("packs_versioned");
    let (name, password) = (&server.database, &server.password);
    // The packs show the largest tables of those that the user may see, and other tests have larger ones.
    server.run(&format!(
        "CREATE TABLE kept (a int PRIMARY KEY) /*M! WITH SYSTEM VERSIONING */;\n\
         CREATE USER {name}_v@'%' IDENTIFIED BY '{password}';\nGRANT SELECT ON {name}.* TO {name}_v@'%'"
    ));
    let entry = server.entry().replace("username: root", &format!("username: {name}_v"));
    let page = scrape(&entry, "mysql/tables");
    let schema = ("schema", name.as_str());
    assert_eq!(page.value("mysql_database_tables", &[schema]), Some(1.0));
    assert!(page.value("mysql_table_data_bytes", &[schema, ("table", "kept")]).is_some());
}

/// In that mode of MariaDB `''` in a statement is NULL, and so are most functions of it.
#[test]
fn mysql_packs_show_the_same_where_an_empty_text_is_null() {
    let server = MariaDb::fresh("packs_empty");
    let entry = server.entry();
    let mode = "SET SESSION sql_mode = concat(@@sql_mode /*M! , ',EMPTY_STRING_IS_NULL' */)";
    let other = entry.replacen('{', &format!("{{session_sql: [\"{mode}\"], "), 1);
    for packs in [
        "m{ysql,ariadb}/*",
        "compat/mysqld_exporter",
        "compat/mysqld_exporter_optional/info_schema_processlist",
    ] {
        let (page, other) = (scrape(&entry, packs), scrape(&other, packs));
        assert_eq!(failed(&other), [""; 0], "{packs}");
        let settings = other.types.keys().filter(|name| name.starts_with("mysql_setting_")).count();
        assert!(settings > 60 || packs.starts_with("compat/"), "{packs}: {settings}");
        for family in ["mysql_setting_", "mariadb_gtid_"] {
            let names = |page: &Page| -> Vec<String> {
                page.types.keys().filter(|name| name.starts_with(family)).cloned().collect()
            };
            assert_eq!(names(&page), names(&other), "{packs}");
        }
        let nameless = other.series("mysql_info_schema_processlist_threads").into_iter();
        assert_eq!(nameless.filter(|row| row.labels["command"].is_empty()).count(), 0, "{packs}");
    }
}

/// In that mode the server fills names of users and hosts with blanks.
#[test]
fn mysql_packs_have_the_same_labels_where_texts_are_padded() {
    let server = MariaDb::fresh("packs_padded");
    let mode = "SET SESSION sql_mode = concat(@@sql_mode, ',PAD_CHAR_TO_FULL_LENGTH')";
    let entry = server.entry().replacen('{', &format!("{{session_sql: [\"{mode}\"], "), 1);
    for packs in ["m{ysql,ariadb}/*", "compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"] {
        let page = scrape(&entry, packs);
        assert_eq!(failed(&page), [""; 0], "{packs}");
        for name in page.types.keys() {
            for row in page.series(name) {
                assert!(row.labels.values().all(|text| !text.ends_with("  ")), "{name}: {:?}", row.labels);
            }
        }
    }
}

/// A MariaDB can do without the engine that most packs are about.
#[test]
fn mariadb_packs_succeed_without_innodb() {
    let server = OwnMariaDb::start(&["--skip-innodb", "--default-storage-engine=Aria"]);
    for packs in ["m{ysql,ariadb}/*", "compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"] {
        let page = scrape(&server.access().entry(), packs);
        assert_eq!(failed(&page), [""; 0], "{packs}");
        if packs.starts_with('m') {
            assert!(page.value("mysql_server_connections_max", &[]).expect("the limit") >= 1.0);
            assert_eq!(page.value("mysql_read_only", &[]), Some(0.0));
        }
    }
}

#[test]
fn sqlite_packs_tell_the_size_of_the_file_and_of_its_tables() {
    let shop = Shop::new();
    let page = scrape(&format!("{{driver: sqlite, database: {}}}", shop.path().display()), "sqlite/*");
    assert_eq!(failed(&page), [""; 0]);
    let length = std::fs::metadata(shop.path()).expect("the file").len();
    assert_eq!(page.value("sqlite_database_size_bytes", &[]), Some(length as f64));
    assert_eq!(page.value("sqlite_schema_objects", &[("type", "table")]), Some(1.0));
    let table = [("table", "orders"), ("type", "table")];
    assert_eq!(page.value("sqlite_object_size_bytes", &table), page.value("sqlite_page_size_bytes", &[]));
}

/// What compat and native packs have in common is shown once, and the rest of each query stays.
#[test]
fn native_and_compatible_packs_stand_beside_each_other_on_a_server() {
    let server = Postgres::fresh("packs_both");
    let native_first = "['builtin:postgres/**', 'builtin:compat/postgres_exporter']";
    let compat_first = "['builtin:compat/postgres_exporter', 'builtin:postgres/**']";
    for include in [native_first, compat_first] {
        let entry = server.entry_with("lint_off: [L010, L011, L012]");
        let config = format!("databases: {{it: {entry}}}\ninclude: {include}\n");
        let output = Setup::new(&config).once();
        assert_eq!(output.code(), 0, "{}", output.errors());
        let page = judge(output.text());
        assert_eq!(failed(&page), [""; 0], "{include}");
        assert_eq!(page.value("pg_replication_is_replica", &[]), Some(0.0));
        let size = [("datname", server.database.as_str())];
        assert!(page.value("pg_database_size_bytes", &size).expect("the size") > 1e6);
        assert!(output.errors().contains("series left out because collector "), "{}", output.errors());
        let config = Setup::new(&config).args(&["check", "--strict"]).output();
        assert_eq!(config.code(), 0, "{}", config.text());
        assert!(
            config.text().contains(" both make pg_database_size_bytes on target it"),
            "{}",
            config.text()
        );
    }
}

/// Ours are the first that somebody checks.
#[test]
fn the_packs_are_clean_under_strict_on_each_database() {
    let (postgres, mariadb, shop) =
        (Postgres::fresh("packs_strict"), MariaDb::fresh("packs_strict"), Shop::new());
    let lints = "lint_off: [L010, L011, L012]";
    let config = format!(
        "databases:\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: {}}}\n\
         include: ['builtin:{{postgres,mysql,mariadb,sqlite}}/**', 'builtin:compat/{{postgres,mysqld}}_exporter{{,_optional/**}}']\n",
        postgres.entry_with(lints),
        mariadb.entry_with(lints),
        shop.path().display()
    );
    let output = Setup::new(&config).args(&["check", "--connect", "--strict"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    assert!(output.text().contains("0 errors, 0 warnings, "), "{}", output.text());
    // Of a SHOW that the server does not describe, the columns are known when it runs.
    let is_known =
        |line: &str| line.contains(" both make ") || line.contains("reports the columns only when it runs");
    let odd = |line: &&str| line.contains("note: ") && !is_known(line);
    assert_eq!(output.text().lines().filter(odd).collect::<Vec<_>>(), [""; 0], "{}", output.text());
}
