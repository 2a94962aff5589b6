//! Values of a statement that runs as text. What each column type is stands in the table of `conformance`, and that
//! several together give the same in `groups`.

use sql_exporter::driver::Health;

use super::{LONG, session};
use crate::recorder::run;
use crate::servers::own::OwnMariaDb;

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
