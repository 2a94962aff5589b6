//! The results of queries become the families of one page, in configuration order. Blocks are shared, not copied.
//!
//! A query that repeats a series of an earlier one, or does not fit into the page, is dropped as a whole: the same one
//! every time. Within one query series differ already.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use crate::engine::query_sink::RenderedResult;
use crate::error::{Error, Reason};
use crate::exposition::block::Block;
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

/// A page's families, and the queries that are not among them.
#[derive(Debug)]
pub struct MergedPage {
    /// In configuration order, each with its blocks; a family without samples has none.
    pub families: Families,
    /// In configuration order.
    pub dropped: Vec<DroppedQuery>,
    /// Series on the page.
    pub series: u64,
}

/// Puts one page together. `labelled`: every sample bears the target's name, so that only one target's own queries
/// can collide. `aliases` are the exporter's own families under other names: no query makes one of them.
pub fn merge(
    entries: &[MergeEntry<'_>],
    limits: PageLimits,
    labelled: bool,
    aliases: &[Arc<Family>],
) -> MergedPage {
    let mut page = PageBuilder::new(entries, limits, labelled, aliases);
    let mut dropped = Vec::new();
    for entry in entries {
        let Some(rendered) = entry.rendered else { continue };
        match page.check(entry, rendered) {
            Ok(bytes) => page.take(entry, rendered, bytes),
            Err(error) => dropped.push(DroppedQuery { target: entry.target, query: entry.query, error }),
        }
    }
    MergedPage { families: page.families, dropped, series: page.series }
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

/// Blocks of one family that could hold the same series.
#[derive(Default)]
struct SeriesIndex<'s> {
    blocks: Vec<&'s Block>,
    /// The series of the first `read` blocks. Read only once a second block is there: most families have one.
    series: HashSet<&'s [u8], RandomState>,
    read: usize,
}

impl<'s> SeriesIndex<'s> {
    /// The first series of `block` that is there already.
    fn collision(&mut self, block: &'s Block) -> Option<&'s [u8]> {
        for known in self.blocks.iter().skip(self.read) {
            self.series.extend(known.series_names());
        }
        self.read = self.blocks.len();
        if self.series.is_empty() {
            None
        } else {
            block.series_names().find(|series| self.series.contains(series))
        }
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

    /// Whether the query fits: the bytes it adds, or why it is dropped.
    fn check(&mut self, entry: &MergeEntry<'s>, rendered: &'s RenderedResult) -> Result<u64, Error> {
        let series = self.series + rendered.series;
        if series > self.limits.series {
            return Err(limit(&format!("{series} series, more than max_series {}", self.limits.series)));
        }
        let (mut bytes, mut own) = (0, OwnedNames::default());
        for block in &rendered.blocks {
            let Some(key) = self.index_key(entry, block) else { continue };
            self.check_head(key.0, &block.family, &mut own)?;
            let is_first = self.families.get(key.0).is_none_or(|(_, blocks)| blocks.is_empty());
            bytes += block.size() as u64 + if is_first { head_bytes(&block.family) } else { 0 };
            if let Some(series) = self.indexes.get_mut(&key).and_then(|index| index.collision(block)) {
                return Err(duplicate(series));
            }
        }
        if self.bytes + bytes > self.limits.bytes {
            let (total, max) = (self.bytes + bytes, self.limits.bytes);
            return Err(limit(&format!("{total} bytes, more than max_page_bytes {max}")));
        }
        Ok(bytes)
    }

    /// Whether the family is the one that the page has under its name, and owns no name of another.
    fn check_head(&self, place: usize, family: &Arc<Family>, own: &mut OwnedNames) -> Result<(), Error> {
        let Some(names) = &self.names else { return Ok(()) };
        if self.aliases.iter().any(|alias| alias.name == family.name) {
            let message =
                format!("the metric {} is the exporter's own, by `up` or `last_scrape`", family.name);
            return Err(Error::new(Reason::Duplicate, message).with_hint("give one of them another name"));
        }
        let known = self.families.get(place).map(|(known, _)| known);
        if known.is_some_and(|known| known != family) {
            let message =
                format!("an earlier query makes the metric {} with another type or help", family.name);
            return Err(Error::new(Reason::Duplicate, message).with_hint("give one of them another name"));
        }
        let Some((name, other)) = names.clash(family).or_else(|| own.clash(family)) else {
            own.take(family);
            return Ok(());
        };
        let message = format!("the metrics {} and {other} both own the name {name}", family.name);
        Err(Error::new(Reason::Duplicate, message).with_hint("give one of them another name"))
    }

    fn take(&mut self, entry: &MergeEntry<'s>, rendered: &'s RenderedResult, bytes: u64) {
        self.series += rendered.series;
        self.bytes += bytes;
        for block in &rendered.blocks {
            if let Some(names) = &mut self.names {
                names.take(&block.family);
            }
            let Some(key) = self.index_key(entry, block) else { continue };
            if let Some((_, blocks)) = self.families.get_mut(key.0) {
                blocks.push(Arc::clone(block));
            }
            self.indexes.entry(key).or_default().blocks.push(block);
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

fn duplicate(series: &[u8]) -> Error {
    let series = String::from_utf8_lossy(series);
    Error::new(Reason::Duplicate, format!("an earlier query has the series {series} too"))
        .with_hint("add a label that differs (`static_labels`), or give the metric another name")
}

fn limit(what: &str) -> Error {
    Error::new(Reason::Limit, format!("with this query the page has {what}"))
        .with_hint("it is left out; raise the limit under `exporter`, or scrape targets one by one (/metrics?target=NAME)")
}
