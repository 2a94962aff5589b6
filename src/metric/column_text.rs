//! The text that a label or a name takes from a column: all of it, or the part that a pattern finds.

use std::ops::Range;

use regex_lite::{CaptureLocations, Regex, RegexBuilder};

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::value::Cell;
use crate::yaml::keys::Keys;

use super::column::BoundColumn;

/// The most bytes of a compiled pattern: some hundred names of twenty letters.
const LARGEST: usize = 256 << 10;

/// A column, and what of its text is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnText {
    /// The column as the configuration names it.
    pub column: String,
    pattern: Option<TextPattern>,
    /// The text is taken in lower case.
    lower: bool,
}

/// A regular expression. Its engine takes time in proportion to the text, whatever the pattern is.
#[derive(Debug, Clone)]
struct TextPattern {
    text: String,
    regex: Regex,
    /// What each text that matches begins with. Most rows of a server's list are told by it, without the engine.
    prefix: String,
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TextPattern {}

impl ColumnText {
    /// The whole text of a column.
    pub fn whole(column: impl Into<String>) -> ColumnText {
        ColumnText { column: column.into(), pattern: None, lower: false }
    }

    /// The part that `pattern` finds: its first group, or all that it matches where it has none.
    ///
    /// # Errors
    /// Why it is not a pattern, as a message.
    pub fn part(column: impl Into<String>, pattern: &str) -> Result<ColumnText, String> {
        Ok(ColumnText { pattern: Some(TextPattern::new(pattern)?), ..ColumnText::whole(column) })
    }

    /// Takes `column`, `pattern` and `lower`: the long form of a label's column. `None` after a recorded fault.
    pub fn read(mut keys: Keys<'_>) -> Option<ColumnText> {
        let column = keys.text("column");
        if !keys.has("column") {
            let message = "`column` is missing: the column that the label takes its text from";
            keys.lacks("", &["column"], message, None);
        }
        keys.one_of(&["column"]);
        let pattern = keys.text("pattern").map(|text| TextPattern::new(&text)).transpose();
        let pattern = keys.valid("pattern", pattern);
        let lower = keys.flag("lower").unwrap_or(false);
        keys.finish();
        Some(ColumnText { column: column?, pattern: pattern?, lower })
    }

    /// True where a row may be left out.
    pub fn has_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    /// What is done with the text of the column, for people.
    pub fn rule(&self) -> String {
        let part = self.pattern.as_ref().map(|pattern| format!("the part that matches {}", pattern.text));
        let lower = self.lower.then(|| "in lower case".to_owned());
        part.into_iter().chain(lower).collect::<Vec<_>>().join("; ")
    }

    /// Finds the column.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind(&self, columns: &[Column]) -> Result<BoundText<'_>> {
        let search = self.pattern.as_ref().map(|TextPattern { regex, prefix, .. }| Search {
            regex,
            prefix,
            group: usize::from(regex.captures_len() > 1),
            locations: regex.capture_locations(),
            found: 0..0,
        });
        let column = BoundColumn::new(columns, &self.column)?;
        Ok(BoundText { column, search, lower: self.lower, lowered: String::new() })
    }
}

impl TextPattern {
    fn new(text: &str) -> Result<TextPattern, String> {
        if text.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        match RegexBuilder::new(text).size_limit(LARGEST).build() {
            Ok(regex) => Ok(TextPattern { text: text.to_owned(), regex, prefix: prefix(text).to_owned() }),
            Err(why) => Err(format!("the pattern `{text}` is not a regular expression: {why}")),
        }
    }
}

/// What each text that matches begins with, as far as the look of a pattern tells: `Com_` of `^Com_(.+)$`. Empty where it
/// may begin with anything.
fn prefix(pattern: &str) -> &str {
    let Some(anchored) = pattern.strip_prefix('^') else { return "" };
    let end = anchored.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(anchored.len());
    let (literal, rest) = anchored.split_at(end);
    // Alternatives within one group up to the end leave what stands before them alone.
    let one_group = rest.strip_suffix('$').unwrap_or(rest);
    let is_one_group = one_group.starts_with('(') && one_group.find(')') == Some(one_group.len() - 1);
    if rest.contains('|') && !is_one_group {
        return "";
    }
    let is_repeated = rest.starts_with(['*', '?', '+', '{']);
    literal.get(..literal.len().saturating_sub(usize::from(is_repeated))).unwrap_or_default()
}

