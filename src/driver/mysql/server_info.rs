//! What a server is, asked once per login, and how its flavour is told a deadline and to stay read-only.
//!
//! Everything is asked in one round trip, for the flavour that the greeting names; a proxy's greeting may name another
//! one, which costs a second. Another flavour is one more [`Flavor`] and its lines here.

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::{Deadline, server_limit};
use crate::driver::connection::ConnectionConfig;
use crate::driver::{ServerFacts, TlsState, bounded_text};

use super::errors::Fault;
use super::packet::ServerError;
use super::residue::{Questions, Residue};
use super::talk::{Table, Talk, Trouble};
use super::time_zone;
use super::time_zone::{SessionZone, Year};

/// The least that a server can be told.
const SHORTEST_LIMIT: Duration = Duration::from_millis(1);

/// Which dialect of session variables the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    MySql,
    MariaDb,
}

/// What stays as it was at login.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) facts: ServerFacts,
    /// A backslash may not mean what `statement` assumes.
    pub(super) other_strings: bool,
    /// How dates and times are read.
    pub(super) zone: Arc<SessionZone>,
    dialect: Dialect,
    /// The administrator's limit of a statement, in the server, for the user or by `session_sql`.
    limit: Option<Duration>,
    /// The session's `lock_wait_timeout` in seconds, where there is one.
    lock_wait: Option<String>,
    /// What is asked behind each batch, where the server answers it.
    pub(super) residue: Option<Residue>,
}

/// The words that a server of a flavour and version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dialect {
    flavor: Flavor,
    read_only_variable: &'static str,
    channels: &'static str,
}

/// What the server was told about the statement that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// The statement that tells it.
    pub(super) sql: String,
    /// The limit as the server knows it.
    pub(super) limit: Duration,
    /// It is the administrator's, and shorter than ours.
    pub(super) is_theirs: bool,
}

/// Whether a backslash may mean something else, by the modes and the character set of the client: with these modes it
/// escapes nothing, or `"` encloses no string, and in these character sets it may be the second half of a character.
fn has_other_strings(settings: &str) -> bool {
    const OTHERS: [&str; 7] =
        ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "big5", "gbk", "sjis", "cp932", "gb18030"];
    settings.split(',').any(|word| OTHERS.contains(&word))
}

impl Learned {
    /// Sets up a new connection, `session_sql` included, and asks what it is. `greeting`: the version that it greeted
    /// with.
    pub(super) fn set_up(
        talk: &mut Talk,
        login: &ConnectionConfig,
        greeting: &str,
        tls: TlsState,
        by: Deadline,
    ) -> Result<Self, Fault> {
        let likely = Dialect::of(greeting);
        queue_start(talk, &login.session_sql);
        talk.queue_query("SELECT @@version, CONCAT_WS(',', @@sql_mode, @@character_set_client)");
        talk.queue_query(&time_zone::question());
        let questions = likely.queue_questions(talk, &login.session_sql);
        likely.queue_guard(talk, login.read_only);
        read_start(talk, &login.session_sql, by)?;
        let table = talk.read_table(by)?;
        let mut texts =
            table.into_iter().next().unwrap_or_default().into_iter().map(Option::unwrap_or_default);
        let version = bounded_text::cut(&texts.next().unwrap_or_default(), bounded_text::MAX_NAME_BYTES);
        // Whole: what counts may stand at its end.
        let other_strings = has_other_strings(&texts.next().unwrap_or_default());
        let zone = read_zone(talk, by)?;
        let mut answers = Answers::read(questions, talk, by)?;
        let guarded = talk.read_table(by);
        let dialect = Dialect::of(&version);
        if dialect == likely {
            guarded?;
        } else {
            let questions = dialect.queue_questions(talk, &login.session_sql);
            dialect.queue_guard(talk, login.read_only);
            answers = Answers::read(questions, talk, by)?;
            talk.read_table(by)?;
        }
        Ok(Learned {
            other_strings,
            zone: Arc::new(zone),
            dialect,
            limit: answers.limit.and_then(|text| dialect.flavor.read_limit(&text)),
            lock_wait: answers.lock_wait.filter(|text| text.parse::<u64>().is_ok()),
            residue: answers.residue,
            facts: ServerFacts {
                flavor: dialect.flavor.word().to_owned(),
                role: answers.role.to_owned(),
                tls,
                version,
            },
        })
    }

    /// Asks for the role again: a failover changes it under a living connection. One round trip.
    pub(super) fn ask_role(&mut self, talk: &mut Talk, by: Deadline) -> Result<(), Fault> {
        self.queue_limits(talk, by);
        self.dialect.queue_role(talk);
        talk.read_done(by)?;
        read_role(talk, by)?.clone_into(&mut self.facts.role);
        Ok(())
    }

