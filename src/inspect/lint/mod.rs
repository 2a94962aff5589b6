//! The lints: what is legal in a configuration and still probably wrong. They need no database.
//!
//! [`RULES`] is the table: why, a bad and a good example, and a check. `checks` has the checks. A new lint is an entry in
//! `metric/lint_off`, one here and a function there.

mod checks;
mod units;

use std::collections::HashSet;

use crate::config::Config;
use crate::config::database::Database;
use crate::config::query::Query;
use crate::error::{Error, SourcePosition};
use crate::inspect::report::{Finding, Severity, without_secrets};
use crate::metric::Metric;

use self::LintCheck::{EveryMetric, WholeConfig};

/// A message, and what to change.
type LintMessage = (String, String);

/// How a lint looks at a configuration.
enum LintCheck {
    /// At every metric, also of queries that are disabled.
    EveryMetric(fn(&Query, &Metric) -> Option<LintMessage>),
    /// At everything that it is about.
    WholeConfig(fn(&Config, &mut FindingSink<'_>)),
}

/// One lint.
pub struct LintRule {
    /// As in `metric/lint_off`.
    pub code: &'static str,
    /// Why, in a paragraph without line breaks.
    pub why: &'static str,
    /// What it finds: part of a configuration.
    pub bad: &'static str,
    /// The same without the finding.
    pub good: &'static str,
    check: LintCheck,
}

/// All lints, by code.
pub static RULES: &[LintRule] = &[
    LintRule {
        code: "L001",
        why: "The name alone should tell a reader whether `rate()` applies: a counter ends in `_total`. OpenMetrics, the \
              format that Prometheus prefers, has no counter without this suffix: there this one has the type unknown. A \
              number that also falls, like the number of rows in a table, is a gauge.",
        bad: "metrics:\n  - {name: shop_orders, help: Orders., type: counter}",
        good: "metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
        check: EveryMetric(checks::counter_without_total),
    },
    LintRule {
        code: "L002",
        why: "`_total` promises a counter, which only grows and starts again at 0. A gauge with that name invites `rate()` \
              on a number that falls: each fall looks like a restart, and the rate is far too high. `gauge` is the type \
              where none is written.",
        bad: "metrics:\n  - {name: shop_orders_total, help: Orders.}",
        good: "metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
        check: EveryMetric(checks::total_without_counter),
    },
    LintRule {
        code: "L003",
        why: "Prometheus' own metrics, its functions and most dashboards use seconds, bytes and ratios from 0 to 1. A metric \
              in milliseconds is off by a thousand beside them, and a dashboard that knows the unit shows the wrong one. The \
              database may keep its unit: `scale` multiplies the value.",
        bad: "metrics:\n  - {name: shop_wait_ms, help: Longest wait., value_column: wait_ms}",
        good: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms, scale: 0.001}",
        check: EveryMetric(checks::base_unit),
    },
    LintRule {
        code: "L004",
        why: "Where the name says seconds and the column that it comes from says milliseconds, one of them is wrong, and \
              nobody who looks at a graph can see which. `scale` is the factor between the two. The help describes what is \
              exported, not what the database keeps.",
        bad: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms}",
        good: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms, scale: 0.001}",
        check: EveryMetric(checks::unit_disagrees),
    },
    LintRule {
        code: "L005",
        why: "Prometheus and Grafana show the help beside the name, to somebody who has never seen the query and may be \
              looking at it at night. It says what is counted and what is left out.",
        bad: "metrics:\n  - {name: shop_orders}",
        good: "metrics:\n  - {name: shop_orders, help: Orders that were paid and not yet shipped.}",
        check: EveryMetric(checks::missing_help),
    },
    LintRule {
        code: "L006",
        why: "Prometheus keeps a series for every value of a label: a label with the user's ID makes one series per user, and \
              Prometheus grows as the shop does. Labels are for what can be listed: a status, a region. Select the few that \
              matter in SQL (`GROUP BY`, the ten largest). Where an ID has only a handful of values, silence this with \
              `lint_off: [L006]`.",
        bad: "metrics:\n  - {name: shop_cart_items, help: Articles in carts., labels: [user_id]}",
        good: "metrics:\n  - {name: shop_cart_items, help: Articles in carts., labels: [region]}",
        check: WholeConfig(checks::unbounded_label),
    },
    LintRule {
        code: "L007",
        why: "Prometheus adds `job` and `instance` to everything that it scrapes. A label of ours with that name becomes \
              `exported_job` or `exported_instance`, and queries, dashboards and alerts written for it find nothing; with \
              `honor_labels: true` it hides where the series came from. It also writes `up`, `scrape_duration_seconds` and other \
              series about each scrape: one of ours with such a name is taken for its own, and `up == 0` fires for it.",
        bad: "metrics:\n  - {name: shop_runs, help: Runs of a job., labels: [job]}",
        good: "metrics:\n  - {name: shop_runs, help: Runs of a job., labels: {job_name: job}}",
        check: WholeConfig(checks::prometheus_name),
    },
    LintRule {
        code: "L008",
        why: "The buckets of a histogram are counters: they only grow, and `rate()` takes each fall for a restart. Rows of the \
              last hour, or the last thousand, leave the result again, so the buckets fall at every scrape and \
              `histogram_quantile(rate(…))` means nothing. A gaugehistogram shows how the current rows are distributed, and \
              is read without `rate()`.",
        bad: "sql: SELECT wait AS value FROM calls WHERE ended > now() - interval '1 hour'\n\
              metrics:\n  - {name: calls_wait_seconds, help: Waits., type: histogram}",
        good: "sql: SELECT wait AS value FROM calls WHERE ended > now() - interval '1 hour'\n\
               metrics:\n  - {name: calls_wait_seconds, help: Waits of the last hour., type: gaugehistogram}",
        check: EveryMetric(checks::moving_histogram),
    },
    LintRule {
        code: "L009",
        why: "With an `interval` the scrapes in between get the old value again. `rate()` over five minutes then sees a \
              counter that stands still and jumps: nothing for minutes, then all at once, and over a window shorter than the \
              interval mostly 0. Up to a minute, a window has several true points; the result of a query that is too \
              expensive for that is better shown as a gauge.",
        bad: "sql: SELECT count(*) AS value FROM orders\ninterval: 10m\n\
              metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
        good: "sql: SELECT count(*) AS value FROM orders\ninterval: 1m\n\
               metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
        check: WholeConfig(checks::slow_counter),
    },
    LintRule {
        code: "L010",
        why: "Without a verified certificate anybody on the network path may answer in the server's place: read the queries, \
              return other results, and with some servers take the password. `prefer`, the default, is plain text where the \
              server offers nothing else; `require` encrypts, whoever answers. Only `verify-full` with a `ca` of your own \
              makes sure that it is your server. Targets on this machine (a Unix socket, localhost) are left alone.",
        bad: "databases:\n  shop: {url: \"postgres://exporter@db.example/shop\"}",
        good: "databases:\n  shop: {url: \"postgres://exporter@db.example/shop?sslmode=verify-full\"}",
        check: WholeConfig(checks::unverified_tls),
    },
    LintRule {
        code: "L011",
        why: "A configuration is copied, mailed and kept in version control, and the password goes with it, for as long as \
              that history is kept. In a file, a variable or a command it stays in one place, and a change of \
              `password_file` or `password_command` needs no reload.",
        bad: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}",
        good: "databases:\n  shop: {driver: postgres, host: localhost, password_file: /run/secrets/shop}",
        check: WholeConfig(checks::written_password),
    },
    LintRule {
        code: "L012",
        why: "Every account on the machine, also of a compromised web server, can read a file of mode 0644 in a folder that \
              everybody may enter, and with it the password of the database. Only the exporter needs to read it: mode 0600, \
              or 0640 with a group of its own. What Docker and Kubernetes mount below /run/secrets is left alone: they choose \
              the mode, and the container has no other users.",
        bad: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}   # in a file of mode 0644",
        good: "databases:\n  shop: {driver: postgres, host: localhost, password: swordfish}   # in a file of mode 0600",
        check: WholeConfig(checks::open_file),
    },
    LintRule {
        code: "L013",
        why: "Two queries that differ only between SELECT and FROM read the same rows twice at every scrape, at two moments. \
              One query may have any number of metrics, each from its own column: half the work, and numbers that fit \
              together.",
        bad: r"queries:
  - name: orders
    sql: SELECT count(*) AS n FROM orders
    metrics: [{name: shop_orders, help: Orders., value_column: n}]
  - name: revenue
    sql: SELECT sum(amount) AS euros FROM orders
    metrics: [{name: shop_revenue_euros, help: Revenue., value_column: euros}]",
        good: r"queries:
  - name: orders
    sql: SELECT count(*) AS n, sum(amount) AS euros FROM orders
    metrics:
      - {name: shop_orders, help: Orders., value_column: n}
      - {name: shop_revenue_euros, help: Revenue., value_column: euros}",
        check: WholeConfig(checks::shared_sql),
    },
    LintRule {
        code: "L014",
        why: "The database runs it twice at every scrape, and the two results may differ by what happened in between. One \
              query may have any number of metrics. Blanks, comments and upper case make no difference here.",
        bad: r"queries:
  - name: orders
    sql: SELECT region, count(*) AS n FROM orders GROUP BY region
    metrics: [{name: shop_orders, help: Orders., labels: [region], value_column: n}]
  - name: regions
    sql: SELECT region, count(*) AS n FROM orders GROUP BY region
    metrics: [{name: shop_regions, help: Regions with orders., labels: [region], value: 1}]",
        good: r"queries:
  - name: orders
    sql: SELECT region, count(*) AS n FROM orders GROUP BY region
    metrics:
      - {name: shop_orders, help: Orders., labels: [region], value_column: n}
      - {name: shop_regions, help: Regions with orders., labels: [region], value: 1}",
        check: WholeConfig(checks::same_sql),
    },
    LintRule {
        code: "L015",
        why: "YAML joins the lines of a folded block (`>`), and of a plain or quoted text over several lines, into one. A `--` \
              comment ends with its line, so it then hides all that follows: a condition is gone, and the number is another. \
              A literal block (`|`) keeps the lines, and `/* … */` has an end of its own.",
        bad: "sql: >\n  SELECT count(*) AS value\n  FROM orders  -- those that wait\n  WHERE status = 'open'\n\
              metrics:\n  - {name: shop_open_orders, help: Open orders.}",
        good: "sql: |\n  SELECT count(*) AS value\n  FROM orders  -- those that wait\n  WHERE status = 'open'\n\
               metrics:\n  - {name: shop_open_orders, help: Open orders.}",
        check: WholeConfig(checks::hiding_comment),
    },
];

