//! The statements around a query. Before it the marker: its deadline and its read-only mode, in the query's own
//! transaction. After its first run the question what it left behind in the session.
//!
//! One text, prepared once: `SET LOCAL … = number` would be a new entry in `pg_stat_statements` for every number.
//! Not every query in a transaction that is rolled back: the server counts rollbacks, and people watch that count.

use std::time::Duration;

use crate::deadline::server_limit;

use super::wire::Fields;

/// What a session must write values like, so that `values` can read them; `lock_timeout` frees a lane that waits
/// behind somebody's DDL; a text in quotes means what `statement` believes it means.
const SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("standard_conforming_strings", "on"),
    ("lock_timeout", "2s"),
];

/// The name of the prepared marker.
pub(super) const NAME: &str = "sqlx_marker";

/// Makes names mean those of the server's own catalog until the transaction ends. `pg_temp` last: else it is the first.
const CATALOG_ONLY: &str = "pg_catalog.set_config('search_path','pg_catalog, pg_temp',true)";

/// A statement that does so.
pub(super) fn catalog_only() -> String {
    format!("SELECT {CATALOG_ONLY}")
}

/// The marker's text, with `$1` for the timeout in milliseconds. `settings`: a pooler between us and the server drops
/// the startup options, so each transaction gets them anew. `catalog`: of a statement that is catalog-only.
pub(super) fn text(read_only: bool, settings: bool, catalog: bool) -> String {
    // The first is for `clock`.
    let mut columns = vec!["extract(epoch from pg_catalog.clock_timestamp())".to_owned()];
    columns.push("pg_catalog.set_config('statement_timeout',$1,true)".to_owned());
    if read_only {
        columns.push("pg_catalog.set_config('transaction_read_only','on',true)".to_owned());
    }
    if settings {
        let set = |(name, value): &(&str, &str)| format!("pg_catalog.set_config('{name}','{value}',true)");
        columns.extend(SETTINGS.iter().map(set));
    }
    if catalog {
        columns.push(CATALOG_ONLY.to_owned());
    }
    format!("SELECT {}", columns.join(", "))
}

/// The name of the prepared [`ticks`], and of a portal of it.
pub(super) const TICKS: &str = "sqlx_ticks";

/// The marker once more, as a statement with a row for each query of a group: to fetch the next row of a portal costs the
/// server a third of a statement. `count` rows at most are fetched.
pub(super) fn ticks(read_only: bool, count: usize) -> String {
    format!("{} FROM pg_catalog.generate_series(1, {count})", text(read_only, false, false))
}

/// The server's time in seconds, from the row (the body of a `DataRow`) that a marker answers with.
pub(super) fn clock(body: &[u8]) -> Option<f64> {
    let mut fields = Fields(body);
    fields.short()?;
    let length = fields.long()?;
    str::from_utf8(fields.bytes(length as usize)?).ok()?.parse().ok()
}

/// The name of the prepared [`state`].
pub(super) const STATE: &str = "sqlx_state";

/// What decides whom a session reads as, what names mean and how values look. A query that leaves another answer
/// behind costs its session.
pub(super) fn state() -> String {
    let more = [
        "role",
        "search_path",
        "row_security",
        "TimeZone",
        "default_transaction_isolation",
        "default_transaction_deferrable",
        "default_transaction_read_only",
    ];
    let names = SETTINGS.iter().map(|(name, _)| *name).chain(more);
    let settings: Vec<String> = names.map(|name| format!("pg_catalog.current_setting('{name}')")).collect();
    // Under the session's own `search_path`, where even an operator without its schema may be somebody's.
    format!(
        "SELECT pg_catalog.concat_ws('\n', session_user, {}, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()))",
        settings.join(", ")
    )
}

/// True for a statement that sets something by its own words: it runs in a transaction that is rolled back, as a
/// custom setting or a pooled connection would keep it out of sight.
pub(super) fn sets_something(sql: &str) -> bool {
    const WORD: &[u8] = b"set_config";
    sql.as_bytes().windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD))
}

/// The startup options that have the same effect for the whole session; `more` comes last and wins.
pub(super) fn options(more: Option<&str>) -> String {
    let mut options: Vec<String> =
        SETTINGS.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    options.extend(more.map(str::to_owned));
    options.join(" ")
}

/// A statement whose one value is `t` when the options are in force.
pub(super) fn check() -> String {
    // `lock_timeout` may be overridden by `params`; values are read right without it.
    let holds: Vec<String> = SETTINGS
        .iter()
        .filter(|(name, _)| *name != "lock_timeout")
        .map(|(name, value)| {
            format!("pg_catalog.current_setting('{name}') OPERATOR(pg_catalog.~~) '{value}%'")
        })
        .collect();
    format!("SELECT {}", holds.join(" AND "))
}

/// The server's own limit for a query that has `left`: a little earlier than ours, so that the server's answer comes
/// first and the session lives on. Never 0, which would be "no limit".
pub(super) fn timeout_millis(left: Duration) -> u32 {
    const LONGEST: u32 = 2_147_483_647;
    u32::try_from(server_limit(left).as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_limits_time_and_writes() {
        let expected = "SELECT extract(epoch from pg_catalog.clock_timestamp()), \
                        pg_catalog.set_config('statement_timeout',$1,true), \
                        pg_catalog.set_config('transaction_read_only','on',true)";
        assert_eq!(text(true, false, false), expected);
        assert!(!text(false, true, false).contains("read_only"));
        assert!(text(true, true, false).contains("set_config('IntervalStyle','iso_8601',true)"));
        assert_eq!(text(true, false, true), format!("{expected}, {CATALOG_ONLY}"));
    }

    #[test]
    fn the_servers_time_is_the_markers_first_column() {
        let body = b"\0\x02\0\0\0\x0c1700000000.5\xff\xff\xff\xff";
        assert_eq!(clock(body), Some(1_700_000_000.5));
        assert_eq!(clock(b"\0\x01\xff\xff\xff\xff"), None);
        assert_eq!(clock(b""), None);
    }

    #[test]
    fn the_servers_limit_comes_a_little_before_ours() {
        let cases = [(2000, 1900), (100, 90), (1, 1), (0, 1), (u64::MAX, 2_147_483_647)];
        for (left, expected) in cases {
            assert_eq!(timeout_millis(Duration::from_millis(left)), expected);
        }
    }

    #[test]
    fn a_statement_that_sets_something_is_known_by_its_words() {
        assert!(sets_something("SELECT Set_Config('a.b', '1', false)"));
        assert!(!sets_something("SELECT setting, config FROM pg_settings"));
    }

    #[test]
    fn options_of_the_user_come_last() {
        assert!(options(Some("-c lock_timeout=5s")).ends_with("-c lock_timeout=2s -c lock_timeout=5s"));
    }
}
