//! One connection as the rest of the exporter sees it: what it is worth after a batch, what is asked of it between
//! batches, and the KILL that stops what it runs. `pipeline` runs the batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mysql_common::constants::Command;

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::{
    Canceller, Column, Health, Job, Privileges, RelationName, ServerFacts, ServerWork, Session, Sql,
    too_few_parameters,
};
use crate::error::{Error, Reason, Result};

use super::errors::CallError;
use super::login::{LoginServer, MySqlLoggedIn, MySqlServerAddress};
use super::packet::RowFormat;
use super::pipeline::{Jobs, Pipeline};
use super::privileges;
use super::protocol::{ProtocolClient, answer};
use super::server_info::ServerInfo;
use super::values::ResultColumns;

/// How long the end of a session may take.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of a running statement an error shows, in characters.
const MAX_SHOWN_STATEMENT: usize = 120;

/// A live connection.
pub(super) struct MySqlSession {
    pipeline: Pipeline,
    server: Arc<LoginServer>,
    address: MySqlServerAddress,
    /// The number of the server's thread.
    thread: u32,
}

impl MySqlSession {
    /// Logs in, runs `session_sql`, learns what the server is. Some proxies (ProxySQL) close the connection of a client that
    /// sends a command before the one before it is answered. One connection may be lost by chance: after two in a row, a third
    /// one sends one command at a time, and so do all later sessions if that works.
    pub(super) fn open(server: &Arc<LoginServer>, by: Deadline) -> Result<Self> {
        let is_lost = |opened: &Result<Self, CallError>| match opened {
            Err(CallError::Broken(error)) => error.reason() == Reason::Lost,
            _ => false,
        };
        let one_by_one = server.one_by_one.load(Ordering::Relaxed);
        let mut opened = Self::log_in(server, one_by_one, by);
        if !one_by_one && is_lost(&opened) {
            opened = Self::log_in(server, false, by);
            if is_lost(&opened) {
                opened = Self::log_in(server, true, by);
                server.one_by_one.store(opened.is_ok(), Ordering::Relaxed);
            }
        }
        opened.map_err(CallError::into_login_error)
    }

    fn log_in(server: &Arc<LoginServer>, one_by_one: bool, by: Deadline) -> Result<Self, CallError> {
        let MySqlLoggedIn { mut client, address, tls, thread, version } = server.log_in(by)?;
        if one_by_one {
            client.send_one_by_one();
        }
        match ServerInfo::set_up(&mut client, &server.config, &version, tls, by) {
            Ok(info) => {
                // The login's budget ends here; from now on each question has its own.
                client.stream().set_budget(None);
                let pipeline = Pipeline::new(client, info, server);
                let server = Arc::clone(server);
                Ok(MySqlSession { pipeline, server, address, thread })
            }
            Err(error) => {
                if matches!(error, CallError::Server(_)) {
                    client.quit(by.or_within(QUIT_TIMEOUT));
                }
                Err(error)
            }
        }
    }

    /// Does something small between batches; whatever fails costs the session.
    fn between_batches(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut ProtocolClient, &mut ServerInfo) -> Result<(), CallError>,
    ) -> Health {
        let Err(error) = act(&mut self.pipeline.client, &mut self.pipeline.info) else {
            self.pipeline.client.free_buffers();
            return Health::Clean;
        };
        Health::Lost(match error.is_timeout() {
            true => Error::new(Reason::Timeout, format!("the server did not answer {what} in time")),
            false => error.into_error(),
        })
    }
}

