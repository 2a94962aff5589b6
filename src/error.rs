//! The one error type: what happened, to which target and query, where in which file, and what to change.
//!
//! Owns the closed set of kinds and reasons and the way an error is written. It knows nothing of databases
//! or files; whoever raises an error adds what it knows. A new `reason` is one line in `reasons!`.

use std::fmt;

/// What `?` carries through the whole program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why a query or a connection failed: the closed set of the label `reason` (docs/metrics.md).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// The label value.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// No connection: refused, unreachable, reset or too slow before the login ended.
    Connect = "connect",
    /// The host name has no address.
    Resolve = "resolve",
    /// The server refused the user or the password.
    Auth = "auth",
    /// TLS was demanded and missing, or the certificate was refused.
    Tls = "tls",
    /// The connection died under the query.
    Lost = "lost",
    /// The deadline passed; the query was stopped.
    Timeout = "timeout",
    /// Every slot of the target is held by a query that does not let go.
    Wedged = "wedged",
    /// A lock was not granted in time.
    Locked = "locked",
    /// Deadlock, serialisation failure or a conflict with recovery: the next scrape may succeed.
    Conflict = "conflict",
    /// The database rejects the SQL.
    Sql = "sql",
    /// The database denies access to an object.
    Permission = "permission",
    /// The statement would write.
    ReadOnly = "read_only",
    /// A column's type cannot be a number.
    Type = "type",
    /// A value cannot be used: overflow, text that is not a number, a negative counter.
    Value = "value",
    /// A column that a metric names is not in the result.
    MissingColumn = "missing_column",
    /// Two samples with one name and one label set.
    Duplicate = "duplicate",
    /// `max_rows`, `max_series`, `max_label_length` or `max_page_bytes`.
    Limit = "limit",
    /// The server sent what the protocol does not allow.
    Protocol = "protocol",
    /// The server reports a fault of its own: out of memory, disk full, shutting down.
    Server = "server",
    /// Somebody else cancelled the query.
    Cancelled = "cancelled",
    /// A bug of ours, caught per query.
    Panic = "panic",
}

/// The closed set of what an error can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorKind {
    /// The configuration or the command line is wrong: exit code 2.
    #[default]
    Config,
    /// The machine says no (port in use, no permission): exit code 1.
    Machine,
    /// A query or a connection failed; the scrape goes on without it.
    Query(Reason),
}

/// Where in a configuration file something was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourcePosition {
    /// The file as the user named it.
    pub file: String,
    /// 1-based; 0 when the position is not known.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// `databases.shop.port`; empty at the root.
    pub path: String,
    /// The source line without its end, for the caret. `None` where it could show a secret.
    pub source: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ErrorParts {
    kind: ErrorKind,
    message: String,
    target: Option<String>,
    query: Option<String>,
    place: Option<SourcePosition>,
    sqlstate: Option<String>,
    hint: Option<String>,
    meaning: Option<&'static str>,
    before_password: bool,
    sql_position: Option<SqlPosition>,
    full: bool,
    /// … for sessions in this database.
    full_database: bool,
}

/// Where in a statement the database found something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlPosition {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
}

/// What went wrong, for the person on call. One allocation, so that `Result` stays small.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<ErrorParts>);

impl Error {
    fn of(kind: ErrorKind, message: String) -> Self {
        Error(Box::new(ErrorParts { kind, message, ..ErrorParts::default() }))
    }

