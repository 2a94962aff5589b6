//! What is said of targets that do not work: why in words, and what to try; and that none holds up the others.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{json, mariadb_as, only, postgres_as, test, texts, with_file};
use crate::process::{bound, free_port};
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{CANARY, MariaDb, Postgres, tls_file};

/// Reason and everything said of a failure.
fn failure(entry: &str) -> (String, String) {
    let told = only(entry);
    assert_eq!((&told["verdict"], &told["version"]), (&"fail".into(), &Value::Null), "{told}");
    let error = &told["error"];
    let tries = texts(&error["try"]);
    assert!(!tries.is_empty(), "{told}");
    let said = format!("{}\n{}", error["message"].as_str().unwrap(), tries.join("\n"));
    (error["reason"].as_str().unwrap().to_owned(), said)
}

#[track_caller]
fn assert_failure(entry: &str, reason: &str, parts: &[&str]) {
    let (found, said) = failure(entry);
    assert_eq!(found, reason, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

#[test]
fn a_refused_password_names_its_source_and_the_servers_side() {
    let (postgres, mariadb) = (Postgres::shared("postgres"), MariaDb::shared("mysql"));
    let place = "which comes from `password` at sql-exporter.yaml:1";
    let log = "its log says whether postgres has another password";
    assert_failure(&postgres_as(&postgres, "postgres", ""), "auth", &["(postgres)", place, log]);
    let user = "SELECT user, host, plugin, ssl_type FROM mysql.user WHERE user = 'root'";
    assert_failure(&mariadb_as(&mariadb, "root", ""), "auth", &["Access denied", place, user]);
    let none = postgres_as(&postgres, "postgres", "").replace(&format!("password: '{CANARY}user', "), "");
    assert_failure(&none, "auth", &["no password is configured for postgres"]);
}

#[test]
fn a_password_command_is_named_without_its_arguments() {
    let argv = format!("password_command: [/bin/echo, {CANARY}argument]");
    let entry = postgres_as(&Postgres::shared("postgres"), "postgres", "")
        .replace(&format!("password: '{CANARY}user'"), &argv);
    // That no argument is shown is what every run is searched for.
    assert_failure(&entry, "auth", &["which comes from `password_command` /bin/echo"]);
}

#[test]
fn a_port_without_a_server_a_name_without_an_address_and_a_missing_database() {
    let port = free_port();
    let closed = format!("it listen on 127.0.0.1:{port}?");
    for driver in ["postgres", "mysql"] {
        let entry = format!("{{driver: {driver}, host: 127.0.0.1, port: {port}, username: u, password: p}}");
        assert_failure(&entry, "connect", &[&closed]);
        let entry = format!("{{driver: {driver}, host: no-such-host.invalid, username: u}}");
        assert_failure(&entry, "resolve", &["`getent hosts no-such-host.invalid`"]);
    }
    let nowhere = Postgres { database: "nowhere".to_owned(), ..Postgres::shared("postgres") };
    assert_failure(&nowhere.entry(), "connect", &["does not exist", "nowhere must exist on"]);
    let nowhere = MariaDb { database: "nowhere".to_owned(), ..MariaDb::shared("mysql") };
    assert_failure(&nowhere.entry(), "connect", &["Unknown database", "nowhere must exist on"]);
    assert_failure("{driver: sqlite, database: gone.db}", "connect", &["gone.db: No such file"]);
    let socket = "{driver: mysql, socket: /nowhere/mysql.sock, username: u}";
    assert_failure(socket, "connect", &["check `socket`", "/nowhere/mysql.sock"]);
}

#[test]
fn tls_that_is_demanded_and_missing_or_signed_by_a_stranger() {
    let plain = OwnPostgres::start(&["ssl=off"]);
    let demanding = plain.access().entry_with("tls: {mode: require}");
    assert_failure(&demanding, "tls", &["does not offer TLS", "enable ssl in the server"]);
    let ca = tls_file("stranger-ca.pem").display().to_string();
    let tls = format!("tls: {{mode: verify-ca, ca: {ca}}}");
    assert_failure(&Postgres::shared("postgres").entry_with(&tls), "tls", &["`tls.ca` is ", &ca]);
    assert_failure(&MariaDb::shared("mysql").entry_with(&tls), "tls", &["`tls.ca` is ", &ca]);
}

#[test]
fn a_user_who_may_not_enter_is_told_the_grant() {
    let server = Postgres::fresh("test_failures");
    let (user, database) = (format!("{}_u", server.database), &server.database);
    server.run(&format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{CANARY}user'; REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"
    ));
    let grant = format!("GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\";");
    assert_failure(&postgres_as(&server, &user, ""), "permission", &[&grant]);
}

/// Whatever the server's code for it is: the login went well.
#[test]
fn a_session_sql_that_fails_is_told_on_every_database() {
    let (postgres, mariadb) = (Postgres::fresh("test_failures"), MariaDb::fresh("test_failures"));
    let user = format!("{}_s", postgres.database);
    postgres.run(&format!("CREATE ROLE {user} LOGIN PASSWORD '{CANARY}user'"));
    let set = "session_sql: ['SET nonsense.x = 1', 'SET nonsense = 1']";
    let by_hand = "run the target's `session_sql` by hand";
    for (entry, reason) in [
        (postgres.entry_with(set), "sql"),
        (
            postgres_as(&postgres, &user, "session_sql: ['SET session_replication_role = replica']"),
            "permission",
        ),
        (mariadb.entry_with("session_sql: ['SET @a = 1', 'SET nonsense = 1']"), "sql"),
        (mariadb.entry_with("session_sql: ['SET @a = 1; SET @b = 2']"), "sql"),
    ] {
        let told = only(&entry);
        assert_eq!(told["error"]["words"], "`session_sql` fails", "{told}");
        assert_eq!(told["error"]["reason"], reason, "{told}");
        assert!(texts(&told["error"]["try"]).concat().contains(by_hand), "{told}");
    }
    let file =
        "databases: {shop: {driver: sqlite, database: app.db, session_sql: ['SET a = 1']}}\nqueries: []\n";
    let (_, told) = json(with_file(test(file)));
    assert_eq!(texts(&told["targets"][0]["error"]["try"]), [by_hand], "{told}");
}

#[test]
fn encryption_that_mariadb_demands_may_look_like_a_wrong_password() {
    let server = OwnMariaDb::start(&[]);
    let access = server.access();
    let user = |name: &str, more: &str| {
        access.run(&format!(
            "CREATE USER {name}@'%' IDENTIFIED BY '{CANARY}user' {more};\nGRANT SELECT ON mysql.* TO {name}@'%'"
        ));
    };
    user("demanding", "REQUIRE SSL");
    user("another", "");
    access.run("SET GLOBAL require_secure_transport = ON");
    let entry = |name: &str, mode: &str| mariadb_as(access, name, &format!("tls: {{mode: {mode}}}"));
    for name in ["demanding", "another"] {
        // MySQL has an error of its own for the second.
        let said = ["REQUIRE SSL", "require_secure_transport", "tls: {mode: require}"];
        assert_failure(&entry(name, "disable"), "auth", &said);
        assert_eq!(only(&entry(name, "require"))["verdict"], "pass");
    }
}

#[test]
fn a_machine_that_the_server_has_blocked_is_told_how_to_be_let_in_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let said = b"Host 'here' is blocked because of many connection errors";
            let length = u8::try_from(said.len() + 3).expect("a short sentence");
            let _ = stream.write_all(&[&[length, 0, 0, 0, 0xff, 0x69, 0x04], said.as_slice()].concat());
        }
    });
    let entry = format!("{{driver: mysql, host: 127.0.0.1, port: {port}, username: u, password: p}}");
    assert_failure(&entry, "connect", &["is blocked", "FLUSH HOSTS", "max_connect_errors"]);
}

