//! The SQL lexer of the whole program: it tells code from strings and comments, as each database reads them.
//!
//! It parses nothing. Another dialect is one more [`Dialect`] and its lines in [`Lexer`].

use crate::error::SqlPosition;

/// Whose comments and strings are read.
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
    pub(crate) fn is_postgres(self) -> bool {
        matches!(self, Dialect::Postgres | Dialect::PostgresWithEscapes)
    }
}

/// What a piece of a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or an unquoted name.
    Word,
    /// A string or a quoted name.
    Quoted,
    /// A number.
    Number,
    /// Any other single byte.
    Symbol,
    /// A comment up to its line end.
    LineComment,
    /// A string or line comment inside a `/*!` comment that holds `*/`: servers disagree on where it ends.
    Straddling,
}

/// One piece of a statement. Blanks and block comments are none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    /// The byte at which it starts.
    pub(crate) start: usize,
    /// Inside `/*! … */`: code to some servers, a comment to others.
    pub(crate) conditional: bool,
}

impl Token<'_> {
    /// True for this symbol.
    pub(crate) fn is(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }

    /// True for this keyword, in any case.
    pub(crate) fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// True for one of these keywords.
    pub(crate) fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is_word(keyword))
    }
}

/// The tokens of a statement without its comments.
pub(crate) fn code(sql: &str, dialect: Dialect) -> Vec<Token<'_>> {
    Lexer::new(sql, dialect).filter(|token| token.kind != TokenKind::LineComment).collect()
}

/// Its `--` and `#` comments.
pub(crate) fn line_comments(sql: &str, dialect: Dialect) -> impl Iterator<Item = Token<'_>> {
    Lexer::new(sql, dialect).filter(|token| token.kind == TokenKind::LineComment)
}

/// Line and column of a byte of a statement.
pub(crate) fn position_of(sql: &str, byte: usize) -> SqlPosition {
    let before = sql.get(..byte).unwrap_or_default();
    let last = before.rsplit('\n').next().unwrap_or_default();
    SqlPosition { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

/// Splits a statement into tokens. An unterminated string or comment ends with the text. Every token starts and ends at an
/// ASCII character or at an end of the text, so that it is text itself.
struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    dialect: Dialect,
    /// Inside `/*! … */`.
    conditional: bool,
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let first = *rest.first()?;
            let (kind, length) = if let Some(length) = self.line_comment() {
                (TokenKind::LineComment, length)
            } else if let Some(length) = self.quoted_text() {
                (TokenKind::Quoted, length)
            } else if is_word_start(first) {
                (TokenKind::Word, rest.iter().take_while(|byte| is_word_part(**byte)).count())
            } else if first.is_ascii_digit() {
                // No more than the number: `1e1INTO` is a number and a keyword to MySQL.
                (TokenKind::Number, number_length(rest))
            } else if let Some(length) = self.skipped() {
                self.at += length;
                continue;
            } else {
                (TokenKind::Symbol, 1)
            };
            return Some(self.take(kind, length));
        }
    }
}

impl<'a> Lexer<'a> {
    fn new(sql: &'a str, dialect: Dialect) -> Self {
        Lexer { sql, at: 0, dialect, conditional: false }
    }

