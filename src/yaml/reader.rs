//! What one load finds wrong, over all its files: faults and warnings, in file order, each once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use crate::error::{Error, SourcePosition};

use super::recording::MappingRecord;

/// So many faults, and so many warnings, are kept: more help nobody, and a file of 1 MiB may have 100,000.
const MOST: usize = 100;

/// Looks up an environment variable.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// The environment of the process. What is not UTF-8 becomes `\u{fffd}`, which no value of a file may take.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Collects the faults and warnings of one load, over all its files.
pub struct Reader<'e> {
    pub(super) environment: &'e Environment,
    /// True for the schema: what is absent is read as if it were there and empty.
    pub(super) for_schema: bool,
    /// For the schema: what the file's root mapping was asked.
    pub(super) root: Rc<MappingRecord>,
    /// So many faults are kept.
    most_faults: usize,
    found: RefCell<Collected>,
}

/// What one load found.
#[derive(Debug, Default)]
pub struct LoadFindings {
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
struct Collected {
    /// In the order of loading.
    files: Vec<String>,
    faults: BoundedErrors,
    warnings: BoundedErrors,
    /// Lines (file, line) that a key taken as a secret stands on.
    secret_lines: HashSet<(String, usize)>,
}

/// Errors, each once, up to a number of them.
#[derive(Default)]
struct BoundedErrors {
    kept: Vec<Error>,
    /// The hashes of all, those that are not kept included: eight bytes for each.
    known: HashSet<u64>,
    hasher: RandomState,
}

impl BoundedErrors {
    fn add(&mut self, error: Error, most: usize) {
        // The hint does not count: the same unknown key of a default may be found through two targets.
        let place = error.place().map(|place| (&place.file, place.line, place.column, &place.path));
        let hash = self.hasher.hash_one((place, error.message(), error.target(), error.query()));
        if self.known.insert(hash) && self.kept.len() < most {
            self.kept.push(error);
        }
    }

    /// In file order: files as they were loaded, then line and column; what has no place comes last. Lines that may hold
    /// a secret are not shown.
    fn in_order(self, what: &str, files: &[String], secret_lines: &HashSet<(String, usize)>) -> Vec<Error> {
        let hide = |error: Error| match error.place() {
            Some(place) if secret_lines.contains(&(place.file.clone(), place.line)) => {
                let place = SourcePosition { source: None, ..place.clone() };
                error.at(place)
            }
            _ => error,
        };
        let mut errors: Vec<Error> = self.kept.into_iter().map(hide).collect();
        errors.sort_by_cached_key(|error| file_order(error, files));
        let more = self.known.len() - errors.len();
        if more > 0 {
            errors.push(Error::config(format!("{more} more {what} are not shown")));
        }
        errors
    }
}

/// The order in which errors are shown: by file in the order of `files`, line and column; what has no place comes last.
pub fn file_order(error: &Error, files: &[String]) -> (usize, usize, usize) {
    error.place().map_or((usize::MAX, 0, 0), |place| {
        let file = files.iter().position(|file| *file == place.file);
        (file.unwrap_or(usize::MAX), place.line, place.column)
    })
}

impl<'e> Reader<'e> {
    /// A reader with no faults yet.
    pub fn new(environment: &'e Environment) -> Self {
        let (root, found) = Default::default();
        Reader { environment, for_schema: false, root, most_faults: MOST, found }
    }

    /// Where variables are looked up.
    pub fn environment(&self) -> &'e Environment {
        self.environment
    }

    /// A reader that keeps more faults, for a program that acts on each of them.
    pub fn with_most_faults(self, most_faults: usize) -> Self {
        Reader { most_faults, ..self }
    }

    /// A reader that records what may be said, for the schema. Its faults mean nothing.
    pub fn for_schema(environment: &'e Environment) -> Self {
        Reader { for_schema: true, ..Reader::new(environment) }
    }

    /// For the schema: what was asked of the file.
    pub fn recorded(&self) -> Rc<MappingRecord> {
        Rc::clone(&self.root)
    }

    /// Records a fault.
    pub fn fault(&self, error: Error) {
        self.loaded(error.place().map(|place| place.file.as_str()));
        self.found.borrow_mut().faults.add(error, self.most_faults);
    }

    /// Records a fault at a place, with what to change.
    pub fn fault_at(&self, place: &SourcePosition, message: impl Into<String>, hint: impl Into<String>) {
        self.fault(Error::config(message).at(place.clone()).with_hint(hint));
    }

    /// Records something odd at a place, with what to change.
    pub fn warn_at(&self, place: &SourcePosition, message: impl Into<String>, hint: impl Into<String>) {
        self.warn(Error::config(message).at(place.clone()).with_hint(hint));
    }

    /// True when further faults are counted only.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().faults.kept.len() >= self.most_faults
    }

    /// Records something that does not stop the load.
    pub fn warn(&self, warning: Error) {
        self.loaded(warning.place().map(|place| place.file.as_str()));
        self.found.borrow_mut().warnings.add(warning, MOST);
    }

    /// All that was found. Faults and warnings are in file order: files as they were loaded, then line and column. What
    /// has no place comes last; what was found twice comes once.
    pub fn finish(self) -> LoadFindings {
        let Collected { files, faults, warnings, secret_lines } = self.found.into_inner();
        let faults = faults.in_order("errors", &files, &secret_lines);
        let warnings = warnings.in_order("warnings", &files, &secret_lines);
        LoadFindings { faults, warnings, files, secret_lines }
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
