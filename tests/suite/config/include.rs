//! Included files: which are found, what they are called, and what their queries inherit.

use std::collections::BTreeSet;
use std::time::Duration;

use sql_exporter::config::packs;

use super::{Folder, entry, main_file, names, query, target, warnings};

const ONE: &str = "databases: {a: {driver: paper}}\n";

#[test]
fn paths_patterns_and_packs_are_read_in_order_and_each_file_once() {
    let config = Folder::new()
        .with(
            "main.yaml",
            &format!(
                "{ONE}queries:\n{}include: [last.yaml, 'c/*.yaml', './c/b.yaml', '*.yaml', './/d//**/./*.yaml']\n",
                entry("own", "")
            ),
        )
        .with("last.yaml", &format!("queries:\n{}", entry("last", "")))
        .with("c/b.yaml", &format!("queries:\n{}", entry("b", "")))
        .with("c/a.yaml", &format!("queries:\n{}", entry("a", "")))
        .with("c/.hidden.yaml", "not: [read")
        .with("c/deeper/x.yaml", "not: [read")
        .with("d/one.yaml", &format!("queries:\n{}", entry("d_one", "")))
        .with("d/e/f/two.yaml", &format!("queries:\n{}", entry("d_two", "")))
        .load();
    assert_eq!(names(target(&config, "a")), ["own", "last", "a", "b", "d_two", "d_one"]);
    assert_eq!(warnings(&config), [""; 0]);
}

#[test]
fn a_collector_is_called_as_its_file_says_or_by_its_path() {
    let config = Folder::new()
        .with("main.yaml", &format!("{ONE}include: [x/named.yaml, x/shop.yaml, queries/deep/stock.yaml]\n"))
        .with("x/named.yaml", &format!("collector: billing\nqueries:\n{}", entry("one", "")))
        .with("x/shop.yaml", &format!("queries:\n{}", entry("two", "")))
        .with("queries/deep/stock.yaml", &format!("queries:\n{}", entry("three", "")))
        .load();
    let collectors: Vec<&str> = target(&config, "a").queries.iter().map(|query| &*query.collector).collect();
    assert_eq!(collectors, ["billing", "x/shop", "deep/stock"]);
}

#[test]
fn a_file_speaks_for_its_queries_between_the_entry_and_the_defaults() {
    let config = Folder::new()
        .with("main.yaml", "databases: {a: {driver: paper}, b: {driver: paper}}\ndefaults:\n  query: {database: a, timeout: 1s, interval: 1m, max_rows: 9}\ninclude: [more.yaml]\n")
        .with(
            "more.yaml",
            &format!(
                "databases: [b]\ntimeout: 2s\nqueries:\n{}{}",
                entry("q", ""),
                entry("r", "driver: paper, timeout: 3s,")
            ),
        )
        .load();
    assert_eq!((names(target(&config, "a")), names(target(&config, "b"))), (vec!["r"], vec!["q", "r"]));
    let (q, r) = (query(target(&config, "b"), "q"), query(target(&config, "b"), "r"));
    assert_eq!((q.timeout, r.timeout), (Some(Duration::from_secs(2)), Some(Duration::from_secs(3))));
    assert_eq!((q.interval, q.max_rows), (Duration::from_secs(60), 9));
}

#[test]
fn conditions_are_those_of_the_entry_or_its_file_and_what_the_defaults_say_of_others() {
    let config = Folder::new()
        .with("main.yaml", "databases: {a: {driver: paper}}\ndefaults: {query: {when: {version: '>=14', role: primary}}}\ninclude: [more.yaml, plain.yaml]\n")
        .with(
            "more.yaml",
            &format!(
                "when: {{role: replica}}\nqueries:\n{}{}{}",
                entry("q", ""),
                entry("r", "when: {flavor: mariadb},"),
                entry("t", "when: {role: any, version: '', flavor: []},")
            ),
        )
        .with("plain.yaml", &format!("queries:\n{}", entry("s", "")))
        .load();
    let when = |name: &str| {
        let when = query(target(&config, "a"), name).when.clone().expect("conditions");
        (when.version.len(), when.role.map(|role| role.as_str()), when.flavor.to_vec())
    };
    assert_eq!(when("q"), (1, Some("replica"), vec![]));
    assert_eq!(when("r"), (1, Some("primary"), vec!["mariadb"]));
    assert_eq!(when("s"), (1, Some("primary"), vec![]));
    assert_eq!(when("t"), (0, None, vec![]));
}

#[test]
fn paths_in_an_included_file_start_from_its_folder() {
    let config = Folder::new()
        .with("main.yaml", &format!("{ONE}include: [x/more.yaml]\n"))
        .with("x/more.yaml", "queries:\n  - {name: q, sql_file: sql/q.sql, metric_name: q}\n")
        .with("x/sql/q.sql", "SELECT ${NOT} expanded;\n")
        .load();
    assert_eq!(query(target(&config, "a"), "q").sql.text(), "SELECT ${NOT} expanded");
}

