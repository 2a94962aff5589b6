//! The excess privileges of a session's user, and the statements that create a user without them.
//!
//! Each driver asks its own server, in its file `privileges`. Only the command `test` uses it.

use indexmap::IndexSet;

/// What a user may do, for people. Never holds a password or a hash of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Privileges {
    /// The user as the server names it: `exporter`, `exporter@%`; `None` where there are no users, or the server names none.
    pub user: Option<String>,
    /// Excess privileges, a sentence each.
    pub risks: Vec<String>,
    /// The statements that create a user without excess privileges, in order; none without risks, and where no statement
    /// helps.
    pub grants: Vec<String>,
}

impl Privileges {
    /// A user, with the statements only where there are risks.
    pub fn of(user: Option<String>, risks: Vec<String>, grants: impl FnOnce() -> Vec<String>) -> Privileges {
        // MySQL lists one user's privileges in several lines, which may mean the same.
        let risks: Vec<String> = risks.into_iter().collect::<IndexSet<_>>().into_iter().collect();
        let grants = if risks.is_empty() { Vec::new() } else { grants() };
        Privileges { user, risks, grants }
    }
}

/// The name of a user to create beside `user`.
pub fn suggested_reader_name(user: &str) -> &'static str {
    if user == "exporter" { "sql_exporter" } else { "exporter" }
}
