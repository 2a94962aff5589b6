//! One scrape and all that must hold for its page, whatever the databases do.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use super::steady;
use crate::checker::{Page, check};
use crate::exporter::Exporter;
use crate::web_client::connect;

/// With so much time the steady targets are always there; with less they may run out of time, and say so.
const ROOMY: Duration = Duration::from_millis(900);
/// How much later than the scraper's own timeout an answer may come on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// What a page of this round may show.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    /// The steady targets' value.
    pub(crate) tick: u64,
    /// Target and value of `moody`; `None` when it has no rows to show.
    pub(crate) moody: Vec<(&'static str, Option<u64>)>,
    /// The world moved during the round, or a scrape of the last one may still run: older values may be seen, and
    /// nothing is said of `moody`.
    pub(crate) moving: bool,
}

/// One scrape to be made.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) timeout: Duration,
    /// Only this target.
    pub(crate) only: Option<&'static str>,
    /// The client goes away as soon as it has asked.
    pub(crate) leaves: bool,
}

/// How scrapes ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) complete: usize,
    pub(crate) partial: usize,
    pub(crate) left: usize,
    /// Pages with less than [`ROOMY`] on which a steady target ran out of time.
    pub(crate) cut: usize,
    /// Answers after the scraper's own timeout, and the latest of them.
    pub(crate) late: usize,
    pub(crate) latest: Duration,
    /// Failed queries by reason.
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.complete += other.complete;
        self.partial += other.partial;
        self.left += other.left;
        self.cut += other.cut;
        self.late += other.late;
        self.latest = self.latest.max(other.latest);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

/// Makes one scrape; says what is wrong with its page.
pub(crate) fn scrape(exporter: &Exporter, order: &Order, truth: &Truth) -> Result<Tally, String> {
    let path = order.only.map_or_else(|| "/metrics".to_owned(), |target| format!("/metrics?target={target}"));
    let timeout = format!("{}", order.timeout.as_secs_f64());
    if order.leaves {
        let mut stream = connect(exporter.address());
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: soak\r\nX-Prometheus-Scrape-Timeout-Seconds: {timeout}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).map_err(|error| format!("the request cannot be sent: {error}"))?;
        return Ok(Tally { left: 1, ..Tally::default() });
    }
    let began = Instant::now();
    let reply = exporter.get_with(&path, &[("X-Prometheus-Scrape-Timeout-Seconds", &timeout)]);
    let took = began.elapsed();
    let text = reply.text();
    if reply.status != 200 {
        return Err(format!("status {}: {text}", reply.status));
    }
    if took > order.timeout + SLACK {
        return Err(format!("the answer took {took:?} of {:?}", order.timeout));
    }
    let page = check(text).map_err(|faults| format!("{text}\n{}", faults.join("\n")))?;
    let mut tally = Tally::default();
    if took > order.timeout {
        (tally.late, tally.latest) = (1, took - order.timeout);
    }
    steady_rows(&page, order, truth, &mut tally).map_err(|fault| format!("{text}\n{fault}"))?;
    moody_rows(&page, truth).map_err(|fault| format!("{text}\n{fault}"))?;
    whole_results(&page).map_err(|fault| format!("{text}\n{fault}"))?;
    outcome(&page, &mut tally);
    Ok(tally)
}

fn steady_rows(page: &Page, order: &Order, truth: &Truth, tally: &mut Tally) -> Result<(), String> {
    let asked = |target: &&str| order.only.is_none_or(|only| only == *target);
    let mut cut = false;
    for target in steady::TARGETS.into_iter().filter(asked) {
        let oldest = truth.tick - u64::from(truth.moving && truth.tick > 0);
        let fresh = |value: f64| value >= oldest as f64 && value <= truth.tick as f64;
        match page.value("tick_value", &[("target", target)]) {
            Some(value) if fresh(value) => {}
            Some(value) => return Err(format!("{target} shows {value}, its value is {}", truth.tick)),
            None if order.timeout < ROOMY && failing(page, target, "tick") == Some("timeout") => cut = true,
            None => {
                let reason = failing(page, target, "tick");
                return Err(format!("{target} is missing with {:?} of time: {reason:?}", order.timeout));
            }
        }
    }
    tally.cut += usize::from(cut);
    Ok(())
}

fn failing<'p>(page: &'p Page, target: &str, query: &str) -> Option<&'p str> {
    let fits = |labels: &&BTreeMap<String, String>| labels["target"] == target && labels["query"] == query;
    let rows = page.series("sql_exporter_query_failure_reason");
    rows.into_iter().map(|sample| &sample.labels).find(fits).map(|labels| labels["reason"].as_str())
}

fn moody_rows(page: &Page, truth: &Truth) -> Result<(), String> {
    for (target, allowed) in truth.moody.iter().filter(|_| !truth.moving) {
        let rows = page.series("moody_value").into_iter().filter(|row| row.labels["target"] == *target);
        let values: Vec<f64> = rows.map(|row| row.value).collect();
        let right = |value: &f64| allowed.is_some_and(|allowed| *value == allowed as f64);
        if !values.iter().all(right) {
            return Err(format!("{target} shows {values:?} in moody, its value is {allowed:?}"));
        }
        if !matches!(values.len(), 0 | 3) {
            return Err(format!("{target} shows {} of 3 rows in moody", values.len()));
        }
    }
    Ok(())
}

/// A wire that is cut in the middle of a result shows none of it.
fn whole_results(page: &Page) -> Result<(), String> {
    for target in ["wire_pg", "wire_maria"] {
        let rows = page.series("bulk_value").iter().filter(|row| row.labels["target"] == target).count();
        if rows != 0 && rows != steady::BULK {
            return Err(format!("{target} shows {rows} of {} rows in bulk", steady::BULK));
        }
    }
    Ok(())
}

fn outcome(page: &Page, tally: &mut Tally) {
    for sample in page.series("sql_exporter_query_failure_reason") {
        *tally.reasons.entry(sample.labels["reason"].clone()).or_default() += 1;
    }
    if tally.reasons.is_empty() {
        tally.complete = 1;
    } else {
        tally.partial = 1;
    }
}

/// True when the page shows every target up and no query failing.
pub(crate) fn all_well(page: &Page) -> bool {
    page.series("sql_exporter_target_up").iter().all(|up| up.value == 1.0)
        && page.series("sql_exporter_query_failure_reason").is_empty()
}
