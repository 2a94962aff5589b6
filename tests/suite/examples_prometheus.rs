//! `examples/prometheus/` and `examples/grafana/`: every expression parses, names metrics and labels that exist, and is answered
//! with data; every alert has a unit test, and those that can be provoked here fire in a real Prometheus ([`live`]).

mod dashboards;
mod declared;
mod expressions;
mod live;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

use crate::process::{folder, variable};
use declared::Declared;
use expressions::{Expression, words};

fn examples(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder with this suffix, by name, in order.
fn files(folder: &str, suffix: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(examples(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut files: Vec<_> = paths.filter(|path| name(path).ends_with(suffix)).collect();
    files.sort();
    files.iter().map(|path| (name(path), read(path))).collect()
}

/// The files that hold rules.
fn rule_files() -> Vec<(String, String)> {
    let holds_rules = |name: &str| name == "recording.yml" || name.starts_with("alerts-");
    files("prometheus", ".yml").into_iter().filter(|(name, _)| holds_rules(name)).collect()
}

/// A recording or alerting rule.
struct Rule {
    place: String,
    definition: Value,
}

impl Rule {
    fn text(&self, key: &str) -> Option<&str> {
        self.definition[key].as_str()
    }

    fn expression(&self) -> Expression {
        let text = self.text("expr").unwrap_or_else(|| panic!("{}: no expr", self.place));
        Expression { place: self.place.clone(), text: text.to_owned() }
    }
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (file, text) in rule_files() {
        let groups: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for group in groups["groups"].as_sequence().expect("groups") {
            for rule in group["rules"].as_sequence().expect("rules") {
                let name = rule["alert"].as_str().or(rule["record"].as_str()).expect("a name");
                rules.push(Rule { place: format!("{file}: {name}"), definition: rule.clone() });
            }
        }
    }
    rules
}

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.text("alert").is_some()).collect()
}

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str], paths: &[PathBuf]) -> String {
    let done = Command::new(variable("TEST_PROMTOOL")).args(arguments).args(paths).output();
    let done = done.expect("promtool runs");
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{text}");
    text
}

fn paths(folder: &str, names: &[(String, String)]) -> Vec<PathBuf> {
    names.iter().map(|(name, _)| examples(folder).join(name)).collect()
}

#[test]
fn promtool_accepts_configurations_and_rules() {
    let configurations: Vec<_> =
        ["prometheus.yml", "probe.yml", "sd.yml"].map(|name| examples("prometheus").join(name)).to_vec();
    let text = promtool(&["check", "config"], &configurations);
    assert!(text.contains("6 rule files found") && !text.contains(" 0 rule"), "{text}");
    promtool(&["check", "rules"], &paths("prometheus", &rule_files()));
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    promtool(&["test", "rules"], &paths("prometheus/tests", &files("prometheus/tests", ".yml")));
}

/// Of the unit tests: which alerts some test lets fire, and which some test keeps silent.
fn unit_tested() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut fire, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in files("prometheus/tests", ".yml") {
        let tests: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for test in tests["tests"].as_sequence().expect("tests") {
            for case in test["promql_expr_test"].as_sequence().expect("cases") {
                let expression = case["expr"].as_str().expect("expr");
                let (_, rest) = expression.split_once("alertname=\"").expect("an alert");
                let (alert, _) = rest.split_once('"').expect("its name");
                let samples = case["exp_samples"].as_sequence().expect("exp_samples");
                let alerts = if samples.is_empty() { &mut silent } else { &mut fire };
                alerts.insert(alert.to_owned());
            }
        }
    }
    (fire, silent)
}

#[test]
fn every_alert_has_a_unit_test_that_fires_and_one_that_does_not() {
    let names: BTreeSet<String> =
        alerts().iter().filter_map(|rule| rule.text("alert")).map(str::to_owned).collect();
    assert!(names.len() >= 30, "{names:?}");
    let (fire, silent) = unit_tested();
    assert_eq!((&fire, &silent), (&names, &names));
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    for rule in alerts() {
        let severity = rule.definition["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning")), "{}: severity {severity:?}", rule.place);
        let annotation = |name: &str| rule.definition["annotations"][name].as_str().unwrap_or_default();
        let (summary, description) = (annotation("summary"), annotation("description"));
        assert!(summary.contains("{{ $labels.") && summary.ends_with('.'), "{}: {summary:?}", rule.place);
        assert!(description.len() > 60 && description.ends_with('.'), "{}: {description:?}", rule.place);
    }
}

#[test]
fn what_the_operations_page_says_to_watch_has_an_alert() {
    let page = std::fs::read_to_string(examples("../docs/operations.md")).expect("the page");
    let (_, table) = page.split_once("\n| alert on |").expect("the table");
    let rows: Vec<&str> = table.lines().skip(2).map_while(|line| line.strip_prefix("| `")).collect();
    let expressions: String = alerts().iter().map(|rule| rule.expression().text + "\n").collect();
    let metrics = words(&expressions).metrics;
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let mut names = row.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        assert!(names.any(|name| metrics.contains(name)), "no alert for {row}");
    }
}

/// All expressions: of rules, panels, variables and annotations.
fn all_expressions() -> Vec<Expression> {
    let mut all: Vec<Expression> = rules().iter().map(Rule::expression).collect();
    for dashboard in dashboards::all() {
        all.extend(dashboard.expressions());
        all.extend(dashboard.variables());
    }
    all
}

#[test]
fn every_expression_of_a_dashboard_parses() {
    let mut text = "groups:\n- name: all\n  rules:\n".to_owned();
    let expressions: Vec<_> = dashboards::all().iter().flat_map(dashboards::Dashboard::expressions).collect();
    assert!(expressions.len() > 200, "{}", expressions.len());
    for (number, expression) in expressions.iter().enumerate() {
        let quoted = serde_json::to_string(&expression.resolved("5m")).expect("text");
        text += &format!("  - {{record: 'expression:{number}', expr: {quoted}}}\n");
    }
    let folder = folder();
    let path = folder.path().join("dashboards.yml");
    std::fs::write(&path, text).expect("written");
    promtool(&["check", "rules"], &[path]);
}

#[test]
fn every_metric_and_label_of_an_expression_exists() {
    let mut declared = Declared::read();
    let mut wrong = Vec::new();
    // A recorded series has the labels of what it is made of, or fewer.
    for rule in rules().iter().filter(|rule| rule.text("record").is_some()) {
        let found = words(&rule.expression().text);
        let labels = found.metrics.iter().filter_map(|metric| declared.labels(metric)).flatten().collect();
        declared.add(rule.text("record").expect("a name"), labels);
    }
    for expression in all_expressions() {
        wrong.extend(declared.unknown_in(
            &expression.place,
            &words(&expression.text),
            &expression.legend_labels(),
        ));
    }
    for rule in alerts() {
        let annotations = serde_yaml::to_string(&rule.definition["annotations"]).expect("text");
        let shown = expressions::after(&annotations, "$labels.");
        wrong.extend(declared.unknown_in(&rule.place, &words(&rule.expression().text), &shown));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
