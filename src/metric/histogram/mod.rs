//! `histogram` and `gaugehistogram`: three shapes of rows, one way out. The keys tell which shape a metric has.
//!
//! What a histogram may be is OpenMetrics' rule, enforced for both formats: cumulative and monotone, with `+Inf`, counts
//! whole and not negative, `_sum` and `_count` both or neither, no negative sum unless a bound is below 0.

mod columns;
mod raw;
mod rows;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::driver::Column;
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line::{self, LabelBytes};
use crate::name::LabelName;
use crate::value::{float, written_number};
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::samples::Samples;
use super::{Bind, ColumnUse, Recipe};

/// What happened, counted into buckets that only grow.
pub(super) fn read(keys: &mut Keys<'_>, _: Option<&str>) -> Option<Recipe> {
    read_shape(keys, FamilyKind::Histogram)
}

/// What is there now, counted into buckets that go up and down (the ages of open orders).
pub(super) fn read_gauge(keys: &mut Keys<'_>, _: Option<&str>) -> Option<Recipe> {
    read_shape(keys, FamilyKind::GaugeHistogram)
}

/// Takes the keys of one shape; those of the others are faults.
fn read_shape(keys: &mut Keys<'_>, kind: FamilyKind) -> Option<Recipe> {
    let layout = Layout { kind, le: LabelName::of_code("le") };
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

/// What the three shapes have in common.
fn recipe(le: LabelName, uses: Vec<ColumnUse>, shape: impl Bind + 'static) -> Recipe {
    let refuses_empty = |value| {
        (value != 0.0)
            .then_some("is not a histogram: only 0, a histogram without observations, can stand for no rows")
    };
    Recipe { type_label: Some(le), refuses_empty, ..Recipe::new(uses, shape) }
}

/// The columns of sum and count, where a shape has them.
struct SumAndCount<C> {
    sum: Option<C>,
    count: Option<C>,
}

impl SumAndCount<String> {
    fn read(keys: &mut Keys<'_>) -> Self {
        SumAndCount { sum: keys.text("sum_column"), count: keys.text("count_column") }
    }

    fn uses(&self) -> impl Iterator<Item = ColumnUse> {
        let parts = [("sum", &self.sum), ("count", &self.count)].into_iter();
        parts.filter_map(|(part, column)| Some(ColumnUse::number(column.as_ref()?, part, "")))
    }

    fn bind(&self, columns: &[Column]) -> Result<SumAndCount<BoundColumn>> {
        let bind =
            |name: &Option<String>| name.as_ref().map(|name| BoundColumn::new(columns, name)).transpose();
        Ok(SumAndCount { sum: bind(&self.sum)?, count: bind(&self.count)? })
    }
}

/// What is gathered of each label set until the last row is there, in the order first seen.
type LabelSets<T> = IndexMap<LabelBytes, T, RandomState>;

/// That of one label set, begun where it is new. Labels are copied once a set.
fn of_labels<'s, T: Default>(sets: &'s mut LabelSets<T>, labels: &LabelBytes) -> &'s mut T {
    let at = match sets.get_index_of(labels) {
        Some(at) => at,
        None => sets.insert_full(labels.clone(), T::default()).0,
    };
    &mut sets[at]
}

/// Names on the lines of a histogram.
#[derive(Debug)]
struct Layout {
    kind: FamilyKind,
    le: LabelName,
}

/// One bucket on its way out: its bound, `,le="…"`, and all that lies up to the bound.
struct Bucket<'b> {
    bound: f64,
    mark: &'b [u8],
    count: f64,
}

impl Layout {
    /// `,le="…"`
    fn mark(&self, bound: f64) -> Vec<u8> {
        line::bound_label(&self.le, bound)
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
            let why = match refuse_count(count) {
                Some(why) => format!("holds {count}: {why}"),
                None if count < below => {
                    format!("holds {count}, the one before it {below}: buckets are cumulative")
                }
                None => {
                    out.add("_bucket", labels, mark, count)?;
                    (below, has_negative) = (count, has_negative || bound < 0.0);
                    continue;
                }
            };
            return Err(out.refused(labels, &format!("the bucket up to {} {why}", shown(bound))));
        }
        match sum {
            Some(sum) if sum.is_nan() => Err(out.refused(labels, &format!("the sum {sum} is not a number"))),
            Some(sum) if sum < 0.0 && !has_negative => {
                Err(out.refused(labels, &format!("the sum {sum} is negative though no bound is")))
            }
            Some(sum) if self.kind == FamilyKind::GaugeHistogram => {
                out.add("_gsum", labels, b"", sum)?;
                out.add("_gcount", labels, b"", below)
            }
            Some(sum) if !has_negative => {
                out.add("_sum", labels, b"", sum)?;
                out.add("_count", labels, b"", below)
            }
            _ => Ok(()),
        }
    }
}

/// Why a number is not a count.
pub(super) fn refuse_count(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_nan() => Some("is not a number, which a count cannot be"),
        _ if number < 0.0 => Some("is negative, which a count cannot be"),
        _ if number.fract() != 0.0 => Some("is not a whole number, which a count must be"),
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
    written_number(text).ok().filter(|bound| !bound.is_nan())
}
