//! The results of queries become the families of one page, in configuration order. Blocks are shared, not copied.
//!
//! A query that repeats a series of an earlier one of its collector, or does not fit into the page, is dropped as a whole:
//! the same one every time. Where an earlier query of another collector has some of its series, only these are left out.
//! Within one query series differ already.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::engine::query_sink::RenderedResult;
use crate::error::{Error, Reason};
use crate::exposition::block::Block;
use crate::exposition::overlap::{self, Remainder};
use crate::exposition::page::Families;
use crate::exposition::{Family, reserved_names};
use crate::metric::Metric;
use crate::metric::naming::Naming;
use crate::name::MetricName;

/// The limits of one page.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// Series from queries.
    pub series: u64,
    /// Bytes of their heads and lines.
    pub bytes: u64,
}

/// One query in a scrape. Entries come in configuration order, failed queries among them: they keep the families'
/// places.
#[derive(Clone, Copy)]
pub struct MergeEntry<'s> {
    /// Which target: equal numbers, equal target labels.
    pub target: usize,
    /// Which of the target's queries.
    pub query: usize,
    /// The collector it belongs to.
    pub collector: &'s str,
    /// What the query makes.
    pub metrics: &'s [Metric],
    /// What it made; `None` for a query that failed.
    pub rendered: Option<&'s RenderedResult>,
}

/// A query that is not on the page though it succeeded.
#[derive(Debug)]
pub struct DroppedQuery {
    /// Which target.
    pub target: usize,
    /// Which of the target's queries.
    pub query: usize,
    /// `duplicate` or `limit`.
    pub error: Error,
}

/// Series of a query that are not on the page, as an earlier collector has them on this target.
#[derive(Debug)]
pub struct HiddenSeries {
    /// Which target.
    pub target: usize,
    /// Which of the target's queries.
    pub query: usize,
    /// How many.
    pub count: u64,
    /// One of them.
    pub example: String,
    /// The collector that has that one.
    pub shown: String,
}

/// A page's families, and what is not among them.
#[derive(Debug)]
pub struct MergedPage {
    /// In configuration order, each with its blocks; a family without samples has none.
    pub families: Families,
    /// In configuration order.
    pub dropped: Vec<DroppedQuery>,
    /// In configuration order.
    pub hidden: Vec<HiddenSeries>,
    /// Series on the page.
    pub series: u64,
}

/// Puts one page together. `labelled`: every sample has the target's name, so that only one target's own queries
/// can collide. `aliases` are the exporter's own families under other names: no query makes one of them.
pub fn merge(
    entries: &[MergeEntry<'_>],
    limits: PageLimits,
    labelled: bool,
    aliases: &[Arc<Family>],
) -> MergedPage {
    let mut page = PageBuilder::new(entries, limits, labelled, aliases);
    let (mut dropped, mut hidden) = (Vec::new(), Vec::new());
    for entry in entries {
        let Some(rendered) = entry.rendered else { continue };
        match page.check(entry, rendered) {
            Ok(addition) => {
                hidden.extend(addition.hidden(entry));
                page.take(entry, rendered, addition);
            }
            Err(error) => dropped.push(DroppedQuery { target: entry.target, query: entry.query, error }),
        }
    }
    MergedPage { families: page.families, dropped, hidden, series: page.series }
}

/// What a query adds to the page.
#[derive(Default)]
struct Addition<'s> {
    series: u64,
    bytes: u64,
    /// Its blocks with series that an earlier collector has, by position. Most queries have none.
    overlaps: Vec<Overlap<'s>>,
}

impl Addition<'_> {
    /// What of the query's series is left out.
    fn hidden(&self, entry: &MergeEntry<'_>) -> Option<HiddenSeries> {
        let first = self.overlaps.first()?;
        Some(HiddenSeries {
            target: entry.target,
            query: entry.query,
            count: self.overlaps.iter().map(|overlap| overlap.remainder.left_out()).sum(),
            example: String::from_utf8_lossy(first.example).into_owned(),
            shown: first.shown.to_owned(),
        })
    }
}

/// A block of which an earlier collector has some series.
struct Overlap<'s> {
    /// Its position in the query's result.
    block: usize,
    /// What of it is shown.
    remainder: Remainder,
    /// A series that is not.
    example: &'s [u8],
    /// The collector that has it.
    shown: &'s str,
}

struct PageBuilder<'s> {
    limits: PageLimits,
    labelled: bool,
    aliases: &'s [Arc<Family>],
    series: u64,
    bytes: u64,
    families: Families,
    /// Positions in `families`.
    places: HashMap<&'s MetricName, usize, RandomState>,
    /// Where rows make names: what is taken on the page. Fixed names were held against each other at load.
    names: Option<OwnedNames>,
    /// The blocks on the page by family and by the target whose samples could collide.
    indexes: HashMap<(usize, usize), SeriesIndex<'s>, RandomState>,
}

/// Whose a block is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct BlockSource<'s> {
    target: usize,
    collector: &'s str,
}

