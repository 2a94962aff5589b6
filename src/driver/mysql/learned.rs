//! What a server is, asked once per login, and how its flavour is told a deadline and to stay read-only.
//!
//! Another flavour is one more [`Flavor`] and its lines here.

use std::sync::Arc;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::deadline::{Deadline, server_limit};
use crate::driver::{Facts, TlsState};

use super::errors::Fault;
use super::time_zone::{self, SessionZone, Year};

/// Which dialect of session variables the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavor {
    MySql,
    MariaDb,
}

/// What stays as it was at login.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) facts: Facts,
    /// `NO_BACKSLASH_ESCAPES` or `ANSI_QUOTES`: a backslash may not mean what `statement` assumes.
    pub(super) other_strings: bool,
    /// How dates and times are read.
    pub(super) zone: Arc<SessionZone>,
    flavor: Flavor,
    read_only_variable: &'static str,
}

impl Learned {
    /// Sets up a new connection, `session_sql` included, and asks what it is.
    pub(super) fn set_up(conn: &mut Conn, session_sql: &[String], tls: TlsState) -> Result<Self, Fault> {
        Learned::prepare(conn, session_sql)?;
        let row: Option<mysql::Row> = conn.query_first("SELECT @@version, @@sql_mode")?;
        let text =
            |column| row.as_ref().and_then(|row| row.get_opt::<String, _>(column)?.ok()).unwrap_or_default();
        let (version, sql_mode): (String, String) = (text(0), text(1));
        let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
        Ok(Learned {
            other_strings: sql_mode.contains("NO_BACKSLASH_ESCAPES") || sql_mode.contains("ANSI_QUOTES"),
            zone: Arc::new(ask_zone(conn)?),
            flavor,
            read_only_variable: flavor.read_only_variable(&version),
            facts: Facts {
                flavor: flavor.word().to_owned(),
                role: role(conn, flavor)?.to_owned(),
                tls,
                version,
            },
        })
    }

    /// Asks for the role again: a failover changes it under a living connection.
    pub(super) fn ask_role(&mut self, conn: &mut Conn) -> Result<(), Fault> {
        role(conn, self.flavor)?.clone_into(&mut self.facts.role);
        Ok(())
    }

    /// Asks for the session's time zone again.
    pub(super) fn ask_zone(&mut self, conn: &mut Conn) -> Result<(), Fault> {
        self.zone = Arc::new(ask_zone(conn)?);
        Ok(())
    }

    /// What each session starts with, and starts with again when it was reset.
    pub(super) fn prepare(conn: &mut Conn, session_sql: &[String]) -> Result<(), Fault> {
        // The crate asks MariaDB for three-byte UTF-8.
        conn.query_drop("SET NAMES utf8mb4")?;
        for (index, sql) in session_sql.iter().enumerate() {
            conn.query_drop(sql).map_err(|error| in_session_sql(index + 1, error))?;
        }
        Ok(())
    }

    /// The privileges that show the state of replication, as this server calls them (MariaDB since 10.5.9).
    pub(super) fn reads_binlog(&self) -> &'static str {
        match self.flavor {
            Flavor::MariaDb if numbers(&self.facts.version) >= (10, 5, 9) => "BINLOG MONITOR, SLAVE MONITOR",
            _ => "REPLICATION CLIENT",
        }
    }

    /// The statement that gives the next one its deadline, at least 1 ms, its read-only mode and the time zone that its
    /// times are read in, which a stored function may have changed. The server strikes a
    /// little before `by`, so that its answer comes in time and proves that it is there.
    pub(super) fn limits(&self, by: Deadline, read_only: bool) -> String {
        let limit = server_limit(by.left()).max(Duration::from_millis(1));
        let mut set = self.flavor.limits(limit, read_only.then_some(self.read_only_variable));
        if let Some(zone) = self.zone.setting() {
            set.push(',');
            set.push_str(zone);
        }
        set
    }
}

/// `session_sql` may hold a secret, and some of the server's messages repeat what stands in quotes.
fn in_session_sql(place: usize, error: mysql::Error) -> Fault {
    // Syntax, wrong value or type for a variable, wrong value for a type.
    const REPEATING: [u16; 5] = [1064, 1231, 1232, 1292, 1366];
    let mysql::Error::MySqlError(answer) = error else { return error.into() };
    let said = if REPEATING.contains(&answer.code) {
        "the server's message repeats its text and is not shown"
    } else {
        &answer.message
    };
    let message = format!("session_sql {place}: {said}");
    Fault::from(mysql::Error::MySqlError(mysql::MySqlError { message, ..answer }))
}

