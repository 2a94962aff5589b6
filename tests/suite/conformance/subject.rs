//! A database under the cases: what the table needs of it beside SQL. Another database is one more file here,
//! one more column in the table, and no change to a case.

pub(crate) mod mariadb;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use sql_exporter::error::Reason;

use super::bench::Bench;

/// One kind of database, with a fresh database of it.
pub(crate) trait Subject: Sized {
    /// Makes a table `t`, and functions that write and that unlock their session where there are functions.
    const SHOP: &str;

    /// Gives as one text whatever a statement could have written to the database that [`Subject::SHOP`] made.
    const STATE: &str;

    /// A statement that looks like reading and writes, if nothing stops it.
    const WRITING: &str;

    /// A statement that runs for a minute at least.
    const ENDLESS: &str;

    /// A fresh database, on a server that others share.
    fn fresh() -> Self;

    /// A database on a server of its own that may be killed, with these options.
    fn own(options: &[&str]) -> Self;

    /// The value of its `databases:` entry, with some keys changed or added.
    fn entry(&self, changes: &[(&str, &str)]) -> String;

    /// True where the server's version, or its flavour, has nothing of what `sql` is about: those of
    /// `tests/versions/run` are older and newer than the table.
    fn lacks(&self, sql: &str) -> bool {
        let _ = sql;
        false
    }

    /// Why a statement is refused here that is refused for `reason` elsewhere.
    fn refusal(&self, sql: &str, reason: Reason) -> Reason {
        let _ = sql;
        reason
    }

    /// Runs statements, each ended by `;` at its line's end, as the database's owner.
    fn run(&self, sql: &str);

    /// One value as text, through a session that is not the exporter's.
    fn ask(&self, sql: &str) -> String;

    /// Whether a statement of somebody else runs in this database: the server's own list through a second session.
    /// A database without a server is asked through its sessions: none is busy once its thread is back.
    fn is_running(&self, bench: &Bench) -> bool;

    /// Ends the exporter's idle sessions from outside, as a server does after `wait_timeout`.
    fn end_idle_sessions(&self);

    /// Kills the server.
    fn kill(&mut self);

    /// Brings it back.
    fn restart(&mut self);
}

/// A YAML mapping in flow style; of two entries for a key the later counts.
fn mapping(own: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let changed = |key: &str| changes.iter().any(|(other, _)| *other == key);
    let left = own.iter().filter(|(key, _)| !changed(key));
    let entries: Vec<String> = left.chain(changes).map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}
