//! What one load finds wrong, over all its files: faults and warnings, in file order, each once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use crate::error::{Error, SourcePosition};

use super::record::Record;

/// So many faults, and so many warnings, are kept: more help nobody, and a file of 1 MiB may have 100,000.
const MOST: usize = 100;

/// Looks up an environment variable.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// Collects the faults and warnings of one load, over all its files.
pub struct Reader<'e> {
    pub(super) environment: &'e Environment,
    /// True for a survey: what is absent is read as if it were there and empty.
    pub(super) surveys: bool,
    /// Of a survey: what the files' root mappings were asked.
    pub(super) roots: RefCell<Vec<Rc<Record>>>,
    found: RefCell<Found>,
}

/// What one load found.
#[derive(Debug, Default)]
pub struct Closed {
    /// What stops it.
    pub faults: Vec<Error>,
    /// What is odd.
    pub warnings: Vec<Error>,
    /// The files, as they were named, in the order of loading.
    pub files: Vec<String>,
    /// Lines (file, line) that may hold a secret and are shown to nobody.
    pub secret_lines: HashSet<(String, usize)>,
}

#[derive(Default)]
struct Found {
    /// In the order of loading.
    files: Vec<String>,
    faults: Remarks,
    warnings: Remarks,
    /// Lines (file, line) that a key taken as a secret stands on.
    secret_lines: HashSet<(String, usize)>,
}

/// What was said, each thing once, up to [`MOST`] things.
#[derive(Default)]
struct Remarks {
    kept: Vec<Error>,
    known: HashSet<[String; 4]>,
    /// How many more there were.
    more: usize,
}

impl Remarks {
    fn add(&mut self, error: Error) {
        let identity = identity(&error);
        if self.known.contains(&identity) {
            return;
        }
        if self.kept.len() < MOST {
            self.known.insert(identity);
            self.kept.push(error);
        } else {
            self.more += 1;
        }
    }
}

impl<'e> Reader<'e> {
    /// A reader with no faults yet.
    #[must_use]
    pub fn new(environment: &'e Environment) -> Self {
        Reader { environment, surveys: false, roots: RefCell::default(), found: RefCell::default() }
    }

    /// Records a fault.
    pub fn fault(&self, error: Error) {
        self.loaded(error.place().map(|place| place.file.as_str()));
        self.found.borrow_mut().faults.add(error);
    }

    /// True when further faults are counted only.
    #[must_use]
    pub(super) fn is_server_full(&self) -> bool {
        self.found.borrow().faults.kept.len() >= MOST
    }

    /// Records something that does not stop the load.
    pub fn warn(&self, warning: Error) {
        self.loaded(warning.place().map(|place| place.file.as_str()));
        self.found.borrow_mut().warnings.add(warning);
    }

    /// True when a fault was recorded.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.found.borrow().faults.kept.is_empty()
    }

    /// The faults and the warnings, as in [`Reader::close`].
    #[must_use]
    pub fn finish(self) -> (Vec<Error>, Vec<Error>) {
        let Closed { faults, warnings, .. } = self.close();
        (faults, warnings)
    }

    /// All that was found. Faults and warnings are in file order: files as they were loaded, then line and column. What
    /// has no place comes last; what was found twice comes once.
    #[must_use]
    pub fn close(self) -> Closed {
        let Found { files, faults, warnings, secret_lines } = self.found.into_inner();
        let tidy = |found: Remarks, what: &str| in_order(found, what, &files, &secret_lines);
        let (faults, warnings) = (tidy(faults, "errors"), tidy(warnings, "warnings"));
        Closed { faults, warnings, files, secret_lines }
    }

    /// Notes the file's turn in the order of loading.
    pub(super) fn loaded(&self, file: Option<&str>) {
        let Some(file) = file else { return };
        let files = &mut self.found.borrow_mut().files;
        if !files.iter().any(|known| known == file) {
            files.push(file.to_owned());
        }
    }

    /// Hides the line from every message, those recorded before included.
    pub(super) fn hide(&self, place: &SourcePosition) {
        self.found.borrow_mut().secret_lines.insert((place.file.clone(), place.line));
    }
}

fn in_order(
    found: Remarks,
    what: &str,
    files: &[String],
    secret_lines: &HashSet<(String, usize)>,
) -> Vec<Error> {
    let hush = |error: Error| match error.place() {
        Some(place) if secret_lines.contains(&(place.file.clone(), place.line)) => {
            let place = SourcePosition { source: None, ..place.clone() };
            error.at(place)
        }
        _ => error,
    };
    let Remarks { kept, more, .. } = found;
    let mut found: Vec<Error> = kept.into_iter().map(hush).collect();
    found.sort_by_key(|error| {
        let place = error.place();
        let file = place.and_then(|place| files.iter().position(|file| *file == place.file));
        (
            file.unwrap_or(usize::MAX),
            place.map_or(0, |place| place.line),
            place.map_or(0, |place| place.column),
        )
    });
    if more > 0 {
        found.push(Error::config(format!("{more} more {what} are not shown")));
    }
    found
}

/// The hint does not count: the same unknown key of a default may be found through two targets.
fn identity(error: &Error) -> [String; 4] {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let place = error.place().map(SourcePosition::to_string).unwrap_or_default();
    [place, error.message().to_owned(), text(error.target()), text(error.query())]
}
