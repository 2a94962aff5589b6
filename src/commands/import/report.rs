//! What an import reports: what it left out, what changes in meaning, which variables to set.
//!
//! Shared by reference while a source is read; the command prints it at the end.

use std::cell::RefCell;
use std::collections::HashMap;

use super::model::Value;
use crate::commands::terminal::{BOLD, PLAIN, TerminalText, TextTable, WARNING, message};
use crate::error::{Error, SourcePosition};

/// The most lines of each kind that are printed.
const MOST: usize = 1000;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All that the source says is in the result, and something else happens in a detail.
    Note,
    /// Something of the source is not in the result: exit code 1.
    LeftOut,
}

#[derive(Debug)]
struct Line {
    kind: Kind,
    place: Option<SourcePosition>,
    message: String,
    /// How many more places have the same note.
    more: usize,
}

/// A variable that the result needs.
#[derive(Debug)]
pub(super) struct Variable {
    /// `SHOP_PASSWORD`
    pub(super) name: String,
    /// What to set it to, never a secret itself.
    what: String,
    /// A value with which the result loads.
    pub(super) sample: String,
    /// The secret that it stands for, so that equal ones have one variable.
    secret: Option<String>,
}

/// Collects what is to be said.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: RefCell<Vec<Line>>,
    /// Where each note is among the lines.
    notes: RefCell<HashMap<String, usize>>,
    variables: RefCell<Vec<Variable>>,
}

impl Report {
    /// Notes a change of meaning. The same note at several places is one line, with the first place.
    pub(super) fn note(&self, place: impl Into<Option<SourcePosition>>, message: impl Into<String>) {
        self.add(Kind::Note, place.into(), message.into());
    }

    /// Notes what is not in the result.
    pub(super) fn left_out(&self, place: impl Into<Option<SourcePosition>>, message: impl Into<String>) {
        self.add(Kind::LeftOut, place.into(), message.into());
    }

    fn add(&self, kind: Kind, place: Option<SourcePosition>, message: String) {
        let mut lines = self.lines.borrow_mut();
        let index = lines.len();
        if kind == Kind::Note {
            let known = *self.notes.borrow_mut().entry(message.clone()).or_insert(index);
            if let Some(line) = lines.get_mut(known) {
                line.more += 1;
                return;
            }
        }
        // The source line is left out: one line a change.
        let place = place.map(|place| SourcePosition { source: None, ..place });
        lines.push(Line { kind, place, message, more: 0 });
    }

    /// A variable in place of a secret; `name` is made legal, and changed where another secret has it.
    pub(super) fn secret(&self, name: &str, secret: &str, what: &str) -> Value {
        Value::Expanded(self.variable_for(name, what, "secret", Some(secret)))
    }

    /// `${NAME}` for a value that the source does not hold; with `sample` in its place the result loads.
    pub(super) fn variable(&self, name: &str, what: &str, sample: &str) -> String {
        self.variable_for(name, what, sample, None)
    }

    /// Lists the variables of a text of the source that have no default.
    pub(super) fn uses(&self, text: &str) {
        for (inside, _) in text.split("${").skip(1).filter_map(|rest| rest.split_once('}')) {
            if !inside.contains(":-") {
                self.needs(inside, "as in the source");
            }
        }
    }

    /// Lists a variable under the name that the source has for it.
    pub(super) fn needs(&self, name: &str, what: &str) {
        let mut variables = self.variables.borrow_mut();
        if variables.iter().all(|known| known.name != name) {
            let (name, what) = (name.to_owned(), what.to_owned());
            variables.push(Variable { name, what, sample: "1".to_owned(), secret: None });
        }
    }

    fn variable_for(&self, name: &str, what: &str, sample: &str, secret: Option<&str>) -> String {
        let stem = variable_name(name);
        let mut variables = self.variables.borrow_mut();
        let mut name = stem.clone();
        let mut number = 2;
        while let Some(known) = variables.iter().find(|known| known.name == name) {
            if known.secret.as_deref() == secret {
                return format!("${{{name}}}");
            }
            name = format!("{stem}_{number}");
            number += 1;
        }
        let shown = format!("${{{name}}}");
        variables.push(Variable {
            name,
            what: what.to_owned(),
            sample: sample.to_owned(),
            secret: secret.map(str::to_owned),
        });
        shown
    }

    /// A value of a variable with which the result loads; that of one of the source is any word or number.
    pub(super) fn sample(&self, name: &str) -> String {
        let variables = self.variables.borrow();
        let known = variables.iter().find(|variable| variable.name == name);
        known.map_or_else(|| "1".to_owned(), |variable| variable.sample.clone())
    }

    /// Whether something of the source is not in the result.
    pub(super) fn has_losses(&self) -> bool {
        self.lines.borrow().iter().any(|line| line.kind == Kind::LeftOut)
    }

    /// Losses, notes, and the variables to set.
    pub(super) fn render(&self) -> TerminalText {
        let mut out = TerminalText::default();
        let lines = self.lines.borrow();
        for (kind, label, style) in [(Kind::LeftOut, "left out", WARNING), (Kind::Note, "note", PLAIN)] {
            let of_kind = || lines.iter().filter(|line| line.kind == kind);
            for line in of_kind().take(MOST) {
                out.append(message(label, style, &line.error(), None));
            }
            let rest = of_kind().count().saturating_sub(MOST);
            if rest > 0 {
                out.line(&format!("{label}: {rest} more"));
            }
        }
        let variables = self.variables.borrow();
        if !variables.is_empty() {
            out.styled_line(BOLD, "Set these variables:");
            let mut table = TextTable::default();
            for Variable { name, what, .. } in variables.iter() {
                table.row([format!("  {name}").into(), what.into()]);
            }
            out.append(table.render(None));
        }
        out
    }
}

impl Line {
    fn error(&self) -> Error {
        let more = match self.more {
            0 => String::new(),
            1 => " (and at 1 more place)".to_owned(),
            more => format!(" (and at {more} more places)"),
        };
        let error = Error::config(format!("{}{more}", self.message));
        match &self.place {
            Some(place) => error.at(place.clone()),
            None => error,
        }
    }
}

/// A legal name of a variable, in upper case.
fn variable_name(text: &str) -> String {
    let upper = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let name: String = upper.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() { format!("_{name}") } else { name }
}