    /// Makes a session what it was after its login, time zone included, and tells how many statements its limit has ended
    /// by now. One round trip.
    pub(super) fn reset(
        &mut self,
        talk: &mut Talk,
        session_sql: &[String],
        by: Deadline,
    ) -> Result<Option<u64>, Fault> {
        talk.queue_reset();
        queue_start(talk, session_sql);
        talk.queue_query(&time_zone::question());
        let questions = self.dialect.questions_of_residue(session_sql);
        questions.queue(talk);
        talk.queue_query(self.ended_by_limit());
        talk.read_done(by)?;
        read_start(talk, session_sql, by)?;
        self.zone = Arc::new(read_zone(talk, by)?);
        self.residue = questions.read(talk, by)?;
        Ok(unless_refused(talk.read_table(by))?.as_ref().and_then(read_count))
    }

    /// The privileges that show the state of replication, as this server calls them (MariaDB since 10.5.9).
    pub(super) fn reads_binlog(&self) -> &'static str {
        match self.dialect.flavor {
            Flavor::MariaDb if numbers(&self.facts.version) >= (10, 5, 9) => "BINLOG MONITOR, SLAVE MONITOR",
            _ => "REPLICATION CLIENT",
        }
    }

    /// What gives the next statement its deadline, its read-only mode and the time zone that its times are read in, which
    /// a stored function may have changed. `left` is left for the server's own work: it strikes a little before, so that
    /// its answer comes in time and proves that it is there.
    pub(super) fn limits(&self, left: Duration, read_only: bool) -> Limits {
        let ours = server_limit(left).max(SHORTEST_LIMIT);
        // MySQL counts whole milliseconds: what we compare with is what it was told.
        let ours = match self.dialect.flavor {
            Flavor::MySql => Duration::from_millis(u64::try_from(ours.as_millis()).unwrap_or(u64::MAX)),
            Flavor::MariaDb => ours,
        };
        let theirs = self.limit.filter(|theirs| *theirs < ours);
        let limit = theirs.unwrap_or(ours);
        let mut sql = self.dialect.limits(limit, read_only);
        if let Some(zone) = self.zone.setting() {
            sql.push(',');
            sql.push_str(zone);
        }
        Limits { sql, limit, is_theirs: theirs.is_some() }
    }

    /// Queues the limits of a question of our own: those of the last query may be short.
    pub(super) fn queue_limits(&self, talk: &mut Talk, by: Deadline) {
        talk.queue_query(&self.limits(by.left(), false).sql);
    }

    /// Asks how many statements of this session the server's limit has ended, be it with an error or with a value.
    pub(super) fn ended_by_limit(&self) -> &'static str {
        match self.dialect.flavor {
            Flavor::MySql => "SHOW SESSION STATUS LIKE 'Max_execution_time_exceeded'",
            Flavor::MariaDb => "SHOW SESSION STATUS LIKE 'Max_statement_time_exceeded'",
        }
    }

    /// What stands before preparations. They wait for a table that somebody has locked, and no other limit holds for that.
    pub(super) fn before_preparing(&self, left: Duration, read_only: bool) -> String {
        let limits = self.limits(left, read_only).sql;
        match self.lock_wait {
            Some(_) => format!("{limits},lock_wait_timeout=1"),
            None => limits,
        }
    }

    /// What stands behind them: the setting that was there before.
    pub(super) fn after_preparing(&self) -> Option<String> {
        self.lock_wait.as_ref().map(|before| format!("SET lock_wait_timeout={before}"))
    }
}

/// Queues what each session starts with, and starts with again when it was reset.
fn queue_start(talk: &mut Talk, session_sql: &[String]) {
    talk.queue_query("SET NAMES utf8mb4");
    if talk.tracks() {
        // Whether something changed is enough; which settings they are would make answers longer.
        talk.queue_query("SET session_track_state_change=1,session_track_system_variables=''");
    }
    session_sql.iter().for_each(|sql| talk.queue_query(sql));
}

/// Reads the answers to [`queue_start`].
fn read_start(talk: &mut Talk, session_sql: &[String], by: Deadline) -> Result<(), Fault> {
    talk.read_table(by)?;
    if talk.tracks() {
        unless_refused(talk.read_table(by))?;
    }
    for index in 0..session_sql.len() {
        if let Err(trouble) = talk.read_table(by) {
            return Err(match trouble {
                Trouble::Refused(error) => in_session_sql(index + 1, error),
                Trouble::Broken(fault) => fault,
            });
        }
    }
    Ok(())
}

