//! Stops what a session runs: a KILL on a connection of its own.

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::login::{Entered, Route, Server};
use super::talk::{Talk, Trouble};

/// `ER_NO_SUCH_THREAD`: the connection is gone, and what it ran with it.
const NO_SUCH_THREAD: u16 = 1094;
/// So much of a statement is shown.
const SHOWN: usize = 120;

/// Ends what one connection runs. Another thread's number is never reused by the server.
pub(super) struct Kill {
    pub(super) server: Arc<Server>,
    pub(super) route: Route,
    pub(super) thread: u32,
}

impl Canceller for Kill {
    fn cancel(&self, by: Deadline) -> Result<()> {
        // Not the connection: the server would close it at once and go on with the statement, and its end could not be seen.
        self.kill("QUERY", by)
    }

    fn terminate(&self, by: Deadline) -> Result<()> {
        self.kill("CONNECTION", by)
    }
}

impl Kill {
    fn kill(&self, what: &str, by: Deadline) -> Result<()> {
        // One such connection at a time: the server sees `max_connections` of ours and this one.
        let Some(_only) = self.server.killing.try_lock_until(by.moment()) else {
            let message = format!("KILL of thread {}: others before it took all the time", self.thread);
            return Err(Error::new(Reason::Timeout, message));
        };
        let Entered { link, tracks, .. } = self.server.enter_again(&self.route, by)?;
        let mut talk = Talk::new(link, tracks);
        let done = match talk.ask(&format!("KILL {what} {}", self.thread), by) {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(error)) if error.code == NO_SUCH_THREAD => Ok(()),
            Err(Trouble::Refused(error)) => {
                let running = self.running(&mut talk, by);
                let said = Fault::from(&error).error;
                let message =
                    format!("KILL of thread {} is refused: {}{running}", self.thread, said.message());
                Err(said.code_for(Error::new(said.reason(), message)))
            }
            Err(Trouble::Broken(fault)) => Err(fault.at_login()),
        };
        talk.quit(by);
        done
    }

    /// What goes on, in the server's own words.
    fn running(&self, talk: &mut Talk, by: Deadline) -> String {
        let question = format!("SELECT info FROM information_schema.processlist WHERE id = {}", self.thread);
        let told = talk.ask(&question, by).ok();
        let info = told.and_then(|table| table.into_iter().next()?.into_iter().next()?);
        let Some(info) = info else { return String::new() };
        let words: Vec<&str> = info.split_whitespace().collect();
        let shown: String = words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        format!("; it still runs: {shown}")
    }
}
