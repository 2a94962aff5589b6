//! The configuration, read and checked. Everything in it is legal; nothing in it is text to be parsed again.
//!
//! Reading has three steps: entries as they stand in their files (`database`, `query`, `collector`), then queries ×
//! targets (`assignment`), then what only the whole shows (`conflicts`); `loaded_files` has their order, and `target_sources`
//! has it done again for targets that come and go. A fault stops none of them: all are reported
//! together. `settings` declares keys; what `check` alone runs is in `query_tests`, what `schema` prints in `schema`.

pub mod aliases;
mod assignment;
mod collector;
pub mod conditions;
mod conflicts;
pub mod discover;
mod driver_name;
pub mod exporter;
pub mod foreach;
pub mod glob;
pub mod hosts;
mod include;
pub mod listen;
mod loaded_files;
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
pub mod target;
mod target_files;
pub mod target_sources;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::driver::Drivers;
use crate::error::Error;
use crate::file;
use crate::yaml::document::Document;
use crate::yaml::keys::{Environment, Keys, LoadFindings, Reader};

use self::discover::DatabaseLists;
use self::exporter::Exporter;
use self::glob::Pattern;
use self::loaded_files::{Discovered, LoadedFiles};
use self::query::Query;
use self::query_tests::QueryTest;
use self::target::TargetConfig;
use self::target_files::TargetFileState;
use self::target_sources::TargetSources;

pub use self::assignment::several;

/// A configuration as the rest of the program sees it.
pub struct Config {
    /// Enabled and disabled targets, in configuration order.
    pub targets: Vec<Arc<TargetConfig>>,
    /// The section `exporter`.
    pub exporter: Exporter,
    /// Those of all files, for `check`.
    pub query_tests: Vec<QueryTest>,
    /// What was odd and did not stop the load; the caller logs it.
    pub warnings: Vec<Error>,
    /// All queries in configuration order, those that no target runs too, without what targets change about them.
    pub queries: Vec<Query>,
    /// The files it was read from, as they were named, in that order.
    pub files: Vec<String>,
    /// Lines (file, line) that may hold a secret: shown to nobody, whatever place points there.
    pub secret_lines: HashSet<(String, usize)>,
    /// What makes it again with other targets; `None` where all its targets stand in its own files.
    pub sources: Option<Arc<TargetSources>>,
}

impl Config {
    /// With the section of another configuration of the same file, but for the defaults that depend on the number of
    /// targets.
    pub fn with_exporter(self, exporter: Exporter) -> Config {
        let Exporter { query_metrics, max_workers, .. } = self.exporter;
        Config { exporter: Exporter { query_metrics, max_workers, ..exporter }, ..self }
    }

    /// The target files whose present content is not used, and why; their last good targets stay.
    pub fn target_file_faults(&self) -> Vec<Error> {
        let files = self.sources.iter().flat_map(|sources| sources.files());
        files.filter_map(|TargetFileState { error, .. }| error).collect()
    }
}

/// Why there is no config.
#[derive(Debug, Default)]
pub struct InvalidConfig {
    /// All faults of all files, in file order; at least one.
    pub faults: Vec<Error>,
    /// What was odd beside them.
    pub warnings: Vec<Error>,
    /// The files that were read.
    pub files: Vec<String>,
    /// The section `exporter`, where it can be read: defaults stand in for its faults.
    pub exporter: Option<Box<Exporter>>,
}

/// Reads a configuration and all it includes. Runs no query and opens no connection to a database; a host name in
/// `exporter.listen` is resolved.
///
/// # Errors
/// All faults of all files together, in file order.
pub fn load(path: &Path, environment: &Environment, drivers: &Drivers) -> Result<Config, Vec<Error>> {
    load_or_invalid(path, None, drivers, Reader::new(environment)).map_err(|invalid| invalid.faults)
}

/// The same as [`load`] with the environment and the bound on faults of `reader`, and with all that is known about a
/// configuration that has faults. `text` is that of a file that is still to be written at `path`.
///
/// # Errors
/// All faults, and what else was seen.
pub fn load_or_invalid(
    path: &Path,
    text: Option<String>,
    drivers: &Drivers,
    reader: Reader<'_>,
) -> Result<Config, InvalidConfig> {
    let name = path.display().to_string();
    let text = text.map_or_else(|| Document::text_of(&name, path), Ok);
    let main = text.and_then(|text| Document::parse(&name, file::base_folder(path), text));
    let main = main.map_err(|error| InvalidConfig {
        faults: vec![error],
        files: vec![name],
        ..InvalidConfig::default()
    })?;
    let environment = reader.environment();
    let loaded = LoadedFiles::open(main, path, drivers, &reader);
    let config = loaded.read(&[], Discovered::Sample, &reader);
    let config = finished(config, reader)?;
    let discovers = config.targets.iter().any(|target| target.discover.is_some());
    if loaded.patterns.is_empty() && !discovers {
        return Ok(config);
    }
    match Arc::new(TargetSources::new(loaded)).inherit(None, &DatabaseLists::new(), environment) {
        Ok(config) => Ok(config),
        Err(faults) => {
            let Config { warnings, files, .. } = config;
            Err(InvalidConfig { faults, warnings, files, exporter: None })
        }
    }
}

/// The end of a load: the configuration with what only its reader knows.
fn finished(config: Option<Config>, reader: Reader<'_>) -> Result<Config, InvalidConfig> {
    let LoadFindings { faults, warnings, files, secret_lines } = reader.finish();
    match config {
        Some(config) if faults.is_empty() => Ok(Config { warnings, files, secret_lines, ..config }),
        config => {
            let exporter = config.map(|config| Box::new(config.exporter));
            Err(InvalidConfig { faults, warnings, files, exporter })
        }
    }
}

/// The files below `folder` that a path or a pattern as in `include` means, relative to it and by name.
///
/// # Errors
/// A sentence: the pattern is wrong, or there is no such file.
pub fn files_matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    if glob::is_plain(pattern) {
        let file = PathBuf::from(pattern);
        return if folder.join(&file).exists() {
            Ok(vec![file])
        } else {
            Err(format!("there is no file {pattern}"))
        };
    }
    let pattern = Pattern::of_files(pattern)?;
    Ok(include::files_matching(folder, &pattern).0)
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
    let faults = reader.finish().faults;
    query.filter(|_| faults.is_empty()).ok_or(faults)
}
