//! Sample lines of one family from one query: bytes, not objects. A [`BlockBuilder`] grows while rows stream; a [`Block`]
//! is complete and never changes.

use std::sync::Arc;

use super::line::{self, LabelBytes};
pub use super::series::Inserted;
use super::series::SeriesSet;
use super::{Family, Format};

/// The sample lines of one family from one query (or of one of our own metrics). Never changes once made.
#[derive(Debug)]
pub struct Block {
    /// Whose samples.
    pub family: Arc<Family>,
    /// `name{labels} value\n`, one a sample.
    pub lines: Vec<u8>,
    /// How many series.
    pub series: usize,
    /// Explicit timestamps: where in `lines` one goes (the end of its line), and Unix milliseconds. In order; a format
    /// writes them in its own way ([`Block::write`]), so that `lines` serve all formats.
    pub timestamps: Vec<(usize, i64)>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.lines
    }
}

/// The longest explicit timestamp in any format: a blank, a sign, 19 digits, a point.
const MAX_TIMESTAMP_BYTES: usize = 22;

impl Block {
    /// An empty block, to be filled with [`Block::sample`]: for our own metrics.
    pub fn new(family: Arc<Family>) -> Self {
        Block { family, lines: Vec::new(), series: 0, timestamps: Vec::new() }
    }

    /// Appends one sample of the family's own name, with `type_label` in the gap of `labels`. The caller makes sure that series
    /// differ.
    pub fn line(&mut self, labels: &LabelBytes, type_label: &[u8], value: f64) {
        write_series(&self.family, "", labels, type_label, &mut self.lines);
        line::number(value, &mut self.lines);
        self.lines.push(b'\n');
        self.series += 1;
    }

    /// Appends one sample of the family's own name. Labels are written in the order given, values escaped. The
    /// caller makes sure that names are legal and series differ.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.lines.extend_from_slice(self.family.name.as_str().as_bytes());
        let start = self.lines.len();
        labels.iter().for_each(|(name, text)| line::label(name, text, &mut self.lines));
        close_labels(&mut self.lines, start);
        line::number(value, &mut self.lines);
        self.lines.push(b'\n');
        self.series += 1;
    }

    /// Appends the samples of another block of the family. The caller makes sure that series differ.
    pub fn append(&mut self, other: &Block) {
        let start = self.lines.len();
        self.lines.extend_from_slice(&other.lines);
        self.timestamps.extend(other.timestamps.iter().map(|(place, ms)| (start + place, *ms)));
        self.series += other.series;
    }

    /// At most the bytes that it takes on a page, whatever the format.
    pub fn size(&self) -> usize {
        self.lines.len() + self.timestamps.len() * MAX_TIMESTAMP_BYTES
    }

    /// Appends the lines with their explicit timestamps as `format` writes them.
    pub fn write(&self, format: &dyn Format, out: &mut Vec<u8>) {
        let mut rest = self.lines.as_slice();
        let mut at = 0;
        for (place, ms) in &self.timestamps {
            // Invariant: places rise and lie within the lines; one that did not would add no bytes.
            let (before, after) = rest.split_at_checked(place.saturating_sub(at)).unwrap_or((rest, &[]));
            out.extend_from_slice(before);
            format.timestamp(*ms, out);
            (rest, at) = (after, *place);
        }
        out.extend_from_slice(rest);
    }

    /// The name and labels of each series, in the order written: `name{labels}`.
    pub fn series_names(&self) -> impl Iterator<Item = &[u8]> {
        // A value has no blank and a label value no line feed: the last blank of a line ends its labels.
        self.lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| Some(line.split_at(line.iter().rposition(|byte| *byte == b' ')?).0))
    }
}

/// Turns the first label's comma into `{`, closes with `}` if there is a label, and ends with a blank.
fn close_labels(lines: &mut Vec<u8>, start: usize) {
    if let Some(comma) = lines.get_mut(start) {
        *comma = b'{';
        lines.push(b'}');
    }
    lines.push(b' ');
}

