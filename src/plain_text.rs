//! Makes external text safe for a terminal or a log: a database's message, a cell, a name, a path, a variable.
//!
//! A control character can colour, clear and answer a terminal, a line end forges a line, and a mark of the reading
//! direction shows a text as a different one. Here they are replaced.

use std::borrow::Cow;
use std::fmt::Display;

/// A longer line of a log or a message is cut: people read it, and collectors hold it in memory.
pub const LONGEST_LINE: usize = 8 << 10;

/// True for what a terminal or a reader of lines may act on instead of showing it: control characters (C0, DEL, C1), line
/// and paragraph separators, and Unicode's marks for the direction of text (UAX #9).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 error`, `2 errors`
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, one: &str, several: &str) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { several })
}

/// `text` on one line, with the Unicode picture of each unsafe character, or U+FFFD.
pub fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_unsafe, |c, out| out.push(picture(c)))
}

/// The same for a log: with blanks for tabs and line ends, and no longer than [`LONGEST_LINE`].
pub fn log_line(text: &str) -> Cow<'_, str> {
    let blank = |c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { picture(c) };
    let short = shortened(text);
    match replaced(&short, is_unsafe, |c, out| out.push(blank(c))) {
        Cow::Owned(safe) => Cow::Owned(safe),
        Cow::Borrowed(_) => short,
    }
}

/// A text of at most [`LONGEST_LINE`] bytes; a longer one is cut, with the number of missing bytes.
pub fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_LINE {
        return Cow::Borrowed(text);
    }
    let kept = start(text, LONGEST_LINE);
    Cow::Owned(format!("{kept}… ({} more bytes)", text.len() - kept.len()))
}

/// The start of `text`, at most `most` bytes, cut at a character.
pub fn start(text: &str, most: usize) -> &str {
    (0..=most.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// An equal JSON document with escapes for what JSON allows and a terminal may act on. Line feeds stay: they are only
/// between the tokens of a document.
pub fn json(document: &str) -> Cow<'_, str> {
    let escape = |c: char, out: &mut String| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
    };
    replaced(document, |c| is_unsafe(c) && c != '\n', escape)
}

fn replaced(text: &str, what: impl Fn(char) -> bool, with: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&what) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if what(c) { with(c, &mut out) } else { out.push(c) });
    Cow::Owned(out)
}

/// Unicode's picture of a C0 character; the others have none.
fn picture(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        _ => None,
    }
    .unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that Unicode calls a control character, and what turns or ends a line.
    fn hostile() -> String {
        let controls = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control());
        controls.chain("\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}\u{200f}\u{61c}".chars()).collect()
    }

    #[test]
    fn a_foreign_text_cannot_steer_a_terminal_or_forge_a_line() {
        assert_eq!(one_line("plain é"), "plain é");
        assert_eq!(one_line("a\tb\nc\x1b[2J\x7f"), "a␉b␊c␛[2J␡");
        assert_eq!(one_line("\u{9b}31m \u{202e}"), "\u{fffd}31m \u{fffd}");
        assert_eq!(
            log_line("ERROR: no\nLINE 1: select\tx\x1b[2J\u{9b}"),
            "ERROR: no LINE 1: select x␛[2J\u{fffd}"
        );
        for safe in [one_line(&hostile()), log_line(&hostile())] {
            assert!(!safe.contains(is_unsafe), "{safe:?}");
            assert_eq!(safe.chars().count(), hostile().chars().count(), "each is seen");
        }
    }

    #[test]
    fn json_says_the_same_with_escapes() {
        let document = serde_json::json!({ "message": hostile() });
        let text = format!("{document:#}\n");
        let safe = json(&text);
        assert!(!safe.contains(|c| is_unsafe(c) && c != '\n'), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), document);
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let long = "é".repeat(LONGEST_LINE);
        let cut = log_line(&long);
        assert!(
            cut.len() < LONGEST_LINE + 40 && cut.ends_with(&format!("é… ({LONGEST_LINE} more bytes)")),
            "{}",
            cut.len()
        );
        assert_eq!(shortened("short"), "short");
    }
}
