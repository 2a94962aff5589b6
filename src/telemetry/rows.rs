//! A family whose rows differ in their label names: targets have labels of their own, which the prometheus crate's vectors
//! do not allow. Each row is a number of the crate, its labels are here, and the family says whether it only grows.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Atomic as _, AtomicF64};

use crate::exposition::block::Block;
use crate::exposition::{Family, FamilyKind};
use crate::value::float::of_count;

/// Labels that identify the target and its query come first, as on the rows of a scrape; the others by name.
const LEADING: [&str; 3] = ["target", "query", "collector"];

/// Label names and values, in the order in which they are written.
type LabelPairs = Vec<(String, String)>;

/// One family's rows.
pub(super) struct MetricRows {
    family: Arc<Family>,
    /// A sorted list would be moved at each new row: thousands come at once where a server is down.
    rows: Mutex<BTreeMap<LabelPairs, AtomicF64>>,
}

impl MetricRows {
    /// An empty family of counters or gauges.
    pub(super) fn new(kind: FamilyKind, name: &'static str, help: &str) -> Self {
        MetricRows { family: Family::ours(name, kind, help), rows: Mutex::default() }
    }

    /// Adds to a counter's row, which begins at 0.
    pub(super) fn add(&self, labels: &[(&str, &str)], count: u64) {
        self.update(labels, |row| row.inc_by(of_count(count)));
    }

    /// Sets a gauge's row.
    pub(super) fn set(&self, labels: &[(&str, &str)], value: f64) {
        self.update(labels, |row| row.set(value));
    }

    /// Sets the gauge's rows: these and no other.
    pub(super) fn replace<'l>(&self, rows: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, f64)>) {
        let row = |(labels, value): (Vec<(&str, &str)>, f64)| (in_order(&labels), AtomicF64::new(value));
        *self.rows.lock() = rows.into_iter().map(row).collect();
    }

    /// Removes the rows whose labels are not `wanted`.
    pub(super) fn retain(&self, wanted: impl Fn(&[(String, String)]) -> bool) {
        self.rows.lock().retain(|labels, _| wanted(labels));
    }

    /// The present rows; `None` where there are none.
    pub(super) fn block(&self) -> Option<Block> {
        let rows = self.rows.lock();
        let mut block = Block::new(Arc::clone(&self.family));
        for (labels, value) in &*rows {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            block.sample(&labels, value.get());
        }
        (block.series > 0).then_some(block)
    }

    fn update(&self, labels: &[(&str, &str)], act: impl FnOnce(&AtomicF64)) {
        act(self.rows.lock().entry(in_order(labels)).or_insert_with(|| AtomicF64::new(0.0)));
    }
}

fn in_order(labels: &[(&str, &str)]) -> LabelPairs {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut labels: LabelPairs = labels.iter().map(owned).collect();
    let place = |name: &str| LEADING.iter().position(|leading| *leading == name).unwrap_or(LEADING.len());
    labels.sort_by(|(one, _), (other, _)| (place(one), one).cmp(&(place(other), other)));
    labels
}
