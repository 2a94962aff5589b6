//! Stops what a session runs: a KILL on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::error::{Error, Result};

use super::errors::Fault;
use super::login::{Route, Server};
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
    pub(super) broken: Arc<AtomicBool>,
}

impl Canceller for Kill {
    fn cancel(&self, by: Deadline) -> Result<()> {
        let mut talk = Talk::new(self.server.enter_again(&self.route, by)?.link);
        // A server that is sending rows which nobody reads waits for long; only the end of the connection, not that of
        // the query, wakes it.
        let what = if self.broken.load(Ordering::Relaxed) { "CONNECTION" } else { "QUERY" };
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
}

impl Kill {
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
