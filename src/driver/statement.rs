//! The checks on a statement before it runs: what a target runs at all, and the first-keyword check in front of every
//! database's own read-only mode.
//!
//! They guard against mistakes, not against the person who writes the configuration. What a keyword does (a writing CTE,
//! `EXPLAIN ANALYZE` of a write, PostgreSQL's `SELECT … INTO table`) is left to the server's read-only mode. Sessions
//! check a statement before they send it; [`AllowedStatements`] refuses, when the configuration is loaded, what no server
//! would run. See docs/security.md.

use crate::error::{Error, Reason, Result};
use crate::yaml::keys::nearest;

use super::refused_functions::effect;
use super::sql_lexer::{Token, TokenKind, code, line_comments, position_of};

pub use super::sql_lexer::Dialect;

/// What a statement may start with while a target is read-only.
const READING: [&str; 6] = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"];

/// First words of statements that set up a session.
const SESSION_SETUP: &[&str] = &["SET", "RESET", "USE", "ATTACH", "DETACH", "PRAGMA"];

/// Other first words, and what to write instead. The first match counts.
const INSTEAD_OF: &[(&[&str], &str)] = &[
    (
        &["PRAGMA"],
        "read it with `SELECT * FROM pragma_NAME`; one that sets something belongs in `session_sql` of the target",
    ),
    (SESSION_SETUP, "what sets up a session belongs in `session_sql` of the target"),
    (
        &["BEGIN", "START", "COMMIT", "ROLLBACK", "END", "ABORT", "SAVEPOINT", "RELEASE"],
        "leave it out: with `snapshot: true` all queries of the target read in one transaction",
    ),
    (
        &["CALL", "DO", "EXECUTE", "EXEC"],
        "what it runs may write: select from a view or a function that returns the rows",
    ),
    (&["DESC", "DESCRIBE"], "write EXPLAIN, or select from information_schema.columns"),
    (WRITING, SET_READ_ONLY_FALSE),
];

/// First words of statements that write.
#[rustfmt::skip]
const WRITING: &[&str] = &[
    "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP", "RENAME", "GRANT",
    "REVOKE", "COPY", "LOCK", "VACUUM", "ANALYZE", "REINDEX", "REFRESH", "CLUSTER", "OPTIMIZE", "REPAIR", "FLUSH",
    "KILL", "NOTIFY", "IMPORT", "COMMENT",
];

const SET_READ_ONLY_FALSE: &str = "if that is wanted, set read_only: false on the target";