/// What all lints found.
#[derive(Debug, Default)]
pub struct LintFindings {
    /// By lint, then in configuration order.
    pub findings: Vec<Finding>,
    /// How many more a `lint_off` silences.
    pub silenced: usize,
}

/// Runs every lint. Reads the modes of files that hold secrets; blocks for nothing else.
pub fn run(config: &Config) -> LintFindings {
    let mut found = LintFindings::default();
    for rule in RULES {
        let mut sink = FindingSink { code: rule.code, config, reported: HashSet::new(), found: &mut found };
        match rule.check {
            WholeConfig(check) => check(config, &mut sink),
            EveryMetric(check) => {
                for (query, metric) in metrics(config) {
                    if let Some(advice) = check(query, metric) {
                        sink.metric(query, metric, advice);
                    }
                }
            }
        }
    }
    found
}

/// The metrics of all queries, in configuration order.
fn metrics(config: &Config) -> impl Iterator<Item = (&Query, &Metric)> {
    config.queries.iter().flat_map(|query| query.metrics.iter().map(move |metric| (query, metric)))
}

/// Takes the findings of one lint. The same finding at the same place, which several entries may share, counts once.
struct FindingSink<'c> {
    code: &'static str,
    config: &'c Config,
    reported: HashSet<(String, String)>,
    found: &'c mut LintFindings,
}

