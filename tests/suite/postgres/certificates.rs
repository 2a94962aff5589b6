//! Certificates as servers really have them, and handshakes that fail: what verifies nothing takes all of them, and no
//! failure is passed over in plain text.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sql_exporter::driver::TlsState;
use sql_exporter::driver::connection::HostPort;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::error::Reason;

use super::{login, open, refused, value};
use crate::process::{folder, is_root};
use crate::servers::own::OwnPostgres;
use crate::servers::{Postgres, tls_file};

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' '));
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the certificate that these commands make as `s.pem`, with the key `s.key`.
fn certificate(commands: &[&str]) -> tempfile::TempDir {
    let folder = folder();
    for file in ["ca.pem", "ca.key"] {
        std::fs::copy(tls_file(file), folder.path().join(file)).expect("a file");
    }
    let config = "[req]\ndistinguished_name=dn\n[dn]\n[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nserial=serial\n\
                  default_md=sha256\npolicy=any\nx509_extensions=v3\n[any]\ncommonName=supplied\n[v3]\nkeyUsage=digitalSignature\n";
    std::fs::write(folder.path().join("plain.cnf"), config).expect("a file");
    std::fs::write(folder.path().join("index"), "").expect("a file");
    std::fs::write(folder.path().join("key.ext"), "keyUsage = digitalSignature\n").expect("a file");
    commands.iter().for_each(|arguments| openssl(folder.path(), arguments));
    folder
}

/// A server with such a certificate.
fn with_certificate(commands: &[&str]) -> (OwnPostgres, tempfile::TempDir) {
    let folder = certificate(commands);
    let (certificate, key) = (folder.path().join("s.pem"), owned(folder.path()));
    let mut command = Command::new("chmod");
    assert!(command.arg("644").arg(&certificate).status().unwrap().success());
    let settings =
        [format!("ssl_cert_file={}", certificate.display()), format!("ssl_key_file={}", key.display())];
    (OwnPostgres::start(&settings.each_ref().map(String::as_str)), folder)
}

/// The key as PostgreSQL wants it.
fn owned(folder: &Path) -> PathBuf {
    let key = folder.join("own.key");
    let mut install = Command::new("install");
    install.args(["-m", "600"]).args(is_root().then_some(["-o", "postgres"]).into_iter().flatten());
    assert!(install.arg(folder.join("s.key")).arg(&key).status().unwrap().success());
    key
}

const REQUEST: &str =
    "req -new -nodes -config plain.cnf -subj /CN=localhost -keyout s.key -out s.csr -newkey";

#[test]
fn what_verifies_nothing_takes_every_certificate() {
    let rsa = format!("{REQUEST} rsa:2048");
    // Without extensions openssl writes version 1.
    let version_1 =
        [rsa.as_str(), "x509 -req -in s.csr -days 9 -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem"];
    let itself = "x509 -req -in s.csr -days 9 -signkey s.key -out s.pem";
    let large = format!("{REQUEST} ec -pkeyopt ec_paramgen_curve:P-521");
    let edwards = format!("{REQUEST} ed448");
    let probabilistic = format!("{REQUEST} rsa-pss -pkeyopt rsa_keygen_bits:2048");
    for (is_read, commands) in [
        (true, &version_1[..]),
        (true, &[&rsa, itself]),
        // No signature of these can be verified: what verifies does not offer it, and the server has no other.
        (false, &[&large, itself]),
        (false, &[&edwards, itself]),
        (false, &[&probabilistic, itself]),
    ] {
        let (server, folder) = with_certificate(commands);
        for mode in [TlsMode::Prefer, TlsMode::Require] {
            let mut login = login(server.access());
            login.tls.mode = mode;
            let session = open(login).unwrap_or_else(|error| panic!("{commands:?} {mode:?}: {error}"));
            assert_eq!(session.facts().tls, TlsState::Encrypted, "{commands:?} {mode:?}");
        }
        let mut verified = login(server.access());
        verified.tls.mode = TlsMode::VerifyCa;
        verified.tls.ca = Some(folder.path().join("s.pem"));
        let error = refused(verified.clone());
        assert_eq!(error.reason(), Reason::Tls, "{error}");
        verified.tls.ca = Some(tls_file("ca.pem"));
        let error = refused(verified);
        assert_eq!(error.reason(), Reason::Tls, "{error}");
        if !is_read {
            continue;
        }
        assert!(error.message().contains("X.509 version 1"), "{error}");
        assert!(error.hint().unwrap_or_default().contains("subjectAltName = DNS:HOST"), "{error}");
    }
}

