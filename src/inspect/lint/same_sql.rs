//! L014: the same SQL twice on one target.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::Config;
use crate::config::query::Query;
use crate::inspect::sql_compare::tokens;
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::SameSql,
    why: "The database runs it twice at every scrape, and the two results may differ by what happened in between. One \
          query may feed any number of metrics: put them all under one. Blanks, comments and upper case make no \
          difference here.",
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
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    let runs = Runs::new(plan);
    let mut first: HashMap<(Vec<String>, &Run), usize> = HashMap::new();
    for (index, query) in plan.queries.iter().enumerate() {
        let tokens = tokens(query.sql.text());
        let earlier = runs.of(query).map(|run| *first.entry((tokens.clone(), run)).or_insert(index));
        if let Some(other) = earlier.filter(|at| *at < index).min().and_then(|at| plan.queries.get(at)) {
            let message = format!("query {} is the same SQL as {}", query.name, other.name);
            let hint = format!("move its metrics to {}", other.name);
            sink.query(query, Said::new(message, hint));
        }
    }
}

/// Where a query runs and under which terms: two queries with a run in common are answered together.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    /// The target's place among all.
    target: usize,
    interval: Duration,
    when: String,
}

/// The runs of all queries, by their order.
pub(super) struct Runs(HashMap<usize, Vec<Run>>);

impl Runs {
    pub(super) fn new(plan: &Config) -> Runs {
        let mut runs: HashMap<usize, Vec<Run>> = HashMap::new();
        for (place, target) in plan.targets.iter().enumerate().filter(|(_, target)| target.enabled) {
            for query in target.queries.iter().filter(|query| query.enabled) {
                let when = format!("{:?}", query.when);
                runs.entry(query.order).or_default().push(Run {
                    target: place,
                    interval: query.interval,
                    when,
                });
            }
        }
        Runs(runs)
    }

    pub(super) fn of(&self, query: &Query) -> impl Iterator<Item = &Run> {
        self.0.get(&query.order).into_iter().flatten()
    }
}
