//! What a server is, asked once per login, and the statements that set its deadline and its read-only mode.
//!
//! Everything is asked in one round trip, for the flavour that the greeting names; a proxy's greeting may name another
//! one, which costs a second. Another flavour is one more [`Flavor`] and its lines here.

use std::sync::Arc;
use std::time::Duration;

use mysql_common::constants::Command;

use crate::deadline::{Deadline, server_limit};
use crate::driver::connection::ConnectionConfig;
use crate::driver::{ServerFacts, TlsState, bounded_text};
use crate::error::{Error, Reason};

use super::errors::CallError;
use super::packet::MySqlError;
use super::protocol::{MySqlAnswer, ProtocolClient, TextRows, answer};
use super::session_changes::ChangeProbe;
use super::time_zone;
use super::time_zone::{SessionZone, YearOffsets};

/// The shortest limit that a server can be given.
const SHORTEST_LIMIT: Duration = Duration::from_millis(1);

/// Which dialect of session variables the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    MySql,
    MariaDb,
}

/// What is known of a server and a session on it.
#[derive(Debug)]
pub(super) struct ServerInfo {
    pub(super) facts: ServerFacts,
    /// A backslash may not mean what `statement` assumes.
    pub(super) has_ambiguous_backslash: bool,
    /// How dates and times are read.
    pub(super) zone: Arc<SessionZone>,
    /// The server was not ready to tell the zone (a Galera node outside its cluster): it may be later.
    pub(super) zone_was_refused: bool,
    dialect: ServerDialect,
    state: SessionState,
}

/// What a session says of itself after its login.
#[derive(Debug)]
struct SessionState {
    /// The administrator's limit of a statement, of the server, of the user or in `session_sql`.
    limit: Option<Duration>,
    /// The session's `lock_wait_timeout` in seconds, where there is one.
    lock_wait: Option<String>,
    /// The server has run `init_connect` at the login. A reset does not run it again.
    has_init_connect: bool,
    /// The query behind each batch, where the server answers it.
    probe: Option<ChangeProbe>,
}

/// The variables and statements that a server of a flavour and version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerDialect {
    flavor: Flavor,
    read_only_variable: &'static str,
    show_replica_channels: &'static str,
}

/// The limits of the statement that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatementLimits {
    /// The statement that sets them.
    pub(super) sql: String,
    /// The time limit as the server knows it.
    pub(super) time: Duration,
    /// It is the administrator's, and shorter than ours.
    pub(super) is_administrators: bool,
}

/// Whether a backslash may mean something else, by the modes and the character set of the client: with these modes it
/// escapes nothing, or `"` encloses no string, and in these character sets it may be the second half of a character.
fn has_ambiguous_backslash(settings: &str) -> bool {
    const AMBIGUOUS: [&str; 7] =
        ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "big5", "gbk", "sjis", "cp932", "gb18030"];
    settings.split(',').any(|setting| AMBIGUOUS.contains(&setting))
}

impl ServerInfo {
    /// Sets up a new session, `session_sql` included, and asks what the server is. `greeted_version`: the version in its
    /// greeting.
    pub(super) fn set_up(
        client: &mut ProtocolClient,
        config: &ConnectionConfig,
        greeted_version: &str,
        tls: TlsState,
        by: Deadline,
    ) -> Result<Self, CallError> {
        let session_sql = &config.session_sql;
        let likely = ServerDialect::of(greeted_version);
        let mut statements = start_statements(session_sql);
        statements.push("SELECT @@version, CONCAT_WS(',', @@sql_mode, @@character_set_client)".to_owned());
        statements.push(time_zone::question());
        statements.extend(likely.state_questions(config));
        let answers = &mut client.ask_all(&statements, by)?.into_iter();
        check_start(session_sql, answers)?;
        let mut texts = next(answers)?.into_iter().next().unwrap_or_default().into_iter();
        let mut text = || texts.next().flatten().unwrap_or_default();
        let version = bounded_text::name(&text());
        // Whole: what counts may be at its end.
        let has_ambiguous_backslash = has_ambiguous_backslash(&text());
        let (zone, zone_was_refused) = read_zone(next(answers));
        let mut state_and_role = likely.read_state(config, answers);
        let dialect = ServerDialect::of(&version);
        if dialect != likely {
            let answers = client.ask_all(&dialect.state_questions(config), by)?;
            state_and_role = dialect.read_state(config, &mut answers.into_iter());
        }
        let (state, role) = state_and_role?;
        let flavor = dialect.flavor.as_str().to_owned();
        let facts = ServerFacts { version, flavor, role: role.to_owned(), tls };
        Ok(ServerInfo { facts, has_ambiguous_backslash, zone, zone_was_refused, dialect, state })
    }