/// Without extensions openssl writes version 1, also for a client.
#[test]
fn a_client_certificate_of_version_1_serves() {
    let server = Postgres::shared("postgres");
    server.run("DO $$ BEGIN CREATE ROLE client LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    let request = format!("{REQUEST} rsa:2048").replace("localhost", "client");
    let old = "x509 -req -in s.csr -days 9 -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem";
    let folder = certificate(&[&request, old]);
    let mut login = login(&server);
    login.username = Some("client".to_owned());
    login.password = PasswordSource::None;
    login.tls.mode = TlsMode::Require;
    login.tls.cert = Some(folder.path().join("s.pem"));
    login.tls.key = Some(folder.path().join("s.key"));
    assert_eq!(value(&mut *open(login.clone()).unwrap(), "SELECT current_user::text"), "Text(\"client\")");
    login.tls.key = Some(tls_file("server.key"));
    login.tls.cert = Some(tls_file("client.pem"));
    let error = refused(login);
    assert!(error.message().ends_with("does not fit `tls.cert`"), "{error}");
}

#[test]
fn a_signature_that_cannot_be_verified_is_said_to_be_one() {
    let request = format!("{REQUEST} rsa:2048");
    // By an authority with a key of P-256.
    let signed = "x509 -req -sha512 -in s.csr -days 9 -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -extfile key.ext";
    let (server, _folder) = with_certificate(&[&request, signed]);
    let mut login = login(server.access());
    login.tls.ca = Some(tls_file("ca.pem"));
    login.tls.mode = TlsMode::VerifyCa;
    let error = refused(login);
    assert!(error.message().ends_with("is signed in a way that cannot be verified"), "{error}");
    assert!(error.hint().unwrap_or_default().contains("SHA-384"), "{error}");
}

#[test]
fn a_certificate_without_a_name_is_told_what_it_lacks() {
    let request = format!("{REQUEST} rsa:2048");
    let extended =
        "x509 -req -in s.csr -days 9 -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -extfile key.ext";
    let (server, _folder) = with_certificate(&[&request, extended]);
    let mut login = login(server.access());
    login.hosts[0].host = "localhost".to_owned();
    login.tls.ca = Some(tls_file("ca.pem"));
    login.tls.mode = TlsMode::VerifyFull;
    let error = refused(login.clone());
    assert_eq!(error.reason(), Reason::Tls, "{error}");
    assert!(error.hint().unwrap_or_default().contains("verify-ca"), "{error}");
    login.tls.mode = TlsMode::VerifyCa;
    assert_eq!(open(login).unwrap().facts().tls, TlsState::Verified);
}

/// psql refuses it, too.
#[test]
fn a_certificate_that_is_trusted_itself_is_refused_once_it_has_expired() {
    let request = format!("{REQUEST} rsa:2048");
    let sign = "ca -config plain.cnf -batch -selfsign -rand_serial -keyfile s.key -in s.csr -out s.pem -startdate 20200101000000Z";
    for (end, expired) in [("20400101000000Z", false), ("20210101000000Z", true)] {
        let sign = format!("{sign} -enddate {end}");
        let (server, folder) = with_certificate(&[&request, &sign]);
        let mut login = login(server.access());
        login.tls.ca = Some(folder.path().join("s.pem"));
        login.tls.mode = TlsMode::VerifyCa;
        if !expired {
            assert_eq!(open(login).unwrap().facts().tls, TlsState::Verified);
            continue;
        }
        let error = refused(login);
        assert_eq!(error.reason(), Reason::Tls, "{error}");
        assert!(error.hint().unwrap_or_default().starts_with("renew the server's certificate"), "{error}");
    }
}

/// A server that offers TLS, takes the client's hello and then does `act`; counts its connections and those that spoke
/// in plain text.
fn offering(act: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> (u16, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = Arc::clone(&counts);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counted[0].fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 8];
            if stream.read_exact(&mut request).is_err() {
                continue;
            }
            // The code of a request for TLS (documentation, 55.7).
            if request[4..] != [0x04, 0xd2, 0x16, 0x2f] {
                counted[1].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let _ = stream.write_all(b"S");
            let _ = stream.read(&mut [0; 4096]);
            act(&mut stream);
        }
    });
    (port, counts)
}

#[test]
fn a_handshake_that_fails_is_an_error_also_where_tls_is_only_preferred() {
    let acts: [fn(&mut std::net::TcpStream); 3] = [
        |_| {},
        |stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        // A fatal alert: handshake_failure.
        |stream| drop(stream.write_all(&[21, 3, 3, 0, 2, 2, 40])),
    ];
    for act in acts {
        let (port, counts) = offering(act);
        let mut login = login(&Postgres::shared("postgres"));
        login.hosts = vec![HostPort { host: "127.0.0.1".to_owned(), port }];
        login.tls.mode = TlsMode::Prefer;
        let error = refused(login);
        assert_eq!(error.reason(), Reason::Tls, "{error}");
        assert!(error.message().starts_with("TLS handshake with 127.0.0.1:"), "{error}");
        let counts = [0, 1].map(|index| counts[index].load(Ordering::Relaxed));
        assert_eq!(counts, [1, 0], "one connection, and nothing in plain text");
    }
}
