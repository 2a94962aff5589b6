//! PostgreSQL's.

use std::borrow::Cow;

use super::{Type, Types, row};
use crate::conformance::value::Value::{Is, NoNumber, NoType};

pub(crate) const POSTGRES: Types = Types {
    before: "CREATE TYPE mood AS ENUM ('sad', '7'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE TYPE pair AS (a int, b text)",
    all: Cow::Borrowed(ALL),
};

#[rustfmt::skip]
const ALL: &[Type] = &[
    row("boolean", "true", "boolean", Is(1.0), "true"),
    row("boolean", "false", "boolean", Is(0.0), "false"),
    row("smallint", "-32768", "smallint", Is(-32768.0), "-32768"),
    row("integer", "2147483647", "integer", Is(2_147_483_647.0), "2147483647"),
    row("bigint", "-9223372036854775808", "bigint", Is(-9_223_372_036_854_775_808.0), "-9223372036854775808"),
    row("oid", "4294967295", "oid", Is(4_294_967_295.0), "4294967295"),
    row("xid", "'7'", "xid", Is(7.0), "7"),
    row("xid8", "'18446744073709551615'", "xid8", Is(18_446_744_073_709_551_616.0), "18446744073709551615"),
    row("cid", "'7'", "cid", Is(7.0), "7"),
    row("real", "0.1", "real", Is(0.1_f32 as f64), "0.1"),
    row("double precision", "0.1", "double precision", Is(0.1), "0.1"),
    row("double precision", "1e300", "double precision", Is(1e300), "1e300"),
    row("numeric", "-0.00000000000000000001", "numeric", Is(-1e-20), "-0.00000000000000000001"),
    row("numeric(10,2)", "1.5", "numeric", Is(1.5), "1.50"),
    row("money", "'-1234567.5'", "money", Is(-1_234_567.5), "-1234567.50"),
    row("text", "'12.5'", "text", Is(12.5), "12.5"),
    row("text", "'twelve'", "text", NoNumber, "twelve"),
    row("varchar(20)", "'caf\u{e9} \u{1f980} \" \\ \n'", "varchar", NoNumber, "caf\u{e9} \u{1f980} \" \\ \n"),
    row("char(4)", "'ab'", "character", NoNumber, "ab  "),
    row("\"char\"", "'x'", "char", NoNumber, "x"),
    row("name", "'pg_class'", "name", NoNumber, "pg_class"),
    row("bytea", "'\\x68c3a9ff'", "bytea", NoType, "h\u{e9}\u{fffd}"),
    row("bytea", "'\\x3432'", "bytea", Is(42.0), "42"),
    row("date", "'2026-01-02'", "date", Is(1_767_312_000.0), "2026-01-02"),
    row("time", "'03:04:05.5'", "time", Is(11_045.5), "03:04:05.5"),
    row("time", "'24:00:00'", "time", Is(86_400.0), "24:00:00"),
    row("timetz", "'03:04:05+05:30'", "timetz", Is(77_645.0), "21:34:05"),
    row("timestamp", "'2026-01-02 03:04:05.5'", "timestamp", Is(1_767_323_045.5), "2026-01-02T03:04:05.5"),
    row("timestamptz", "'2026-01-02 03:04:05.5+02'", "timestamptz", Is(1_767_315_845.5), "2026-01-02T01:04:05.5Z"),
    row("interval", "'1 hour 30 minutes'", "interval", Is(5400.0), "PT1H30M"),
    row("json", "'{\"a\":1}'", "json", NoType, "{\"a\":1}"),
    row("jsonb", "'{\"a\":1}'", "jsonb", NoType, "{\"a\": 1}"),
    row("jsonpath", "'$.a'", "jsonpath", NoType, "$.\"a\""),
    row("uuid", "'6f1ed002-ab5a-4c5e-9d5d-2f1b8a1a0b0c'", "uuid", NoType, "6f1ed002-ab5a-4c5e-9d5d-2f1b8a1a0b0c"),
    row("inet", "'10.0.0.1/8'", "inet", NoType, "10.0.0.1/8"),
    row("cidr", "'10.0.0.0/8'", "cidr", NoType, "10.0.0.0/8"),
    row("macaddr", "'08:00:2b:01:02:03'", "macaddr", NoType, "08:00:2b:01:02:03"),
    row("int[]", "'{1,2}'", "_int4", NoType, "{1,2}"),
    row("point", "'(1,2)'", "point", NoType, "(1,2)"),
    row("box", "'(3,4),(1,2)'", "box", NoType, "(3,4),(1,2)"),
    row("int4range", "'[1,5)'", "int4range", NoType, "[1,5)"),
    row("int4multirange", "'{[1,5)}'", "int4multirange", NoType, "{[1,5)}"),
    row("bit(3)", "B'101'", "bit", NoType, "101"),
    row("varbit", "B'101'", "varbit", NoType, "101"),
    row("pg_lsn", "'0/16B3748'", "pg_lsn", NoType, "0/16B3748"),
    row("xml", "'<a/>'", "xml", NoType, "<a/>"),
    row("tsvector", "'cat'", "tsvector", NoType, "'cat'"),
    row("tsquery", "'cat & dog'", "tsquery", NoType, "'cat' & 'dog'"),
    row("regclass", "'pg_class'", "regclass", NoType, "pg_class"),
    row("mood", "'sad'", "mood", NoNumber, "sad"),
    row("mood", "'7'", "mood", Is(7.0), "7"),
    row("positive", "7", "integer", Is(7.0), "7"),
    row("pair", "ROW(1,'a')", "pair", NoType, "(1,a)"),
];
