//! `histogram`: what happened, counted into buckets that only grow. Its three shapes are in `buckets/`.

use crate::exposition::FamilyKind;
use crate::yaml::keys::Keys;

use super::buckets;
use super::buckets::Side;
use super::{MetricType, Recipe};

/// The type.
pub struct Histogram;

impl MetricType for Histogram {
    fn name(&self) -> &'static str {
        "histogram"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Histogram
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        buckets::read(keys, Side::Histogram)
    }
}
