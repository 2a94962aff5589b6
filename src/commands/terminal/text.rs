//! Text that may go to a terminal. What enters as a `str` is foreign and becomes one harmless line or a part of one; line
//! ends and colours are ours alone. `command` prints nothing else, so that no command has to think of it.

use std::fmt;
use std::ops::{AddAssign, Deref};

use crate::plain_text::one_line;

/// Lines, some of them painted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminalText(String);

impl TerminalText {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> TerminalText {
        TerminalText::default()
    }

    /// A part of a line.
    #[must_use]
    pub fn of(text: &str) -> TerminalText {
        TerminalText(one_line(text).into_owned())
    }

    /// A document of ours, of which each line is a line: a help text, a built-in file.
    #[must_use]
    pub fn document(text: &str) -> TerminalText {
        let mut out = TerminalText::new();
        text.lines().for_each(|line| out.line(line));
        out
    }

    /// Between the escape sequence `SGR code` and its end.
    pub(super) fn painted(code: &str, text: &str) -> TerminalText {
        TerminalText(format!("\x1b[{code}m{}\x1b[0m", one_line(text)))
    }

    /// Adds a whole line.
    pub fn line(&mut self, text: &str) {
        *self += text;
        self.end_line();
    }

    /// Ends the line at hand.
    pub fn end_line(&mut self) {
        self.0.push('\n');
    }

    /// Adds so many blanks.
    pub(super) fn blanks(&mut self, count: usize) {
        self.0.extend(std::iter::repeat_n(' ', count));
    }

    /// Adds a part of a line in which tabs stay: a source line above its caret, text that is to be pasted.
    pub fn tabbed(&mut self, text: &str) {
        for (index, part) in text.split('\t').enumerate() {
            if index > 0 {
                self.0.push('\t');
            }
            *self += part;
        }
    }
}

impl AddAssign<&str> for TerminalText {
    fn add_assign(&mut self, text: &str) {
        self.0 += &one_line(text);
    }
}

impl AddAssign<TerminalText> for TerminalText {
    fn add_assign(&mut self, text: TerminalText) {
        self.0 += &text.0;
    }
}

impl Deref for TerminalText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TerminalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for TerminalText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for TerminalText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::terminal::Paint;

    #[test]
    fn lines_and_colours_are_ours_alone() {
        let mut text = Paint::decide(true, &|_| None).good("ok\x1b[2J");
        text += " a\nPASS forged";
        text.end_line();
        text.line("b\rc");
        assert_eq!(text, "\x1b[32mok␛[2J\x1b[0m a␊PASS forged\nb␍c\n");
        assert_eq!(TerminalText::document("one\ntwo\x07"), "one\ntwo␇\n");
        let mut again = TerminalText::new();
        again += text.as_ref();
        assert!(!again.contains('\x1b'), "what was painted is foreign where it comes as a text");
    }
}
