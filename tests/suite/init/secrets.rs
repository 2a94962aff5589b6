//! No secret is in the file, wherever it stands in the URL. Every output of these tests is searched for the canary.

use super::{Place, value};
use crate::servers::{CANARY, Postgres};

#[test]
fn a_password_becomes_a_variable_wherever_it_stands() {
    let server = Postgres::fresh("init");
    let Postgres { port, database, .. } = &server;
    let role = format!("{database}_s");
    let password = format!("{CANARY}a@b:c/d?e#f%g&h=i'j\\k ${{X}}");
    let quoted = password.replace('\'', "''");
    server.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{quoted}'"));
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped = password.replace('\\', "\\\\").replace('\'', "\\'").replace("${", "$${");
    let name = format!("{}_PASSWORD", database.to_ascii_uppercase());
    for url in [
        format!("postgres://{role}:{encoded}@127.0.0.1:{port}/{database}"),
        format!("postgres://{role}@127.0.0.1:{port}/{database}?password={encoded}&application_name=x"),
        format!("host=127.0.0.1 port={port} dbname={database} user={role} password='{escaped}'"),
    ] {
        let mut place = Place::new();
        let output = place.run(&["init", &url]);
        assert_eq!(output.code(), 0, "{}", output.errors());
        assert_eq!(output.text(), format!("export {name}=…\nsql-exporter test\nsql-exporter\n"));
        let text = place.written("sql-exporter.yaml");
        assert!(text.contains(&format!("    password: ${{{name}}}\n")), "{text}");
        place.set(&name, &password);
        assert!(value(&place.page(), &format!("{database}_database_bytes")) > 0.0);
    }
}

#[test]
fn a_variable_stays_as_it_was_written() {
    let server = Postgres::fresh("init");
    let Postgres { port, database, password } = &server;
    let mut place = Place::new();
    place.set("DB_PASSWORD", password);
    place.set("DB_PORT", &port.to_string());
    let url = format!("postgres://postgres:${{DB_PASSWORD}}@127.0.0.1:${{DB_PORT}}/{database}");
    let output = place.run(&["init", &url]);
    assert_eq!(
        (output.code(), output.text()),
        (0, "sql-exporter test\nsql-exporter\n"),
        "{}",
        output.errors()
    );
    let text = place.written("sql-exporter.yaml");
    assert!(text.contains(&format!("url: \"{url}\"")) && !text.contains("password: "), "{text}");
    place.page();
    // The whole URL may be one.
    let mut whole = Place::new();
    whole.set("DATABASE_URL", &format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}"));
    let text = whole.init(&["${DATABASE_URL}"]);
    assert!(text.contains(&format!("  {database}:\n    url: \"${{DATABASE_URL}}\"\n")), "{text}");
    whole.page();
}

/// In a URL these characters end something, and the variable's value is not the one of a URL.
#[test]
fn a_variable_that_no_url_can_hold_stands_beside_it() {
    let server = Postgres::fresh("init");
    let Postgres { port, database, .. } = &server;
    let role = format!("{database}_v");
    let password = format!("{CANARY}a@b:c/d?e#f%g&h=i'j\\k ${{X}}");
    server.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", password.replace('\'', "''")));
    for url in [
        format!("postgres://{role}:${{DB_PASSWORD}}@127.0.0.1:{port}/{database}"),
        format!("postgres://{role}@127.0.0.1:{port}/{database}?password=${{DB_PASSWORD}}"),
    ] {
        let mut place = Place::new();
        place.set("DB_PASSWORD", &password);
        let text = place.init(&[&url]);
        let written = format!(
            "    url: postgres://{role}@127.0.0.1:{port}/{database}\n    password: ${{DB_PASSWORD}}\n"
        );
        assert!(text.contains(&written), "{text}");
        place.page();
    }
    // A port and a database, were it a part of the URL.
    let mut place = Place::new();
    place.set("DB_PASSWORD", "1/x");
    let text = place.init(&["postgres://u:${DB_PASSWORD}@db.example/d", "--offline"]);
    assert!(text.contains("    url: postgres://u@db.example/d\n    password: ${DB_PASSWORD}\n"), "{text}");
}

#[test]
fn a_default_is_used_and_not_written() {
    let server = Postgres::fresh("init");
    let Postgres { port, database, password } = &server;
    let mut place = Place::new();
    let url = format!("postgres://postgres:${{DB_PASSWORD:-{password}}}@127.0.0.1:{port}/{database}");
    let output = place.run(&["init", &url]);
    assert_eq!(
        (output.code(), output.text()),
        (0, "export DB_PASSWORD=…\nsql-exporter test\nsql-exporter\n")
    );
    assert!(place.written("sql-exporter.yaml").contains("postgres:${DB_PASSWORD}@"));
    place.set("DB_PASSWORD", password);
    place.page();
}
