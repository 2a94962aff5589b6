//! What a person at a terminal sees: colours, aligned tables, wrapped messages, a progress line.
//!
//! [`TerminalText`] is the guarantee that text from a database, a file or the environment never controls a terminal:
//! the commands print nothing else. This module knows layout, and nothing of what the text means.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use textwrap::{WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::error::{Error, SourcePosition};
use crate::plain_text::{one_line, shortened};

/// Nothing special.
pub const PLAIN: Style = Style::new();
/// It works.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// It does not work.
pub const BAD: Style = AnsiColor::Red.on_default();
/// It may not work.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Less important.
pub const DIM: Style = Style::new().dimmed();
/// A heading.
pub const BOLD: Style = Style::new().bold();

/// The columns of a terminal that does not report them.
pub const DEFAULT_WIDTH: usize = 80;

/// The columns of the terminal behind stdout, else of `COLUMNS`, else 80.
pub fn width() -> usize {
    let of_terminal = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| usize::from(size.ws_col));
    let of_environment = || std::env::var("COLUMNS").ok()?.parse().ok();
    let known = of_terminal.ok().filter(|columns| *columns > 0).or_else(of_environment);
    known.filter(|columns| *columns > 0).unwrap_or(DEFAULT_WIDTH)
}

/// The width to wrap and cut at; `None` where stdout is not a terminal: nothing is wrapped or cut then.
pub fn wrap_width() -> Option<usize> {
    std::io::stdout().is_terminal().then(width)
}

/// Whether a terminal gets colours: not if `NO_COLOR` has a value (no-color.org) or `TERM` is `dumb`.
pub fn has_colors(is_terminal: bool, environment: &dyn Fn(&str) -> Option<String>) -> bool {
    let refused = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !refused && environment("TERM").is_none_or(|term| term != "dumb")
}

/// Text that may go to a terminal. A `str` that enters becomes part of one harmless line; only the methods here end
/// lines and set colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminalText(Vec<(Style, String)>);

impl TerminalText {
    /// Several lines of our own or of a file: a help text, a built-in collector, YAML to copy. Tabs stay.
    pub fn document(text: &str) -> TerminalText {
        let mut out = TerminalText::default();
        for line in text.lines() {
            out.tabbed(line);
            out.end_line();
        }
        out
    }

    /// Adds part of a line.
    pub fn text(&mut self, text: &str) {
        self.styled(PLAIN, text);
    }

    /// Adds part of a line in a style.
    pub fn styled(&mut self, style: Style, text: &str) {
        if !text.is_empty() {
            self.0.push((style, one_line(text).into_owned()));
        }
    }

    /// Adds a whole line.
    pub fn line(&mut self, text: &str) {
        self.text(text);
        self.end_line();
    }

    /// Adds a whole line in a style.
    pub fn styled_line(&mut self, style: Style, text: &str) {
        self.styled(style, text);
        self.end_line();
    }

    /// Ends the current line.
    pub fn end_line(&mut self) {
        self.0.push((PLAIN, "\n".to_owned()));
    }

    /// Adds part of a line and keeps its tabs: a source line above its caret, YAML to copy.
    pub fn tabbed(&mut self, text: &str) {
        let safe: Vec<Cow<'_, str>> = text.split('\t').map(one_line).collect();
        self.0.push((PLAIN, safe.join("\t")));
    }

    /// Adds other text at the end.
    pub fn append(&mut self, other: TerminalText) {
        self.0.extend(other.0);
    }

    /// The bytes to print.
    pub fn render(&self, colors: bool) -> String {
        let part = |(style, text): &(Style, String)| match colors {
            true => format!("{style}{text}{style:#}"),
            false => text.clone(),
        };
        self.0.iter().map(part).collect()
    }
}

/// Before a source line and its caret.
const MARGIN: &str = "  | ";
/// Before the wrapped lines of a message.
const INDENT: &str = "    ";
/// The part of a source line to show where there is no terminal width.
const LONGEST_EXCERPT: usize = 1_000;

