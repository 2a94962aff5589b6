//! The first-keyword check that stands before every database's own read-only mode (DESIGN 2, ARCHITECTURE 4).
//!
//! Owns just enough of three lexers to tell code from strings and comments; it parses nothing and guards against
//! mistakes, not against the person who writes the configuration. What a keyword does (a writing CTE, `EXPLAIN
//! ANALYZE` of a write, PostgreSQL's `SELECT … INTO table`) is left to the server's read-only mode. Another
//! dialect is one more [`Dialect`] and its lines in [`Lexer`]. Sessions ask before they send a statement; what
//! [`AllowedStatements`] refuses whatever the server says is told when the configuration is loaded.

use std::ops::Range;

use crate::error::{Error, Reason, Result, SqlPosition};
use crate::yaml::keys::nearest;

use super::refused_functions::effect;

/// Which dialect's comments and strings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Nested `/* */`, `$tag$` strings, `E''` strings. With `standard_conforming_strings`, the default.
    Postgres,
    /// The same without it: a backslash escapes in every string.
    PostgresWithEscapes,
    /// `#` and `-- ` comments, backslashes in strings, `/*! … */` and `/*M! … */` are code.
    /// Assumes neither `NO_BACKSLASH_ESCAPES` nor `ANSI_QUOTES`.
    MySql,
    /// Plain `/* */`, `[name]` and backtick names.
    Sqlite,
}

impl Dialect {
    fn is_postgres(self) -> bool {
        matches!(self, Dialect::Postgres | Dialect::PostgresWithEscapes)
    }
}

/// What a statement may start with while a target is read-only.
const READING: [&str; 6] = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"];

/// First words of statements that set up a session.
const SETTING: &[&str] = &["SET", "RESET", "USE", "ATTACH", "DETACH", "PRAGMA"];

/// Other first words, and what to do about one. The first match counts.
const OTHER: &[(&[&str], &str)] = &[
    (
        &["PRAGMA"],
        "read it with `SELECT * FROM pragma_NAME`; one that sets something belongs into `session_sql` of the target",
    ),
    (SETTING, "what sets up a session belongs into `session_sql` of the target"),
    (
        &["BEGIN", "START", "COMMIT", "ROLLBACK", "END", "ABORT", "SAVEPOINT", "RELEASE"],
        "leave it out: with `snapshot: true` all queries of the target read in one transaction",
    ),
    (
        &["CALL", "DO", "EXECUTE", "EXEC"],
        "what it runs may write: select from a view or a function that returns the rows",
    ),
    (&["DESC", "DESCRIBE"], "write EXPLAIN, or select from information_schema.columns"),
    (
        &[
            "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP",
            "RENAME", "GRANT", "REVOKE", "COPY", "LOCK", "VACUUM", "ANALYZE", "REINDEX", "REFRESH",
            "CLUSTER", "OPTIMIZE", "REPAIR", "FLUSH", "KILL", "NOTIFY", "IMPORT", "COMMENT",
        ],
        "if that is wanted, set read_only: false on the target",
    ),
];

/// Functions of MySQL and MariaDB, of their plugins and of libraries that are often loaded, which write, change settings or
/// run other SQL in spite of the read-only mode. One that ends with `_` stands for all that begin so.
const WRITING_ON_MYSQL: [&str; 32] = [
    "ASYNCHRONOUS_CONNECTION_FAILOVER_",
    "AUDIT_API_MESSAGE_EMIT_",
    "AUDIT_LOG_ENCRYPTION_PASSWORD_SET",
    "AUDIT_LOG_FILTER_",
    "AUDIT_LOG_ROTATE",
    "FIREWALL_GROUP_",
    "GEN_DICTIONARY_DROP",
    "GEN_DICTIONARY_LOAD",
    "GROUP_REPLICATION_DISABLE_MEMBER_ACTION",
    "GROUP_REPLICATION_ENABLE_MEMBER_ACTION",
    "GROUP_REPLICATION_RESET_MEMBER_ACTIONS",
    "GROUP_REPLICATION_SET_",
    "GROUP_REPLICATION_SWITCH_TO_",
    "INNODB_REDO_LOG_",
    "INNODB_SET_",
    "KEYRING_KEY_GENERATE",
    "KEYRING_KEY_REMOVE",
    "KEYRING_KEY_STORE",
    "LOAD_REWRITE_RULES",
    "MASKING_DICTIONARIES_FLUSH",
    "MASKING_DICTIONARY_",
    "MROONGA_COMMAND",
    "MYSQL_FIREWALL_FLUSH_STATUS",
    "READ_FIREWALL_",
    "SERVICE_GET_",
    "SET_FIREWALL_",
    "SPIDER_BG_DIRECT_SQL",
    "SPIDER_COPY_TABLES",
    "SPIDER_DIRECT_SQL",
    "SYS_EVAL",
    "SYS_EXEC",
    "VERSION_TOKENS_",
];

