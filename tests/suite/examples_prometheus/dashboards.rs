//! The dashboards of `examples/grafana/`: what Grafana 11 needs to import them, and what a reader needs to understand them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expressions::Expression;
use super::files;

/// The schema of dashboards in Grafana 11.
const SCHEMA_VERSION: u64 = 39;
const DATASOURCE: &str = "${datasource}";

pub(super) struct Dashboard {
    file: String,
    json: Value,
}

pub(super) fn all() -> Vec<Dashboard> {
    let read = |(file, text): (String, String)| {
        let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        Dashboard { file, json }
    };
    files("grafana", ".json").into_iter().map(read).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

impl Dashboard {
    /// All panels, those of collapsed rows too.
    fn panels(&self) -> Vec<&Value> {
        let with_inner = |panel: &'_ Value| -> Vec<usize> { (0..list(&panel["panels"]).len()).collect() };
        let mut panels = Vec::new();
        for panel in list(&self.json["panels"]) {
            panels.push(panel);
            panels.extend(with_inner(panel).into_iter().map(|at| &panel["panels"][at]));
        }
        panels
    }

    /// The panels that show something.
    fn shown(&self) -> Vec<&Value> {
        self.panels().into_iter().filter(|panel| panel["type"] != "row").collect()
    }

    /// The expressions of panels and annotations; a place ends in the legend.
    pub(super) fn expressions(&self) -> Vec<Expression> {
        let mut all = Vec::new();
        for panel in self.shown() {
            for target in list(&panel["targets"]) {
                let place =
                    format!("{}: {} | {}", self.file, text(panel, "title"), text(target, "legendFormat"));
                all.push(Expression { place, text: text(target, "expr").to_owned() });
            }
        }
        for annotation in list(&self.json["annotations"]["list"]).iter().filter(|one| one["expr"].is_string())
        {
            let place = format!("{}: annotation", self.file);
            all.push(Expression { place, text: text(annotation, "expr").to_owned() });
        }
        all
    }

    /// The queries of variables, `label_values(SELECTOR, LABEL)`, as expressions `sum by (LABEL) (SELECTOR)`.
    pub(super) fn variables(&self) -> Vec<Expression> {
        let queries = list(&self.json["templating"]["list"]).iter().filter(|one| one["type"] == "query");
        let expression = |variable: &Value| {
            let place = format!("{}: variable {}", self.file, text(variable, "name"));
            let query = text(&variable["query"], "query");
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                inner.and_then(|inner| inner.rsplit_once(", ")).expect("label_values(…, …)");
            assert_eq!(variable["definition"], query, "{place}");
            Expression { place, text: format!("sum by ({label}) ({selector})") }
        };
        queries.map(expression).collect()
    }
}

#[test]
fn there_is_a_dashboard_for_each_database_for_the_exporter_and_for_the_demo() {
    let dashboards = all();
    let names: Vec<&str> = dashboards.iter().map(|dashboard| dashboard.file.as_str()).collect();
    let expected =
        ["exporter.json", "mysql.json", "pgbouncer.json", "postgres.json", "shop.json", "sqlite.json"];
    assert_eq!(names, expected);
    let ids: BTreeSet<&str> = dashboards.iter().map(|dashboard| text(&dashboard.json, "uid")).collect();
    let titles: BTreeSet<&str> = dashboards.iter().map(|dashboard| text(&dashboard.json, "title")).collect();
    assert_eq!((ids.len(), titles.len()), (expected.len(), expected.len()));
    assert!(ids.iter().all(|id| (1..=40).contains(&id.len())), "Grafana takes 40 characters: {ids:?}");
}

#[test]
fn every_dashboard_can_be_imported_and_asks_for_data_source_and_target() {
    for dashboard in all() {
        let file = &dashboard.file;
        assert_eq!(dashboard.json["schemaVersion"], SCHEMA_VERSION, "{file}");
        assert!(dashboard.json["id"].is_null(), "{file}: an id belongs to one Grafana");
        let variables = list(&dashboard.json["templating"]["list"]);
        let names: Vec<&str> = variables.iter().map(|variable| text(variable, "name")).collect();
        assert_eq!((names[0], variables[0]["type"].as_str()), ("datasource", Some("datasource")), "{file}");
        assert!(names.contains(&"target"), "{file}: {names:?}");
        for variable in &variables[1..] {
            assert_eq!(variable["datasource"]["uid"], DATASOURCE, "{file}: {}", text(variable, "name"));
        }
        let used: BTreeSet<String> = dashboard
            .expressions()
            .iter()
            .flat_map(|expression| super::expressions::after(&expression.text, "$"))
            .filter(|name| name != "__rate_interval")
            .collect();
        assert!(used.iter().all(|name| names.contains(&name.as_str())), "{file}: {used:?} of {names:?}");
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit() {
    for dashboard in all() {
        for panel in dashboard.shown() {
            let place = format!("{}: {}", dashboard.file, text(panel, "title"));
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!text(panel, "title").is_empty(), "{place}");
            assert!(text(panel, "description").len() > 12, "{place}: no description");
            assert!(!text(defaults, "unit").is_empty(), "{place}: no unit");
            assert!(!list(&defaults["thresholds"]["steps"]).is_empty(), "{place}: no thresholds");
            assert_eq!(panel["datasource"]["uid"], DATASOURCE, "{place}");
            let targets = list(&panel["targets"]);
            let references: BTreeSet<&str> = targets.iter().map(|target| text(target, "refId")).collect();
            assert!(!targets.is_empty() && references.len() == targets.len(), "{place}: {references:?}");
        }
    }
}

/// Left, top, right, bottom.
fn area(panel: &Value) -> [u64; 4] {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
    [x, y, x + w, y + h]
}

#[test]
fn panels_have_their_own_numbers_and_do_not_overlap() {
    for dashboard in all() {
        let panels = dashboard.panels();
        let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "{}", dashboard.file);
        let overlap = |one: &Value, other: &Value| {
            let ([a, b, c, d], [e, f, g, h]) = (area(one), area(other));
            a < g && e < c && b < h && f < d
        };
        for together in
            [&dashboard.json["panels"]].into_iter().chain(panels.iter().map(|panel| &panel["panels"]))
        {
            for (at, one) in list(together).iter().enumerate() {
                assert!(area(one)[2] <= 24, "{}: {}", dashboard.file, text(one, "title"));
                let clash = list(together)[at + 1..].iter().find(|other| overlap(one, other));
                assert!(clash.is_none(), "{}: {} and {clash:?}", dashboard.file, text(one, "title"));
            }
        }
    }
}
