//! Each pack, each folder of packs, and each combination that docs/packs.md offers, on a server: clean under
//! `check --strict` and `check --connect --strict`, and no query fails.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_yaml::Value;
use sql_exporter::config::packs;

use crate::exporter::Setup;
use crate::judges::judge;
use crate::servers::{MariaDb, Postgres};
use crate::sqlite::Shop;

use super::failed;

/// Targets by driver.
struct Targets {
    postgres: Postgres,
    mariadb: MariaDb,
    shop: Shop,
}

impl Targets {
    fn new() -> Self {
        Targets {
            postgres: Postgres::fresh("packs_strict"),
            mariadb: MariaDb::fresh("packs_strict"),
            shop: Shop::new(),
        }
    }

    /// The entry for packs of this driver.
    fn entry(&self, driver: &str) -> String {
        let lints = "lint_off: [L010, L011, L012]";
        match driver {
            "postgres" => self.postgres.entry_with(lints),
            "mysql" | "mariadb" => self.mariadb.entry_with(lints),
            "sqlite" => format!("{{driver: sqlite, database: {}}}", self.shop.path().display()),
            "pgbouncer" => {
                let console = Postgres::shared("pgbouncer").through_pgbouncer().entry_with(lints);
                console.replace("driver: postgres", "driver: pgbouncer").replace("database: pgbouncer, ", "")
            }
            other => panic!("no target for the driver {other}"),
        }
    }

    /// The packs on a target of each of their drivers.
    fn config(&self, includes: &[&str]) -> String {
        let list: Vec<String> = includes.iter().map(|name| format!("'builtin:{name}'")).collect();
        let entry = |driver: &String| format!("  {driver}: {}\n", self.entry(driver));
        let targets: String = drivers(includes).iter().map(entry).collect();
        format!("databases:\n{targets}include: [{}]\n", list.join(", "))
    }
}

/// What a command finds wrong with the configuration.
fn refused(config: &str, words: &[&str]) -> Option<String> {
    let output = Setup::new(config).args(words).output();
    let clean = output.text().lines().last().is_some_and(|last| last.contains("0 errors, 0 warnings"));
    let fault = || format!("{words:?}: {}{}", output.text(), output.errors());
    (output.code() != 0 || !clean).then(fault)
}

/// The queries that fail in a scrape.
fn failing(config: &str) -> Option<String> {
    let output = Setup::new(config).once();
    let page = judge(output.text());
    // Where each query of a pack is skipped, the page has no row for any.
    let ran = !page.series("sql_exporter_query_success").is_empty();
    (ran && !failed(&page).is_empty()).then(|| format!("{:?} failed: {}", failed(&page), output.errors()))
}

const CONNECTED: &[&str] = &["check", "--connect", "--strict"];

/// `check --connect` has all that `check` has.
fn faults_alone(config: &str) -> Vec<String> {
    refused(config, CONNECTED).into_iter().collect()
}

fn faults_together(config: &str) -> Vec<String> {
    [refused(config, &["check", "--strict"]), refused(config, CONNECTED), failing(config)]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs what is independent side by side, and gives all faults.
fn all_faults(cases: &[Vec<&str>], faults_of: fn(&str) -> Vec<String>) -> Vec<String> {
    let targets = Targets::new();
    let (next, faults) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let take = || next.lock().expect("not poisoned").next();
    let work = || {
        while let Some(includes) = take() {
            let found = faults_of(&targets.config(includes)).into_iter();
            faults.lock().expect("not poisoned").extend(found.map(|fault| format!("{includes:?}: {fault}")));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    faults.into_inner().expect("not poisoned")
}

/// The drivers of the packs that these names and patterns include.
fn drivers(includes: &[&str]) -> BTreeSet<String> {
    let fits = |pack: &str| {
        includes.iter().any(|include| match include.strip_suffix("/*") {
            Some(folder) => folder == folder_of(pack),
            None => *include == pack || *include == "**",
        })
    };
    packs::names().into_iter().filter(|pack| fits(pack)).map(driver).collect()
}

fn driver(pack: &str) -> String {
    let file: Value = serde_yaml::from_str(packs::text(pack).expect("a pack")).expect("YAML");
    file["driver"].as_str().unwrap_or_else(|| panic!("{pack} has no driver")).to_owned()
}

fn folder_of(pack: &str) -> &str {
    pack.rsplit_once('/').expect("a folder").0
}

#[test]
fn each_pack_alone_is_clean_under_strict() {
    let cases: Vec<Vec<&str>> = packs::names().into_iter().map(|name| vec![name]).collect();
    assert_eq!(all_faults(&cases, faults_alone), [""; 0]);
}

#[test]
fn each_folder_alone_is_clean_under_strict_and_fails_no_query() {
    let folders: BTreeSet<&str> = packs::names().into_iter().map(folder_of).collect();
    assert!(folders.len() >= 6, "{folders:?}");
    let globs: Vec<String> = folders.iter().map(|folder| format!("{folder}/*")).collect();
    let cases: Vec<Vec<&str>> = globs.iter().map(|glob| vec![glob.as_str()]).collect();
    assert_eq!(all_faults(&cases, faults_together), [""; 0]);
}

/// What docs/packs.md offers, and the same in another order.
const COMBINATIONS: &[&[&str]] = &[
    &["postgres/*"],
    &["postgres/essential"],
    &["compat/postgres_exporter"],
    &["compat/postgres_exporter", "compat/postgres_exporter_optional/*"],
    &["postgres/*", "compat/postgres_exporter", "compat/postgres_exporter_optional/*"],
    &["compat/postgres_exporter", "compat/postgres_exporter_optional/*", "postgres/*"],
    &["postgres/essential", "compat/postgres_exporter"],
    &["mysql/*"],
    &["mysql/essential"],
    &["mysql/*", "mariadb/*"],
    &["compat/mysqld_exporter"],
    &["compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"],
    &["mysql/*", "mariadb/*", "compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"],
    &["compat/mysqld_exporter", "compat/mysqld_exporter_optional/*", "mysql/*", "mariadb/*"],
    &["pgbouncer/*"],
    &["compat/pgbouncer_exporter"],
    &["pgbouncer/*", "compat/pgbouncer_exporter"],
    &["compat/pgbouncer_exporter", "pgbouncer/*"],
    &["sqlite/*"],
    &["**"],
];

#[test]
fn each_combination_that_the_document_offers_is_clean_under_strict_and_fails_no_query() {
    let cases: Vec<Vec<&str>> = COMBINATIONS.iter().map(|includes| includes.to_vec()).collect();
    assert_eq!(all_faults(&cases, faults_together), [""; 0]);
    let document = crate::documents::read("docs/packs.md");
    for includes in COMBINATIONS {
        for include in includes.iter().filter(|include| **include != "**") {
            assert!(
                document.contains(&format!("`builtin:{include}`")),
                "docs/packs.md does not offer {include}"
            );
        }
    }
}
