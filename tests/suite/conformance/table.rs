//! The table: every case, and what it is on each database.
//!
//! A row is `case name ("what is demanded") module::behaviour { a cell for each database }`. A cell is what the
//! behaviour takes, or `absent "reason"`. A behaviour is generic over [`subject::Subject`].

use sql_exporter::error::Reason::{Auth, Connect, ReadOnly, Resolve, Sql, Timeout, Value};

use super::value::Value::{Is, NoNumber};
use super::{Case, door, subject, types};

/// Makes [`CASES`] and a test for each cell that is not absent.
macro_rules! conformance {
    ($(
        case $name:ident ($item:literal) $module:ident::$behaviour:ident {
            postgres { $($postgres:tt)* }
            mariadb { $($mariadb:tt)* }
            sqlite { $($sqlite:tt)* }
        }
    )*) => {
        pub(super) const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            item: $item,
            absent: [reason!($($postgres)*), reason!($($mariadb)*), reason!($($sqlite)*)],
        }),*];
        mod postgres {
            use super::*;
            $(cell!($name $module::$behaviour subject::postgres::Postgres; $($postgres)*);)*
        }
        mod mariadb {
            use super::*;
            $(cell!($name $module::$behaviour subject::mariadb::MariaDb; $($mariadb)*);)*
        }
        mod sqlite {
            use super::*;
            $(cell!($name $module::$behaviour subject::sqlite::Sqlite; $($sqlite)*);)*
        }
    };
}

macro_rules! reason {
    (absent $reason:literal) => {
        Some($reason)
    };
    ($($cell:tt)*) => {
        None
    };
}

macro_rules! cell {
    ($name:ident $module:ident::$behaviour:ident $subject:path; absent $reason:literal) => {};
    ($name:ident $module:ident::$behaviour:ident $subject:path; $($cell:tt)*) => {
        #[test]
        fn $name() {
            crate::conformance::$module::$behaviour::<$subject>($($cell)*);
        }
    };
}

