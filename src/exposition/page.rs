//! A page: families in order, each with one head and its blocks, in one format. Blocks are shared, not copied.

use std::sync::Arc;

use super::block::Block;
use super::{Family, Format};

/// Families in the page's order, each once, with all its blocks.
pub type Families = Vec<(Arc<Family>, Vec<Arc<Block>>)>;

/// A piece of a page.
pub enum PagePiece {
    /// Heads and ends.
    Text(Vec<u8>),
    /// Sample lines.
    Lines(Arc<Block>),
}

impl AsRef<[u8]> for PagePiece {
    fn as_ref(&self) -> &[u8] {
        match self {
            PagePiece::Text(bytes) => bytes,
            PagePiece::Lines(block) => &block.lines,
        }
    }
}

/// A block up to this size is copied behind its head, which is cheaper than a piece of its own.
const MAX_COPIED: usize = 16 * 1024;

/// The page's bytes in order. Families without samples are left out.
pub fn pieces(families: &Families, format: &dyn Format) -> Vec<PagePiece> {
    let (mut pieces, mut text) = (Vec::new(), Vec::new());
    for (family, blocks) in families.iter().filter(|(_, blocks)| blocks.iter().any(|block| block.series > 0))
    {
        format.head(family, &mut text);
        for block in blocks {
            if !block.timestamps.is_empty() {
                block.write(format, &mut text);
            } else if block.lines.len() <= MAX_COPIED {
                text.extend_from_slice(&block.lines);
            } else {
                pieces.push(PagePiece::Text(std::mem::take(&mut text)));
                pieces.push(PagePiece::Lines(Arc::clone(block)));
            }
        }
    }
    format.end(&mut text);
    pieces.push(PagePiece::Text(text));
    pieces
}
