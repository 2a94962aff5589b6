//! How much the last result of a query took, family by family, so that the buffers of the next one need not grow.
//!
//! A hint only: a result of another size is as right, and a little slower.

use std::sync::Arc;

use crate::exposition::block::{Draft, Size};

/// Sizes in the order in which families are met.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<[Size]>);

impl Room {
    /// What these drafts took.
    pub(super) fn of(drafts: &[Draft]) -> Self {
        Room(drafts.iter().map(Draft::size).collect())
    }

    /// What the family that is met at position `at` takes.
    pub(super) fn size(&self, at: usize) -> Size {
        self.0.get(at).copied().unwrap_or_default()
    }
}
