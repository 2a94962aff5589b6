//! A `databases:` entry goes in, a login or the messages come out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::password::PasswordSource;
use super::tls::TlsMode;
use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::{AddressSyntax, ConnectionConfig, HostPort, UrlRules, one_of_all};

const POSTGRES: UrlRules = UrlRules { schemes: &["postgres", "postgresql"], port: 5432, libpq: true };

fn environment(name: &str) -> Option<String> {
    (name == "DB_PASS").then(|| "p@:/#%' ${w}".to_owned())
}

/// Reads `entry` over `defaults`, both flow mappings or indented text, as a file in `folder`.
fn read_in(folder: &Path, entry: &str, defaults: &str) -> Result<ConnectionConfig, Vec<String>> {
    let text = format!("entry:\n  {entry}\ndefaults:\n  {defaults}\n");
    let document = Document::parse("a.yaml", folder, text).map_err(|error| vec![error.to_string()])?;
    let reader = Reader::new(&environment);
    let login = Keys::root(&document, &reader).and_then(|mut root| {
        let defaults = root.inner("defaults")?;
        let mut keys = root.inner("entry")?.over(Some(&defaults));
        let login = ConnectionConfig::read(&mut keys, POSTGRES);
        keys.finish();
        defaults.finish_defaults();
        login
    });
    let faults: Vec<String> = reader.finish().faults.iter().map(ToString::to_string).collect();
    login.filter(|_| faults.is_empty()).ok_or(faults)
}

fn read(entry: &str) -> ConnectionConfig {
    read_in(Path::new("/etc/x"), entry, "{}").unwrap()
}

fn over(entry: &str, defaults: &str) -> ConnectionConfig {
    read_in(Path::new("/etc/x"), entry, defaults).unwrap()
}

fn faults(entry: &str) -> String {
    read_in(Path::new("/etc/x"), entry, "{}").unwrap_err().join("\n")
}

fn host(host: &str, port: u16) -> HostPort {
    HostPort { host: host.into(), port }
}

