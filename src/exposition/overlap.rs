//! What is left of a block when some of its series are elsewhere on the page. Of a histogram, a summary or a stateset a label
//! set goes or stays as a whole: half of one says something wrong.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::block::Block;
use super::{Family, FamilyKind};

/// A block without some of its series.
#[derive(Debug)]
pub struct Remainder {
    /// What is left; `None` where nothing is.
    pub block: Option<Arc<Block>>,
    /// For each line of the whole block, whether it is in `block`.
    pub kept: Vec<bool>,
}

impl Remainder {
    /// How many series are not in it.
    pub fn left_out(&self) -> u64 {
        self.kept.iter().filter(|kept| !**kept).count() as u64
    }
}

/// The block without the lines of these numbers, and without what belongs to them.
pub fn without(block: &Block, lines: &[usize]) -> Remainder {
    let mut kept = vec![true; block.series];
    for line in lines {
        if let Some(kept) = kept.get_mut(*line) {
            *kept = false;
        }
    }
    if let Some(type_label) = type_label(&block.family) {
        let sets = || block.series_names().map(|series| label_set(series, type_label));
        let gone: HashSet<Vec<u8>, RandomState> =
            sets().zip(&kept).filter(|(_, kept)| !**kept).map(|(set, _)| set).collect();
        for (set, kept) in sets().zip(&mut kept) {
            *kept = !gone.contains(&set);
        }
    }
    Remainder { block: copy(block, &kept).map(Arc::new), kept }
}

/// The lines that are kept, with their timestamps.
fn copy(block: &Block, kept: &[bool]) -> Option<Block> {
    let mut left = Block::new(Arc::clone(&block.family));
    let mut timestamps = block.timestamps.iter().copied().peekable();
    let mut end = 0;
    for (line, kept) in block.lines.split_inclusive(|byte| *byte == b'\n').zip(kept) {
        end += line.len();
        // A timestamp stands before the line feed of its line.
        let timestamp = timestamps.next_if(|(place, _)| *place < end);
        if *kept {
            left.lines.extend_from_slice(line);
            left.series += 1;
            left.timestamps.extend(timestamp.map(|(_, ms)| (left.lines.len() - 1, ms)));
        }
    }
    (left.series > 0).then_some(left)
}

/// The label that the type adds to the samples of one label set; `None` where a label set is one sample.
fn type_label(family: &Family) -> Option<&str> {
    match family.kind {
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => Some("le"),
        FamilyKind::Summary => Some("quantile"),
        FamilyKind::StateSet => Some(family.name.as_str()),
        FamilyKind::Gauge | FamilyKind::Counter | FamilyKind::Info | FamilyKind::Unknown => None,
    }
}

/// The labels of `name{labels}` without the one called `type_label`.
fn label_set(series: &[u8], type_label: &str) -> Vec<u8> {
    let labels = series.iter().position(|byte| *byte == b'{').and_then(|open| series.get(open + 1..));
    let mut rest = labels.unwrap_or_default();
    let mut set = Vec::with_capacity(rest.len());
    while let Some(end) = label_end(rest) {
        let (label, after) = rest.split_at(end);
        if !label.strip_prefix(type_label.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")) {
            set.extend_from_slice(label);
            set.push(b',');
        }
        rest = after.get(1..).unwrap_or_default();
    }
    set
}

/// Where the first label of `name="value",…` ends: behind the first quote that closes a value.
fn label_end(labels: &[u8]) -> Option<usize> {
    let mut at = labels.iter().position(|byte| *byte == b'"')? + 1;
    loop {
        match labels.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::text::Text;
    use crate::name::MetricName;

    fn block(kind: FamilyKind, lines: &str) -> Block {
        let family = Arc::new(Family::new(MetricName::new("x").unwrap(), kind, ""));
        let series = lines.lines().count();
        Block { family, lines: lines.into(), series, timestamps: Vec::new() }
    }

    fn left(block: &Block, lines: &[usize]) -> String {
        let left = without(block, lines).block;
        left.map(|left| String::from_utf8(left.lines.clone()).unwrap()).unwrap_or_default()
    }

    #[test]
    fn of_a_gauge_a_series_goes_alone() {
        let block = block(FamilyKind::Gauge, "x{a=\"1\"} 1\nx{a=\"2\"} 2\nx{a=\"3\"} 3\n");
        assert_eq!(left(&block, &[1]), "x{a=\"1\"} 1\nx{a=\"3\"} 3\n");
        assert_eq!(without(&block, &[1]).left_out(), 1);
        assert!(without(&block, &[0, 1, 2]).block.is_none());
    }

    #[test]
    fn of_a_histogram_a_label_set_goes_as_a_whole() {
        let lines = "x_bucket{a=\"1\",le=\"0.5\"} 1\nx_bucket{a=\"1\",le=\"+Inf\"} 1\nx_sum{a=\"1\"} 1\nx_count{a=\"1\"} 1\n\
                     x_bucket{a=\"2\",le=\"+Inf\"} 1\nx_sum{a=\"2\"} 1\nx_count{a=\"2\"} 1\n";
        let block = block(FamilyKind::Histogram, lines);
        let rest = "x_bucket{a=\"2\",le=\"+Inf\"} 1\nx_sum{a=\"2\"} 1\nx_count{a=\"2\"} 1\n";
        assert_eq!(left(&block, &[1]), rest);
        assert_eq!(without(&block, &[1]).kept, [false, false, false, false, true, true, true]);
    }

    #[test]
    fn so_do_those_of_a_summary_and_a_stateset_wherever_their_own_label_stands() {
        let lines = "x{a=\"1\",quantile=\"0.5\",z=\"q\"} 1\nx{a=\"1\",quantile=\"0.9\",z=\"q\"} 1\nx_sum{a=\"1\",z=\"r\"} 1\n";
        assert_eq!(left(&block(FamilyKind::Summary, lines), &[0]), "x_sum{a=\"1\",z=\"r\"} 1\n");
        let lines = "x{x=\"on\"} 1\nx{x=\"off\"} 0\n";
        assert_eq!(left(&block(FamilyKind::StateSet, lines), &[1]), "");
    }

    #[test]
    fn a_label_value_may_hold_anything() {
        let set = |series: &str| String::from_utf8(label_set(series.as_bytes(), "le")).unwrap();
        assert_eq!(set(r#"x_bucket{a="\",le=\"1",le="2",file="b"}"#), r#"a="\",le=\"1",file="b","#);
        assert_eq!(set(r#"x_bucket{a="\\",le="2"}"#), r#"a="\\","#);
        assert_eq!(set("x_count"), "");
    }

    #[test]
    fn timestamps_stay_with_their_lines() {
        let mut block = block(FamilyKind::Gauge, "x{a=\"1\"} 1\nx{a=\"2\"} 2\nx{a=\"3\"} 3\n");
        block.timestamps = vec![(9, 1000), (19, 2000), (29, 3000)];
        let left = without(&block, &[1]).block.unwrap();
        let mut out = Vec::new();
        left.write(&Text, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), "x{a=\"1\"} 1 1000\nx{a=\"3\"} 3 3000\n");
    }
}
