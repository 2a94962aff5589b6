//! The keys of a SQLite target: what loads, and what is refused in which words.

use std::path::Path;
use std::sync::Arc;

use sql_exporter::driver::sqlite::Sqlite;
use sql_exporter::driver::{Driver, Endpoint};
use sql_exporter::error::Error;
use sql_exporter::yaml::document::Document;
use sql_exporter::yaml::keys::{Keys, Reader};

/// Reads the keys of one target that stands in `/etc/exporter/main.yaml`, over `defaults`: the endpoint's address, and the faults.
fn read(target: &str, defaults: &str) -> (Option<String>, Vec<Error>) {
    let document =
        |text: &str| Document::parse("main.yaml", Path::new("/etc/exporter"), text.to_owned()).expect("YAML");
    let (target, defaults) = (document(target), document(defaults));
    let environment = |_: &str| None;
    let reader = Reader::new(&environment);
    let endpoint: Option<Arc<dyn Endpoint>> = {
        let behind = Keys::root(&defaults, &reader).expect("a mapping");
        let mut keys = Keys::root(&target, &reader).expect("a mapping").over(Some(&behind));
        let endpoint = Sqlite.endpoint(&mut keys);
        keys.finish();
        endpoint
    };
    (endpoint.map(|endpoint| endpoint.redacted_url()), reader.finish().faults)
}

#[test]
fn a_file_is_named_by_a_path_or_a_url_relative_to_the_configuration() {
    for (target, shown) in [
        ("database: ./data/app.db", "sqlite:///etc/exporter/data/app.db"),
        ("database: /var/lib/app.db", "sqlite:///var/lib/app.db"),
        ("url: sqlite:data/app.db", "sqlite:///etc/exporter/data/app.db"),
        ("connection_string: sqlite:///var/lib/app.db?immutable=true", "sqlite:///var/lib/app.db"),
        (
            "{database: a.db, params: {immutable: true}, read_only: true, session_sql: [SELECT 1], connect_timeout: 1s}",
            "sqlite:///etc/exporter/a.db",
        ),
    ] {
        assert_eq!(read(target, "{}"), (Some(shown.to_owned()), vec![]), "{target}");
    }
}

#[test]
fn a_url_may_stand_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("url");
    std::fs::write(&path, "sqlite:///var/lib/app.db\n").expect("written");
    let (shown, faults) = read(&format!("url_file: {}", path.display()), "{}");
    assert_eq!((shown.as_deref(), faults), (Some("sqlite:///var/lib/app.db"), vec![]));
}

#[test]
fn defaults_meant_for_servers_do_not_disturb_a_file() {
    let defaults =
        "{username: metrics, password: x, database: shop, tls: {mode: require}, connect_timeout: 1s}";
    assert_eq!(read("url: sqlite:a.db", defaults), (Some("sqlite:///etc/exporter/a.db".to_owned()), vec![]));
}

#[test]
fn what_names_no_file_is_refused_in_words() {
    for (target, fault) in [
        ("{}", "a SQLite target needs a file"),
        ("{database: ':memory:'}", "a database in memory is a new, empty one in each session: name a file"),
        ("{url: 'sqlite::memory:'}", "a database in memory is a new, empty one in each session: name a file"),
        (
            "{database: 'file:a.db?mode=ro'}",
            "SQLite's own `file:` URIs are not read here: write the path, and options under `params`",
        ),
        ("{database: a.db, connect_timeout: 0}", "expected more than 0"),
        ("{url: 'sqlite:a.db', database: a.db}", "`url` and `database` both name the file: keep one"),
        (
            "{url: 'sqlite://user:hunter2@a.db'}",
            "a file has no host, which would follow `//`: write sqlite:RELATIVE/PATH or sqlite:///ABSOLUTE/PATH",
        ),
        ("{url_file: /nowhere/url}", "cannot read /nowhere/url: No such file or directory (os error 2)"),
        ("{database: a.db, params: {cache: shared}}", "SQLite knows no parameter `cache`, only `immutable`"),
        ("{database: a.db, params: {immutable: perhaps}}", "`immutable` is true or false, not `perhaps`"),
        (
            "{database: a.db, params: {immutable: true}, read_only: false}",
            "an immutable file cannot be written: `immutable: true` and `read_only: false` exclude each other",
        ),
        (
            "{database: a.db, host: localhost}",
            "`host` has no meaning for SQLite, which reads a file: remove it",
        ),
        (
            "{database: a.db, password: hunter2}",
            "`password` has no meaning for SQLite, which reads a file: remove it",
        ),
        (
            "{database: a.db, tls: {mode: require}}",
            "`tls` has no meaning for SQLite, which reads a file: remove it",
        ),
    ] {
        let found = read(target, "{}").1;
        assert_eq!(found.iter().map(Error::message).collect::<Vec<_>>(), [fault], "{target}");
        assert!(!found[0].to_string().contains("hunter2"), "{}", found[0]);
    }
}