#[test]
fn a_silent_server_ends_at_the_deadline_and_the_others_pass() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let entry = |driver: &str, time: &str| {
        format!("{{driver: {driver}, host: 127.0.0.1, port: {port}, username: u, connect_timeout: {time}}}")
    };
    let config = format!(
        "databases:\n  p: {}\n  m: {}\n  own: {}\n  file: {{driver: sqlite, database: app.db}}\n  shop: {}\nqueries: []\n",
        entry("postgres", "10m"),
        entry("mysql", "10m"),
        entry("postgres", "100ms"),
        Postgres::shared("postgres").entry(),
    );
    let start = Instant::now();
    let (code, told) = json(with_file(test(&config)).args(&["--timeout", "2s"]));
    assert!(start.elapsed() < bound(Duration::from_millis(2500)), "{:?}", start.elapsed());
    assert_eq!(code, 1);
    let verdicts: Vec<&Value> =
        told["targets"].as_array().unwrap().iter().map(|target| &target["verdict"]).collect();
    assert_eq!(verdicts, ["fail", "fail", "fail", "pass", "pass"], "{told}");
    for index in 0..3 {
        let target = &told["targets"][index];
        assert_eq!(target["error"]["reason"], "timeout", "{target}");
        assert!(target["error"]["try"].to_string().contains("--timeout 2s"), "{target}");
    }
    assert!(told["targets"][2]["duration_seconds"].as_f64().unwrap() < 1.9, "its own timeout holds: {told}");
}

#[test]
fn the_list_of_databases_takes_from_the_same_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let config = format!(
        "databases: {{p: {{driver: postgres, host: 127.0.0.1, port: {port}, username: u, connect_timeout: 10m, discover: {{}}}}}}\n\
         queries: []\n"
    );
    // The list is asked for first, which is logged.
    let output = test(&config).args(&["--timeout", "2s", "--format", "json"]).output();
    assert!(output.errors().contains("databases are not discovered"), "{}", output.errors());
    let told: Value = serde_json::from_str(output.text()).expect("a document");
    let target = &told["targets"][0];
    // The list had half of the time.
    assert!(target["duration_seconds"].as_f64().unwrap() < 1.5, "{told}");
    assert!(target["error"]["try"].to_string().contains("--timeout 2s"), "{target}");
}

#[test]
fn more_targets_than_logins_at_once_all_have_their_turn() {
    let entries: String =
        (0..150).map(|n| format!("  t{n}: {{driver: sqlite, database: app.db}}\n")).collect();
    let (code, told) = json(with_file(test(&format!("databases:\n{entries}queries: []\n"))));
    assert_eq!((code, &told["summary"]["passed"]), (0, &150.into()), "{}", told["summary"]);
}

#[test]
fn no_session_stays_behind() {
    let server = Postgres::fresh("test_failures");
    let (code, _) = json(test(&format!("databases: {{shop: {}}}\nqueries: []\n", server.entry())));
    assert_eq!(code, 0);
    let mut watch = Postgres::shared("postgres").client();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
    crate::process::wait_for("the session's end", || {
        (watch.query_one(count, &[&server.database]).unwrap().get::<_, i64>(0) == 0).then_some(())
    });
}
