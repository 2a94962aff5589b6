//! Which columns of a statement may be negative: those with a negative number in their expression, as in
//! `coalesce(checksum_failures, -1) AS failures`. A look at the words, not a parser of SQL.

use std::collections::HashSet;

use crate::driver::sql_lexer::{Dialect, TokenKind, code};

/// Words after which a minus is a sign and not a subtraction.
const BEFORE_VALUES: [&str; 8] = ["select", "then", "else", "when", "and", "or", "in", "distinct"];

/// What is known inside a parenthesis, or outside of all.
#[derive(Default)]
struct OpenParenthesis {
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
    let mut levels = vec![OpenParenthesis::default()];
    let (mut is_name, mut is_operand, mut is_negated) = (false, false, false);
    for token in code(sql, Dialect::Postgres) {
        let Some(level) = levels.last_mut() else { break };
        if is_negated && (token.kind == TokenKind::Number || token.is(".")) {
            (level.negative, level.any_negative) = (true, true);
        }
        if is_name && level.in_columns && level.negative {
            found.insert(token.text.trim_matches(['"', '\'']).to_ascii_lowercase());
        }
        is_negated = token.is("-") && !is_operand;
        is_name = token.is_word("as");
        is_operand = match token.kind {
            TokenKind::Word => !token.is_one_of(&BEFORE_VALUES),
            TokenKind::Symbol => token.is(")"),
            _ => true,
        };
        if token.is_word("select") {
            (level.in_columns, level.negative) = (true, false);
        } else if token.is_word("from") {
            level.in_columns = false;
        } else if token.is(",") {
            level.negative = false;
        } else if token.is("(") {
            levels.push(OpenParenthesis { in_columns: true, ..OpenParenthesis::default() });
        } else if token.is(")") && levels.len() > 1 {
            let inner = levels.pop().is_some_and(|inner| inner.any_negative);
            if let Some(outer) = levels.last_mut().filter(|outer| inner && outer.in_columns) {
                (outer.negative, outer.any_negative) = (true, true);
            }
        }
    }
    found
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
