//! The position of an error in a statement, where the database sends none but its message repeats a piece of the text or
//! a name. There is none where that stands in the statement more than once.
//!
//! Knows how MySQL, MariaDB and SQLite begin such messages: another one is one more entry in [`NAME_PREFIXES`].

use crate::error::{Error, SqlPosition};

use super::sql_lexer::position_of;

/// How messages begin that continue with a name.
const NAME_PREFIXES: [&str; 6] =
    ["Unknown column ", "Table ", "FUNCTION ", "no such table: ", "no such column: ", "no such function: "];

/// The error with its position in `sql`, where its message shows it and the error has none.
pub fn with_position(error: Error, sql: &str) -> Error {
    match position(error.message(), sql) {
        Some(position) if error.sql_position().is_none() => error.at_sql_position(position),
        _ => error,
    }
}

fn position(message: &str, sql: &str) -> Option<SqlPosition> {
    // "… right syntax to use near 'FORM t' at line 2": from there up to 80 characters.
    if let Some((_, rest)) = message.rsplit_once(" near '") {
        let (piece, line) = rest.rsplit_once("' at line ")?;
        let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
        let first = piece.lines().next().filter(|first| !first.is_empty())?;
        let number: usize = digits.parse().ok()?;
        let text = sql.lines().nth(number.checked_sub(1)?)?;
        let place = only(text, first, |_, _| true)?;
        return Some(SqlPosition { line: number, column: text.get(..place)?.chars().count() + 1 });
    }
    // "Unknown column 'o.rgion' in 'field list'", "Table 'shop.ordrs' doesn't exist", "FUNCTION shop.f does not exist"
    let named = NAME_PREFIXES.iter().find_map(|start| message.strip_prefix(start))?;
    let name = named.split(['\'', ' ']).find(|word| !word.is_empty())?.rsplit('.').next()?;
    let place = only(sql, name, |before, after| !before.is_some_and(is_word) && !after.is_some_and(is_word))?;
    Some(position_of(sql, place))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The one place of `piece` in `text` whose neighbours fit.
fn only(text: &str, piece: &str, fits: impl Fn(Option<char>, Option<char>) -> bool) -> Option<usize> {
    let neighbours = |place: usize| {
        let before = text.get(..place).and_then(|before| before.chars().next_back());
        let after = text.get(place + piece.len()..).and_then(|after| after.chars().next());
        fits(before, after)
    };
    let mut places = text.match_indices(piece).map(|(place, _)| place).filter(|place| neighbours(*place));
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str, sql: &str) -> Option<(usize, usize)> {
        position(message, sql).map(|SqlPosition { line, column }| (line, column))
    }

    #[test]
    fn a_syntax_error_repeats_the_text_from_there_on() {
        let message = "You have an error in your SQL syntax; check the manual that corresponds to your MariaDB server \
                       version for the right syntax to use near 'FORM t\nWHERE a' at line 2 (error 1064)";
        assert_eq!(found(message, "SELECT a,\n  b FORM t\nWHERE a"), Some((2, 5)));
        assert_eq!(found(message, "SELECT 1"), None);
    }

    #[test]
    fn a_name_is_found_where_it_stands_once() {
        let message = "Unknown column 'o.rgion' in 'field list' (error 1054)";
        assert_eq!(found(message, "SELECT count(*),\n o.rgion, o.rgion2 FROM o"), Some((2, 4)));
        assert_eq!(found(message, "SELECT o.rgion FROM o GROUP BY o.rgion"), None);
        assert_eq!(found("no such column: rgion", "SELECT 1,\nrgion"), Some((2, 1)));
        let message = "Table 'shop.ordrs' doesn't exist (error 1146)";
        assert_eq!(found(message, "SELECT 1 FROM ordrs"), Some((1, 15)));
    }
}