fn given(login: &ConnectionConfig) -> String {
    let secret = login.password.read(Deadline::within(Duration::from_secs(3))).unwrap();
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

#[test]
fn a_url_and_its_fields_say_the_same() {
    let url = read(
        "{url: 'postgresql://exporter:p%40%3A%2F%23%25%27%20@db.example:5433/shop?target_session_attrs=any'}",
    );
    let fields = read(
        "{host: db.example, port: 5433, username: exporter, password: \"p@:/#%' \", database: shop, params: {target_session_attrs: any}}",
    );
    assert_eq!(format!("{url:?}"), format!("{fields:?}"));
    assert_eq!(given(&url), "p@:/#%' ");
    assert_eq!(given(&fields), "p@:/#%' ");
    assert_eq!(url.params, [("target_session_attrs".to_owned(), "any".to_owned())]);
    assert_eq!(read("{connection_string: 'postgres://db'}").hosts, [host("db", 5432)]);
}

#[test]
fn what_nothing_says_has_its_default() {
    let login = read("{database: shop}");
    assert_eq!(login.hosts, [host("localhost", 5432)]);
    assert_eq!(
        (login.tls.mode, login.read_only, login.connect_timeout),
        (TlsMode::Prefer, true, Duration::from_secs(3))
    );
    assert!(
        matches!(login.password, PasswordSource::None)
            && login.username.is_none()
            && login.session_sql.is_empty()
    );
}

#[test]
fn several_hosts_each_have_a_port() {
    let login = read("{url: 'postgres://h1:1,h2,[::1]:3/x'}");
    assert_eq!(login.hosts, [host("h1", 1), host("h2", 5432), host("::1", 3)]);
    let login = read("{url: 'postgres:///x?host=h1,h2&port=7&user=u&password=p&dbname=y'}");
    assert_eq!(login.hosts, [host("h1", 7), host("h2", 7)]);
    assert_eq!(
        (login.username.as_deref(), login.database.as_deref(), given(&login).as_str()),
        (Some("u"), Some("y"), "p")
    );
}

#[test]
fn lists_of_a_url_replace_what_stands_before_them() {
    let entry = |address: &str| read(&format!("{{url: \"{address}\"}}"));
    for (address, hosts) in [
        ("postgres://a:1/x?host=b", vec![host("b", 1)]),
        ("postgres://a:1/x?port=2", vec![host("a", 2)]),
        ("postgres://a:1,b:2/x?port=7", vec![host("a", 7), host("b", 7)]),
        ("postgres://a:1,b:2/x?host=c,d", vec![host("c", 1), host("d", 2)]),
        ("postgres://a/x?host=b,c&port=,3", vec![host("b", 5432), host("c", 3)]),
        ("postgres://a,b/x?host=c", vec![host("c", 5432)]),
        ("postgres://a/x?host=b&host=c", vec![host("c", 5432)]),
        ("postgres://u@:7/x", vec![host("localhost", 7)]),
        ("postgres:///x?port=7", vec![host("localhost", 7)]),
        ("postgres://:7/x?hostaddr=127.0.0.1", vec![host("127.0.0.1", 7)]),
        ("host=a,/run/pg port=1,2", vec![host("a", 1), host("/run/pg", 2)]),
        ("host=a port=7 user=u", vec![host("a", 7)]),
        ("user=u", vec![host("localhost", 5432)]),
    ] {
        let login = entry(address);
        assert_eq!((login.hosts, login.socket), (hosts, None), "{address}");
    }
    let login = entry("postgres://a:1/x?host=/run/pg");
    assert_eq!((login.hosts, login.socket), (vec![host("localhost", 1)], Some("/run/pg".into())));
    let login = entry("postgres://a,b/x?hostaddr=::1,127.0.0.1&passfile=pw");
    let param = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(login.params, [param("passfile", "/etc/x/pw"), param("hostaddr", "::1,127.0.0.1")]);
    let login = entry("host=a user='' dbname='' password=it\\\\'s");
    assert_eq!(
        (login.username.as_deref(), login.database.as_deref(), given(&login).as_str()),
        (None, None, "it's")
    );
    for (address, expected) in [
        ("postgres://a/x?port=1,2", "not as many ports as hosts"),
        ("postgres://a,b,c/x?port=1,2", "not as many ports as hosts"),
        ("postgres://a/x?host=b,,c", "a host in the URL is empty"),
        ("postgres://a,,b/x", "a host in the URL is empty"),
        ("postgres://a,b/x?hostaddr=::1", "not as many hostaddr as hosts"),
        ("postgres://a/x?sslmode=require&sslrootcert=system", "sslrootcert=system with a weaker sslmode"),
        ("postgres://a/x?ssl=false", "driver"),
    ] {
        let entry = format!("{{url: '{address}'}}");
        match read_in(Path::new("/etc/x"), &entry, "{}") {
            Err(faults) => assert!(faults.join("\n").contains(expected), "{faults:?}"),
            Ok(login) => assert!(expected == "driver" && !login.params.is_empty(), "{address}"),
        }
    }
}

#[test]
fn keyword_strings_are_of_postgresql_only() {
    let document = Document::parse("a.yaml", Path::new("."), "url: host=db user=hunter2\n".into()).unwrap();
    let reader = Reader::new(&environment);
    let mut keys = Keys::root(&document, &reader).unwrap();
    assert!(
        ConnectionConfig::read(&mut keys, UrlRules { schemes: &["mysql"], port: 3306, libpq: false })
            .is_none()
    );
    let faults: Vec<String> = reader.finish().faults.iter().map(ToString::to_string).collect();
    assert!(faults[0].contains("has no scheme") && !faults[0].contains("hunter"), "{faults:?}");
}

#[test]
fn a_socket_is_a_folder_in_a_url_and_a_path_in_the_fields() {
    let folder = Some(PathBuf::from("/run/postgresql"));
    let login = read("{url: 'postgres://u@%2Frun%2Fpostgresql:5433/x'}");
    assert_eq!((login.socket, login.hosts), (folder.clone(), vec![host("localhost", 5433)]));
    assert_eq!(read("{url: 'postgres:///x?host=/run/postgresql'}").socket, folder);
    assert_eq!(read("{host: /run/postgresql}").socket, folder);
    let login = read("{socket: run/mysqld.sock}");
    assert_eq!((login.socket, login.hosts), (Some("/etc/x/run/mysqld.sock".into()), vec![]));
}

#[test]
fn hosts_in_the_fields_are_names_or_addresses() {
    for (entry, expected) in
        [("{host: '[::1]'}", "::1"), ("{host: '::1'}", "::1"), ("{host: 'fe80::1%eth0'}", "fe80::1%eth0")]
    {
        assert_eq!(read(entry).hosts, [host(expected, 5432)], "{entry}");
    }
    for (entry, expected) in [
        ("{host: 'db:5432'}", "entry.host: the host holds a port; write it under `port`"),
        (
            "{host: 'postgres://db'}",
            "entry.host: this is not a host name; a URL belongs under `url`, a user under `username`",
        ),
        ("{host: 'a,b'}", "entry.host: several hosts; write them in a URL"),
        ("{host: ''}", "entry.host: the host is empty"),
        ("{port: 0}", "entry.port: 0 is not a port from 1 to 65535"),
        ("{port: 65536}", "entry.port: \"65536\" is not a port from 1 to 65535"),
        ("{host: db, socket: /x}", "entry.socket: `socket` beside `host`"),
    ] {
        assert!(faults(entry).contains(expected), "{}", faults(entry));
    }
}

#[test]
fn tls_comes_from_the_url_and_its_own_section() {
    let login =
        read("{url: 'postgres://db/x?sslmode=VERIFY-CA&sslrootcert=ca.pem&sslcert=c.pem&sslkey=/k.pem'}");
    assert_eq!(login.tls.mode, TlsMode::VerifyCa);
    assert_eq!(login.tls.ca, Some("/etc/x/ca.pem".into()));
    assert_eq!((login.tls.cert, login.tls.key), (Some("/etc/x/c.pem".into()), Some("/k.pem".into())));
    assert!(login.params.is_empty());
    for (entry, mode) in [
        ("{url: 'postgres://db?ssl-mode=VERIFY_IDENTITY'}", TlsMode::VerifyFull),
        ("{url: 'postgres://db?ssl_mode=disabled'}", TlsMode::Disable),
        ("{url: 'postgres://db?sslmode=allow'}", TlsMode::Prefer),
        ("{url: 'postgres://db?sslrootcert=ca.pem'}", TlsMode::VerifyFull),
        ("{url: 'postgres://db?sslrootcert=system'}", TlsMode::VerifyFull),
        ("{url: 'postgres://db?sslmode=require', tls: {mode: verify-ca}}", TlsMode::VerifyCa),
        ("{url: 'postgres://db?sslmode=require', tls: {ca: x.pem}}", TlsMode::Require),
        ("{tls: {ca: x.pem}}", TlsMode::VerifyFull),
        ("{tls: {mode: Disable}}", TlsMode::Disable),
        ("{tls: {server_name: db}}", TlsMode::Prefer),
    ] {
        assert_eq!(read(entry).tls.mode, mode, "{entry}");
    }
    assert!(
        faults("{tls: {cert: c.pem}}")
            .contains("entry.tls: a client certificate needs both `cert` and `key`")
    );
    assert!(
        faults("{tls: {mode: verify}}").contains("entry.tls.mode: \"verify\" is not one of disable, prefer")
    );
    assert!(
        faults("{tls: {server: x}}").contains("entry.tls.server: unknown key; did you mean `server_name`?")
    );
}

#[test]
fn own_keys_come_before_the_defaults() {
    let defaults = "{username: exporter, password_file: /p, port: 7000, connect_timeout: 9s, params: {a: 1, b: 1}, tls: {mode: verify-full, ca: /ca}}";
    let login = over("{host: db, params: {b: 2}, tls: {mode: require}}", defaults);
    assert_eq!(login.hosts, [host("db", 7000)]);
    assert_eq!(
        (login.username.as_deref(), login.connect_timeout),
        (Some("exporter"), Duration::from_secs(9))
    );
    assert!(matches!(&login.password, PasswordSource::File(path) if path == Path::new("/p")));
    assert_eq!(login.params, [("b".into(), "2".into()), ("a".into(), "1".into())]);
    assert_eq!((login.tls.mode, login.tls.ca), (TlsMode::Require, Some("/ca".into())));

    let login = over("{url: 'postgres://db/x?sslmode=disable&connect_timeout=1'}", defaults);
    assert_eq!((login.hosts, login.username), (vec![host("db", 7000)], Some("exporter".into())));
    assert_eq!((login.tls.mode, login.connect_timeout), (TlsMode::Disable, Duration::from_secs(1)));
    assert!(matches!(login.password, PasswordSource::File(_)));

    let login = over("{url: 'postgres://other:own@db:1/x'}", defaults);
    assert_eq!(
        (login.hosts[0].port, login.username.as_deref(), given(&login).as_str()),
        (1, Some("other"), "own")
    );

    let params = |entry: &str| over(entry, defaults).params;
    assert_eq!(params("{url: 'postgres://db/x?a=2'}").last(), Some(&("a".into(), "2".into())));
    assert_eq!(
        params("{url: 'postgres://db/x?a=2', params: {a: 3}}").last(),
        Some(&("a".into(), "3".into()))
    );
    let plain = "{tls: {mode: disable}, params: {a: 1}}";
    let login = over("{url: 'postgres://db/x?sslmode=verify-full', tls: {ca: /own}}", plain);
    assert_eq!((login.tls.mode, login.tls.ca), (TlsMode::VerifyFull, Some("/own".into())));
    let login = over("{params: {b: 2}}", "{url: 'postgres://db/x?a=0', params: {a: 1}}");
    assert_eq!(login.params.iter().rfind(|(name, _)| name == "a").map(|(_, value)| &**value), Some("1"));

    let login = over("{password: own}", defaults);
    assert_eq!(given(&login), "own");

    for (entry, defaults, hosts, socket) in [
        ("{host: db}", "{socket: /run/x.sock}", vec![host("db", 5432)], None),
        ("{host: /run/pg}", "{socket: /run/x.sock}", vec![], Some("/run/pg".into())),
        ("{socket: /run/x.sock}", "{host: db}", vec![], Some("/run/x.sock".into())),
        ("{socket: /run/x.sock}", "{host: /run/pg}", vec![], Some("/run/x.sock".into())),
        ("{port: 2}", "{url: 'postgres://a:1,b/x'}", vec![host("a", 2), host("b", 2)], None),
        ("{url: 'postgres://a:1,b/x'}", "{port: 2}", vec![host("a", 1), host("b", 2)], None),
    ] {
        let login = over(entry, defaults);
        assert_eq!((login.hosts, login.socket), (hosts, socket), "{entry} over {defaults}");
    }

    let defaults = "{url: 'postgres://a/x?hostaddr=127.0.0.1&application_name=me'}";
    let login = over("{host: db}", defaults);
    assert_eq!(
        login.params,
        [("application_name".into(), "me".into())],
        "its address is that of another host"
    );
    assert_eq!(over("{database: y}", defaults).params.len(), 2);

    let login = over("{database: y}", "{url: 'postgres://u:p@db/x'}");
    assert_eq!(
        (login.database.as_deref(), given(&login).as_str(), login.hosts),
        (Some("y"), "p", vec![host("db", 5432)])
    );
}

#[test]
fn one_way_to_say_it_is_enough() {
    for (entry, expected) in [
        (
            "{url: 'postgres://u:hunter2@db/x', host: db}",
            "entry.host: `host` beside a URL; write the URL or the fields, never both",
        ),
        (
            "{url: 'postgres://hunter2@db/x', connection_string: 'postgres://db'}",
            "entry.connection_string: `connection_string` beside `url`",
        ),
        ("{password: hunter2, password_file: /x}", "entry.password_file: `password_file` beside `password`"),
        (
            "{password_file: /x, password_command: [/bin/x]}",
            "entry.password_command: `password_command` beside `password_file`",
        ),
        (
            "{url: 'postgres://u:hunter2@db/x', password: hunter3}",
            "entry.password: `password` beside a password in the URL",
        ),
        ("{password_command: 'vault read hunter2'}", "expected a list: a program and its arguments"),
        ("{password_command: []}", "no program is named"),
        ("{connect_timeout: 0}", "entry.connect_timeout: expected more than 0"),
        ("{url_file: /nonexistent}", "entry.url_file: the file cannot be read: No such file"),
    ] {
        let faults = faults(entry);
        assert!(faults.contains(expected), "{faults}");
        assert!(!faults.contains("hunter"), "{faults}");
    }
}

#[test]
fn a_fault_in_a_url_never_shows_the_url() {
    for entry in [
        "{url: hunter2}",
        "{url: 'mysql://u:hunter2@db/x'}",
        "{url: 'postgres://u:hunter2/x@db/x'}",
        "{url: 'postgres://u:hunter2?x@db/x'}",
        "{url: 'postgres://db/x?sslmode=hunter2'}",
        "{url: 'postgres://db/x?connect_timeout=hunter2'}",
        "{url: 'postgres://db/x?port=hunter2'}",
        "{url: 'postgres://u:hunter2@db/x${'}",
        "{url: [hunter2]}",
        "{url: 'postgres://u:hunter2@db/x', prot: 1}",
        "{pasword: hunter2}",
        "{password: [hunter2]}",
        "{password: {hunter2: hunter2}}",
        "{password: 'hunter2${'}",
        "{params: {a: 'hunter2${'}}",
        "{params: hunter2}",
        "{params: [hunter2]}",
        "{session_sql: {x: hunter2}}",
    ] {
        let faults = faults(entry);
        assert!(!faults.contains("hunter"), "{entry}: {faults}");
    }
    assert!(
        faults("{url: 'mysql://u:hunter2@db/x'}")
            .contains("does not begin with postgres:// or postgresql://")
    );
}

#[test]
fn passwords_with_every_character_work_in_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let password = "p@:/#%' $ \\ \" é";
    std::fs::write(folder.path().join("pw"), format!("{password}\n")).unwrap();
    std::fs::write(folder.path().join("url"), "postgres://u:p%40@db/x\n").unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/cat", folder.path().join("bin/show")).unwrap();
    let read = |entry: &str| read_in(folder.path(), entry, "{}").unwrap();
    assert_eq!(given(&read("{password_file: pw}")), password);
    let command = format!("{{password_command: [bin/show, {}/pw]}}", folder.path().display());
    assert_eq!(given(&read(&command)), password);
    assert_eq!(given(&read("{password: 'p@:/#%'' $ \\ \" é'}")), password);
    assert_eq!(given(&read("{password: \"${DB_PASS}\"}")), "p@:/#%' ${w}");
    assert_eq!(given(&read("{url_file: url}")), "p@");
    assert_eq!(given(&read("{password: ''}")), "");
}

