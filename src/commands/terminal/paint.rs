//! Colours, decided once: they are for a person at a terminal who did not ask for none.

use std::io::IsTerminal;

use super::TerminalText;

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tint {
    /// Nothing in particular.
    #[default]
    Plain,
    /// It works: green.
    Good,
    /// It does not: red.
    Bad,
    /// It may not: yellow.
    Warn,
    /// Beside the point.
    Dim,
    /// The point.
    Bold,
}

impl Tint {
    /// The parameter of the escape sequence SGR (ECMA-48, 8.3.117).
    fn code(self) -> Option<&'static str> {
        match self {
            Tint::Plain => None,
            Tint::Good => Some("32"),
            Tint::Bad => Some("31"),
            Tint::Warn => Some("33"),
            Tint::Dim => Some("2"),
            Tint::Bold => Some("1"),
        }
    }
}

/// Paints, or leaves text as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// For what goes to this process's stdout.
    #[must_use]
    pub fn stdout() -> Paint {
        let environment = |name: &str| std::env::var(name).ok();
        Paint::decide(std::io::stdout().is_terminal(), &environment)
    }

    /// Without colour.
    #[must_use]
    pub fn none() -> Paint {
        Paint { colour: false }
    }

    /// True where it colours anything.
    #[must_use]
    pub fn colours(self) -> bool {
        self.colour
    }

    /// Colour on a terminal, unless `NO_COLOR` holds anything (no-color.org) or `TERM` is `dumb`.
    #[must_use]
    pub fn decide(terminal: bool, environment: &dyn Fn(&str) -> Option<String>) -> Paint {
        let refused = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = environment("TERM").is_some_and(|value| value == "dumb");
        Paint { colour: terminal && !refused && !dumb }
    }

    /// `text` in the colour of `tint`.
    #[must_use]
    pub fn tint(self, tint: Tint, text: &str) -> TerminalText {
        match tint.code().filter(|_| self.colour && !text.is_empty()) {
            Some(code) => TerminalText::painted(code, text),
            None => TerminalText::of(text),
        }
    }

    /// Green.
    #[must_use]
    pub fn good(self, text: &str) -> TerminalText {
        self.tint(Tint::Good, text)
    }

    /// Red.
    #[must_use]
    pub fn bad(self, text: &str) -> TerminalText {
        self.tint(Tint::Bad, text)
    }

    /// Yellow.
    #[must_use]
    pub fn warn(self, text: &str) -> TerminalText {
        self.tint(Tint::Warn, text)
    }

    /// Faint.
    #[must_use]
    pub fn dim(self, text: &str) -> TerminalText {
        self.tint(Tint::Dim, text)
    }

    /// Bold.
    #[must_use]
    pub fn bold(self, text: &str) -> TerminalText {
        self.tint(Tint::Bold, text)
    }
}

#[cfg(test)]
mod tests {
    use super::Paint;

    fn colours(terminal: bool, variables: &[(&str, &str)]) -> bool {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let environment = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        Paint::decide(terminal, &environment).bad("x") != "x"
    }

    #[test]
    fn colour_is_for_a_terminal_that_wants_it() {
        assert!(colours(true, &[]));
        assert!(colours(true, &[("NO_COLOR", ""), ("TERM", "xterm")]));
        assert!(!colours(false, &[("TERM", "xterm")]));
        assert!(!colours(true, &[("NO_COLOR", "1")]));
        assert!(!colours(true, &[("TERM", "dumb")]));
    }

    #[test]
    fn paint_begins_and_ends_beside_the_text() {
        let paint = Paint::decide(true, &|_| None);
        assert_eq!(paint.good("ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(paint.bold(""), "");
        assert_eq!(Paint::none().warn("ok"), "ok");
    }
}
