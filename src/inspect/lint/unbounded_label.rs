//! L006: a label whose name promises a value a row.

use crate::config::Config;
use crate::inspect::{Rule, Said, Sink, metrics};
use crate::metric::labels::LabelSource;
use crate::metric::lint_off::Lint;

pub(super) static RULE: Rule = Rule {
    lint: Lint::UnboundedLabel,
    why: "Every value of a label is a series that Prometheus keeps for good: a label with the user's id makes one a \
          user, and the database that watches the shop grows as the shop does. Labels are for what can be listed: a \
          status, a region. Ask for the few that matter in SQL (`GROUP BY`, the ten largest). Where an id stands for one \
          of a handful, silence this here with `lint_off: [L006]`.",
    bad: "metrics:\n  - {name: shop_cart_items, help: Articles in carts., labels: [user_id]}",
    good: "metrics:\n  - {name: shop_cart_items, help: Articles in carts., labels: [region]}",
    check,
};

/// Last words of labels that are another for each row.
const UNBOUNDED: [&str; 7] = ["id", "uuid", "guid", "email", "mail", "url", "uri"];
/// The same in camel case: `userId`, but not `paid`.
const CAMEL: [&str; 7] = ["Id", "ID", "Uuid", "Guid", "Email", "Url", "Uri"];

fn check(plan: &Config, sink: &mut Sink<'_>) {
    for (query, metric) in metrics(plan) {
        for (label, _) in metric.labels.iter().filter(|(_, origin)| matches!(origin, LabelSource::Column(_)))
        {
            let label = label.as_str();
            if is_unbounded(label) {
                let message =
                    format!("the label `{label}` of {} promises a series a row", metric.naming.text());
                let hint = "leave it out and sum up in SQL, or write `lint_off: [L006]` where there are few";
                sink.labels(query, metric, Said::new(message, hint));
            }
        }
    }
}

fn is_unbounded(label: &str) -> bool {
    let word = label.rsplit('_').next().unwrap_or(label).to_lowercase();
    let after_small =
        |end: &&str| label.strip_suffix(*end).is_some_and(|stem| stem.ends_with(char::is_lowercase));
    UNBOUNDED.contains(&word.as_str()) || CAMEL.iter().any(after_small)
}
