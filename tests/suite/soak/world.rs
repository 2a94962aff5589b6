//! The world around the exporter: steady targets, parts that fail and get well, and the configuration of them all.

use std::collections::BTreeMap;

use super::chance::Chance;
use super::lite::Lite;
use super::part::Part;
use super::scraper::Truth;
use super::server::Server;
use super::steady::Steady;
use super::wire::Wire;
use crate::exporter::{Exporter, Setup};
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres};

/// Everything that the exporter asks.
pub(crate) struct World {
    steady: Steady,
    parts: Vec<Sick>,
    /// Faults that began, by name.
    pub(crate) faults: BTreeMap<&'static str, usize>,
}

/// A part, and its fault: for how many rounds it goes on, and whether scrapes wait for it.
struct Sick {
    part: Box<dyn Part>,
    fault: Option<(u64, bool)>,
}

impl World {
    /// Starts servers and wires, and the exporter on them.
    pub(crate) fn start() -> (Self, Exporter) {
        let mut steady = Steady::new();
        let wires = [Wire::to(steady.postgres.port, "wire_pg"), Wire::to(steady.mariadb.port, "wire_maria")];
        // What the soak wrote must outlive the server's kill.
        let (postgres, mariadb) = (OwnPostgres::start(&["ssl=off"]), OwnMariaDb::start(&["--skip-ssl"]));
        let sick = [postgres.access().port, mariadb.access().port];
        let exporter = Setup::new(&config(&steady, &wires, sick)).serve();
        steady.add_file(&exporter.file("lite.db"));
        let password = |target: &str| exporter.file(&format!("{target}.password"));
        let mut parts: Vec<Box<dyn Part>> = vec![
            Box::new(Server::new(postgres, "sick_pg", password("sick_pg"))),
            Box::new(Server::new(mariadb, "sick_maria", password("sick_maria"))),
            Box::new(Lite::new(exporter.file("sick_lite.db"), "sick_lite")),
        ];
        parts.extend(wires.into_iter().map(|wire| -> Box<dyn Part> { Box::new(wire) }));
        let parts = parts.into_iter().map(|part| Sick { part, fault: None }).collect();
        (World { steady, parts, faults: BTreeMap::new() }, exporter)
    }

    /// A round has passed: faults that have lasted long enough end.
    pub(crate) fn age(&mut self) {
        for sick in &mut self.parts {
            sick.fault = match sick.fault {
                Some((0, _)) => {
                    sick.part.heal();
                    None
                }
                fault => fault.map(|(rounds, hangs)| (rounds - 1, hangs)),
            };
        }
    }

    /// Lets a fault begin on a part that is well.
    pub(crate) fn fail(&mut self, chance: &mut Chance) {
        let well: Vec<(u64, usize)> = (0..self.parts.len())
            .filter(|index| self.parts[*index].fault.is_none())
            .map(|index| (1, index))
            .collect();
        if well.is_empty() {
            return;
        }
        let sick = &mut self.parts[chance.pick(&well)];
        let fault = sick.part.fail(chance);
        sick.fault = Some((chance.between(0, 4), fault.hangs));
        *self.faults.entry(fault.name).or_default() += 1;
    }

    /// How many parts can fail.
    pub(crate) fn size(&self) -> usize {
        self.parts.len()
    }

    /// True while scrapes would wait for something up to their deadline.
    pub(crate) fn hangs(&self) -> bool {
        self.parts.iter().any(|sick| sick.fault.is_some_and(|(_, hangs)| hangs))
    }

    /// Ends every fault.
    pub(crate) fn heal(&mut self) {
        for sick in self.parts.iter_mut().filter(|sick| sick.fault.is_some()) {
            sick.part.heal();
            sick.fault = None;
        }
    }

    /// Moves the steady value on; gives what pages may show from now on.
    pub(crate) fn advance(&mut self, moving: bool) -> Truth {
        let moody = self.parts.iter().map(|sick| (sick.part.target(), sick.part.shows())).collect();
        Truth { tick: self.steady.advance(), moody, moving }
    }

    /// The exporter's sessions as all servers count them; `None` while one has a fault and may not answer.
    pub(crate) fn sessions(&mut self) -> Option<usize> {
        if self.parts.iter().any(|sick| sick.fault.is_some()) {
            return None;
        }
        let sick: usize = self.parts.iter().map(|sick| sick.part.sessions()).sum();
        Some(self.steady.sessions() + sick)
    }
}

fn config(steady: &Steady, wires: &[Wire; 2], sick: [u16; 2]) -> String {
    let Steady { postgres, mariadb, .. } = steady;
    let [wire_pg, wire_maria] = wires.each_ref().map(Wire::port);
    let (pg, maria) = (postgres.entry(), mariadb.entry());
    let wire_pg = Postgres { port: wire_pg, ..postgres.clone() }.entry();
    let wire_maria = MariaDb { port: wire_maria, ..mariadb.clone() }.entry();
    let own = |target: &str, port: u16, more: &str| {
        format!(
            "{{host: 127.0.0.1, port: {port}, username: exporter, password_file: {target}.password, {more}}}"
        )
    };
    let sick_pg = own("sick_pg", sick[0], "driver: postgres, database: postgres");
    let sick_maria = own("sick_maria", sick[1], "driver: mysql, database: moods");
    format!(
        "defaults: {{database: {{connect_timeout: 500ms, idle_timeout: 5s}}}}\n\
         databases:\n  lite: {{driver: sqlite, database: lite.db}}\n  pg: {pg}\n  maria: {maria}\n\
         \x20 sick_pg: {sick_pg}\n  sick_maria: {sick_maria}\n\
         \x20 sick_lite: {{driver: sqlite, database: sick_lite.db}}\n\
         \x20 wire_pg: {wire_pg}\n  wire_maria: {wire_maria}\n{QUERIES}"
    )
}

const QUERIES: &str = "
queries:
  - {name: tick, databases: [lite, pg, maria], sql: SELECT value FROM tick, metrics: [{name: tick_value}]}
  - name: moody
    databases: ['sick_*']
    sql: SELECT * FROM moody
    max_rows: 1000
    metrics: [{name: moody_value, labels: [label]}]
  - name: brisk
    databases: ['sick_*']
    sql: SELECT * FROM moody
    timeout: 50ms
    metrics: [{name: brisk_value, labels: [label], type: histogram, buckets: [1, 10]}]
  - name: kept
    databases: ['sick_*']
    sql: SELECT value FROM moody WHERE label = '1'
    keep_last: 5s
    metrics: [{name: kept_value}]
  - name: rested
    databases: ['*']
    sql: SELECT 1 AS value
    interval: 1s
    metrics: [{name: rested_value}]
  - name: bulk
    databases: ['wire_*']
    sql: SELECT label, value FROM bulk
    metrics: [{name: bulk_value, labels: [label]}]
";
