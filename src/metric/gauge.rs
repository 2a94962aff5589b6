//! `gauge`: goes up and down, may be anything.

use crate::exposition::FamilyKind;
use crate::yaml::keys::Keys;

use super::plain::Plain;
use super::{MetricType, Recipe};

/// The type.
pub struct Gauge;

impl MetricType for Gauge {
    fn name(&self) -> &'static str {
        "gauge"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Gauge
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        Plain::read(keys, |_| None)
    }
}