/// Which statements a target runs, as far as its configuration alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowedStatements {
    /// One statement that reads.
    Reading(Dialect),
    /// Any one statement: `read_only: false`.
    Any(Dialect),
    /// SHOW, which is all that PgBouncer's console answers.
    Show,
}

impl AllowedStatements {
    /// Refuses what never runs, whatever the server is and says.
    ///
    /// # Errors
    /// `read_only`, `sql`: what was found and what to do about it.
    pub fn check(self, sql: &str) -> Result<()> {
        // What a backslash in a string means is a setting of the server: only what is refused either way is certain.
        if sql.contains('\\') && self.dialect().is_postgres() {
            let without = match self {
                AllowedStatements::Reading(_) => AllowedStatements::Reading(Dialect::PostgresWithEscapes),
                AllowedStatements::Any(_) => AllowedStatements::Any(Dialect::PostgresWithEscapes),
                AllowedStatements::Show => self,
            };
            let refused = self.check_one(sql);
            return if without.check_one(sql).is_err() { refused } else { Ok(()) };
        }
        if sql.contains('\\') {
            let refused = self.check_one(sql);
            let others = [sql.replace('\\', "_"), without_escapes(sql)];
            let all = refused.is_err() && others.iter().all(|other| self.check_one(other).is_err());
            return if all { refused } else { Ok(()) };
        }
        self.check_one(sql)
    }

    /// How its statements are read.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            AllowedStatements::Reading(dialect) | AllowedStatements::Any(dialect) => dialect,
            AllowedStatements::Show => Dialect::Postgres,
        }
    }

    fn check_one(self, sql: &str) -> Result<()> {
        match self {
            AllowedStatements::Reading(dialect) => check_read_only(sql, dialect),
            AllowedStatements::Any(dialect) => check_any(sql, dialect),
            AllowedStatements::Show => check_show(sql),
        }
    }
}

