//! Values as most types read them: `value_column` | `value` | `value_columns` + `value_label`, with `scale`, `map`,
//! `null` and `invalid`. A type adds a [`NumberRule`] of its own.

use std::collections::{HashMap, HashSet};

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line;
use crate::name::LabelName;
use crate::value::{Cell, Number, written_number};
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::labels::label_name;
use super::samples::{Samples, SkippedValues};
use super::{ColumnNeed, ColumnUse, NumberRule};

/// Where values come from and how they are read, as configured.
#[derive(Debug, Clone)]
pub struct Values {
    source: ValueSource,
    scale: f64,
    map: Option<HashMap<String, f64>>,
    /// What NULL is; `None` skips it.
    null: Option<f64>,
    skip_invalid: bool,
    rule: NumberRule,
}

/// One value a column, or a constant.
#[derive(Debug, Clone, Default)]
struct ValueSource {
    columns: Vec<String>,
    /// Tells several columns apart.
    label: Option<LabelName>,
    constant: Option<f64>,
}

impl Values {
    /// Takes all keys of values.
    pub fn read(keys: &mut Keys<'_>, rule: NumberRule) -> Option<Values> {
        let source = ValueSource::read(keys, rule);
        if source.as_ref().is_some_and(|source| source.constant.is_some()) {
            for key in ["scale", "map", "null", "invalid"].into_iter().filter(|key| keys.has(key)) {
                keys.fault(key, format!("`value` is a constant: `{key}` has nothing to work on"));
            }
        }
        Values::read_from(source, keys, rule)
    }

    /// Takes the keys of values that come from one column, `value_column`.
    pub fn read_column(keys: &mut Keys<'_>, rule: NumberRule) -> Option<Values> {
        let source = ValueSource::column(keys);
        Values::read_from(Some(source), keys, rule)
    }

    fn read_from(source: Option<ValueSource>, keys: &mut Keys<'_>, rule: NumberRule) -> Option<Values> {
        let scale = read_scale(keys);
        let map = keys.pairs("map").map(|pairs| read_map(keys, &pairs, scale, rule));
        let null = keys.word_or_number("null", &[("skip", None), ("nan", Some(f64::NAN))], Some).flatten();
        if let Some(number) = null {
            check_constant(keys, "null", number, rule);
        }
        let skip_invalid = keys.choice("invalid", &[("error", false), ("skip", true)]).unwrap_or(false);
        Some(Values { source: source?, scale, map, null, skip_invalid, rule })
    }

    /// The values as they are, and the factor that was to multiply them.
    pub fn unscaled(self) -> (Values, f64) {
        let scale = self.scale;
        (Values { scale: 1.0, ..self }, scale)
    }

    /// The label that tells the columns of `value_columns` apart.
    pub fn type_label(&self) -> Option<&LabelName> {
        self.source.label.as_ref()
    }

    /// True where no column holds the value.
    pub fn is_constant(&self) -> bool {
        self.source.constant.is_some()
    }

    /// The columns that hold the numbers themselves, each with its factor; none where texts stand for numbers.
    pub fn measures(&self) -> Vec<(String, f64)> {
        let columns = self.source.columns.iter().filter(|_| self.map.is_none());
        columns.map(|column| (column.clone(), self.scale)).collect()
    }

