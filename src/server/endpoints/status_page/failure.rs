//! Why something fails, as far as the viewer may know: everybody sees the reason and the database's code, trusted clients
//! also the message.

use crate::error::{Error, Reason};

use super::Viewer;
use super::command_line::command_line;

#[derive(Debug, Clone)]
pub(super) struct ShownFailure {
    pub(super) reason: Reason,
    /// What stands behind the reason: the code, the reason in a sentence, and the message for a viewer who may see it.
    pub(super) text: String,
    /// The command that shows it again, where there is one.
    pub(super) command: Option<String>,
}

impl ShownFailure {
    /// `command` shows it again.
    pub(super) fn of(error: &Error, command: &[&str], viewer: &Viewer<'_>) -> ShownFailure {
        let reason = error.reason();
        let code = error.sqlstate().map(|code| format!(" [{code}]")).unwrap_or_default();
        let mut text = format!("{code}: {}", explanation(reason));
        if viewer.is_trusted && !error.message().is_empty() {
            text += "; ";
            text += error.message();
        }
        ShownFailure { reason, text, command: command_line(viewer.config_file, command) }
    }

    /// All of it, in parts.
    pub(super) fn words(&self) -> [&str; 4] {
        [self.reason.as_str(), &self.text, "\n", self.command.as_deref().unwrap_or_default()]
    }
}

/// A failure's reason in a sentence, for clients that may not read the database's own message.
fn explanation(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "the server cannot be reached",
        Reason::Resolve => "the host name has no address",
        Reason::Auth => "the login was refused",
        Reason::Tls => "the TLS handshake failed",
        Reason::Lost => "the connection broke",
        Reason::Timeout => "it did not end in time",
        Reason::Wedged => "all sessions are held by queries that do not stop",
        Reason::Locked => "another session held a lock",
        Reason::Conflict => "another transaction conflicted",
        Reason::Sql => "the SQL is wrong for this database",
        Reason::Permission => "the user lacks a privilege",
        Reason::ReadOnly => "the query tried to write",
        Reason::Type => "a column does not have the type that the metric needs",
        Reason::Value => "a value cannot be a sample",
        Reason::MissingColumn => "the result lacks a column",
        Reason::Duplicate => "two samples have the same labels",
        Reason::Limit => "the result is over a limit",
        Reason::Protocol => "the server's answer violates the protocol",
        Reason::Server => "the server has a problem of its own",
        Reason::Cancelled => "the query was cancelled",
        Reason::Panic => "the exporter has a bug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_reads_reason_and_code_but_no_message() {
        let error = Error::new(Reason::Sql, "no relation secret_orders").with_sqlstate("42P01");
        let text = |is_trusted| ShownFailure::of(&error, &[], &Viewer { is_trusted, config_file: None }).text;
        assert_eq!(text(true), " [42P01]: the SQL is wrong for this database; no relation secret_orders");
        assert_eq!(text(false), " [42P01]: the SQL is wrong for this database");
    }
}