/// The text without each backslash and the character that it escapes.
fn without_escapes(sql: &str) -> String {
    let mut characters = sql.chars();
    let mut text = String::with_capacity(sql.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// Accepts one statement that starts with SELECT, WITH, VALUES, TABLE, SHOW or EXPLAIN (after comments and `(`) and,
/// for MySQL, holds no `INTO` outside strings, comments and backticks: its read-only mode lets `INTO OUTFILE`,
/// `INTO DUMPFILE` and `INTO @var` through, and a reading statement has no other. For PostgreSQL, an `EXPLAIN` holds
/// neither `CREATE` nor `INTO`, and no statement calls what writes, signals or runs further SQL in spite of that mode.
///
/// # Errors
/// `read_only`, naming what was found and what to do about it.
pub fn check_read_only(sql: &str, dialect: Dialect) -> Result<()> {
    let code = || Lexer::new(sql, dialect);
    let first = code().find(|token| !token.is(b'('));
    // A server older or newer than the number in a `/*!` comment skips it: the rest must be reading as well.
    let unconditional = code().find(|token| !token.conditional && !token.is(b'('));
    if first.is_none() {
        return Err(Error::new(Reason::ReadOnly, "the statement is empty"));
    }
    check_single(sql, dialect)?;
    for token in [first, unconditional].into_iter().flatten() {
        if !READING.iter().any(|keyword| token.is_word(keyword)) {
            let found = format!("a statement may start with {}, found {}", READING.join(", "), token.shown());
            return Err(Error::new(Reason::ReadOnly, found).with_hint(instead_of(&token)));
        }
    }
    if dialect.is_postgres() && first.is_some_and(|token| token.is_word("EXPLAIN")) {
        // Its read-only mode lets EXPLAIN ANALYZE make the table of CREATE TABLE AS and SELECT INTO.
        if let Some(token) = code().find(|token| token.is_word("CREATE") || token.is_word("INTO")) {
            return Err(refused(format!("EXPLAIN ANALYZE would run {}", token.shown())));
        }
    }
    if dialect.is_postgres() {
        check_functions(sql, dialect)?;
    }
    if dialect == Dialect::MySql {
        if let Some((first, second)) =
            locking(code()).or_else(|| locking(code().filter(|token| !token.conditional)))
        {
            return Err(refused(format!("{first} {second} locks rows, and who writes them waits")));
        }
        if let Some(name) =
            writing_call(code()).or_else(|| writing_call(code().filter(|token| !token.conditional)))
        {
            return Err(refused(format!("{name} writes, changes settings or takes a lock")));
        }
        for token in code() {
            if token.is_word("INTO") {
                return Err(refused(
                    "INTO writes to a file or a variable (a column named so needs backticks)".to_owned(),
                ));
            }
            if token.kind == Kind::Straddling {
                return Err(refused("a string or comment crosses the end of a /*! comment".to_owned()));
            }
        }
    }
    Ok(())
}

/// Refuses what PostgreSQL's read-only mode lets through: calls of the functions of `refused_functions`, however their
/// names are written. One of a single argument may be called by a point behind a value, like a column: `(x).ts_stat`; behind
/// a name a point is never a call of one, as none takes a row.
fn check_functions(sql: &str, dialect: Dialect) -> Result<()> {
    let mut lexer = Lexer::new(sql, dialect);
    // Whether what stands before is a point, and whether that is one behind a value, or behind a column of it.
    let (mut after_point, mut of_value) = (false, false);
    while let Some(token) = lexer.next() {
        let start = sql.len() - lexer.rest.len() - token.text.len();
        if token.is_word("UESCAPE") && (Lexer { ..lexer }).next().is_some_and(|next| next.hides_a_character())
        {
            let SqlPosition { line, column } = spot_at(sql, start);
            let message = format!(
                "UESCAPE (line {line}, column {column}) is read with one character in plain quotes only"
            );
            return Err(refused(message).at_sql_position(SqlPosition { line, column }));
        }
        if let Some(name) = lexer.name(&token)
            && let Some(effect) = effect(&name)
            && (after_point && of_value || (Lexer { ..lexer }).next().is_some_and(|next| next.is(b'(')))
        {
            let SqlPosition { line, column } = spot_at(sql, start);
            let message = format!(
                "{name} (line {line}, column {column}) {} in spite of the read-only mode",
                effect.as_str()
            );
            return Err(refused(message).at_sql_position(SqlPosition { line, column }));
        }
        of_value = token.is(b')') || token.is(b']') || of_value && (after_point || token.is(b'.'));
        after_point = token.is(b'.');
    }
    Ok(())
}

/// Line and column of a byte.
fn spot_at(sql: &str, at: usize) -> SqlPosition {
    let before = sql.get(..at).unwrap_or_default();
    let last = before.rsplit('\n').next().unwrap_or_default();
    SqlPosition { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

/// `FOR SHARE` or `LOCK IN SHARE MODE`, which MySQL's read-only mode lets through.
fn locking<'a>(code: impl Iterator<Item = Token<'a>>) -> Option<(&'static str, &'static str)> {
    let mut before = None::<Token<'a>>;
    for token in code {
        let follows = |word: &str| before.is_some_and(|before| before.is_word(word));
        if token.is_word("SHARE") && follows("FOR") {
            return Some(("FOR", "SHARE"));
        }
        if token.is_word("IN") && follows("LOCK") {
            return Some(("LOCK", "IN SHARE MODE"));
        }
        before = Some(token);
    }
    None
}

/// The name of the first function that is called and writes in spite of MySQL's read-only mode.
fn writing_call<'a>(code: impl Iterator<Item = Token<'a>>) -> Option<String> {
    let mut before = None::<Token<'a>>;
    for token in code {
        let name = before.filter(|_| token.is(b'(')).and_then(|before| before.name());
        if let Some(name) = name.filter(|name| writes_on_mysql(name)) {
            return Some(name);
        }
        before = Some(token);
    }
    None
}

/// True for a function that writes in spite of MySQL's read-only mode, by its name in capitals.
fn writes_on_mysql(name: &str) -> bool {
    WRITING_ON_MYSQL.iter().any(|known| name == *known || (known.ends_with('_') && name.starts_with(known)))
}

/// The statements of a text that holds several, without the `;` between them; blanks and comments alone are none.
#[must_use]
pub fn split_statements(sql: &str, dialect: Dialect) -> Vec<&str> {
    let mut found = Vec::new();
    let mut lexer = Lexer::new(sql, dialect);
    let (mut from, mut is_empty) = (0, true);
    loop {
        let token = lexer.next();
        let end = sql.len() - lexer.rest.len();
        let ends = token.is_none_or(|token| token.is(b';'));
        if ends && !is_empty {
            let end = if token.is_some() { end - 1 } else { end };
            found.extend(sql.get(from..end).map(str::trim));
        }
        is_empty = ends || is_empty && token.is_none();
        if ends {
            from = end;
        }
        if token.is_none() {
            return found;
        }
    }
}

/// True when the statement begins with these words, comments and blanks aside.
#[must_use]
pub fn begins_with(sql: &str, words: &[&str], dialect: Dialect) -> bool {
    let mut lexer = Lexer::new(sql, dialect);
    words.iter().all(|word| lexer.next().is_some_and(|token| token.is_word(word)))
}

fn refused(message: String) -> Error {
    Error::new(Reason::ReadOnly, message).with_hint("if that is wanted, set read_only: false on the target")
}

/// Accepts one statement.
///
/// # Errors
/// `read_only`, with where the others belong.
fn check_single(sql: &str, dialect: Dialect) -> Result<()> {
    if !has_second_statement(sql, dialect) {
        return Ok(());
    }
    let hint = if Lexer::new(sql, dialect).next().is_some_and(|first| first.is_one_of(SETTING)) {
        "a query is one statement: what comes before it belongs into `session_sql` of the target"
    } else {
        "write each as a query of its own"
    };
    let message = "only one statement may be run, found another after `;`";
    Err(Error::new(Reason::ReadOnly, message).with_hint(hint))
}

/// What no server runs, though the target may write: several statements, and a first word that is a slip of the pen.
fn check_any(sql: &str, dialect: Dialect) -> Result<()> {
    let mut code = Lexer::new(sql, dialect).filter(|token| !token.is(b'('));
    let Some(first) = code.next() else { return Ok(()) };
    // The bodies of routines and compound statements hold `;`.
    let is_compound = first.is_word("CREATE")
        || first.is_word("ALTER")
        || (first.is_word("BEGIN") && code.next().is_some_and(|second| second.is_word("NOT")));
    if !is_compound {
        check_single(sql, dialect)?;
    }
    match first.meant().filter(|meant| first.is_slip_of(meant)) {
        Some(meant) => {
            let error = Error::new(Reason::Sql, format!("no statement starts with {}", first.shown()));
            Err(error.with_hint(format!("did you mean {meant}?")))
        }
        None => Ok(()),
    }
}

fn check_show(sql: &str) -> Result<()> {
    check_single(sql, Dialect::Postgres)?;
    match Lexer::new(sql, Dialect::Postgres).next() {
        Some(first) if !first.is_word("SHOW") => {
            let found = format!("PgBouncer's console answers SHOW alone, found {}", first.shown());
            Err(Error::new(Reason::ReadOnly, found)
                .with_hint("a database behind the pooler is a target of the driver postgres"))
        }
        _ => Ok(()),
    }
}

/// What to do about a statement that starts with `first`.
fn instead_of(first: &Token<'_>) -> String {
    if let Some((_, instead)) = OTHER.iter().find(|(words, _)| first.is_one_of(words)) {
        return (*instead).to_owned();
    }
    match first.meant() {
        Some(meant) => format!("did you mean {meant}?"),
        None => "a query is one statement that returns rows".to_owned(),
    }
}

/// The first comment that goes on, where a line of the file ends at one of `folds`, with code of the next line: what of
/// it stands before.
#[must_use]
pub fn swallowing_comment<'s>(sql: &'s str, folds: &[usize], dialect: Dialect) -> Option<&'s str> {
    line_comments(sql, dialect).into_iter().find_map(|comment| {
        let within = folds.iter().filter(|fold| comment.start < **fold && **fold < comment.end);
        let swallows = |fold: &&usize| {
            let next = sql.get(**fold..comment.end).unwrap_or_default().trim_start();
            let is_comment = next.starts_with("--") || (dialect == Dialect::MySql && next.starts_with('#'));
            !is_comment && !next.trim_matches([';', ' ']).is_empty()
        };
        let mut within = within.peekable();
        let first = within.peek().copied()?;
        within
            .any(|fold| swallows(&fold))
            .then(|| sql.get(comment.start..*first).unwrap_or_default().trim_end())
    })
}