    /// Asks for the role again: a failover changes it under a live connection. One round trip.
    pub(super) fn refresh_role(
        &mut self,
        client: &mut ProtocolClient,
        by: Deadline,
    ) -> Result<(), CallError> {
        let [channels, read_only] = self.dialect.role_questions();
        let statements = [&self.own_limits(by), channels, read_only];
        let answers = &mut client.ask_all(&statements, by)?.into_iter();
        next(answers)?;
        self.facts.role = read_role(answers).to_owned();
        Ok(())
    }

    /// Asks for the time zone again. One round trip.
    pub(super) fn ask_zone(&mut self, client: &mut ProtocolClient, by: Deadline) -> Result<(), Error> {
        let statements = [self.own_limits(by), time_zone::question()];
        let answers = &mut client.ask_all(&statements, by)?.into_iter().skip(1);
        (self.zone, self.zone_was_refused) = read_zone(next(answers));
        Ok(())
    }

    /// Makes a session what it was after its login, time zone included, and returns how many statements its limit has ended
    /// so far. One round trip.
    pub(super) fn reset(
        &mut self,
        client: &mut ProtocolClient,
        session_sql: &[String],
        by: Deadline,
    ) -> Result<Option<u64>, CallError> {
        let mut statements = start_statements(session_sql);
        statements.push(time_zone::question());
        statements.extend(self.dialect.probe_candidates(session_sql));
        statements.push(self.timeout_count_question());
        client.queue(Command::COM_RESET_CONNECTION, &[]);
        client.queue_queries(&statements);
        let reset = answer(client.read_done(by))?;
        let answers = &mut client.read_tables(statements.len(), by)?.into_iter();
        // Now that all answers are read, whatever the server said.
        reset?;
        check_start(session_sql, answers)?;
        (self.zone, self.zone_was_refused) = read_zone(next(answers));
        let candidates = self.dialect.probe_candidates(session_sql);
        self.state.probe = ChangeProbe::chosen(candidates, [next(answers), next(answers)]);
        Ok(next(answers).ok().as_ref().and_then(read_count))
    }

    /// Whether [`ServerInfo::reset`] makes a session what it was.
    pub(super) fn can_reset(&self) -> bool {
        !self.state.has_init_connect
    }

    /// The query behind each batch.
    pub(super) fn probe(&self) -> Option<&ChangeProbe> {
        self.state.probe.as_ref()
    }

    /// The privileges that show the state of replication, as this server calls them (MariaDB since 10.5.9).
    pub(super) fn replication_privileges(&self) -> &'static str {
        match self.dialect.flavor {
            Flavor::MariaDb if version_numbers(&self.facts.version) >= (10, 5, 9) => {
                "BINLOG MONITOR, SLAVE MONITOR"
            }
            _ => "REPLICATION CLIENT",
        }
    }

    /// What gives the next statement its deadline, its read-only mode and the time zone that its times are read in, which
    /// a stored function may have changed. `left` is left for the server's own work: its limit is a little earlier, so that
    /// its answer arrives in time and proves that it is alive.
    pub(super) fn limits(&self, left: Duration, read_only: bool) -> StatementLimits {
        // MySQL counts whole milliseconds: what we compare with is what the server was told.
        let ours = server_limit(left).max(SHORTEST_LIMIT).as_millis();
        let ours = Duration::from_millis(u64::try_from(ours).unwrap_or(u64::MAX));
        let theirs = self.state.limit.filter(|theirs| *theirs < ours);
        let time = theirs.unwrap_or(ours);
        let mut sql = self.dialect.set_limits(time, read_only);
        if let Some(zone) = self.zone.setting() {
            sql.push(',');
            sql.push_str(zone);
        }
        StatementLimits { sql, time, is_administrators: theirs.is_some() }
    }

    /// Sets the limits of a question of the driver: those of the last query may be short.
    pub(super) fn own_limits(&self, by: Deadline) -> String {
        self.limits(by.left(), false).sql
    }

    /// Asks how many statements of this session the server's limit has ended, be it with an error or with a value.
    pub(super) fn timeout_count_question(&self) -> String {
        format!("SHOW SESSION STATUS LIKE '{}_exceeded'", self.dialect.flavor.limit_variable())
    }

    /// What is sent before preparations. They wait for a table that somebody has locked, and no other limit applies to that.
    pub(super) fn before_preparing(&self, left: Duration, read_only: bool) -> String {
        let limits = self.limits(left, read_only).sql;
        match self.state.lock_wait {
            Some(_) => format!("{limits},lock_wait_timeout=1"),
            None => limits,
        }
    }

    /// What is sent behind them: the setting that was there before.
    pub(super) fn after_preparing(&self) -> Option<String> {
        self.state.lock_wait.as_ref().map(|before| format!("SET lock_wait_timeout={before}"))
    }
}

