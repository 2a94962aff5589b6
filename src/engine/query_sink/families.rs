//! Where the samples of one metric go: into the builder of its family; for a name with columns, into one builder for each name
//! that the rows make.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::Family;
use crate::exposition::block::{BlockBuilder, BlockSize};
use crate::metric::naming::{BoundNamePattern, Naming};
use crate::metric::samples::Duplicates;
use crate::metric::samples::Sums;
use crate::metric::{Emit, Metric};
use crate::name::MetricName;
use crate::plain_text::counted;

/// The builders of one query, one a family, in the order first met.
pub(super) struct BlockBuilders {
    pub(super) all: Vec<BlockBuilder>,
    /// Positions in `all`.
    by_name: HashMap<MetricName, usize, RandomState>,
    size_hint: SizeHint,
    /// How many names that rows made have samples, each metric's own counted.
    made: usize,
    /// More are an error.
    max: usize,
}

impl BlockBuilders {
    /// None yet, likely `count`; at most `max` of names that rows make.
    pub(super) fn new(max: usize, count: usize, size_hint: &SizeHint) -> Self {
        let by_name = HashMap::with_capacity_and_hasher(count, RandomState::default());
        BlockBuilders { all: Vec::with_capacity(count), by_name, size_hint: size_hint.clone(), made: 0, max }
    }

    /// The position of a family's builder, begun where there is none, and whether it was.
    fn find(&mut self, family: &Arc<Family>) -> Result<(usize, bool)> {
        if let Some(at) = self.by_name.get(&family.name).copied() {
            let same = self.all.get(at).is_some_and(|builder| builder.family() == family);
            return if same { Ok((at, false)) } else { Err(two_heads(family)) };
        }
        let at = self.all.len();
        self.all.push(BlockBuilder::with_capacity(Arc::clone(family), self.size_hint.size(at)));
        self.by_name.insert(family.name.clone(), at);
        Ok((at, true))
    }

    /// Counts one more name with samples.
    fn count(&mut self) -> Result<()> {
        self.made += 1;
        if self.made <= self.max {
            return Ok(());
        }
        let message =
            format!("more than {} (max_families)", counted(self.max, "metric name", "metric names"));
        Err(Error::new(Reason::Limit, message)
            .with_hint("filter in the SQL, put the column into a label, or raise max_families"))
    }

    /// Drops the builder that was begun last.
    fn drop_last(&mut self) {
        if let Some(builder) = self.all.pop() {
            self.by_name.remove(&builder.family().name);
        }
    }
}

/// How much the last result of a query took, family by family, so that the buffers of the next one need not grow. A hint
/// only: a result of other sizes is as right, and a little slower.
#[derive(Debug, Clone, Default)]
pub struct SizeHint(Arc<[BlockSize]>);

impl SizeHint {
    /// What these builders took.
    pub(super) fn of(builders: &[BlockBuilder]) -> Self {
        SizeHint(builders.iter().map(BlockBuilder::size).collect())
    }

    /// What the family that is met at position `at` takes.
    fn size(&self, at: usize) -> BlockSize {
        self.0.get(at).copied().unwrap_or_default()
    }
}

fn two_heads(family: &Family) -> Error {
    let message =
        format!("two metrics of this query make the name {}, with another type or help", family.name);
    Error::new(Reason::Duplicate, message).with_hint("give one of them another name")
}

/// What writes the samples of one family, and the position of its builder.
pub(super) struct FamilyWriter<'q> {
    /// The metric at work in this family.
    pub(super) emit: Box<dyn Emit + 'q>,
    /// In [`BlockBuilders`].
    pub(super) builder: usize,
    /// What waits to be added up, with `duplicates: sum`.
    pub(super) sums: Option<Sums>,
}

impl<'q> FamilyWriter<'q> {
    fn new(metric: &'q Metric, columns: &[Column], builder: usize) -> Result<Self> {
        let sums = (metric.duplicates == Duplicates::Sum).then(Sums::default);
        Ok(FamilyWriter { emit: metric.recipe.binder.bind(columns)?, builder, sums })
    }

    /// True when there are samples, or rows that will be some.
    fn has_samples(&self, builders: &BlockBuilders) -> bool {
        builders.all.get(self.builder).is_some_and(|builder| builder.series() > 0)
            || self.sums.as_ref().is_some_and(|sums| !sums.is_empty())
            || self.emit.has_pending_rows()
    }
}

