//! L013: two queries over the same rows, which one SQL could read.

use std::collections::HashMap;

use crate::config::Config;
use crate::inspect::sql_compare::{Select, select, tokens};
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;

use super::same_sql::{Run, Runs};

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

/// What two queries have in common that one could answer.
#[derive(PartialEq, Eq, Hash)]
struct Rows<'t> {
    /// Two files are two people's: each is right by itself.
    file: &'t str,
    rows: &'t [String],
    is_one_row: bool,
    run: &'t Run,
}

/// The first queries over some rows: at most one of each of two lists, so that every other list differs from one.
struct First<'t> {
    query: usize,
    list: &'t [String],
    other: Option<usize>,
}

fn check(plan: &Config, sink: &mut Sink<'_>) {
    let runs = Runs::new(plan);
    let tokens: Vec<Vec<String>> = plan.queries.iter().map(|query| tokens(query.sql.text())).collect();
    let mut known: HashMap<Rows<'_>, First<'_>> = HashMap::new();
    for (index, (query, tokens)) in plan.queries.iter().zip(&tokens).enumerate() {
        let Some(Select { list, rows }) = select(tokens) else { continue };
        let is_one_row = Select { list, rows }.is_one_row();
        let mut earliest: Option<usize> = None;
        for run in runs.of(query) {
            let rows = Rows { file: &query.place.file, rows, is_one_row, run };
            let first = known.entry(rows).or_insert(First { query: index, list, other: None });
            let shared = if first.list == list { first.other } else { Some(first.query) };
            if first.list != list {
                first.other.get_or_insert(index);
            }
            earliest = earliest.into_iter().chain(shared.filter(|at| *at < index)).min();
        }
        if let Some(other) = earliest.and_then(|at| plan.queries.get(at)) {
            let message = format!("query {} reads the same rows as {}", query.name, other.name);
            let hint = format!("select its columns in {} and move its metrics there", other.name);
            sink.query(query, Said::new(message, hint));
        }
    }
}