/// The `--` and `#` comments of a statement, each up to its line end.
fn line_comments(sql: &str, dialect: Dialect) -> Vec<Range<usize>> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut comments = Vec::new();
    while !lexer.rest.is_empty() {
        if lexer.at_line_comment() {
            let start = sql.len() - lexer.rest.len();
            let length = lexer.line_comment();
            Lexer::take(&mut lexer, length);
            comments.push(start..start + length);
        } else {
            lexer.step();
        }
    }
    comments
}

/// True when a `;` outside strings and comments is followed by more than blanks, comments and further `;`.
#[must_use]
pub fn has_second_statement(sql: &str, dialect: Dialect) -> bool {
    Lexer::new(sql, dialect).skip_while(|token| !token.is(b';')).any(|token| !token.is(b';'))
}

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A string or a quoted name.
    Quoted,
    /// A number.
    Number,
    /// Any other single byte.
    Byte,
    /// A string or line comment inside a `/*!` comment that holds `*/`: servers disagree on where it ends.
    Straddling,
}

/// One piece of code, blanks and comments being none.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
    /// Inside `/*! … */`: code to some servers, a comment to others.
    conditional: bool,
}

impl Token<'_> {
    fn is(&self, byte: u8) -> bool {
        self.kind == Kind::Byte && self.text == [byte]
    }

    fn is_word(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is_word(keyword))
    }

    /// The name that it is to MySQL, in capitals: a word, or what stands in quotes that are not a string's everywhere.
    fn name(&self) -> Option<String> {
        let quoted = |quote: u8| {
            let inner = self.text.strip_prefix(&[quote])?.strip_suffix(&[quote])?;
            let (once, twice) = (char::from(quote).to_string(), char::from(quote).to_string().repeat(2));
            Some(String::from_utf8_lossy(inner).replace(&twice, &once).to_uppercase())
        };
        match self.kind {
            Kind::Word => Some(String::from_utf8_lossy(self.text).to_uppercase()),
            Kind::Quoted => quoted(b'`').or_else(|| quoted(b'"')),
            Kind::Number | Kind::Byte | Kind::Straddling => None,
        }
    }

    /// A string behind UESCAPE that is not one character in plain quotes.
    fn hides_a_character(&self) -> bool {
        let text = String::from_utf8_lossy(self.text);
        self.kind == Kind::Quoted
            && !text.starts_with('"')
            && !(text.starts_with('\'') && text.chars().count() == 3)
    }

    /// The reading keyword that was probably meant.
    fn meant(&self) -> Option<&'static str> {
        let word = std::str::from_utf8(self.text).ok().filter(|_| self.kind == Kind::Word)?;
        nearest(word, READING)
    }

    /// One slip away from a keyword: further ones may be keywords of a server that this has not heard of.
    fn is_slip_of(&self, keyword: &str) -> bool {
        let word = String::from_utf8_lossy(self.text).to_uppercase();
        strsim::damerau_levenshtein(&word, keyword) == 1
    }

    fn shown(&self) -> String {
        match self.kind {
            Kind::Word => String::from_utf8_lossy(self.text).to_uppercase(),
            Kind::Number | Kind::Byte => format!("`{}`", self.text.escape_ascii()),
            Kind::Quoted | Kind::Straddling => "a quoted text".to_owned(),
        }
    }
}