conformance! {
    case every_column_type_is_a_value_and_a_label ("every column type as value and as label") value::types {
        postgres { &types::POSTGRES }
        mariadb { &types::MARIADB }
        sqlite { &types::SQLITE }
    }
    case every_advice_about_a_value_is_a_number_or_a_label_once_it_is_followed ("advice") advice::followed {
        postgres { &types::POSTGRES, sql_exporter::driver::postgres::advice::TABLE, '"', &[
            ("pg_lsn", 23_803_720.0), ("int[]", 2.0), ("text[][]", 4.0), ("numeric[]", 0.0), ("oidvector", 2.0),
            ("mood[]", 1.0), ("json", 1.0), ("jsonb", 1.0), ("int4range", 4.0), ("numrange", 2.5), ("daterange", 3.0),
            ("tsrange", 5_400.0), ("int8multirange", 8.0), ("bit(3)", 5.0), ("bytea", 4.0),
        ], &[] }
        mariadb { &types::MARIADB, sql_exporter::driver::mysql::advice::TABLE, '`', &[
            ("BINARY(3)", 3.0), ("POINT", 25.0),
        ], &[
            // Of MySQL only, and of a time zone that is not known.
            ("JSON_UNQUOTE(JSON_EXTRACT({}, '$.FIELD'))", "'{\"a\": 1.5}'", 1.5),
            ("UNIX_TIMESTAMP({})", "TIMESTAMP '2026-01-02 03:04:05'", 1_767_323_045.0),
        ] }
        sqlite { &types::SQLITE, sql_exporter::driver::sqlite::advice::TABLE, '"', &[
            ("DATE", 1_767_312_000.0), ("DATETIME", 1_767_323_045.5), ("TIMESTAMP", 1_767_305_045.0), ("BLOB", 2.0),
        ], &[] }
    }
    case an_integer_beyond_2_to_the_53_is_the_nearest_double_and_a_whole_label ("2^53+1") value::read {
        postgres { &[("9007199254740993", Is(9_007_199_254_740_992.0), "9007199254740993")] }
        mariadb { &[("9007199254740993", Is(9_007_199_254_740_992.0), "9007199254740993")] }
        sqlite { &[("9007199254740993", Is(9_007_199_254_740_992.0), "9007199254740993")] }
    }
    case a_number_of_forty_digits_is_the_nearest_double_and_a_whole_label ("40-digit NUMERIC") value::read {
        postgres { &[(
            "1234567890123456789012345678901234567890::numeric",
            Is(1.234_567_890_123_456_8e39),
            "1234567890123456789012345678901234567890",
        )] }
        mariadb { &[(
            "CAST('1234567890123456789012345678901234567890' AS DECIMAL(40))",
            Is(1.234_567_890_123_456_8e39),
            "1234567890123456789012345678901234567890",
        )] }
        sqlite { &[
            ("1234567890123456789012345678901234567890", Is(1.234_567_890_123_456_8e39),
                "1.2345678901234568e39"),
            ("'1234567890123456789012345678901234567890'", Is(1.234_567_890_123_456_8e39),
                "1234567890123456789012345678901234567890"),
        ] }
    }
    case infinity_is_a_value_of_both_signs ("Infinity") value::read {
        postgres { &[
            ("'Infinity'::float8", Is(f64::INFINITY), "+Inf"),
            ("'-Infinity'::float8", Is(f64::NEG_INFINITY), "-Inf"),
            ("'-Infinity'::numeric", Is(f64::NEG_INFINITY), "-Infinity"),
            ("'infinity'::timestamptz", Is(f64::INFINITY), "+Inf"),
        ] }
        mariadb { absent "a DOUBLE of MariaDB is never infinite: the expression fails or is NULL" }
        sqlite { &[("9e999", Is(f64::INFINITY), "+Inf"), ("-9e999", Is(f64::NEG_INFINITY), "-Inf")] }
    }
    case nan_is_a_value ("NaN") value::read {
        postgres { &[("'NaN'::float8", Is(f64::NAN), "NaN"), ("'NaN'::numeric", Is(f64::NAN), "NaN")] }
        mariadb { absent "a DOUBLE of MariaDB is never NaN: the expression fails or is NULL" }
        sqlite { absent "SQLite turns a NaN into NULL before anybody sees it" }
    }
    case dates_are_unix_seconds_and_iso_8601 ("dates") value::read {
        postgres { &[
            ("date '2026-01-02'", Is(1_767_312_000.0), "2026-01-02"),
            ("date '0001-12-31 BC'", Is(-719_163.0 * 86_400.0), "0000-12-31"),
            ("timestamp '1969-12-31 23:59:59.5'", Is(-0.5), "1969-12-31T23:59:59.5"),
            ("timestamptz '2026-01-02 03:04:05.5+02'", Is(1_767_315_845.5), "2026-01-02T01:04:05.5Z"),
            ("time '03:04:05.5'", Is(11_045.5), "03:04:05.5"),
        ] }
        mariadb { &[
            ("DATE '2026-01-02'", Is(1_767_312_000.0), "2026-01-02"),
            ("TIMESTAMP '1969-12-31 23:59:59.5'", NoNumber, "1969-12-31T23:59:59.5"),
            ("FROM_UNIXTIME(1) - INTERVAL 0 SECOND = FROM_UNIXTIME(1)", Is(1.0), "1"),
            ("TIME '03:04:05.5'", Is(11_045.5), "03:04:05.5"),
        ] }
        sqlite { &[
            ("date('2026-01-02')", NoNumber, "2026-01-02"),
            ("unixepoch('2026-01-02')", Is(1_767_312_000.0), "1767312000"),
            ("strftime('%s', '2026-01-02')", Is(1_767_312_000.0), "1767312000"),
        ] }
    }
    case intervals_are_seconds_and_iso_8601 ("intervals") value::read {
        postgres { &[
            ("interval '1 hour 30 minutes'", Is(5_400.0), "PT1H30M"),
            ("interval '1 year 2 months -3 days 04:05:06.7'", Is(31_557_600.0 + 57.0 * 86_400.0 + 14_706.7),
                "P1Y2M-3DT4H5M6.7S"),
            ("timestamp '2026-01-02' - timestamp '2026-01-01 12:00'", Is(43_200.0), "PT12H"),
        ] }
        mariadb { &[
            ("TIMEDIFF(TIMESTAMP '2026-01-02 00:00:00', TIMESTAMP '2025-12-31 12:00:00')", Is(129_600.0),
                "36:00:00"),
            ("TIME '-838:59:58.5'", Is(-3_020_398.5), "-838:59:58.5"),
        ] }
        sqlite { absent "SQLite has no type for a span: a difference of its dates is a plain number" }
    }
    case an_unsigned_64_bit_number_is_whole ("unsigned 64-bit") value::read {
        postgres { &[
            ("'18446744073709551615'::xid8", Is(18_446_744_073_709_551_616.0), "18446744073709551615"),
        ] }
        mariadb { &[
            ("18446744073709551615", Is(18_446_744_073_709_551_616.0), "18446744073709551615"),
            ("CAST(-1 AS UNSIGNED)", Is(18_446_744_073_709_551_616.0), "18446744073709551615"),
        ] }
        sqlite { absent "an INTEGER of SQLite is signed: a larger literal is a REAL" }
    }
    case null_is_left_out_or_what_the_metric_says_and_an_empty_label ("NULL") result::null {
        postgres { "SELECT NULL::int AS value, NULL::text AS label" }
        mariadb { "SELECT CAST(NULL AS SIGNED) AS value, CAST(NULL AS CHAR) AS label" }
        sqlite { "SELECT NULL AS value, NULL AS label" }
    }
    case a_result_without_rows_is_good_and_empty ("zero rows") result::without_rows {
        postgres { "SELECT 1 AS value WHERE false" }
        mariadb { "SELECT 1 AS value FROM DUAL WHERE false" }
        sqlite { "SELECT 1 AS value WHERE false" }
    }
    case a_hundred_thousand_rows_stream_through ("100k rows streamed") result::streamed {
        postgres { "SELECT i AS value, 'row ' || i AS label FROM generate_series(1, 100000) i" }
        mariadb { "SELECT seq AS value, CONCAT('row ', seq) AS label FROM seq_1_to_100000" }
        sqlite { "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
            SELECT i AS value, 'row ' || i AS label FROM n" }
    }
    case an_error_after_50k_rows_leaves_nothing_and_harms_no_other ("error after 50k rows") result::late_error {
        postgres { "", "SELECT 1 / (50001 - i) + i AS value FROM generate_series(1, 100000) i", Value,
            "division by zero [22012]" }
        mariadb { "CREATE FUNCTION fuse(n INT) RETURNS INT BEGIN IF n > 50000 THEN SIGNAL SQLSTATE '45000' \
            SET MESSAGE_TEXT = 'burnt'; END IF; RETURN n; END", "SELECT fuse(seq) AS value FROM seq_1_to_100000",
            Sql, "burnt (error 1644) [45000]" }
        sqlite { "", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
            SELECT CASE WHEN i > 50000 THEN abs(-9223372036854775808) ELSE i END AS value FROM n", Sql,
            "integer overflow" }
    }
    case a_text_of_16_mb_is_fine_until_it_is_a_label ("huge text") result::huge_text {
        postgres { "SELECT 1 AS value, repeat('x', 16777216) AS huge" }
        mariadb { "SELECT 1 AS value, REPEAT('x', 16777216) AS huge" }
        sqlite { "SELECT 1 AS value, replace(hex(zeroblob(8388608)), '0', 'x') AS huge" }
    }
    case every_character_is_a_label_that_parses_back ("all of Unicode") result::unicode {
        postgres { "convert_from('\\x{}', 'UTF8')", '\u{1}' }
        mariadb { "CONVERT(x'{}' USING utf8mb4)", '\0' }
        sqlite { "CAST(x'{}' AS TEXT)", '\0' }
    }
    case a_wrong_password_is_auth ("wrong password") door::shut {
        postgres { &[("password", "c4nary-wrong")], Auth, "password authentication failed for user \"postgres\"" }
        mariadb { &[("password", "c4nary-wrong")], Auth, "Access denied for user 'root'" }
        sqlite { absent "a file asks for no password" }
    }
    case an_unknown_host_is_resolve ("unknown host") door::shut {
        postgres { &[("host", "no-such-host.invalid")], Resolve, "no-such-host.invalid" }
        mariadb { &[("host", "no-such-host.invalid")], Resolve, "no-such-host.invalid" }
        sqlite { absent "a file is opened by its path, no name is resolved" }
    }
    case a_door_that_is_not_there_is_connect ("refused") door::shut {
        postgres { &[("port", &door::closed())], Connect, "refused" }
        mariadb { &[("port", &door::closed())], Connect, "refused" }
        sqlite { &[("database", "/nowhere/at/all.db")], Connect, "/nowhere/at/all.db" }
    }
    case a_server_that_accepts_and_stays_silent_is_timeout ("accepts-and-stays-silent") door::shut {
        postgres { &[("port", &door::silent()), ("connect_timeout", "300ms")], Timeout, "" }
        mariadb { &[("port", &door::silent()), ("connect_timeout", "300ms")], Timeout, "" }
        sqlite { absent "nobody answers for a file; one that is locked is `locked` and up" }
    }
    case a_server_that_stays_silent_when_tls_is_wanted_is_timeout ("accepts-and-stays-silent") door::shut {
        postgres { &[("port", &door::silent()), ("connect_timeout", "300ms"), ("tls", "{mode: require}")],
            Timeout, "" }
        mariadb { &[("port", &door::silent()), ("connect_timeout", "300ms"), ("tls", "{mode: require}")],
            Timeout, "" }
        sqlite { absent "nothing of a file travels over a network" }
    }
    case tls_that_is_demanded_and_missing_is_tls ("TLS demanded and missing") door::without_tls {
        postgres { &["ssl=off"] }
        mariadb { &["--skip-ssl"] }
        sqlite { absent "nothing of a file travels over a network" }
    }
    case a_query_past_its_deadline_has_ended_in_20_of_20_runs ("a query past its deadline") deadline::ends {
        postgres { &[
            "SELECT 1 AS value FROM pg_sleep(60)",
            "WITH RECURSIVE n(i) AS (SELECT 1::bigint UNION ALL SELECT i + 1 FROM n)
                SELECT count(*) AS value FROM n",
        ] }
        mariadb { &[
            "SELECT SLEEP(60) AS value",
            "SELECT COUNT(*) AS value FROM seq_1_to_1000000 a, seq_1_to_1000000 b",
        ] }
        sqlite { &[
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS value FROM n",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT i AS value FROM n ORDER BY -i",
        ] }
    }
    case a_statement_that_ignores_its_cancel_keeps_its_place ("a statement that ignores its cancel") late::stubborn {
        postgres { absent "a function that catches the cancel is tested in `postgres::`" }
        mariadb { "SELECT LENGTH(ENCRYPT('x', '$6$rounds=2000000$salt')) AS value",
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%ENCRYPT%' \
            AND id <> CONNECTION_ID()" }
        sqlite { absent "a statement has ended when its deadline has" }
    }
    case a_deadline_spares_the_neighbours ("a deadline that strikes the neighbour") deadline::spares {
        postgres { "SELECT 1 AS value FROM pace, pg_sleep(seconds)", 60 }
        mariadb { "SELECT SLEEP(seconds) AS value FROM pace", 60 }
        sqlite { "WITH RECURSIVE n(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT seconds FROM pace))
            SELECT count(*) AS value FROM n", 4_000_000_000 }
    }
    case a_server_that_was_killed_is_down_until_it_is_back ("a server killed and back") session::server_killed {
        postgres { Connect }
        mariadb { Connect }
        sqlite { Connect }
    }
    case a_session_that_died_idle_is_replaced ("a dead idle session") session::dead_while_idle {
        postgres {}
        mariadb {}
        sqlite {}
    }
    case insert_is_refused ("write: INSERT") write::refused {
        postgres { &["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1) RETURNING a AS value",
            "TRUNCATE t", "SELECT a AS value FROM t FOR UPDATE",
            "MERGE INTO t USING (VALUES (1)) v (a) ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
            "/* SELECT */ INSERT INTO t VALUES (1)", "-- SELECT\nINSERT INTO t VALUES (1)"], ReadOnly }
        mariadb { &["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1) RETURNING a AS value",
            "REPLACE INTO t VALUES (1)", "/*! INSERT INTO t VALUES (1) */",
            "/*! SELECT */ /*M! INSERT INTO t VALUES (1) */",
            "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE t", "# SELECT\nINSERT INTO t VALUES (1)"],
            ReadOnly }
        sqlite { &["INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1) RETURNING a AS value",
            "REPLACE INTO t VALUES (1)", "/* SELECT */ INSERT INTO t VALUES (1)",
            "-- SELECT\nINSERT INTO t VALUES (1)"], ReadOnly }
    }
    case ddl_is_refused ("write: DDL") write::refused {
        postgres { &["CREATE TABLE u (a int)", "CREATE TEMP TABLE u (a int)", "DROP TABLE t",
            "SELECT 1 AS value INTO u", "EXPLAIN ANALYZE CREATE TABLE u AS SELECT 1",
            "EXPLAIN ANALYZE SELECT 1 AS value INTO u",
            "EXPLAIN (ANALYZE) CREATE MATERIALIZED VIEW u AS SELECT 1", "ALTER TABLE t ADD b int",
            "VACUUM", "LISTEN news"], ReadOnly }
        mariadb { &["CREATE TABLE u (a INT)", "CREATE TEMPORARY TABLE u (a INT)", "DROP TABLE t",
            "ALTER TABLE t ADD b INT", "CREATE TABLE u SELECT 1"], ReadOnly }
        sqlite { &["CREATE TABLE u (a)", "CREATE TEMP TABLE u (a)", "DROP TABLE t", "ALTER TABLE t ADD b",
            "REINDEX", "ANALYZE"], ReadOnly }
    }
    case a_writing_cte_is_refused ("write: writing CTE") write::refused {
        postgres { &["WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a AS value FROM x",
            "WITH x AS (DELETE FROM t RETURNING a) SELECT count(*) AS value FROM x",
            "WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x RETURNING a AS value",
            "EXPLAIN ANALYZE WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM x"], ReadOnly }
        // No syntax of MariaDB 10.11, one of MySQL 8.
        mariadb { &["WITH x AS (SELECT 1 AS a) DELETE FROM t",
            "WITH x AS (SELECT 1 AS a) UPDATE t SET a = 2"], Sql }
        sqlite { &["WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x",
            "WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x RETURNING a AS value",
            "WITH x AS (SELECT 1 AS a) UPDATE t SET a = 2 RETURNING a AS value",
            "WITH x AS (SELECT 1) DELETE FROM t", "WITH x AS (SELECT 1 AS a) INSERT INTO v SELECT a FROM x"],
            ReadOnly }
    }
    case a_function_with_an_effect_is_refused ("write: function with effect") write::refused {
        postgres { &["SELECT writes() AS value", "SELECT nextval('s') AS value",
            "SELECT setval('s', 100) AS value", "EXPLAIN ANALYZE SELECT writes()",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)"], ReadOnly }
        mariadb { &["SELECT writes() AS value", "SELECT writes_old() AS value", "SELECT NEXTVAL(s) AS value",
            "SELECT SETVAL(s, 100) AS value", "SELECT unlocks_and_writes() AS value",
            "SELECT unlocks_then(seq), writes() FROM seq_1_to_3", "EXPLAIN EXTENDED INSERT INTO t VALUES (1)",
            "ANALYZE SELECT writes()"], ReadOnly }
        sqlite { &["SELECT * FROM pragma_optimize(65538)", "SELECT * FROM pragma_optimize"], ReadOnly }
    }
    case commit_is_refused ("write: COMMIT") write::refused {
        postgres { &["COMMIT", "ROLLBACK", "END", "BEGIN READ WRITE", "START TRANSACTION READ WRITE"],
            ReadOnly }
        mariadb { &["COMMIT", "ROLLBACK", "BEGIN", "START TRANSACTION READ WRITE"], ReadOnly }
        sqlite { &["COMMIT", "ROLLBACK", "END", "BEGIN IMMEDIATE"], ReadOnly }
    }
    case do_is_refused ("write: DO") write::refused {
        postgres { &["DO $$ BEGIN INSERT INTO t VALUES (1); END $$",
            "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (1); COMMIT; END $$",
            "CALL ends()"], ReadOnly }
        mariadb { &["DO writes()", "CALL ends()", "EXECUTE IMMEDIATE 'INSERT INTO t VALUES (1)'"], ReadOnly }
        sqlite { absent "SQLite has no statement that runs a block or a function for its effect" }
    }
    case set_is_refused ("write: SET") write::refused {
        postgres { &["SET transaction_read_only = off",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET statement_timeout = 0", "RESET ALL",
            "DISCARD ALL"], ReadOnly }
        mariadb { &["SET SESSION TRANSACTION READ WRITE", "SET SESSION tx_read_only = 0",
            "SET max_statement_time = 0", "SET STATEMENT max_statement_time = 0 FOR SELECT SLEEP(60)"],
            ReadOnly }
        sqlite { &["PRAGMA user_version = 7", "PRAGMA query_only = 0", "PRAGMA busy_timeout = 60000"],
            ReadOnly }
    }
    case writing_a_file_is_refused ("write: INTO OUTFILE") write::refused {
        postgres { &["COPY (SELECT 1) TO '{file}'", "COPY (SELECT 1) TO PROGRAM 'touch {file}'"],
            ReadOnly }
        mariadb { &["SELECT 1 AS value INTO OUTFILE '{file}'", "SELECT 1 AS value INTO DUMPFILE '{file}'",
            "SELECT 1 AS value /*!50000 INTO DUMPFILE '{file}' */",
            "SELECT 1 AS value /*M!100000 INTO OUTFILE '{file}' */",
            "(SELECT 1 AS value) INTO OUTFILE '{file}'", "SELECT 1 /*M!100000 INTO @a */",
            "SELECT * FROM t FOR UPDATE INTO @a", "VALUES (1) INTO OUTFILE '{file}'"], ReadOnly }
        sqlite { absent "SQLite writes other files by ATTACH and VACUUM INTO only, each a case of its own" }
    }
    case attach_is_refused ("write: ATTACH") write::refused {
        postgres { absent "a session of PostgreSQL is bound to one database" }
        mariadb { absent "MariaDB has no statement that opens a file as a database" }
        sqlite { &["ATTACH '{file}' AS x", "ATTACH DATABASE 'file:{file}?mode=rwc' AS x", "DETACH main"],
            ReadOnly }
    }
    case vacuum_into_is_refused ("write: VACUUM INTO") write::refused {
        postgres { absent "VACUUM of PostgreSQL writes no file of the caller's" }
        mariadb { absent "MariaDB has no VACUUM, and BACKUP STAGE copies nothing itself" }
        sqlite { &["VACUUM INTO '{file}'", "VACUUM"], ReadOnly }
    }
    case a_second_statement_is_refused ("write: second statement") write::refused {
        postgres { &["SELECT 1 AS value; INSERT INTO t VALUES (1)",
            "SELECT 1 AS value; COMMIT; INSERT INTO t VALUES (1)",
            "SELECT ';' AS value;/* */INSERT INTO t VALUES (1)"], ReadOnly }
        mariadb { &["SELECT 1 AS value; INSERT INTO t VALUES (1)",
            "SELECT ';' AS value;# x\nINSERT INTO t VALUES (1)",
            "SELECT 1 AS value; SET SESSION tx_read_only = 0; INSERT INTO t VALUES (1)"], ReadOnly }
        sqlite { &["SELECT 1 AS value; INSERT INTO t VALUES (1)",
            "SELECT ';' AS value;/* */INSERT INTO t VALUES (1)"], ReadOnly }
    }
    case a_changed_session_is_read_only_and_has_its_deadline ("write: session change") write::session_change {
        postgres { &[
            ("SELECT unlocks() AS value", None),
            ("SELECT 1 AS value FROM set_config('statement_timeout', '0', false)", None),
            ("SELECT 1 AS value FROM set_config('default_transaction_read_only', 'off', false)", None),
            ("SELECT 1 AS value FROM set_config('transaction_read_only', 'off', false)", Some(Sql)),
            ("SELECT unlocks_and_writes() AS value", Some(Sql)),
            ("SELECT writes() AS value FROM set_config('transaction_read_only', 'off', true)", Some(Sql)),
            ("SELECT 1 AS value FROM set_config('search_path', 'pg_catalog', false)", None),
            ("SELECT 1 AS value FROM set_config('role', 'postgres', false)", None),
        ] }
        mariadb { &[
            ("SELECT unlocks() AS value", None),
            ("SELECT unlocks_and_writes() AS value", Some(ReadOnly)),
            ("SELECT unlocks_then(1) AS value", None),
            ("SELECT @a := 1 AS value", None),
        ] }
        sqlite { &[
            ("SELECT * FROM pragma_query_only(0)", Some(Sql)),
            ("SELECT * FROM pragma_busy_timeout(60000)", Some(Sql)),
            ("SELECT * FROM pragma_optimize(65538)", Some(ReadOnly)),
            ("SELECT load_extension('x')", Some(Sql)),
            ("SELECT timeout AS value FROM pragma_busy_timeout", None),
        ] }
    }
}
