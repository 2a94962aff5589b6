//! How much the last result of a query took, family by family, so that the buffers of the next one need not grow.
//!
//! A hint only: a result of another size is as right, and a little slower.

use std::sync::Arc;

use crate::exposition::block::{BlockBuilder, BlockSize};

/// Sizes in the order in which families are met.
#[derive(Debug, Clone)]
pub enum SizeHint {
    /// Of the one family that most queries have.
    One(BlockSize),
    /// Of several.
    Many(Arc<[BlockSize]>),
}

impl Default for SizeHint {
    fn default() -> Self {
        SizeHint::One(BlockSize::default())
    }
}

impl SizeHint {
    /// What these drafts took.
    pub(super) fn of(drafts: &[BlockBuilder]) -> Self {
        match drafts {
            [] => SizeHint::default(),
            [draft] => SizeHint::One(draft.size()),
            _ => SizeHint::Many(drafts.iter().map(BlockBuilder::size).collect()),
        }
    }

    /// What the family that is met at position `at` takes.
    pub(super) fn size(&self, at: usize) -> BlockSize {
        match self {
            SizeHint::One(size) if at == 0 => *size,
            SizeHint::One(_) => BlockSize::default(),
            SizeHint::Many(sizes) => sizes.get(at).copied().unwrap_or_default(),
        }
    }
}