/// Splits a statement into tokens. An unterminated string or comment ends with the text.
struct Lexer<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    conditional: bool,
}

impl<'a> Lexer<'a> {
    fn new(sql: &'a str, dialect: Dialect) -> Self {
        Lexer { rest: sql.as_bytes(), dialect, conditional: false }
    }

    /// Removes the first `length` bytes, or what is there, and returns them.
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn token(&mut self, kind: Kind, length: usize) -> Token<'a> {
        let text = self.take(length);
        let crosses = self.conditional && kind == Kind::Quoted && find(text, b"*/").is_some();
        let kind = if crosses { Kind::Straddling } else { kind };
        Token { kind, text, conditional: self.conditional }
    }

    /// True when `--` or `#` starts a line comment here.
    fn at_line_comment(&self) -> bool {
        match (self.dialect, self.rest) {
            (Dialect::MySql, [b'#', ..] | [b'-', b'-']) => true,
            // `1--1` is arithmetic to MySQL.
            (Dialect::MySql, [b'-', b'-', next, ..]) => next.is_ascii_whitespace() || next.is_ascii_control(),
            (_, [b'-', b'-', ..]) => self.dialect != Dialect::MySql,
            _ => false,
        }
    }

    /// Length of the line comment at the start, up to its line end.
    fn line_comment(&self) -> usize {
        let ends = |byte: &u8| *byte == b'\n' || (*byte == b'\r' && self.dialect.is_postgres());
        self.rest.iter().position(ends).unwrap_or(self.rest.len())
    }

    /// Length of the `/* … */` at the start, to the end of the text where it is not closed.
    fn block_comment(&self) -> usize {
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(pair) = self.rest.get(at..at + 2) {
            match pair {
                b"/*" if depth == 0 || self.dialect.is_postgres() => depth += 1,
                b"*/" if depth == 1 => return at + 2,
                b"*/" => depth -= 1,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
        }
        self.rest.len()
    }

    /// Length of the opening `/*!`, `/*M!` with its version number, where the dialect reads what follows as code.
    fn conditional_opening(&self) -> Option<usize> {
        if self.dialect != Dialect::MySql {
            return None;
        }
        let mark = [&b"/*!"[..], b"/*M!"].into_iter().find(|mark| self.rest.starts_with(mark))?;
        let digits =
            self.rest.iter().skip(mark.len()).take(6).take_while(|byte| byte.is_ascii_digit()).count();
        Some(mark.len() + digits)
    }

    /// Length of the quoted text at the start, whose closing byte doubled is itself; `escapes` honours backslashes.
    fn quoted(&self, closing: u8, escapes: bool) -> usize {
        let mut at = 1;
        while let Some(byte) = self.rest.get(at) {
            at += 1;
            if *byte == b'\\' && escapes {
                at += 1;
            } else if *byte == closing {
                if self.rest.get(at) != Some(&closing) || closing == b']' {
                    return at;
                }
                at += 1;
            }
        }
        self.rest.len()
    }

    /// Length of the number at the start: digits, a fraction, an exponent.
    fn number(&self) -> usize {
        let digits =
            |from: usize| self.rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = digits(0);
        if self.rest.get(at) == Some(&b'.') {
            at += 1 + digits(at + 1);
        }
        if matches!(self.rest.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.rest.get(at + 1), Some(b'+' | b'-')));
            match digits(at + 1 + sign) {
                0 => {}
                exponent => at += 1 + sign + exponent,
            }
        }
        at
    }

    /// Length of a string of PostgreSQL whose quote stands at `at`. Blanks that hold a line end, and line comments, may
    /// stand between its parts; a part is read as the first one is.
    fn string(&self, at: usize, escapes: bool) -> usize {
        let part = |at: usize| {
            let rest = self.rest.get(at..).unwrap_or_default();
            at + Lexer { rest, ..*self }.quoted(b'\'', escapes)
        };
        let mut end = part(at);
        while let Some(next) = self.next_part(end) {
            end = part(next);
        }
        end
    }

    /// Where the string that ends at `end` goes on.
    fn next_part(&self, end: usize) -> Option<usize> {
        let mut ahead = Lexer { rest: self.rest.get(end..)?, ..*self };
        let mut has_line_end = false;
        loop {
            match ahead.rest.first()? {
                b'\n' | b'\r' => {
                    has_line_end = true;
                    Lexer::take(&mut ahead, 1);
                }
                byte if byte.is_ascii_whitespace() || *byte == 0x0b => drop(Lexer::take(&mut ahead, 1)),
                b'-' if ahead.at_line_comment() => {
                    let length = ahead.line_comment();
                    Lexer::take(&mut ahead, length);
                }
                b'\'' if has_line_end => return Some(self.rest.len() - ahead.rest.len()),
                _ => return None,
            }
        }
    }

    /// Length of the `$tag$ … $tag$` at the start, if it is one.
    fn dollar_quoted(&self) -> Option<usize> {
        let inner = self.rest.get(1..)?;
        let tag = inner.iter().position(|byte| *byte == b'$')?;
        let legal = inner
            .iter()
            .take(tag)
            .enumerate()
            .all(|(at, byte)| is_word_start(*byte) || (at > 0 && byte.is_ascii_digit()));
        let (opening, body) = self.rest.split_at_checked(tag + 2).filter(|_| legal)?;
        Some(find(body, opening).map_or(self.rest.len(), |end| end + 2 * opening.len()))
    }

    /// The quoted text at the start, if there is one.
    fn at_quoted(&self) -> Option<usize> {
        let escapes = matches!(self.dialect, Dialect::MySql | Dialect::PostgresWithEscapes);
        match (self.dialect, self.rest) {
            (Dialect::Postgres | Dialect::PostgresWithEscapes, [b'\'', ..]) => Some(self.string(0, escapes)),
            (_, [b'\'', ..]) => Some(self.quoted(b'\'', escapes)),
            (_, [b'"', ..]) => Some(self.quoted(b'"', self.dialect == Dialect::MySql)),
            (Dialect::MySql | Dialect::Sqlite, [b'`', ..]) => Some(self.quoted(b'`', false)),
            (Dialect::Sqlite, [b'[', ..]) => Some(self.quoted(b']', false)),
            (Dialect::Postgres | Dialect::PostgresWithEscapes, [b'$', ..]) => self.dollar_quoted(),
            (Dialect::Postgres | Dialect::PostgresWithEscapes, [b'u' | b'U', b'&', b'"', ..]) => {
                let name = Lexer { rest: self.rest.get(2..)?, ..*self };
                Some(name.quoted(b'"', false) + 2)
            }
            // A backslash in it escapes a character, never the quote.
            (Dialect::Postgres | Dialect::PostgresWithEscapes, [b'u' | b'U', b'&', b'\'', ..]) => {
                Some(self.string(2, false))
            }
            (Dialect::Postgres | Dialect::PostgresWithEscapes, [b'e' | b'E', b'\'', ..]) => {
                Some(self.string(1, true))
            }
            _ => None,
        }
    }
}

