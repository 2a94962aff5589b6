//! The configuration, read and checked. Everything in it is legal; nothing in it is text to be parsed again.
//!
//! Reading has three steps: entries as they stand in their files (`database`, `query`, `collector`), then queries ×
//! targets (`assignment`), then what only the whole shows (`conflicts`). A fault stops none of them: all are reported
//! together. `settings` declares keys; what `check` alone runs is in `query_tests`, what `schema` prints in `schema`.

pub mod aliases;
mod assignment;
mod collector;
pub mod conditions;
mod conflicts;
pub mod database;
pub mod exporter;
pub mod foreach;
mod glob;
pub mod hosts;

mod include;
pub mod listen;
pub mod packs;
pub mod query;
pub mod query_tests;
pub mod redacted;
pub mod route_prefix;
pub mod schema;
mod selection;
pub mod server_sharing;
mod settings;
pub mod source;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::driver::Drivers;
use crate::error::Error;
use crate::yaml::document::Document;
use crate::yaml::keys::{Environment, Keys, LoadFindings, Reader};

use self::assignment::ConfigParts;
use self::database::{Database, DatabaseEntry};
use self::exporter::Exporter;
use self::query::Query;
use self::query_tests::QueryTest;
use self::selection::Overrides;

/// A configuration as the rest of the program sees it.
pub struct Config {
    /// Enabled and disabled targets, in configuration order.
    pub targets: Vec<Arc<Database>>,
    /// The section `exporter`.
    pub exporter: Exporter,
    /// The query_tests of all files' `tests`, for `check`.
    pub query_tests: Vec<QueryTest>,
    /// What was odd and did not stop the load; the caller logs it.
    pub warnings: Vec<Error>,
    /// All queries in configuration order, those that no target runs too, without what targets change about them.
    pub queries: Vec<Query>,
    /// The files it was read from, as they were named, in that order.
    pub files: Vec<String>,
    /// Lines (file, line) that may hold a secret: shown to nobody, whatever place points there.
    pub secret_lines: HashSet<(String, usize)>,
}

/// Why there is no config.
#[derive(Debug)]
pub struct InvalidConfig {
    /// All faults of all files, in file order; at least one.
    pub faults: Vec<Error>,
    /// What was odd beside them.
    pub warnings: Vec<Error>,
    /// The files that were read.
    pub files: Vec<String>,
    /// The web-config file that it names, which may have faults of its own.
    pub web_config_file: Option<PathBuf>,
}

/// Reads a configuration and all it includes. Runs no query and opens no connection to a database; a host name in
/// `exporter.listen` is resolved.
///
/// # Errors
/// All faults of all files together, in file order.
pub fn load(path: &Path, environment: &Environment, drivers: &Drivers) -> Result<Config, Vec<Error>> {
    examine(path, environment, drivers).map_err(|faulty| faulty.faults)
}

/// The same as [`load`], with all that is known about a configuration with faults.
///
/// # Errors
/// All faults, and what else was seen.
pub fn examine(path: &Path, environment: &Environment, drivers: &Drivers) -> Result<Config, InvalidConfig> {
    let name = path.display().to_string();
    let main = Document::open(&name, path).map_err(|error| InvalidConfig {
        faults: vec![error],
        warnings: Vec::new(),
        files: vec![name],
        web_config_file: None,
    })?;
    let reader = Reader::new(environment);
    let config = read(&main, path, drivers, &reader);
    let LoadFindings { faults, warnings, files, secret_lines } = reader.close();
    match config {
        Some(config) if faults.is_empty() => Ok(Config { warnings, files, secret_lines, ..config }),
        config => {
            let web_config_file = config.and_then(|config| config.exporter.web_config_file);
            Err(InvalidConfig { faults, warnings, files, web_config_file })
        }
    }
}

/// The first query of a text that holds nothing but `queries:`, without what a configuration around it would say.
///
/// # Errors
/// All faults of the text.
pub fn one_query(text: &str) -> Result<Query, Vec<Error>> {
    let document =
        Document::parse("the proposal", Path::new("."), text.to_owned()).map_err(|error| vec![error])?;
    let reader = Reader::new(&|_| None);
    let drivers = Drivers::built_in();
    let inherited = collector::defaults(None, &drivers);
    let query = Keys::root(&document, &reader).and_then(|mut root| {
        let read = collector::queries(&mut root, &inherited, &drivers);
        root.finish();
        read.queries.first().map(|query| query.resolve(&query.written, 0))
    });
    let faults = reader.close().faults;
    query.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Reads the files, without what only the end of the load knows. `None` when the main file is not a mapping; the faults of
/// what could be read are in `reader`.
fn read(main: &Document, path: &Path, drivers: &Drivers, reader: &Reader<'_>) -> Option<Config> {
    let mut root = Keys::root(main, reader)?;
    let section = root.inner("exporter");
    let files = include::open(&mut root, path, reader);
    let mut defaults = root.inner("defaults");
    let mut targets = targets(&mut root, defaults.as_mut(), drivers);
    server_sharing::set_defaults(&mut targets);
    let all_targets = targets.len() == root.count("databases");
    let inherited = collector::defaults(defaults.as_mut(), drivers);
    if let Some(defaults) = defaults {
        defaults.finish();
    }
    let mut read = collector::queries(&mut root, &inherited, drivers);
    for file in &files.files {
        let included =
            collector::included(&file.document, &file.collector, file.statement, &inherited, drivers, reader);
        read.add(included);
    }
    let collector::CollectorEntries { queries, query_tests, aliases, all_named } = read;
    let overrides = Overrides::read(&mut root);
    root.refuse("target_files");
    root.finish();

    let places: Vec<_> = targets.iter().map(|target| target.source.labels.clone()).collect();
    let all_queries = files.whole && all_named;
    let parts = ConfigParts { targets, queries, overrides, all_targets, all_queries };
    let (mut targets, queries) = assignment::assign(parts, reader);
    aliases::assign(aliases, &mut targets, reader);
    let pairs = targets.iter().map(|target| target.queries.len()).sum();
    let enabled = targets.iter().filter(|target| target.enabled).count();
    let exporter = Exporter::read(section, enabled, pairs);
    conflicts::check(&targets, &places, &exporter.target_label, reader);
    let targets = targets.into_iter().map(Arc::new).collect();
    let (warnings, files, secret_lines) = Default::default();
    Some(Config { targets, exporter, query_tests, warnings, queries, files, secret_lines })
}

/// Takes the key `databases`, each entry over `defaults.database`.
fn targets(root: &mut Keys<'_>, defaults: Option<&mut Keys<'_>>, drivers: &Drivers) -> Vec<DatabaseEntry> {
    let inherited = defaults.and_then(|defaults| defaults.inner("database"));
    root.one_of(&["databases"]);
    let entries = root.entries("databases");
    let is_faulty = root.has("databases") && entries.is_none();
    if !is_faulty && root.count("databases") == 0 {
        let hint = "add `databases: {NAME: {url: …}}`".to_owned();
        root.lacks("databases", &["databases"], "has no target", Some(hint));
    }
    let read =
        |(name, keys): (String, Keys<'_>)| DatabaseEntry::read(name, keys.over(inherited.as_ref()), drivers);
    let targets = entries.unwrap_or_default().into_iter().map(read).collect();
    if let Some(inherited) = inherited {
        // A default may be meant for a driver that no entry uses today: each is asked which keys it knows.
        for driver in drivers.names().filter_map(|name| drivers.find(name)) {
            driver.endpoint(&mut inherited.rehearsal());
        }
        inherited.finish_defaults();
    }
    targets
}
