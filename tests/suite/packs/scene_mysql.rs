//! A MariaDB source and its replica with something of everything that the packs measure, and the user that examples/grants/
//! makes.

use mysql::prelude::Queryable;

use crate::process::wait_for;
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// What the packs need from the server's configuration.
const OPTIONS: &[&str] = &[
    "--log-bin=bin",
    "--performance-schema=ON",
    "--performance-schema-instrument=%=ON",
    "--performance-schema-consumer-events-statements-history=ON",
    "--userstat=1",
    "--report-host=localhost",
];

const SHOP: &str = "\
    CREATE DATABASE shop;
    CREATE TABLE shop.orders (id int AUTO_INCREMENT PRIMARY KEY, note varchar(20), KEY (note));
    INSERT INTO shop.orders (note) VALUES ('a'), ('b');
    UPDATE shop.orders SET note = 'c' WHERE id = 1;
    SELECT count(*) FROM shop.orders WHERE note = 'c';
    CREATE DATABASE heartbeat;
    CREATE TABLE heartbeat.heartbeat (ts varchar(26) NOT NULL, server_id int unsigned PRIMARY KEY);
    INSERT INTO heartbeat.heartbeat VALUES ('2026-11-29T20:00:00.001000', 1);
";

/// A source with the database `shop`, and a replica by the channel `ch1`.
pub(super) struct Scene {
    source: OwnMariaDb,
    replica: OwnMariaDb,
}

/// Runs the script of examples/grants/ with what it only proposes, and gives the user the server's password.
fn grant(access: &MariaDb) {
    let script = include_str!("../../../examples/grants/mariadb.sql");
    let plain: Vec<&str> = script.lines().filter(|line| !line.starts_with("--")).collect();
    access.run(&plain.join("\n"));
    access.run(&format!(
        "GRANT SELECT ON heartbeat.heartbeat TO exporter@'%';\n\
         GRANT REPLICATION MASTER ADMIN ON *.* TO exporter@'%';\n\
         ALTER USER exporter@'%' IDENTIFIED BY '{}' ACCOUNT UNLOCK",
        access.password
    ));
}

/// The entry of a target that the user of examples/grants/ asks.
pub(super) fn entry_of_exporter(access: &MariaDb) -> String {
    let entry = access.entry_with("lint_off: [L010, L011]");
    entry.replace("username: root", "username: exporter").replace("database: mysql, ", "")
}

impl Scene {
    pub(super) fn new() -> Self {
        let start = |id: &str, more: &[&str]| OwnMariaDb::start(&[OPTIONS, &[id], more].concat());
        let source = start("--server-id=1", &[]);
        let replica = start("--server-id=2", &["--relay-log=relay"]);
        let follow = |access: &MariaDb| {
            let MariaDb { port, password, .. } = source.access();
            access.run(&format!(
                "CHANGE MASTER 'ch1' TO master_host = '127.0.0.1', master_port = {port}, master_user = 'root', \
                 master_password = '{password}', master_use_gtid = slave_pos;\nSTART SLAVE 'ch1'"
            ));
        };
        follow(replica.access());
        source.access().run(SHOP);
        grant(source.access());
        for server in [&source, &replica] {
            // A plugin that not every build has.
            let mut client = server.access().client();
            let _ = client.query_drop("INSTALL SONAME 'query_response_time'");
            let _ = client.query_drop("SET GLOBAL query_response_time_stats = ON");
        }
        let scene = Scene { source, replica };
        wait_for("the user on the replica", || {
            let exporter = scene.replica.access();
            let options = mysql::OptsBuilder::new()
                .ip_or_hostname(Some("127.0.0.1"))
                .tcp_port(exporter.port)
                .user(Some("exporter"))
                .pass(Some(&exporter.password))
                .prefer_socket(false);
            mysql::Conn::new(options).ok()
        });
        scene
    }

    pub(super) fn source(&self) -> &MariaDb {
        self.source.access()
    }

    pub(super) fn replica(&self) -> &MariaDb {
        self.replica.access()
    }
}
