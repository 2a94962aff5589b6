//! Sample lines of one family from one query, ready to be written: bytes, not objects.

use std::sync::Arc;

use super::Family;

/// The sample lines of one family from one query (or of one of our own metrics). Never changes once made.
#[derive(Debug)]
pub struct Block {
    /// Whose samples.
    pub family: Arc<Family>,
    /// `name{labels} value\n`, one a sample.
    pub lines: Vec<u8>,
    /// How many series.
    pub series: usize,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.lines
    }
}

impl Block {
    /// An empty block, to be filled with [`Block::sample`]: for our own metrics.
    #[must_use]
    pub fn new(family: Arc<Family>) -> Self {
        Block { family, lines: Vec::new(), series: 0 }
    }

    /// Appends one sample of the family's own name. Labels are written in the order given, values escaped.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let _ = (labels, value);
        todo!()
    }
}
