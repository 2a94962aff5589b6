//! `include`: paths, patterns and `builtin:` packs → the files they mean, in order, each once.
//!
//! Knows names and folders; what stands in a file is `collector`'s.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::driver::Sql;
use crate::error::Error;
use crate::file;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::glob;
use super::glob::Pattern;
use super::packs;

/// What stands before the name of a pack inside the binary.
const BUILTIN: &str = "builtin:";

/// Deeper than this a `**` is not followed.
const DEEPEST: usize = 16;
/// More files and folders than this are not looked at for one pattern: somebody wrote `/**`.
const MOST: usize = 100_000;

/// One included file.
pub(super) struct Included {
    /// The collector's name when the file names none.
    pub(super) collector: String,
    /// What makes its statements: those of a pack inside the binary mean the catalog's names.
    pub(super) statement: fn(&str) -> Sql,
    /// The file.
    pub(super) document: Document,
}

/// All included files.
#[derive(Default)]
pub(super) struct Files {
    /// In the order of `include`, those of one pattern by name.
    pub(super) files: Vec<Included>,
    /// False when one could not be read: then a name that is missing may well stand in it.
    pub(super) whole: bool,
}

/// Takes the key `include` and reads the files. Faults are recorded there, or in the files.
pub(super) fn open(keys: &mut Keys<'_>, main: &Path, reader: &Reader<'_>) -> Files {
    let folder = keys.folder("include");
    let main = same(main);
    let seen = HashSet::from([main.clone()]);
    let mut search = Search { folder: &folder, main, keys, seen, reader, found: Files::default() };
    search.found.whole = true;
    for text in search.keys.texts("include").unwrap_or_default() {
        match text.strip_prefix(BUILTIN) {
            Some(name) => search.packs(name),
            None if glob::is_plain(&text) => search.plain(&text),
            None => search.pattern(&text),
        }
    }
    search.found
}

struct Search<'s, 'k, 'd> {
    folder: &'s Path,
    keys: &'s mut Keys<'k>,
    main: PathBuf,
    seen: HashSet<PathBuf>,
    reader: &'s Reader<'d>,
    found: Files,
}

impl Search<'_, '_, '_> {
    fn packs(&mut self, name: &str) {
        let name = name.strip_suffix(".yaml").unwrap_or(name);
        let pattern = match Pattern::new(name) {
            Ok(pattern) => pattern,
            Err(message) => return self.keys.fault("include", message),
        };
        let packs: Vec<&str> = packs::names().into_iter().filter(|pack| pattern.matches(pack)).collect();
        if packs.is_empty() && pattern.is_plain() {
            let hint = glob::hint(name, packs::names().into_iter());
            self.found.whole = false;
            self.keys.fault_with_hint("include", format!("there is no built-in collector {name:?}"), hint);
        } else if packs.is_empty() {
            self.keys.warn("include", format!("no built-in collector matches {name:?}"));
        }
        for pack in packs {
            let shown = format!("{BUILTIN}{pack}");
            if self.is_new(PathBuf::from(&shown)) {
                let text = packs::text(pack).unwrap_or_default().to_owned();
                self.add(pack.to_owned(), Sql::of_catalog, Document::parse(&shown, self.folder, text));
            }
        }
    }

    fn plain(&mut self, text: &str) {
        let path = self.folder.join(text);
        if !is_meant(&path) {
            self.found.whole = false;
            self.keys.fault("include", format!("there is no file {}", path.display()));
        } else if self.main == same(&path) {
            self.keys.fault("include", format!("{text:?} is this file itself"));
        } else {
            self.file(&path, Path::new(text));
        }
    }

    fn pattern(&mut self, text: &str) {
        let pattern = match Pattern::new(text.strip_prefix("./").unwrap_or(text)) {
            Ok(pattern) => pattern,
            Err(message) => return self.keys.fault("include", message),
        };
        let base = fixed_part(pattern.text());
        let mut walk = Walk::default();
        walk.folder(&self.folder.join(&base), &base);
        if walk.seen > MOST {
            self.keys
                .warn("include", format!("{text:?}: only the first {MOST} files and folders were looked at"));
        }
        let mut names = walk.files;
        names.retain(|name| name.to_str().is_some_and(|name| pattern.matches(name)));
        names.sort();
        if names.is_empty() {
            self.keys.warn("include", format!("no file matches {text:?}"));
        }
        for name in names {
            self.file(&self.folder.join(&name), &name);
        }
    }

    fn file(&mut self, path: &Path, name: &Path) {
        if self.is_new(same(path)) {
            let document = Document::open(&path.display().to_string(), path);
            self.add(collector_name(name), Sql::new, document);
        }
    }

    fn is_new(&mut self, file: PathBuf) -> bool {
        self.seen.insert(file)
    }

    fn add(&mut self, collector: String, statement: fn(&str) -> Sql, document: Result<Document, Error>) {
        match document {
            Ok(document) => self.found.files.push(Included { collector, statement, document }),
            Err(error) => {
                self.found.whole = false;
                self.reader.fault(error);
            }
        }
    }
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

/// The files below a folder.
#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    /// Files and folders so far.
    seen: usize,
    /// The folders that lead to this one, by device and number: a symbolic link may lead back to one of them.
    above: Vec<(u64, u64)>,
}

impl Walk {
    /// Adds the files below `folder`, named from `name` on. What begins with a dot is left out: editors' and
    /// Kubernetes' own (`..data` holds every mounted file a second time).
    fn folder(&mut self, folder: &Path, name: &Path) {
        let Ok(identity) = folder.metadata().map(|metadata| (metadata.dev(), metadata.ino())) else { return };
        if self.above.contains(&identity) || self.above.len() > DEEPEST {
            return;
        }
        let Ok(entries) = folder.read_dir() else { return };
        self.above.push(identity);
        for entry in entries.flatten() {
            self.seen += 1;
            if self.seen > MOST {
                break;
            }
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let name = name.join(entry.file_name());
            if is_meant(&path) {
                self.files.push(name);
            } else if path.is_dir() {
                self.folder(&path, &name);
            }
        }
        self.above.pop();
    }
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
