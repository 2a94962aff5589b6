//! MariaDB's.

use std::borrow::Cow;

use super::{Type, Types, row};
use crate::conformance::value::Value::{Is, NoNumber, NoType};

pub(crate) const MARIADB: Types = Types { before: "", all: Cow::Borrowed(ALL) };

#[rustfmt::skip]
const ALL: &[Type] = &[
    row("TINYINT", "-128", "TINYINT", Is(-128.0), "-128"),
    row("TINYINT UNSIGNED", "255", "TINYINT UNSIGNED", Is(255.0), "255"),
    row("BOOLEAN", "true", "TINYINT", Is(1.0), "1"),
    row("SMALLINT", "-32768", "SMALLINT", Is(-32_768.0), "-32768"),
    row("SMALLINT UNSIGNED", "65535", "SMALLINT UNSIGNED", Is(65_535.0), "65535"),
    row("MEDIUMINT", "-8388608", "MEDIUMINT", Is(-8_388_608.0), "-8388608"),
    row("MEDIUMINT UNSIGNED", "16777215", "MEDIUMINT UNSIGNED", Is(16_777_215.0), "16777215"),
    row("INT", "-2147483648", "INT", Is(-2_147_483_648.0), "-2147483648"),
    row("INT UNSIGNED", "4294967295", "INT UNSIGNED", Is(4_294_967_295.0), "4294967295"),
    row("BIGINT", "-9223372036854775808", "BIGINT", Is(-9_223_372_036_854_775_808.0), "-9223372036854775808"),
    row("BIGINT UNSIGNED", "18446744073709551615", "BIGINT UNSIGNED", Is(18_446_744_073_709_551_616.0),
        "18446744073709551615"),
    row("YEAR", "2026", "YEAR", Is(2026.0), "2026"),
    row("DECIMAL(65,30)", "-12345678901234567890123456789012345.12345678901234567890123456789", "DECIMAL",
        Is(-1.234_567_890_123_457e34), "-12345678901234567890123456789012345.123456789012345678901234567890"),
    row("DECIMAL(10,2)", "1.5", "DECIMAL", Is(1.5), "1.50"),
    row("FLOAT", "0.1", "FLOAT", Is(0.1_f32 as f64), "0.1"),
    row("DOUBLE", "0.1", "DOUBLE", Is(0.1), "0.1"),
    row("DOUBLE", "1e300", "DOUBLE", Is(1e300), "1e300"),
    row("BIT(1)", "b'1'", "BIT", Is(1.0), "1"),
    row("BIT(64)", "x'FFFFFFFFFFFFFFFF'", "BIT", Is(18_446_744_073_709_551_616.0), "18446744073709551615"),
    row("CHAR(5)", "'ab '", "CHAR", NoNumber, "ab"),
    row("VARCHAR(20)", "'12.5'", "VARCHAR", Is(12.5), "12.5"),
    row("VARCHAR(20) CHARACTER SET utf8mb4", "'gr\u{fc}\u{df}e \u{1f600}'", "VARCHAR", NoNumber, "gr\u{fc}\u{df}e \u{1f600}"),
    row("VARCHAR(20) CHARACTER SET latin1", "'gr\u{fc}\u{df}e'", "VARCHAR", NoNumber, "gr\u{fc}\u{df}e"),
    row("TINYTEXT", "'tiny'", "TEXT", NoNumber, "tiny"),
    row("TEXT", "'text'", "TEXT", NoNumber, "text"),
    row("MEDIUMTEXT", "'medium'", "TEXT", NoNumber, "medium"),
    row("LONGTEXT", "''", "TEXT", NoNumber, ""),
    row("BINARY(3)", "x'01FF'", "BINARY", NoType, "\u{1}\u{fffd}\0"),
    row("VARBINARY(3)", "'ab'", "VARBINARY", NoType, "ab"),
    row("VARBINARY(3)", "'42'", "VARBINARY", Is(42.0), "42"),
    row("TINYBLOB", "x'00'", "BLOB", NoType, "\0"),
    row("BLOB", "x'C3A9'", "BLOB", NoType, "\u{e9}"),
    row("LONGBLOB", "x'C3'", "BLOB", NoType, "\u{fffd}"),
    row("ENUM('a','7')", "'a'", "ENUM", NoNumber, "a"),
    row("ENUM('a','7')", "'7'", "ENUM", Is(7.0), "7"),
    row("SET('a','b')", "'a,b'", "SET", NoNumber, "a,b"),
    row("JSON", "'{\"a\": 1}'", "TEXT", NoNumber, "{\"a\": 1}"),
    row("DATE", "'2026-01-02'", "DATE", Is(1_767_312_000.0), "2026-01-02"),
    row("DATE", "'1000-01-01'", "DATE", Is(-30_610_224_000.0), "1000-01-01"),
    row("DATE", "'0000-00-00'", "DATE", NoType, "0000-00-00"),
    row("DATETIME", "'2026-01-02 03:04:05'", "DATETIME", Is(1_767_323_045.0), "2026-01-02T03:04:05"),
    row("DATETIME(6)", "'1969-12-31 23:59:59.5'", "DATETIME", Is(-0.5), "1969-12-31T23:59:59.5"),
    row("DATETIME", "'2026-00-02 03:04:05'", "DATETIME", NoType, "2026-00-02 03:04:05"),
    row("TIMESTAMP(6)", "'2026-01-02 03:04:05.5'", "TIMESTAMP", Is(1_767_323_045.5), "2026-01-02T03:04:05.5"),
    row("TIME", "'03:04:05'", "TIME", Is(11_045.0), "03:04:05"),
    row("TIME(6)", "'-838:59:58.5'", "TIME", Is(-3_020_398.5), "-838:59:58.5"),
    row("UUID", "'123e4567-e89b-12d3-a456-426655440000'", "CHAR", NoNumber, "123e4567-e89b-12d3-a456-426655440000"),
    row("INET6", "'::1'", "CHAR", NoNumber, "::1"),
    row("POINT", "ST_GeomFromText('POINT(1 2)')", "GEOMETRY", NoType,
        "\0\0\0\0\u{1}\u{1}\0\0\0\0\0\0\0\0\0\u{fffd}?\0\0\0\0\0\0\0@"),
];
