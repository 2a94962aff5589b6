//! `stateset`: in which of a closed set of states something is: one sample a state, 1 for the one in `state_column`.

use std::collections::HashSet;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::value::Cell;
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::naming::Naming;
use super::samples::Samples;
use super::{ColumnUse, Emit, MetricType, Recipe};

/// The type.
pub struct StateSet;

impl MetricType for StateSet {
    fn name(&self) -> &'static str {
        "stateset"
    }

    fn kind(&self) -> FamilyKind {
        FamilyKind::StateSet
    }

    fn read(&self, keys: &mut Keys<'_>, name: Option<&str>) -> Option<Box<dyn Recipe>> {
        let states = read_states(keys);
        let column = keys.text("state_column");
        if !keys.has("state_column") {
            let message = "a stateset needs `state_column`: the column that holds the state";
            keys.lacks("", &["state_column"], message, None);
        }
        let skip_invalid = keys.choice("invalid", &[("error", false), ("skip", true)]).unwrap_or(false);
        let skip_null = keys.choice("null", &[("skip", true), ("error", false)]).unwrap_or(true);
        // The label that holds the state bears the family's own name: OpenMetrics, section StateSet.
        // One that no metric may have is told of there.
        let name = name.filter(|name| Naming::new(name, self.kind(), String::new(), None).is_ok())?;
        let label = LabelName::new(name).map_err(|rule| {
            keys.fault("type", format!("a stateset's name is a label name too: {rule}"));
        });
        Some(Box::new(States {
            label: label.ok()?,
            column: column?,
            states: states?,
            skip_invalid,
            skip_null,
        }))
    }
}

fn read_states(keys: &mut Keys<'_>) -> Option<Vec<String>> {
    if !keys.has("states") {
        let message = "a stateset needs `states`: all that there are, `[idle, active]`";
        keys.lacks("", &["states"], message, None);
    }
    let states = keys.texts("states")?;
    let mut known = HashSet::new();
    for state in &states {
        if !known.insert(state) {
            keys.fault("states", format!("{state:?} is given twice"));
        }
    }
    if states.is_empty() {
        keys.fault("states", "no state is given");
    }
    Some(states)
}

struct States {
    label: LabelName,
    column: String,
    states: Vec<String>,
    skip_invalid: bool,
    skip_null: bool,
}

impl Recipe for States {
    fn own_label(&self) -> Option<&LabelName> {
        Some(&self.label)
    }

    fn refuses_empty(&self, value: f64) -> Option<&'static str> {
        (value != 0.0).then_some("is no state: only 0, none of them, can stand for no rows")
    }

    fn refuses_sums(&self) -> Option<&'static str> {
        Some("states are 0 or 1: a sum of several is none")
    }

    fn uses(&self) -> Vec<ColumnUse> {
        vec![ColumnUse::anything(&self.column, "state", format!("one of {}", self.states.join(", ")))]
    }

    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>> {
        let mark = |state: &String| {
            let mut own = Vec::new();
            line::label(&self.label, state, &mut own);
            own
        };
        let marks = self.states.iter().map(mark).collect();
        let column = BoundColumn::new(columns, &self.column)?;
        Ok(Box::new(Writing { recipe: self, marks, column, scratch: String::new() }))
    }
}

struct Writing<'r> {
    recipe: &'r States,
    /// `,name="state"` of each state.
    marks: Vec<Vec<u8>>,
    column: BoundColumn,
    scratch: String,
}

impl Writing<'_> {
    /// One sample a state; `active` is the position of the one that holds.
    fn write(&self, active: Option<usize>, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.marks.iter().enumerate().try_for_each(|(position, own)| {
            out.add("", labels, own, f64::from(u8::from(active == Some(position))))
        })
    }
}

impl Emit for Writing<'_> {
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        let cell = self.column.cell(row)?;
        if cell == Cell::Null && self.recipe.skip_null {
            out.tally.skipped.null += 1;
            return Ok(());
        }
        let state = cell.label(&mut self.scratch);
        match self.recipe.states.iter().position(|known| known == state) {
            Some(active) => self.write(Some(active), labels, out),
            None if self.recipe.skip_invalid => {
                out.tally.skipped.invalid += 1;
                Ok(())
            }
            None => {
                let states = self.recipe.states.join(", ");
                Err(self
                    .column
                    .bad_value(&cell, &format!("is none of the states {states}"))
                    .with_hint("add it to `states`, or set `invalid: skip`"))
            }
        }
    }

    fn empty(&mut self, _: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()> {
        self.write(None, labels, out)
    }
}
