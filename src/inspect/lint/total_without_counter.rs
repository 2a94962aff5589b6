//! L002: a gauge whose name ends in `_total`.

use crate::config::Config;
use crate::exposition::FamilyKind;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::TotalWithoutCounter,
    why: "`_total` promises a counter, which only grows and starts again at 0. A gauge of that name invites `rate()` on \
          a number that falls: each fall looks like a restart, and the rate is far too high. `gauge` is the type where \
          none is written.",
    bad: "metrics:\n  - {name: shop_orders_total, help: Orders.}",
    good: "metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        let name = metric.naming.text();
        if metric.naming.kind() == FamilyKind::Gauge
            && let Some(stem) = name.strip_suffix("_total")
        {
            let message = format!("{name} is a gauge, and `_total` promises a counter");
            let hint = format!("write `type: counter` if it only grows, else name it {stem}");
            sink.metric(query, metric, Said::new(message, hint));
        }
    }
}
