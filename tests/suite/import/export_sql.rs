//! export-sql's own example, and a run of what becomes of its types.

use super::import;
use super::shared::assert_shared;
use crate::checker::checked;
use crate::exporter::Setup;

#[test]
fn the_published_configuration_is_converted() {
    assert_shared("export-sql", "export-sql", &["config.yaml"], &[], "postgres");
}

/// The names, types and buckets of prometheus_client, as that exporter has them after its first run.
#[test]
fn the_families_types_and_values_are_those_of_its_python_client() {
    let config = "databases:\n  shop: {driver: sqlite, database: shop.db}\nqueries:\n  - name: orders\n    database: shop\n    \
                  sql: SELECT region, amount, taken FROM orders\n    metrics:\n      \
                  - {name: shop_amount, help: a, type: gauge, labels: [region], value_column: amount}\n      \
                  - {name: shop_taken, help: t, type: counter, labels: [region], value_column: taken}\n  \
                  - name: times\n    database: shop\n    sql: SELECT amount AS value FROM orders\n    metrics:\n      \
                  - {name: shop_seconds, help: s, type: histogram}\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let output = import("export-sql", &[&file], &[]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    let setup = Setup::new(output.text());
    let shop = rusqlite::Connection::open(setup.path().join("shop.db")).unwrap();
    shop.execute_batch(
        "CREATE TABLE orders (region, amount, taken); INSERT INTO orders VALUES ('n', 0.06, 3), ('s', 8, 4)",
    )
    .unwrap();
    let output = setup.once();
    assert_eq!(output.code(), 0, "{}", output.errors());
    let page = checked(output.text());
    for line in ["shop_amount gauge", "shop_taken_total counter", "shop_seconds histogram"] {
        assert!(output.text().contains(&format!("# TYPE {line}\n")), "{line}: {}", output.text());
    }
    assert_eq!(page.value("shop_amount", &[("region", "s")]), Some(8.0));
    assert_eq!(page.value("shop_taken_total", &[("region", "n")]), Some(3.0));
    for (bound, expected) in [("0.05", 0.0), ("0.075", 1.0), ("7.5", 1.0), ("10.0", 2.0), ("+Inf", 2.0)] {
        assert_eq!(page.value("shop_seconds_bucket", &[("le", bound)]), Some(expected), "{bound}");
    }
    assert_eq!(page.value("shop_seconds_sum", &[]), Some(8.06));
}
