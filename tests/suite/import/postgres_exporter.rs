//! postgres_exporter's custom queries, on a real server as well.

use super::shared::assert_shared;

#[test]
fn published_queries_are_converted() {
    assert_shared("postgres_exporter", "postgres_exporter-queries", &["queries.yaml"], &[], "postgres");
    let url = ["--url", "postgres://exporter:secret@db.example/shop"];
    assert_shared("postgres_exporter", "postgres_exporter-ok", &["user_queries_ok.yaml"], &url, "postgres");
}
