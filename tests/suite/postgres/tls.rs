//! TLS: all five modes against good, strange and misnamed certificates, SCRAM with channel binding, TLS missing.

use std::process::Command;
use std::sync::{Arc, Mutex};

use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::driver::{Session, TlsState};
use sql_exporter::error::Reason;

use super::{login, open, refused, value};
use crate::process::{is_root, wait_for};
use crate::servers::own::OwnPostgres;
use crate::servers::{Postgres, tls_file};

fn with(mode: TlsMode, ca: Option<&str>) -> ConnectionConfig {
    let mut login = login(&Postgres::shared("postgres"));
    login.tls.mode = mode;
    login.tls.ca = ca.map(tls_file);
    login
}

fn is_encrypted(session: &mut dyn Session) -> bool {
    value(session, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "Bool(true)"
}

#[test]
fn each_mode_does_what_it_says() {
    let cases = [
        (TlsMode::Disable, None, TlsState::Plain),
        (TlsMode::Prefer, None, TlsState::Encrypted),
        (TlsMode::Require, None, TlsState::Encrypted),
        (TlsMode::Require, Some("ca.pem"), TlsState::Verified),
        (TlsMode::VerifyCa, Some("ca.pem"), TlsState::Verified),
        (TlsMode::VerifyFull, Some("ca.pem"), TlsState::Verified),
        // A server's own certificate is trusted byte for byte.
        (TlsMode::VerifyFull, Some("server.pem"), TlsState::Verified),
    ];
    for (mode, ca, state) in cases {
        let mut session = open(with(mode, ca)).unwrap_or_else(|error| panic!("{mode:?} {ca:?}: {error}"));
        assert_eq!(session.facts().tls, state, "{mode:?} {ca:?}");
        assert_eq!(is_encrypted(&mut *session), state != TlsState::Plain, "{mode:?}");
    }
}

#[test]
fn a_certificate_of_a_stranger_is_refused_where_it_is_verified() {
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let error = refused(with(mode, Some("stranger-ca.pem")));
        assert_eq!(error.reason(), Reason::Tls, "{mode:?}: {error}");
        assert!(error.message().contains("UnknownIssuer"), "{error}");
    }
    let error = refused(with(TlsMode::VerifyFull, None));
    assert_eq!(error.reason(), Reason::Tls, "{error}");
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_only() {
    let folder = crate::process::folder();
    let key = folder.path().join("other.key");
    let mut install = Command::new("install");
    install.args(["-m", "600"]).args(is_root().then_some(["-o", "postgres"]).into_iter().flatten());
    assert!(install.arg(tls_file("other.key")).arg(&key).status().unwrap().success());
    let server = OwnPostgres::start(&[
        &format!("ssl_cert_file={}", tls_file("other.pem").display()),
        &format!("ssl_key_file={}", key.display()),
    ]);
    let mut login = login(server.access());
    login.tls.ca = Some(tls_file("ca.pem"));
    login.tls.mode = TlsMode::VerifyCa;
    assert!(is_encrypted(&mut *open(login.clone()).unwrap()));
    login.tls.mode = TlsMode::VerifyFull;
    let error = refused(login.clone());
    assert_eq!(error.reason(), Reason::Tls);
    assert!(error.message().contains("elsewhere.example"), "{error}");
    login.tls.server_name = Some("elsewhere.example".to_owned());
    assert!(is_encrypted(&mut *open(login).unwrap()));
}

#[test]
fn scram_binds_to_the_channel() {
    let mut login = with(TlsMode::Require, None);
    login.params = vec![("channel_binding".to_owned(), "require".to_owned())];
    assert!(is_encrypted(&mut *open(login.clone()).unwrap()));
    login.tls.mode = TlsMode::Disable;
    let error = refused(login);
    assert_eq!(error.reason(), Reason::Auth);
    assert!(error.message().contains("channel binding") && !error.is_refused_login(), "{error}");
    assert!(error.hint().unwrap_or_default().contains("scram-sha-256"), "{error}");
}

#[test]
fn a_client_certificate_serves_as_login() {
    let server = Postgres::shared("postgres");
    server.run("DO $$ BEGIN CREATE ROLE client LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    let mut login = with(TlsMode::VerifyFull, Some("ca.pem"));
    login.username = Some("client".to_owned());
    login.password = PasswordSource::None;
    let error = refused(login.clone());
    assert!(matches!(error.reason(), Reason::Auth | Reason::Tls), "{error}");
    login.tls.cert = Some(tls_file("client.pem"));
    let error = refused(login.clone());
    assert!(error.message().contains("tls.cert and tls.key belong together"), "{error}");
    login.tls.key = Some(tls_file("client.key"));
    assert_eq!(value(&mut *open(login).unwrap(), "SELECT current_user::text"), "Text(\"client\")");
}

#[test]
fn a_file_that_cannot_serve_is_named() {
    for (file, message) in [("nothing.pem", "No such file"), ("ca.key", "holds no PEM certificate")] {
        let error = refused(with(TlsMode::VerifyCa, Some(file)));
        assert_eq!(error.reason(), Reason::Tls);
        assert!(error.message().contains(file) && error.message().contains(message), "{error}");
    }
}

#[test]
fn a_key_that_cannot_be_read_is_not_shown() {
    let folder = crate::process::folder();
    let path = folder.path().join("client.key");
    let key = std::fs::read_to_string(tls_file("client.key")).unwrap();
    std::fs::write(&path, key.replace('\n', "")).unwrap();
    let mut login = with(TlsMode::Require, None);
    (login.tls.cert, login.tls.key) = (Some(tls_file("client.pem")), Some(path));
    let error = refused(login);
    assert_eq!((error.reason(), error.meaning()), (Reason::Tls, Some("a file below `tls` cannot be used")));
    assert!(
        error.message().contains("has lost its line breaks") && !error.message().contains('['),
        "{error}"
    );
}

#[test]
fn a_cancel_travels_encrypted_like_its_session() {
    let server = Postgres::shared("postgres");
    let mut session = open(with(TlsMode::VerifyFull, Some("ca.pem"))).unwrap();
    let canceller = session.canceller();
    let verdict = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&verdict);
    let name = format!("SELECT pg_sleep(60), {}", std::process::id());
    let sql = name.clone();
    let runner = std::thread::spawn(move || {
        *seen.lock().unwrap() = Some(crate::recorder::run(&mut *session, &sql, super::LONG).0.reason());
    });
    let mut watch = server.client();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
    wait_for("the query", || (watch.query_one(count, &[&name]).unwrap().get::<_, i64>(0) > 0).then_some(()));
    canceller.cancel(sql_exporter::deadline::Deadline::within(super::LONG)).unwrap();
    runner.join().unwrap();
    assert_eq!(*verdict.lock().unwrap(), Some(Reason::Cancelled));
}
