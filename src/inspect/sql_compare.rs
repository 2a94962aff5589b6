//! Compares two statements by their tokens, and sees what a statement selects. What runs is decided in
//! `driver/statement`.

use crate::driver::sql_lexer::{Dialect, TokenKind, code};

/// The words, strings and signs of a statement, without comments; words in lower case, strings and quoted names as
/// they are. SQLite's dialect reads the quotes of every database as quotes.
pub(super) fn tokens(sql: &str) -> Vec<String> {
    let text = |kind, text: &str| if kind == TokenKind::Word { text.to_lowercase() } else { text.to_owned() };
    code(sql, Dialect::Sqlite).into_iter().map(|token| text(token.kind, token.text)).collect()
}

/// A `SELECT` over rows: what it selects, and from where on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Select<'t> {
    /// Between `SELECT` and its `FROM`.
    pub(super) list: &'t [String],
    /// From `FROM` to the end.
    pub(super) rows: &'t [String],
}

/// Words that keep two selects over the same rows from being one.
const INSEPARABLE: [&str; 7] = ["union", "intersect", "except", "limit", "offset", "fetch", "into"];

/// The parts of a plain select; `None` for any other statement, and for one without `FROM`.
pub(super) fn select(tokens: &[String]) -> Option<Select<'_>> {
    let (first, rest) = tokens.split_first()?;
    if first != "select" || rest.first().is_some_and(|word| word == "distinct") {
        return None;
    }
    let mut depth = 0_usize;
    let from = rest.iter().position(|token| {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token == "from"
    })?;
    let (list, rows) = rest.split_at(from);
    (!rows.iter().any(|token| INSEPARABLE.contains(&token.as_str()))).then_some(Select { list, rows })
}

impl Select<'_> {
    /// True when its rows are summed up into one.
    pub(super) fn is_one_row(&self) -> bool {
        const AGGREGATES: [&str; 5] = ["count", "sum", "avg", "min", "max"];
        let calls = |pair: &[String]| matches!(pair, [name, open] if AGGREGATES.contains(&name.as_str()) && open == "(");
        !self.rows.iter().any(|token| token == "group") && self.list.windows(2).any(calls)
    }
}

/// What makes the rows of a statement depend on when it runs.
#[rustfmt::skip]
const CURRENT_TIME: [&str; 16] = [
    "now", "current_timestamp", "current_date", "current_time", "localtimestamp", "localtime", "clock_timestamp",
    "statement_timestamp", "transaction_timestamp", "sysdate", "curdate", "curtime", "utc_timestamp", "utc_date",
    "unix_timestamp", "getdate",
];

/// The first word by which old rows leave the result: the current time, or a `LIMIT`.
pub(super) fn moving(tokens: &[String]) -> Option<&str> {
    let moves = |token: &&String| {
        CURRENT_TIME.contains(&token.as_str())
            || matches!(token.as_str(), "limit" | "fetch")
            || token.eq_ignore_ascii_case("'now'")
    };
    tokens.iter().find(moves).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_case_make_no_difference() {
        let one = tokens("SELECT a, 'It''s -- A' FROM t -- all\nWHERE x>=1");
        let other = tokens("select /* both\n */ a,'It''s -- A'\nfrom T where X >= 1");
        assert_eq!(one, other);
        assert_ne!(tokens("SELECT 'a'"), tokens("SELECT 'A'"));
        for open in ["'a", "/* a", "-- a", "\"", ""] {
            assert!(tokens(open).len() <= 1, "{open}");
        }
    }

    #[test]
    fn a_select_is_parted_at_its_own_from() {
        let tokens = tokens("SELECT extract(epoch FROM x) AS e, (SELECT max(a) FROM b) FROM t WHERE y");
        let select = select(&tokens).expect("a select");
        assert_eq!(select.rows, ["from", "t", "where", "y"]);
        assert!(select.is_one_row());
        for text in [
            "SELECT 1",
            "SHOW x",
            "SELECT DISTINCT a FROM t",
            "SELECT a FROM t LIMIT 1",
            "WITH t AS (x) SELECT 1 FROM t",
        ] {
            assert_eq!(super::select(&super::tokens(text)), None, "{text}");
        }
    }

    #[test]
    fn a_window_that_moves_is_seen() {
        let moving = |sql| moving(&tokens(sql)).map(str::to_owned);
        assert_eq!(moving("SELECT a FROM t WHERE b > NOW() - interval '1 hour'").as_deref(), Some("now"));
        assert_eq!(moving("SELECT a FROM t WHERE b > datetime('now', '-1 day')").as_deref(), Some("'now'"));
        assert_eq!(moving("SELECT a FROM t ORDER BY id DESC LIMIT 9").as_deref(), Some("limit"));
        assert_eq!(moving("SELECT a, 'now and then' FROM t -- limit"), None);
    }
}
