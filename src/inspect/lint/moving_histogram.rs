//! L008: a histogram of rows that leave the result again.

use crate::config::Config;
use crate::exposition::FamilyKind;
use crate::inspect::{Rule, Said, Sink, sql_compare};
use crate::metric::Metric;
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::MovingHistogram,
    why: "The buckets of a histogram are counters: they only grow, and `rate()` takes each fall for a restart. Rows of the \
          last hour, or the last thousand, leave the result again, so the buckets fall at every scrape and \
          `histogram_quantile(rate(…))` tells nothing. A gaugehistogram says what it is: how the rows of now are \
          distributed, to be read without `rate()`.",
    bad: "sql: SELECT wait AS value FROM calls WHERE ended > now() - interval '1 hour'\n\
          metrics:\n  - {name: calls_wait_seconds, help: Waits., type: histogram}",
    good: "sql: SELECT wait AS value FROM calls WHERE ended > now() - interval '1 hour'\n\
           metrics:\n  - {name: calls_wait_seconds, help: Waits of the last hour., type: gaugehistogram}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for query in &plan.queries {
        let is_counted =
            |metric: &&Metric| metric.naming.kind() == FamilyKind::Histogram && metric.recipe.observes_rows;
        let mut counted = query.metrics.iter().filter(is_counted).peekable();
        if counted.peek().is_none() {
            continue;
        }
        let tokens = sql_compare::tokens(query.sql.text());
        let Some(word) = sql_compare::moving(&tokens) else { continue };
        for metric in counted {
            let name = metric.naming.text();
            let message =
                format!("the histogram {name} counts rows that leave the result again (`{word}` in its SQL)");
            let hint = "write `type: gaugehistogram`, or count all rows there ever were";
            sink.metric(query, metric, Said::new(message, hint));
        }
    }
}
