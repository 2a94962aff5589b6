//! `include`: paths, patterns and `builtin:` packs → the files they mean, in order, each once.
//!
//! Knows names and folders; what stands in a file is `collector`'s.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use crate::driver::Sql;
use crate::file;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::glob::{self, Pattern};
use super::packs;

/// What stands before the name of a pack inside the binary.
const BUILTIN: &str = "builtin:";

/// Deeper than this a `**` is not followed.
const DEEPEST: usize = 16;
/// More files and folders than this are not looked at for one pattern: somebody wrote `/**`.
const MOST: usize = 100_000;

/// One included file.
pub(super) struct IncludedFile {
    /// The collector's name when the file names none.
    pub(super) collector: String,
    /// What makes its statements: those of a pack inside the binary mean the catalog's names.
    pub(super) statement: fn(&str) -> Sql,
    /// The file.
    pub(super) document: Document,
}

/// All included files.
#[derive(Default)]
pub(super) struct IncludedFiles {
    /// In the order of `include`, those of one pattern by name.
    pub(super) files: Vec<IncludedFile>,
    /// False when one could not be read: then a name that is missing may well stand in it.
    pub(super) whole: bool,
}

/// One file that an entry of `include` means.
struct MeantFile {
    /// Of a pack, its name behind `builtin:`.
    path: PathBuf,
    collector: String,
    is_pack: bool,
}

/// Takes the key `include` and reads the files. Faults are recorded there, or in the files.
pub(super) fn open(keys: &mut Keys<'_>, main: &Path, reader: &Reader<'_>) -> IncludedFiles {
    let folder = keys.folder("include");
    let mut seen = HashSet::from([same(main)]);
    let mut found = IncludedFiles { files: Vec::new(), whole: true };
    for text in keys.texts("include").unwrap_or_default() {
        let meant = match text.strip_prefix(BUILTIN) {
            Some(name) => packs_called(keys, name),
            None => files_called(keys, &folder, main, &text),
        };
        found.whole &= meant.is_some() || !glob::is_plain(&text);
        let new = meant.into_iter().flatten().filter(|file| seen.insert(same(&file.path)));
        for MeantFile { path, collector, is_pack } in new {
            let name = path.display().to_string();
            let (statement, document): (fn(&str) -> Sql, _) = match is_pack {
                true => {
                    let text = packs::text(&name).unwrap_or_default().to_owned();
                    (Sql::of_catalog, Document::parse(&name, &folder, text))
                }
                false => (Sql::new, Document::open(&name, &path)),
            };
            match document {
                Ok(document) => found.files.push(IncludedFile { collector, statement, document }),
                Err(error) => {
                    found.whole = false;
                    reader.fault(error);
                }
            }
        }
    }
    found
}

/// The packs that a name or a pattern means. `None` after a fault.
fn packs_called(keys: &Keys<'_>, name: &str) -> Option<Vec<MeantFile>> {
    let name = name.strip_suffix(".yaml").unwrap_or(name);
    let pattern = keys.valid("include", Pattern::new(name))?;
    let packs: Vec<&str> = packs::names().into_iter().filter(|pack| pattern.matches(pack)).collect();
    if packs.is_empty() && pattern.is_plain() {
        let folder = name.trim_end_matches('/');
        let hint = match packs::in_folder(folder).is_empty() {
            false => format!("write \"{BUILTIN}{folder}/*\" for those of its folder"),
            true => glob::hint(name, packs::names().into_iter()),
        };
        keys.fault_with_hint("include", format!("there is no built-in collector {name:?}"), hint);
        return None;
    }
    if packs.is_empty() {
        keys.warn("include", format!("no built-in collector matches {name:?}"));
    }
    let meant = |pack: &str| {
        let path = PathBuf::from(format!("{BUILTIN}{pack}"));
        MeantFile { path, collector: pack.to_owned(), is_pack: true }
    };
    Some(packs.into_iter().map(meant).collect())
}

