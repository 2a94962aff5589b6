//! What a role lacks makes a query absent, never failing: a role without any privilege runs all packs of its database.
//! The role of examples/grants/ is in `families`.

use crate::servers::Postgres;

use super::{failed, postgres_entry, scrape};

#[test]
fn a_postgres_role_without_any_privilege_fails_no_query() {
    let server = Postgres::fresh("packs_plain");
    let (name, password) = (&server.database, &server.password);
    server.run(&format!("CREATE ROLE {name}_plain LOGIN PASSWORD '{password}'"));
    let entry = postgres_entry(&server, &format!("{name}_plain"));
    for packs in ["postgres/*", "compat/postgres_exporter", "compat/postgres_exporter_optional/*"] {
        assert_eq!(failed(&scrape(&entry, packs)), [""; 0], "{packs}");
    }
}
