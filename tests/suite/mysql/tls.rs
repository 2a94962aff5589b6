//! The five modes of encryption, against servers with and without it.

use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::tls::{TlsConfig, TlsMode};
use sql_exporter::driver::{TlsState, mysql};
use sql_exporter::error::Reason;
use sql_exporter::secret::Secret;

use super::{LONG, login, open};
use crate::recorder::run;
use crate::servers::own::OwnMariaDb;
use crate::servers::{MariaDb, tls_file};

fn with(server: &MariaDb, mode: TlsMode, ca: Option<&str>) -> ConnectionConfig {
    let mut login = login(server);
    login.tls = TlsConfig { mode, ca: ca.map(tls_file), ..TlsConfig::default() };
    login
}

/// What the session says, and whether the server agrees.
fn state(login: ConnectionConfig) -> TlsState {
    let mut session = open(login).unwrap();
    let (sink, _) = run(&mut *session, "SHOW SESSION STATUS LIKE 'Ssl_version'", LONG);
    let encrypted = sink.good()[0][1].contains("TLSv1");
    let state = session.facts().tls;
    assert_eq!(encrypted, matches!(state, TlsState::Encrypted | TlsState::Verified), "{state:?}");
    state
}

fn refused(login: ConnectionConfig) -> Reason {
    mysql::endpoint(login).connect(Deadline::within(LONG)).err().expect("an error").reason()
}

#[test]
fn each_mode_encrypts_as_much_as_it_says() {
    let server = MariaDb::shared("mysql");
    for (mode, ca, expected) in [
        (TlsMode::Disable, None, TlsState::Plain),
        (TlsMode::Prefer, None, TlsState::Encrypted),
        (TlsMode::Require, None, TlsState::Encrypted),
        (TlsMode::VerifyCa, Some("ca.pem"), TlsState::Verified),
        (TlsMode::VerifyFull, Some("ca.pem"), TlsState::Verified),
    ] {
        assert_eq!(state(with(&server, mode, ca)), expected, "{mode:?}");
        let mut by_name = with(&server, mode, ca);
        by_name.hosts[0].host = "localhost".to_owned();
        assert_eq!(state(by_name), expected, "{mode:?} by name");
    }
}

#[test]
fn a_certificate_of_a_stranger_is_refused_where_it_is_verified() {
    let server = MariaDb::shared("mysql");
    for ca in [Some("stranger-ca.pem"), None] {
        assert_eq!(refused(with(&server, TlsMode::VerifyCa, ca)), Reason::Tls);
        assert_eq!(refused(with(&server, TlsMode::VerifyFull, ca)), Reason::Tls);
    }
    // As libpq: `require` with a `ca` verifies the chain.
    assert_eq!(refused(with(&server, TlsMode::Require, Some("stranger-ca.pem"))), Reason::Tls);
    assert_eq!(state(with(&server, TlsMode::Require, Some("ca.pem"))), TlsState::Verified);
    assert_eq!(state(with(&server, TlsMode::Prefer, Some("stranger-ca.pem"))), TlsState::Encrypted);
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_only() {
    let (cert, key) = (tls_file("other.pem"), tls_file("other.key"));
    let options = [format!("--ssl-cert={}", cert.display()), format!("--ssl-key={}", key.display())];
    let server = OwnMariaDb::start(&options.each_ref().map(String::as_str));
    assert_eq!(state(with(server.access(), TlsMode::VerifyCa, Some("ca.pem"))), TlsState::Verified);
    assert_eq!(refused(with(server.access(), TlsMode::VerifyFull, Some("ca.pem"))), Reason::Tls);
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let server = MariaDb::fresh("tls");
    let user = format!("x{}", Duration::from_nanos(std::process::id().into()).as_nanos());
    server.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'c4nary-x509' REQUIRE X509;\nGRANT ALL ON {}.* TO '{user}'@'%'", server.database));
    let mut login = with(&server, TlsMode::VerifyFull, Some("ca.pem"));
    login.username = Some(user);
    login.password = sql_exporter::driver::connection::password::PasswordSource::Given(Secret::new(
        "c4nary-x509".to_owned(),
    ));
    assert_eq!(refused(login.clone()), Reason::Auth);
    login.tls.cert = Some(tls_file("client.pem"));
    login.tls.key = Some(tls_file("client.key"));
    assert_eq!(state(login), TlsState::Verified);
}

#[test]
fn a_file_that_is_missing_or_holds_no_certificate_is_named() {
    let server = MariaDb::shared("mysql");
    let mut login = with(&server, TlsMode::VerifyFull, Some("no-such.pem"));
    let error = mysql::endpoint(login.clone()).connect(Deadline::within(LONG)).err().unwrap();
    assert_eq!(error.reason(), Reason::Tls);
    assert!(error.message().contains("no-such.pem"), "{error}");
    login.tls.ca = Some(tls_file("ca.key"));
    assert_eq!(refused(login), Reason::Tls);
}