/// `session_sql` may hold a secret, and some of the server's messages repeat what stands in quotes.
fn in_session_sql(place: usize, answer: ServerError) -> Fault {
    // Syntax, wrong value or type for a variable, wrong value for a type.
    const REPEATING: [u16; 5] = [1064, 1231, 1232, 1292, 1366];
    let said = if REPEATING.contains(&answer.code) {
        "the server's message repeats its text and is not shown"
    } else {
        &answer.message
    };
    let message = format!("session_sql {place}: {said}");
    Fault::from(&ServerError { message, ..answer })
}

/// The session's time zone; of what the server does not answer nothing is known.
fn read_zone(talk: &mut Talk, by: Deadline) -> Result<SessionZone, Fault> {
    let Some(table) = unless_refused(talk.read_table(by))? else { return Ok(SessionZone::unknown()) };
    let name = table.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
    let years: Option<Vec<Year>> = table.iter().map(|row| year(row)).collect();
    Ok(SessionZone::new(&name, &years.unwrap_or_default()))
}

/// A row of the answer.
fn year(row: &[Option<String>]) -> Option<Year> {
    let mut months = [None; 12];
    for (column, month) in (2..).zip(&mut months) {
        if let Some(text) = row.get(column)? {
            *month = Some(text.parse().ok()?);
        }
    }
    Some((row.get(1)?.as_ref()?.parse().ok()?, months))
}

/// What the questions of a dialect were answered with.
struct Answers {
    limit: Option<String>,
    lock_wait: Option<String>,
    residue: Option<Residue>,
    role: &'static str,
}

impl Answers {
    fn read(questions: Questions, talk: &mut Talk, by: Deadline) -> Result<Self, Fault> {
        let limit = unless_refused(talk.read_table(by))?.and_then(only_cell);
        let lock_wait = unless_refused(talk.read_table(by))?.and_then(only_cell);
        let residue = questions.read(talk, by)?;
        Ok(Answers { limit, lock_wait, residue, role: read_role(talk, by)? })
    }
}

/// `replica` with a replica channel, else by `read_only` (DESIGN 9). A plain user may not ask for channels.
fn read_role(talk: &mut Talk, by: Deadline) -> Result<&'static str, Fault> {
    let channels = unless_refused(talk.read_table(by))?;
    let read_only = unless_refused(talk.read_table(by))?.and_then(only_cell);
    let replica = channels.is_some_and(|table| !table.is_empty())
        || read_only.is_some_and(|text| !matches!(text.as_str(), "0" | "OFF"));
    Ok(if replica { "replica" } else { "primary" })
}

/// The answer to [`Learned::ended_by_limit`].
pub(super) fn read_count(table: &Table) -> Option<u64> {
    table.first()?.get(1)?.as_ref()?.parse().ok()
}

/// The answer, where the server does not object.
fn unless_refused(answer: Result<Table, Trouble>) -> Result<Option<Table>, Fault> {
    match answer {
        Ok(table) => Ok(Some(table)),
        Err(Trouble::Refused(_)) => Ok(None),
        Err(Trouble::Broken(fault)) => Err(fault),
    }
}

fn only_cell(table: Table) -> Option<String> {
    table.into_iter().next()?.into_iter().next()?
}

