//! L014: the same SQL twice on one target.

use crate::check::sql::tokens;
use crate::check::{Rule, Said, Sink};
use crate::lint::Lint;
use crate::plan::Plan;
use crate::plan::query::Query;

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

fn check(plan: &Plan, sink: &mut Sink<'_>) {
    let tokens: Vec<Vec<String>> = plan.queries.iter().map(|query| tokens(query.sql.text())).collect();
    let queries: Vec<(&Query, &Vec<String>)> = plan.queries.iter().zip(&tokens).collect();
    for (index, (query, tokens)) in queries.iter().enumerate() {
        let same = |(other, of_other): &&(&Query, &Vec<String>)| {
            of_other == tokens && run_together(plan, query, other)
        };
        if let Some((other, _)) = queries.iter().take(index).find(same) {
            let message = format!("query {} is the same SQL as {}", query.name, other.name);
            let hint = format!("move its metrics to {}", other.name);
            sink.query(query, Said::new(message, hint));
        }
    }
}

/// True when both run on one target, there under the same conditions and as often.
pub(super) fn run_together(plan: &Plan, one: &Query, other: &Query) -> bool {
    plan.targets.iter().filter(|target| target.enabled).any(|target| {
        let find =
            |wanted: &Query| target.queries.iter().find(|query| query.order == wanted.order && query.enabled);
        find(one).zip(find(other)).is_some_and(|(one, other)| {
            one.interval == other.interval && format!("{:?}", one.when) == format!("{:?}", other.when)
        })
    })
}
