//! `info`: facts as labels, the value always 1.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line::LabelBytes;
use crate::yaml::keys::Keys;

use super::samples::Samples;
use super::{ColumnUse, Emit, MetricType, Recipe};

/// The type.
pub struct Info;

impl MetricType for Info {
    fn name(&self) -> &'static str {
        "info"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::Info
    }

    fn read(&self, keys: &mut Keys<'_>, name: Option<&str>) -> Option<Box<dyn Recipe>> {
        let is_named = |name: &str| name.strip_suffix("_info").is_some_and(|stem| !stem.is_empty());
        if let Some(name) = name.filter(|name| !is_named(name)) {
            let hint = format!("call it `{name}_info`");
            keys.fault_with_hint("type", "the name of an info ends in `_info`, in both formats", hint);
        }
        Some(Box::new(Always1))
    }
}

struct Always1;

impl Recipe for Always1 {
    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 1.0).then_some("is not what an info is: always 1")
    }

    fn refuses_sums(&self) -> Option<&'static str> {
        Some("an info is always 1: a sum of several is none")
    }

    fn uses(&self) -> Vec<ColumnUse> {
        Vec::new()
    }

    fn bind<'r>(&'r self, _: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(Always1))
    }
}

impl Emit for Always1 {
    fn row(&mut self, _: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        out.add("", labels, b"", 1.0)
    }

    fn empty(&mut self, value: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        out.add("", labels, b"", value)
    }
}
