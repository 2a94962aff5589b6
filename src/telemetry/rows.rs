//! A family whose rows differ in their label names: targets bear labels of their own, which the crate's vectors do not
//! allow. Each row is a counter or gauge of the crate with constant labels; this collector shows them as one family.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Gauge, IntCounter, Opts};

/// Starts the names of all our families.
const PREFIX: &str = "sql_exporter";

/// Label names and values: the row's identity.
type Key = Vec<(String, String)>;

/// One family's rows; a clone is the same family.
#[derive(Clone)]
pub(super) struct Rows(Arc<Inner>);

struct Inner {
    kind: MetricType,
    name: &'static str,
    help: &'static str,
    desc: Option<Desc>,
    rows: Mutex<BTreeMap<Key, Row>>,
}

enum Row {
    Counter(IntCounter),
    Gauge(Gauge),
}

impl Rows {
    /// An empty family `sql_exporter_<name>` of counters or gauges.
    pub(super) fn new(kind: MetricType, name: &'static str, help: &'static str) -> Self {
        let desc = Desc::new(format!("{PREFIX}_{name}"), help.to_owned(), Vec::new(), Default::default());
        Rows(Arc::new(Inner { kind, name, help, desc: desc.ok(), rows: Mutex::default() }))
    }

    /// Adds to a counter's row, which begins at 0.
    pub(super) fn add(&self, labels: &[(&str, &str)], count: u64) {
        self.with(labels, |row| {
            if let Row::Counter(counter) = row {
                counter.inc_by(count);
            }
        });
    }

    /// Sets a gauge's row.
    pub(super) fn set(&self, labels: &[(&str, &str)], value: f64) {
        self.with(labels, |row| {
            if let Row::Gauge(gauge) = row {
                gauge.set(value);
            }
        });
    }

    /// Forgets the rows whose labels are not wanted.
    pub(super) fn keep(&self, wanted: impl Fn(&[(String, String)]) -> bool) {
        self.0.rows.lock().retain(|key, _| wanted(key));
    }

    fn with(&self, labels: &[(&str, &str)], act: impl FnOnce(&Row)) {
        let key: Key = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut rows = self.0.rows.lock();
        if let Some(row) = rows.get(&key) {
            return act(row);
        }
        // A label set that the crate refuses (two labels of one name) was refused at load; here it is not counted.
        if let Some(row) = self.row(&key) {
            act(&row);
            rows.insert(key, row);
        }
    }

    fn row(&self, key: &Key) -> Option<Row> {
        let labels = key.iter().cloned().collect();
        let options = Opts::new(self.0.name, self.0.help).namespace(PREFIX).const_labels(labels);
        match self.0.kind {
            MetricType::COUNTER => IntCounter::with_opts(options).ok().map(Row::Counter),
            _ => Gauge::with_opts(options).ok().map(Row::Gauge),
        }
    }
}

impl Collector for Rows {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let rows = self.0.rows.lock();
        let mut all: Option<MetricFamily> = None;
        for row in rows.values() {
            let families = match row {
                Row::Counter(counter) => counter.collect(),
                Row::Gauge(gauge) => gauge.collect(),
            };
            for mut family in families {
                match &mut all {
                    None => all = Some(family),
                    Some(all) => all.mut_metric().extend(family.take_metric()),
                }
            }
        }
        all.into_iter().collect()
    }
}