/// `label: file:line:column: …`, then the source line with a caret. With a `width` the sentence is wrapped, and only the
/// part of a long source line around the caret is shown.
pub fn message(label: &str, style: Style, error: &Error, width: Option<usize>) -> TerminalText {
    let mut out = labelled(label, style, &format!(": {}", shortened(&error.headline())), width, INDENT);
    if let Some((source, before_caret)) = error.place().and_then(|place| excerpt(place, width)) {
        out.styled(DIM, MARGIN);
        out.tabbed(&source);
        out.end_line();
        out.styled(DIM, MARGIN);
        out.tabbed(&before_caret);
        out.styled_line(style, "^");
    }
    out
}

/// A label (one word, or nothing) in its style, and the text behind it; wrapped lines get the indent.
pub fn labelled(label: &str, style: Style, text: &str, width: Option<usize>, indent: &str) -> TerminalText {
    let mut out = TerminalText::default();
    for (index, line) in wrap(&format!("{label}{text}"), width, indent).iter().enumerate() {
        match line.strip_prefix(label).filter(|_| index == 0) {
            Some(rest) => {
                out.styled(style, label);
                out.line(rest);
            }
            None => out.line(line),
        }
    }
    out
}

/// Lines of at most `width` columns, broken at blanks. A longer word has a line of its own.
pub fn wrap(text: &str, width: Option<usize>, indent: &str) -> Vec<String> {
    let text = one_line(text);
    let Some(width) = width else { return vec![text.into_owned()] };
    let options = wrap_options(width).subsequent_indent(indent).break_words(false);
    textwrap::wrap(&text, options).into_iter().map(Cow::into_owned).collect()
}

/// Lines are broken at blanks only, as late as they can be.
pub fn wrap_options<'a>(width: usize) -> textwrap::Options<'a> {
    textwrap::Options::new(width)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
}

/// The source line, and the blanks before its caret.
fn excerpt(place: &SourcePosition, width: Option<usize>) -> Option<(String, String)> {
    let source: Vec<char> = place.source.as_ref()?.chars().collect();
    let column = place.column.saturating_sub(1).min(source.len());
    let longest = width.map_or(LONGEST_EXCERPT, |width| width.saturating_sub(MARGIN.len()).max(1));
    // The caret stands in the last third where the start of the line does not fit.
    let first = if column < longest { 0 } else { (column + 1).saturating_sub(longest * 2 / 3).min(column) };
    let last = (first + longest).min(source.len());
    let mut part = source.get(first..last)?.to_vec();
    let blanks = part.iter().take(column - first).map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    if first > 0 {
        *part.first_mut()? = '…';
    }
    if last < source.len() {
        *part.last_mut()? = '…';
    }
    Some((part.into_iter().collect(), blanks))
}

/// At most `width` columns of `text`; `…` stands for what is missing.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let kept: String = text.chars().take_while(fits).collect();
    Cow::Owned(if width == 0 { kept } else { format!("{kept}…") })
}

/// Blanks between two columns of a table.
const GAP: usize = 2;
/// A column of text is not cut below this width while another column can give.
const NARROW: usize = 8;

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextCell {
    text: String,
    style: Style,
}

impl TextCell {
    /// A cell in a style.
    pub fn styled(style: Style, text: impl AsRef<str>) -> TextCell {
        TextCell { text: one_line(text.as_ref()).into_owned(), style }
    }
}

impl<T: AsRef<str>> From<T> for TextCell {
    fn from(text: T) -> TextCell {
        TextCell::styled(PLAIN, text)
    }
}

/// One line a row; a column whose cells are all numbers is aligned to the right. A table crate would break cells into
/// several lines, or cut a number before a text.
#[derive(Debug, Clone, Default)]
pub struct TextTable {
    /// The first row may be a head.
    rows: Vec<Vec<TextCell>>,
    has_head: bool,
}

impl TextTable {
    /// A table with a head in bold; without any heads it has none.
    pub fn new(heads: &[&str]) -> TextTable {
        let head: Vec<TextCell> = heads.iter().map(|head| TextCell::styled(BOLD, head)).collect();
        let has_head = !head.is_empty();
        TextTable { rows: if has_head { vec![head] } else { Vec::new() }, has_head }
    }

