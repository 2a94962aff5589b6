//! Loads the result as the exporter would before anything is written: what does not load is taken out and reported, lints are
//! silenced by `lint_off`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::model::{Entry, OutputFile, Value};
use super::report::Report;
use super::writer;
use crate::config;
use crate::driver::Drivers;
use crate::error::{Error, SourcePosition};
use crate::inspect::lint;

/// The most times that faults are taken out, and how many a load reports: rarely more than one time.
const MOST_ROUNDS: usize = 20;
const MOST_FAULTS: usize = 5000;
/// A main file around files without targets; its name is none that a result has.
const AROUND: &str = ".around.yaml";

const WITHOUT_TARGET: &str = "its target is left out";

/// The result.
pub(super) struct Settled {
    /// Names below the folder of the output, and texts; none where there is no query and no target.
    pub(super) texts: Vec<(String, String)>,
    /// How many entries silence a lint, by its code.
    pub(super) silenced: BTreeMap<&'static str, usize>,
}

/// Makes the files load without a fault and without a lint.
///
/// # Errors
/// They do not, or the temporary folder cannot be written.
pub(super) fn settle(mut files: Vec<OutputFile>, report: &Report) -> Result<Settled, Vec<Error>> {
    for _ in 0..MOST_ROUNDS {
        without_empty(&mut files);
        if files.is_empty() {
            return Ok(Settled { texts: Vec::new(), silenced: BTreeMap::new() });
        }
        match load(&files, report)? {
            Ok(lints) => {
                let silenced = silence(&mut files, &lints);
                return Ok(Settled { texts: texts(&files), silenced });
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
    files.iter().map(|file| (file.name.clone(), writer::write(file))).collect()
}

/// A finding of the load, with the name of its file.
struct Finding {
    code: Option<&'static str>,
    file: String,
    path: String,
    message: String,
}

/// Loads the files from a folder of their own: the lints, or the faults.
fn load(files: &[OutputFile], report: &Report) -> Result<Result<Vec<Finding>, Vec<Finding>>, Vec<Error>> {
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
    let named = texts.iter().flat_map(|(_, text)| variables_without_default(text));
    let samples: HashMap<String, String> = named.map(|name| (name.clone(), report.sample(&name))).collect();
    let environment = move |name: &str| samples.get(name).cloned();
    let inside = format!("{}/", folder.path().display());
    let finding = |code: Option<&'static str>, error: &Error| {
        let place = error.place().cloned().unwrap_or_default();
        let file = Path::new(&place.file).strip_prefix(folder.path()).unwrap_or(Path::new(&place.file));
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        let message = format!("{}{hint}", error.message()).replace(&inside, "");
        Finding { code, file: file.display().to_string(), path: place.path, message }
    };
    let main = folder.path().join(main);
    match config::load_with_most_faults(&main, &environment, &Drivers::built_in(), MOST_FAULTS) {
        Ok(config) => {
            let warnings = config.warnings.iter().map(|warning| finding(None, warning));
            warnings.for_each(|warning| report.note(None, format!("{}: {}", warning.path, warning.message)));
            let found = lint::run(&config).findings;
            Ok(Ok(found.iter().map(|found| finding(found.code, &found.error)).collect()))
        }
        Err(faults) => Ok(Err(faults.iter().map(|fault| finding(None, fault)).collect())),
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
        around.databases.push(super::model::Target { name: driver.to_owned(), entry });
    }
    around.top.set("include", Value::list(files.iter().map(|file| file.name.clone())));
    writer::write(&around)
}

/// Whether queries run in databases that a target discovers.
fn names_databases(file: &OutputFile) -> bool {
    let is_below = |value: &Value| matches!(value, Value::Text(name) if name.contains('/'));
    file.queries.iter().any(|query| match query.entry.get("databases") {
        Some(Value::List(names)) => names.iter().any(is_below),
        _ => false,
    })
}

/// The names in `${NAME}`.
fn variables_without_default(text: &str) -> impl Iterator<Item = String> {
    let after = text.split("${").skip(1);
    after.filter_map(|rest| rest.split_once('}')).map(|(inside, _)| inside.to_owned())
}

/// Takes out the entries that do not load.
fn take_out(files: &mut [OutputFile], faults: Vec<Finding>, report: &Report) -> Result<(), Vec<Error>> {
    let mut gone: BTreeSet<(usize, EntryPath)> = BTreeSet::new();
    let mut rest = Vec::new();
    for fault in faults {
        let found = files.iter().position(|file| file.name == fault.file);
        let entry = found.and_then(|at| Some((at, EntryPath::of(files.get(at)?, &fault.path)?)));
        let Some((at, path)) = entry else {
            let place = SourcePosition { file: fault.file, path: fault.path, ..SourcePosition::default() };
            rest.push(Error::machine(format!("the result does not load: {}", fault.message)).at(place));
            continue;
        };
        let origin = files.get(at).and_then(|file| path.find(file)).and_then(|entry| entry.origin.clone());
        if gone.insert((at, path)) {
            report.left_out(origin, fault.message);
        }
    }
    if gone.is_empty() {
        return Err(rest);
    }
    let mut targets = HashSet::new();
    for (at, file) in files.iter_mut().enumerate() {
        let is_gone = |path: EntryPath| gone.contains(&(at, path));
        let mut index = 0..;
        let had_targets = !file.databases.is_empty();
        file.databases.retain(|target| {
            let is_left_out = index.next().is_some_and(|target| is_gone(EntryPath::Target(target)));
            if is_left_out {
                targets.insert(target.name.clone());
            }
            !is_left_out
        });
        if had_targets && file.databases.is_empty() {
            // Without targets it is not a main file: the rest of it would be at fault.
            for query in file.queries.drain(..) {
                report.left_out(query.entry.origin, WITHOUT_TARGET);
            }
            file.top = Entry::default();
        }
        let mut index = 0..;
        file.queries.retain_mut(|query| {
            let number = index.next().unwrap_or_default();
            let mut metrics = 0..;
            let kept =
                |_: &Entry| !metrics.next().is_some_and(|metric| is_gone(EntryPath::Metric(number, metric)));
            query.metrics.retain(kept);
            // The last metric of a query goes with the query.
            !query.metrics.is_empty() && !is_gone(EntryPath::Query(number))
        });
    }
    if !targets.is_empty() {
        files.iter_mut().for_each(|file| without_targets(file, &targets, report));
    }
    Ok(())
}

/// Takes targets that are left out from what a file runs on; what runs on no other one goes with them.
fn without_targets(file: &mut OutputFile, gone: &HashSet<String>, report: &Report) {
    let has_file = has_target(&mut file.top, gone);
    file.queries.retain_mut(|query| {
        // A list of its own takes the place of that of the file.
        let own = ["database", "databases"].iter().any(|key| query.entry.get(key).is_some());
        let has_target = if own { has_target(&mut query.entry, gone) } else { has_file };
        if !has_target {
            report.left_out(query.entry.origin.clone(), WITHOUT_TARGET);
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
fn silence(files: &mut [OutputFile], lints: &[Finding]) -> BTreeMap<&'static str, usize> {
    let mut silenced: BTreeMap<&'static str, BTreeSet<(usize, EntryPath)>> = BTreeMap::new();
    for lint in lints {
        let Some(code) = lint.code else { continue };
        let Some(at) = files.iter().position(|file| file.name == lint.file) else { continue };
        let Some(file) = files.get_mut(at) else { continue };
        let Some(path) = EntryPath::of(file, &lint.path) else { continue };
        if let Some(entry) = path.find_mut(file) {
            entry.silence(code);
            silenced.entry(code).or_default().insert((at, path));
        }
    }
    let counts = silenced.iter().map(|(code, entries)| (*code, entries.len())).collect();
    files.iter_mut().for_each(on_the_query);
    counts
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
                query.metrics.iter_mut().for_each(|metric| unsilence(metric, &value));
                query.entry.silence(code);
            }
        }
    }
}

fn unsilence(metric: &mut Entry, code: &Value) {
    if let Some(Value::List(mut codes)) = metric.remove("lint_off") {
        codes.retain(|known| known != code);
        if !codes.is_empty() {
            metric.set("lint_off", Value::List(codes));
        }
    }
}

/// Which entry of a file a path in it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EntryPath {
    Target(usize),
    Query(usize),
    /// A query's metric.
    Metric(usize, usize),
}

impl EntryPath {
    /// `queries[1].metrics[0].name`, `databases.shop.url`
    fn of(file: &OutputFile, path: &str) -> Option<EntryPath> {
        if let Some(rest) = path.strip_prefix("databases.") {
            let is_named = |name: &str| {
                rest.strip_prefix(name).is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
            };
            // A name may hold a dot: the longest one is meant.
            let named = file.databases.iter().enumerate().filter(|(_, target)| is_named(&target.name));
            let (at, _) = named.max_by_key(|(_, target)| target.name.len())?;
            return Some(EntryPath::Target(at));
        }
        let (query, rest) = index(path.strip_prefix("queries[")?)?;
        file.queries.get(query)?;
        let metric = rest.strip_prefix(".metrics[").and_then(index);
        Some(
            match metric
                .filter(|(metric, _)| file.queries.get(query).is_some_and(|q| *metric < q.metrics.len()))
            {
                Some((metric, _)) => EntryPath::Metric(query, metric),
                None => EntryPath::Query(query),
            },
        )
    }

    fn find(self, file: &OutputFile) -> Option<&Entry> {
        match self {
            EntryPath::Target(at) => file.databases.get(at).map(|target| &target.entry),
            EntryPath::Query(at) => file.queries.get(at).map(|query| &query.entry),
            EntryPath::Metric(query, at) => file.queries.get(query)?.metrics.get(at),
        }
    }

    fn find_mut(self, file: &mut OutputFile) -> Option<&mut Entry> {
        match self {
            EntryPath::Target(at) => file.databases.get_mut(at).map(|target| &mut target.entry),
            EntryPath::Query(at) => file.queries.get_mut(at).map(|query| &mut query.entry),
            EntryPath::Metric(query, at) => file.queries.get_mut(query)?.metrics.get_mut(at),
        }
    }
}

/// The number before `]`, and what follows.
fn index(text: &str) -> Option<(usize, &str)> {
    let (number, rest) = text.split_once(']')?;
    Some((number.parse().ok()?, rest))
}
