//! export-sql's own example.

use super::shared::assert_shared;

#[test]
fn the_published_configuration_is_converted() {
    assert_shared("export-sql", "export-sql", &["config.yaml"], &[], "postgres");
}