/// How much is in a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockSize {
    bytes: usize,
    series: usize,
}

/// A block may keep this fraction of its length as spare memory: releasing less is not worth a copy.
const SPARE_FRACTION: usize = 8;

/// A block under construction, with the set of its series.
#[derive(Debug)]
pub struct BlockBuilder {
    block: Block,
    known: SeriesSet,
}

impl BlockBuilder {
    /// No samples yet, and capacity for so many.
    pub fn with_capacity(family: Arc<Family>, size: BlockSize) -> Self {
        let mut block = Block::new(family);
        // Numbers are seldom as long as the last time.
        block.lines.reserve_exact(size.bytes + size.bytes / (2 * SPARE_FRACTION));
        BlockBuilder { block, known: SeriesSet::with_capacity(size.series) }
    }

    /// How much was written so far.
    pub fn size(&self) -> BlockSize {
        BlockSize { bytes: self.block.lines.len(), series: self.block.series }
    }

    /// Appends one sample of the family's name with `suffix`; `type_label` is the one that the type adds, as [`line::label`] writes
    /// it, or empty. No allocation but for the growth of the block and its set.
    pub fn add(&mut self, suffix: &str, labels: &LabelBytes, type_label: &[u8], value: f64) -> Inserted {
        let lines = &mut self.block.lines;
        let start = lines.len();
        write_series(&self.block.family, suffix, labels, type_label, lines);
        let inserted = self.known.insert(lines, start);
        if inserted == Inserted::New {
            line::number(value, lines);
            lines.push(b'\n');
            self.block.series += 1;
        } else {
            lines.truncate(start);
        }
        inserted
    }

    /// Gives the sample that was added last an explicit timestamp, in Unix milliseconds.
    pub fn timestamp(&mut self, ms: i64) {
        self.block.timestamps.push((self.block.lines.len().saturating_sub(1), ms));
    }

    /// How many series it has.
    pub fn series(&self) -> usize {
        self.block.series
    }

    /// Whose samples.
    pub fn family(&self) -> &Arc<Family> {
        &self.block.family
    }

    /// The block, with little spare memory; `None` when no sample was written.
    pub fn finish(self) -> Option<Block> {
        let mut block = self.block;
        if block.lines.capacity() - block.lines.len() > block.lines.len() / SPARE_FRACTION {
            block.lines.shrink_to_fit();
        }
        block.timestamps.shrink_to_fit();
        (block.series > 0).then_some(block)
    }
}

/// `name{labels}` and a blank.
fn write_series(family: &Family, suffix: &str, labels: &LabelBytes, type_label: &[u8], lines: &mut Vec<u8>) {
    lines.extend_from_slice(family.name.as_str().as_bytes());
    lines.extend_from_slice(suffix.as_bytes());
    let start = lines.len();
    let (before, after) = labels.around_gap();
    lines.extend_from_slice(before);
    lines.extend_from_slice(type_label);
    lines.extend_from_slice(after);
    close_labels(lines, start);
}

