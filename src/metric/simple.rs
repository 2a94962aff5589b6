//! The types of one value, one sample: `gauge`, `counter`, `unknown`; and `info`, whose value is always 1.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::LabelBytes;
use crate::yaml::keys::Keys;

use super::samples::Samples;
use super::values::{BoundValues, Values};
use super::{Bind, Emit, NumberRule, Recipe};

/// `gauge` goes up and down; of `unknown` nothing is known. Both may be any number.
pub(super) fn read_gauge(keys: &mut Keys<'_>, _: Option<&str>) -> Option<Recipe> {
    read(keys, |_| None)
}

/// `counter` only grows. The absolute value is exported; Prometheus sees a reset when it falls.
pub(super) fn read_counter(keys: &mut Keys<'_>, _: Option<&str>) -> Option<Recipe> {
    read(keys, |value| match value {
        _ if value.is_nan() => Some("is not a number, which a counter cannot be: type gauge can"),
        _ if value < 0.0 => Some("is negative, which a counter cannot be: type gauge can"),
        _ => None,
    })
}

fn read(keys: &mut Keys<'_>, rule: NumberRule) -> Option<Recipe> {
    let values = Values::read(keys, rule)?;
    Some(Recipe {
        type_label: values.type_label().cloned(),
        refuses_empty: rule,
        measures: values.measures(),
        unscaled: values.is_constant().then_some("value"),
        ..Recipe::new(values.uses(), values)
    })
}

/// One sample for each value.
impl Bind for Values {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(self.bound(columns)?))
    }
}

impl Emit for BoundValues<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.each(row, out, |out, type_label, value| out.add("", labels, type_label, value))
    }

    fn empty(&mut self, value: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.type_labels().try_for_each(|type_label| out.add("", labels, type_label, value))
    }
}

/// `info`: facts as labels.
pub(super) fn read_info(keys: &mut Keys<'_>, name: Option<&str>) -> Option<Recipe> {
    let is_named = |name: &str| name.strip_suffix("_info").is_some_and(|stem| !stem.is_empty());
    if let Some(name) = name.filter(|name| !is_named(name)) {
        let hint = format!("call it `{name}_info`");
        keys.fault_with_hint("type", "the name of an info ends in `_info`, in both formats", hint);
    }
    Some(Recipe {
        refuses_empty: |value| (value != 1.0).then_some("is not what an info is: always 1"),
        refuses_sums: Some("an info is always 1: several cannot be added up"),
        ..Recipe::new(Vec::new(), AlwaysOne)
    })
}

struct AlwaysOne;

impl Bind for AlwaysOne {
    fn bind<'r>(&'r self, _: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(AlwaysOne))
    }
}

impl Emit for AlwaysOne {
    fn row(&mut self, _: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        out.add("", labels, b"", 1.0)
    }

    fn empty(&mut self, value: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        out.add("", labels, b"", value)
    }
}
