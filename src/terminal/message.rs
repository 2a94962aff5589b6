//! An error or a warning as a person reads it: the sentence, the line of the file it is about, a caret.

use crate::error::{Error, Place};

use super::{Paint, Tint, clean};

/// Before the source line and its caret.
const MARGIN: &str = "  | ";

/// `label: file:line:column: …`, the source line and a caret, each with its end. Without a `width` the sentence stays on
/// one line and all of it is as the log has it; with one it is wrapped, and of a long source line the part around the
/// caret is shown.
#[must_use]
pub fn message(label: &str, tint: Tint, error: &Error, paint: Paint, width: Option<usize>) -> String {
    let whole = format!("{label}: {}", error.headline());
    let text = width.map_or_else(|| whole.clone(), |width| wrap(&whole, width, "    "));
    let rest = text.strip_prefix(label).unwrap_or(&text);
    let mut out = format!("{}{rest}\n", paint.tint(tint, label));
    if let Some((source, caret)) = error.place().and_then(|place| excerpt(place, width)) {
        out += &format!("{}{source}\n", paint.dim(MARGIN));
        out += &format!("{}{caret}{}\n", paint.dim(MARGIN), paint.tint(tint, "^"));
    }
    out
}

/// The source line, and the blanks before its caret.
fn excerpt(place: &Place, width: Option<usize>) -> Option<(String, String)> {
    let source: Vec<char> = place.source.as_ref()?.chars().collect();
    let column = place.column.saturating_sub(1);
    let blank = |chars: &[char]| chars.iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(MARGIN.len()).max(1));
    if source.len() <= room {
        let before = blank(source.get(..column).unwrap_or(&source));
        return Some((source.into_iter().collect(), before));
    }
    // The caret stands in the last third where the line's begin does not fit.
    let first = if column < room { 0 } else { (column + 1).saturating_sub(room * 2 / 3) };
    let last = (first + room).min(source.len());
    let mut part = source.get(first..last)?.to_vec();
    if first > 0 {
        *part.first_mut()? = '…';
    }
    if last < source.len() {
        *part.last_mut()? = '…';
    }
    let before = blank(part.get(..column - first).unwrap_or_default());
    Some((part.into_iter().collect(), before))
}

/// `text` in lines of at most `width` characters, broken at blanks, those after the first behind `indent`. A word that
/// is longer than a line has one of its own.
#[must_use]
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let text = clean(text);
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines = format!("{}\n{indent}{word}", lines.trim_end());
            used = indent.len() + length;
        } else {
            let gap = if lines.is_empty() { "" } else { " " };
            lines += &format!("{gap}{word}");
            used += gap.len() + length;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str, column: usize) -> Error {
        let place =
            Place { file: "a.yaml".into(), line: 3, column, path: "x.y".into(), source: Some(source.into()) };
        Error::config("a b").at(place).with_hint("c d")
    }

    #[test]
    fn without_a_width_a_message_is_the_error_as_it_is_printed_elsewhere() {
        let error = error("\tkey: value", 2);
        assert_eq!(message("error", Tint::Bad, &error, Paint::none(), None), format!("error: {error}\n"));
    }

    #[test]
    fn with_a_width_no_line_is_longer_and_the_caret_stays_under_its_character() {
        let long = format!("{}X{}", "ab ".repeat(40), " cd".repeat(40));
        for width in [20, 40, 80, 300] {
            for column in [1, 30, 121] {
                let text = message("error", Tint::Bad, &error(&long, column), Paint::none(), Some(width));
                assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
                let lines: Vec<&str> = text.lines().rev().take(2).collect();
                let at = lines[0].chars().count() - 1;
                let under = lines[1].chars().nth(at);
                assert!(
                    under == long.chars().nth(column - 1) || under == Some('…'),
                    "{width} {column}: {text}"
                );
            }
        }
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("aa bb cc dd", 5, " "), "aa bb\n cc\n dd");
        assert_eq!(wrap("aaaaaaaa b", 5, ""), "aaaaaaaa\nb");
        assert_eq!(wrap("", 5, ""), "");
    }
}