    /// The columns and what is done with their values.
    pub fn uses(&self) -> Vec<ColumnUse> {
        let map = self.map.as_ref().map(|map| format!("map of {} texts", map.len()));
        let null =
            self.null.map_or_else(|| "NULL is skipped".to_owned(), |number| format!("NULL is {number}"));
        let invalid = self.skip_invalid.then(|| "values that are not numbers are skipped".to_owned());
        let rules = [map, scale_rule(self.scale), Some(null), invalid];
        let rule = rules.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let is_free = self.map.is_some() || self.skip_invalid;
        let needs = if is_free { ColumnNeed::Anything } else { ColumnNeed::Number };
        let label = self.type_label();
        let of = |column: &String| {
            let part =
                label.map_or_else(|| "value".to_owned(), |label| format!("value with {label}=\"{column}\""));
            ColumnUse { needs, ..ColumnUse::number(column, part, rule.as_str()) }
        };
        self.source.columns.iter().map(of).collect()
    }

    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bound(&self, columns: &[Column]) -> Result<BoundValues<'_>> {
        let from_column = |name: &String| {
            let type_label = self.type_label().map_or_else(Vec::new, |label| line::label_bytes(label, name));
            Ok(BoundValue { column: Some(BoundColumn::new(columns, name)?), type_label })
        };
        let constant = self.source.constant.map(|_| Ok(BoundValue { column: None, type_label: Vec::new() }));
        let all = self.source.columns.iter().map(from_column).chain(constant).collect::<Result<_>>()?;
        Ok(BoundValues { values: self, all, scratch: String::new() })
    }

    fn value(
        &self,
        column: &BoundColumn,
        row: &dyn Row,
        scratch: &mut String,
        skipped: &mut SkippedValues,
    ) -> Result<Option<f64>> {
        let cell = column.cell(row)?;
        if cell == Cell::Null {
            skipped.null += u64::from(self.null.is_none());
            return Ok(self.null);
        }
        match self.convert(column, &cell, scratch) {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.skip_invalid => {
                skipped.invalid += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn convert(&self, column: &BoundColumn, cell: &Cell<'_>, scratch: &mut String) -> Result<f64> {
        let mapped = self.map.as_ref().and_then(|map| map.get(cell.label(scratch)));
        let read = match (mapped, cell.number()) {
            (Some(mapped), _) => *mapped,
            // What the map does not hold may be a number all the same.
            (None, Number::Value(value)) => value,
            (None, Number::NotNumber) if self.map.is_some() => {
                return Err(column
                    .bad_value(cell, "is not in `map` and is not a number")
                    .with_hint("add it to `map`, or set `invalid: skip`"));
            }
            (None, other) => return Err(column.not_a_number(cell, other)),
        };
        let value = read * self.scale;
        if value.is_infinite() && read.is_finite() {
            return Err(column.not_a_number(cell, Number::Overflow));
        }
        match (self.rule)(value) {
            None => Ok(value),
            Some(why) => {
                let scaled = scale_rule(self.scale).map(|rule| format!("{rule} ")).unwrap_or_default();
                Err(column.bad_value(cell, &format!("{scaled}{why}")))
            }
        }
    }
}

impl ValueSource {
    fn column(keys: &mut Keys<'_>) -> ValueSource {
        let column = keys.text("value_column").unwrap_or_else(|| "value".to_owned());
        ValueSource { columns: vec![column], ..ValueSource::default() }
    }

    /// Takes all keys that say where values come from: one of three.
    fn read(keys: &mut Keys<'_>, rule: NumberRule) -> Option<ValueSource> {
        let column = ValueSource::column(keys);
        let constant = keys.float("value");
        let columns = keys.texts("value_columns");
        let label = keys.text("value_label");
        let sources = ["value_column", "value", "value_columns"];
        let given: Vec<&str> = sources.into_iter().filter(|key| keys.has(key)).collect();
        if let [first, second, ..] = given[..] {
            keys.fault(second, format!("a metric has `{first}` or `{second}`, not both"));
        }
        let label = label.and_then(|label| label_name(keys, "value_label", &label));
        if let Some(columns) = &columns {
            check_columns(keys, columns);
        }
        match (keys.has("value_columns"), keys.has("value_label")) {
            (true, false) => {
                let message =
                    "`value_label` is missing beside `value_columns`: the label that tells the columns apart";
                keys.lacks("", &["value_label"], message, None);
            }
            (false, true) => keys.fault("value_label", "`value_label` goes with `value_columns`"),
            _ => {}
        }
        match given[..] {
            ["value"] => {
                check_constant(keys, "value", constant?, rule);
                Some(ValueSource { constant, ..ValueSource::default() })
            }
            ["value_columns"] => Some(ValueSource { columns: columns?, label: Some(label?), constant: None }),
            [] | ["value_column"] => Some(column),
            _ => None,
        }
    }
}

/// Takes `scale`: the factor of what was measured, 1 by default.
pub(super) fn read_scale(keys: &mut Keys<'_>) -> f64 {
    let scale = keys.float("scale").unwrap_or(1.0);
    if !scale.is_finite() || scale == 0.0 {
        keys.fault("scale", "a factor is a finite number other than 0");
    }
    scale
}

/// How a [`ColumnUse`] shows a factor.
pub(super) fn scale_rule(scale: f64) -> Option<String> {
    (scale.to_bits() != 1_f64.to_bits()).then(|| format!("× {scale}"))
}

/// Takes a map from numbers to columns, each number once, and sorts it. `what` the numbers are, and what they must be.
pub(super) fn read_numbered_columns(
    keys: &mut Keys<'_>,
    key: &'static str,
    (what, rule): (&str, &str),
    parse: impl Fn(&str) -> Option<f64>,
) -> Option<Vec<(f64, String)>> {
    let mut columns: Vec<(f64, String)> = Vec::new();
    let mut known = HashSet::new();
    for (text, column) in keys.pairs(key)? {
        match parse(&text) {
            None => keys.fault(key, format!("{text:?} is not a {what}: {rule}")),
            // Adding 0 makes one of both zeros.
            Some(number) if !known.insert((number + 0.0).to_bits()) => {
                keys.fault(key, format!("the {what} {text} is given twice"));
            }
            Some(number) => columns.push((number, column)),
        }
    }
    columns.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    Some(columns)
}

fn check_columns(keys: &Keys<'_>, columns: &[String]) {
    if columns.is_empty() {
        keys.fault("value_columns", "no column is named");
    }
    let mut known = HashSet::new();
    for column in columns.iter().filter(|column| !known.insert(*column)) {
        keys.fault("value_columns", format!("column `{column}` is named twice"));
    }
}

fn check_constant(keys: &Keys<'_>, key: &str, constant: f64, rule: NumberRule) {
    if let Some(why) = rule(constant) {
        keys.fault(key, format!("{constant} {why}"));
    }
}

fn read_map(
    keys: &Keys<'_>,
    pairs: &[(String, String)],
    scale: f64,
    rule: NumberRule,
) -> HashMap<String, f64> {
    let scaled = scale_rule(scale).map(|rule| format!(" {rule}")).unwrap_or_default();
    let entry = |(text, number): &(String, String)| {
        let read = written_number(number).and_then(|read| rule(read * scale).map_or(Ok(read), Err));
        let wrong = |why| format!("{text:?} is mapped to {number:?}{scaled}, which {why}");
        Some((text.clone(), keys.valid("map", read.map_err(wrong))?))
    };
    pairs.iter().filter_map(entry).collect()
}

/// Values bound to the columns of a result.
#[derive(Debug)]
pub struct BoundValues<'r> {
    values: &'r Values,
    all: Vec<BoundValue>,
    scratch: String,
}

#[derive(Debug)]
struct BoundValue {
    /// `None` for the constant.
    column: Option<BoundColumn>,
    /// The label that the type adds, as bytes.
    type_label: Vec<u8>,
}

impl BoundValues<'_> {
    /// Hands each value of `row` to `take`, with the label that the type adds as bytes. NULL and invalid values
    /// that the configuration says to skip are counted and left out.
    ///
    /// # Errors
    /// `type`, `value`, `protocol`, and what `take` fails with.
    pub fn each(
        &mut self,
        row: &dyn Row,
        out: &mut Samples<'_>,
        mut take: impl FnMut(&mut Samples<'_>, &[u8], f64) -> Result<()>,
    ) -> Result<()> {
        let BoundValues { values, all, scratch } = self;
        for BoundValue { column, type_label } in all {
            let value = match column {
                Some(column) => values.value(column, row, scratch, &mut out.tally.skipped)?,
                None => values.source.constant,
            };
            if let Some(value) = value {
                take(out, type_label, value)?;
            }
        }
        Ok(())
    }

    /// The label that the type adds to each value, as bytes.
    pub fn type_labels(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|value| value.type_label.as_slice())
    }
}
