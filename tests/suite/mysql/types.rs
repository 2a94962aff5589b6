//! Every column type, as the cell that it becomes.

use sql_exporter::driver::Health;

use super::{LONG, login, open, session};
use crate::recorder::run;
use crate::servers::MariaDb;

/// Declaration, literal, the cell, the type's name.
const TYPES: &[(&str, &str, &str, &str)] = &[
    ("TINYINT", "-128", "Int(-128)", "TINYINT"),
    ("TINYINT UNSIGNED", "255", "Int(255)", "TINYINT UNSIGNED"),
    ("BOOL", "true", "Int(1)", "TINYINT"),
    ("SMALLINT", "-32768", "Int(-32768)", "SMALLINT"),
    ("SMALLINT UNSIGNED", "65535", "Int(65535)", "SMALLINT UNSIGNED"),
    ("MEDIUMINT", "-8388608", "Int(-8388608)", "MEDIUMINT"),
    ("MEDIUMINT UNSIGNED", "16777215", "Int(16777215)", "MEDIUMINT UNSIGNED"),
    ("INT", "-2147483648", "Int(-2147483648)", "INT"),
    ("INT UNSIGNED", "4294967295", "Int(4294967295)", "INT UNSIGNED"),
    ("BIGINT", "-9223372036854775808", "Int(-9223372036854775808)", "BIGINT"),
    ("BIGINT", "9007199254740993", "Int(9007199254740993)", "BIGINT"),
    ("BIGINT UNSIGNED", "18446744073709551615", "UInt(18446744073709551615)", "BIGINT UNSIGNED"),
    ("YEAR", "2026", "Int(2026)", "YEAR"),
    (
        "DECIMAL(65,30)",
        "-12345678901234567890123456789012345.123456789012345678901234567890",
        "Number(\"-12345678901234567890123456789012345.123456789012345678901234567890\")",
        "DECIMAL",
    ),
    ("DECIMAL(10,2)", "1.5", "Number(\"1.50\")", "DECIMAL"),
    ("FLOAT", "0.1", "Float32(0.1)", "FLOAT"),
    ("DOUBLE", "0.1", "Float(0.1)", "DOUBLE"),
    ("DOUBLE", "1e300", "Float(1e300)", "DOUBLE"),
    ("BIT(1)", "b'1'", "UInt(1)", "BIT"),
    ("BIT(64)", "x'FFFFFFFFFFFFFFFF'", "UInt(18446744073709551615)", "BIT"),
    ("CHAR(5)", "'ab '", "Text(\"ab\")", "CHAR"),
    ("VARCHAR(20)", "'grüße \u{1F600}'", "Text(\"grüße \u{1F600}\")", "VARCHAR"),
    ("VARCHAR(20) CHARACTER SET latin1", "'grüße'", "Text(\"grüße\")", "VARCHAR"),
    ("TINYTEXT", "'tiny'", "Text(\"tiny\")", "TEXT"),
    ("TEXT", "'text'", "Text(\"text\")", "TEXT"),
    ("MEDIUMTEXT", "'medium'", "Text(\"medium\")", "TEXT"),
    ("LONGTEXT", "''", "Text(\"\")", "TEXT"),
    ("BINARY(3)", "x'01FF'", "Bytes([1, 255, 0])", "BINARY"),
    ("VARBINARY(3)", "'ab'", "Bytes([97, 98])", "VARBINARY"),
    ("BLOB", "x'00'", "Bytes([0])", "BLOB"),
    ("ENUM('a','b')", "'b'", "Text(\"b\")", "ENUM"),
    ("SET('a','b')", "'a,b'", "Text(\"a,b\")", "SET"),
    ("JSON", "'{\"a\": 1}'", "Text(\"{\\\"a\\\": 1}\")", "TEXT"),
    ("DATE", "'2026-01-02'", "Date(20455)", "DATE"),
    ("DATE", "'1000-01-01'", "Date(-354285)", "DATE"),
    ("DATE", "'0000-00-00'", "Other(\"0000-00-00\")", "DATE"),
    ("DATETIME", "'2026-01-02 03:04:05'", "DateTime { micros: 1767323045000000, zoned: false }", "DATETIME"),
    ("DATETIME(6)", "'1969-12-31 23:59:59.999999'", "DateTime { micros: -1, zoned: false }", "DATETIME"),
    ("DATETIME", "'2026-00-02 03:04:05'", "Other(\"2026-00-02 03:04:05\")", "DATETIME"),
    (
        "TIMESTAMP(6)",
        "'2026-01-02 03:04:05.5'",
        "DateTime { micros: 1767323045500000, zoned: false }",
        "TIMESTAMP",
    ),
    ("TIME", "'03:04:05'", "Time(11045000000)", "TIME"),
    ("TIME(6)", "'-838:59:58.5'", "Time(-3020398500000)", "TIME"),
    ("TIME", "'00:00:00'", "Time(0)", "TIME"),
    (
        "UUID",
        "'123e4567-e89b-12d3-a456-426655440000'",
        "Text(\"123e4567-e89b-12d3-a456-426655440000\")",
        "CHAR",
    ),
    ("INET6", "'::1'", "Text(\"::1\")", "CHAR"),
    ("INT", "NULL", "Null", "INT"),
];

