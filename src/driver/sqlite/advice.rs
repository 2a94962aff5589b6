//! What to write where a value in SQLite is not a number: dates that are text, and blobs.

use crate::driver::advice::Advice;

/// Of every column: what is declared binds no value. Unix seconds of a text that SQLite reads as a date.
pub(super) const DATE: Advice = Advice::Write("unixepoch({})");

/// By what the value is.
pub const TABLE: &[(&str, Advice)] = &[("date as text", DATE), ("BLOB", Advice::Bytes)];
