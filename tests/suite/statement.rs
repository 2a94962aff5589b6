//! The first-keyword check: what each dialect reads as code, and that no text makes it panic.

use proptest::prelude::*;

use sql_exporter::driver::statement::{Dialect, check_read_only, has_second_statement};
use sql_exporter::error::Reason;

const ALL: [Dialect; 3] = [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite];

#[test]
fn statements_that_read_are_accepted_in_every_dialect() {
    for sql in [
        "SELECT 1",
        "select 1;",
        "SELECT 1 ; ; -- done",
        "  -- why\n/* and how */ ((SELECT 1) UNION (SELECT 2))",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "TABLE t",
        "SHOW STATUS",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT 'DELETE; INTO OUTFILE', \"a;b\" FROM t",
        "SELECT 'it''s; fine'",
        "\u{0b}SELECT 1",
    ] {
        for dialect in ALL {
            assert_eq!(check_read_only(sql, dialect), Ok(()), "{dialect:?}: {sql}");
        }
    }
}

#[test]
fn anything_else_is_refused_by_name_in_every_dialect() {
    for (sql, found) in [
        ("DELETE FROM t", "DELETE"),
        ("/* SELECT */ insert into t values (1)", "INSERT"),
        ("-- SELECT\nCOMMIT", "COMMIT"),
        ("(UPDATE t SET a = 1)", "UPDATE"),
        ("ATTACH 'x' AS y", "ATTACH"),
        ("DO 1", "DO"),
        ("SELECTED 1", "SELECTED"),
        ("'SELECT'", "a quoted text"),
        ("1", "`1`"),
        ("; SELECT 1", "`;`"),
        ("SELECT 1; DELETE FROM t", "another after `;`"),
        ("", "is empty"),
        (" /* only a comment */ ", "is empty"),
        ("/* never closed SELECT 1", "is empty"),
    ] {
        for dialect in ALL {
            let error = check_read_only(sql, dialect).unwrap_err();
            assert_eq!(error.reason(), Reason::ReadOnly);
            assert!(error.message().contains(found), "{dialect:?}: {sql}: {error}");
        }
    }
}

#[test]
fn comments_that_mysql_runs_are_code_to_mysql_only() {
    for sql in [
        "/*! DELETE FROM t */",
        "/*!50001 DELETE FROM t */",
        "/*M! DELETE FROM t */",
        "/*M!100500 DELETE FROM t */",
        "/*!99999 SELECT */ DELETE FROM t",
        "SELECT 1 /*! INTO OUTFILE '/tmp/x' */",
        "SELECT 1 /*M!100500 INTO @a */",
        "SELECT 1 INTO /* */ DUMPFILE '/tmp/x'",
        "SELECT 1.5INTO OUTFILE '/tmp/x'",
        "SELECT '\\'' INTO @a -- '",
        "SELECT 1 --1 INTO @a",
        "SELECT 1 -- a\rb\n INTO @a",
        "SELECT 1 /*!99999 ' */ INTO OUTFILE '/tmp/x' /* ' */",
        "SELECT 1 /*!99999 -- */ INTO OUTFILE '/tmp/x'",
        "SELECT 1 /*! ; DELETE FROM t */",
    ] {
        assert!(check_read_only(sql, Dialect::MySql).is_err(), "{sql}");
    }
    for sql in [
        "SELECT /*!40001 SQL_NO_CACHE */ * FROM t",
        "/*!50000 SELECT 1 */",
        "SELECT 1 # INTO OUTFILE",
        "SELECT 1 -- INTO OUTFILE",
        "SELECT `into` FROM t /* INTO @a */",
        "SELECT 'a\\' INTO @a', \"b\\\" INTO @a\"",
        "SELECT '*/' /*! , 2 */",
        "SELECT a$into FROM t",
    ] {
        assert_eq!(check_read_only(sql, Dialect::MySql), Ok(()), "{sql}");
    }
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        assert_eq!(check_read_only("/*! DELETE */ SELECT 1 INTO t", dialect), Ok(()), "{dialect:?}");
    }
}

#[test]
fn an_explanation_that_makes_a_table_is_refused_for_postgresql() {
    for sql in [
        "EXPLAIN ANALYZE CREATE TABLE u AS SELECT 1",
        "explain (analyze) create materialized view u as select 1",
        "/* x */ EXPLAIN ANALYZE SELECT 1 AS a INTO u",
        "EXPLAIN ANALYZE WITH a AS (SELECT 1) SELECT * INTO u FROM a",
    ] {
        let error = check_read_only(sql, Dialect::Postgres).unwrap_err();
        assert!(error.message().starts_with("EXPLAIN ANALYZE would run "), "{sql}: {error}");
    }
    for sql in ["EXPLAIN ANALYZE SELECT \"into\", 'CREATE' FROM t -- INTO", "SELECT 'EXPLAIN' AS create"] {
        assert_eq!(check_read_only(sql, Dialect::Postgres), Ok(()), "{sql}");
    }
}

#[test]
fn a_second_statement_is_seen_where_the_dialect_sees_one() {
    use Dialect::{MySql, Postgres, Sqlite};
    for (sql, postgres, mysql, sqlite) in [
        ("SELECT 1; SELECT 2", true, true, true),
        ("SELECT ';'", false, false, false),
        ("SELECT $$;$$ || $a1$ $$; $a1$", false, true, true),
        ("SELECT $$ 1; SELECT 2", false, true, true),
        ("SELECT a$b$ ; SELECT $b$", true, true, true),
        ("SELECT $1; SELECT $1", true, true, true),
        ("SELECT /* /* */ ; 2 */ 1", false, true, true),
        ("SELECT E'\\'; SELECT 2'", false, false, true),
        ("SELECT '\\'; SELECT 2 -- '", true, false, true),
        ("SELECT [;] FROM t", true, true, false),
        ("SELECT `;` FROM t", true, false, false),
        ("SELECT 1 # ; SELECT 2", true, false, true),
        ("SELECT 1 -- a\r; SELECT 2", true, false, false),
    ] {
        for (dialect, expected) in [(Postgres, postgres), (MySql, mysql), (Sqlite, sqlite)] {
            assert_eq!(has_second_statement(sql, dialect), expected, "{dialect:?}: {sql}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(sql in "\\PC*") {
        for dialect in ALL {
            let _ = check_read_only(&sql, dialect);
        }
    }

    #[test]
    fn arbitrary_marks_never_panic(sql in "[a'\"`$\\[\\]/*!M#5; \\\\\n\r(eE-]{0,60}é?") {
        for dialect in ALL {
            let _ = check_read_only(&sql, dialect);
        }
    }
}

#[test]
fn functions_that_write_in_spite_of_the_read_only_mode_are_refused_on_postgres() {
    for sql in
        ["SELECT lo_creat(-1)", "SELECT pg_catalog.lo_import ('/etc/passwd')", "SELECT Pg_Notify('a', 'b')"]
    {
        assert_eq!(check_read_only(sql, Dialect::Postgres).unwrap_err().reason(), Reason::ReadOnly, "{sql}");
    }
    for sql in ["SELECT 'lo_creat(-1)'", "SELECT \"lo_import\" FROM t", "SELECT lo_get(1)"] {
        assert!(check_read_only(sql, Dialect::Postgres).is_ok(), "{sql}");
    }
}
