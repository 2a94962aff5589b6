//! An error or a warning as a person reads it: the sentence, the line of the file it is about, a caret.

use crate::error::{Error, SourcePosition};
use crate::plain_text::{one_line, shortened};

use super::{Paint, TerminalText, Tint};

/// Before the source line and its caret.
const MARGIN: &str = "  | ";
/// Behind the first line of a message.
const INDENT: &str = "    ";
/// The part of a source line that is shown where no terminal has a width.
const LONGEST_EXCERPT: usize = 1_000;

/// `label: file:line:column: …`, the source line and a caret, each with its end. Without a `width` the sentence stays on
/// one line; with one it is wrapped, and of a long source line the part around the caret is shown.
#[must_use]
pub fn message(label: &str, tint: Tint, error: &Error, paint: Paint, width: Option<usize>) -> TerminalText {
    let mut out = labelled(label, tint, &format!(": {}", shortened(&error.headline())), paint, width, INDENT);
    if let Some((source, caret)) = error.place().and_then(|place| excerpt(place, width)) {
        out += paint.dim(MARGIN);
        out.tabbed(&source);
        out.end_line();
        out += paint.dim(MARGIN);
        out.tabbed(&caret);
        out += paint.tint(tint, "^");
        out.end_line();
    }
    out
}

/// A painted label with its text right behind it, as a line, or wrapped in lines of which those after the first are
/// indented. The label is one word.
#[must_use]
pub fn labelled(
    label: &str,
    tint: Tint,
    rest: &str,
    paint: Paint,
    width: Option<usize>,
    indent: &str,
) -> TerminalText {
    let whole = format!("{label}{rest}");
    let lines = width.map_or_else(|| vec![whole.clone()], |width| lines(&whole, width, indent));
    let mut out = TerminalText::new();
    for (index, line) in lines.iter().enumerate() {
        match line.strip_prefix(label).filter(|_| index == 0) {
            Some(rest) => {
                out += paint.tint(tint, label);
                out.line(rest);
            }
            None => out.line(line),
        }
    }
    out
}

/// The source line, and the blanks before its caret.
fn excerpt(place: &SourcePosition, width: Option<usize>) -> Option<(String, String)> {
    let source: Vec<char> = place.source.as_ref()?.chars().collect();
    let column = place.column.saturating_sub(1);
    let blank = |chars: &[char]| chars.iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    let room = width.map_or(LONGEST_EXCERPT, |width| width.saturating_sub(MARGIN.len()).max(1));
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

/// `text` in lines of at most `width` characters, broken at blanks, those after the first behind `indent`, each with its
/// end. A word that is longer than a line has one of its own.
#[must_use]
pub fn wrap(text: &str, width: usize, indent: &str) -> TerminalText {
    let mut out = TerminalText::new();
    lines(text, width, indent).iter().for_each(|line| out.line(line));
    out
}

fn lines(text: &str, width: usize, indent: &str) -> Vec<String> {
    let text = one_line(text);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(line.trim_end().to_owned());
            line = format!("{indent}{word}");
            used = indent.len() + length;
        } else {
            let gap = if index == 0 { "" } else { " " };
            line += &format!("{gap}{word}");
            used += gap.len() + length;
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str, column: usize) -> Error {
        let place = SourcePosition {
            file: "a.yaml".into(),
            line: 3,
            column,
            path: "x.y".into(),
            source: Some(source.into()),
        };
        Error::config("a b").at(place).with_hint("c d")
    }

    #[test]
    fn without_a_width_a_message_is_the_error_as_it_is_printed_elsewhere() {
        let error = error("\tkey: value", 2);
        let expected = format!("error: {error}\n");
        assert_eq!(message("error", Tint::Bad, &error, Paint::none(), None), expected.as_str());
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
    fn what_a_database_says_stays_one_harmless_line_with_and_without_a_width() {
        let long = "x".repeat(10 << 20);
        for width in [None, Some(60)] {
            let error = Error::config("no\nPASS forged\x1b[2J\u{202e}").with_hint("a\rb");
            let text = message("error", Tint::Bad, &error, Paint::none(), width);
            assert_eq!(text, "error: no␊PASS forged␛[2J\u{fffd}; a␍b\n");
            let text = message("error", Tint::Bad, &Error::config(long.as_str()), Paint::none(), width);
            assert!(text.len() < 10_000 && text.ends_with("more bytes)\n"), "{}", text.len());
            let text = message("error", Tint::Bad, &self::error(&long, 1 << 20), Paint::none(), width);
            assert!(text.len() < 10_000, "{}", text.len());
        }
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("aa bb cc dd", 5, " "), "aa bb\n cc\n dd\n");
        assert_eq!(wrap("aaaaaaaa b", 5, ""), "aaaaaaaa\nb\n");
        assert_eq!(wrap("", 5, ""), "\n");
    }
}
