//! L005: a metric without `help`.

use crate::config::Config;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::MissingHelp,
    why: "The help is what Prometheus and Grafana show beside the name, to somebody who has never seen the query and \
          may be looking at it at night. It says what is counted and what is left out.",
    bad: "metrics:\n  - {name: shop_orders}",
    good: "metrics:\n  - {name: shop_orders, help: Orders that were paid and not yet shipped.}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        if metric.naming.help().trim().is_empty() {
            let message = format!("{} has no `help`", metric.naming.text());
            sink.metric(query, metric, Said::new(message, "add `help: …`: what it counts, and what not"));
        }
    }
}
