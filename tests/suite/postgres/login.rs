//! Which server is entered, as whom, and what is said when none is.

use std::net::TcpListener;
use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::HostPort;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::driver::postgres::endpoint;
use sql_exporter::error::Reason;
use sql_exporter::secret::Secret;

use super::{login, open, refused, session, value};
use crate::process::variable;
use crate::servers::Postgres;

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn host(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

#[test]
fn a_wrong_password_is_auth_and_not_shown() {
    let mut login = login(&Postgres::shared("postgres"));
    login.password = PasswordSource::Given(Secret::new("c4nary-wrong".to_owned()));
    let error = refused(login.clone());
    assert_eq!((error.reason(), error.sqlstate()), (Reason::Auth, Some("28P01")));
    assert!(error.message().contains("password authentication failed for user \"postgres\""), "{error}");
    assert!(!format!("{error} {error:?} {login:?}").contains("c4nary"));
    login.password = PasswordSource::None;
    let error = refused(login);
    assert_eq!(error.reason(), Reason::Auth);
    assert!(error.message().contains("password missing"), "{error}");
}

#[test]
fn passwords_with_every_odd_character_work() {
    let server = Postgres::shared("postgres");
    let odd = "c4nary-@:/#%' \"\\$é漢";
    let name = format!("odd_{}", std::process::id());
    server.run(&format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", odd.replace('\'', "''")));
    let mut login = login(&server);
    login.username = Some(name.clone());
    login.password = PasswordSource::Given(Secret::new(odd.to_owned()));
    assert_eq!(value(&mut *open(login).unwrap(), "SELECT current_user::text"), format!("Text({name:?})"));
    server.run(&format!("DROP ROLE {name}"));
}

#[test]
fn a_missing_database_is_connect_with_its_code() {
    let login = login(&Postgres::shared("no_such_database"));
    let error = refused(login);
    assert_eq!((error.reason(), error.sqlstate()), (Reason::Connect, Some("3D000")), "{error}");
}

#[test]
fn a_silent_host_leaves_the_others_their_share_of_the_time() {
    let mut login = login(&Postgres::shared("postgres"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    login.hosts.insert(0, host(silent.local_addr().unwrap().port()));
    login.connect_timeout = Duration::from_secs(60);
    endpoint(login).unwrap().connect(Deadline::within(Duration::from_secs(6))).unwrap();
}

#[test]
fn hosts_are_tried_in_order_and_all_are_named_when_none_answers() {
    let server = Postgres::shared("postgres");
    let mut login = login(&server);
    let (first, second) = (closed_port(), closed_port());
    login.hosts = vec![host(first), host(server.port)];
    assert_eq!(value(&mut *open(login.clone()).unwrap(), "SELECT 1"), "Int(1)");
    login.hosts = vec![host(first), host(second)];
    let error = refused(login);
    assert!(
        error.message().contains(&first.to_string()) && error.message().contains(&second.to_string()),
        "{error}"
    );
}

#[test]
fn the_role_wanted_decides_which_server_is_taken() {
    let mut login = login(&Postgres::shared("postgres"));
    for (wanted, found) in [
        ("any", None),
        ("primary", None),
        ("read-write", None),
        ("prefer-standby", None),
        ("standby", Some("is a primary, target_session_attrs wants standby")),
        ("read-only", Some("is read-write, target_session_attrs wants read-only")),
    ] {
        login.params = vec![("target_session_attrs".to_owned(), wanted.to_owned())];
        match (open(login.clone()), found) {
            (Ok(_), None) => {}
            (Err(error), Some(found)) => {
                assert_eq!(error.reason(), Reason::Connect);
                assert!(error.message().ends_with(found), "{error}");
            }
            (other, _) => panic!("{wanted}: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn a_unix_socket_is_local() {
    let server = Postgres::shared("postgres");
    let mut login = login(&server);
    login.socket = Some(variable("TEST_POSTGRES_SOCKET").into());
    login.hosts = vec![HostPort { host: String::new(), port: server.port }];
    let mut session = open(login.clone()).unwrap();
    assert_eq!(session.facts().tls.as_str(), "local");
    assert_eq!(value(&mut *session, "SELECT inet_client_addr() IS NULL"), "Bool(true)");
    session.canceller().cancel(sql_exporter::deadline::Deadline::within(Duration::from_secs(10))).unwrap();
    login.hosts.clear();
    login.socket = Some("/nonexistent".into());
    assert_eq!(refused(login).reason(), Reason::Connect);
}

#[test]
fn the_server_knows_who_asks() {
    let server = Postgres::shared("postgres");
    let name = "SELECT current_setting('application_name')";
    assert_eq!(value(&mut *session(&server), name), "Text(\"sql-exporter\")");
    let mut login = login(&server);
    login.params = vec![
        ("application_name".to_owned(), "mine".to_owned()),
        ("options".to_owned(), "-c lock_timeout=7s".to_owned()),
    ];
    let mut session = open(login.clone()).unwrap();
    assert_eq!(value(&mut *session, name), "Text(\"mine\")");
    // The smaller of it and our own two seconds.
    assert_eq!(value(&mut *session, "SELECT current_setting('lock_timeout')"), "Text(\"2s\")");
    login.params[1].1 = "-c lock_timeout=1s".to_owned();
    let mut session = open(login).unwrap();
    assert_eq!(value(&mut *session, "SELECT current_setting('lock_timeout')"), "Text(\"1s\")");
}

#[test]
fn an_unknown_parameter_is_refused_by_name() {
    let mut login = login(&Postgres::shared("postgres"));
    login.params = vec![("aplication_name".to_owned(), "x".to_owned())];
    assert!(endpoint(login).map(|_| ()).unwrap_err().contains("\"aplication_name\""));
}

#[test]
fn a_server_that_asks_for_a_clear_text_password_gets_it_only_where_nobody_listens() {
    let server = Postgres::shared("postgres");
    let mut admin = server.client();
    admin
        .batch_execute(&format!(
            "DO $$ BEGIN CREATE ROLE clear LOGIN PASSWORD '{}'; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            server.password
        ))
        .unwrap();
    let mut login = login(&server);
    login.username = Some("clear".to_owned());
    // Loopback, encrypted, and Unix sockets do not count as a network.
    for mode in [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require] {
        login.tls.mode = mode;
        assert_eq!(value(&mut *open(login.clone()).unwrap(), "SELECT 1"), "Int(1)");
    }
}
