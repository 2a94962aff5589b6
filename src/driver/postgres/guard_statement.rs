//! The statements around a query. Before it and behind it the guard statement: it sets the query's limits and its read-only
//! mode, in the query's own transaction, and tells a fingerprint of the settings that others would read by. At the end of
//! each batch what resets the session, and the question whether that worked.
//!
//! One text, prepared once: `SET LOCAL … = number` would be a new entry in `pg_stat_statements` for every number.
//! Not every query runs in a transaction that is rolled back: the server counts rollbacks, and people watch that count.

use std::hash::BuildHasher;
use std::time::Duration;

use super::connection::{MessageFields, TextRow};
use super::values::{STYLE_COLUMN_COUNT, STYLE_COLUMNS, TextStyles};

/// How long a query waits for a lock: longer, and a lane would wait behind somebody's DDL for a whole scrape.
const LOCK_TIMEOUT: u32 = 2_000;

/// The name of the prepared guard statement.
pub(super) const GUARD: &str = "sqlexp_guard";
/// The name of the prepared [`GuardOptions::guard_rows`], and of a portal of it.
pub(super) const GUARD_ROWS: &str = "sqlexp_guard_rows";
/// The name of the prepared [`GuardOptions::state`].
pub(super) const STATE: &str = "sqlexp_state";
/// The name of the prepared [`RESET_ALL`].
pub(super) const RESET: &str = "sqlexp_reset";

/// Returns every setting to the value that it had at the login, except `role` and the user.
pub(super) const RESET_ALL: &str = "RESET ALL";

/// A setting that means nothing to anybody; only this session has it.
pub(super) const TOKEN: &str = "sql_exporter.session";

const CLOCK: &str = "extract(epoch from pg_catalog.clock_timestamp())";
/// For [`PgServerRole::of_row`].
const ROLE_COLUMNS: &str =
    "pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')";

/// Makes names mean those of the server's own catalog until the transaction ends. `pg_temp` last: else it is the first.
const CATALOG_ONLY: &str = "pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)";

/// The first PostgreSQL that notices during a statement that its client has gone, where it is told to check.
const CHECKS_CLIENT_SINCE: u32 = 14;

/// Makes the server check; where the administrator has said how often, that holds. Not every system can: others refuse.
const CHECK_CLIENT: &str = "CASE WHEN pg_catalog.version() OPERATOR(pg_catalog.~~) '%linux%' \
                            AND pg_catalog.current_setting('client_connection_check_interval') \
                            OPERATOR(pg_catalog.=) '0' \
                            THEN pg_catalog.set_config('client_connection_check_interval', '5s', false) END";

/// What decides whom a session reads as, what names mean and how values look.
#[rustfmt::skip]
const READ_BY: [&str; 10] = [
    "DateStyle", "IntervalStyle", "extra_float_digits", "bytea_output", "lc_monetary", "role", "search_path",
    "row_security", "TimeZone", "client_encoding",
];

/// What a session has besides, that decides about its later transactions. Its own limits are known from its beginning: a
/// server that was given others serves by the next session.
#[rustfmt::skip]
const TRANSACTION_SETTINGS: [&str; 6] = [
    "standard_conforming_strings", "default_transaction_isolation", "default_transaction_deferrable",
    "default_transaction_read_only", "statement_timeout", "lock_timeout",
];

/// What the guard statements of a session have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct GuardOptions {
    /// The query may only read.
    pub(super) read_only: bool,
    /// A pooler may run each transaction on another server connection: the server itself takes the smaller of our limits
    /// and those it finds, and tells the styles of what it writes as text.
    pub(super) pooled: bool,
    /// The name that the server shows. Before it is known that there is no pooler it must not be a session's: other
    /// clients of a pooler would bear it.
    pub(super) application_name: String,
    /// The server can check during a statement whether its client is still there.
    pub(super) checks_client: bool,
}

impl GuardOptions {
    /// The guard statement's text, with `$1` for the limit on a statement and `$2` for the wait for a lock, both in
    /// milliseconds. The fingerprint is last: what comes before it is set by then.
    pub(super) fn text(&self, catalog_only: bool) -> String {
        format!("{}, {}", self.without_fingerprint(catalog_only), fingerprint())
    }

    /// The same, with the styles of what the server writes as text before the fingerprint: a session alone needs them for
    /// money, whose decimal places are those of a setting that may change at any time.
    pub(super) fn styled_text(&self, catalog_only: bool) -> String {
        format!("{}, {STYLE_COLUMNS}, {}", self.without_fingerprint(catalog_only), fingerprint())
    }

