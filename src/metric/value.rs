//! Values as most types read them: `value_column` | `value` | `value_columns` + `value_label`, with `scale`, `map`,
//! `null` and `invalid`. A type of its own adds a [`Rule`].

use std::collections::{HashMap, HashSet};

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::line;
use crate::name::LabelName;
use crate::value::{Cell, Number};
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::labels::label_name;
use super::samples::{Samples, SkippedValues};
use super::{ColumnNeed, ColumnUse};

/// Says why a type cannot hold a number: "is negative, which a counter cannot be".
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

#[derive(Debug, Clone, Copy)]
enum Null {
    Skip,
    Number(f64),
}

impl Values {
    /// Takes all keys of values.
    pub fn read(keys: &mut Keys<'_>, rule: Rule) -> Option<Values> {
        let source = Source::read(keys, rule);
        if let Some(Source::Constant(_)) = source {
            for key in ["scale", "map", "null", "invalid"].into_iter().filter(|key| keys.has(key)) {
                keys.fault(key, format!("`value` is a constant: `{key}` has nothing to work on"));
            }
        }
        Values::read_from(source, keys, rule)
    }

    /// Takes the keys of values that come from one column, `value_column`.
    pub fn read_column(keys: &mut Keys<'_>, rule: Rule) -> Option<Values> {
        let source = Source::column(keys);
        Values::read_from(Some(source), keys, rule)
    }

    fn read_from(source: Option<Source>, keys: &mut Keys<'_>, rule: Rule) -> Option<Values> {
        let scale = read_scale(keys);
        let map = keys.pairs("map").map(|pairs| read_map(keys, &pairs));
        let null = read_null(keys, rule);
        let skip_invalid = keys.choice("invalid", &[("error", false), ("skip", true)]).unwrap_or(false);
        Some(Values { source: source?, scale, map, null, skip_invalid, rule })
    }

    /// The values as they are, and the factor that was to multiply them.
    #[must_use]
    pub fn unscaled(self) -> (Values, f64) {
        let scale = self.scale;
        (Values { scale: 1.0, ..self }, scale)
    }

    /// The label that tells the columns of `value_columns` apart.
    #[must_use]
    pub fn own_label(&self) -> Option<&LabelName> {
        match &self.source {
            Source::Columns { label, .. } => Some(label),
            Source::Column(_) | Source::Constant(_) => None,
        }
    }

    /// The columns that hold the numbers themselves, each with its factor; none where texts stand for numbers.
    #[must_use]
    pub fn measures(&self) -> Vec<(&str, f64)> {
        let columns = match &self.source {
            _ if self.map.is_some() => &[],
            Source::Constant(_) => [].as_slice(),
            Source::Column(column) => std::slice::from_ref(column),
            Source::Columns { columns, .. } => columns,
        };
        columns.iter().map(|column| (column.as_str(), self.scale)).collect()
    }

    /// The columns and what is done with their values.
    #[must_use]
    pub fn uses(&self) -> Vec<ColumnUse> {
        let mut rules = Vec::new();
        if let Some(map) = &self.map {
            rules.push(format!("map of {} texts", map.len()));
        }
        if self.scale.to_bits() != 1_f64.to_bits() {
            rules.push(format!("× {}", self.scale));
        }
        rules.push(match self.null {
            Null::Skip => "NULL is skipped".to_owned(),
            Null::Number(number) => format!("NULL is {number}"),
        });
        if self.skip_invalid {
            rules.push("what is no number is skipped".to_owned());
        }
        let rule = rules.join("; ");
        let (columns, label) = match &self.source {
            Source::Constant(_) => ([].as_slice(), None),
            Source::Column(column) => (std::slice::from_ref(column), None),
            Source::Columns { label, columns } => (columns.as_slice(), Some(label)),
        };
        let of = |column: &String| {
            let part =
                label.map_or_else(|| "value".to_owned(), |label| format!("value with {label}=\"{column}\""));
            let free = self.map.is_some() || self.skip_invalid;
            let taken = ColumnUse::number(column, part, rule.as_str());
            if free { ColumnUse { needs: ColumnNeed::Anything, ..taken } } else { taken }
        };
        columns.iter().map(of).collect()
    }

    /// Why the type cannot hold `value`.
    #[must_use]
    pub fn refuses(&self, value: f64) -> Option<&'static str> {
        (self.rule)(value)
    }

    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind(&self, columns: &[Column]) -> Result<BoundValues<'_>> {
        let from = |name: &String, own| Ok(Field::Column { column: BoundColumn::new(columns, name)?, own });
        let fields = match &self.source {
            Source::Constant(constant) => vec![Field::Constant(*constant)],
            Source::Column(name) => vec![from(name, Vec::new())?],
            Source::Columns { label, columns: names } => {
                let labelled = |name: &String| {
                    let mut own = Vec::new();
                    line::label(label, name, &mut own);
                    from(name, own)
                };
                names.iter().map(labelled).collect::<Result<_>>()?
            }
        };
        Ok(BoundValues { values: self, fields, scratch: String::new() })
    }
}

impl Source {
    fn column(keys: &mut Keys<'_>) -> Source {
        Source::Column(keys.text("value_column").unwrap_or_else(|| "value".to_owned()))
    }

