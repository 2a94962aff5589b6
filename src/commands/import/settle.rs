//! Loads the result as the exporter would before anything is written: what does not load is taken out and reported, lints are
//! silenced by `lint_off`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use super::address;
use super::drivers::SourceDriver;
use super::layout;
use super::model::{Entry, ImportedQuery, OutputFile, Value};
use super::report::Report;
use crate::commands::settings::variables_without_default;
use crate::config;
use crate::driver::Drivers;
use crate::error::{Error, SourcePosition};
use crate::inspect::lint;
use crate::yaml::keys::Reader;
use crate::yaml::writer::scalar;

/// The most times that faults are taken out, and how many a load reports: rarely more than one time.
const MOST_ROUNDS: usize = 20;
const MOST_FAULTS: usize = 5000;
/// The most parameters of an address that are tried.
const MOST_PARAMETERS: usize = 50;
/// What the name of a parameter contains that must not be lost, without `-` and `_`.
#[rustfmt::skip]
const DECISIVE: [&str; 12] = [
    "ssl", "tls", "requireauth", "channelbinding", "gssencmode", "targetsessionattrs", "host", "port", "socket", "service",
    "user", "dbname",
];
/// A main file around files without targets; its name is none that a result has.
const AROUND: &str = ".around.yaml";

/// Keys at the top of a file without which its queries mean the same.
const SETTINGS: [&str; 5] = ["exporter", "defaults", "interval", "timeout", "up"];

/// Keys of a target that say where its server is, and who asks.
const ADDRESS: [&str; 9] =
    ["url", "driver", "host", "port", "socket", "database", "username", "password", "params"];

/// The result.
pub(super) struct SettledFiles {
    /// Names below the folder of the output, and texts; none where there is no query and no target.
    pub(super) texts: Vec<(String, String)>,
    /// How many entries silence a lint, by its code.
    pub(super) silenced: BTreeMap<&'static str, usize>,
}

/// Makes the files load without a fault and without a lint.
///
/// # Errors
/// They do not, or the temporary folder cannot be written.
pub(super) fn settle(mut files: Vec<OutputFile>, report: &Report) -> Result<SettledFiles, Vec<Error>> {
    for _ in 0..MOST_ROUNDS {
        without_empty(&mut files);
        if files.is_empty() {
            return Ok(SettledFiles { texts: Vec::new(), silenced: BTreeMap::new() });
        }
        match load(&files, report)? {
            Ok(lints) => {
                let silenced = silence(&mut files, &lints);
                return Ok(SettledFiles { texts: texts(&files), silenced });
            }
            Err(faults) => take_out(&mut files, faults, report)?,
        }
    }
    Err(vec![Error::machine("the result does not load: it has too many faults")])
}

/// Leaves out files without queries and targets, and their names under `include`.
fn without_empty(files: &mut Vec<OutputFile>) {
    let is_empty = |file: &OutputFile| file.queries.is_empty() && file.databases.is_empty();
    let gone: HashSet<Value> =
        files.iter().filter(|file| is_empty(file)).map(|file| Value::from(file.name.as_str())).collect();
    if gone.is_empty() {
        return;
    }
    files.retain(|file| !is_empty(file));
    for file in files {
        if let Some(Value::List(mut names)) = file.top.remove("include") {
            names.retain(|name| !gone.contains(name));
            if !names.is_empty() {
                file.top.set("include", Value::List(names));
            }
        }
    }
}

fn texts(files: &[OutputFile]) -> Vec<(String, String)> {
    files.iter().map(|file| (file.name.clone(), layout::text_of(file))).collect()
}

/// A finding of the load, with the name of its file.
struct LoadFinding {
    code: Option<&'static str>,
    file: String,
    path: String,
    message: String,
}

