//! `stateset`: in which of a closed set of states something is: one sample a state, 1 for the one in `state_column`.

use std::collections::HashSet;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line::{self, LabelBytes};
use crate::name::LabelName;
use crate::value::Cell;
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::naming::Naming;
use super::samples::Samples;
use super::{Bind, ColumnUse, Emit, Recipe};

/// Takes `states`, `state_column`, `invalid` and `null`.
pub(super) fn read(keys: &mut Keys<'_>, name: Option<&str>) -> Option<Recipe> {
    let states = read_states(keys);
    let column = keys.text("state_column");
    if !keys.has("state_column") {
        let message = "a stateset needs `state_column`: the column that holds the state";
        keys.lacks("", &["state_column"], message, None);
    }
    let skip_invalid = keys.choice("invalid", &[("error", false), ("skip", true)]).unwrap_or(false);
    let skip_null = keys.choice("null", &[("skip", true), ("error", false)]).unwrap_or(true);
    // The label that holds the state bears the family's own name: OpenMetrics, section StateSet.
    // A name that no metric may have is reported elsewhere.
    let name = name.filter(|name| Naming::new(name, FamilyKind::StateSet, String::new(), None).is_ok())?;
    let label = LabelName::new(name).map_err(|rule| format!("a stateset's name is a label name too: {rule}"));
    let label = keys.valid("type", label)?;
    let (column, states) = (column?, states?);
    let marks = states.iter().map(|state| line::label_bytes(&label, state)).collect();
    let uses = vec![ColumnUse::anything(&column, "state", format!("one of {}", states.join(", ")))];
    Some(Recipe {
        type_label: Some(label),
        refuses_empty: |value| {
            (value != 0.0).then_some("is not a state: only 0, none of them, can stand for no rows")
        },
        refuses_sums: Some("states are 0 or 1: several cannot be added up"),
        ..Recipe::new(uses, States { column, states, marks, skip_invalid, skip_null })
    })
}

fn read_states(keys: &mut Keys<'_>) -> Option<Vec<String>> {
    if !keys.has("states") {
        let message = "a stateset needs `states`: all that there are, `[idle, active]`";
        keys.lacks("", &["states"], message, None);
    }
    let states = keys.texts("states")?;
    let mut known = HashSet::new();
    for state in states.iter().filter(|state| !known.insert(*state)) {
        keys.fault("states", format!("{state:?} is given twice"));
    }
    if states.is_empty() {
        keys.fault("states", "no state is given");
    }
    Some(states)
}

struct States {
    column: String,
    states: Vec<String>,
    /// `,name="state"` of each state.
    marks: Vec<Vec<u8>>,
    skip_invalid: bool,
    skip_null: bool,
}

impl Bind for States {
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let column = BoundColumn::new(columns, &self.column)?;
        Ok(Box::new(BoundStates { states: self, column, scratch: String::new() }))
    }
}

struct BoundStates<'r> {
    states: &'r States,
    column: BoundColumn,
    scratch: String,
}

impl BoundStates<'_> {
    /// One sample a state; `active` is the position of the one that holds.
    fn write(&self, active: Option<usize>, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.states.marks.iter().enumerate().try_for_each(|(position, type_label)| {
            out.add("", labels, type_label, f64::from(active == Some(position)))
        })
    }
}

impl Emit for BoundStates<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let cell = self.column.cell(row)?;
        if cell == Cell::Null && self.states.skip_null {
            out.tally.skipped.null += 1;
            return Ok(());
        }
        let state = cell.label(&mut self.scratch);
        match self.states.states.iter().position(|known| known == state) {
            Some(active) => self.write(Some(active), labels, out),
            None if self.states.skip_invalid => {
                out.tally.skipped.invalid += 1;
                Ok(())
            }
            None => {
                let states = self.states.states.join(", ");
                Err(self
                    .column
                    .bad_value(&cell, &format!("is not one of the states {states}"))
                    .with_hint("add it to `states`, or set `invalid: skip`"))
            }
        }
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.write(None, labels, out)
    }
}
