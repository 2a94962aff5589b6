//! Values of a statement that runs as text. What each column type is stands in the table of `conformance`, and that
//! several together give the same in `groups`.

use sql_exporter::driver::Health;

use super::{LONG, session};
use crate::recorder::run;
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

#[test]
fn a_column_has_the_decimal_places_that_the_server_shows() {
    let server = MariaDb::fresh("mysql_decimals");
    server.run(
        "CREATE TABLE t (d DOUBLE(10,2), f FLOAT(7,3), x DOUBLE); INSERT INTO t VALUES (-0.01, 1.1, -0.125)",
    );
    let mut session = session(&server);
    let (sink, _) = run(&mut *session, "SELECT d, f, x FROM t", LONG);
    // It stores the first as -0.010000000000000009.
    assert_eq!(sink.good()[0], ["Float(-0.01)", "Float32(1.1)", "Float(-0.125)"]);
    // Of these it shows two places and six.
    let (sink, _) = run(&mut *session, "SELECT SUM(d), d / 1000000000 FROM t", LONG);
    assert_eq!(sink.good()[0], ["Float(-0.01)", "Float(-1.0000000000000009e-11)"]);
}

/// MariaDB writes what an expression makes of a `BIT` in digits, and a column as its bytes, under one type.
#[test]
fn a_bit_is_its_number_in_a_column_and_in_an_expression() {
    let server = MariaDb::fresh("mysql_bits");
    server.run(
        "CREATE TABLE t (a BIT(1), b BIT(8), c BIT(64)); \
         INSERT INTO t VALUES (1, 55, 18446744073709551615), (0, 200, 3546921398489789492)",
    );
    let mut session = session(&server);
    let mut rows = |sql: &str| run(&mut *session, sql, LONG).0.good().to_vec();
    // The bytes of the first number are the digit `7`, and those of the second one eight digits.
    assert_eq!(rows("SELECT a, b, c FROM t")[0], ["UInt(1)", "UInt(55)", "UInt(18446744073709551615)"]);
    assert_eq!(rows("SELECT a, b, c FROM t")[1], ["UInt(0)", "UInt(200)", "UInt(3546921398489789492)"]);
    let most = ["UInt(1)", "UInt(200)", "UInt(18446744073709551615)"];
    assert_eq!(rows("SELECT MAX(a), MAX(b), MAX(c) FROM t")[0], most);
    assert_eq!(rows("SELECT * FROM (SELECT MAX(a), MAX(b), MAX(c) FROM t) AS d")[0], most);
    assert_eq!(
        rows("SELECT COALESCE(a, a), IF(1, a, NULL), NULLIF(b, 55) FROM t")[1],
        ["UInt(0)", "UInt(0)", "UInt(200)"]
    );
}

#[test]
fn a_statement_that_cannot_be_prepared_gives_the_same_cells_as_text() {
    let server = OwnMariaDb::start(&["--max-prepared-stmt-count=0"]);
    let mut session = session(server.access());
    let (sink, health) = run(
        &mut *session,
        "SELECT 1-'1' AS a, ':x' AS b, DATE '2026-01-02' AS c, TIMESTAMP '2026-01-02 03:04:05.5' AS d, \
         TIME '-838:59:58.5' AS e, 18446744073709551615 AS f, 1.50 AS g, 1e300 AS h, x'01FF' AS i, NULL AS j",
        LONG,
    );
    assert!(matches!(health, Health::Clean), "{health:?}");
    let expected = [
        "Float(0.0)",
        "Text(\":x\")",
        "LocalDate { days: 20455, moment: Ok(1767312000000000) }",
        "LocalDateTime { micros: 1767323045500000, moment: Ok(1767323045500000) }",
        "Time(-3020398500000)",
        "UInt(18446744073709551615)",
        "Number(\"1.50\")",
        "Float(1e300)",
        "Bytes([1, 255])",
        "Null",
    ];
    assert_eq!(sink.good()[0], expected);
}
