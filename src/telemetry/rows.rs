//! A family whose rows differ in their label names: targets bear labels of their own, which the prometheus crate's
//! vectors do not allow. Each row is a counter or gauge of the crate; what it is called stands here, ready to be
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter};

use crate::exposition::block::Block;
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;

/// Starts the names of all our families.
const PREFIX: &str = "sql_exporter_";
/// Labels that say whose row it is come first, as on the rows of a scrape; the others by name.
const LEADING: [&str; 3] = ["target", "query", "collector"];

/// Label names and values.
type Labels = Vec<(String, String)>;

/// One family's rows.
pub(super) struct Rows {
    /// `None` for a name that is not legal: its rows are not counted.
    family: Option<Arc<Family>>,
    /// By their labels in the order in which they are counted under. A list in that order would be moved at each new row:
    /// thousands come at once where a server is down.
    rows: Mutex<BTreeMap<Labels, Row>>,
}

struct Row {
    /// The labels in the order in which they are written.
    shown: Labels,
    value: Value,
}

enum Value {
    Counter(IntCounter),
    Gauge(Gauge),
}

impl Rows {
    /// An empty family `sql_exporter_<name>` of counters or gauges.
    pub(super) fn new(kind: FamilyKind, name: &str, help: &str) -> Self {
        let name = MetricName::new(&format!("{PREFIX}{name}"));
        let family = name.ok().map(|name| Arc::new(Family::new(name, kind, help)));
        Rows { family, rows: Mutex::default() }
    }

    /// Adds to a counter's row, which begins at 0.
    pub(super) fn add(&self, labels: &[(&str, &str)], count: u64) {
        self.with(labels, |value| {
            if let Value::Counter(counter) = value {
                counter.inc_by(count);
            }
        });
    }

    /// Sets a gauge's row.
    pub(super) fn set(&self, labels: &[(&str, &str)], value: f64) {
        self.with(labels, |row| {
            if let Value::Gauge(gauge) = row {
                gauge.set(value);
            }
        });
    }

    /// Forgets the rows whose labels are not wanted.
    pub(super) fn keep(&self, wanted: impl Fn(&[(String, String)]) -> bool) {
        self.rows.lock().retain(|key, _| wanted(key));
    }

    /// The rows as they stand now; `None` where there are none.
    pub(super) fn block(&self) -> Option<Block> {
        let rows = self.rows.lock();
        let mut block = Block::new(Arc::clone(self.family.as_ref()?));
        let mut labels = Vec::new();
        for row in rows.values() {
            labels.clear();
            labels.extend(row.shown.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            block.sample(&labels, row.value.get());
        }
        (block.series > 0).then_some(block)
    }

    fn with(&self, labels: &[(&str, &str)], act: impl FnOnce(&Value)) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let key: Labels = labels.iter().map(owned).collect();
        let mut rows = self.rows.lock();
        if let Some(row) = rows.get(&key) {
            act(&row.value);
        } else if let Some(row) = self.row(&key) {
            act(&row.value);
            rows.insert(key, row);
        }
    }

    /// `None` for a row that the crate refuses: it is not counted.
    fn row(&self, key: &Labels) -> Option<Row> {
        let family = self.family.as_ref()?;
        let (name, help) = (family.name.as_str(), &*family.help);
        let value = match family.kind {
            FamilyKind::Counter => Value::Counter(IntCounter::new(name, help).ok()?),
            _ => Value::Gauge(Gauge::new(name, help).ok()?),
        };
        let mut shown = key.clone();
        let place = |name: &str| LEADING.iter().position(|leading| *leading == name).unwrap_or(LEADING.len());
        shown.sort_by(|(one, _), (other, _)| (place(one), one).cmp(&(place(other), other)));
        Some(Row { shown, value })
    }
}

impl Value {
    /// Counts stay far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "no process counts so far")]
    fn get(&self) -> f64 {
        match self {
            Value::Counter(counter) => counter.get() as f64,
            Value::Gauge(gauge) => gauge.get(),
        }
    }
}