    /// A query or connection failed for `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Query(reason), message.into())
    }

    /// The configuration or the command line is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Config, message.into())
    }

    /// The machine refuses something: a port, a file, a thread.
    pub fn machine(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Machine, message.into())
    }

    /// Adds the place in a file.
    pub fn at(mut self, place: SourcePosition) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Names the target; the first one named stays.
    pub fn on_target(mut self, target: &str) -> Self {
        self.0.target.get_or_insert_with(|| target.to_owned());
        self
    }

    /// Names the query; the first one named stays.
    pub fn in_query(mut self, query: &str) -> Self {
        self.0.query.get_or_insert_with(|| query.to_owned());
        self
    }

    /// Adds the database's own code: SQLSTATE, or SQLite's extended code.
    pub fn with_sqlstate(mut self, code: impl Into<String>) -> Self {
        self.0.sqlstate = Some(code.into());
        self
    }

    /// Adds what to change.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what to change, where that is known.
    pub fn with_hint_if_any(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.with_hint(hint),
            None => self,
        }
    }

    /// Adds what it means, in a few words for people, where the reason alone says less or something else. The hint is
    /// then all that there is to try.
    pub fn with_meaning(mut self, meaning: &'static str) -> Self {
        self.0.meaning = Some(meaning);
        self
    }

    /// What it means, where that is more than what the reason says.
    pub fn meaning(&self) -> Option<&'static str> {
        self.0.meaning
    }

    /// Marks a login that ended before any password was sent.
    pub fn before_password(mut self) -> Self {
        self.0.before_password = true;
        self
    }

    /// True when a server refused user and password: another attempt with them may lock the account.
    pub fn is_refused_login(&self) -> bool {
        self.reason() == Reason::Auth && !self.0.before_password
    }

    /// The same failure in other words: reason, code and hint stay, a place in a statement does not.
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self.0.sql_position = None;
        self
    }

    /// The same with the key that it is about before its message, unless that names its section: `when.sql: …`.
    pub fn about_key(self, key: &str) -> Self {
        if self.message().starts_with(key.split('.').next().unwrap_or(key)) {
            return self;
        }
        let message = format!("{key}: {}", self.message());
        self.with_message(message)
    }

    /// The same under another reason.
    pub fn with_reason(mut self, reason: Reason) -> Self {
        self.0.kind = ErrorKind::Query(reason);
        self
    }

    /// Adds where in the statement it is.
    pub fn at_sql_position(mut self, sql_position: SqlPosition) -> Self {
        self.0.sql_position = Some(sql_position);
        self
    }

    /// Marks that the server, or a pooler before it, is full: it allows no further session now.
    pub fn with_full_server(mut self) -> Self {
        self.0.full = true;
        self
    }

    /// The same, where it is full for sessions in this one database only.
    pub fn with_full_database(mut self) -> Self {
        (self.0.full, self.0.full_database) = (true, true);
        self
    }

    /// True when the server is full for this one database only.
    pub fn is_database_full(&self) -> bool {
        self.0.full_database
    }

    /// True when the server allows no further session now: the caller can wait for the sessions that exist.
    pub fn is_server_full(&self) -> bool {
        self.0.full
    }

    /// Where in the statement it is, where the database tells.
    pub fn sql_position(&self) -> Option<SqlPosition> {
        self.0.sql_position
    }

    /// What the error is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The reason of a query's failure; an error of another kind that reaches a query is `server`.
    pub fn reason(&self) -> Reason {
        match self.0.kind {
            ErrorKind::Query(reason) => reason,
            ErrorKind::Config | ErrorKind::Machine => Reason::Server,
        }
    }

    /// The message alone, without target, query and place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// `other` with this error's code, where it has one: the same failure under another reason.
    pub fn code_for(&self, other: Error) -> Error {
        match self.sqlstate() {
            Some(code) => other.with_sqlstate(code),
            None => other,
        }
    }

    /// The database's own code, where there is one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// Reason, message, code and hint, for a line that names target and query itself.
    pub fn summary(&self) -> String {
        format!("{}: {}", self.reason().as_str(), self.text())
    }

    /// The error without the source line and its caret, as it is logged on one line.
    pub fn headline(&self) -> String {
        let ErrorParts { place, target, query, .. } = &*self.0;
        let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let names = [("target", target), ("query", query)];
        let named = names.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
        let named = named.collect::<Vec<_>>().join(", ");
        let separator = if named.is_empty() { "" } else { ": " };
        format!("{place}{named}{separator}{}", self.text())
    }

    /// Message, code and hint.
    fn text(&self) -> String {
        let code = self.sqlstate().map(|code| format!(" [{code}]")).unwrap_or_default();
        let hint = self.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}{code}{hint}", self.message())
    }

    /// What to change, where it is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The place in a file, where there is one.
    pub fn place(&self) -> Option<&SourcePosition> {
        self.0.place.as_ref()
    }

    /// The target, where there is one.
    pub fn target(&self) -> Option<&str> {
        self.0.target.as_deref()
    }

    /// The query, where there is one.
    pub fn query(&self) -> Option<&str> {
        self.0.query.as_deref()
    }
}

impl std::error::Error for Error {}

/// `file:line:column: path.to.key: message`, the source line and a caret; or `target …, query …: message`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        self.0.place.as_ref().map_or(Ok(()), |place| place.write_caret(f))
    }
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

impl SourcePosition {
    /// The source line under the message, with a caret at the column. Nothing where the line is not shown.
    fn write_caret(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(source) = &self.source else { return Ok(()) };
        let blank: String = source
            .chars()
            .take(self.column.saturating_sub(1))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        write!(f, "\n  | {source}\n  | {blank}^")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_a_place_shows_the_line_and_a_caret() {
        let place = SourcePosition {
            file: "a.yaml".into(),
            line: 3,
            column: 5,
            path: "databases.shop.prt".into(),
            source: Some("    prt: 5432".into()),
        };
        let error = Error::config("unknown key").at(place).with_hint("did you mean port?");
        let expected =
            "a.yaml:3:5: databases.shop.prt: unknown key; did you mean port?\n  |     prt: 5432\n  |     ^";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_error_of_a_query_names_target_query_and_code() {
        let error = Error::new(Reason::Sql, "no such table")
            .with_sqlstate("42P01")
            .in_query("orders")
            .on_target("shop");
        assert_eq!(error.to_string(), "target shop, query orders: no such table [42P01]");
        assert_eq!(error.reason().as_str(), "sql");
    }
}