/// `name{labels}` as it stands on a line, for messages.
pub fn series_text(family: &Family, suffix: &str, labels: &LabelBytes, type_label: &[u8]) -> String {
    let mut line = Vec::new();
    write_series(family, suffix, labels, type_label, &mut line);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::FamilyKind;
    use crate::exposition::text::Text;
    use crate::name::MetricName;

    fn family(name: &str) -> Arc<Family> {
        let name = MetricName::new(name).unwrap();
        Arc::new(Family::new(name, FamilyKind::Gauge, ""))
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelBytes {
        let mut labels = LabelBytes::default();
        for (name, value) in pairs {
            line::label(name, value, labels.bytes_mut());
            labels.mark_gap();
        }
        labels
    }

    fn text(lines: &[u8]) -> &str {
        std::str::from_utf8(lines).unwrap()
    }

    #[test]
    fn lines_with_and_without_labels() {
        let mut builder = BlockBuilder::with_capacity(family("x"), BlockSize::default());
        let type_label = br#",le="1.0""#;
        assert_eq!(builder.add("", &labels(&[]), b"", 1.5), Inserted::New);
        assert_eq!(builder.add("", &labels(&[("a", "b\"c"), ("d", "")]), b"", f64::NAN), Inserted::New);
        assert_eq!(builder.add("_bucket", &labels(&[]), type_label, 2.0), Inserted::New);
        assert_eq!(builder.add("_bucket", &labels(&[("a", "1")]), type_label, 3.0), Inserted::New);
        let block = builder.finish().unwrap();
        let expected =
            "x 1.5\nx{a=\"b\\\"c\",d=\"\"} NaN\nx_bucket{le=\"1.0\"} 2\nx_bucket{a=\"1\",le=\"1.0\"} 3\n";
        assert_eq!(text(&block.lines), expected);
        assert_eq!(block.series, 4);
    }

    #[test]
    fn a_duplicate_leaves_no_trace() {
        let mut builder = BlockBuilder::with_capacity(family("x"), BlockSize::default());
        assert_eq!(builder.add("", &labels(&[("a", "1")]), b"", 1.0), Inserted::New);
        assert_eq!(builder.add("", &labels(&[("a", "1")]), b"", 2.0), Inserted::Duplicate);
        assert_eq!(builder.series(), 1);
        assert_eq!(text(&builder.finish().unwrap().lines), "x{a=\"1\"} 1\n");
    }

    #[test]
    fn the_label_that_the_type_adds_stands_in_the_gap() {
        let mut both = labels(&[("a", "1")]);
        line::label("z", "2", both.bytes_mut());
        let mut builder = BlockBuilder::with_capacity(family("x"), BlockSize::default());
        builder.add("", &both, br#",m="x""#, 0.0);
        assert_eq!(text(&builder.finish().unwrap().lines), "x{a=\"1\",m=\"x\",z=\"2\"} 0\n");
    }

    #[test]
    fn series_names_end_before_the_value_whatever_the_labels_hold() {
        let mut block = Block::new(family("x"));
        block.sample(&[], 1.0);
        block.sample(&[("a", "b c\n} 7")], -0.5);
        let names: Vec<&str> = block.series_names().map(text).collect();
        assert_eq!(names, ["x", "x{a=\"b c\\n} 7\"}"]);
    }

    #[test]
    fn explicit_timestamps_are_spliced_into_lines_that_stay_as_they_are() {
        let mut builder = BlockBuilder::with_capacity(family("x"), BlockSize::default());
        builder.add("", &labels(&[("a", "1")]), b"", 1.0);
        builder.timestamp(1_500);
        builder.add("", &labels(&[("a", "2")]), b"", 2.0);
        builder.add("", &labels(&[("a", "3")]), b"", 3.0);
        builder.timestamp(-1);
        let block = builder.finish().unwrap();
        assert_eq!(text(&block.lines), "x{a=\"1\"} 1\nx{a=\"2\"} 2\nx{a=\"3\"} 3\n");
        let mut out = Vec::new();
        block.write(&Text, &mut out);
        assert_eq!(text(&out), "x{a=\"1\"} 1 1500\nx{a=\"2\"} 2\nx{a=\"3\"} 3 -1\n");
        assert!(out.len() <= block.size());
        let mut more = BlockBuilder::with_capacity(family("x"), BlockSize::default());
        more.add("", &labels(&[("a", "4")]), b"", 4.0);
        more.timestamp(7);
        let (mut both, mut out) = (block, Vec::new());
        both.append(&more.finish().unwrap());
        both.write(&Text, &mut out);
        assert!(text(&out).ends_with("x{a=\"3\"} 3 -1\nx{a=\"4\"} 4 7\n") && both.series == 4);
    }

    #[test]
    fn a_builder_without_samples_is_no_block() {
        assert!(BlockBuilder::with_capacity(family("x"), BlockSize::default()).finish().is_none());
    }
}
