//! L013: two queries over the same rows, which one SQL could read.

use crate::check::sql::{Select, select, tokens};
use crate::check::{Rule, Said, Sink};
use crate::lint::Lint;
use crate::plan::Plan;
use crate::plan::query::Query;

use super::same_sql::run_together;

pub(super) static RULE: Rule = Rule {
    lint: Lint::SharedSql,
    why: "Two queries that differ only in what stands between SELECT and FROM read the same rows twice at every scrape, at \
          two moments. One query may feed any number of metrics, each from its own column: half the work, and numbers \
          that fit together.",
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
    check,
};

fn check(plan: &Plan, sink: &mut Sink<'_>) {
    let tokens: Vec<Vec<String>> = plan.queries.iter().map(|query| tokens(query.sql.text())).collect();
    let selects: Vec<(&Query, Option<Select<'_>>)> =
        plan.queries.iter().zip(tokens.iter().map(|tokens| select(tokens))).collect();
    for (index, (query, select)) in selects.iter().enumerate() {
        let Some(select) = select else { continue };
        let earlier = selects.iter().take(index);
        let first = earlier.filter_map(|(other, select)| Some((other, select.as_ref()?))).find(
            |(other, of_other)| {
                // Two files are two people's: each is right by itself.
                other.place.file == query.place.file
                    && could_be_one(select, of_other)
                    && run_together(plan, query, other)
            },
        );
        if let Some((other, _)) = first {
            let message = format!("query {} reads the same rows as {}", query.name, other.name);
            let hint = format!("select its columns in {} and move its metrics there", other.name);
            sink.query(query, Said::new(message, hint));
        }
    }
}

fn could_be_one(one: &Select<'_>, other: &Select<'_>) -> bool {
    one.rows == other.rows && one.list != other.list && one.is_one_row() == other.is_one_row()
}
