//! Metric types: how rows become samples. One type is one file and one line in [`TYPES`].
//!
//! [`Metric`] is one entry of `metrics:` as read; it knows columns and cells, no database and no target.

use std::sync::Arc;

use crate::error::Place;
use crate::exposition::Family;
use crate::name::LabelName;
use crate::yaml::keys::Keys;

/// A type of metric, by its name in `type:`. A new one is one line here.
pub trait MetricType: Sync {
    /// The value of `type:`.
    fn name(&self) -> &'static str;
}

/// The types inside the binary.
pub static TYPES: &[&dyn MetricType] = &[];

/// Types that a later version brings: refused by name.
pub const LATER: &[&str] = &["gaugehistogram", "summary", "info", "stateset"];

/// One entry of `metrics:`, read and checked by itself (clashes with others are `plan/clash`).
pub struct Metric {
    /// Name, type, help.
    pub family: Arc<Family>,
    /// Label names in the order written on a sample: label columns, then static labels, then the type's own.
    pub label_names: Vec<LabelName>,
    /// Suffixes of the series names that the type writes beside the name itself: `_bucket`, `_sum`, `_count`.
    pub suffixes: &'static [&'static str],
    /// Where it stands in the file.
    pub place: Place,
}

impl Metric {
    /// Takes all keys of one `metrics:` entry. `None` after a recorded fault.
    pub fn read(keys: Keys<'_>) -> Option<Metric> {
        let _ = keys;
        todo!()
    }

    /// The mini form: `metric_name`, `help`, `labels`, `value_column` (and `type`) taken from the query's own keys.
    /// `Some` only when `metric_name` is there.
    pub fn read_mini(keys: &mut Keys<'_>) -> Option<Metric> {
        let _ = keys;
        todo!()
    }
}