    /// Takes all keys that say where values come from: one of three ways.
    fn read(keys: &mut Keys<'_>, rule: Rule) -> Option<Source> {
        let column = Source::column(keys);
        let constant = keys.number::<f64>("value", "a number");
        let columns = keys.texts("value_columns");
        let label = keys.text("value_label");
        let ways = ["value_column", "value", "value_columns"];
        let given: Vec<&str> = ways.into_iter().filter(|key| keys.has(key)).collect();
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
                Some(Source::Constant(constant?))
            }
            ["value_columns"] => Some(Source::Columns { label: label?, columns: columns? }),
            [] | ["value_column"] => Some(column),
            _ => None,
        }
    }
}

/// Takes `scale`: the factor of what was measured, 1 where nothing is said.
pub(super) fn read_scale(keys: &mut Keys<'_>) -> f64 {
    let scale = keys.number::<f64>("scale", "a number").unwrap_or(1.0);
    if !scale.is_finite() || scale == 0.0 {
        keys.fault("scale", "a factor is a finite number other than 0");
    }
    scale
}

fn check_columns(keys: &Keys<'_>, columns: &[String]) {
    if columns.is_empty() {
        keys.fault("value_columns", "no column is named");
    }
    let mut known = HashSet::new();
    for column in columns {
        if !known.insert(column) {
            keys.fault("value_columns", format!("column `{column}` is named twice"));
        }
    }
}

fn check_constant(keys: &Keys<'_>, key: &str, constant: f64, rule: Rule) {
    if let Some(why) = rule(constant) {
        keys.fault(key, format!("{constant} {why}"));
    }
}

fn read_map(keys: &Keys<'_>, pairs: &[(String, String)]) -> HashMap<String, f64> {
    let entry = |(text, number): &(String, String)| match number.trim().parse::<f64>() {
        Ok(number) => Some((text.clone(), number)),
        Err(_) => {
            keys.fault("map", format!("{text:?} is mapped to {number:?}, which is no number"));
            None
        }
    };
    pairs.iter().filter_map(entry).collect()
}

fn read_null(keys: &mut Keys<'_>, rule: Rule) -> Null {
    let words = [("skip", Null::Skip), ("nan", Null::Number(f64::NAN))];
    let null = keys.word_or_number("null", &words, Null::Number).unwrap_or(Null::Skip);
    if let Null::Number(number) = null {
        check_constant(keys, "null", number, rule);
    }
    null
}

/// Values bound to the columns of a result.
#[derive(Debug)]
pub struct BoundValues<'r> {
    values: &'r Values,
    fields: Vec<Field>,
    scratch: String,
}

/// Where one value of a row comes from, and the type's own label that it bears, as bytes.
#[derive(Debug)]
enum Field {
    Column { column: BoundColumn, own: Vec<u8> },
    Constant(f64),
}

impl Field {
    fn own(&self) -> &[u8] {
        match self {
            Field::Column { own, .. } => own,
            Field::Constant(_) => &[],
        }
    }
}

impl BoundValues<'_> {
    /// Hands each value of `row` to `take`, with the type's own label as bytes. NULL and invalid values that the
    /// configuration says to skip are counted and left out.
    ///
    /// # Errors
    /// `type`, `value`, `protocol`, and what `take` fails with.
    pub fn each(
        &mut self,
        row: &dyn Row,
        out: &mut Samples<'_>,
        mut take: impl FnMut(&mut Samples<'_>, &[u8], f64) -> Result<()>,
    ) -> Result<()> {
        for field in &self.fields {
            let value = match field {
                Field::Column { column, .. } => {
                    self.values.value(column, row, &mut self.scratch, &mut out.tally.skipped)?
                }
                Field::Constant(constant) => Some(*constant),
            };
            if let Some(value) = value {
                take(out, field.own(), value)?;
            }
        }
        Ok(())
    }

    /// The type's own label of each value, as bytes.
    pub fn own_labels(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(Field::own)
    }
}

impl Values {
    fn value(
        &self,
        column: &BoundColumn,
        row: &dyn Row,
        scratch: &mut String,
        skipped: &mut SkippedValues,
    ) -> Result<Option<f64>> {
        let cell = column.cell(row)?;
        match (cell, self.null) {
            (Cell::Null, Null::Number(number)) => Ok(Some(number)),
            (Cell::Null, Null::Skip) => {
                skipped.null += 1;
                Ok(None)
            }
            _ => match self.convert(column, &cell, scratch) {
                Ok(value) => Ok(Some(value)),
                Err(_) if self.skip_invalid => {
                    skipped.invalid += 1;
                    Ok(None)
                }
                Err(error) => Err(error),
            },
        }
    }

    fn convert(&self, column: &BoundColumn, cell: &Cell<'_>, scratch: &mut String) -> Result<f64> {
        let read = match &self.map {
            // What the map does not hold may be a number all the same.
            Some(map) => match (map.get(cell.label(scratch)), cell.number()) {
                (Some(mapped), _) => *mapped,
                (None, Number::Value(value)) => value,
                (None, Number::Overflow) => return Err(column.no_number(cell, Number::Overflow)),
                (None, _) => {
                    return Err(column
                        .bad_value(cell, "is not in `map` and is not a number")
                        .with_hint("add it to `map`, or set `invalid: skip`"));
                }
            },
            None => match cell.number() {
                Number::Value(value) => value,
                other => return Err(column.no_number(cell, other)),
            },
        };
        let value = read * self.scale;
        if value.is_infinite() && read.is_finite() {
            return Err(column.no_number(cell, Number::Overflow));
        }
        match self.refuses(value) {
            None => Ok(value),
            Some(why) => Err(column.bad_value(cell, why)),
        }
    }
}