/// A block on the page.
struct IndexedBlock<'s> {
    block: &'s Block,
    source: BlockSource<'s>,
    /// Which of its lines are on the page; `None`: all.
    kept: Option<Vec<bool>>,
}

/// Blocks of one family that could hold the same series.
#[derive(Default)]
struct SeriesIndex<'s> {
    blocks: Vec<IndexedBlock<'s>>,
    /// The series of the first `read` blocks, each with its block. Read only once a second block is there: most families
    /// have one.
    series: HashMap<&'s [u8], usize, RandomState>,
    read: usize,
}

impl<'s> SeriesIndex<'s> {
    fn read_all(&mut self) {
        for (position, IndexedBlock { block, kept, .. }) in self.blocks.iter().enumerate().skip(self.read) {
            let is_kept = |line: usize| kept.as_ref().is_none_or(|kept| kept.get(line) == Some(&true));
            let lines = block.series_names().enumerate().filter(|(line, _)| is_kept(*line));
            self.series.extend(lines.map(|(_, series)| (series, position)));
        }
        self.read = self.blocks.len();
    }

    /// What of the block at position `at` of a result an earlier collector of its target has.
    ///
    /// # Errors
    /// The first series that an earlier query of its own collector has, or one of another target.
    fn overlap(
        &mut self,
        at: usize,
        block: &'s Block,
        source: BlockSource<'s>,
    ) -> Result<Option<Overlap<'s>>, &'s [u8]> {
        self.read_all();
        if self.series.is_empty() {
            return Ok(None);
        }
        let mut taken = Vec::new();
        let mut first = None;
        for (line, series) in block.series_names().enumerate() {
            let Some(owner) = self.series.get(series).and_then(|owner| self.blocks.get(*owner)) else {
                continue;
            };
            if owner.source.target != source.target || owner.source.collector == source.collector {
                return Err(series);
            }
            first = first.or(Some((series, owner.source.collector)));
            taken.push(line);
        }
        Ok(first.map(|(example, shown)| Overlap {
            block: at,
            remainder: overlap::without(block, &taken),
            example,
            shown,
        }))
    }
}

impl<'s> PageBuilder<'s> {
    fn new(
        entries: &[MergeEntry<'s>],
        limits: PageLimits,
        labelled: bool,
        aliases: &'s [Arc<Family>],
    ) -> PageBuilder<'s> {
        let mut families: Families = Vec::new();
        let mut places = HashMap::default();
        let mut add = |family: &'s Arc<Family>| {
            places.entry(&family.name).or_insert_with(|| {
                families.push((Arc::clone(family), Vec::new()));
                families.len() - 1
            });
        };
        let mut names = None;
        for entry in entries {
            // All of a query's are added at its first metric that makes some: once, as there may be many of both.
            let mut made = Some(entry);
            for metric in entry.metrics {
                match &metric.naming {
                    Naming::Fixed(family) => add(family),
                    Naming::ByColumn(_) => {
                        names.get_or_insert_with(OwnedNames::default);
                        made.take().into_iter().flat_map(made_by_rows).for_each(&mut add);
                    }
                }
            }
        }
        if let Some(names) = &mut names {
            aliases.iter().for_each(|alias| names.take(alias));
        }
        PageBuilder {
            limits,
            labelled,
            aliases,
            series: 0,
            bytes: 0,
            families,
            places,
            names,
            indexes: HashMap::default(),
        }
    }

    /// The key of the blocks that `block` could collide with.
    fn index_key(&self, entry: &MergeEntry<'s>, block: &Block) -> Option<(usize, usize)> {
        let place = *self.places.get(&block.family.name)?;
        Some((place, if self.labelled { entry.target } else { 0 }))
    }

    /// What the query adds to the page, or why it is dropped.
    fn check(&mut self, entry: &MergeEntry<'s>, rendered: &'s RenderedResult) -> Result<Addition<'s>, Error> {
        let source = BlockSource { target: entry.target, collector: entry.collector };
        let mut addition = Addition { series: rendered.series, ..Addition::default() };
        let mut own = OwnedNames::default();
        for (at, block) in rendered.blocks.iter().enumerate() {
            let Some(key) = self.index_key(entry, block) else { continue };
            self.check_head(key.0, &block.family, &mut own)?;
            let overlap = match self.indexes.get_mut(&key) {
                Some(index) => index.overlap(at, block, source).map_err(duplicate)?,
                None => None,
            };
            let size = match &overlap {
                None => block.size(),
                Some(overlap) => overlap.remainder.block.as_ref().map_or(0, |block| block.size()),
            };
            let head = self.families.get(key.0).filter(|(_, blocks)| blocks.is_empty() && size > 0);
            addition.bytes += size as u64 + head.map_or(0, |(family, _)| head_bytes(family));
            if let Some(overlap) = overlap {
                addition.series -= overlap.remainder.left_out();
                addition.overlaps.push(overlap);
            }
        }
        let series = self.series + addition.series;
        if series > self.limits.series {
            return Err(limit(&format!("{series} series, more than max_series {}", self.limits.series)));
        }
        if self.bytes + addition.bytes > self.limits.bytes {
            let (total, max) = (self.bytes + addition.bytes, self.limits.bytes);
            return Err(limit(&format!("{total} bytes, more than max_page_bytes {max}")));
        }
        Ok(addition)
    }

    /// Whether the family is of the type that the page has under its name, and owns no name of another. Of several help
    /// texts the page has the first.
    fn check_head(&self, place: usize, family: &Arc<Family>, own: &mut OwnedNames) -> Result<(), Error> {
        let Some(names) = &self.names else { return Ok(()) };
        if self.aliases.iter().any(|alias| alias.name == family.name) {
            let message = format!(
                "the metric {} is the exporter's own, by a collector's `up`, `last_scrape` or `scrapes`",
                family.name
            );
            return Err(same_name(message));
        }
        let known = self.families.get(place).map(|(known, _)| known);
        if known.is_some_and(|known| (known.kind, &known.unit) != (family.kind, &family.unit)) {
            let message =
                format!("an earlier query makes the metric {} with another type or unit", family.name);
            return Err(same_name(message));
        }
        let Some((name, other)) = names.clash(family).or_else(|| own.clash(family)) else {
            own.take(family);
            return Ok(());
        };
        let message = format!("the metrics {} and {other} both own the name {name}", family.name);
        Err(same_name(message))
    }

    fn take(&mut self, entry: &MergeEntry<'s>, rendered: &'s RenderedResult, addition: Addition<'s>) {
        self.series += addition.series;
        self.bytes += addition.bytes;
        let source = BlockSource { target: entry.target, collector: entry.collector };
        let mut overlaps = addition.overlaps.into_iter().peekable();
        for (at, block) in rendered.blocks.iter().enumerate() {
            let overlap = overlaps.next_if(|overlap| overlap.block == at);
            let (shown, kept) = match overlap {
                None => (Some(Arc::clone(block)), None),
                Some(Overlap { remainder, .. }) => (remainder.block, Some(remainder.kept)),
            };
            let (Some(shown), Some(key)) = (shown, self.index_key(entry, block)) else { continue };
            if let Some(names) = &mut self.names {
                names.take(&block.family);
            }
            if let Some((_, blocks)) = self.families.get_mut(key.0) {
                blocks.push(shown);
            }
            self.indexes.entry(key).or_default().blocks.push(IndexedBlock { block, source, kept });
        }
    }
}

