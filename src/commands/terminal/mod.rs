//! What a person at a terminal sees: colours, aligned tables, a line that says what is going on.
//!
//! Owns how text is laid out and painted, and by [`TerminalText`] that no foreign text steers a terminal. It knows nothing of
//! what the text says; what goes to stdout is written by `command`. A new tint is a line in [`Tint`].

mod message;
mod paint;
mod progress;
mod table;
mod text;
mod wide;

pub use self::message::{labelled, message, wrap};
pub use self::paint::{Paint, Tint};
pub use self::progress::Progress;
pub use self::table::{Cell, Table};
pub use self::text::TerminalText;
pub use self::wide::columns;

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
    use super::cut;

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
