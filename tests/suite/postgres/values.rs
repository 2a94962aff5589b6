//! PostgreSQL's types where the role, the way to the server or the protocol is not the usual one. What each type is
//! stands in the table of `conformance`.

use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::error::Reason;

use super::{LONG, assert_clean, login, open, rows, session};
use crate::conformance::subject::Subject;
use crate::conformance::subject::postgres::Postgres as Fresh;
use crate::conformance::types::POSTGRES;
use crate::conformance::value::{check_types, make_types};
use crate::recorder::run;
use crate::servers::Postgres;

/// Has every type read, after its database was altered, on a target with these keys.
fn check_all(settings: &[&str], changes: &[(&str, &str)]) {
    let subject = Fresh::fresh();
    make_types(&subject, &POSTGRES);
    let database = subject.ask("SELECT current_database()");
    settings.iter().for_each(|setting| subject.run(&format!("ALTER DATABASE {database} SET {setting}")));
    // The simple protocol does not name types that somebody made.
    let simple = changes.iter().any(|(key, _)| *key == "params");
    let is_made = |name: &str| ["mood", "pair", "positive["].iter().any(|made| name.contains(made));
    // What holds several dates is a text, and is written in the session's own style.
    let styled = settings.iter().any(|setting| setting.contains("DateStyle"));
    let holds_dates = |name: &str| ["daterange", "datemultirange", "tsrange"].contains(&name);
    check_types::<Fresh>(&subject.entry(changes), &POSTGRES, |known| {
        !(simple && is_made(known.name) || styled && holds_dates(known.name))
    });
}

#[test]
fn every_type_reads_the_same_where_the_database_has_other_styles() {
    let settings = [
        "\"DateStyle\" = 'German'",
        "\"IntervalStyle\" = 'sql_standard'",
        "extra_float_digits = 0",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "\"TimeZone\" = 'Asia/Kolkata'",
    ];
    check_all(&settings, &[]);
}

#[test]
fn every_type_reads_the_same_through_a_pooler() {
    let port = Postgres::shared("postgres").through_pgbouncer().port.to_string();
    check_all(&["\"IntervalStyle\" = 'sql_standard'"], &[("port", &port)]);
}

#[test]
fn every_type_of_the_server_itself_reads_the_same_in_the_simple_protocol() {
    check_all(&[], &[("params", "{protocol: simple}")]);
}

#[test]
fn what_has_no_column_type_is_read_too() {
    let mut session = session(&Postgres::shared("postgres"));
    let cells = rows(&mut *session, "SELECT NULL, 'x', pg_sleep(0), date '0001-12-31 BC'");
    assert_eq!(cells, [["Null", "Text(\"x\")", "Other(\"\")", "Date(-719163)"]]);
}

#[test]
fn text_that_is_not_utf8_is_an_error_that_says_so() {
    let server = Postgres::fresh("ascii");
    let name = format!("{}_ascii", server.database);
    server.run(&format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    let ascii = Postgres { database: name, ..server };
    let (recorder, health) = run(&mut *session(&ascii), "SELECT chr(233)::text || 'x'", LONG);
    assert_clean(&health);
    assert_eq!(recorder.reason(), Reason::Value);
    assert!(recorder.error().message().contains("invalid byte sequence for encoding \"UTF8\""));
    let hint = recorder.error().hint().expect("what to do");
    let told = hint.split('`').nth(1).expect("a statement").to_owned();
    let login = ConnectionConfig { session_sql: vec![told], ..login(&ascii) };
    let cells = rows(&mut *open(login).expect("a session"), "SELECT chr(233)::text || 'x', 'x'");
    assert_eq!(cells, [["Bytes([233, 120])", "Text(\"x\")"]]);
}

/// The type of an enum or of citext is a text, which `map` and a number in it make a value; nobody asks for it there.
#[test]
fn a_text_of_a_type_that_somebody_made_is_text_in_the_simple_protocol_too() {
    let server = Postgres::fresh("made");
    server.run("CREATE TYPE mood AS ENUM ('sad', '7')");
    let mut login = login(&server);
    login.params = vec![("protocol".to_owned(), "simple".to_owned())];
    let cells = rows(&mut *open(login).expect("a session"), "SELECT 'sad'::mood, '7'::mood");
    assert_eq!(cells, [["Text(\"sad\")", "Text(\"7\")"]]);
}
