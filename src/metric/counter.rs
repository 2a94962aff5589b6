//! `counter`: only grows. The absolute value read is exported; Prometheus sees a reset when it falls.

use crate::exposition::FamilyKind;
use crate::yaml::keys::Keys;

use super::plain::Plain;
use super::{MetricType, Recipe};

/// The type.
pub struct Counter;

impl MetricType for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Counter
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        Plain::read(keys, |value| match value {
            _ if value.is_nan() => Some("is not a number, which a counter cannot be: type gauge can"),
            _ if value < 0.0 => Some("is negative, which a counter cannot be: type gauge can"),
            _ => None,
        })
    }
}