/// What each session starts with, and starts with again when it was reset.
fn start_statements(session_sql: &[String]) -> Vec<String> {
    let texts = "SET NAMES utf8mb4";
    // The server's own limit would leave rows out without a word. This one is none.
    let all_rows = "SET sql_select_limit=18446744073709551615";
    // Which variables is told on MariaDB only: MySQL counts the statements in one, which changes each time. X'' as '' is NULL,
    // and refused, under MariaDB's EMPTY_STRING_IS_NULL.
    let track = "SET session_track_state_change=1,\
        session_track_system_variables=IF(VERSION() LIKE '%MariaDB%','*',X'')";
    // Without autocommit the first SELECT would open a transaction that never sees a later change. Answers are read as UTF-8.
    let last = "SET autocommit=1,character_set_results=utf8mb4";
    [&[texts, all_rows, track].map(str::to_owned), session_sql, &[last.to_owned()]].concat()
}

/// Checks the answers to [`start_statements`].
fn check_start(
    session_sql: &[String],
    answers: &mut impl Iterator<Item = MySqlAnswer<TextRows>>,
) -> Result<(), CallError> {
    next(answers)?;
    // A proxy, and a server that tells nothing, may not know the variables of these two.
    let _ = (next(answers), next(answers));
    for number in 1..=session_sql.len() {
        next(answers).map_err(|error| in_session_sql(number, error))?;
    }
    next(answers)?;
    Ok(())
}

/// `session_sql` may hold a secret, and some of the server's messages repeat what stands in quotes.
fn in_session_sql(number: usize, error: MySqlError) -> MySqlError {
    // Syntax, wrong value or type for a variable, wrong value for a type.
    const REPEATING: [u16; 5] = [1064, 1231, 1232, 1292, 1366];
    let message = match REPEATING.contains(&error.code) {
        true => "the server's message repeats its text and is not shown",
        false => &error.message,
    };
    MySqlError { message: format!("session_sql {number}: {message}"), ..error }
}

/// The answer to the next question.
fn next(answers: &mut impl Iterator<Item = MySqlAnswer<TextRows>>) -> MySqlAnswer<TextRows> {
    answers.next().unwrap_or_else(|| Ok(TextRows::new()))
}

fn only_cell(answer: MySqlAnswer<TextRows>) -> Option<String> {
    answer.ok()?.into_iter().next()?.into_iter().next()?
}

/// The session's time zone; unknown where the server does not answer, and whether it was not ready to.
fn read_zone(answer: MySqlAnswer<TextRows>) -> (Arc<SessionZone>, bool) {
    let table = match answer {
        Ok(table) => table,
        Err(error) => return (Arc::new(SessionZone::unknown()), error.to_error().reason() == Reason::Server),
    };
    let name = table.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
    let years: Option<Vec<YearOffsets>> = table.iter().map(|row| year_offsets(row)).collect();
    (Arc::new(SessionZone::new(&name, &years.unwrap_or_default())), false)
}

fn year_offsets(row: &[Option<String>]) -> Option<YearOffsets> {
    let mut months = [None; 12];
    for (column, month) in (2..).zip(&mut months) {
        if let Some(text) = row.get(column)? {
            *month = Some(text.parse::<i32>().ok()?.into());
        }
    }
    Some((row.get(1)?.as_ref()?.parse().ok()?, months))
}