    /// Adds a row; missing cells at its end are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = TextCell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether there is no row below the head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == usize::from(self.has_head)
    }

    /// The lines. With a `width` none is wider; numbers are cut only when every text is as narrow as it can be.
    pub fn render(&self, width: Option<usize>) -> TerminalText {
        let columns: Vec<(usize, bool)> = self.columns(width.unwrap_or(usize::MAX));
        let mut out = TerminalText::default();
        for row in &self.rows {
            // Blanks are written before the next text only: no line ends with them.
            let mut blanks = 0;
            for (cell, (width, is_number)) in row.iter().zip(&columns) {
                let text = cut(&cell.text, *width);
                let padding = width.saturating_sub(text.width());
                let (before, after) = if *is_number { (padding, 0) } else { (0, padding) };
                blanks += before;
                if !text.is_empty() {
                    out.text(&" ".repeat(std::mem::take(&mut blanks)));
                    out.styled(cell.style, &text);
                }
                blanks += after + GAP;
            }
            out.end_line();
        }
        out
    }

    /// Each column's width, and whether it holds only numbers.
    fn columns(&self, width: usize) -> Vec<(usize, bool)> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let column = |index: usize| {
            let cells = || self.rows.iter().filter_map(move |row| row.get(index));
            let mut filled =
                cells().skip(usize::from(self.has_head)).filter(|cell| !cell.text.is_empty()).peekable();
            let is_number = filled.peek().is_some() && filled.all(|cell| is_number(&cell.text));
            (cells().map(|cell| cell.text.width()).max().unwrap_or(0).min(width), is_number)
        };
        let mut columns: Vec<(usize, bool)> = (0..count).map(column).collect();
        let available = width.saturating_sub(GAP * count.saturating_sub(1));
        while columns.iter().map(|(width, _)| width).sum::<usize>() > available {
            let widest = |least: usize, numbers_too: bool| {
                let can_give =
                    |(width, is_number): &(usize, bool)| *width > least && (numbers_too || !is_number);
                let open = columns.iter().enumerate().filter(|(_, column)| can_give(column));
                open.max_by_key(|(_, (width, _))| *width).map(|(index, _)| index)
            };
            let next = widest(NARROW, false).or_else(|| widest(1, false)).or_else(|| widest(1, true));
            let Some((width, _)) = next.and_then(|index| columns.get_mut(index)) else { break };
            *width -= 1;
        }
        columns
    }
}

/// `12`, `-0.5`, `1e20`, with a unit behind (`12 ms`, `40%`), and what stands in a number's place.
fn is_number(text: &str) -> bool {
    let end = text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
    let (number, unit) = text.split_at(end);
    let is_unit = |unit: &str| unit.len() <= 4 && unit.chars().all(|c| c.is_alphabetic() || c == '%');
    (number.parse::<f64>().is_ok() && is_unit(unit.trim_start()))
        || matches!(text, "NaN" | "+Inf" | "-Inf" | "-" | "NULL")
}

/// Work that ends sooner shows no progress.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);
/// How often the progress line is drawn again.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Back to the start of the line, and erase it (ECMA-48: CR, EL).
const ERASE_LINE: &str = "\r\x1b[K";

/// One line on stderr that says what is going on, after a second, if stderr is a terminal. Dropping it erases the line.
pub struct Progress {
    messages: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts with a first message: "connecting to 12 targets".
    pub fn start(message: impl Into<String>) -> Progress {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let is_seen = std::io::stderr().is_terminal() && !is_dumb;
        Progress::on(Box::new(std::io::stderr()), is_seen.then_some(PROGRESS_DELAY), message.into())
    }

    /// A line on `out` after `delay`; without a delay never.
    fn on(out: Box<dyn Write + Send>, delay: Option<Duration>, message: String) -> Progress {
        let (sender, receiver) = channel();
        // Without a thread there is no progress line, which is not an error.
        let thread = delay.and_then(|delay| {
            let draw = move || draw_progress(out, &receiver, delay, message);
            std::thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()
        });
        Progress { messages: Some(sender), thread }
    }