    /// The guard statement once more, with a row for each query of a group: to fetch the next row of a portal costs the
    /// server a third of a statement. `count` rows at most are fetched. Without the fingerprint, which costs as much as
    /// the rest: it is before and behind the group.
    pub(super) fn guard_rows(&self, count: usize) -> String {
        format!("{} FROM pg_catalog.generate_series(1, {count})", self.without_fingerprint(false))
    }

    fn without_fingerprint(&self, catalog_only: bool) -> String {
        // For `GuardRow`.
        let mut columns = vec![CLOCK.to_owned(), ROLE_COLUMNS.to_owned()];
        for (name, limit) in [("statement_timeout", "$1"), ("lock_timeout", "$2")] {
            let limit = match self.pooled {
                false => limit.to_owned(),
                true => format!(
                    "least({limit}::bigint, CASE WHEN {0} OPERATOR(pg_catalog.>) 0 THEN {0} END)::pg_catalog.text",
                    millis(name)
                ),
            };
            columns.push(format!("pg_catalog.set_config('{name}', {limit}, true)"));
        }
        if self.read_only {
            columns.push("pg_catalog.set_config('transaction_read_only', 'on', true)".to_owned());
        }
        if catalog_only {
            columns.push(CATALOG_ONLY.to_owned());
        }
        if self.pooled {
            columns.push(self.set_name(true));
            // These are for `styles`.
            columns.push(STYLE_COLUMNS.to_owned());
        }
        format!("SELECT {}", columns.join(", "))
    }

    /// What sets up a session that is ours alone: its name, and the check for its client.
    pub(super) fn naming(&self) -> String {
        format!("SELECT {}", self.names())
    }

    fn names(&self) -> String {
        let check = if self.checks_client { format!(", {CHECK_CLIENT}") } else { String::new() };
        format!("{}{check}", self.set_name(false))
    }

    fn set_name(&self, in_transaction: bool) -> String {
        // Whatever a backslash means to the session.
        let name = self.application_name.replace('\\', r"\\").replace('\'', "''");
        format!("pg_catalog.set_config('application_name', E'{name}', {in_transaction})")
    }

    /// The question for [`READ_BY`] and [`TRANSACTION_SETTINGS`] at the end of a batch, in its first column. A session that
    /// answers differently than at its beginning is not used again. `resets`: [`RESET_ALL`] ran before it, so that the name
    /// is set again; and locks of the session are released. Where `session_sql` has set up the session for good, it may
    /// hold a lock itself, and the locks are counted.
    pub(super) fn state(&self, resets: bool) -> String {
        let settings = format!("{}, {}", read_by(), current(&TRANSACTION_SETTINGS));
        if resets {
            let names = self.names();
            return format!(
                "SELECT pg_catalog.concat_ws('|', {settings}), pg_catalog.pg_advisory_unlock_all(), {names}"
            );
        }
        // Under the session's own `search_path`, where even an operator without its schema may be somebody's.
        format!(
            "SELECT pg_catalog.concat_ws('|', {settings}, (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
             WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
             AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()))"
        )
    }
}

/// Whether a server of this version can check during a statement that its client is still there.
pub(super) fn checks_client(version: &str) -> bool {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().is_ok_and(|major: u32| major >= CHECKS_CLIENT_SINCE)
}

/// A statement that sets [`CATALOG_ONLY`].
pub(super) fn catalog_only() -> String {
    format!("SELECT {CATALOG_ONLY}")
}

/// The clock and the fingerprint alone.
pub(super) fn clock() -> String {
    format!("SELECT {CLOCK}, {}", fingerprint())
}

/// The first question of a session: what server this is, and whether it is the very one that was told [`TOKEN`] at the
/// login. A pooler refuses startup options or forgets them, or hands out a session that began otherwise.
pub(super) fn first_question() -> String {
    format!("SELECT {ROLE_COLUMNS}, pg_catalog.current_setting('{TOKEN}', true), pg_catalog.pg_backend_pid()")
}

/// The question for a server's [`PgServerRole`].
pub(super) fn role_question() -> String {
    format!("SELECT {ROLE_COLUMNS}")
}

/// The question for what a session has of its own once `session_sql` has run: its limits, whether it may only read,
/// and what a backslash in a text means.
pub(super) fn own_settings_question() -> String {
    format!(
        "SELECT {}, {}, {}",
        millis("statement_timeout"),
        millis("lock_timeout"),
        current(&["default_transaction_read_only", "standard_conforming_strings"])
    )
}

