//! How findings and errors look in JSON reports. The names and nulls of the fields are a promise to scripts.

use serde::{Serialize, Serializer};

use crate::config::Config;
use crate::error::{Error, Kind, Place};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work.
    Error,
    /// It works, and is not as it should be.
    Warning,
    /// Only rows can show whether it works.
    Note,
}

impl Severity {
    /// As reports write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A place in a file; all null where an error has none.
#[derive(Serialize)]
struct PlaceReport<'e> {
    file: Option<&'e str>,
    line: Option<usize>,
    column: Option<usize>,
    path: Option<&'e str>,
}

impl<'e> PlaceReport<'e> {
    fn new(error: &'e Error) -> PlaceReport<'e> {
        let place = error.place();
        let with_line = place.filter(|place| place.line > 0);
        PlaceReport {
            file: place.map(|place| &*place.file),
            line: with_line.map(|place| place.line),
            column: with_line.map(|place| place.column),
            path: place.map(|place| &*place.path).filter(|path| !path.is_empty()),
        }
    }
}

/// One finding of `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which lint; `None` for what the load or a database reports.
    pub code: Option<&'static str>,
    /// Where, what and what to change.
    pub error: Error,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct FindingReport<'e> {
            #[serde(flatten)]
            place: PlaceReport<'e>,
            code: Option<&'static str>,
            severity: Severity,
            message: &'e str,
            hint: Option<&'e str>,
        }
        let Finding { severity, code, error } = self;
        let (place, message, hint) = (PlaceReport::new(error), error.message(), error.hint());
        FindingReport { place, code: *code, severity: *severity, message, hint }.serialize(serializer)
    }
}

/// An error as an object.
pub(super) fn error_object<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct ErrorReport<'e> {
        #[serde(flatten)]
        place: PlaceReport<'e>,
        reason: Option<&'static str>,
        message: &'e str,
        sqlstate: Option<&'e str>,
        hint: Option<&'e str>,
    }
    let report = |error| {
        let reason = match Error::kind(error) {
            Kind::Query(reason) => Some(reason.word()),
            Kind::Config | Kind::Machine => None,
        };
        let (message, sqlstate, hint) = (error.message(), error.sqlstate(), error.hint());
        ErrorReport { place: PlaceReport::new(error), reason, message, sqlstate, hint }
    };
    error.as_ref().map(report).serialize(serializer)
}

/// An error as its text.
pub(super) fn error_text<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(Error::to_string).serialize(serializer)
}

/// The place without its source line where that line holds a secret.
pub(super) fn without_secrets(config: &Config, place: Place) -> Place {
    let is_hidden = config.secret_lines.contains(&(place.file.clone(), place.line));
    Place { source: place.source.filter(|_| !is_hidden), ..place }
}
