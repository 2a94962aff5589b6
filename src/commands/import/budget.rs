//! How much a conversion may copy: a source of 1 MiB may name one long text a thousand times.

use std::cell::Cell;

use super::section::Section;

pub(super) const TOO_LARGE: &str = "the result is larger than 1 MiB: this is left out";

/// Bytes that may still be copied.
pub(super) struct CopyBudget(Cell<usize>);

impl Default for CopyBudget {
    /// As much as a file of ours may hold.
    fn default() -> CopyBudget {
        CopyBudget(Cell::new(crate::yaml::document::MAX_BYTES))
    }
}

impl CopyBudget {
    /// Takes what is needed; false from the first time on that there is less.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Takes what a mapping of the source needs; one for which there is less is left out, and reported.
    pub(super) fn take_for(&self, section: &Section<'_>, bytes: usize) -> bool {
        let is_left = self.take(bytes);
        if !is_left {
            section.leave_out(TOO_LARGE);
        }
        is_left
    }
}
