//! The first-keyword check: what each dialect reads as code, and that no text makes it panic.

use proptest::prelude::*;

use sql_exporter::driver::statement::{
    AllowedStatements, Dialect, check_read_only, has_second_statement, swallowing_comment,
};
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

/// Advice that is followed works: nothing but a statement that writes is told of `read_only: false`.
#[test]
fn what_to_write_instead_is_said() {
    for (sql, hint) in [
        ("SET work_mem = '8MB'; SELECT 1", "what comes before it belongs in `session_sql` of the target"),
        ("/* x */ use shop; SELECT 1", "what comes before it belongs in `session_sql` of the target"),
        ("PRAGMA cache_size = 1; SELECT 1", "what comes before it belongs in `session_sql` of the target"),
        ("SELECT 1; SELECT 2", "write each as a query of its own"),
        ("SET work_mem = '8MB'", "what sets up a session belongs in `session_sql` of the target"),
        ("PRAGMA user_version", "read it with `SELECT * FROM pragma_NAME`"),
        ("BEGIN", "leave it out"),
        ("CALL p()", "select from a view or a function that returns the rows"),
        ("DESCRIBE t", "write EXPLAIN"),
        ("SELEC 1", "did you mean SELECT?"),
        ("  (slect 1)", "did you mean SELECT?"),
        ("WIHT a AS (SELECT 1) SELECT 1", "did you mean WITH?"),
        ("HANDLER t OPEN", "a query is one statement that returns rows"),
        ("'SELECT'", "a query is one statement that returns rows"),
    ] {
        for dialect in ALL {
            let error = check_read_only(sql, dialect).unwrap_err();
            let found = error.hint().unwrap_or_default();
            assert!(found.contains(hint), "{dialect:?}: {sql}: {error}");
            assert!(!found.contains("read_only: false"), "{dialect:?}: {sql}: {error}");
        }
    }
    for sql in ["INSERT INTO t VALUES (1)", "truncate t", "DROP TABLE t"] {
        let error = check_read_only(sql, Dialect::Postgres).unwrap_err();
        assert_eq!(error.hint(), Some("if that is wanted, set read_only: false on the target"), "{sql}");
    }
}

#[test]
fn a_target_that_may_write_runs_one_statement_of_any_kind() {
    for sql in [
        "DELETE FROM t RETURNING a",
        "CALL p()",
        "HANDLER t READ FIRST",
        "CREATE TRIGGER x BEGIN UPDATE t SET a = 1; END",
        "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END",
        "SELECT 1;",
        "",
    ] {
        for dialect in ALL {
            assert_eq!(AllowedStatements::Any(dialect).check(sql), Ok(()), "{dialect:?}: {sql}");
        }
    }
    for (sql, found) in [
        ("SET x = 1; SELECT 1", "`session_sql`"),
        ("CALL a(); CALL b()", "a query of its own"),
        ("BEGIN; SELECT 1; COMMIT", "a query of its own"),
        ("SELEC 1", "no statement starts with SELEC; did you mean SELECT?"),
        ("((SELET 1))", "no statement starts with SELET; did you mean SELECT?"),
    ] {
        for dialect in ALL {
            let error = AllowedStatements::Any(dialect).check(sql).unwrap_err();
            assert!(error.to_string().contains(found), "{dialect:?}: {sql}: {error}");
        }
    }
}

#[test]
fn the_console_of_a_pooler_answers_show() {
    for sql in ["SHOW POOLS", "show lists -- x", "/* x */ SHOW STATS"] {
        assert_eq!(AllowedStatements::Show.check(sql), Ok(()), "{sql}");
    }
    for sql in ["SELECT 1", "PAUSE", "KILL shop", "SHOWN", "SHOW POOLS; RELOAD"] {
        let error = AllowedStatements::Show.check(sql).unwrap_err();
        assert!(!error.to_string().contains("read_only"), "{error}");
    }
}

/// What a backslash means is a setting of the server, which nobody has asked yet.
#[test]
fn what_only_a_setting_decides_is_left_to_the_server() {
    for (sql, dialect) in [
        ("SELECT '\\'; SELECT 2 -- '", Dialect::Postgres),
        ("SELECT 'a\\'; SELECT 2 -- \\' '", Dialect::MySql),
        ("SELECT 'a\\'' INTO @a -- '", Dialect::MySql),
    ] {
        for allowed in [AllowedStatements::Reading(dialect), AllowedStatements::Any(dialect)] {
            assert_eq!(allowed.check(sql), Ok(()), "{allowed:?}: {sql}");
        }
    }
    for sql in ["SELECT 'a\\b'; SELECT 2", "SET x = '\\'; SELECT 1 AS \"a\\b\"; SELECT 2"] {
        for dialect in ALL {
            assert!(
                AllowedStatements::Any(dialect).check("SELECT 'a\\b'; SELECT 2").is_err(),
                "{dialect:?}: {sql}"
            );
            assert!(AllowedStatements::Reading(dialect).check(sql).is_err(), "{dialect:?}: {sql}");
        }
    }
}