/// The text of a column of a result.
#[derive(Debug)]
pub struct BoundText<'c> {
    column: BoundColumn,
    search: Option<Search<'c>>,
    lower: bool,
    /// The text of the row at hand in lower case; kept for its memory.
    lowered: String,
}

#[derive(Debug)]
struct Search<'c> {
    regex: &'c Regex,
    prefix: &'c str,
    /// The group that is the text.
    group: usize,
    locations: CaptureLocations,
    /// Where the text of the row at hand stands in the column's.
    found: Range<usize>,
}

impl BoundText<'_> {
    /// Its column.
    pub fn column(&self) -> &BoundColumn {
        &self.column
    }

    /// True where a row may have no such text.
    pub fn has_pattern(&self) -> bool {
        self.search.is_some()
    }

    /// False when `row` has no such text: its metric leaves the row out. NULL matches no pattern, and neither does a
    /// match in which the group has no part. `scratch` is any string.
    ///
    /// # Errors
    /// `protocol` from the row.
    pub fn find(&mut self, row: &dyn Row, scratch: &mut String) -> Result<bool> {
        let Some(search) = &mut self.search else { return Ok(true) };
        let Search { regex, prefix, group, locations, found } = search;
        let cell = self.column.cell(row)?;
        if cell == Cell::Null {
            return Ok(false);
        }
        let text = cell.label(scratch);
        if !text.starts_with(*prefix) || regex.captures_read(locations, text).is_none() {
            return Ok(false);
        }
        let place = locations.get(*group);
        *found = place.map_or(0..0, |(start, end)| start..end);
        Ok(place.is_some())
    }

    /// What is taken of `whole`, the text of the column in the row that [`BoundText::find`] saw last.
    pub fn take<'t>(&'t mut self, whole: &'t str) -> &'t str {
        let part = match &self.search {
            Some(search) => whole.get(search.found.clone()).unwrap_or_default(),
            None => whole,
        };
        if !self.lower {
            return part;
        }
        self.lowered.clear();
        self.lowered.extend(part.chars().flat_map(char::to_lowercase));
        &self.lowered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ColumnContent;
    use crate::driver::advice::Advice;

    struct One<'c>(Cell<'c>);

    impl Row for One<'_> {
        fn cell(&self, _: usize) -> Result<Cell<'_>> {
            Ok(self.0)
        }
    }

    fn columns() -> [Column; 1] {
        [Column {
            name: "c".into(),
            type_name: "text".into(),
            advice: Advice::Label,
            quote: '"',
            content: ColumnContent::Text,
        }]
    }

    fn taken(text: &ColumnText, cell: Cell<'_>) -> Option<String> {
        let columns = columns();
        let mut bound = text.bind(&columns).unwrap();
        let mut scratch = "what was there before".to_owned();
        let found = bound.find(&One(cell), &mut scratch).unwrap();
        found.then(|| bound.take(cell.label(&mut scratch)).to_owned())
    }

    fn part(pattern: &str, cell: Cell<'_>) -> Option<String> {
        taken(&ColumnText::part("c", pattern).unwrap(), cell)
    }

    #[test]
    fn the_first_group_or_the_whole_match_is_the_text() {
        assert_eq!(part("^Com_(.+)$", Cell::Text("Com_select")).unwrap(), "select");
        assert_eq!(part("^Com_.+?_", Cell::Text("Com_alter_db_x")).unwrap(), "Com_alter_");
        assert_eq!(part("(?:a|b)(.)(.)", Cell::Text("xbcd")).unwrap(), "c");
        assert_eq!(part("é(.)", Cell::Text("aéü")).unwrap(), "ü");
        assert_eq!(part("^x(.*)$", Cell::Text("x")).unwrap(), "");
        assert_eq!(part("^[0-9]{3}$", Cell::Int(123)).unwrap(), "123");
    }

    #[test]
    fn what_does_not_match_has_no_text() {
        for cell in [Cell::Null, Cell::Text(""), Cell::Text("com_select"), Cell::Int(1)] {
            assert_eq!(part("^Com_(.+)$", cell), None, "{cell:?}");
        }
        assert_eq!(part("^.*$", Cell::Null), None);
        // The group has no part in this match.
        assert_eq!(part("(a)|b", Cell::Text("b")), None);
        assert_eq!(taken(&ColumnText::whole("c"), Cell::Null).unwrap(), "");
    }

    #[test]
    fn lower_case_is_that_of_unicode() {
        let lower = ColumnText { lower: true, ..ColumnText::whole("c") };
        assert_eq!(taken(&lower, Cell::Text("ÄB_c")).unwrap(), "äb_c");
        let part = ColumnText { lower: true, ..ColumnText::part("c", "^A(.+)$").unwrap() };
        assert_eq!(taken(&part, Cell::Text("ABÉ")).unwrap(), "bé");
        assert_eq!(part.rule(), "the part that matches ^A(.+)$; in lower case");
    }

    #[test]
    fn a_bad_pattern_and_a_large_one_are_refused() {
        let refused = |pattern: &str| ColumnText::part("c", pattern).unwrap_err();
        assert_eq!(refused(""), "the pattern is empty");
        let start = "the pattern `(a` is not a regular expression: ";
        assert!(refused("(a").starts_with(start), "{}", refused("(a"));
        for pattern in ["(?=a)", "(a)\\1", "a{99999}", "((a{100}){100}){100}"] {
            assert!(refused(pattern).contains("is not a regular expression: "), "{pattern}");
        }
        let names: Vec<String> = (0..300).map(|number| format!("a_status_variable_{number}")).collect();
        assert!(ColumnText::part("c", &format!("^({})$", names.join("|"))).is_ok());
    }

    #[test]
    fn a_prefix_is_what_every_match_begins_with() {
        let cases = [
            ("^Com_(.+)$", "Com_"),
            ("^Uptime$", "Uptime"),
            ("^Uptime", "Uptime"),
            ("^Innodb_rows_(read|inserted)$", "Innodb_rows_"),
            ("^ab*", "a"),
            ("^ab?c", "a"),
            ("^ab+", "a"),
            ("^ab{0,2}", "a"),
            ("^a.b", "a"),
            (r"^a\.b", "a"),
            ("^(?:a|b)c", ""),
            ("^a|b", ""),
            ("^ab(c)|d", ""),
            ("^ab(c|(d))e|f", ""),
            ("^a(b)|(c)$", ""),
            ("a", ""),
            ("(?i)^ab", ""),
            ("^é", ""),
            ("^", ""),
        ];
        let texts = [
            "", "a", "ab", "abc", "abbc", "ac", "b", "bc", "c", "d", "abd", "a.b", "axb", "AB", "f", "abce",
            "Com_x",
        ];
        for (pattern, expected) in cases {
            assert_eq!(prefix(pattern), expected, "{pattern}");
            let whole = ColumnText::part("c", &format!("({pattern})")).unwrap();
            let plain = ColumnText::part("c", pattern).unwrap();
            let group = plain.pattern.as_ref().is_some_and(|pattern| pattern.regex.captures_len() > 1);
            for text in texts.into_iter().filter(|_| !group) {
                let (one, other) = (taken(&plain, Cell::Text(text)), taken(&whole, Cell::Text(text)));
                assert_eq!(one, other, "{pattern} in {text:?}");
            }
        }
    }

    /// What takes a backtracking engine longer than the universe has.
    #[test]
    fn time_is_in_proportion_to_the_text() {
        let text = "a".repeat(5_000);
        assert_eq!(part("^(a|a)*(a*)*b$", Cell::Text(&text)), None);
    }
}
