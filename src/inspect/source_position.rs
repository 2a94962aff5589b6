//! From a position in a statement to the place in the file that holds the statement.

use std::path::Path;

use crate::config::packs;
use crate::error::{SourcePosition, SqlPosition};
use crate::file;
use crate::yaml::document::MAX_BYTES;

/// The place of a line and column of a statement in its file; `at` is where the statement begins. It is `at` itself where
/// the file does not hold the line as it is (for example in quotes with escapes).
pub(super) fn place_of(at: &SourcePosition, sql: &str, position: SqlPosition) -> SourcePosition {
    let text = match at.file.strip_prefix("builtin:") {
        Some(name) => packs::text(name).map(str::to_owned),
        None => file::read_text(Path::new(&at.file), MAX_BYTES as u64).ok(),
    };
    text.and_then(|text| find(at, &text, sql, position)).unwrap_or_else(|| at.clone())
}

fn find(at: &SourcePosition, text: &str, sql: &str, position: SqlPosition) -> Option<SourcePosition> {
    let mut wanted = sql.lines();
    let first = wanted.next()?.trim();
    let line = sql.lines().nth(position.line.checked_sub(1)?)?;
    let from = at.line.max(1);
    let mut lines = text.lines().enumerate().skip(from - 1);
    let (start, _) = lines.find(|(_, line)| line.contains(first))?;
    let number = start + position.line;
    let source = text.lines().nth(number - 1)?;
    let trimmed = line.trim();
    let start = source.find(trimmed).filter(|_| !trimmed.is_empty())?;
    let indent = line.chars().take_while(|c| c.is_whitespace()).count();
    let before = source.get(..start)?.chars().count();
    let column = (before + position.column).checked_sub(indent)?;
    Some(SourcePosition { line: number, column, source: Some(source.to_owned()), ..at.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "queries:\n  - name: a\n    sql: |\n      SELECT region,\n        rgion\n      FROM t\n  - {name: b, sql: SELECT rgion}\n";

    fn spot(line: usize, sql: &str, spot: (usize, usize)) -> Option<(usize, usize)> {
        let at = SourcePosition { file: "x.yaml".into(), line, column: 5, ..SourcePosition::default() };
        let place = find(&at, FILE, sql, SqlPosition { line: spot.0, column: spot.1 })?;
        Some((place.line, place.column))
    }

    #[test]
    fn a_line_of_a_block_is_found_below_its_key() {
        let sql = "SELECT region,\n  rgion\nFROM t";
        assert_eq!(spot(3, sql, (1, 8)), Some((4, 14)));
        assert_eq!(spot(3, sql, (2, 3)), Some((5, 9)));
    }

    #[test]
    fn a_statement_beside_its_key_is_found_there() {
        assert_eq!(spot(7, "SELECT rgion", (1, 8)), Some((7, 27)));
    }

    #[test]
    fn what_the_file_does_not_hold_as_it_is_has_no_place() {
        assert_eq!(spot(3, "SELECT other", (1, 8)), None);
        assert_eq!(spot(3, "SELECT region,\n  rgion", (9, 1)), None);
    }
}