impl Lexer<'_> {
    /// The name that `token`, which was just taken, is to PostgreSQL: quoted ones as they are, others in lower case.
    /// `None` for what is no name. Takes the clause UESCAPE behind a name.
    fn name(&mut self, token: &Token<'_>) -> Option<String> {
        let text = String::from_utf8_lossy(token.text);
        if token.kind == Kind::Word {
            // In a Turkish database of one byte a character the server's lower case of `İ` is `i`.
            return Some(text.replace('\u{130}', "i").to_lowercase());
        }
        if token.kind != Kind::Quoted {
            return None;
        }
        let (quoted, is_unicode) = match text.strip_prefix(['u', 'U']).and_then(|text| text.strip_prefix('&'))
        {
            Some(quoted) => (quoted, true),
            None => (text.as_ref(), false),
        };
        let inner = quoted.strip_prefix('"')?;
        let plain = inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\"");
        Some(if is_unicode { unescaped(&plain, self.escape()) } else { plain })
    }

    /// The character of the clause UESCAPE, which is taken where it stands here.
    fn escape(&mut self) -> char {
        let mut ahead = Lexer { ..*self };
        let is_clause = ahead.next().is_some_and(|token| token.is_word("UESCAPE"));
        let given = ahead.next().filter(|token| is_clause && token.kind == Kind::Quoted);
        match given.map(|token| String::from_utf8_lossy(token.text).into_owned()) {
            // What is written otherwise is met, and refused, as the clause that it is.
            Some(text) if text.starts_with('\'') && text.chars().count() == 3 => {
                (self.rest, self.conditional) = (ahead.rest, ahead.conditional);
                text.trim_matches('\'').chars().next().unwrap_or('\\')
            }
            _ => '\\',
        }
    }
}