/// A limit of the session in milliseconds, 0 being none. Even an operator without its schema may be somebody's.
fn millis(name: &str) -> String {
    format!(
        "(extract(epoch from pg_catalog.current_setting('{name}')::interval) OPERATOR(pg_catalog.*) 1000)::bigint"
    )
}

/// Tells a fingerprint from other columns.
const FINGERPRINT: &str = "settings";

/// The settings that the query behind a guard statement is read by, as one text: where it differs behind a query, the
/// query has changed them.
fn fingerprint() -> String {
    format!("pg_catalog.concat_ws('|', '{FINGERPRINT}', {})", read_by())
}

/// The user, the values of [`READ_BY`], and the schema of the session's temporary tables, which hide others of their names.
fn read_by() -> String {
    format!("session_user, {}, pg_catalog.pg_my_temp_schema()", current(&READ_BY))
}

fn current(names: &[&str]) -> String {
    let settings: Vec<String> =
        names.iter().map(|name| format!("pg_catalog.current_setting('{name}')")).collect();
    settings.join(", ")
}

/// What a server is to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PgServerRole {
    /// It is in recovery.
    pub(super) standby: bool,
    /// Transactions may only read, unless they say otherwise.
    pub(super) read_only: bool,
}

impl PgServerRole {
    /// From the first columns of [`role_question`] or [`first_question`].
    pub(super) fn of_row(row: &TextRow) -> Self {
        let value = |column: usize| row.get(column).and_then(Option::as_deref);
        PgServerRole { standby: value(0) == Some("t"), read_only: value(1) == Some("on") }
    }

    /// The role as `target_info` has it.
    pub(super) fn label(self) -> &'static str {
        if self.standby { "replica" } else { "primary" }
    }
}

/// The row of a guard statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GuardRow {
    /// The server's time in seconds.
    pub(super) clock: f64,
    /// `None`: the row is one of [`clock`].
    pub(super) role: Option<PgServerRole>,
    /// A hash of the session's [`fingerprint`]; `None`: the row is one of [`GuardOptions::guard_rows`].
    pub(super) fingerprint: Option<u64>,
}

impl GuardRow {
    /// Reads the body of a `DataRow`.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = MessageFields(body);
        let count = fields.short()?;
        let clock = str::from_utf8(fields.value()??).ok()?.parse().ok()?;
        let mut role = None;
        let mut rest = count.saturating_sub(1);
        if count > 2 {
            role = Some(PgServerRole {
                standby: fields.value()?? == b"t",
                read_only: fields.value()?? == b"on",
            });
            rest -= 2;
        }
        let mut last = None;
        for _ in 0..rest {
            last = fields.value()?;
        }
        let fingerprint = last.filter(|text| text.starts_with(FINGERPRINT.as_bytes()));
        let fingerprint = fingerprint.map(|text| foldhash::fast::FixedState::with_seed(0).hash_one(text));
        Some(GuardRow { clock, role, fingerprint })
    }
}

/// The styles near the end of the row of a guard statement that is pooled or styled.
pub(super) fn styles(body: &[u8]) -> Option<TextStyles> {
    let mut fields = MessageFields(body);
    let before = fields.short()?.checked_sub(STYLE_COLUMN_COUNT + 1)?;
    for _ in 0..before {
        fields.value()?;
    }
    let mut text = || Some(str::from_utf8(fields.value()??).unwrap_or_default());
    Some(TextStyles::read(text()?, text()?, text()?))
}

/// True for a statement that sets something by its own text: it runs in a transaction that is rolled back, as a
/// custom setting or a pooled connection would keep it out of sight.
pub(super) fn sets_something(sql: &str) -> bool {
    const WORD: &[u8] = b"set_config";
    sql.as_bytes().windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD))
}

/// The limits that a session has of its own, in milliseconds; 0 means no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SessionLimits {
    pub(super) statement: u32,
    pub(super) lock: u32,
}

/// The limits of one query: ours and the session's own, whichever is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueryLimits {
    /// On the statement, in milliseconds. Never 0, which would be "no limit".
    pub(super) statement: u32,
    /// On the wait for a lock, in milliseconds.
    pub(super) lock: u32,
    /// What we would allow the statement.
    pub(super) ours: u32,
}

