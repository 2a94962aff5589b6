//! `gaugehistogram`: what is there now, counted into buckets that go up and down (the ages of open orders). Its three
//! shapes are in `buckets/`.

use crate::exposition::FamilyKind;
use crate::yaml::keys::Keys;

use super::buckets;
use super::buckets::Side;
use super::{MetricType, Recipe};

/// The type.
pub struct GaugeHistogram;

impl MetricType for GaugeHistogram {
    fn name(&self) -> &'static str {
        "gaugehistogram"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::GaugeHistogram
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        buckets::read(keys, Side::Gauge)
    }
}
