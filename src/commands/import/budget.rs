//! How much a conversion may copy: a source of 1 MiB may name one long text a thousand times.

use std::cell::Cell;

/// Bytes that may still be copied.
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    /// As much as a file of ours may hold.
    fn default() -> Budget {
        Budget(Cell::new(crate::yaml::document::MAX_BYTES))
    }
}

impl Budget {
    /// Takes what is needed; false from the first time on that there is less.
    #[must_use]
    pub(super) fn take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}