    fn rest(&self) -> &'a [u8] {
        self.sql.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, kind: TokenKind, length: usize) -> Token<'a> {
        let start = self.at;
        self.at += length;
        let text = self.sql.get(start..self.at).unwrap_or_default();
        let may_straddle = matches!(kind, TokenKind::Quoted | TokenKind::LineComment);
        let straddles = self.conditional && may_straddle && text.contains("*/");
        let kind = if straddles { TokenKind::Straddling } else { kind };
        Token { kind, text, start, conditional: self.conditional }
    }

    /// Length of the blank, of the block comment, or of the border of a conditional one that is next.
    fn skipped(&mut self) -> Option<usize> {
        let rest = self.rest();
        if let Some(length) = self.conditional_opening() {
            self.conditional = true;
            Some(length)
        } else if rest.starts_with(b"/*") {
            Some(block_comment_length(rest, self.dialect.is_postgres()))
        } else if self.conditional && rest.starts_with(b"*/") {
            self.conditional = false;
            Some(2)
        } else {
            rest.first().filter(|byte| is_blank(**byte)).map(|_| 1)
        }
    }

    /// Length of the `--` or `#` comment that is next, up to its line end.
    fn line_comment(&self) -> Option<usize> {
        let rest = self.rest();
        let is_comment = match (self.dialect, rest) {
            (Dialect::MySql, [b'#', ..] | [b'-', b'-']) => true,
            // `1--1` is arithmetic to MySQL.
            (Dialect::MySql, [b'-', b'-', next, ..]) => next.is_ascii_whitespace() || next.is_ascii_control(),
            (Dialect::MySql, _) => false,
            _ => rest.starts_with(b"--"),
        };
        is_comment.then(|| line_length(rest, self.dialect))
    }

    /// Length of the opening `/*!`, `/*M!` with its version number, where the dialect reads what follows as code.
    fn conditional_opening(&self) -> Option<usize> {
        let rest = self.rest();
        let mark = [&b"/*!"[..], b"/*M!"].into_iter().find(|mark| rest.starts_with(mark))?;
        let digits = rest.iter().skip(mark.len()).take(6).take_while(|byte| byte.is_ascii_digit()).count();
        (self.dialect == Dialect::MySql).then_some(mark.len() + digits)
    }

    /// Length of the string or quoted name that is next.
    fn quoted_text(&self) -> Option<usize> {
        let rest = self.rest();
        let escapes = matches!(self.dialect, Dialect::MySql | Dialect::PostgresWithEscapes);
        if self.dialect.is_postgres() {
            return match rest {
                [b'\'', ..] => Some(postgres_string_length(rest, 0, escapes)),
                [b'e' | b'E', b'\'', ..] => Some(postgres_string_length(rest, 1, true)),
                // A backslash in it escapes a character, never the quote.
                [b'u' | b'U', b'&', b'\'', ..] => Some(postgres_string_length(rest, 2, false)),
                [b'u' | b'U', b'&', name @ ..] if name.starts_with(b"\"") => {
                    Some(2 + quoted_length(name, b'"', false))
                }
                [b'"', ..] => Some(quoted_length(rest, b'"', false)),
                [b'$', ..] => dollar_quoted_length(rest),
                _ => None,
            };
        }
        match (self.dialect, rest.first()?) {
            (_, b'\'') => Some(quoted_length(rest, b'\'', escapes)),
            (_, b'"') => Some(quoted_length(rest, b'"', escapes)),
            (_, b'`') => Some(quoted_length(rest, b'`', false)),
            (Dialect::Sqlite, b'[') => Some(quoted_length(rest, b']', false)),
            _ => None,
        }
    }
}

/// Length up to the line end.
fn line_length(rest: &[u8], dialect: Dialect) -> usize {
    let ends = |byte: &u8| *byte == b'\n' || (*byte == b'\r' && dialect.is_postgres());
    rest.iter().position(ends).unwrap_or(rest.len())
}

/// Length of the `/* … */` at the start.
fn block_comment_length(rest: &[u8], nests: bool) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" if depth == 0 || nests => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    rest.len()
}

/// Length of the quoted text at the start, whose closing byte doubled is itself; `escapes` honours backslashes.
fn quoted_length(rest: &[u8], closing: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        at += 1;
        if *byte == b'\\' && escapes {
            at += 1;
        } else if *byte == closing {
            if rest.get(at) != Some(&closing) || closing == b']' {
                return at;
            }
            at += 1;
        }
    }
    rest.len()
}

/// Length of a string of PostgreSQL whose quote is at `quote`. Blanks that hold a line end, and line comments, may stand
/// between its parts; a part is read as the first one is.
fn postgres_string_length(rest: &[u8], quote: usize, escapes: bool) -> usize {
    let mut end = quote;
    loop {
        end += quoted_length(rest.get(end..).unwrap_or_default(), b'\'', escapes);
        match gap_before_next_part(rest.get(end..).unwrap_or_default()) {
            Some(gap) => end += gap,
            None => return end,
        }
    }
}

/// Length of what stands before the next part of a string; `None` where it has no other.
fn gap_before_next_part(rest: &[u8]) -> Option<usize> {
    let (mut at, mut has_line_end) = (0, false);
    loop {
        let next = rest.get(at..)?;
        match *next.first()? {
            b'\'' => return has_line_end.then_some(at),
            b'-' if next.starts_with(b"--") => at += line_length(next, Dialect::Postgres),
            byte if is_blank(byte) => {
                has_line_end |= matches!(byte, b'\n' | b'\r');
                at += 1;
            }
            _ => return None,
        }
    }
}

/// Length of the `$tag$ … $tag$` at the start, if it is one.
fn dollar_quoted_length(rest: &[u8]) -> Option<usize> {
    let inner = rest.get(1..)?;
    let tag = inner.iter().position(|byte| *byte == b'$')?;
    let is_legal = |(at, byte): (usize, &u8)| is_word_start(*byte) || (at > 0 && byte.is_ascii_digit());
    if !inner.iter().take(tag).enumerate().all(is_legal) {
        return None;
    }
    let (opening, body) = rest.split_at_checked(tag + 2)?;
    let end = body.windows(opening.len()).position(|window| window == opening);
    Some(end.map_or(rest.len(), |end| end + 2 * opening.len()))
}

/// Length of the number at the start: digits, a fraction, an exponent.
fn number_length(rest: &[u8]) -> usize {
    let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = digits(0);
    if rest.get(at) == Some(&b'.') {
        at += 1 + digits(at + 1);
    }
    if matches!(rest.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
        match digits(at + 1 + sign) {
            0 => {}
            exponent => at += 1 + sign + exponent,
        }
    }
    at
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}
