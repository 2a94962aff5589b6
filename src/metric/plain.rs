//! One value, one sample of the family's own name: what gauge, counter and unknown share.

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::samples::Samples;
use super::value::{BoundValues, Rule, Values};
use super::{ColumnUse, Emit, Recipe};

/// The recipe.
#[derive(Debug)]
pub struct Plain(Values);

impl Plain {
    /// Takes all keys of values; `rule` is what the type cannot hold.
    pub fn read(keys: &mut Keys<'_>, rule: Rule) -> Option<Box<dyn Recipe>> {
        Some(Box::new(Plain(Values::read(keys, rule)?)))
    }
}

impl Recipe for Plain {
    fn own_label(&self) -> Option<&LabelName> {
        self.0.own_label()
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        self.0.refuses(value)
    }

    fn measures(&self) -> Vec<(&str, f64)> {
        self.0.measures()
    }

    fn uses(&self) -> Vec<ColumnUse> {
        self.0.uses()
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        Ok(Box::new(Writing(self.0.bind(columns)?)))
    }
}

struct Writing<'r>(BoundValues<'r>);

impl Emit for Writing<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.0.each(row, out, |out, own, value| out.add("", labels, own, value))
    }

    fn empty(&mut self, value: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.0.own_labels().try_for_each(|own| out.add("", labels, own, value))
    }
}
