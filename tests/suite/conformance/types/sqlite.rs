//! SQLite's storage classes under declared types, which bind nothing: a column is what each of its values is.

use std::borrow::Cow;

use super::{Type, Types, row};
use crate::conformance::value::Value::{Is, NoNumber, NoType};

pub(crate) const SQLITE: Types = Types { before: "", all: Cow::Borrowed(ALL) };

#[rustfmt::skip]
const ALL: &[Type] = &[
    row("INTEGER", "9223372036854775807", "INTEGER", Is(9_223_372_036_854_775_808.0), "9223372036854775807"),
    row("INTEGER", "-1", "INTEGER", Is(-1.0), "-1"),
    row("INTEGER", "'abc'", "INTEGER", NoNumber, "abc"),
    row("INT", "1.5", "INT", Is(1.5), "1.5"),
    row("UNSIGNED BIG INT", "7", "UNSIGNED BIG INT", Is(7.0), "7"),
    row("REAL", "0.1", "REAL", Is(0.1), "0.1"),
    row("REAL", "1", "REAL", Is(1.0), "1"),
    row("DOUBLE PRECISION", "1e300", "DOUBLE PRECISION", Is(1e300), "1e300"),
    row("TEXT", "'h\u{e9} \u{1f980}'", "TEXT", NoNumber, "h\u{e9} \u{1f980}"),
    row("TEXT", "7", "TEXT", Is(7.0), "7"),
    row("TEXT", "CAST(x'61ff' AS TEXT)", "TEXT", NoType, "61ff"),
    row("VARCHAR(20)", "'12.5'", "VARCHAR(20)", Is(12.5), "12.5"),
    row("BLOB", "x'00ff'", "BLOB", NoType, "00ff"),
    row("BLOB", "x'3432'", "BLOB", Is(42.0), "42"),
    row("NUMERIC", "'1.50'", "NUMERIC", Is(1.5), "1.5"),
    row("DECIMAL(10,2)", "10.50", "DECIMAL(10,2)", Is(10.5), "10.5"),
    row("BOOLEAN", "true", "BOOLEAN", Is(1.0), "1"),
    row("BOOLEAN", "'true'", "BOOLEAN", NoNumber, "true"),
    row("BLOB", "'text'", "BLOB", NoNumber, "text"),
    row("BLOB", "x'610a'", "BLOB", NoType, "610a"),
    row("DATE", "'2026-01-02'", "DATE", NoNumber, "2026-01-02"),
    row("DATETIME", "'2026-01-02 03:04:05.5'", "DATETIME", NoNumber, "2026-01-02 03:04:05.5"),
    row("TIMESTAMP", "'2026-01-02T03:04:05+05:00'", "TIMESTAMP", NoNumber, "2026-01-02T03:04:05+05:00"),
    row("TEXT", "'2026-01-02 03:04'", "TEXT", NoNumber, "2026-01-02 03:04"),
    row("DATETIME", "'2 January 2026'", "DATETIME", NoNumber, "2 January 2026"),
    row("DATE", "2461042.5", "DATE", Is(2_461_042.5), "2461042.5"),
    row("DATETIME", "1767323045", "DATETIME", Is(1_767_323_045.0), "1767323045"),
    row("FLOATING POINT", "7", "FLOATING POINT", Is(7.0), "7"),
    row("MADE UP BY SOMEBODY", "'x'", "MADE UP BY SOMEBODY", NoNumber, "x"),
    // No declared type: an error tells the value's storage class.
    row("", "'x'", "TEXT", NoNumber, "x"),
    row("", "x'ff'", "BLOB", NoType, "ff"),
    row("", "2.5", "REAL", Is(2.5), "2.5"),
];