/// Loads the files from a folder of their own: the lints, or the faults.
fn load(
    files: &[OutputFile],
    report: &Report,
) -> Result<Result<Vec<LoadFinding>, Vec<LoadFinding>>, Vec<Error>> {
    let folder = tempfile::tempdir().map_err(|error| unwritten(&error))?;
    let texts = texts(files);
    for (name, text) in &texts {
        write(&folder.path().join(name), text).map_err(|error| unwritten(&error))?;
    }
    let main = match files.first() {
        Some(file) if !file.databases.is_empty() => file.name.clone(),
        _ => {
            write(&folder.path().join(AROUND), &around(files)).map_err(|error| unwritten(&error))?;
            AROUND.to_owned()
        }
    };
    // What the environment of the import holds decides nothing.
    let mut samples = report.samples();
    for name in texts.iter().flat_map(|(_, text)| variables_without_default(text)) {
        samples.entry(name.to_owned()).or_insert_with(|| "1".to_owned());
    }
    let environment = move |name: &str| samples.get(name).cloned();
    let inside = format!("{}/", folder.path().display());
    let finding = |code: Option<&'static str>, error: &Error| {
        let place = error.place().cloned().unwrap_or_default();
        let file = Path::new(&place.file).strip_prefix(folder.path()).unwrap_or(Path::new(&place.file));
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        let message = format!("{}{hint}", error.message()).replace(&inside, "");
        LoadFinding { code, file: file.display().to_string(), path: place.path, message }
    };
    let main = folder.path().join(main);
    let reader = Reader::new(&environment).with_most_faults(MOST_FAULTS);
    match config::load_or_invalid(&main, None, &Drivers::built_in(), reader) {
        Ok(config) => {
            let warnings = config.warnings.iter().map(|warning| finding(None, warning));
            warnings.for_each(|warning| report.note(None, format!("{}: {}", warning.path, warning.message)));
            let found = lint::run(&config).findings;
            Ok(Ok(found.iter().map(|found| finding(found.code, &found.error)).collect()))
        }
        Err(invalid) => Ok(Err(invalid.faults.iter().map(|fault| finding(None, fault)).collect())),
    }
}