impl QueryLimits {
    /// For a query that may take `span` of the server's time.
    pub(super) fn new(span: Duration, own: SessionLimits) -> Self {
        const LONGEST: u32 = 2_147_483_647;
        let ours = u32::try_from(span.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let shorter = |limit: u32, own: u32| if own == 0 { limit } else { limit.min(own) };
        QueryLimits { statement: shorter(ours, own.statement), lock: shorter(LOCK_TIMEOUT, own.lock), ours }
    }

    /// A guard statement's text with them instead of its parameters.
    pub(super) fn written_into(self, guard: &str) -> String {
        guard.replace("$1", &format!("'{}'", self.statement)).replace("$2", &format!("'{}'", self.lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_statement_limits_time_and_writes() {
        let expected = "SELECT extract(epoch from pg_catalog.clock_timestamp()), pg_catalog.pg_is_in_recovery(), \
                        pg_catalog.current_setting('default_transaction_read_only'), \
                        pg_catalog.set_config('statement_timeout', $1, true), \
                        pg_catalog.set_config('lock_timeout', $2, true), \
                        pg_catalog.set_config('transaction_read_only', 'on', true)";
        let last = fingerprint();
        let reader = GuardOptions { read_only: true, ..GuardOptions::default() };
        assert_eq!(reader.text(false), format!("{expected}, {last}"));
        assert_eq!(reader.text(true), format!("{expected}, {CATALOG_ONLY}, {last}"));
        assert!(
            !GuardOptions { pooled: true, ..GuardOptions::default() }
                .text(false)
                .contains("'transaction_read_only'")
        );
    }

    #[test]
    fn a_name_is_a_text_whatever_it_holds() {
        let expected = r"SELECT pg_catalog.set_config('application_name', E'it''s \\', false)";
        let naming = |name: &str, checks_client| {
            GuardOptions { application_name: name.to_owned(), checks_client, ..GuardOptions::default() }
                .naming()
        };
        assert_eq!(naming("it's \\", false), expected);
        assert!(naming("x", true).contains("client_connection_check_interval"));
    }

    #[test]
    fn a_guard_row_tells_the_time_and_the_role() {
        let body = b"\0\x04\0\0\0\x0c1700000000.5\0\0\0\x01t\0\0\0\x02on\0\0\0\x01x";
        let role = PgServerRole { standby: true, read_only: true };
        let found = GuardRow::read(body).unwrap();
        assert_eq!(found.fingerprint, None);
        assert_eq!((found.clock, found.role), (1_700_000_000.5, Some(role)));
        let body = |last: &str| [b"\0\x02\0\0\0\x031.5\0\0\0\x0a", last.as_bytes()].concat();
        let [one, other] = ["settings|1", "settings|2"].map(|last| GuardRow::read(&body(last)).unwrap());
        assert_eq!((one.clock, one.role), (1.5, None));
        assert!(one.fingerprint.is_some() && one.fingerprint != other.fingerprint);
        assert_eq!(GuardRow::read(b"\0\x01\0\0\0\x031.5").unwrap().fingerprint, None);
        assert_eq!(GuardRow::read(b"\0\x01\xff\xff\xff\xff"), None);
        assert_eq!(GuardRow::read(b""), None);
    }

    #[test]
    fn a_guard_row_behind_a_pooler_ends_with_the_styles() {
        let body = b"\0\x05\xff\xff\xff\xff\0\0\0\x08ISO, MDY\0\0\0\x08postgres\0\0\0\x05$1.00\0\0\0\x01x";
        let styles = styles(body).expect("styles");
        assert_eq!(styles, TextStyles::read("ISO, MDY", "postgres", "$1.00"));
    }

    #[test]
    fn the_smaller_limit_holds_and_there_is_always_one() {
        let limits = |millis, statement, lock| {
            let limits = QueryLimits::new(Duration::from_millis(millis), SessionLimits { statement, lock });
            (limits.statement, limits.lock, limits.ours)
        };
        assert_eq!(limits(5_000, 0, 0), (5_000, 2_000, 5_000));
        assert_eq!(limits(5_000, 300, 7_000), (300, 2_000, 5_000));
        assert_eq!(limits(100, 300, 50), (100, 50, 100));
        assert_eq!(limits(0, 0, 0), (1, 2_000, 1));
        assert_eq!(limits(u64::MAX, 0, 0).0, 2_147_483_647);
    }

    #[test]
    fn a_statement_that_sets_something_is_known_by_its_words() {
        assert!(sets_something("SELECT Set_Config('a.b', '1', false)"));
        assert!(!sets_something("SELECT setting, config FROM pg_settings"));
    }
}
