//! A module of the crate imports only from modules below it, and no two types have one name. `docs/architecture.md` has the
//! picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// The top-level modules, lowest first. Modules of one row know nothing of each other, but for the first row: its small
/// modules are in order.
const LAYERS: &[&[&str]] = &[
    &["error", "secret", "name", "deadline", "clock", "plain_text", "file", "pem", "value", "logging"],
    &["exposition", "yaml"],
    &["telemetry"],
    &["driver"],
    &["metric"],
    &["config"],
    &["engine"],
    &["inspect", "server"],
    &["commands", "cli"],
    &["lib", "main"],
];

/// The layer and the place in it of a top-level module.
fn rank(module: &str) -> Option<(usize, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .find_map(|(layer, modules)| Some((layer, modules.iter().position(|known| *known == module)?)))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(from), Some(to)) = (rank(from), rank(to)) else { return false };
    to == from || to.0 < from.0 || (to.0 == from.0 && [0, LAYERS.len() - 2].contains(&to.0) && to.1 < from.1)
}

/// The top-level modules that a source text names: `crate::driver::Row` → `driver`.
fn imports(text: &str) -> Vec<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let paths = code.flat_map(|line| line.split("crate::").skip(1));
    let names =
        paths.map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
    names.filter(|name| name.starts_with(|c: char| c.is_lowercase())).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_import_only_from_those_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut faults = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let module = path.iter().next().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let wrong = imports(&text).into_iter().filter(|import| !may_import(module, import));
        faults.extend(wrong.map(|import| format!("{} imports {import}", path.display())));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn an_import_from_above_is_found() {
    assert!(
        !may_import("driver", "metric")
            && !may_import("server", "inspect")
            && !may_import("error", "unknown")
    );
    assert!(may_import("metric", "driver") && may_import("value", "error"));
    assert_eq!(
        imports("use crate::engine::{self};\n// crate::config\nlet x = crate::yaml::Node;"),
        ["engine", "yaml"]
    );
}

/// Someone who reads a name in one folder and meets it in another takes both for one.
#[test]
fn no_name_stands_for_several_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let declaration = Regex::new(
        r"(?m)^\s*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait) ([A-Z]\w*)|^(?:pub(?:\([^)]*\))? )?type ([A-Z]\w*)",
    );
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for found in declaration.as_ref().unwrap().captures_iter(&text) {
            let name = found.get(1).or(found.get(2)).unwrap().as_str().to_owned();
            places.entry(name).or_default().push(file.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    assert!(places.len() > 500, "{} types", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