/// The writers of one metric.
pub(super) enum MetricWriters<'q> {
    /// Its one family's.
    One(FamilyWriter<'q>),
    /// One a name.
    ByName(ByName<'q>),
}

/// The writers of a metric whose name has columns in it.
pub(super) struct ByName<'q> {
    metric: &'q Metric,
    pattern: BoundNamePattern<'q>,
    /// Of the result, to bind the recipe for a new name.
    columns: Vec<Column>,
    /// The name that the row at hand makes.
    name: String,
    /// Whether that name is new, and its builder too.
    new: Option<NewName>,
    known: HashMap<String, FamilyWriter<'q>, RandomState>,
}

/// A name that was not met before.
struct NewName {
    /// Its builder was begun for it; else another metric of the query makes the same name.
    with_builder: bool,
}

impl<'q> MetricWriters<'q> {
    /// Finds the columns.
    ///
    /// # Errors
    /// `missing_column`, `duplicate`.
    pub(super) fn new(metric: &'q Metric, columns: &[Column], builders: &mut BlockBuilders) -> Result<Self> {
        match &metric.naming {
            Naming::Fixed(family) => {
                let (builder, _) = builders.find(family)?;
                Ok(MetricWriters::One(FamilyWriter::new(metric, columns, builder)?))
            }
            Naming::ByColumn(pattern) => {
                // A missing column fails the query before the first row, not at the first row of a new name.
                drop(metric.recipe.binder.bind(columns)?);
                let pattern = pattern.bind(columns)?;
                let (columns, name, known) = (columns.to_vec(), String::new(), HashMap::default());
                Ok(MetricWriters::ByName(ByName { metric, pattern, columns, name, new: None, known }))
            }
        }
    }

    /// False when the row does not match a pattern in the name: the metric leaves it out.
    ///
    /// # Errors
    /// `protocol` from the row.
    pub(super) fn find(&mut self, row: &dyn Row) -> Result<bool> {
        match self {
            MetricWriters::One(_) => Ok(true),
            MetricWriters::ByName(by_name) => by_name.pattern.find(row),
        }
    }

    /// The writer for a row that [`MetricWriters::find`] let pass; call [`MetricWriters::settle`] once it is taken.
    /// `longest` is how long a name may be.
    ///
    /// # Errors
    /// `value` for a row that makes no name, `limit` for a name too long, `duplicate` for one that another metric has.
    pub(super) fn of_row(
        &mut self,
        row: &dyn Row,
        builders: &mut BlockBuilders,
        longest: usize,
    ) -> Result<&mut FamilyWriter<'q>> {
        match self {
            MetricWriters::One(writer) => Ok(writer),
            MetricWriters::ByName(ByName { metric, pattern, columns, name, new, known }) => {
                pattern.write(row, longest, name)?;
                match known.entry_ref(name.as_str()) {
                    EntryRef::Occupied(writer) => Ok(writer.into_mut()),
                    EntryRef::Vacant(writer) => {
                        let (builder, with_builder) = builders.find(&Arc::new(pattern.family(name)?))?;
                        *new = Some(NewName { with_builder });
                        Ok(writer.insert(FamilyWriter::new(metric, columns, builder)?))
                    }
                }
            }
        }
    }

    /// After a row: a new name counts if the row made a sample of it, and is forgotten if not.
    ///
    /// # Errors
    /// `limit` for one name too many.
    pub(super) fn settle(&mut self, builders: &mut BlockBuilders) -> Result<()> {
        let MetricWriters::ByName(ByName { name, new, known, .. }) = self else { return Ok(()) };
        let Some(NewName { with_builder }) = new.take() else { return Ok(()) };
        if known.get(name.as_str()).is_some_and(|writer| writer.has_samples(builders)) {
            return builders.count();
        }
        known.remove(name.as_str());
        if with_builder {
            builders.drop_last();
        }
        Ok(())
    }

    /// Calls `act` with each writer so far, until one fails.
    pub(super) fn each(&mut self, mut act: impl FnMut(&mut FamilyWriter<'q>) -> Result<()>) -> Result<()> {
        match self {
            MetricWriters::One(writer) => act(writer),
            MetricWriters::ByName(by_name) => by_name.known.values_mut().try_for_each(act),
        }
    }
}
