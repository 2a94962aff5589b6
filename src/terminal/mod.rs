//! What a person at a terminal sees: colours, aligned tables, a line that says what is going on.
//!
//! Owns how text is laid out and painted, and what of a foreign text may reach a terminal at all. It knows nothing of
//! what the text says; what goes to stdout is written by `command::say`. A new tint is a line in [`Tint`].

mod message;
mod paint;
mod progress;
mod table;
mod wide;

pub use message::{message, wrap};
pub use paint::{Paint, Tint};
pub use progress::Progress;
pub use table::{Cell, Table};
pub use wide::columns;

use std::borrow::Cow;

/// Columns of a terminal that does not say how many it has, and of what is set as a page.
pub const WIDTH: usize = 80;

/// The columns of the terminal behind stdout; else what `COLUMNS` says, else 80.
#[must_use]
pub fn width() -> usize {
    let asked = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    asked.filter(|columns| *columns > 0).or_else(told).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// `text` on one line and harmless: a control character (a database may hold escape sequences) stands as its picture,
/// and what would turn the reading direction as U+FFFD.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(unsafe_to_show) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if unsafe_to_show(c) { picture(c) } else { c }).collect())
}

fn unsafe_to_show(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn picture(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('\u{2421}'),
        _ => None,
    }
    .unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// At most `width` columns of `text`; where some are missing the last one is `…`.
#[must_use]
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let rest = left.checked_sub(wide::columns_of(*c));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    let kept: String = text.chars().take_while(fits).collect();
    Cow::Owned(if width == 0 { kept } else { format!("{kept}…") })
}

#[cfg(test)]
mod tests {
    use super::{clean, cut};

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(clean("plain é"), "plain é");
        assert_eq!(clean("a\tb\nc\x1b[2J\x7f"), "a␉b␊c␛[2J␡");
        assert_eq!(clean("\u{9b}31m \u{202e}"), "\u{fffd}31m \u{fffd}");
    }

    #[test]
    fn a_text_that_is_too_long_ends_in_an_ellipsis() {
        let cases = [
            ("abcd", 4, "abcd"),
            ("abcd", 3, "ab…"),
            ("éàü", 2, "é…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
            ("日本語", 4, "日…"),
            ("日本語", 6, "日本語"),
        ];
        for (text, width, expected) in cases {
            assert_eq!(cut(text, width), expected, "{text} {width}");
        }
    }
}
