//! What an import reports: what it left out, what changes in meaning, which variables to set.
//!
//! Shared by reference while a source is read; the command prints it at the end.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::unique_names::UniqueNames;
use crate::commands::settings::{variable_name, variables, variables_without_default};
use crate::commands::terminal::{BOLD, PLAIN, TerminalText, TextTable, WARNING, message};
use crate::error::{Error, SourcePosition};
use crate::yaml::document::MAX_BYTES;

/// Why a text is not copied.
pub(super) const TOO_LARGE: &str = "the result is larger than 1 MiB: this is left out";
/// The most lines of each kind that are printed.
const MOST: usize = 1000;

#[derive(Debug)]
struct Variable {
    /// `SHOP_PASSWORD`
    name: String,
    /// What to set it to, never a secret itself.
    what: String,
    /// A value with which the result loads.
    sample: String,
}

/// The variables that the result needs, by the name that was wanted and the secret: equal secrets have one variable.
#[derive(Debug, Default)]
struct ReportedVariables {
    known: IndexMap<(String, Option<String>), Variable>,
    names: UniqueNames,
}

impl ReportedVariables {
    /// Adds one unless it is known: `${NAME}`.
    fn add(&mut self, name: &str, what: &str, sample: &str, secret: Option<&str>) -> String {
        let variable = self.known.entry((name.to_owned(), secret.map(str::to_owned))).or_insert_with(|| {
            Variable { name: self.names.take(name), what: what.to_owned(), sample: sample.to_owned() }
        });
        format!("${{{}}}", variable.name)
    }
}

/// Collects what is to be said.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Something of the source is not in the result: exit code 1.
    left_out: RefCell<Vec<Error>>,
    /// All that the source says is in the result, and something else happens in a detail: each note with its first place, and
    /// at how many more it is true.
    notes: RefCell<IndexMap<String, (Option<SourcePosition>, usize)>>,
    variables: RefCell<ReportedVariables>,
    /// How many bytes the result has more than the source: a source may name one long text a thousand times.
    copied: Cell<usize>,
}

impl Report {
    /// Whether so many bytes may be copied; never again after the first time that they may not.
    pub(super) fn may_copy(&self, bytes: usize) -> bool {
        self.copied.set(self.copied.get().saturating_add(bytes));
        self.copied.get() <= MAX_BYTES
    }

    /// Notes a change of meaning. The same note at several places is one line, with the first place.
    pub(super) fn note(&self, place: impl Into<Option<SourcePosition>>, message: impl Into<String>) {
        let mut notes = self.notes.borrow_mut();
        notes.entry(message.into()).and_modify(|(_, more)| *more += 1).or_insert_with(|| (place.into(), 0));
    }

    /// Notes what is not in the result.
    pub(super) fn left_out(&self, place: impl Into<Option<SourcePosition>>, message: impl Into<String>) {
        self.left_out.borrow_mut().push(line(message, place.into()));
    }

    /// `${TARGET_PASSWORD}` in place of a password; with a number where another password has it. `form` is how it is written.
    pub(super) fn password(&self, target: &str, password: &str, form: &str) -> String {
        let name = variable_name(&format!("{target}_PASSWORD"));
        let what = format!("the password of {target}{form}");
        self.variables.borrow_mut().add(&name, &what, "secret", Some(password))
    }

    /// `${NAME}` for a value that the source does not hold; with `sample` in its place the result loads.
    pub(super) fn variable(&self, name: &str, what: &str, sample: &str) -> String {
        self.variables.borrow_mut().add(&variable_name(name), what, sample, None)
    }

    /// `${name}` for a variable that the source reads, under its own name.
    pub(super) fn of_source(&self, name: &str, what: &str, sample: &str) -> String {
        let is_legal = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let name = if is_legal && !name.is_empty() { name.to_owned() } else { variable_name(name) };
        self.variables.borrow_mut().add(&name, what, sample, None)
    }

    /// Lists the variables of a text of the source that have no default.
    pub(super) fn uses(&self, text: &str) {
        for name in variables_without_default(text) {
            self.needs(name, "as in the source");
        }
    }

    /// Lists a variable under the name that the source has for it.
    pub(super) fn needs(&self, name: &str, what: &str) {
        let mut variables = self.variables.borrow_mut();
        if variables.names.is_free(name) {
            variables.add(name, what, "1", None);
        }
    }

    /// Values of the variables with which the result loads.
    pub(super) fn samples(&self) -> HashMap<String, String> {
        let variables = self.variables.borrow();
        variables.known.values().map(|known| (known.name.clone(), known.sample.clone())).collect()
    }

    /// Whether something of the source is not in the result.
    pub(super) fn has_losses(&self) -> bool {
        !self.left_out.borrow().is_empty()
    }

    /// Losses, notes, and the variables to set, which the texts of the result have.
    pub(super) fn render(&self, texts: &[(String, String)]) -> TerminalText {
        let mut out = TerminalText::default();
        let notes = self.notes.borrow();
        let notes = notes.iter().map(|(message, (place, more))| match more {
            0 => line(message, place.clone()),
            1 => line(format!("{message} (and at 1 more place)"), place.clone()),
            more => line(format!("{message} (and at {more} more places)"), place.clone()),
        });
        let left_out = self.left_out.borrow().clone();
        for (label, style, lines) in [("left out", WARNING, left_out), ("note", PLAIN, notes.collect())] {
            lines.iter().take(MOST).for_each(|error| out.append(message(label, style, error, None)));
            let rest = lines.len().saturating_sub(MOST);
            if rest > 0 {
                out.line(&format!("{label}: {rest} more"));
            }
        }
        let used: HashSet<&str> =
            texts.iter().flat_map(|(_, text)| variables(text)).map(|(name, _)| name).collect();
        let known = self.variables.borrow();
        let variables: Vec<_> = known.known.values().filter(|known| used.contains(&*known.name)).collect();
        if !variables.is_empty() {
            out.styled_line(BOLD, "Set these variables:");
            let mut table = TextTable::default();
            for Variable { name, what, .. } in variables {
                table.row([format!("  {name}").into(), what.as_str().into()]);
            }
            out.append(table.render(None));
        }
        out
    }
}

/// What is printed on one line: without the line of the source.
fn line(message: impl Into<String>, place: Option<SourcePosition>) -> Error {
    let error = Error::config(message);
    match place {
        Some(place) => error.at(SourcePosition { source: None, ..place }),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn each_password_has_a_variable_of_its_own_and_equal_ones_have_one() {
        let report = Report::default();
        report.uses("${SHOP_PASSWORD} ${X:-y}");
        let passwords = [("shop", "a"), ("sh\u{f6}p", "b"), ("shop", "a"), ("shop", "b")];
        let variables = passwords.map(|(target, password)| report.password(target, password, ""));
        assert_eq!(
            variables,
            ["${SHOP_PASSWORD_2}", "${SH_P_PASSWORD}", "${SHOP_PASSWORD_2}", "${SHOP_PASSWORD_3}"]
        );
        assert_eq!(report.variable("shop-password", "", "1"), "${SHOP_PASSWORD}");
        let samples = report.samples();
        assert!(samples["SHOP_PASSWORD"] == "1" && samples["SHOP_PASSWORD_2"] == "secret", "{samples:?}");
    }

    /// Names in another script become one name of a variable: the numbers behind it must not be tried one by one.
    #[test]
    fn many_passwords_of_one_name_are_told_apart() {
        let report = Report::default();
        let variables = (0..20_000).map(|index| report.password("x", &index.to_string(), ""));
        assert_eq!(variables.last().as_deref(), Some("${X_PASSWORD_20000}"));
    }
}
