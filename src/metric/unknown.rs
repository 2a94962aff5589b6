//! `unknown`: a number of which nothing is said (`untyped` in text format 0.0.4).

use crate::exposition::FamilyKind;
use crate::yaml::keys::Keys;

use super::plain::Plain;
use super::{MetricType, Recipe};

/// The type.
pub struct Unknown;

impl MetricType for Unknown {
    fn name(&self) -> &'static str {
        "unknown"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Unknown
    }

    fn read(&self, keys: &mut Keys<'_>, _: Option<&str>) -> Option<Box<dyn Recipe>> {
        Plain::read(keys, |_| None)
    }
}
