//! L001: a counter whose name does not end in `_total`.

use crate::config::Config;
use crate::exposition::FamilyKind;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::CounterWithoutTotal,
    why: "Who reads a query must see from the name alone whether `rate()` applies: a counter ends in `_total`. \
          OpenMetrics, which Prometheus asks for, knows no counter without it: there this one is of type unknown. A \
          number that also falls, like the count of a table's rows, is a gauge.",
    bad: "metrics:\n  - {name: shop_orders, help: Orders., type: counter}",
    good: "metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        let name = metric.naming.text();
        if metric.naming.kind() == FamilyKind::Counter && !name.ends_with("_total") {
            let message = format!("the counter {name} does not end in `_total`");
            let hint = format!("name it {name}_total, or leave out `type: counter` if it also falls");
            sink.metric(query, metric, Said::new(message, hint));
        }
    }
}