/// A name with its Unicode escapes read: `\006c`, `\+00006c`, and the escape character twice for itself.
fn unescaped(text: &str, escape: char) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
        if character != escape {
            name.push(character);
            continue;
        }
        if let Some(behind) = rest.strip_prefix(escape) {
            name.push(escape);
            rest = behind;
            continue;
        }
        let (digits, behind) = match rest.strip_prefix('+') {
            Some(long) => (long.get(..6), long.get(6..)),
            None => (rest.get(..4), rest.get(4..)),
        };
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        // What is no escape is an error to the server.
        name.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = behind.unwrap_or_default();
    }
    name
}

impl<'a> Lexer<'a> {
    /// Takes one token, comment or blank from the start; the token where it was one.
    fn step(&mut self) -> Option<Token<'a>> {
        let first = *self.rest.first()?;
        if self.at_line_comment() {
            let length = self.line_comment();
            let comment = self.token(Kind::Quoted, length);
            return (comment.kind == Kind::Straddling).then_some(comment);
        }
        if let Some(length) = self.conditional_opening() {
            self.take(length);
            self.conditional = true;
        } else if self.rest.starts_with(b"/*") {
            self.take(self.block_comment());
        } else if self.conditional && self.rest.starts_with(b"*/") {
            self.take(2);
            self.conditional = false;
        } else if first.is_ascii_whitespace() || first == 0x0b {
            self.take(1);
        } else if let Some(length) = self.at_quoted() {
            return Some(self.token(Kind::Quoted, length));
        } else if is_word_start(first) {
            let length = self.rest.iter().take_while(|byte| is_word_part(**byte)).count();
            return Some(self.token(Kind::Word, length));
        } else if first.is_ascii_digit() {
            // No more than the number: `1e1INTO` is a number and a keyword to MySQL.
            return Some(self.token(Kind::Number, self.number()));
        } else {
            return Some(self.token(Kind::Byte, 1));
        }
        None
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while !self.rest.is_empty() {
            if let Some(token) = self.step() {
                return Some(token);
            }
        }
        None
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}
