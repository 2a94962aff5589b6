//! On real servers: what `init` writes works there, for who wrote it and for the user that the file's own statements make.

use super::{Place, statements, value};
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{CANARY, MariaDb, Postgres};

fn postgres_url(server: &Postgres) -> String {
    let Postgres { port, password, database } = server;
    format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}")
}

fn mariadb_url(server: &MariaDb) -> String {
    let MariaDb { port, password, database } = server;
    format!("mysql://root:{password}@127.0.0.1:{port}/{database}")
}

fn variable(database: &str) -> String {
    format!("{}_PASSWORD", database.to_ascii_uppercase())
}

const ORDERS: &str = "CREATE TABLE small (x int); CREATE TABLE orders (id int, note text);
    INSERT INTO orders SELECT n, repeat('x', 100) FROM generate_series(1, 2000) AS n";

/// Of every version (`make versions`).
#[test]
fn postgres_and_a_role_that_the_file_makes() {
    let server = Postgres::fresh("init");
    let database = &server.database;
    server.run(&format!("{ORDERS}; ANALYZE orders; REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"));
    let mut place = Place::new();
    let text = place.init(&[&postgres_url(&server)]);
    for part in [
        &format!("    password: ${{{}}}\n", variable(database)),
        "\n  # PostgreSQL 1",
        "\n  # ! postgres is a superuser: nothing is denied to it.\n",
        "\n  - builtin:postgres/tables ",
        "CREATE ROLE exporter LOGIN",
        &format!("GRANT CONNECT ON DATABASE \"{database}\" TO exporter;"),
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(text.lines().count() <= 120 && !text.contains("builtin:mysql"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    place.set(&variable(database), &server.password);
    let page = place.page();
    assert_eq!(value(&page, &format!("{database}_orders_rows")), 2000.0);
    assert!(value(&page, &format!("{database}_orders_bytes")) > 200_000.0);
    // With no more privileges than the file gives: it reads no row.
    let role = format!("{database}_role");
    let made = statements(&text, "A role for the exporter").replace("exporter", &role);
    server.run(&made);
    server.run(&format!("ALTER ROLE {role} PASSWORD '{CANARY}role'"));
    let mut reader = Place::new();
    let Postgres { port, .. } = server;
    let text = reader.init(&[&format!("postgres://{role}:{CANARY}role@127.0.0.1:{port}/{database}")]);
    assert!(!text.contains("# !"), "no excess privileges:\n{text}");
    reader.set(&variable(database), &format!("{CANARY}role"));
    let page = reader.page();
    assert_eq!(value(&page, &format!("{database}_orders_rows")), 2000.0);
}

/// Of every version, and MySQL (`make versions`).
#[test]
fn mariadb_and_a_user_that_the_file_makes() {
    let server = MariaDb::fresh("init");
    server.run(
        "CREATE TABLE small (x int);
CREATE TABLE orders (id int, note text);
INSERT INTO orders WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
        SELECT i, repeat('x', 500) FROM n;
ANALYZE TABLE orders",
    );
    let database = &server.database;
    let mut place = Place::new();
    let text = place.init(&[&mariadb_url(&server)]);
    for part in
        ["\n  - builtin:mysql/status ", &format!("GRANT REFERENCES ON `{database}`.* TO 'exporter'@'%';")]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    place.set(&variable(database), &server.password);
    let page = place.page();
    assert!(value(&page, &format!("{database}_orders_rows")) > 500.0);
    let user = format!("u{}", database.trim_start_matches("init"));
    let made = statements(&text, "A user for the exporter").replace("exporter", &user);
    server.run(&made.replace('…', &format!("{CANARY}user")));
    let mut reader = Place::new();
    let MariaDb { port, .. } = server;
    let text = reader.init(&[&format!("mysql://{user}:{CANARY}user@127.0.0.1:{port}/{database}")]);
    assert!(!text.contains("# !"), "no excess privileges:\n{text}");
    reader.set(&variable(database), &format!("{CANARY}user"));
    assert!(value(&reader.page(), &format!("{database}_orders_rows")) > 500.0);
}

#[test]
fn packs_that_something_is_missing_for_are_comments() {
    let text = Place::new().init(&[&postgres_url(&Postgres::fresh("init"))]);
    for line in [
        "  # - builtin:postgres/io           # PostgreSQL 16 to 18\n",
        "# needs the extension pg_stat_statements\n",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let text = Place::new().init(&[&mariadb_url(&MariaDb::fresh("init"))]);
    for part in [
        "\n  # MariaDB 10.11",
        "\n  - builtin:mariadb/activity ",
        "\n  # - builtin:mariadb/user_statistics  # where userstat is ON\n",
        "GRANT SLAVE MONITOR, BINLOG MONITOR",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("mysql/group_replication"), "a pack for MySQL only:\n{text}");
}

#[test]
fn the_console_named_as_a_database_of_postgres_is_told_apart() {
    let server = Postgres::shared("pgbouncer").through_pgbouncer();
    let output = Place::new().run(&["init", &postgres_url(&server)]);
    assert_eq!(output.code(), 1);
    for part in [
        "FAIL  pgbouncer: this is the console of PgBouncer (protocol)",
        "try: write `driver: pgbouncer`, in a URL",
    ] {
        assert!(output.errors().contains(part), "{}", output.errors());
    }
}

#[test]
fn the_console_of_pgbouncer_has_its_packs_and_no_query() {
    let server = Postgres::shared("pgbouncer").through_pgbouncer();
    let mut place = Place::new();
    let Postgres { port, password, .. } = &server;
    let text = place.init(&[&format!("pgbouncer://postgres:{password}@127.0.0.1:{port}")]);
    assert!(text.contains("\n  - builtin:pgbouncer/pools ") && !text.contains("builtin:postgres"), "{text}");
    assert!(!text.contains("\nqueries:") && text.contains("stats_users"), "{text}");
    place.set("PGBOUNCER_PASSWORD", password);
    assert!(place.page().contains("\npgbouncer_"));
}

#[test]
fn through_pgbouncer_a_database_is_one_of_postgres() {
    let server = Postgres::fresh("init");
    server.run(ORDERS);
    let mut place = Place::new();
    place.init(&[&postgres_url(&server.through_pgbouncer())]);
    place.set(&variable(&server.database), &server.password);
    assert!(value(&place.page(), &format!("{}_orders_bytes", server.database)) > 200_000.0);
}

#[test]
fn several_databases_of_two_kinds_are_one_file() {
    let (postgres, mariadb) = (Postgres::fresh("init"), MariaDb::fresh("init_my"));
    postgres.run(ORDERS);
    mariadb.run("CREATE TABLE orders (id int)");
    let mut place = Place::new();
    place.sqlite("app.db", "CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (7)");
    let same = postgres_url(&postgres);
    let output = place.run(&["init", &same, &mariadb_url(&mariadb), "sqlite:app.db", &same]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    let (one, other) = (variable(&postgres.database), variable(&mariadb.database));
    let second = variable(&format!("{}_2", postgres.database));
    assert_eq!(
        output.text(),
        format!("export {one}=…\nexport {other}=…\nexport {second}=…\nsql-exporter test\nsql-exporter\n")
    );
    place.set(&one, &postgres.password);
    place.set(&second, &postgres.password);
    place.set(&other, &mariadb.password);
    let page = place.page();
    assert_eq!(value(&page, "app_orders_last_row_id"), 7.0);
    assert!(value(&page, &format!("{}_2_orders_bytes", postgres.database)) > 200_000.0);
    assert!(value(&page, &format!("{}_orders_bytes", mariadb.database)) > 0.0);
}

/// All targets have their sessions within the limit of the user that the file makes.
#[test]
fn the_limit_of_a_user_holds_the_sessions_of_all_targets() {
    let postgres = Postgres::fresh("init");
    let user = format!("{}_many", postgres.database);
    let one = postgres_url(&postgres);
    let text = Place::new().init(&[one.as_str(); 4]);
    assert!(text.contains("CREATE ROLE exporter LOGIN CONNECTION LIMIT 20;"), "{text}");
    postgres.run(&statements(&text, "A role for the exporter").replace("exporter", &user));
    postgres.run(&format!("ALTER ROLE {user} PASSWORD '{CANARY}many'"));
    let mut place = Place::new();
    place.set("PW", &format!("{CANARY}many"));
    let Postgres { port, database, .. } = &postgres;
    let url = format!("postgres://{user}:${{PW}}@127.0.0.1:{port}/{database}");
    place.init(&[url.as_str(); 4]);
    place.page();
    // Another server has a limit of its own.
    let mariadb = MariaDb::fresh("init_my");
    let offline = "mysql://u@db.example/shop?sslmode=verify-full";
    let text = Place::new().init(&[&one, &one, &mariadb_url(&mariadb)]);
    assert!(text.contains(" CONNECTION LIMIT 10;") && text.contains(" MAX_USER_CONNECTIONS 5 "), "{text}");
    let text = Place::new().init(&["--offline", offline, offline, "mysql://u@other.example/shop"]);
    assert!(text.contains(" MAX_USER_CONNECTIONS 10 "), "{text}");
}

#[test]
fn partitions_and_children_count_for_their_table() {
    let server = Postgres::fresh("init");
    server.run(
        "CREATE TABLE plain (x int, note text); INSERT INTO plain SELECT n, repeat('x', 100) FROM generate_series(1, 3000) n;
         CREATE TABLE events (at int, note text) PARTITION BY RANGE (at);
         CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (2001);
         CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2001) TO (9999);
         INSERT INTO events SELECT n, repeat('x', 100) FROM generate_series(1, 4000) n; ANALYZE",
    );
    let mut place = Place::new();
    place.init(&[&postgres_url(&server)]);
    place.set(&variable(&server.database), &server.password);
    let page = place.page();
    assert_eq!(value(&page, &format!("{}_events_rows", server.database)), 4000.0);
    assert!(value(&page, &format!("{}_events_bytes", server.database)) > 400_000.0);
    // Children as a hypertable has them: their parent is an ordinary table.
    server.run(
        "DROP TABLE plain, events; CREATE TABLE base (x int); CREATE TABLE child (y int) INHERITS (base);
        INSERT INTO child SELECT n FROM generate_series(1, 500) n; INSERT INTO base VALUES (1); ANALYZE",
    );
    let again = place.run(&["init", &postgres_url(&server), "-o", "again.yaml"]);
    assert_eq!(again.code(), 0, "{}", again.errors());
    let page = place.run(&["-c", "again.yaml", "collect"]);
    assert_eq!(value(page.text(), &format!("{}_base_rows", server.database)), 501.0);
}

#[test]
fn a_locked_table_delays_nothing_and_a_database_without_tables_has_an_example() {
    let server = Postgres::fresh("init");
    let mut place = Place::new();
    place.set(&variable(&server.database), &server.password);
    let text = place.init(&[&postgres_url(&server)]);
    assert!(text.contains("is about the database.\n"), "{text}");
    assert!(value(&place.page(), &format!("{}_database_bytes", server.database)) > 1e6);
    server.run(ORDERS);
    let mut client = server.client();
    client.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").expect("a lock");
    let output = place.run(&["init", &postgres_url(&server), "-o", "locked.yaml", "--timeout", "5s"]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert!(place.written("locked.yaml").contains("_orders_bytes"), "{}", place.written("locked.yaml"));
}

#[test]
fn a_standby_has_its_own_file() {
    let primary = OwnPostgres::start(&[]);
    primary.access().run("CREATE DATABASE shop TEMPLATE template0");
    let shop = Postgres { database: "shop".to_owned(), ..primary.access().clone() };
    shop.run(ORDERS);
    let standby = OwnPostgres::standby_of(primary.access());
    let there = Postgres { database: "shop".to_owned(), ..standby.access().clone() };
    crate::process::wait_for("the standby has the table", || {
        let mut client = there.try_client().ok()?;
        client.query_one("SELECT 1 FROM orders LIMIT 1", &[]).ok().map(drop)
    });
    let mut place = Place::new();
    let text = place.init(&[&postgres_url(&there)]);
    assert!(text.contains(", replica, ") && text.contains("builtin:postgres/replication "), "{text}");
    place.set("SHOP_PASSWORD", &there.password);
    let page = place.page();
    assert!(value(&page, "shop_orders_bytes") > 200_000.0);
}

#[test]
fn a_server_with_an_extension_or_a_plugin_has_its_pack() {
    let server = OwnPostgres::start(&["shared_preload_libraries=pg_stat_statements"]);
    server.access().run("CREATE EXTENSION pg_stat_statements");
    let text = Place::new().init(&[&postgres_url(server.access())]);
    assert!(text.contains("\n  - builtin:postgres/statements "), "{text}");
    let server = OwnMariaDb::start(&["--performance-schema=ON", "--log-bin=binlog"]);
    server.access().run("CREATE DATABASE shop;\nCHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1");
    let shop = MariaDb { database: "shop".to_owned(), ..server.access().clone() };
    let mut place = Place::new();
    let text = place.init(&[&mariadb_url(&shop)]);
    for part in ["\n  - builtin:mysql/digests ", "\n  - builtin:mysql/binlog ", ", replica, "] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    place.set("SHOP_PASSWORD", &shop.password);
    place.page();
}

#[test]
fn a_login_that_is_refused_writes_nothing() {
    let server = Postgres::fresh("init");
    let place = Place::new();
    let Postgres { port, database, .. } = &server;
    let output =
        place.run(&["init", &format!("postgres://postgres:{CANARY}wrong@127.0.0.1:{port}/{database}")]);
    assert_eq!((output.code(), output.text()), (1, ""));
    assert!(output.errors().contains("FAIL  ") && output.errors().contains("(auth)"), "{}", output.errors());
    assert!(!output.errors().contains("DB_PASSWORD"), "{}", output.errors());
    // What `test` says is about a file; here nobody has one.
    let output = place.run(&["init", &format!("postgres://postgres@127.0.0.1:{port}/{database}")]);
    assert_eq!((output.code(), output.text()), (1, ""));
    let here =
        "\n      here: as a variable of the URL, in quotes: 'postgres://USER:${DB_PASSWORD}@HOST/DATABASE'\n";
    assert!(output.errors().contains(here), "{}", output.errors());
    assert!(!place.path("sql-exporter.yaml").exists());
}

#[test]
fn tables_that_cannot_be_asked_about_cost_the_example_only() {
    let server = Postgres::fresh("init");
    let Postgres { port, database, .. } = &server;
    let role = format!("{database}_r");
    server.run(&format!(
        "{ORDERS}; REVOKE EXECUTE ON FUNCTION pg_total_relation_size(regclass) FROM PUBLIC; \
         CREATE ROLE {role} LOGIN PASSWORD '{CANARY}r'; GRANT pg_monitor TO {role}"
    ));
    let mut place = Place::new();
    let text = place.init(&[&format!("postgres://{role}:{CANARY}r@127.0.0.1:{port}/{database}")]);
    let about = format!("  # The tables of {database} are not known (permission denied for function");
    assert!(text.contains(&about) && text.contains("so this is about the database.\n"), "{text}");
    place.set(&variable(database), &format!("{CANARY}r"));
    assert!(value(&place.page(), &format!("{database}_database_bytes")) > 1e6);
}