/// The first three numbers of a version. MariaDB before 11 greets with `5.5.5-` before its own.
fn numbers(version: &str) -> (u32, u32, u32) {
    let own = version.strip_prefix("5.5.5-").filter(|own| own.contains("MariaDB")).unwrap_or(version);
    let mut parts = own.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

impl Dialect {
    fn of(version: &str) -> Self {
        let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
        let numbers = numbers(version);
        // `tx_read_only` before MySQL 5.7.20 and MariaDB 11.1.
        let (since, channels) = match flavor {
            Flavor::MySql if numbers >= (8, 0, 22) => ((5, 7, 20), "SHOW REPLICA STATUS"),
            Flavor::MySql => ((5, 7, 20), "SHOW SLAVE STATUS"),
            Flavor::MariaDb => ((11, 1, 0), "SHOW ALL SLAVES STATUS"),
        };
        let read_only_variable = if numbers >= since { "transaction_read_only" } else { "tx_read_only" };
        Dialect { flavor, read_only_variable, channels }
    }

    fn questions_of_residue(self, session_sql: &[String]) -> Questions {
        Questions::of(self.flavor == Flavor::MariaDb, session_sql)
    }

    fn queue_questions(self, talk: &mut Talk, session_sql: &[String]) -> Questions {
        talk.queue_query(match self.flavor {
            Flavor::MySql => "SELECT @@max_execution_time",
            Flavor::MariaDb => "SELECT @@max_statement_time",
        });
        talk.queue_query("SELECT @@lock_wait_timeout");
        let questions = self.questions_of_residue(session_sql);
        questions.queue(talk);
        self.queue_role(talk);
        questions
    }

    fn queue_role(self, talk: &mut Talk) {
        talk.queue_query(self.channels);
        talk.queue_query("SELECT @@read_only");
    }

    /// The read-only mode is there before the first statement of a user, and what is sent before each of them is known
    /// to work.
    fn queue_guard(self, talk: &mut Talk, read_only: bool) {
        talk.queue_query(&self.limits(Duration::ZERO, read_only));
    }

    fn limits(self, limit: Duration, read_only: bool) -> String {
        let limit = match self.flavor {
            Flavor::MySql => format!("SET max_execution_time={}", limit.as_millis()),
            Flavor::MariaDb => format!("SET max_statement_time={:.6}", limit.as_secs_f64()),
        };
        match read_only {
            // Without autocommit the first SELECT would open a transaction that never sees a later change.
            true => format!("{limit},autocommit=1,{}=1", self.read_only_variable),
            false => limit,
        }
    }
}

impl Flavor {
    fn word(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }

    /// The administrator's limit; zero is none.
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
        assert!(has_other_strings(&format!("{long}NO_BACKSLASH_ESCAPES,utf8mb4")));
        assert!(
            has_other_strings("ANSI_QUOTES,utf8mb4")
                && has_other_strings("gbk")
                && has_other_strings(",sjis")
        );
        assert!(!has_other_strings(&format!("{long}utf8mb4")) && !has_other_strings(",latin1"));
    }

    fn learned(version: &str, limit: Option<Duration>) -> Learned {
        Learned {
            facts: ServerFacts::default(),
            other_strings: false,
            zone: Arc::new(SessionZone::unknown()),
            dialect: Dialect::of(version),
            limit,
            lock_wait: None,
            residue: None,
        }
    }

    #[test]
    fn each_flavour_is_told_in_its_own_words() {
        let limit = Duration::from_millis(1500);
        for (version, expected) in [
            ("8.4.2", "SET max_execution_time=1500,autocommit=1,transaction_read_only=1"),
            ("5.7.20-log", "SET max_execution_time=1500,autocommit=1,transaction_read_only=1"),
            ("5.7.19", "SET max_execution_time=1500,autocommit=1,tx_read_only=1"),
            ("10.11.6-MariaDB", "SET max_statement_time=1.500000,autocommit=1,tx_read_only=1"),
            ("5.5.5-10.11.6-MariaDB", "SET max_statement_time=1.500000,autocommit=1,tx_read_only=1"),
            ("11.4.2-MariaDB-log", "SET max_statement_time=1.500000,autocommit=1,transaction_read_only=1"),
        ] {
            assert_eq!(Dialect::of(version).limits(limit, true), expected, "{version}");
        }
        assert_eq!(Dialect::of("8.4.2").limits(limit, false), "SET max_execution_time=1500");
        assert_eq!(Dialect::of("8.0.21").channels, "SHOW SLAVE STATUS");
        assert_eq!(Dialect::of("9.7.0").channels, "SHOW REPLICA STATUS");
    }

    #[test]
    fn the_limit_is_what_the_server_was_told() {
        let limits = learned("9.7.0", None).limits(Duration::from_micros(100_999), false);
        assert_eq!(
            (limits.sql.as_str(), limits.limit),
            ("SET max_execution_time=90", Duration::from_millis(90))
        );
        let limits = learned("9.7.0", None).limits(Duration::ZERO, false);
        assert_eq!((limits.sql.as_str(), limits.limit), ("SET max_execution_time=1", SHORTEST_LIMIT));
    }

    #[test]
    fn the_administrator_s_limit_is_an_upper_bound() {
        let second = Duration::from_secs(1);
        for (theirs, limit, is_theirs) in [(300, 300, true), (5000, 950, false)] {
            let limits = learned("9.7.0", Some(Duration::from_millis(theirs))).limits(second, false);
            assert_eq!((limits.limit, limits.is_theirs), (Duration::from_millis(limit), is_theirs));
            assert!(limits.sql.ends_with(&format!("={limit}")), "{}", limits.sql);
        }
        assert_eq!(Flavor::MySql.read_limit("300"), Some(Duration::from_millis(300)));
        assert_eq!(Flavor::MariaDb.read_limit("0.300000"), Some(Duration::from_millis(300)));
        for text in ["0", "0.000000", "-1", "NaN", "x", "1e300"] {
            assert_eq!(Flavor::MariaDb.read_limit(text), None, "{text}");
        }
    }
}
