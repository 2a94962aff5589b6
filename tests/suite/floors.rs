//! The house holds: files import from lower floors, from earlier rooms of their floor or from siblings without
//! a cycle. Every `crate::…` and `super::…` path counts, not only `use`.

mod source;
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use source::paths;

/// ARCHITECTURE 1: the floors, lowest first, and on each the rooms in order. A room is a file or folder in `src/`.
const FLOORS: &[&[&str]] = &[
    &["error", "secret", "name", "deadline", "clock", "float", "plain_text", "file", "stamp", "cell"],
    &["exposition", "yaml"],
    &["telemetry", "lint"],
    &["driver", "http"],
    &["disposal", "pool", "workers", "metric"],
    &["plan"],
    &["query", "target"],
    &["fleet", "scrape"],
    &["web", "check", "import"],
    &["log", "app", "terminal", "command", "cli", "lib", "main"],
];

/// A source file: its module path (`driver::postgres::wire`; a folder's `mod.rs` is the folder) and its text.
struct File {
    path: Vec<String>,
    text: String,
}

impl File {
    fn new(name: &str, text: &str) -> Self {
        let stem = name.strip_suffix(".rs").unwrap_or(name);
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        File { path: stem.split('/').map(str::to_owned).collect(), text: text.to_owned() }
    }

    fn room(&self) -> &str {
        &self.path[0]
    }

    fn name(&self) -> String {
        self.path.join("::")
    }

    /// The module that `super` means at the top of this file; empty for the crate's root.
    fn parent(&self) -> &[String] {
        &self.path[..self.path.len() - 1]
    }
}

/// Where a room stands: floor, and place on it.
fn place(room: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, rooms)| {
        let place = rooms.iter().position(|known| *known == room)?;
        Some((floor, place))
    })
}

/// Every fault of a set of files, in file order.
fn faults(files: &[File]) -> Vec<String> {
    let modules: BTreeSet<&[String]> = files.iter().map(|file| file.path.as_slice()).collect();
    let mut faults = Vec::new();
    let mut siblings: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for file in files {
        if place(file.room()).is_none() {
            faults.push(format!(
                "{}: no floor has this room; the table is in tests/suite/floors.rs",
                file.name()
            ));
            continue;
        }
        for path in paths(&file.text) {
            match resolve(file, &path.segments, &modules) {
                Err(fault) => faults.push(format!("{}:{}: {fault}", file.name(), path.line)),
                Ok(target) if target.first().is_none_or(|room| room == file.room()) => {
                    if let Some((folder, from, to)) = neighbours(file, &target) {
                        siblings.entry((folder, from)).or_default().insert(to);
                    }
                }
                Ok(target) => {
                    if place(&target[0]) >= place(file.room()) {
                        let fault = format!("{}:{}: imports {}", file.name(), path.line, target.join("::"));
                        faults.push(format!("{fault}, which does not stand below it"));
                    }
                }
            }
        }
    }
    faults.extend(cycles(&siblings));
    faults
}

/// The module that a path means: the longest part of it that is a file. Empty for the crate's root.
fn resolve(file: &File, path: &[String], modules: &BTreeSet<&[String]>) -> Result<Vec<String>, String> {
    let (base, rest): (&[String], &[String]) = match path {
        [first, second, ..] if first == "super" && second == "super" => {
            return Err("super::super; name the module from crate".to_owned());
        }
        [first, rest @ ..] if first == "super" => (file.parent(), rest),
        [_, rest @ ..] => (&[], rest),
        [] => (&[], &[]),
    };
    let full: Vec<String> = base.iter().chain(rest).cloned().collect();
    let known = (1..=full.len()).rev().find(|&length| modules.contains(&full[..length]));
    match known {
        Some(length) => Ok(full[..length].to_vec()),
        None if full.first().is_some_and(|room| place(room).is_some()) => Ok(full[..1].to_vec()),
        None => Ok(Vec::new()),
    }
}

/// Two different entries of one folder, of which the first imports the second. A folder's `mod.rs` is its face
/// and its table, known to its files and knowing them, so it counts on neither side.
fn neighbours(file: &File, target: &[String]) -> Option<(String, String, String)> {
    let common = file.path.iter().zip(target).take_while(|(from, to)| from == to).count();
    let from = file.path.get(common)?;
    let to = target.get(common)?;
    Some((file.path[..common].join("::"), from.clone(), to.clone()))
}

/// The shortest way back to where it began, once for each set of folder entries that has one.
fn cycles(edges: &BTreeMap<(String, String), BTreeSet<String>>) -> Vec<String> {
    let mut found = BTreeMap::new();
    for (folder, start) in edges.keys() {
        let mut ways = VecDeque::from([vec![start]]);
        let mut reached = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            if way.len() > 1 && last == start {
                let members: BTreeSet<&String> = way.iter().copied().collect();
                let names: Vec<&str> = way.iter().map(|name| name.as_str()).collect();
                found.entry((folder, members)).or_insert(format!("{folder}: a cycle {}", names.join(" -> ")));
                break;
            }
            for to in edges.get(&(folder.clone(), last.clone())).into_iter().flatten() {
                if reached.insert(to) {
                    ways.push_back(way.iter().copied().chain([to]).collect());
                }
            }
        }
    }
    found.into_values().collect()
}

/// All `.rs` files below a folder, with names relative to it, sorted.
fn read_folder(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "rs") {
                let name =
                    path.strip_prefix(folder).expect("below the folder").to_string_lossy().into_owned();
                files.push((name, std::fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn every_file_imports_from_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<File> = read_folder(&src).iter().map(|(name, text)| File::new(name, text)).collect();
    assert!(files.len() > 10, "the sources were not found");
    let faults = faults(&files);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
