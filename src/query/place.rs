//! Where the samples of one metric go: into the draft of its family, or, for a name with columns, into one draft for each
//! name that the rows make.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::Family;
use crate::exposition::block::Draft;
use crate::metric::naming::{BoundPattern, Naming};
use crate::metric::{Emit, Metric, Recipe};

use super::room::Room;

/// The drafts of one query, one a family, in the order first met.
pub(super) struct Drafts {
    all: Vec<Draft>,
    room: Room,
    /// More families are an error.
    max: usize,
}

impl Drafts {
    /// None yet, at most `max`, likely `count`.
    pub(super) fn new(max: usize, count: usize, room: &Room) -> Self {
        Drafts { all: Vec::with_capacity(count), room: room.clone(), max }
    }

    /// The draft at a position.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Draft> {
        self.all.get_mut(at)
    }

    /// All of them.
    pub(super) fn into_all(self) -> Vec<Draft> {
        self.all
    }

    /// The position of a family's draft, begun where there is none.
    fn find(&mut self, family: &Arc<Family>) -> Result<usize> {
        if let Some(at) = self.all.iter().position(|draft| draft.family().name == family.name) {
            let same = self.all.get(at).is_some_and(|draft| draft.family() == family);
            return if same { Ok(at) } else { Err(two_heads(family)) };
        }
        if self.all.len() >= self.max {
            let message = format!("more than {} metric names (max_families)", self.max);
            return Err(Error::new(Reason::Limit, message)
                .with_hint("filter in the SQL, put the column into a label, or raise max_families"));
        }
        self.all.push(Draft::with_room(Arc::clone(family), self.room.size(self.all.len())));
        Ok(self.all.len() - 1)
    }
}

fn two_heads(family: &Family) -> Error {
    let message =
        format!("two metrics of this query make the name {}, with another type or help", family.name);
    Error::new(Reason::Duplicate, message).with_hint("give one of them another name")
}

/// What writes the samples of one family, and the position of its draft.
pub(super) struct Place<'q> {
    /// The metric at work in this family.
    pub(super) emit: Box<dyn Emit + 'q>,
    /// In [`Drafts`].
    pub(super) draft: usize,
}

/// The places of one metric.
pub(super) enum Places<'q> {
    /// Its one family's.
    One(Place<'q>),
    /// One a name.
    ByName(ByName<'q>),
}

/// The places of a metric whose name has columns in it.
pub(super) struct ByName<'q> {
    recipe: &'q dyn Recipe,
    pattern: BoundPattern<'q>,
    /// Of the result, to bind the recipe for a new name.
    columns: Vec<Column>,
    /// The name that the row at hand makes.
    name: String,
    known: HashMap<String, Place<'q>, RandomState>,
}

impl<'q> Places<'q> {
    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`, `limit`.
    pub(super) fn new(metric: &'q Metric, columns: &[Column], drafts: &mut Drafts) -> Result<Self> {
        let recipe = &*metric.recipe;
        match &metric.naming {
            Naming::Fixed(family) => {
                let draft = drafts.find(family)?;
                Ok(Places::One(Place { emit: recipe.bind(columns)?, draft }))
            }
            Naming::ByColumn(pattern) => {
                // What a name needs is missing from the first row on, not from its first row on.
                drop(recipe.bind(columns)?);
                let pattern = pattern.bind(columns)?;
                let (columns, name, known) = (columns.to_vec(), String::new(), HashMap::default());
                Ok(Places::ByName(ByName { recipe, pattern, columns, name, known }))
            }
        }
    }

    /// The place of a row.
    ///
    /// # Errors
    /// `value` for a row that makes no name, `limit` for one name too many, `duplicate` for one that another metric has.
    pub(super) fn of_row(&mut self, row: &dyn Row, drafts: &mut Drafts) -> Result<&mut Place<'q>> {
        match self {
            Places::One(place) => Ok(place),
            Places::ByName(ByName { recipe, pattern, columns, name, known }) => {
                pattern.write(row, name)?;
                match known.entry_ref(name.as_str()) {
                    EntryRef::Occupied(place) => Ok(place.into_mut()),
                    EntryRef::Vacant(place) => {
                        let draft = drafts.find(&Arc::new(pattern.family(name)?))?;
                        Ok(place.insert(Place { emit: recipe.bind(columns)?, draft }))
                    }
                }
            }
        }
    }

    /// Calls `act` with each place so far, until one fails.
    pub(super) fn each(&mut self, mut act: impl FnMut(&mut Place<'q>) -> Result<()>) -> Result<()> {
        match self {
            Places::One(place) => act(place),
            Places::ByName(by_name) => by_name.known.values_mut().try_for_each(act),
        }
    }
}