/// The files that a path or a pattern means. `None` after a fault.
fn files_called(keys: &Keys<'_>, folder: &Path, main: &Path, text: &str) -> Option<Vec<MeantFile>> {
    let pattern = keys.valid("include", Pattern::of_files(text))?;
    let path = folder.join(text);
    let names = if !pattern.is_plain() {
        let (names, has_more) = files_matching(folder, &pattern);
        if has_more {
            let message = format!("{text:?}: only the first {MOST} files and folders are searched");
            keys.warn("include", message);
        }
        if names.is_empty() {
            keys.warn("include", format!("no file matches {text:?}"));
        }
        names
    } else if is_meant(&path) && same(main) != same(&path) {
        vec![PathBuf::from(text)]
    } else {
        if path.is_dir() {
            let hint = format!("write \"{}/*.yaml\" for its files", text.trim_end_matches('/'));
            keys.fault_with_hint("include", format!("{text:?} is a folder"), hint);
        } else if is_meant(&path) {
            keys.fault("include", format!("{text:?} is this file itself"));
        } else {
            keys.fault("include", format!("there is no file {}", path.display()));
        }
        return None;
    };
    let meant = |name: PathBuf| {
        let (path, collector) = (folder.join(&name), collector_name(&name));
        MeantFile { path, collector, is_pack: false }
    };
    Some(names.into_iter().map(meant).collect())
}

/// The files that a pattern means, by name and relative to `folder`, and whether there are more than are looked at.
pub(super) fn files_matching(folder: &Path, pattern: &Pattern) -> (Vec<PathBuf>, bool) {
    let base = fixed_part(pattern.text());
    let (files, has_more) = files_below(&folder.join(&base));
    let mut names: Vec<PathBuf> = files.iter().map(|file| base.join(file)).collect();
    names.retain(|name| name.to_str().is_some_and(|name| pattern.matches(name)));
    names.sort();
    (names, has_more)
}

/// One name for one file, whatever leads to it.
fn same(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The folders before the first component that holds a pattern.
fn fixed_part(pattern: &str) -> PathBuf {
    let plain = |component: &Component<'_>| component.as_os_str().to_str().is_some_and(glob::is_plain);
    Path::new(pattern).components().take_while(plain).collect()
}

/// The files below `folder`, each with its path from there, and whether there are more than are looked at. What begins
/// with a dot is left out: editors' and Kubernetes' own (`..data` holds every mounted file a second time).
fn files_below(folder: &Path) -> (Vec<PathBuf>, bool) {
    let is_hidden =
        |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let walk = WalkDir::new(folder).follow_links(true).max_depth(DEEPEST);
    let entries = walk.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.path()));
    let (mut files, mut seen) = (Vec::new(), 0);
    for entry in entries.take(MOST) {
        seen += 1;
        let path = match &entry {
            Ok(entry) => entry.path(),
            // A link that leads back to a folder above it.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => error.path().unwrap_or(folder),
        };
        if !is_hidden(path) && is_meant(path) {
            files.extend(path.strip_prefix(folder).map(Path::to_owned));
        }
    }
    (files, seen == MOST)
}

/// The path below the last `queries/`, else from the main file's folder on, without suffix.
fn collector_name(path: &Path) -> String {
    let stem = path.with_extension("");
    let parts: Vec<&str> = stem
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    let folders = parts.len().saturating_sub(1);
    let below = parts.iter().take(folders).rposition(|part| *part == "queries").map_or(0, |at| at + 1);
    parts.get(below..).unwrap_or_default().join("/")
}

/// A file, or what lies in a file's place, as a link that leads nowhere: that is refused by name where it is read, and not
/// passed over.
fn is_meant(path: &Path) -> bool {
    match std::fs::metadata(path).map(|found| found.file_type()) {
        Ok(kind) => kind.is_file() || file::special_kind(kind).is_some(),
        Err(_) => path.is_symlink(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_path_below_queries() {
        let cases = [
            ("queries/postgres/locks.yaml", "postgres/locks"),
            ("/etc/app/queries/shop.yml", "shop"),
            ("collectors/shop.yaml", "collectors/shop"),
            ("../shared/stock.yaml", "shared/stock"),
            ("queries.yaml", "queries"),
        ];
        for (path, name) in cases {
            assert_eq!(collector_name(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn only_the_folders_before_the_first_pattern_are_fixed() {
        assert_eq!(fixed_part("a/b/*.yaml"), Path::new("a/b"));
        assert_eq!(fixed_part("/etc/{a,b}/c.yaml"), Path::new("/etc"));
        assert_eq!(fixed_part("*.yaml"), Path::new(""));
    }
}
