//! What fails during a soak: parts of the world around the exporter, each with faults of its own.

use super::chance::Chance;

/// A fault as it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// For the table at the end: `postgres frozen`.
    pub(crate) name: &'static str,
    /// Scrapes wait for it up to their deadline.
    pub(crate) hangs: bool,
}

/// A server, a file or a wire behind one target. It has one fault at a time.
pub(crate) trait Part {
    /// The target that suffers.
    fn target(&self) -> &'static str;

    /// Lets a fault begin that chance picks. Only called while it is well.
    fn fail(&mut self, chance: &mut Chance) -> Fault;

    /// Ends the fault.
    fn heal(&mut self);

    /// The value that the rows of `moody` bear, the only one that a page may show; `None` when it may show none.
    fn shows(&self) -> Option<u64> {
        None
    }

    /// The exporter's sessions, as the server counts them. Only called while it is well.
    fn sessions(&self) -> usize {
        0
    }
}

/// What the view `moody` does to whoever selects from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Three rows whose value is the generation.
    Good,
    /// Does not end.
    Slow,
    /// Fails, after some rows where the database can.
    Failing,
    /// There is no such view.
    Gone,
    /// Other columns.
    Reshaped,
    /// More rows than `max_rows`.
    Many,
}

/// The moods that are faults, with their weights.
pub(crate) const MOODS: &[(u64, Mood)] =
    &[(3, Mood::Slow), (3, Mood::Failing), (2, Mood::Gone), (2, Mood::Reshaped), (2, Mood::Many)];

impl Mood {
    pub(crate) fn fault(self) -> Fault {
        let name = match self {
            Mood::Good => "none",
            Mood::Slow => "a query that does not end",
            Mood::Failing => "a query that fails",
            Mood::Gone => "a view that is gone",
            Mood::Reshaped => "other columns",
            Mood::Many => "too many rows",
        };
        Fault { name, hangs: self == Mood::Slow }
    }
}
