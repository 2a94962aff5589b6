//! L009: a counter read less often than once a minute.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::Config;
use crate::exposition::FamilyKind;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::SlowCounter,
    why: "With an `interval` the scrapes in between see the old value again. `rate()` over five minutes then sees a \
          counter that stands still and jumps: nothing for minutes, then all at once, and over a window shorter than the \
          interval mostly 0. Up to a minute it has several true points in a window; a query too dear for that is better \
          shown as a gauge.",
    bad: "sql: SELECT count(*) AS value FROM orders\ninterval: 10m\n\
          metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
    good: "sql: SELECT count(*) AS value FROM orders\ninterval: 1m\n\
           metrics:\n  - {name: shop_orders_total, help: Orders., type: counter}",
    check,
};

/// Above this a window of five minutes has too few points.
const LONGEST: Duration = Duration::from_secs(60);

fn check(plan: &Config, sink: &mut Sink<'_>) {
    let longest = longest(plan);
    for (query, metric) in metrics(plan).filter(|(_, metric)| metric.naming.kind() == FamilyKind::Counter) {
        let interval = longest.get(&query.order).copied().unwrap_or(query.interval);
        if interval > LONGEST {
            let seconds = interval.as_secs();
            let shown =
                if seconds.is_multiple_of(60) { format!("{}m", seconds / 60) } else { format!("{seconds}s") };
            let message = format!("the counter {} is read every {shown} only", metric.naming.text());
            let hint = "write `interval: 1m` or less, or make it a gauge without `_total`";
            sink.metric(query, metric, Said::new(message, hint));
        }
    }
}

/// The longest that any target runs each query with, by its order.
fn longest(plan: &Config) -> HashMap<usize, Duration> {
    let mut longest: HashMap<usize, Duration> = HashMap::new();
    for query in plan.targets.iter().flat_map(|target| &target.queries) {
        let known = longest.entry(query.order).or_default();
        *known = query.interval.max(*known);
    }
    longest
}
