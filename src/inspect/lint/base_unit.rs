//! L003: a unit that is not a base unit.

use crate::config::Config;
use crate::inspect::units;
use crate::inspect::units::Unit;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::Metric;
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::BaseUnit,
    why: "Prometheus' own metrics, its functions and most dashboards speak of seconds, bytes and ratios from 0 to 1. A \
          metric in milliseconds is off by a thousand beside them, and a dashboard that knows the unit shows the wrong \
          one. The database may keep what it likes: `scale` multiplies the value on its way out.",
    bad: "metrics:\n  - {name: shop_wait_ms, help: Longest wait., value_column: wait_ms}",
    good: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms, scale: 0.001}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        let name = metric.naming.text();
        if let Some((unit, word)) = units::of_name(name)
            && !unit.is_base()
        {
            let message =
                format!("{name} is in {}, and the base unit is {}", unit.name(), unit.base_in_words());
            sink.metric(query, metric, Said::new(message, hint(metric, unit, name, word)));
        }
    }
}

fn hint(metric: &Metric, unit: &Unit, name: &str, word: &str) -> String {
    let better = match name.rsplit_once(&format!("_{word}")) {
        Some((before, after)) => format!("{before}_{}{after}", unit.base),
        None => name.to_owned(),
    };
    let scale = metric.recipe.measures.first().map_or(1.0, |(_, scale)| *scale) * unit.factor;
    if units::is_same(scale, 1.0) {
        format!("name it {better}")
    } else {
        format!("name it {better} and write `scale: {}`", units::shown(scale))
    }
}