#[test]
fn collectors_choose_groups_and_the_main_files_queries_stay_in() {
    let config = Folder::new()
        .with(
            "main.yaml",
            &format!(
                "databases:\n  all: {{driver: paper}}\n  some: {{driver: paper, collectors: ['shop/*']}}\n  \
                   less: {{driver: paper, collectors: ['shop/**', '!shop/orders', '!default']}}\n  \
                   not: {{driver: paper, collectors: ['!shop/*']}}\n\
                 defaults: {{query: {{driver: paper}}}}\nqueries:\n{}include: ['queries/**']\n",
                entry("own", "")
            ),
        )
        .with("queries/shop/orders.yaml", &format!("queries:\n{}", entry("orders", "")))
        .with("queries/shop/stock.yaml", &format!("queries:\n{}", entry("stock", "")))
        .with("queries/other.yaml", &format!("queries:\n{}", entry("other", "")))
        .load();
    let runs = |name| names(target(&config, name));
    assert_eq!(runs("all"), ["own", "other", "orders", "stock"]);
    assert_eq!(runs("some"), ["own", "orders", "stock"]);
    assert_eq!(runs("less"), ["stock"]);
    assert_eq!(runs("not"), ["own", "other"]);
}

#[test]
fn every_built_in_collector_loads_and_runs_on_its_driver_alone() {
    let config = main_file(
        "databases:\n  \
           p: {driver: postgres, host: localhost, database: x, username: u}\n  \
           m: {driver: mariadb, host: localhost, database: x, username: u}\n  \
           b: {driver: pgbouncer, host: localhost, username: u}\n  \
           s: {driver: sqlite, database: x.db}\n\
         include: ['builtin:**']\n",
    );
    for (name, folders) in [
        ("p", &["postgres/", "compat/postgres_exporter"][..]),
        ("m", &["mysql/", "mariadb/", "compat/mysqld_exporter"]),
        ("b", &["pgbouncer/", "compat/pgbouncer_exporter"]),
        ("s", &["sqlite/"]),
    ] {
        let queries = &target(&config, name).queries;
        let is_of = |folder: &str| queries.iter().any(|query| query.collector.starts_with(folder));
        assert!(folders.iter().all(|folder| is_of(folder)), "{name}");
        for query in queries {
            let is_its = folders.iter().any(|folder| query.collector.starts_with(folder));
            assert!(is_its, "{name} runs {}", query.collector);
        }
    }
    assert_eq!(warnings(&config), [""; 0]);
}

const DATABASES: [(&str, &str, &[&str]); 4] = [
    (
        "p",
        "{driver: postgres, host: localhost, database: x, username: u}",
        &["postgres/", "compat/postgres_exporter"],
    ),
    (
        "m",
        "{driver: mariadb, host: localhost, database: x, username: u}",
        &["mysql/", "mariadb/", "compat/mysqld_exporter"],
    ),
    ("b", "{driver: pgbouncer, host: localhost, username: u}", &["pgbouncer/", "compat/pgbouncer_exporter"]),
    ("s", "{driver: sqlite, database: x.db}", &["sqlite/"]),
];

/// One fault of two packs shows when both are read: all of them together, in this order and in the other, are every pair.
#[test]
fn any_combination_of_built_in_collectors_of_a_driver_loads() {
    for (name, entry, folders) in DATABASES {
        let names = packs::names();
        let mut own: Vec<&str> =
            names.into_iter().filter(|pack| folders.iter().any(|folder| pack.starts_with(folder))).collect();
        assert!(own.len() > 1, "{name}: {own:?}");
        for _ in 0..2 {
            let include: Vec<String> = own.iter().map(|pack| format!("'builtin:{pack}'")).collect();
            let include = include.join(", ");
            let config = main_file(&format!("databases: {{{name}: {entry}}}\ninclude: [{include}]\n"));
            let collectors: BTreeSet<&str> =
                target(&config, name).queries.iter().map(|query| &*query.collector).collect();
            assert_eq!(collectors.len(), own.len(), "every pack has a query for {name}");
            own.reverse();
        }
    }
}

#[test]
fn of_two_collectors_that_explain_a_family_differently_the_later_one_is_warned_of_once() {
    let file = |name: &str, help: &str| {
        format!(
            "queries:\n  - {{name: {name}, sql: SELECT 1 AS value, metrics: [{{name: shared, help: {help}}}]}}\n  \
             - {{name: {name}_2, sql: SELECT 1 AS value, metrics: [{{name: shared, help: {help}}}]}}\n"
        )
    };
    let config = Folder::new()
        .with("main.yaml", &format!("{ONE}include: [a.yaml, b.yaml, c.yaml]\n"))
        .with("a.yaml", &file("one", "First."))
        .with("b.yaml", &file("two", "Second."))
        .with("c.yaml", &file("three", "First."))
        .load();
    let [warning] = &config.warnings[..] else { panic!("{:?}", warnings(&config)) };
    let text = warning.to_string();
    assert!(text.contains("b.yaml:2:"), "{text}");
    assert!(text.contains("metric shared has another help in collector a, at "), "{text}");
    assert!(text.contains("a page has the help of the first"), "{text}");
}

#[test]
fn what_a_pattern_does_not_find_is_a_warning() {
    let config = main_file(&format!(
        "{}include: ['collectors/*.yaml', 'builtin:nothing/*']\nqueries:\n{}{}\
         overrides: {{'bloat*': {{enabled: false}}}}\n",
        "databases: {a: {driver: paper, collectors: ['shop/*']}}\n",
        entry("q", "databases: ['eu-*', a],"),
        entry("r", "driver: sqlite,"),
    ));
    let expected = [
        "no collector is called \"shop/*\"",
        "no file matches \"collectors/*.yaml\"",
        "no built-in collector matches \"nothing/*\"",
        "no target matches \"eu-*\"",
        "no target has the driver sqlite: nothing runs here",
        "no query is called \"bloat*\"",
    ];
    assert_eq!(warnings(&config), expected);
}