/// The session's time zone; of what the server does not answer nothing is known.
fn ask_zone(conn: &mut Conn) -> Result<SessionZone, Fault> {
    let rows = match conn.query::<mysql::Row, _>(time_zone::question()) {
        Ok(rows) => rows,
        Err(mysql::Error::MySqlError(_)) => return Ok(SessionZone::unknown()),
        Err(error) => return Err(error.into()),
    };
    let name = rows.first().and_then(|row| row.get_opt::<String, _>(0)?.ok()).unwrap_or_default();
    let years: Option<Vec<Year>> = rows.iter().map(year).collect();
    Ok(SessionZone::new(&name, &years.unwrap_or_default()))
}

/// A row of the answer.
fn year(row: &mysql::Row) -> Option<Year> {
    let mut months = [None; 12];
    for (column, month) in (2..).zip(&mut months) {
        *month = row.get_opt::<Option<i64>, _>(column)?.ok()?;
    }
    Some((row.get_opt(1)?.ok()?, months))
}

/// True for a statement that leaves something in its session for the next one to see, or for other clients to wait
/// for: a user variable, a lock by name, `LAST_INSERT_ID(…)`. Strings and comments count too: that costs little.
pub(super) fn leaves_something(sql: &str) -> bool {
    const MARKS: &[&[u8]] = &[b":=", b"get_lock", b"last_insert_id"];
    let text = sql.as_bytes();
    MARKS.iter().any(|mark| text.windows(mark.len()).any(|part| part.eq_ignore_ascii_case(mark)))
}

/// `replica` with a replica channel, else by `read_only` (DESIGN 9).
fn role(conn: &mut Conn, flavor: Flavor) -> Result<&'static str, Fault> {
    let replica = has_channel(conn, flavor)?
        || conn.query_first::<Option<bool>, _>("SELECT @@read_only")?.flatten().unwrap_or(false);
    Ok(if replica { "replica" } else { "primary" })
}

/// Whether the server has a replica channel that we may see.
fn has_channel(conn: &mut Conn, flavor: Flavor) -> Result<bool, Fault> {
    for question in flavor.channel_questions() {
        match conn.query_first::<mysql::Row, _>(question) {
            Ok(channel) => return Ok(channel.is_some()),
            // An older server knows the older words only; a plain user may ask neither.
            Err(mysql::Error::MySqlError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The first three numbers of a version.
fn numbers(version: &str) -> (u32, u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

impl Flavor {
    fn word(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }

    fn channel_questions(self) -> &'static [&'static str] {
        match self {
            Flavor::MySql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
            Flavor::MariaDb => &["SHOW ALL SLAVES STATUS"],
        }
    }

    /// `tx_read_only` before MySQL 5.7.20 and MariaDB 11.1.
    fn read_only_variable(self, version: &str) -> &'static str {
        let since = match self {
            Flavor::MySql => (5, 7, 20),
            Flavor::MariaDb => (11, 1, 0),
        };
        if numbers(version) >= since { "transaction_read_only" } else { "tx_read_only" }
    }

    fn limits(self, left: Duration, read_only_variable: Option<&str>) -> String {
        let limit = match self {
            Flavor::MySql => format!("SET max_execution_time={}", left.as_millis()),
            Flavor::MariaDb => format!("SET max_statement_time={:.6}", left.as_secs_f64()),
        };
        match read_only_variable {
            // Without autocommit the first SELECT would open a transaction that never sees a later change.
            Some(variable) => format!("{limit},autocommit=1,{variable}=1"),
            None => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flavour_is_told_in_its_own_words() {
        let left = Duration::from_millis(1500);
        for (flavor, version, expected) in [
            (Flavor::MySql, "8.4.2", "SET max_execution_time=1500,autocommit=1,transaction_read_only=1"),
            (Flavor::MySql, "5.7.20-log", "SET max_execution_time=1500,autocommit=1,transaction_read_only=1"),
            (Flavor::MySql, "5.7.19", "SET max_execution_time=1500,autocommit=1,tx_read_only=1"),
            (
                Flavor::MariaDb,
                "10.11.6-MariaDB",
                "SET max_statement_time=1.500000,autocommit=1,tx_read_only=1",
            ),
            (
                Flavor::MariaDb,
                "11.4.2-MariaDB-log",
                "SET max_statement_time=1.500000,autocommit=1,transaction_read_only=1",
            ),
        ] {
            assert_eq!(flavor.limits(left, Some(flavor.read_only_variable(version))), expected, "{version}");
        }
        assert_eq!(Flavor::MySql.limits(left, None), "SET max_execution_time=1500");
    }
}
