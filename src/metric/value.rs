//! Values as most types read them: `value_column` | `value` | `value_columns` + `value_label`, with `scale`, `map`,
//! `null` and `invalid`. [`Plain`] writes one sample a value; a type of its own adds a [`Rule`].

use std::collections::HashMap;

use crate::cell::{Cell, Number};
use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::block::own_label;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use super::column::Bound;
use super::samples::{Samples, Skipped};
use super::{Emit, Recipe};

/// Says why a type cannot hold a number: "is negative, and a counter …".
pub type Rule = fn(f64) -> Option<&'static str>;

/// Where values come from and how they are read, as configured.
#[derive(Debug, Clone)]
pub struct Values {
    source: Source,
    scale: f64,
    map: Option<HashMap<String, f64>>,
    null: Null,
    skip_invalid: bool,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Source {
    Column(String),
    Constant(f64),
    Columns { label: LabelName, columns: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Null {
    Skip,
    Number(f64),
}

impl Values {
    /// Takes all keys of values.
    pub fn read(keys: &mut Keys<'_>, rule: Rule) -> Option<Values> {
        let source = Source::read(keys, rule);
        let mut values = Values::read_column_only(keys, rule)?;
        values.source = source?;
        if matches!(values.source, Source::Constant(_)) {
            for key in ["scale", "map", "null", "invalid"].into_iter().filter(|key| keys.has(key)) {
                keys.fault(key, format!("`value` is a constant: `{key}` has nothing to work on"));
            }
        }
        Some(values)
    }

    /// Takes `value_column`, `scale`, `map`, `null` and `invalid`: for types that read one column.
    pub fn read_column_only(keys: &mut Keys<'_>, rule: Rule) -> Option<Values> {
        let column = keys.text("value_column").unwrap_or_else(|| "value".to_owned());
        let scale = keys.number::<f64>("scale", "a number").unwrap_or(1.0);
        if !scale.is_finite() || scale == 0.0 {
            keys.fault("scale", "a factor is a finite number other than 0");
        }
        let map = keys.pairs("map").map(|pairs| read_map(keys, &pairs));
        let null = read_null(keys, rule);
        let skip_invalid = keys.choice("invalid", &[("error", false), ("skip", true)]).unwrap_or(false);
        Some(Values { source: Source::Column(column), scale, map, null, skip_invalid, rule })
    }

    /// The label that tells the columns of `value_columns` apart.
    #[must_use]
    pub fn own_label(&self) -> Option<&LabelName> {
        match &self.source {
            Source::Columns { label, .. } => Some(label),
            Source::Column(_) | Source::Constant(_) => None,
        }
    }

    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind(&self, columns: &[Column]) -> Result<BoundValues<'_>> {
        let places = match &self.source {
            Source::Column(name) => {
                vec![Place { column: Some(Bound::new(columns, name)?), constant: 0.0, own: Vec::new() }]
            }
            Source::Constant(constant) => vec![Place { column: None, constant: *constant, own: Vec::new() }],
            Source::Columns { label, columns: names } => {
                let place = |name: &String| {
                    let column = Some(Bound::new(columns, name)?);
                    Ok(Place { column, constant: 0.0, own: own_label(label, name) })
                };
                names.iter().map(place).collect::<Result<_>>()?
            }
        };
        Ok(BoundValues { values: self, places, scratch: String::new() })
    }
}