#[test]
fn every_column_type_arrives_as_what_it_is() {
    let server = MariaDb::fresh("types");
    let columns: Vec<String> =
        TYPES.iter().enumerate().map(|(at, row)| format!("c{at} {} NULL", row.0)).collect();
    let values: Vec<&str> = TYPES.iter().map(|row| row.1).collect();
    server.run(&format!(
        "SET NAMES utf8mb4;\nSET sql_mode = '';\nCREATE TABLE t ({});\nINSERT INTO t VALUES ({});\n\
         INSERT INTO t (c0) VALUES (NULL)",
        columns.join(", "),
        values.join(", ")
    ));
    let (sink, health) = run(&mut *session(&server), "SELECT * FROM t", LONG);
    assert!(matches!(health, Health::Clean), "{health:?}");
    let shown = sink.columns.clone().unwrap();
    for (at, (declared, literal, cell, name)) in TYPES.iter().enumerate() {
        assert_eq!(sink.good()[0][at], *cell, "{declared} {literal}");
        assert_eq!(shown[at].type_name, *name, "{declared}");
        assert_eq!(shown[at].name, format!("c{at}"));
        // TIMESTAMP NULL, too: each column of the second row is NULL.
        assert_eq!(sink.good()[1][at], "Null", "{declared}");
    }
}

#[test]
fn geometry_is_bytes() {
    let (sink, _) = run(&mut *session(&MariaDb::shared("mysql")), "SELECT POINT(1, 2) AS p", LONG);
    assert!(sink.good()[0][0].starts_with("Bytes("), "{:?}", sink.rows);
    assert_eq!(sink.columns.unwrap()[0].type_name, "GEOMETRY");
}

#[test]
fn a_statement_that_cannot_be_prepared_gives_the_same_cells_as_text() {
    let mut login = login(&MariaDb::shared("mysql"));
    login.read_only = false;
    let mut session = open(login).unwrap();
    // The crate takes `:x` for a parameter of its own where a quote follows a minus or a slash.
    let (sink, health) = run(
        &mut *session,
        "SELECT 1-'1' AS a, ':x' AS b, DATE '2026-01-02' AS c, TIMESTAMP '2026-01-02 03:04:05.5' AS d, \
         TIME '-838:59:58.5' AS e, 18446744073709551615 AS f, 1.50 AS g, 1e300 AS h, x'01FF' AS i, NULL AS j",
        LONG,
    );
    assert!(matches!(health, Health::Clean), "{health:?}");
    let expected = [
        "Number(\"0\")",
        "Text(\":x\")",
        "Date(20455)",
        "DateTime { micros: 1767323045500000, zoned: false }",
        "Time(-3020398500000)",
        "Number(\"18446744073709551615\")",
        "Number(\"1.50\")",
        "Number(\"1e300\")",
        "Bytes([1, 255])",
        "Null",
    ];
    assert_eq!(sink.good()[0], expected);
}
