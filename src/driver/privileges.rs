//! What the user of a session may do that reading does not need, and the statements that make one who may do enough.
//!
//! Each driver asks its own server (`postgres/rights`, `mysql/rights`, `sqlite/rights`); here is what they answer with.
//! Only the command `test` asks.

/// The answer, in words for people. Never holds a password or a hash of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Privileges {
    /// The user as the server names it: `exporter`, `exporter@%`; `None` where there are no users, or none is told.
    pub user: Option<String>,
    /// What the user may do that a reader need not, a sentence each; none is good.
    pub risks: Vec<String>,
    /// The statements that make a user who may do enough and no more, in order; none without risks, and where no
    /// statement helps.
    pub grants: Vec<String>,
}

impl Privileges {
    /// A user, with the statements only where there are risks.
    #[must_use]
    pub fn of(user: Option<String>, risks: Vec<String>, grants: impl FnOnce() -> Vec<String>) -> Privileges {
        // MySQL tells of one user's privileges in several lines, which may mean the same.
        let mut told = Vec::with_capacity(risks.len());
        for risk in risks {
            if !told.contains(&risk) {
                told.push(risk);
            }
        }
        let risks = told;
        let grants = if risks.is_empty() { Vec::new() } else { grants() };
        Privileges { user, risks, grants }
    }
}

/// The name of the user to make beside `user`.
#[must_use]
pub fn suggested_reader_name(user: &str) -> &'static str {
    if user == "exporter" { "sql_exporter" } else { "exporter" }
}
