//! Histograms of both types: three shapes of rows, one way out. One shape is one file; which one a metric has is told by
//! its keys.
//!
//! What a histogram may be is OpenMetrics' rule, held for both formats: cumulative and monotone, with `+Inf`, counts
//! whole and not negative, `_sum` and `_count` both or neither, no negative sum unless a bound is below 0.

mod columns;
mod raw;
mod rows;
mod sets;

use crate::error::Result;
use crate::exposition::line;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::value::float;
use crate::yaml::keys::Keys;

use super::Recipe;
use super::samples::Samples;

/// Which of the two types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Only grows: `_sum` and `_count`, neither of them where a bound is below 0.
    Histogram,
    /// Goes up and down: `_gsum` and `_gcount`.
    Gauge,
}

/// Takes the keys of one shape; those of the others are faults.
pub(super) fn read(keys: &mut Keys<'_>, side: Side) -> Option<Box<dyn Recipe>> {
    let le = LabelName::new("le").ok()?;
    let layout = Layout { side, le };
    if keys.has("bucket_columns") {
        keys.forbid(
            "le_column",
            "a histogram has one bucket a column (`bucket_columns`) or one a row (`le_column`)",
        );
        keys.forbid("cumulative", "`cumulative` goes with `le_column`: buckets in columns are cumulative");
        for key in ["buckets", "value_column", "map", "null", "invalid"] {
            keys.forbid(key, "is of no use beside `bucket_columns`, whose columns are counts");
        }
        return columns::read(keys, layout);
    }
    if keys.has("le_column") {
        keys.forbid("buckets", "is of no use beside `le_column`, which holds the bounds");
        return rows::read(keys, layout);
    }
    for key in ["sum_column", "count_column", "cumulative"] {
        keys.forbid(key, "goes with `bucket_columns` or `le_column`; here each row is one observation");
    }
    raw::read(keys, layout)
}

/// Names on the lines of a histogram.
#[derive(Debug)]
struct Layout {
    side: Side,
    le: LabelName,
}

/// One bucket on its way out: its bound, `,le="…"`, and all that lies up to the bound.
struct Bucket<'b> {
    bound: f64,
    mark: &'b [u8],
    count: f64,
}

impl Layout {
    fn suffixes(&self) -> &'static [&'static str] {
        match self.side {
            Side::Histogram => &["_bucket", "_sum", "_count"],
            Side::Gauge => &["_bucket", "_gsum", "_gcount"],
        }
    }

    /// `,le="…"`
    fn mark(&self, bound: f64) -> Vec<u8> {
        let mut mark = Vec::new();
        line::open_label(&self.le, &mut mark);
        line::bound(bound, &mut mark);
        mark.push(b'"');
        mark
    }

    /// Writes one histogram: `buckets` by rising bounds, `+Inf` last. Without `sum` it has no count either.
    fn write<'b>(
        &self,
        labels: &LabelBytes,
        buckets: impl Iterator<Item = Bucket<'b>>,
        sum: Option<f64>,
        out: &mut Samples<'_>,
    ) -> Result<()> {
        let (mut below, mut has_negative) = (0.0, false);
        for Bucket { bound, mark, count } in buckets {
            if let Some(why) = no_count(count) {
                let bound = shown(bound);
                return Err(out.refused(labels, &format!("the bucket up to {bound} holds {count}: {why}")));
            }
            if count < below {
                let bound = shown(bound);
                let why = format!(
                    "the bucket up to {bound} holds {count}, the one before it {below}: buckets are cumulative"
                );
                return Err(out.refused(labels, &why));
            }
            out.add("_bucket", labels, mark, count)?;
            (below, has_negative) = (count, has_negative || bound < 0.0);
        }
        match sum {
            Some(sum) if self.side == Side::Gauge || !has_negative => {
                self.write_sum(labels, sum, below, has_negative, out)
            }
            _ => Ok(()),
        }
    }

    fn write_sum(
        &self,
        labels: &LabelBytes,
        sum: f64,
        count: f64,
        may_be_negative: bool,
        out: &mut Samples<'_>,
    ) -> Result<()> {
        let why = match sum {
            _ if sum.is_nan() => "is not a number",
            _ if sum < 0.0 && !may_be_negative => "is negative though no bound is",
            _ => {
                let [_, sum_suffix, count_suffix] = self.suffixes() else { return Ok(()) };
                out.add(sum_suffix, labels, b"", sum)?;
                return out.add(count_suffix, labels, b"", count);
            }
        };
        Err(out.refused(labels, &format!("the sum {sum} {why}")))
    }
}

/// Why a number counts nothing.
pub(super) fn no_count(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_nan() => Some("is not a number, which a count cannot be"),
        _ if number < 0.0 => Some("is negative, which a count cannot be"),
        _ if number.fract() != 0.0 => Some("is no whole number, which a count is"),
        _ if number.is_infinite() => Some("is infinite, which a count cannot be"),
        _ => None,
    }
}

/// A number as the exposition writes it: `+Inf`, not `inf`.
fn shown(number: f64) -> String {
    let mut text = String::new();
    float::write(number, |piece| text.push_str(piece));
    text
}

/// A bound as text: a finite number or an infinity.
fn read_bound(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|bound| !bound.is_nan())
}
