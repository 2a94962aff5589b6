//! Columns side by side: as wide as their widest cell, together no wider than the terminal.

use super::{Paint, TerminalText, Tint, columns, cut};
use crate::plain_text::one_line;

/// Between two columns.
const GAP: usize = 2;

/// A column of text is not cut below this while another one can give.
const NARROW: usize = 8;

/// One cell. Its text is cleaned and never painted by the caller: widths count columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    /// A cell that means something.
    pub fn tinted(tint: Tint, text: impl AsRef<str>) -> Cell {
        Cell { text: one_line(text.as_ref()).into_owned(), tint }
    }

    fn width(&self) -> usize {
        columns(&self.text)
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::tinted(Tint::Plain, text)
    }
}

/// Rows under a head that may be absent. A column whose cells are all numbers stands to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    head: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these words over its columns, in bold; none, and there is no head.
    #[must_use]
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|word| Cell::tinted(Tint::Bold, word)).collect(), rows: Vec::new() }
    }

    /// Adds a row. A shorter one than others ends with empty cells.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// True without a row, whatever the head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each with its end; none takes more than `width` columns. Numbers are cut only when every text
    /// gave what it could.
    #[must_use]
    pub fn render(&self, paint: Paint, width: usize) -> TerminalText {
        let numbers = self.numbers();
        let widths = self.widths(&numbers, width);
        let head = Some(&self.head).filter(|head| !head.is_empty());
        let mut out = TerminalText::new();
        for row in head.into_iter().chain(&self.rows) {
            line(row, &widths, &numbers, paint, &mut out);
        }
        out
    }

    fn columns(&self) -> usize {
        self.rows.iter().chain([&self.head]).map(Vec::len).max().unwrap_or(0)
    }

    /// Which columns hold nothing but numbers.
    fn numbers(&self) -> Vec<bool> {
        let column = |index: usize| self.rows.iter().filter_map(move |row| row.get(index));
        let filled = |index| column(index).filter(|cell| !cell.text.is_empty());
        (0..self.columns())
            .map(|index| filled(index).next().is_some() && filled(index).all(|cell| is_number(&cell.text)))
            .collect()
    }

    fn widths(&self, numbers: &[bool], width: usize) -> Vec<usize> {
        let widest = |index: usize| {
            let cells = self.rows.iter().chain([&self.head]).filter_map(|row| row.get(index));
            cells.map(Cell::width).max().unwrap_or(0).min(width)
        };
        let mut widths: Vec<usize> = (0..numbers.len()).map(widest).collect();
        let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let gives = |least: usize, numbers_too: bool| {
                let open = |index: &usize| numbers_too || !numbers.get(*index).copied().unwrap_or(false);
                let of = |index: &usize| widths.get(*index).copied().unwrap_or(0);
                (0..widths.len()).filter(open).filter(|index| of(index) > least).max_by_key(of)
            };
            let next = gives(NARROW, false).or_else(|| gives(1, false)).or_else(|| gives(1, true));
            let Some(column) = next.and_then(|index| widths.get_mut(index)) else { break };
            *column -= 1;
        }
        widths
    }
}

fn line(row: &[Cell], widths: &[usize], numbers: &[bool], paint: Paint, out: &mut TerminalText) {
    let mut owed = 0;
    for (cell, (width, number)) in row.iter().zip(widths.iter().zip(numbers)) {
        let text = cut(&cell.text, *width);
        let blank = width.saturating_sub(columns(&text));
        if *number {
            owed += blank;
        }
        // Blanks at the end of a line are never written.
        if !text.is_empty() {
            out.blanks(std::mem::take(&mut owed));
            *out += paint.tint(cell.tint, &text);
        }
        if !*number {
            owed += blank;
        }
        owed += GAP;
    }
    out.end_line();
}

/// `12`, `-0.5`, `1e20`, and with a unit behind: `12 ms`, `1.5s`, `40%`; and what may stand in a number's place.
fn is_number(text: &str) -> bool {
    let end = text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
    let (number, unit) = text.split_at(end);
    let short = |unit: &str| unit.len() <= 4 && unit.chars().all(|c| c.is_alphabetic() || c == '%');
    (number.parse::<f64>().is_ok() && short(unit.trim_start()))
        || matches!(text, "NaN" | "+Inf" | "-Inf" | "-" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::{Cell, Paint, Table, Tint, is_number};

    fn table() -> Table {
        let mut table = Table::new(&["target", "state", "ms"]);
        table.row(["shop".into(), Cell::tinted(Tint::Good, "PASS"), "7".into()]);
        table.row(["warehouse-é".into(), Cell::tinted(Tint::Bad, "FAIL"), "1200".into()]);
        table
    }

    #[test]
    fn columns_align_and_numbers_stand_to_the_right() {
        let expected = "target       state    ms\nshop         PASS      7\nwarehouse-é  FAIL   1200\n";
        assert_eq!(table().render(Paint::none(), 80), expected);
    }

    #[test]
    fn paint_changes_no_width() {
        let painted = table().render(Paint::decide(true, &|_| None), 80);
        assert!(painted.contains("\x1b[32mPASS\x1b[0m"), "{painted:?}");
        let plain = ["\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"];
        let plain = plain.iter().fold(painted.to_string(), |text, code| text.replace(code, ""));
        assert_eq!(table().render(Paint::none(), 80), plain.as_str());
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal_and_texts_give_first() {
        let mut wide = Table::new(&[]);
        wide.row(["a".repeat(50), "b".repeat(30), "123456".to_owned()].map(Cell::from));
        for width in [1, 5, 10, 20, 40, 80, 200] {
            let text = wide.render(Paint::none(), width);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.max(7)), "{width}: {text}");
            assert!(width < 14 || text.contains("123456"), "{width}: {text}");
        }
        assert_eq!(wide.render(Paint::none(), 30), "aaaaaaaaa…  bbbbbbbbb…  123456\n");
    }

    #[test]
    fn lines_end_without_blanks_and_cells_hold_one_line() {
        let mut table = Table::new(&[]);
        table.row(["a\nb".into(), "".into(), "".into()]);
        table.row(["long enough".into(), "x".into()]);
        assert_eq!(table.render(Paint::none(), 80), "a␊b\nlong enough  x\n");
        assert!(Table::new(&["head"]).is_empty());
    }

    #[test]
    fn letters_that_take_two_columns_are_counted_so() {
        let mut table = Table::new(&["name", "n"]);
        table.row(["日本語".into(), "1".into()]);
        table.row(["abc".into(), "NULL".into()]);
        assert_eq!(table.render(Paint::none(), 80), "name       n\n日本語     1\nabc     NULL\n");
        assert_eq!(table.render(Paint::none(), 11).lines().nth(1), Some("日本…     1"));
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
}
