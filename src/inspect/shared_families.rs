//! Families that several collectors make on one target. Where two have the same series, a page has that of the collector
//! that is included first: legal, and worth knowing.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::report::{Finding, Severity, without_secrets};
use crate::config::Config;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::error::Error;
use crate::metric::Metric;
use crate::metric::labels::LabelSource;

/// One metric, and the query that makes it.
#[derive(Clone, Copy)]
struct Maker<'c> {
    query: &'c Query,
    metric: &'c Metric,
}

/// One note for each family and pair of collectors, in configuration order.
pub fn run(config: &Config) -> Vec<Finding> {
    let mut shared: IndexMap<_, (&Metric, Vec<&str>)> = IndexMap::new();
    for target in &config.targets {
        for (first, later) in pairs(target) {
            let key = (&*first.query.collector, &*later.query.collector, later.metric.naming.text());
            let (_, targets) = shared.entry(key).or_insert((later.metric, Vec::new()));
            if targets.last() != Some(&target.name.as_str()) {
                targets.push(&target.name);
            }
        }
    }
    let note = |((one, other, family), (metric, targets)): (_, (&Metric, Vec<&str>))| {
        let on = match targets.as_slice() {
            [] => String::new(),
            [only] => format!("target {only}"),
            [first, more @ ..] => format!("target {first} and {} more", more.len()),
        };
        let message = format!(
            "collectors {one} and {other} both make {family} on {on}; where both have a series, the one of {one} is shown"
        );
        let place = without_secrets(config, metric.place.clone());
        Finding::new(Severity::Note, Error::config(message).at(place))
    };
    shared.into_iter().map(note).collect()
}

/// Each metric of a target that an earlier collector may make too, with the first such.
fn pairs(target: &TargetConfig) -> Vec<(Maker<'_>, Maker<'_>)> {
    let mut known: HashMap<&str, Vec<Maker<'_>>> = HashMap::new();
    let mut pairs = Vec::new();
    for query in target.running() {
        for metric in query.metrics.iter() {
            let later = Maker { query, metric };
            let makers = known.entry(metric.naming.text()).or_default();
            let first = makers.iter().find(|maker| {
                maker.query.collector != query.collector
                    && may_run_both(maker.query, query)
                    && may_be_alike(maker.metric, metric)
            });
            pairs.extend(first.map(|first| (*first, later)));
            makers.push(later);
        }
    }
    pairs
}

/// False where no server is of the flavour and role that both want.
fn may_run_both(one: &Query, other: &Query) -> bool {
    let (Some(one), Some(other)) = (&one.when, &other.when) else { return true };
    let flavor = one.flavor.is_empty()
        || other.flavor.is_empty()
        || one.flavor.iter().any(|flavor| other.flavor.contains(flavor));
    let role = one.role.is_none() || other.role.is_none() || one.role == other.role;
    flavor && role
}

/// False where a fixed label tells their series apart.
fn may_be_alike(one: &Metric, other: &Metric) -> bool {
    let fixed = |metric: &Metric| -> HashMap<String, String> {
        let labels = metric.labels.iter().filter_map(|(name, source)| match source {
            LabelSource::Fixed(value) => Some((name.as_str().to_owned(), value.clone())),
            LabelSource::Column(_) | LabelSource::Type => None,
        });
        labels.collect()
    };
    let other = fixed(other);
    fixed(one).iter().all(|(name, value)| other.get(name).is_none_or(|known| known == value))
}