#[test]
fn a_shown_address_holds_no_secret() {
    let login = read(
        "{url: 'postgres://ex porter:hunter2@h1:1,[::1]:2/my%20db?token=hunter2', session_sql: SELECT 1}",
    );
    assert_eq!(login.redacted_url("postgres"), "postgres://ex porter@h1:1,[::1]:2/my db");
    assert!(!format!("{:?}", login.password).contains("hunter"));
    assert_eq!(
        read("{socket: /run/x.sock, username: u}").redacted_url("mysql"),
        "mysql://u@unix(/run/x.sock)"
    );
    assert_eq!(login.session_sql, ["SELECT 1"]);
}

#[test]
fn the_form_of_a_url_names_the_driver() {
    for (text, expected) in [
        ("MySQL://db", AddressSyntax::Url("mysql".into())),
        ("sqlite:x.db", AddressSyntax::Url("sqlite".into())),
        ("host=db user=x", AddressSyntax::Keywords),
        ("x", AddressSyntax::Unknown),
    ] {
        assert_eq!(AddressSyntax::of(text), expected, "{text}");
    }
}

#[test]
fn a_fault_leaves_no_login() {
    let document =
        Document::parse("a.yaml", Path::new("."), "port: x\nread_only: maybe\ntls: {mode: y}\n".into())
            .unwrap();
    let reader = Reader::new(&environment);
    let mut keys = Keys::root(&document, &reader).unwrap();
    assert!(ConnectionConfig::read(&mut keys, POSTGRES).is_none());
    assert_eq!(reader.finish().faults.len(), 3);
}

#[test]
fn of_several_failures_none_is_lost() {
    let full = Error::new(Reason::Server, "a: too many clients").with_sqlstate("53300").with_full_server();
    let standby = Error::new(Reason::Connect, "b: is a standby").with_hint("do something");
    let alone = one_of_all(std::slice::from_ref(&full));
    assert_eq!(alone, full);
    let both = one_of_all(&[full.clone(), standby.clone()]);
    assert_eq!(both.to_string(), "a: too many clients; b: is a standby; do something");
    assert!(both.is_server_full() && both.reason() == Reason::Connect);
    let both = one_of_all(&[standby, full]);
    assert_eq!(
        (both.sqlstate(), both.reason(), both.is_server_full()),
        (Some("53300"), Reason::Server, true)
    );
}