    /// Replaces the message: "12 of 33 queries".
    pub fn show(&self, message: impl Into<String>) {
        if let Some(messages) = &self.messages {
            // Nobody reads it where no line is drawn.
            let _ = messages.send(message.into());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Draws until nobody can send another message. A stderr that cannot be written to shows nothing.
fn draw_progress(
    mut out: Box<dyn Write + Send>,
    messages: &Receiver<String>,
    delay: Duration,
    first: String,
) {
    let (start, mut message, mut is_drawn) = (Instant::now(), first, false);
    let mut next = start + delay;
    loop {
        match messages.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(newer) => message = newer,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("{} ({} s)", one_line(&message), start.elapsed().as_secs());
                // A line that wraps could not be erased.
                let text = cut(&text, width().saturating_sub(1));
                drop(write!(out, "{ERASE_LINE}{text}").and_then(|()| out.flush()));
                is_drawn = true;
                next = Instant::now() + PROGRESS_INTERVAL;
            }
        }
    }
    if is_drawn {
        drop(write!(out, "{ERASE_LINE}").and_then(|()| out.flush()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colors(is_terminal: bool, variables: &[(&str, &str)]) -> bool {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        has_colors(is_terminal, &|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn colour_is_for_a_terminal_that_wants_it() {
        assert!(colors(true, &[]));
        assert!(colors(true, &[("NO_COLOR", ""), ("TERM", "xterm")]));
        assert!(!colors(false, &[("TERM", "xterm")]));
        assert!(!colors(true, &[("NO_COLOR", "1")]));
        assert!(!colors(true, &[("TERM", "dumb")]));
    }

    #[test]
    fn paint_begins_and_ends_beside_the_text() {
        let mut text = TerminalText::default();
        text.styled(GOOD, "ok");
        text.styled(BOLD, "");
        assert_eq!(text.render(true), "\x1b[32mok\x1b[0m");
        assert_eq!(text.render(false), "ok");
    }

    #[test]
    fn lines_and_colours_are_ours_alone() {
        let mut text = TerminalText::default();
        text.styled(GOOD, "ok\x1b[2J");
        text.text(" a\nPASS forged");
        text.end_line();
        text.line("b\rc");
        assert_eq!(text.render(true), "\x1b[32mok␛[2J\x1b[0m a␊PASS forged\nb␍c\n");
        assert_eq!(TerminalText::document("one\n\ttwo\x07").render(true), "one\n\ttwo␇\n");
        let mut again = TerminalText::default();
        again.text(&text.render(true));
        assert!(
            !again.render(false).contains('\x1b'),
            "what was painted is foreign where it comes as a text"
        );
    }

    #[test]
    fn a_text_takes_as_many_columns_as_a_terminal_gives_it() {
        let cases = [
            ("", 0),
            ("abc", 3),
            ("é", 1),
            ("e\u{301}", 1),
            ("日本語", 6),
            ("한국", 4),
            ("🍎x", 3),
            ("…␛", 2),
        ];
        for (text, expected) in cases {
            assert_eq!(text.width(), expected, "{text}");
        }
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

    fn plain(error: &Error, width: Option<usize>) -> String {
        message("error", BAD, error, width).render(false)
    }

    #[test]
    fn without_a_width_a_message_is_the_error_as_it_is_printed_elsewhere() {
        let error = error("\tkey: value", 2);
        assert_eq!(plain(&error, None), format!("error: {error}\n"));
    }

    #[test]
    fn with_a_width_no_line_is_longer_and_the_caret_stays_under_its_character() {
        let long = format!("{}X{}", "ab ".repeat(40), " cd".repeat(40));
        for width in [20, 40, 80, 300] {
            for column in [1, 30, 121] {
                let text = plain(&error(&long, column), Some(width));
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
    fn a_terminal_of_any_width_shows_the_character_at_the_caret() {
        for width in 0..6 {
            let text = plain(&error("abcdef", 4), Some(width));
            assert!(text.lines().count() >= 3, "{width}: {text}");
        }
    }

    #[test]
    fn what_a_database_says_stays_one_harmless_line_with_and_without_a_width() {
        let long = "x".repeat(10 << 20);
        for width in [None, Some(60)] {
            let hostile = Error::config("no\nPASS forged\x1b[2J\u{202e}").with_hint("a\rb");
            assert_eq!(plain(&hostile, width), "error: no␊PASS forged␛[2J\u{fffd}; a␍b\n");
            let text = plain(&Error::config(long.as_str()), width);
            assert!(text.len() < 10_000 && text.ends_with("more bytes)\n"), "{}", text.len());
            let text = plain(&error(&long, 1 << 20), width);
            assert!(text.len() < 10_000, "{}", text.len());
        }
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("aa bb cc dd", Some(5), " "), ["aa bb", " cc", " dd"]);
        assert_eq!(wrap("aaaaaaaa b", Some(5), ""), ["aaaaaaaa", "b"]);
        assert_eq!(wrap("", Some(5), ""), [""]);
    }

    fn table() -> TextTable {
        let mut table = TextTable::new(&["target", "state", "ms"]);
        table.row(["shop".into(), TextCell::styled(GOOD, "PASS"), "7".into()]);
        table.row(["warehouse-é".into(), TextCell::styled(BAD, "FAIL"), "1200".into()]);
        table
    }

    #[test]
    fn columns_align_and_numbers_stand_to_the_right() {
        let expected = "target       state    ms\nshop         PASS      7\nwarehouse-é  FAIL   1200\n";
        assert_eq!(table().render(Some(80)).render(false), expected);
    }

    #[test]
    fn paint_changes_no_width() {
        let text = table().render(Some(80));
        let painted = text.render(true);
        assert!(painted.contains("\x1b[32mPASS\x1b[0m"), "{painted:?}");
        let codes = ["\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"];
        let plain = codes.iter().fold(painted, |text, code| text.replace(code, ""));
        assert_eq!(text.render(false), plain);
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal_and_texts_give_first() {
        let mut wide = TextTable::new(&[]);
        wide.row(["a".repeat(50), "b".repeat(30), "123456".to_owned()].map(TextCell::from));
        for width in [1, 5, 10, 20, 40, 80, 200] {
            let text = wide.render(Some(width)).render(false);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.max(7)), "{width}: {text}");
            assert!(width < 14 || text.contains("123456"), "{width}: {text}");
        }
        assert_eq!(wide.render(Some(30)).render(false), "aaaaaaaaa…  bbbbbbbbb…  123456\n");
    }

    #[test]
    fn lines_end_without_blanks_and_cells_hold_one_line() {
        let mut table = TextTable::new(&[]);
        table.row(["a\nb".into(), "".into(), "".into()]);
        table.row(["long enough".into(), "x".into()]);
        assert_eq!(table.render(Some(80)).render(false), "a␊b\nlong enough  x\n");
        assert!(TextTable::new(&["head"]).is_empty());
    }

    #[test]
    fn letters_that_take_two_columns_are_counted_so() {
        let mut table = TextTable::new(&["name", "n"]);
        table.row(["日本語".into(), "1".into()]);
        table.row(["abc".into(), "NULL".into()]);
        assert_eq!(table.render(Some(80)).render(false), "name       n\n日本語     1\nabc     NULL\n");
        assert_eq!(table.render(Some(11)).render(false).lines().nth(1), Some("日本…     1"));
    }

    #[test]
    fn numbers_with_and_without_units_are_numbers() {
        for text in ["1", "-0.5", "1e20", "12 ms", "1.5s", "40%", "NaN", "+Inf", "-", "NULL"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "shop", "14 <17", "2026-01-02", "1.2.3", "12 databases"] {
            assert!(!is_number(text), "{text}");
        }
    }

    /// Sends on what is written.
    struct Pipe(Sender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            drop(self.0.send(String::from_utf8_lossy(bytes).into_owned()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            drop(self.0.send("\n".to_owned()));
            Ok(())
        }
    }

    fn progress(delay: Option<Duration>) -> (Progress, Receiver<String>) {
        let (sender, receiver) = channel();
        (Progress::on(Box::new(Pipe(sender)), delay, "reading".to_owned()), receiver)
    }

    /// What was written up to the next flush.
    fn next(receiver: &Receiver<String>) -> String {
        let parts = std::iter::from_fn(|| receiver.recv().ok().filter(|part| part != "\n"));
        parts.collect()
    }

    #[test]
    fn the_line_appears_changes_and_is_wiped_at_the_end() {
        let (progress, receiver) = progress(Some(Duration::ZERO));
        assert!(next(&receiver).starts_with("\r\x1b[Kreading (0 s)"));
        progress.show("1 of 2");
        while !next(&receiver).contains("1 of 2 (") {}
        drop(progress);
        let last = std::iter::from_fn(|| Some(next(&receiver)).filter(|text| !text.is_empty())).last();
        assert_eq!(last.as_deref(), Some(ERASE_LINE));
    }

    #[test]
    fn what_ends_soon_and_what_nobody_sees_writes_nothing() {
        for delay in [Some(Duration::from_secs(3600)), None] {
            let (progress, receiver) = progress(delay);
            progress.show("more");
            drop(progress);
            assert_eq!(receiver.recv().ok(), None);
        }
    }
}