impl Session for MySqlSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        let mut left = Jobs::new();
        for job in jobs {
            match self.pipeline.check(job.sql) {
                Ok(()) => left.push_back(job),
                Err(error) => job.sink.end(Err(error), Duration::ZERO),
            }
        }
        match self.pipeline.run(&mut left, by) {
            Err(error) if !left.is_empty() => Health::Lost(error),
            Ok(()) if !self.pipeline.was_cancelled => {
                self.pipeline.client.free_buffers();
                Health::Clean
            }
            _ => Health::Spent,
        }
    }

    fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        let statements: Vec<&Sql> =
            statements.iter().copied().filter(|sql| self.pipeline.check(sql).is_ok()).collect();
        match self.pipeline.prepare_new(&statements, by) {
            Ok(_) => Health::Clean,
            Err((_, error)) => Health::Lost(error),
        }
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.between_batches("a ping", |client, _| {
            client.queue(Command::COM_PING, &[]);
            client.read_done(by)
        })
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.between_batches("the question for its role", |client, info| info.refresh_role(client, by))
    }

    fn describe(&mut self, sql: &Sql, parameters: usize, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.pipeline.check(sql)?;
        let mut answers = self
            .pipeline
            .prepare_all(&[sql], by, |prepared, columns| (prepared, columns))
            .map_err(|(_, error)| {
                let message = "the server did not describe the statement in time";
                if error.reason() == Reason::Timeout { Error::new(Reason::Timeout, message) } else { error }
            })?;
        match answers.pop() {
            Some(Ok((prepared, columns))) => {
                self.pipeline.client.queue_close(prepared.id);
                if prepared.params > parameters {
                    return Err(too_few_parameters(prepared.params, parameters));
                }
                // CALL and some SHOW tell their columns only when they run.
                let columns = ResultColumns::new(columns, RowFormat::Binary, &self.pipeline.info.zone);
                Ok(Some(columns.as_columns().to_vec()).filter(|columns| !columns.is_empty()))
            }
            Some(Err(error)) if !error.is_not_preparable() => {
                Err(with_position(error.to_error(), sql.text()))
            }
            // It runs as text only.
            _ => Ok(None),
        }
    }

    fn privileges(&mut self, by: Deadline) -> Result<Privileges> {
        let mut answered = Ok(Privileges::default());
        let health = self.between_batches("the question for its privileges", |client, info| {
            // The server may refuse the question; the connection goes on.
            answered = answer(privileges::ask(client, info, by))?.map_err(|error| error.to_error());
            Ok(())
        });
        if let Health::Lost(error) = health { Err(error) } else { answered }
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        const OPEN: &[&str] = &[
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ];
        self.pipeline.in_snapshot = open;
        let statements = if open { OPEN } else { &["ROLLBACK AND NO CHAIN NO RELEASE"] };
        let health = self.between_batches("the snapshot's statements", |client, _| {
            let answers = client.ask_all(statements, by)?;
            Ok(answers.into_iter().try_for_each(|answer| answer.map(drop))?)
        });
        match health {
            // A reset inside it would have ended the transaction.
            Health::Clean if !open => self.pipeline.reset_if_changed().map_or_else(Health::Lost, |()| health),
            health => health,
        }
    }

    fn objects_question(&self, relations: &[RelationName]) -> Option<Sql> {
        let mut sql = "SELECT 'extension', PLUGIN_NAME, PLUGIN_VERSION FROM information_schema.PLUGINS \
                       WHERE PLUGIN_STATUS = 'ACTIVE'"
            .to_owned();
        for (place, relation) in relations.iter().enumerate() {
            // Each with constants: the server then looks up one name instead of reading all tables.
            let (schema, name) = (relation.schema(), relation.name());
            // In SQL the names of this schema have no case; MySQL compares them as it lists them.
            let is_upper = schema.eq_ignore_ascii_case("information_schema");
            let name = if is_upper { name.to_ascii_uppercase() } else { name.to_owned() };
            sql += &format!(
                " UNION ALL SELECT 'relation', '{place}', 'readable' FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME = '{name}'"
            );
        }
        Some(Sql::of_catalog(&sql))
    }

    fn facts(&self) -> &ServerFacts {
        &self.pipeline.info.facts
    }

    fn round_trip_time(&self) -> Duration {
        self.pipeline.client.round_trip()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        let (server, address) = (Arc::clone(&self.server), self.address.clone());
        Arc::new(KillCanceller { server, address, thread: self.thread })
    }

    /// A server that still works on something has not closed its side: whatever it answers to a KILL, and whether the KILL
    /// reached it. What stands behind the statement that was ended runs, each in its limit; then the server reads the end.
    fn server_work(&mut self) -> ServerWork {
        if self.pipeline.client.is_answered() {
            return ServerWork::Answered;
        }
        let stream = self.pipeline.client.stream();
        stream.give_up();
        if stream.has_ended() { ServerWork::Disconnected } else { ServerWork::GoesOn }
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        if self.pipeline.client.is_answered() {
            self.pipeline.client.quit(Deadline::within(QUIT_TIMEOUT));
        }
    }
}

/// Ends what one connection runs, by a KILL on a connection of its own. The server never reuses a thread's number.
struct KillCanceller {
    server: Arc<LoginServer>,
    address: MySqlServerAddress,
    thread: u32,
}

impl Canceller for KillCanceller {
    fn cancel(&self, by: Deadline) -> Result<()> {
        // Not the connection: the server would close it at once and continue the statement, and its end could not be seen.
        self.kill("QUERY", by)
    }

    fn terminate(&self, by: Deadline) -> Result<()> {
        self.kill("CONNECTION", by)
    }
}

impl KillCanceller {
    fn kill(&self, what: &str, by: Deadline) -> Result<()> {
        let thread = self.thread;
        if thread == 0 {
            // MySQL Router with connection_sharing. A server would say that it has no such thread.
            let message = "a KILL needs the number of the server's thread, which the proxy in front of it does not tell";
            return Err(Error::new(Reason::Server, message));
        }
        // One such connection at a time: the server sees `max_connections` of ours and this one.
        let Some(_only) = self.server.killing.try_lock_until(by.moment()) else {
            let message = format!("KILL of thread {thread}: others before it took all the time");
            return Err(Error::new(Reason::Timeout, message));
        };
        let mut client = self.server.log_in_again(&self.address, by)?.client;
        client.queue_query(&format!("KILL {what} {thread}"));
        let result = match client.read_table(by) {
            Ok(_) => Ok(()),
            // The connection is gone, and what it ran with it.
            Err(CallError::Server(error)) if error.is_no_such_thread() => Ok(()),
            Err(CallError::Server(error)) => {
                let (error, running) = (error.to_error(), self.running_statement(&mut client, by));
                let message = format!("KILL of thread {thread} is refused: {}{running}", error.message());
                Err(error.code_for(Error::new(error.reason(), message)))
            }
            Err(error) => Err(error.into_login_error()),
        };
        client.quit(by);
        result
    }

    /// What still runs, in the server's own words.
    fn running_statement(&self, client: &mut ProtocolClient, by: Deadline) -> String {
        let thread = self.thread;
        client.queue_query(&format!("SELECT info FROM information_schema.processlist WHERE id = {thread}"));
        let table = client.read_table(by).unwrap_or_default();
        let Some(info) = table.into_iter().flatten().next().flatten() else { return String::new() };
        let words: Vec<&str> = info.split_whitespace().collect();
        let text = words.join(" ");
        let shown: String = text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_STATEMENT).collect();
        format!("; it still runs: {shown}")
    }
}
