//! L007: a label that Prometheus sets itself.

use crate::config::Config;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::PrometheusLabel,
    why: "Prometheus adds `job` and `instance` to everything it scrapes. A label of that name of ours becomes \
          `exported_job` or `exported_instance`, and queries, dashboards and alerts written for it find nothing; with \
          `honor_labels: true` it hides where the series came from.",
    bad: "metrics:\n  - {name: shop_runs, help: Runs of a job., labels: [job]}",
    good: "metrics:\n  - {name: shop_runs, help: Runs of a job., labels: {job_name: job}}",
    check,
};

/// The labels, and what ours may be called instead.
const TAKEN: [(&str, &str); 2] = [("job", "job_name"), ("instance", "server")];

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        for (label, better) in metric.labels.iter().filter_map(|(label, _)| taken(label.as_str())) {
            let message = format!("the label `{label}` of {} is Prometheus' own", metric.naming.text());
            let hint = format!("call it something else: {better}");
            sink.labels(query, metric, Said::new(message, hint));
        }
    }
    for target in &plan.targets {
        for (label, better) in target.labels.iter().filter_map(|(label, _)| taken(label.as_str())) {
            let message = format!("the label `{label}` of target {} is Prometheus' own", target.name);
            let hint = format!("call it something else: {better}");
            sink.target(target, &target.source.labels, Said::new(message, hint));
        }
    }
}

fn taken(label: &str) -> Option<(&'static str, &'static str)> {
    TAKEN.iter().copied().find(|(name, _)| *name == label)
}
