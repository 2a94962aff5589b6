//! L015: a comment that swallows the rest of the SQL.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::driver::statement::{Dialect, swallowing_comment};
use crate::driver::{AllowedStatements, Endpoint};
use crate::inspect::{Rule, Said, Sink};
use crate::metric::lint_off::Lint;
use crate::yaml::folds::Folded;

pub(super) static RULE: Rule = Rule {
    lint: Lint::SwallowingComment,
    why: "YAML joins the lines of a folded block (`>`), and of a plain or quoted text over several lines, into one. A `--` \
          comment ends with its line, so it then holds all that follows: a condition is gone, and the number is another. \
          A literal block (`|`) keeps the lines, and `/* … */` ends where it says.",
    bad: "sql: >\n  SELECT count(*) AS value\n  FROM orders  -- those that wait\n  WHERE status = 'open'\n\
          metrics:\n  - {name: shop_open_orders, help: Open orders.}",
    good: "sql: |\n  SELECT count(*) AS value\n  FROM orders  -- those that wait\n  WHERE status = 'open'\n\
           metrics:\n  - {name: shop_open_orders, help: Open orders.}",
    check,
};

const HINT: &str = "write `sql: |`, which keeps the lines, or `/* … */`";

fn check(plan: &Config, sink: &mut Sink<'_>) {
    let dialects = dialects(plan);
    for query in &plan.queries {
        let comment = |folded: &[Folded]| {
            // One that runs nowhere is read as most databases would.
            let known =
                dialects.get(&query.order).cloned().unwrap_or_else(|| BTreeSet::from([Dialect::Postgres]));
            let find = |folded: &Folded| {
                let comment =
                    |dialect| swallowing_comment(&folded.text, &folded.folds, dialect).map(str::to_owned);
                known.iter().copied().find_map(comment)
            };
            folded.iter().find_map(find)
        };
        if let Some(comment) = comment(&query.folded) {
            let message = format!("the comment `{comment}` swallows the lines of SQL that follow it");
            sink.sql(query, Said::new(message, HINT));
        }
        if let Some(comment) = query.when.as_ref().and_then(|when| comment(&when.folded)) {
            let name = &query.name;
            let message = format!(
                "the comment `{comment}` in `when.sql` of query {name} swallows the lines that follow it"
            );
            sink.query(query, Said::new(message, HINT));
        }
    }
    for target in &plan.targets {
        if let Some(place) = &target.source.swallowing {
            let message =
                format!("a comment in `session_sql` of target {} swallows what follows it", target.name);
            sink.target(target, place, Said::new(message, "write it as a literal block (`|`), or `/* … */`"));
        }
    }
}

/// The dialects in which each query is read, by its order.
fn dialects(plan: &Config) -> BTreeMap<usize, BTreeSet<Dialect>> {
    let mut dialects: BTreeMap<usize, BTreeSet<Dialect>> = BTreeMap::new();
    for target in &plan.targets {
        let Some(allowed) = target.endpoint.as_deref().and_then(Endpoint::allows) else { continue };
        for query in &target.queries {
            dialects.entry(query.order).or_default().insert(AllowedStatements::dialect(allowed));
        }
    }
    dialects
}