#[test]
fn a_comment_swallows_code_of_the_next_line_and_not_another_comment() {
    let folds = |text: &str| {
        let plain = text.replace('⏎', "");
        let at = text.match_indices('⏎').enumerate().map(|(count, (at, _))| at - count * '⏎'.len_utf8());
        (plain, at.collect::<Vec<usize>>())
    };
    for (text, comment, dialects) in [
        ("SELECT 1 -- one⏎ FROM t", "-- one", &ALL[..]),
        ("SELECT 1 -- one⏎ -- two⏎ FROM t", "-- one", &ALL),
        ("SELECT 1 # one⏎ FROM t", "# one", &[Dialect::MySql]),
        ("SELECT '--'⏎ , 2 -- x⏎ FROM t", "-- x", &ALL),
    ] {
        let (sql, folds) = folds(text);
        for dialect in dialects {
            assert_eq!(swallowing_comment(&sql, &folds, *dialect), Some(comment), "{dialect:?}: {text}");
        }
    }
    for text in [
        "SELECT 1 -- one⏎ -- two",
        "SELECT 1 -- the last⏎ ;",
        "SELECT '-- no comment⏎ at all'",
        "SELECT 1 /* -- one⏎ */ FROM t",
        "SELECT 1 -- one\nFROM⏎ t",
        "SELECT 1⏎ FROM t -- the end",
        "SELECT a #>⏎ b",
    ] {
        let (sql, folds) = folds(text);
        assert_eq!(swallowing_comment(&sql, &folds, Dialect::Postgres), None, "{text}");
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
        ("SELECT '\\' AS p, E'a'\n'$$\\'' AS x; DROP TABLE t; SELECT '", true, true, false),
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

/// Names as PostgreSQL reads them.
#[test]
fn a_function_is_refused_however_its_name_is_written() {
    for sql in [
        "SELECT \"lo_create\"(0)",
        "SELECT \"pg_notify\" /* ( */ -- (\n ('c', 'x')",
        "SELECT pg_catalog.\"lo_create\"(0)",
        "SELECT \"pg_catalog\" . \"lo_unlink\" (1)",
        r#"SELECT U&"lo\005fcreate"(0)"#,
        r#"SELECT u&"\006c\006F\005f\+000063reate" (0)"#,
        r#"SELECT U&"lo!005fcreate" /* then */ UESCAPE '!' (0)"#,
        r#"SELECT U&"lo_l006Frg" UESCAPE 'l', U&"pgz005Fnotify" uescape 'z'('a', 'b')"#,
        "SELECT LO_CREATE(0)",
        "SELECT lo_\u{130}mport('/x')",
        "SELECT 1lo_create(0)",
        "SELECT * FROM ROWS FROM (lo_create(0))",
        "SELECT query_to_xml('select 1', true, true, '')",
        "SELECT ('SELECT 1'::text).ts_stat",
        "SELECT ('SELECT 1'::text).\"ts_stat\"",
        "WITH a AS (SELECT 1) SELECT (SELECT \"pg_terminate_backend\"(pid)) FROM pg_stat_activity",
        "EXPLAIN ANALYZE SELECT \"pg_reload_conf\"()",
        "VALUES (\"pg_switch_wal\"())",
        "SELECT pg_restore_attribute_stats('schemaname', 'public')",
        "SELECT binary_upgrade_set_next_pg_type_oid(1::oid)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT e'\\'' || \"lo_create\"(0)::text",
        // A string goes on behind a line end, and its escapes with it.
        "SELECT E'a'\n'\\'', 1 AS v, \"lo_create\"(0) --'",
        "SELECT E'a' \r \t '\\'', lo_create(0) --'",
        "SELECT e'a' -- more '\n -- and more\n'\\'', lo_create(0) --'",
        // The escape character in another kind of string.
        "SELECT U&\"lo!005fcreate\" UESCAPE E'!' (0)",
        "SELECT U&\"lo!005fcreate\" UESCAPE $$!$$ (0)",
        "SELECT U&\"lo!005fcreate\" UESCAPE E'\\x21' (0)",
        "SELECT U&\"lo!005fcreate\" UESCAPE ''\n'!' (0)",
        "SELECT U&\"pg!005fnotify\" UESCAPE $q$!$q$ ('c', 'x')",
        "SELECT (ARRAY['SELECT 1'::text])[1].ts_stat",
        "SELECT pg_advisory_xact_lock(1)",
    ] {
        let error = check_read_only(sql, Dialect::Postgres).err();
        let error = error.unwrap_or_else(|| panic!("{sql} is let through"));
        assert_eq!(error.reason(), Reason::ReadOnly, "{sql}");
        assert!(error.sql_position().is_some() && error.hint().is_some(), "{sql}: {error}");
    }
    let error = check_read_only("SELECT 1,\n  U&\"lo\\005fcreate\"(0)", Dialect::Postgres).unwrap_err();
    assert_eq!(error.message(), "lo_create (line 2, column 3) writes in spite of the read-only mode");
    for sql in [
        // Capitals in quotes make another function; so do escapes that are none.
        "SELECT \"LO_CREATE\"(0)",
        r#"SELECT "lo\005fcreate"(0)"#,
        r#"SELECT U&"lo\\005fcreate"(0)"#,
        r#"SELECT U&"lo\005fcreate" UESCAPE '!' (0)"#,
        "SELECT \"a\"\"lo_create\"\"\"(0)",
        "SELECT 1 AS \"pg_notify\", 2",
        "SELECT s.\"dblink\", pg_prewarm.blocks AS pg_switch_wal FROM dblink.t AS s, pg_prewarm",
        "SELECT txid_current(), pg_current_xact_id()",
        "SELECT 'a' 'b', U&'d!0061t' UESCAPE '!', uescape \"a\" FROM t",
        "SELECT $f$ lo_create(0) $f$, U&'lo_create(0)', E'\\'lo_create(0)', $$ \"lo_create\"(0) $$",
        "SELECT pg_stat_get_numscans(1), pg_advisory_xact_lock_shared_or_not(1)",
        "SELECT 1 -- lo_create(0)\n/* \"lo_create\"(0) /* */ lo_create(0) */",
    ] {
        assert!(check_read_only(sql, Dialect::Postgres).is_ok(), "{sql}");
    }
}

#[test]
fn an_escaped_name_is_refused_when_the_configuration_is_loaded() {
    let allowed = AllowedStatements::Reading(Dialect::Postgres);
    assert!(allowed.check(r#"SELECT U&"lo\005fcreate"(0)"#).is_err());
    assert!(allowed.check(r"SELECT '\'' || lo_create(0) || '").is_ok(), "it depends on the server");
}

/// PostgreSQL with `standard_conforming_strings` off: what ends a string there is not what ends it elsewhere.
#[test]
fn without_conforming_strings_a_backslash_escapes_in_every_string() {
    let one_without = "SELECT '\\'; DROP TABLE t -- '";
    let two_without = r"SELECT 'a\\'; DROP TABLE t";
    for (sql, with, without) in
        [(one_without, true, false), (two_without, true, true), (r"SELECT E'\''", false, false)]
    {
        assert_eq!(has_second_statement(sql, Dialect::Postgres), with, "{sql}");
        assert_eq!(has_second_statement(sql, Dialect::PostgresWithEscapes), without, "{sql}");
    }
    assert!(check_read_only(one_without, Dialect::PostgresWithEscapes).is_ok());
    assert!(check_read_only(r#"SELECT "a\" FROM t; SELECT 1"#, Dialect::PostgresWithEscapes).is_err());
}

/// What MySQL's read-only mode lets through, by whatever way a server reads its name.
#[test]
fn functions_of_mysql_that_write_are_refused() {
    for sql in [
        "SELECT innodb_set_open_files_limit(1000)",
        "SELECT `Asynchronous_Connection_Failover_Reset`()",
        "SELECT /*!80000 keyring_key_remove*/ ('k')",
        "SELECT 1 /*!50000 , group_replication_set_as_primary('x') */",
        "SELECT sys_exec /* run it */ ('id')",
        "SELECT sys_exec /*!99999 no */ ('id')",
        "SELECT service_get_read_locks('space', 'name', 1)",
        "SELECT 1e1INTO OUTFILE '/tmp/a'",
        "SELECT .5e-1INTO @x",
        "SELECT 1.E+1into/**/dumpfile '/tmp/a'",
        "SELECT a FROM t WHERE a < 1e1FOR SHARE",
        "SELECT \"spider_direct_sql\"('insert into t values (1)', '', 'srv \"s\"')",
        "SELECT * FROM t LOCK IN SHARE MODE",
        "SELECT * FROM t FOR SHARE SKIP LOCKED",
        "SELECT * FROM t FOR /*!99999 UPDATE */ SHARE",
    ] {
        let error = check_read_only(sql, Dialect::MySql).expect_err(sql);
        assert!(error.hint().is_some(), "{error}");
        let error = AllowedStatements::Reading(Dialect::MySql)
            .check(sql)
            .expect_err("told when the configuration is loaded");
        assert!(!error.message().contains('\n'), "{error}");
    }
    for sql in [
        "SELECT 'sys_exec(1)', innodb_setting FROM t",
        "SELECT group_replication_get_write_concurrency(), audit_log_read()",
        "SELECT @@innodb_redo_log_capacity, audit_log_rotate AS sys_eval FROM performance_schema.innodb_redo_log_files",
        "SELECT share, `lock` FROM t WHERE market = 'for share'",
        "SELECT GET_LOCK('x', 0), IS_FREE_LOCK('x')",
    ] {
        assert_eq!(check_read_only(sql, Dialect::MySql), Ok(()), "{sql}");
    }
    assert_eq!(check_read_only("SELECT sys_exec(1)", Dialect::Sqlite), Ok(()));
}
