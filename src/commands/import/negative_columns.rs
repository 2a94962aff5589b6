//! Which columns of a statement may be negative: those with a negative number in their expression, as in
//! `coalesce(checksum_failures, -1) AS failures`. A look at the words, not a parser of SQL.

use std::collections::HashSet;

/// Words after which a minus is a sign and not a subtraction.
const BEFORE_VALUES: [&str; 8] = ["select", "then", "else", "when", "and", "or", "in", "distinct"];

#[derive(Debug, PartialEq, Eq)]
enum Token<'s> {
    Word(&'s str),
    /// A text in quotes of any kind.
    Quoted(&'s str),
    Symbol(char),
}

/// What is known between two parentheses.
#[derive(Default)]
struct Level {
    /// In a list of columns, or in an expression.
    in_columns: bool,
    /// The column that is open has a negative number.
    negative: bool,
    /// So has any column.
    any_negative: bool,
}

/// The names that are given by `AS`, in lower case.
pub(super) fn negative_columns(sql: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    // The innermost last.
    let mut levels = vec![Level::default()];
    let (mut is_name, mut is_operand, mut is_negated) = (false, false, false);
    for token in tokens(sql) {
        let Some(level) = levels.last_mut() else { break };
        let word = match token {
            Token::Word(word) | Token::Quoted(word) => word.to_ascii_lowercase(),
            Token::Symbol(_) => String::new(),
        };
        if is_negated && word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            (level.negative, level.any_negative) = (true, true);
        }
        if is_name && level.in_columns && level.negative {
            found.insert(word.clone());
        }
        is_negated = token == Token::Symbol('-') && !is_operand;
        is_name = matches!(token, Token::Word(_)) && word == "as";
        is_operand = match token {
            Token::Word(_) => !BEFORE_VALUES.contains(&word.as_str()),
            Token::Quoted(_) => true,
            Token::Symbol(symbol) => symbol == ')',
        };
        match token {
            Token::Word(_) if word == "select" => (level.in_columns, level.negative) = (true, false),
            Token::Word(_) if word == "from" => level.in_columns = false,
            Token::Symbol(',') => level.negative = false,
            Token::Symbol('(') => levels.push(Level { in_columns: true, ..Level::default() }),
            Token::Symbol(')') if levels.len() > 1 => {
                let inner = levels.pop().is_some_and(|inner| inner.any_negative);
                if let Some(outer) = levels.last_mut().filter(|outer| inner && outer.in_columns) {
                    (outer.negative, outer.any_negative) = (true, true);
                }
            }
            _ => {}
        }
    }
    found
}

/// The words and symbols, without comments.
fn tokens(sql: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            let first = rest.chars().next()?;
            let comment_end = match () {
                () if rest.starts_with("--") => Some("\n"),
                () if rest.starts_with("/*") => Some("*/"),
                () => None,
            };
            if let Some(end) = comment_end {
                rest = rest.split_once(end).map_or("", |(_, after)| after);
                continue;
            }
            if matches!(first, '\'' | '"') {
                let (text, after) = rest.get(1..)?.split_once(first).unwrap_or((rest.get(1..)?, ""));
                rest = after;
                return Some(Token::Quoted(text));
            }
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
            let end = match rest.find(|c| !is_word(c)) {
                Some(0) => first.len_utf8(),
                end => end.unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(end);
            rest = after;
            return Some(if is_word(first) { Token::Word(token) } else { Token::Symbol(first) });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::negative_columns;

    #[test]
    fn negative_numbers_in_the_expression_of_a_column_are_found() {
        for (sql, expected) in [
            ("SELECT coalesce(failures, -1) AS failures FROM t", vec!["failures"]),
            ("SELECT CASE WHEN a THEN 1 ELSE - 1 END AS \"A\", b - 1 AS b, 2 AS c", vec!["a"]),
            ("SELECT lsn - '0/0' AS lsn, (a) - 1 AS x, now() - 1 AS y", vec![]),
            ("SELECT a -- -1\n AS a, /* -1 */ b AS b, '-1' AS c, greatest(a, (1), -0.5) AS d", vec!["d"]),
            ("SELECT x AS y FROM (SELECT -1 AS n) q JOIN z AS w ON true", vec!["n"]),
            ("SELECT (((((", vec![]),
            ("SELECT ')' AS a)) , -1 AS 'ä", vec!["ä"]),
        ] {
            let mut found: Vec<String> = negative_columns(sql).into_iter().collect();
            found.sort();
            assert_eq!(found, expected, "{sql}");
        }
    }
}