fn unwritten(error: &std::io::Error) -> Vec<Error> {
    vec![Error::machine(format!("the result cannot be checked: {error}"))]
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

/// A target for each driver that the files name, and the files.
fn around(files: &[OutputFile]) -> String {
    let entries = files
        .iter()
        .flat_map(|file| std::iter::once(&file.top).chain(file.queries.iter().map(|query| &query.entry)));
    let mut drivers: BTreeSet<&str> = entries.filter_map(|entry| entry.text("driver")).collect();
    if drivers.is_empty() {
        drivers.insert("postgres");
    }
    let mut around = OutputFile::default();
    for driver in drivers {
        let mut entry = Entry::default();
        entry.set("driver", driver);
        if driver == "sqlite" {
            entry.set("database", "import.db");
        }
        if files.iter().any(names_databases) && driver == "postgres" {
            entry.set("discover", Value::Map(Vec::new()));
        }
        around.databases.push(super::model::ImportedTarget { name: driver.to_owned(), entry });
    }
    around.top.set("include", Value::list(files.iter().map(|file| file.name.clone())));
    layout::text_of(&around)
}

/// Whether queries run in databases that a target discovers.
fn names_databases(file: &OutputFile) -> bool {
    let is_below = |value: &Value| matches!(value, Value::Text(name) if name.contains('/'));
    file.queries.iter().any(|query| match query.entry.get("databases") {
        Some(Value::List(names)) => names.iter().any(is_below),
        _ => false,
    })
}

/// Takes out the entries that do not load.
fn take_out(files: &mut [OutputFile], faults: Vec<LoadFinding>, report: &Report) -> Result<(), Vec<Error>> {
    let (mut rest, mut is_any, mut replaced) = (Vec::new(), false, HashSet::new());
    for fault in faults {
        let mut file = files.iter_mut().find(|file| file.name == fault.file);
        if let Some(entry) = file.as_deref_mut().and_then(|file| entry_at(file, &fault.path)) {
            is_any = true;
            if without_parameter(entry, &fault.message, report)
                || replace_address(entry, &fault, &mut replaced, report)
                || entry.is_faulty
            {
                continue;
            }
            entry.is_faulty = true;
            report.left_out(entry.origin.clone(), fault.message);
        } else if let Some(file) = file
            && fault.path.split('.').next().is_some_and(|key| SETTINGS.contains(&key))
            && file.top.remove_at(&fault.path)
        {
            is_any = true;
            report.left_out(file.top.origin.clone(), format!("`{}`: {}", fault.path, fault.message));
        } else {
            let place = SourcePosition { file: fault.file, path: fault.path, ..SourcePosition::default() };
            rest.push(Error::machine(format!("the result does not load: {}", fault.message)).at(place));
        }
    }
    if !is_any {
        return Err(rest);
    }
    let mut targets = HashSet::new();
    for file in files.iter_mut() {
        let had_targets = !file.databases.is_empty();
        let gone = file.databases.extract_if(.., |target| target.entry.is_faulty);
        targets.extend(gone.map(|target| target.name));
        if had_targets && file.databases.is_empty() {
            // Without targets it is not a main file: the rest of it would be at fault.
            file.queries.drain(..).for_each(|query| without_target(&query, report));
            file.top = Entry::default();
        }
        file.queries.retain_mut(|query| {
            query.metrics.retain(|metric| !metric.is_faulty);
            // The last metric of a query goes with the query.
            !query.metrics.is_empty() && !query.entry.is_faulty
        });
    }
    if !targets.is_empty() {
        files.iter_mut().for_each(|file| without_targets(file, &targets, report));
    }
    Ok(())
}

/// Takes the parameter out of a URL without which it has no fault or another one, such as one that only another client knows:
/// the rest of the address is right. False for other faults.
fn without_parameter(entry: &mut Entry, message: &str, report: &Report) -> bool {
    let Some((place, query)) = entry.text("url").and_then(|url| url.split_once('?')) else { return false };
    let pairs: Vec<&str> = query.split('&').collect();
    let without = |index: usize| {
        let kept: Vec<&str> =
            [pairs.get(..index), pairs.get(index + 1..)].into_iter().flatten().flatten().copied().collect();
        if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) }
    };
    let Some(fault) = fault_of(&format!("{place}?{query}")) else { return false };
    let may_go = |index: &usize| pairs.get(*index).is_some_and(|pair| !is_kept(pair));
    let mut shorter = (0..pairs.len().min(MOST_PARAMETERS)).filter(may_go).map(without);
    let Some(url) = shorter.find(|url| fault_of(url).as_ref() != Some(&fault)) else { return false };
    entry.set("url", Value::Expanded(url));
    report.left_out(entry.origin.clone(), message);
    true
}

/// Whether a parameter may ask for more security than there is without it or say which server is asked, or has a value that is not
/// known here.
fn is_kept(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().to_ascii_lowercase().replace(['-', '_'], "");
    DECISIVE.iter().any(|part| name.contains(part)) || pair.contains("${")
}

/// Why an address does not load.
fn fault_of(url: &str) -> Option<String> {
    let text = format!("databases:\n  target: {{url: {}}}\n", scalar(url));
    let variable = |_: &str| Some("1".to_owned());
    let reader = Reader::new(&variable);
    let invalid =
        config::load_or_invalid(Path::new(AROUND), Some(text), &Drivers::built_in(), reader).err()?;
    Some(invalid.faults.first()?.message().to_owned())
}

/// Puts a variable in place of an address that does not load, such as one that another program would have filled in: what
/// runs there stays. True where a variable stands there now, also because of an earlier fault of the same address.
fn replace_address(
    entry: &mut Entry,
    fault: &LoadFinding,
    replaced: &mut HashSet<String>,
    report: &Report,
) -> bool {
    let path = fault.path.strip_prefix("databases.").and_then(|path| path.rsplit_once('.'));
    let Some((target, _)) = path.filter(|(_, key)| ADDRESS.contains(key)) else { return false };
    if replaced.contains(target) || entry.text("url").is_some_and(|url| url.starts_with("${")) {
        return replaced.contains(target);
    }
    replaced.insert(target.to_owned());
    let scheme = entry.text("driver").or(entry.text("url").and_then(|url| url.split(':').next()));
    let driver = SourceDriver::of_scheme(scheme.unwrap_or_default());
    ADDRESS.iter().for_each(|key| drop(entry.remove(key)));
    address::set_variable(entry, None, target, &driver, "", report);
    report.left_out(entry.origin.clone(), format!("{}; a variable stands for the address", fault.message));
    true
}

