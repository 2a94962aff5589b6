//! Every type as a value and as a label (DESIGN 3).

use std::time::Duration;

use sql_exporter::cell::Number;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Column, Flow, Job, Row, RowSink, Session, Sql};
use sql_exporter::error::{Reason, Result};

use super::{LONG, assert_clean, login, open, session};
use crate::recorder::run;
use crate::servers::Postgres;

/// One cell both ways.
#[derive(Default)]
struct Both {
    columns: Vec<Column>,
    value: Option<Number>,
    label: String,
    verdict: Option<Result<()>>,
}

impl RowSink for Both {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        let cell = row.cell(0)?;
        self.value = Some(cell.number());
        cell.label(&mut self.label.clone()).clone_into(&mut self.label);
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _took: Duration) {
        self.verdict = Some(verdict);
    }
}

fn both(session: &mut dyn Session, expression: &str) -> Both {
    let sql = Sql::new(&format!("SELECT {expression}"));
    let mut both = Both::default();
    let mut jobs = [Job { sql: &sql, allowance: LONG, sink: &mut both }];
    assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
    assert_eq!(both.verdict, Some(Ok(())), "{expression}");
    both
}

fn value(number: f64) -> Number {
    Number::Value(number)
}

/// Expression, value, label, type name.
type Case = (&'static str, Number, &'static str, &'static str);

const NONE: Number = Number::NotNumber;

fn cases() -> Vec<Case> {
    [numbers(), texts(), moments(), others()].concat()
}

fn numbers() -> Vec<Case> {
    vec![
        ("true", value(1.0), "true", "boolean"),
        ("false", value(0.0), "false", "boolean"),
        ("(-32768)::int2", value(-32768.0), "-32768", "smallint"),
        ("2147483647", value(2_147_483_647.0), "2147483647", "integer"),
        ("9007199254740993::int8", value(9_007_199_254_740_992.0), "9007199254740993", "bigint"),
        ("4294967295::oid", value(4_294_967_295.0), "4294967295", "oid"),
        ("'7'::xid", value(7.0), "7", "xid"),
        ("0.1::float4", value(f64::from(0.1_f32)), "0.1", "real"),
        ("0.1::float8", value(0.1), "0.1", "double precision"),
        ("1e300::float8", value(1e300), "1e300", "double precision"),
        ("'-Infinity'::float8", value(f64::NEG_INFINITY), "-Inf", "double precision"),
        (
            "1234567890123456789012345678901234567890::numeric",
            value(1.234_567_890_123_456_8e39),
            "1234567890123456789012345678901234567890",
            "numeric",
        ),
        ("1.50::numeric(10,2)", value(1.5), "1.50", "numeric"),
        ("'Infinity'::numeric", value(f64::INFINITY), "Infinity", "numeric"),
        ("'-1234567.5'::money", value(-1_234_567.5), "-1234567.50", "money"),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        ("'12.5'::text", value(12.5), "12.5", "text"),
        ("'caf\u{e9} \u{1f980} \" \\ \n'::varchar(20)", NONE, "caf\u{e9} \u{1f980} \" \\ \n", "varchar"),
        ("'ab'::char(4)", NONE, "ab  ", "character"),
        ("'x'::\"char\"", NONE, "x", "char"),
        ("'pg_class'::name", NONE, "pg_class", "name"),
        ("'\\x68c3a9ff'::bytea", NONE, "h\u{e9}\u{fffd}", "bytea"),
        ("'\\x3432'::bytea", value(42.0), "42", "bytea"),
    ]
}

fn moments() -> Vec<Case> {
    vec![
        ("date '2026-01-02'", value(1_767_312_000.0), "2026-01-02", "date"),
        ("date '0001-12-31 BC'", value(-719_163.0 * 86_400.0), "0000-12-31", "date"),
        ("'infinity'::date", value(f64::INFINITY), "+Inf", "date"),
        ("time '03:04:05.5'", value(11_045.5), "03:04:05.5", "time"),
        ("time '24:00:00'", value(86_400.0), "24:00:00", "time"),
        ("timetz '03:04:05+05:30'", value(77_645.0), "21:34:05", "timetz"),
        ("timestamp '2026-01-02 03:04:05.5'", value(1_767_323_045.5), "2026-01-02T03:04:05.5", "timestamp"),
        (
            "timestamptz '2026-01-02 03:04:05.5+02'",
            value(1_767_315_845.5),
            "2026-01-02T01:04:05.5Z",
            "timestamptz",
        ),
        ("'-infinity'::timestamptz", value(f64::NEG_INFINITY), "-Inf", "timestamptz"),
        ("interval '1 hour 30 minutes'", value(5400.0), "PT1H30M", "interval"),
        (
            "interval '1 year 2 months -3 days 04:05:06.7'",
            value(31_557_600.0 + 57.0 * 86_400.0 + 14_706.7),
            "P1Y2M-3DT4H5M6.7S",
            "interval",
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        ("'{\"a\":1}'::json", NONE, "{\"a\":1}", "json"),
        ("'{\"a\": 1}'::jsonb", NONE, "{\"a\": 1}", "jsonb"),
        (
            "'6f1ed002-ab5a-4c5e-9d5d-2f1b8a1a0b0c'::uuid",
            NONE,
            "6f1ed002-ab5a-4c5e-9d5d-2f1b8a1a0b0c",
            "uuid",
        ),
        ("'10.0.0.1/8'::inet", NONE, "10.0.0.1/8", "inet"),
        ("'08:00:2b:01:02:03'::macaddr", NONE, "08:00:2b:01:02:03", "macaddr"),
        ("ARRAY[1,2]", NONE, "{1,2}", "_int4"),
        ("'(1,2)'::point", NONE, "(1,2)", "point"),
        ("int4range(1,5)", NONE, "[1,5)", "int4range"),
        ("B'101'::varbit", NONE, "101", "varbit"),
        ("'0/16B3748'::pg_lsn", NONE, "0/16B3748", "pg_lsn"),
        ("'<a/>'::xml", NONE, "<a/>", "xml"),
        ("'cat'::tsvector", NONE, "'cat'", "tsvector"),
        ("'pg_class'::regclass", NONE, "pg_class", "regclass"),
        ("pg_sleep(0)", NONE, "", "void"),
        ("NULL::int4", Number::Null, "", "integer"),
        ("NULL", Number::Null, "", "text"),
        ("'sad'::mood", NONE, "sad", "mood"),
        ("'7'::mood", value(7.0), "7", "mood"),
        ("7::positive", value(7.0), "7", "integer"),
        ("ROW(1,'a')::pair", NONE, "(1,a)", "pair"),
    ]
}

fn check(session: &mut dyn Session) {
    for (expression, number, label, type_name) in cases() {
        let found = both(session, expression);
        assert_eq!(found.value, Some(number), "{expression} as a value");
        assert_eq!(found.label, label, "{expression} as a label");
        let column = &found.columns[0];
        assert_eq!((column.type_name.as_str(), column.cast), (type_name, "{}::float8"), "{expression}");
    }
    let nan = both(session, "'NaN'::numeric");
    assert!(matches!(nan.value, Some(Number::Value(nan)) if nan.is_nan()) && nan.label == "NaN");
}

fn types() -> Postgres {
    let server = Postgres::fresh("values");
    server.run(
        "CREATE TYPE mood AS ENUM ('sad', '7'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE TYPE pair AS (a int, b text)",
    );
    server
}

#[test]
fn every_type_is_a_value_and_a_label() {
    check(&mut *session(&types()));
}

#[test]
fn every_type_reads_the_same_where_the_role_has_other_styles() {
    let server = types();
    server.run(&format!(
        "ALTER DATABASE {0} SET \"DateStyle\" = 'German'; ALTER DATABASE {0} SET \"IntervalStyle\" = 'sql_standard';
         ALTER DATABASE {0} SET extra_float_digits = 0; ALTER DATABASE {0} SET bytea_output = 'escape';
         ALTER DATABASE {0} SET standard_conforming_strings = off; ALTER DATABASE {0} SET \"TimeZone\" = 'Asia/Kolkata'",
        server.database
    ));
    check(&mut *session(&server));
}

#[test]
fn every_type_reads_the_same_through_a_pooler() {
    let server = types();
    server.run(&format!("ALTER DATABASE {} SET \"IntervalStyle\" = 'sql_standard'", server.database));
    check(&mut *session(&server.through_pgbouncer()));
}

#[test]
fn types_of_the_server_itself_are_known_by_name_in_the_simple_protocol_or_not_at_all() {
    let server = types();
    let mut login = login(&server);
    login.params = vec![("protocol".to_owned(), "simple".to_owned())];
    let mut session = open(login).expect("a session");
    for (expression, number, label, type_name) in cases() {
        if ["mood", "pair"].contains(&type_name) {
            continue;
        }
        let found = both(&mut *session, expression);
        assert_eq!((found.value, found.label.as_str()), (Some(number), label), "{expression}");
    }
    let mood = both(&mut *session, "'sad'::mood");
    assert_eq!((mood.value, mood.label.as_str()), (Some(Number::NotNumber), "sad"));
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
}
