//! L004: a name that says another unit than its column or its help.

use crate::config::Config;
use crate::inspect::units;
use crate::inspect::units::Unit;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::Metric;
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::UnitDisagrees,
    why: "Where the name says seconds and the column it comes from says milliseconds, one of them is wrong, and nobody \
          who looks at a graph can see which. `scale` is the factor between the two. The help speaks of what is \
          exported, not of what the database keeps.",
    bad: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms}",
    good: "metrics:\n  - {name: shop_wait_seconds, help: Longest wait., value_column: wait_ms, scale: 0.001}",
    check,
};

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        let Some((unit, _)) = units::of_name(metric.naming.text()) else { continue };
        if let Some(said) = column(metric, unit).or_else(|| help(metric, unit)) {
            sink.metric(query, metric, said);
        }
    }
}

/// The first column whose unit is not the name's, after `scale`.
fn column(metric: &Metric, unit: &Unit) -> Option<Said> {
    metric.recipe.measures.iter().find_map(|&(ref column, scale)| {
        let from = units::of_column(column).filter(|from| from.base == unit.base)?;
        let wanted = from.factor / unit.factor;
        if units::is_same(scale, wanted) {
            return None;
        }
        let name = metric.naming.text();
        let (factor, now) = (units::shown(wanted), units::shown(scale));
        if units::is_same(wanted, 1.0) {
            let message =
                format!("{name} and its column `{column}` are both in {}, and `scale` is {now}", unit.name());
            return Some(Said::new(message, "leave `scale` out"));
        }
        let message = format!("{name} says {}, and its column `{column}` {}", unit.name(), from.name());
        let instead = if units::is_same(scale, 1.0) { String::new() } else { format!(" instead of {now}") };
        Some(Said::new(message, format!("write `scale: {factor}`{instead}")))
    })
}

fn help(metric: &Metric, unit: &Unit) -> Option<Said> {
    let said = units::of_help(metric.naming.help()).filter(|said| said.base == unit.base)?;
    let message = format!("{} says {}, and its help {}", metric.naming.text(), unit.name(), said.name());
    let hint = format!("the help speaks of what is exported: {}", unit.name());
    (!units::is_same(said.factor, unit.factor)).then(|| Said::new(message, hint))
}