/// The names that the families on a page own, each with its family's name.
#[derive(Default)]
struct OwnedNames(HashMap<String, MetricName, RandomState>);

impl OwnedNames {
    /// A name that `family` shares with another, and that one.
    fn clash(&self, family: &Family) -> Option<(String, MetricName)> {
        let reserved = reserved_names(family.name.as_str(), family.kind);
        reserved.into_iter().find_map(|name| {
            let other = self.0.get(&name).filter(|other| **other != family.name)?.clone();
            Some((name, other))
        })
    }

    fn take(&mut self, family: &Family) {
        for name in reserved_names(family.name.as_str(), family.kind) {
            self.0.insert(name, family.name.clone());
        }
    }
}

/// The families of a query's result that have no fixed name in it, in the order of their names.
fn made_by_rows<'s>(entry: &MergeEntry<'s>) -> Vec<&'s Arc<Family>> {
    let fixed = entry.metrics.iter().filter_map(|metric| metric.naming.fixed());
    let fixed: HashSet<&MetricName, RandomState> = fixed.map(|family| &family.name).collect();
    let blocks = entry.rendered.into_iter().flat_map(|rendered| &rendered.blocks);
    let families = blocks.map(|block| &block.family);
    let mut families: Vec<_> = families.filter(|family| !fixed.contains(&family.name)).collect();
    families.sort_by(|one, other| one.name.cmp(&other.name));
    families
}

/// At most what a head takes in any format: `# HELP name help`, `# TYPE name gaugehistogram`, `# UNIT name unit`.
fn head_bytes(family: &Family) -> u64 {
    let escapes = family.help.bytes().filter(|byte| matches!(byte, b'\\' | b'"' | b'\n')).count();
    let unit = family.unit.as_ref().map_or(0, |unit| family.name.as_str().len() + unit.len() + 9);
    (2 * family.name.as_str().len() + family.help.len() + escapes + unit + 32) as u64
}

fn same_name(message: String) -> Error {
    Error::new(Reason::Duplicate, message).with_hint("give one of them another name")
}

fn duplicate(series: &[u8]) -> Error {
    let series = String::from_utf8_lossy(series);
    Error::new(Reason::Duplicate, format!("an earlier query has the series {series} too"))
        .with_hint("add a label that differs to both metrics (`static_labels`), or give one another name")
}

fn limit(what: &str) -> Error {
    Error::new(Reason::Limit, format!("with this query the page has {what}"))
        .with_hint("it is left out; raise the limit under `exporter`, or scrape targets one by one (/metrics?target=NAME)")
}
