//! A failure's reason in words, for who reads the page and may not read the database's own message.

use crate::error::Reason;

/// What happened.
pub(super) fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "the server cannot be reached",
        Reason::Resolve => "the host name has no address",
        Reason::Auth => "the login was refused",
        Reason::Tls => "the encryption could not be agreed on",
        Reason::Lost => "the connection broke",
        Reason::Timeout => "there was no end in time",
        Reason::Wedged => "all sessions are held by queries that do not stop",
        Reason::Locked => "a lock was held by somebody else",
        Reason::Conflict => "another transaction came in between",
        Reason::Sql => "the SQL is wrong for this database",
        Reason::Permission => "the user may not read this",
        Reason::ReadOnly => "the query wanted to write",
        Reason::Type => "a column has another type than the metric needs",
        Reason::Value => "a value cannot be a sample",
        Reason::MissingColumn => "the result lacks a column",
        Reason::Duplicate => "two samples have the same labels",
        Reason::Limit => "the result is over a limit",
        Reason::Protocol => "the server's answer made no sense",
        Reason::Server => "the server has a problem of its own",
        Reason::Cancelled => "somebody cancelled the query",
        Reason::Panic => "the exporter has a bug",
    }
}
