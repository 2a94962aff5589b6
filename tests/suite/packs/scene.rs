//! Servers with something of everything that the packs measure, and the role that examples/grants/ makes.

use std::thread::JoinHandle;

use crate::process::wait_for;
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

/// What the packs need from the server's configuration.
const SETTINGS: &[&str] = &[
    "wal_level=logical",
    "archive_mode=on",
    "archive_command=/bin/true",
    "track_io_timing=on",
    "track_functions=all",
    "autovacuum_naptime=1",
];

/// An autovacuum of `slow` takes half a minute; `held` is locked, and somebody waits for it.
const SHOP: &str = "\
    CREATE TABLE orders (id serial PRIMARY KEY, note text); \
    INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 100); \
    CREATE INDEX orders_note ON orders (note); \
    ANALYZE orders; \
    CREATE FUNCTION twice(a int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2 * a; END'; \
    SELECT twice(1); \
    CREATE TABLE held (a int); \
    CREATE TABLE slow (a int) WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, \
      autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0); \
    INSERT INTO slow SELECT generate_series(1, 20000); \
    DELETE FROM slow WHERE a % 2 = 0; \
    CREATE PUBLICATION orders FOR TABLE orders";

/// A primary and a standby that follows it by a slot, with work under way in the database `shop`.
pub(super) struct Scene {
    primary: OwnPostgres,
    standby: OwnPostgres,
    /// Holds the lock on `held`.
    holder: postgres::Client,
    waiter: Option<JoinHandle<()>>,
}

/// Runs examples/grants/, as docs/packs.md says, and gives the role the server's password.
pub(super) fn grant(access: &Postgres) {
    access.run(include_str!("../../../examples/grants/postgres.sql"));
    access.run(include_str!("../../../examples/grants/postgres-more.sql"));
    // Not in pg_stat_statements, whose texts a pack can show.
    let mut client = access.client();
    client.batch_execute("SET pg_stat_statements.track_utility = off").expect("set");
    client.batch_execute(&format!("ALTER ROLE exporter PASSWORD '{}'", access.password)).expect("altered");
}

/// The entry of a target that the role of examples/grants/ asks.
pub(super) fn entry_of_exporter(access: &Postgres) -> String {
    access.entry_with("lint_off: [L010, L011]").replace("username: postgres", "username: exporter")
}

fn settings() -> Vec<&'static str> {
    let query = "SELECT 1 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'";
    let from_13 = Postgres::shared("postgres").client().query_opt(query, &[]).expect("asked");
    let more = from_13.map(|_| "max_slot_wal_keep_size=1GB");
    SETTINGS.iter().copied().chain(more).collect()
}

impl Scene {
    pub(super) fn new() -> Self {
        let primary = OwnPostgres::start(&settings());
        let access = primary.access();
        // A slot's name ends in its standby's number where repmgr makes it.
        access.run("SELECT pg_create_physical_replication_slot('repmgr_slot_2', true)");
        let standby = OwnPostgres::standby_with(
            access,
            &["primary_slot_name=repmgr_slot_2", "hot_standby_feedback=on"],
        );
        access.run("CREATE DATABASE shop");
        let shop = Postgres { database: "shop".to_owned(), ..access.clone() };
        grant(&shop);
        shop.run("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')");
        shop.run(SHOP);
        access.run("CHECKPOINT; SELECT pg_switch_wal()");
        let mut holder = shop.client();
        holder.batch_execute("BEGIN; LOCK TABLE held").expect("locked");
        let waiter = std::thread::spawn(move || shop.run("BEGIN; LOCK TABLE held; COMMIT"));
        let mut scene = Scene { primary, standby, holder, waiter: Some(waiter) };
        scene.settle();
        scene
    }

    /// The database `shop` of the primary.
    pub(super) fn shop(&self) -> Postgres {
        Postgres { database: "shop".to_owned(), ..self.primary.access().clone() }
    }

    /// The same of the standby.
    pub(super) fn copy(&self) -> Postgres {
        Postgres { database: "shop".to_owned(), ..self.standby.access().clone() }
    }

    /// Waits for what comes by itself.
    fn settle(&mut self) {
        for (what, query) in [
            ("a lock that is waited for", "SELECT 1 FROM pg_locks WHERE NOT granted"),
            ("an archived file", "SELECT 1 FROM pg_stat_archiver WHERE archived_count > 0"),
            ("an autovacuum", "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = 'slow'::regclass"),
            (
                "the standby to replay the shop",
                "SELECT 1 FROM pg_stat_replication, pg_control_checkpoint() WHERE replay_lsn >= checkpoint_lsn",
            ),
            ("statistics", "SELECT 1 FROM pg_stat_user_tables WHERE relname = 'slow' AND n_tup_del > 0"),
        ] {
            let holder = &mut self.holder;
            // What a transaction has once seen of the statistics stays as it is before PostgreSQL 15.
            wait_for(what, || {
                holder.batch_execute("SELECT pg_stat_clear_snapshot()").expect("asked");
                holder.query_opt(&format!("{query} LIMIT 1"), &[]).expect("asked")
            });
        }
        let copy = self.copy();
        wait_for("the standby's copy of the shop", || {
            let mut client = copy.try_client().ok()?;
            client
                .query_opt("SELECT 1 FROM pg_stat_wal_receiver WHERE latest_end_lsn IS NOT NULL", &[])
                .ok()?
        });
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.holder.batch_execute("COMMIT");
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}
