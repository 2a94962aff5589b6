//! How findings and errors look in JSON reports. The names and nulls of the fields are a promise to scripts.

use serde::{Serialize, Serializer};

use crate::config::Config;
use crate::error::{Error, ErrorKind, SourcePosition};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work.
    Error,
    /// It works, and is not as it should be.
    Warning,
    /// It works, and is worth knowing; or only rows can show whether it works.
    Note,
}

impl Severity {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One finding of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which lint; `None` for what the load or a database reports.
    pub code: Option<&'static str>,
    /// Where, what and what to change.
    #[serde(flatten, serialize_with = "error_fields")]
    pub error: Error,
}

impl Finding {
    /// What no lint found.
    pub fn new(severity: Severity, error: Error) -> Finding {
        Finding { severity, code: None, error }
    }
}

/// The fields of every error. Without a place in a file the first four are null.
#[derive(Serialize)]
struct ErrorFields<'e> {
    file: Option<&'e str>,
    line: Option<usize>,
    column: Option<usize>,
    path: Option<&'e str>,
    message: &'e str,
    hint: Option<&'e str>,
}

fn error_fields<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    let place = error.place();
    let with_line = place.filter(|place| place.line > 0);
    let fields = ErrorFields {
        file: place.map(|place| &*place.file),
        line: with_line.map(|place| place.line),
        column: with_line.map(|place| place.column),
        path: place.map(|place| &*place.path).filter(|path| !path.is_empty()),
        message: error.message(),
        hint: error.hint(),
    };
    fields.serialize(serializer)
}

/// An error as an object.
pub(super) fn error_object<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct ErrorObject<'e> {
        reason: Option<&'static str>,
        sqlstate: Option<&'e str>,
        #[serde(flatten, serialize_with = "error_fields")]
        error: &'e Error,
    }
    let object = |error| {
        let reason = match Error::kind(error) {
            ErrorKind::Query(reason) => Some(reason.as_str()),
            ErrorKind::Config | ErrorKind::Machine => None,
        };
        ErrorObject { reason, sqlstate: error.sqlstate(), error }
    };
    error.as_ref().map(object).serialize(serializer)
}

/// An error as its text.
pub(super) fn error_text<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(Error::to_string).serialize(serializer)
}

/// The place without its source line where that line holds a secret.
pub(super) fn without_secrets(config: &Config, place: SourcePosition) -> SourcePosition {
    let is_hidden = config.secret_lines.contains(&(place.file.clone(), place.line));
    SourcePosition { source: place.source.filter(|_| !is_hidden), ..place }
}
