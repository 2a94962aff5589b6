//! `pg_up == 0` and the like within one scrape of a server that is gone: the alert that everybody has.

use crate::checker::checked;
use crate::exporter::Exporter;
use crate::servers::own::{OwnMariaDb, OwnPgBouncer, OwnPostgres};

#[test]
fn the_names_that_alerts_know_are_0_in_the_first_scrape_of_a_stopped_server() {
    let mut postgres = OwnPostgres::start(&[]);
    let mut mariadb = OwnMariaDb::start(&[]);
    let mut pooler = OwnPgBouncer::before(postgres.access(), "transaction", &["admin_users = postgres"]);
    let console = pooler.access().entry().replace("driver: postgres", "driver: pgbouncer");
    let console = console.replace("database: postgres, ", "");
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {}\n  my: {}\n  pool: {console}\n\
         include: ['builtin:compat/postgres_exporter', 'builtin:compat/mysqld_exporter', 'builtin:compat/pgbouncer_exporter']\n",
        postgres.access().entry(),
        mariadb.access().entry(),
    ));
    let names = [("pg_up", "pg"), ("mysql_up", "my"), ("pgbouncer_up", "pool")];
    let up = || {
        let page = checked(&exporter.metrics());
        names.map(|(name, target)| page.value(name, &[("target", target)]))
    };
    assert_eq!(up(), [Some(1.0); 3]);
    pooler.kill();
    mariadb.kill();
    postgres.kill();
    assert_eq!(up(), [Some(0.0); 3]);
    postgres.restart();
    mariadb.restart();
    pooler.restart();
    crate::process::wait_for("all servers to be up", || (up() == [Some(1.0); 3]).then_some(()));
}