impl FindingSink<'_> {
    /// At the name of a metric.
    fn metric(&mut self, query: &Query, metric: &Metric, advice: LintMessage) {
        let silenced = metric.lint_off.contains(self.code) || query.lint_off.contains(self.code);
        self.add(silenced, &metric.place, advice);
    }

    /// At the labels of a metric.
    fn labels(&mut self, query: &Query, metric: &Metric, advice: LintMessage) {
        let silenced = metric.lint_off.contains(self.code) || query.lint_off.contains(self.code);
        self.add(silenced, metric.labels_place.as_ref().unwrap_or(&metric.place), advice);
    }

    /// At a place of a query.
    fn query(&mut self, query: &Query, place: &SourcePosition, advice: LintMessage) {
        self.add(query.lint_off.contains(self.code), place, advice);
    }

    /// At a place of a target.
    fn target(&mut self, target: &Database, place: &SourcePosition, advice: LintMessage) {
        self.add(target.source.lint_off.contains(self.code), place, advice);
    }

    fn add(&mut self, silenced: bool, place: &SourcePosition, (message, hint): LintMessage) {
        if silenced {
            self.found.silenced += 1;
        } else if self.reported.insert((place.to_string(), message.clone())) {
            let place = without_secrets(self.config, place.clone());
            let error = Error::config(message).at(place).with_hint(hint);
            self.found.findings.push(Finding { severity: Severity::Warning, code: Some(self.code), error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::metric::lint_off::LINTS;

    #[test]
    fn every_lint_has_its_rule_in_the_order_of_codes() {
        assert!(RULES.iter().map(|rule| rule.code).eq(LINTS.iter().map(|lint| lint.code)));
        for rule in RULES {
            assert!(rule.why.len() > 80 && !rule.why.contains('\n'), "{}", rule.code);
            assert!(rule.bad != rule.good && !rule.bad.is_empty(), "{}", rule.code);
        }
    }
}