/// Functions of MySQL and MariaDB, of their plugins and of libraries that are often loaded, that write, change settings or
/// run other SQL in spite of the read-only mode. A name that ends with `_` stands for all that begin so.
#[rustfmt::skip]
const WRITING_ON_MYSQL: &[&str] = &[
    "ASYNCHRONOUS_CONNECTION_FAILOVER_", "AUDIT_API_MESSAGE_EMIT_", "AUDIT_LOG_ENCRYPTION_PASSWORD_SET",
    "AUDIT_LOG_FILTER_", "AUDIT_LOG_ROTATE", "FIREWALL_GROUP_", "GEN_DICTIONARY_DROP", "GEN_DICTIONARY_LOAD",
    "GROUP_REPLICATION_DISABLE_MEMBER_ACTION", "GROUP_REPLICATION_ENABLE_MEMBER_ACTION",
    "GROUP_REPLICATION_RESET_MEMBER_ACTIONS", "GROUP_REPLICATION_SET_", "GROUP_REPLICATION_SWITCH_TO_",
    "INNODB_REDO_LOG_", "INNODB_SET_", "KEYRING_KEY_GENERATE", "KEYRING_KEY_REMOVE", "KEYRING_KEY_STORE",
    "LOAD_REWRITE_RULES", "MASKING_DICTIONARIES_FLUSH", "MASKING_DICTIONARY_", "MROONGA_COMMAND",
    "MYSQL_FIREWALL_FLUSH_STATUS", "READ_FIREWALL_", "SERVICE_GET_", "SET_FIREWALL_", "SPIDER_BG_DIRECT_SQL",
    "SPIDER_COPY_TABLES", "SPIDER_DIRECT_SQL", "SYS_EVAL", "SYS_EXEC", "VERSION_TOKENS_",
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
    /// Those of a target that may only read, or of one that may write.
    pub fn of(read_only: bool, dialect: Dialect) -> Self {
        if read_only { AllowedStatements::Reading(dialect) } else { AllowedStatements::Any(dialect) }
    }

    /// Refuses what never runs, whatever the server is and says.
    ///
    /// # Errors
    /// `read_only`, `sql`: what was found and what to do about it.
    pub fn check(self, sql: &str) -> Result<()> {
        let dialect = self.dialect();
        let checked = self.check_as(sql, dialect);
        if checked.is_ok() || !sql.contains('\\') {
            return checked;
        }
        // What a backslash in a string means is a setting of the server: only what is refused either way is certain.
        let is_certain = if dialect.is_postgres() {
            self.check_as(sql, Dialect::PostgresWithEscapes).is_err()
        } else {
            let others = [sql.replace('\\', "_"), without_escapes(sql)];
            others.iter().all(|other| self.check_as(other, dialect).is_err())
        };
        if is_certain { checked } else { Ok(()) }
    }

    /// How its statements are read.
    pub fn dialect(self) -> Dialect {
        match self {
            AllowedStatements::Reading(dialect) | AllowedStatements::Any(dialect) => dialect,
            AllowedStatements::Show => Dialect::Postgres,
        }
    }

    fn check_as(self, sql: &str, dialect: Dialect) -> Result<()> {
        match self {
            AllowedStatements::Reading(_) => check_read_only(sql, dialect),
            AllowedStatements::Any(_) => check_any(sql, dialect),
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

/// Accepts one statement that starts with SELECT, WITH, VALUES, TABLE, SHOW or EXPLAIN (after comments and `(`) and
/// contains nothing that the database's own read-only mode lets through although it writes.
///
/// # Errors
/// `read_only`, naming what was found and what to do about it.
pub fn check_read_only(sql: &str, dialect: Dialect) -> Result<()> {
    let tokens = code(sql, dialect);
    let first = tokens.iter().find(|token| !token.is("("));
    // A server older or newer than the number in a `/*!` comment skips it: the rest must be reading as well.
    let unconditional = tokens.iter().find(|token| !token.conditional && !token.is("("));
    if first.is_none() {
        return Err(Error::new(Reason::ReadOnly, "the statement is empty"));
    }
    check_single(&tokens)?;
    for token in [first, unconditional].into_iter().flatten() {
        if !token.is_one_of(&READING) {
            let found = format!("a statement may start with {}, found {}", READING.join(", "), shown(token));
            return Err(Error::new(Reason::ReadOnly, found).with_hint(instead_of(token)));
        }
    }
    match dialect {
        Dialect::Postgres | Dialect::PostgresWithEscapes => check_postgres(sql, &tokens),
        Dialect::MySql => check_mysql(&tokens),
        Dialect::Sqlite => Ok(()),
    }
}

/// Refuses what PostgreSQL's read-only mode lets through: `EXPLAIN ANALYZE` of what makes a table, and calls of the functions
/// of `refused_functions`, however their names are written. A function of a single argument may be called by a point after
/// a value, like a column: `(x).ts_stat`; after a name a point is never a call of one, as none takes a row.
fn check_postgres(sql: &str, tokens: &[Token<'_>]) -> Result<()> {
    let is_explain = tokens.iter().find(|token| !token.is("(")).is_some_and(|first| first.is_word("EXPLAIN"));
    if let Some(token) = tokens.iter().find(|token| is_explain && token.is_one_of(&["CREATE", "INTO"])) {
        return Err(refused(format!("EXPLAIN ANALYZE would run {}", shown(token))));
    }
    let refused_at = |token: &Token<'_>, what: &str, why: &str| {
        let position = position_of(sql, token.start);
        let place = format!("line {}, column {}", position.line, position.column);
        Err(refused(format!("{what} ({place}) {why}")).at_sql_position(position))
    };
    // Whether the token before is a point, and whether that is one after a value, or after a column of one.
    let (mut after_point, mut of_value) = (false, false);
    let mut rest = tokens;
    while let Some((token, behind)) = rest.split_first() {
        if token.is_word("UESCAPE") && behind.first().is_some_and(hides_a_character) {
            return refused_at(token, "UESCAPE", "is read with one character in plain quotes only");
        }
        let (name, next) = postgres_name(token, behind);
        rest = next;
        if let Some(name) = name
            && let Some(effect) = effect(&name)
            && (after_point && of_value || rest.first().is_some_and(|next| next.is("(")))
        {
            let why = format!("{} in spite of the read-only mode", effect.as_str());
            return refused_at(token, &name, &why);
        }
        of_value = token.is(")") || token.is("]") || of_value && (after_point || token.is("."));
        after_point = token.is(".");
    }
    Ok(())
}

/// The name that `token` is to PostgreSQL, a quoted one as it is, another one in lower case; and the tokens behind it,
/// without its clause UESCAPE.
fn postgres_name<'t, 's>(token: &Token<'s>, behind: &'t [Token<'s>]) -> (Option<String>, &'t [Token<'s>]) {
    if token.kind == TokenKind::Word {
        // In a Turkish database of one byte a character the server's lower case of `İ` is `i`.
        return (Some(token.text.replace('\u{130}', "i").to_lowercase()), behind);
    }
    let unicode = token.text.strip_prefix(['u', 'U']).and_then(|text| text.strip_prefix('&'));
    let inner = unicode.unwrap_or(token.text).strip_prefix('"').filter(|_| token.kind == TokenKind::Quoted);
    let plain = inner.map(|inner| inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\""));
    match (plain, behind) {
        (Some(plain), [clause, escape, rest @ ..]) if unicode.is_some() && clause.is_word("UESCAPE") => {
            match plain_character(escape) {
                Some(escape) => (Some(unescaped(&plain, escape)), rest),
                None => (Some(unescaped(&plain, '\\')), behind),
            }
        }
        (Some(plain), _) if unicode.is_some() => (Some(unescaped(&plain, '\\')), behind),
        (plain, _) => (plain, behind),
    }
}

/// The character of a string that is one character in plain quotes.
fn plain_character(token: &Token<'_>) -> Option<char> {
    let mut characters = token.text.strip_prefix('\'')?.chars();
    let character = characters.next()?;
    (token.kind == TokenKind::Quoted && characters.as_str() == "'").then_some(character)
}

/// A string after UESCAPE that is not one character in plain quotes.
fn hides_a_character(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Quoted && !token.text.starts_with('"') && plain_character(token).is_none()
}

/// A name with its Unicode escapes read: `\006c`, `\+00006c`, and the escape character twice for itself.
fn unescaped(text: &str, escape: char) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != escape {
            name.push(character);
        } else if let Some(behind) = rest.as_str().strip_prefix(escape) {
            name.push(escape);
            rest = behind.chars();
        } else {
            let (digits, count) = match rest.as_str().strip_prefix('+') {
                Some(long) => (long, 6),
                None => (rest.as_str(), 4),
            };
            let code = digits.get(..count).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            // What is not an escape is an error to the server.
            name.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = digits.get(count..).unwrap_or_default().chars();
        }
    }
    name
}

/// Refuses what MySQL's read-only mode lets through: `FOR SHARE` and `LOCK IN SHARE MODE`; `INTO OUTFILE`, `INTO DUMPFILE`
/// and `INTO @var`, besides which a reading statement has no INTO; and calls of functions that write. Each is looked for
/// with and without what stands in `/*! … */`.
fn check_mysql(tokens: &[Token<'_>]) -> Result<()> {
    let unconditional: Vec<Token<'_>> = tokens.iter().copied().filter(|token| !token.conditional).collect();
    for pair in tokens.windows(2).chain(unconditional.windows(2)) {
        let [first, second] = pair else { continue };
        for (words, shown) in [(["FOR", "SHARE"], "FOR SHARE"), (["LOCK", "IN"], "LOCK IN SHARE MODE")] {
            if first.is_word(words[0]) && second.is_word(words[1]) {
                return Err(refused(format!("{shown} locks rows, and sessions that write them wait")));
            }
        }
        if let Some(name) = mysql_name(first).filter(|name| second.is("(") && writes_on_mysql(name)) {
            return Err(refused(format!("{name} writes, changes settings or takes a lock")));
        }
    }
    for token in tokens {
        if token.is_word("INTO") {
            let message = "INTO writes to a file or a variable (a column with this name needs backticks)";
            return Err(refused(message.to_owned()));
        }
        if token.kind == TokenKind::Straddling {
            return Err(refused("a string or comment crosses the end of a /*! comment".to_owned()));
        }
    }
    Ok(())
}

/// The name that a token is to MySQL, in capitals: a word, or what stands in quotes that are not a string's everywhere.
fn mysql_name(token: &Token<'_>) -> Option<String> {
    let quoted = |quote: char| {
        let inner = token.text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner.replace(&quote.to_string().repeat(2), &quote.to_string()).to_uppercase())
    };
    match token.kind {
        TokenKind::Word => Some(token.text.to_uppercase()),
        TokenKind::Quoted => quoted('`').or_else(|| quoted('"')),
        _ => None,
    }
}

/// True for a function that writes in spite of MySQL's read-only mode, by its name in capitals.
fn writes_on_mysql(name: &str) -> bool {
    WRITING_ON_MYSQL.iter().any(|known| name == *known || (known.ends_with('_') && name.starts_with(known)))
}

/// What no server runs although the target may write: several statements, and a first word that is a slip of the pen.
fn check_any(sql: &str, dialect: Dialect) -> Result<()> {
    let tokens = code(sql, dialect);
    let mut words = tokens.iter().filter(|token| !token.is("("));
    let Some(first) = words.next() else { return Ok(()) };
    // The bodies of routines and compound statements hold `;`.
    let is_compound = first.is_one_of(&["CREATE", "ALTER"])
        || (first.is_word("BEGIN") && words.next().is_some_and(|second| second.is_word("NOT")));
    if !is_compound {
        check_single(&tokens)?;
    }
    // One slip away from a keyword: further ones may be keywords of a server that this has not heard of.
    let is_slip = |meant: &&str| strsim::damerau_levenshtein(&first.text.to_uppercase(), meant) == 1;
    match meant(first).filter(is_slip) {
        Some(meant) => {
            let error = Error::new(Reason::Sql, format!("no statement starts with {}", shown(first)));
            Err(error.with_hint(format!("did you mean {meant}?")))
        }
        None => Ok(()),
    }
}

fn check_show(sql: &str) -> Result<()> {
    let tokens = code(sql, Dialect::Postgres);
    check_single(&tokens)?;
    match tokens.first() {
        Some(first) if !first.is_word("SHOW") => {
            let found = format!("PgBouncer's console answers SHOW alone, found {}", shown(first));
            Err(Error::new(Reason::ReadOnly, found)
                .with_hint("a database behind the pooler is a target of the driver postgres"))
        }
        _ => Ok(()),
    }
}

/// Accepts one statement.
fn check_single(tokens: &[Token<'_>]) -> Result<()> {
    if !is_several(tokens) {
        return Ok(());
    }
    let hint = if tokens.first().is_some_and(|first| first.is_one_of(SESSION_SETUP)) {
        "a query is one statement: what comes before it belongs in `session_sql` of the target"
    } else {
        "write each as a query of its own"
    };
    Err(Error::new(Reason::ReadOnly, "only one statement may be run, found another after `;`")
        .with_hint(hint))
}

fn is_several(tokens: &[Token<'_>]) -> bool {
    tokens.iter().skip_while(|token| !token.is(";")).any(|token| !token.is(";"))
}

/// True when a `;` outside strings and comments is followed by more than blanks, comments and further `;`.
pub fn has_second_statement(sql: &str, dialect: Dialect) -> bool {
    is_several(&code(sql, dialect))
}

/// The statements of a text that holds several, without the `;` between them. Blanks and comments alone are none.
pub fn split_statements(sql: &str, dialect: Dialect) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut from, mut is_empty) = (0, true);
    for token in code(sql, dialect) {
        if !token.is(";") {
            is_empty = false;
            continue;
        }
        found.extend(sql.get(from..token.start).filter(|_| !is_empty));
        (from, is_empty) = (token.start + 1, true);
    }
    found.extend(sql.get(from..).filter(|_| !is_empty));
    found.into_iter().map(str::trim).collect()
}

/// True when the statement begins with these words, comments and blanks aside.
pub fn begins_with(sql: &str, words: &[&str], dialect: Dialect) -> bool {
    let tokens = code(sql, dialect);
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is_word(word))
}

fn refused(message: String) -> Error {
    Error::new(Reason::ReadOnly, message).with_hint(SET_READ_ONLY_FALSE)
}

/// What to do about a statement that starts with `first`.
fn instead_of(first: &Token<'_>) -> String {
    let known = INSTEAD_OF.iter().find(|(words, _)| first.is_one_of(words));
    match (known, meant(first)) {
        (Some((_, instead)), _) => (*instead).to_owned(),
        (None, Some(meant)) => format!("did you mean {meant}?"),
        (None, None) => "a query is one statement that returns rows".to_owned(),
    }
}

/// The reading keyword that was probably meant.
fn meant(token: &Token<'_>) -> Option<&'static str> {
    if token.kind == TokenKind::Word { nearest(token.text, READING) } else { None }
}

fn shown(token: &Token<'_>) -> String {
    match token.kind {
        TokenKind::Word => token.text.to_uppercase(),
        TokenKind::Number | TokenKind::Symbol => format!("`{}`", token.text.escape_default()),
        TokenKind::Quoted | TokenKind::LineComment | TokenKind::Straddling => "a quoted text".to_owned(),
    }
}

/// The first comment that continues, where a line of the file ends at one of `folds`, with code of the next line: the part
/// of it before that.
pub fn swallowing_comment<'s>(sql: &'s str, folds: &[usize], dialect: Dialect) -> Option<&'s str> {
    line_comments(sql, dialect).find_map(|comment| {
        let end = comment.start + comment.text.len();
        let mut within = folds.iter().copied().filter(|fold| comment.start < *fold && *fold < end).peekable();
        let first = *within.peek()?;
        let swallows = |fold: usize| {
            let next = sql.get(fold..end).unwrap_or_default().trim_start();
            let is_comment = next.starts_with("--") || (dialect == Dialect::MySql && next.starts_with('#'));
            !is_comment && !next.trim_matches([';', ' ']).is_empty()
        };
        within.any(swallows).then(|| sql.get(comment.start..first).unwrap_or_default().trim_end())
    })
}