/// `replica` with a replica channel, else by `read_only` (docs/metrics.md). A plain user may not ask for channels.
fn read_role(answers: &mut impl Iterator<Item = MySqlAnswer<TextRows>>) -> &'static str {
    let has_channels = next(answers).is_ok_and(|channels| !channels.is_empty());
    let is_read_only = only_cell(next(answers)).is_some_and(|text| !matches!(text.as_str(), "0" | "OFF"));
    if has_channels || is_read_only { "replica" } else { "primary" }
}

/// The answer to [`ServerInfo::timeout_count_question`].
pub(super) fn read_count(table: &TextRows) -> Option<u64> {
    table.first()?.get(1)?.as_ref()?.parse().ok()
}

/// The first three numbers of a version. MariaDB before 11 greets with `5.5.5-` before its own.
fn version_numbers(version: &str) -> (u32, u32, u32) {
    let own = version.strip_prefix("5.5.5-").filter(|own| own.contains("MariaDB")).unwrap_or(version);
    let mut parts = own.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

impl ServerDialect {
    fn of(version: &str) -> Self {
        let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
        let numbers = version_numbers(version);
        // `tx_read_only` before MySQL 5.7.20 and MariaDB 11.1.
        let (since, show_replica_channels) = match flavor {
            Flavor::MySql if numbers >= (8, 0, 22) => ((5, 7, 20), "SHOW REPLICA STATUS"),
            Flavor::MySql => ((5, 7, 20), "SHOW SLAVE STATUS"),
            Flavor::MariaDb => ((11, 1, 0), "SHOW ALL SLAVES STATUS"),
        };
        let read_only_variable = if numbers >= since { "transaction_read_only" } else { "tx_read_only" };
        ServerDialect { flavor, read_only_variable, show_replica_channels }
    }

    fn probe_candidates(self, session_sql: &[String]) -> [String; 2] {
        ChangeProbe::candidates(self.flavor == Flavor::MariaDb, session_sql)
    }

    fn role_questions(self) -> [&'static str; 2] {
        [self.show_replica_channels, "SELECT @@read_only"]
    }

    /// The last one is not a question: the read-only mode is set before the first statement of a user, and what is sent before
    /// each of them is known to work.
    fn state_questions(self, config: &ConnectionConfig) -> Vec<String> {
        let mut questions = vec![
            format!("SELECT @@{}", self.flavor.limit_variable()),
            "SELECT @@lock_wait_timeout".to_owned(),
            "SELECT LENGTH(@@init_connect)".to_owned(),
        ];
        questions.extend(self.probe_candidates(&config.session_sql));
        questions.extend(self.role_questions().map(str::to_owned));
        questions.push(self.set_limits(Duration::ZERO, config.read_only));
        questions
    }

    /// Reads the answers to [`ServerDialect::state_questions`]: the state, and the role.
    fn read_state(
        self,
        config: &ConnectionConfig,
        answers: &mut impl Iterator<Item = MySqlAnswer<TextRows>>,
    ) -> MySqlAnswer<(SessionState, &'static str)> {
        let limit = only_cell(next(answers)).and_then(|text| self.flavor.read_limit(&text));
        let lock_wait = only_cell(next(answers)).filter(|text| text.parse::<u64>().is_ok());
        let has_init_connect = only_cell(next(answers)).is_some_and(|length| length != "0");
        let candidates = self.probe_candidates(&config.session_sql);
        let probe = ChangeProbe::chosen(candidates, [next(answers), next(answers)]);
        let role = read_role(answers);
        next(answers)?;
        Ok((SessionState { limit, lock_wait, has_init_connect, probe }, role))
    }

    fn set_limits(self, limit: Duration, read_only: bool) -> String {
        let limit = match self.flavor {
            Flavor::MySql => limit.as_millis().to_string(),
            Flavor::MariaDb => format!("{:.6}", limit.as_secs_f64()),
        };
        let limit = format!("SET {}={limit}", self.flavor.limit_variable());
        match read_only {
            true => format!("{limit},{}=1", self.read_only_variable),
            false => limit,
        }
    }
}

impl Flavor {
    fn as_str(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }

    fn limit_variable(self) -> &'static str {
        match self {
            Flavor::MySql => "max_execution_time",
            Flavor::MariaDb => "max_statement_time",
        }
    }

    /// The administrator's limit; zero means no limit.
    fn read_limit(self, text: &str) -> Option<Duration> {
        let number: f64 = text.parse().ok()?;
        let seconds = match self {
            Flavor::MySql => number / 1000.0,
            Flavor::MariaDb => number,
        };
        Duration::try_from_secs_f64(seconds).ok().filter(|limit| !limit.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backslash_means_is_read_to_the_end_of_a_long_mode() {
        let long = "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,".repeat(20);
        assert!(has_ambiguous_backslash(&format!("{long}NO_BACKSLASH_ESCAPES,utf8mb4")));
        assert!(
            has_ambiguous_backslash("ANSI_QUOTES,utf8mb4")
                && has_ambiguous_backslash("gbk")
                && has_ambiguous_backslash(",sjis")
        );
        assert!(!has_ambiguous_backslash(&format!("{long}utf8mb4")) && !has_ambiguous_backslash(",latin1"));
    }

    #[test]
    fn an_offset_beyond_all_zones_is_none() {
        let row = |offset: &str| {
            let cells = ["SYSTEM", "2026"].into_iter().chain([offset; 12]);
            cells.map(|text| Some(text.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(year_offsets(&row("-3600")), Some((2026, [Some(-3600); 12])));
        assert_eq!(year_offsets(&row("9223372036854775807")), None);
    }

    fn server_info(version: &str, limit: Option<Duration>) -> ServerInfo {
        ServerInfo {
            facts: ServerFacts::default(),
            has_ambiguous_backslash: false,
            zone: Arc::new(SessionZone::unknown()),
            zone_was_refused: false,
            dialect: ServerDialect::of(version),
            state: SessionState { limit, lock_wait: None, has_init_connect: false, probe: None },
        }
    }

    #[test]
    fn each_flavour_is_told_in_its_own_words() {
        let limit = Duration::from_millis(1500);
        for (version, expected) in [
            ("8.4.2", "SET max_execution_time=1500,transaction_read_only=1"),
            ("5.7.20-log", "SET max_execution_time=1500,transaction_read_only=1"),
            ("5.7.19", "SET max_execution_time=1500,tx_read_only=1"),
            ("10.11.6-MariaDB", "SET max_statement_time=1.500000,tx_read_only=1"),
            ("5.5.5-10.11.6-MariaDB", "SET max_statement_time=1.500000,tx_read_only=1"),
            ("11.4.2-MariaDB-log", "SET max_statement_time=1.500000,transaction_read_only=1"),
        ] {
            assert_eq!(ServerDialect::of(version).set_limits(limit, true), expected, "{version}");
        }
        assert_eq!(ServerDialect::of("8.4.2").set_limits(limit, false), "SET max_execution_time=1500");
        assert_eq!(ServerDialect::of("8.0.21").show_replica_channels, "SHOW SLAVE STATUS");
        assert_eq!(ServerDialect::of("9.7.0").show_replica_channels, "SHOW REPLICA STATUS");
    }

    #[test]
    fn the_limit_is_what_the_server_was_told() {
        let limits = server_info("9.7.0", None).limits(Duration::from_micros(100_999), false);
        assert_eq!(
            (limits.sql.as_str(), limits.time),
            ("SET max_execution_time=90", Duration::from_millis(90))
        );
        let limits = server_info("9.7.0", None).limits(Duration::ZERO, false);
        assert_eq!((limits.sql.as_str(), limits.time), ("SET max_execution_time=1", SHORTEST_LIMIT));
    }

    #[test]
    fn the_administrator_s_limit_is_an_upper_bound() {
        let second = Duration::from_secs(1);
        for (theirs, limit, is_theirs) in [(300, 300, true), (5000, 950, false)] {
            let limits = server_info("9.7.0", Some(Duration::from_millis(theirs))).limits(second, false);
            assert_eq!((limits.time, limits.is_administrators), (Duration::from_millis(limit), is_theirs));
            assert!(limits.sql.ends_with(&format!("={limit}")), "{}", limits.sql);
        }
        assert_eq!(Flavor::MySql.read_limit("300"), Some(Duration::from_millis(300)));
        assert_eq!(Flavor::MariaDb.read_limit("0.300000"), Some(Duration::from_millis(300)));
        for text in ["0", "0.000000", "-1", "NaN", "x", "1e300"] {
            assert_eq!(Flavor::MariaDb.read_limit(text), None, "{text}");
        }
    }
}