/// Reports a query whose targets are gone.
fn without_target(query: &ImportedQuery, report: &Report) {
    let name = query.entry.text("name").unwrap_or_default();
    report.left_out(query.entry.origin.clone(), format!("the query {name}: its target is left out"));
}

/// Takes targets that are left out from what a file runs on; what runs on no other one goes with them.
fn without_targets(file: &mut OutputFile, gone: &HashSet<String>, report: &Report) {
    let has_file = has_target(&mut file.top, gone);
    file.queries.retain_mut(|query| {
        // A list of its own takes the place of that of the file.
        let own = ["database", "databases"].iter().any(|key| query.entry.get(key).is_some());
        let has_target = if own { has_target(&mut query.entry, gone) } else { has_file };
        if !has_target {
            without_target(query, report);
        }
        has_target
    });
}

/// Whether an entry still runs somewhere without those targets, whose names are taken out.
fn has_target(entry: &mut Entry, gone: &HashSet<String>) -> bool {
    let is_gone = |value: &Value| matches!(value, Value::Text(name) if gone.contains(name.split('/').next().unwrap_or_default()));
    if let Some(Value::List(mut names)) = entry.get("databases").cloned() {
        names.retain(|name| !is_gone(name));
        let is_left = !names.is_empty();
        entry.set("databases", Value::List(names));
        return is_left;
    }
    !entry.get("database").is_some_and(is_gone)
}

/// Writes `lint_off` on the entries that lints find; how many entries by code.
fn silence(files: &mut [OutputFile], lints: &[LoadFinding]) -> BTreeMap<&'static str, usize> {
    let mut silenced: BTreeMap<&'static str, usize> = BTreeMap::new();
    for lint in lints {
        let file = files.iter_mut().find(|file| file.name == lint.file);
        let (Some(code), Some(file)) = (lint.code, file) else { continue };
        if entry_at(file, &lint.path).is_some_and(|entry| entry.silence(code)) {
            *silenced.entry(code).or_default() += 1;
        }
    }
    files.iter_mut().for_each(on_the_query);
    silenced
}

/// A code that all metrics of a query silence stands on the query, once.
fn on_the_query(file: &mut OutputFile) {
    for query in file.queries.iter_mut().filter(|query| query.metrics.len() > 1) {
        let Some(Value::List(first)) =
            query.metrics.first().and_then(|metric| metric.get("lint_off")).cloned()
        else {
            continue;
        };
        for code in crate::metric::lint_off::LINTS.iter().map(|lint| lint.code) {
            let value = Value::from(code);
            let has = |metric: &Entry| matches!(metric.get("lint_off"), Some(Value::List(codes)) if codes.contains(&value));
            if first.contains(&value) && query.metrics.iter().all(has) {
                query.metrics.iter_mut().for_each(|metric| metric.remove_item("lint_off", &value));
                query.entry.silence(code);
            }
        }
    }
}

/// The entry that a path in a file is about: `queries[1].metrics[0].name`, `databases.shop.url`.
fn entry_at<'f>(file: &'f mut OutputFile, path: &str) -> Option<&'f mut Entry> {
    if let Some(rest) = path.strip_prefix("databases.") {
        let is_named = |name: &str| {
            rest.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
        };
        // A name may hold a dot: the longest one is meant.
        let named = file.databases.iter_mut().filter(|target| is_named(&target.name));
        return named.max_by_key(|target| target.name.len()).map(|target| &mut target.entry);
    }
    let (query, rest) = index(path.strip_prefix("queries[")?)?;
    let ImportedQuery { entry, metrics } = file.queries.get_mut(query)?;
    let metric = rest.strip_prefix(".metrics[").and_then(index);
    Some(metric.and_then(|(metric, _)| metrics.get_mut(metric)).unwrap_or(entry))
}

/// The number before `]`, and what follows.
fn index(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once(']')?;
    Some((number.parse().ok()?, rest))
}
