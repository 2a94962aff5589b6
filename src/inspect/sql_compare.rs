//! Compares two statements by their tokens, and sees what a statement selects. What runs is decided in
//! `driver/statement`.

use crate::driver::sql_lexer::{Dialect, TokenKind, code};

/// The words, strings and signs of a statement, without comments; words in lower case, strings and quoted names as
/// they are. SQLite's dialect reads the quotes of every database as quotes.
pub(super) fn tokens(sql: &str) -> Vec<String> {
    let text = |kind, text: &str| if kind == TokenKind::Word { text.to_lowercase() } else { text.to_owned() };
    code(sql, Dialect::Sqlite).into_iter().map(|token| text(token.kind, token.text)).collect()
}

/// Each token with its place, after the number of parentheses that are open behind it.
pub(super) fn with_depth(tokens: &[String]) -> impl Iterator<Item = (usize, usize, &str)> {
    let mut depth = 0_usize;
    tokens.iter().enumerate().map(move |(at, token)| {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth, at, token.as_str())
    })
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
    let (_, from, _) = with_depth(rest).find(|(depth, _, token)| *depth == 0 && *token == "from")?;
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

/// The names of the columns that a statement returns, in lower case where they have no quotes; `None` where its text does
/// not tell: a `*`, an expression without a name, no `SELECT`.
pub fn column_names(sql: &str) -> Option<Vec<String>> {
    let tokens = tokens(sql);
    let mut outer = with_depth(&tokens).filter(|(depth, _, token)| *depth == 0 && *token != ")");
    let (_, start, _) = outer.by_ref().find(|(.., token)| *token == "select")?;
    let is_end = |token: &str| matches!(token, "from" | "union" | "where" | "order" | "limit" | ";");
    let (mut names, mut last) = (Vec::new(), start);
    let mut end = tokens.len();
    for (_, at, token) in outer {
        // A column may be called `limit`.
        let is_alias = at > 0 && tokens.get(at - 1).is_some_and(|before| before == "as");
        if is_end(token) && !is_alias {
            end = at;
            break;
        }
        if token == "," {
            names.push(column_name(tokens.get(last + 1..at)?)?);
            last = at;
        }
    }
    names.push(column_name(tokens.get(last + 1..end)?)?);
    Some(names)
}

/// The name of one expression of a list: its alias, or the column that it is.
fn column_name(expression: &[String]) -> Option<String> {
    let (last, before) = expression.split_last()?;
    let is_word = |text: &str| text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let name = match last.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None if is_word(last) => last.clone(),
        None => return None,
    };
    // `CASE … END` and `x::int` end in a word that is not a name; `a`, `t.a`, `a AS b` and `f(a) b` do.
    let is_named = match before.last().map(String::as_str) {
        None | Some("." | "as" | ")") => true,
        Some(":" | "::") => false,
        Some(word) => last != "end" && (is_word(word) || word.ends_with(['\'', '"']) || is_number(word)),
    };
    is_named.then_some(name)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// What makes the rows of a statement depend on when it runs.
const CURRENT_TIME: &str = "now current_timestamp current_date current_time localtimestamp localtime clock_timestamp \
    statement_timestamp transaction_timestamp sysdate curdate curtime utc_timestamp utc_date unix_timestamp getdate";

/// The first word by which old rows leave the result: the current time, or a `LIMIT`.
pub(super) fn moving(tokens: &[String]) -> Option<&str> {
    let moves = |token: &&String| {
        CURRENT_TIME.split(' ').any(|word| word == token.as_str())
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
    fn the_columns_of_a_statement_have_names() {
        for (sql, expected) in [
            ("SELECT a, t.b, count(*) AS n, sum(x) total FROM t", Some("a b n total")),
            (
                "WITH q AS (SELECT z FROM y) SELECT 1 AS a, CASE WHEN b THEN 1 END c FROM q UNION SELECT 2, 3",
                Some("a c"),
            ),
            ("SELECT extract(epoch FROM x) AS \"E\", (SELECT max(a) FROM b) AS m", Some("E m")),
            ("SELECT a::text AS b, c IS NULL AS d FROM t", Some("b d")),
            ("SELECT current_database() datname, 'x' kind, 1 AS limit FROM t", Some("datname kind limit")),
            ("SELECT * FROM t", None),
            ("SELECT a, t.* FROM t", None),
            ("SELECT count(*) FROM t", None),
            ("SELECT a::int FROM t", None),
            ("SELECT CASE WHEN a THEN 1 END FROM t", None),
            ("SHOW x", None),
            ("", None),
        ] {
            let names = column_names(sql).map(|names| names.join(" "));
            assert_eq!(names.as_deref(), expected, "{sql}");
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
