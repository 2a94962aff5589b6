//! The collectors inside the binary: the folder `queries/`, one file each.
//!
//! A new one is one file there, `queries/DATABASE/NAME.yaml`, whose first line is a comment that says what it shows.
//! docs/contributing.md has what else its comment says.

use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::yaml::document::{Document, Node, NodeValue};

static QUERIES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/queries");

/// One built-in collector, as a list of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// `postgres/locks`: what stands after `builtin:`.
    pub name: &'static str,
    /// The first line of its file, without the comment sign.
    pub about: &'static str,
    /// How many queries it has.
    pub queries: usize,
    /// How many metrics these make.
    pub metrics: usize,
}

/// All built-in collectors, by name.
pub fn list() -> Vec<Pack> {
    names().into_iter().filter_map(|name| text(name).map(|text| pack(name, text))).collect()
}

/// The file of the collector `name` (with or without `builtin:`), as it is inside the binary.
pub fn text(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("builtin:").unwrap_or(name);
    QUERIES.get_file(format!("{name}.yaml"))?.contents_utf8()
}

/// What the comment of a collector says after `# KEY:`: `Cost`, `Privileges` or `Versions`.
pub fn remark(name: &str, key: &str) -> Option<String> {
    let comment = text(name)?.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let mut lines =
        comment.skip_while(|line| line.strip_prefix(key).is_none_or(|rest| !rest.starts_with(':')));
    let first = lines.next()?.strip_prefix(key)?.strip_prefix(':')?.trim_start().to_owned();
    // It goes on until the next key.
    let is_key =
        |line: &&str| ["Cost:", "Privileges:", "Versions:"].iter().any(|known| line.starts_with(known));
    Some(lines.take_while(|line| !is_key(line)).fold(first, |text, line| text + " " + line))
}

/// The names of all built-in collectors, by folder.
pub fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    add_names(&QUERIES, &mut names);
    // Those of a folder together: `compat/a`, `compat/b`, then `compat/more/a`.
    names.sort_unstable_by_key(|name| name.rsplit_once('/'));
    names
}

/// The names of those in a folder or below it.
pub fn in_folder(folder: &str) -> Vec<&'static str> {
    let behind = |name: &&str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    names().into_iter().filter(behind).collect()
}

fn add_names(folder: &'static Dir<'static>, names: &mut Vec<&'static str>) {
    let name = |path: &'static Path| path.to_str().and_then(|path| path.strip_suffix(".yaml"));
    names.extend(folder.files().filter_map(|file| name(file.path())));
    for folder in folder.dirs() {
        add_names(folder, names);
    }
}

fn pack(name: &'static str, text: &'static str) -> Pack {
    let about = text.lines().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default().trim();
    let document = Document::parse(name, Path::new(""), text.to_owned());
    let queries = document.map(|document| list_under(&document.tree, "queries").to_vec()).unwrap_or_default();
    let metrics = queries.iter().map(|query| list_under(query, "metrics").len()).sum();
    Pack { name, about, queries: queries.len(), metrics }
}

fn list_under<'t>(tree: &'t Node, key: &str) -> &'t [Node] {
    let NodeValue::Map(entries) = &tree.value else { return &[] };
    match entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node.value) {
        Some(NodeValue::List(items)) => items,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_packs_in_it_and_below() {
        assert!(in_folder("sqlite").contains(&"sqlite/pages"));
        assert!(in_folder("compat").contains(&"compat/mysqld_exporter_optional/heartbeat"));
        for none in ["", "/", "sqlit", "sqlite/", "sqlite/pages"] {
            assert_eq!(in_folder(none), Vec::<&str>::new(), "{none:?}");
        }
    }

    #[test]
    fn every_pack_says_what_it_shows_and_has_queries_and_metrics() {
        let packs = list();
        for database in ["postgres/", "mysql/", "sqlite/"] {
            assert!(packs.iter().any(|pack| pack.name.starts_with(database)), "{database}");
        }
        for pack in packs {
            assert!(!pack.about.is_empty(), "{}", pack.name);
            // A role that may not see all of a server is not a failure. A file has no roles.
            let skips = text(pack.name).is_some_and(|text| text.contains("\nwithout_privilege: skip\n"));
            assert!(skips || pack.name.starts_with("sqlite/"), "{}: without_privilege: skip", pack.name);
            assert!(pack.queries > 0 && pack.metrics >= pack.queries, "{pack:?}");
        }
    }

    #[test]
    fn a_remark_goes_on_until_the_next_one() {
        for name in names() {
            for key in ["Cost", "Privileges", "Versions"] {
                let remark = remark(name, key).unwrap_or_else(|| panic!("{name}: {key}"));
                assert!(remark.ends_with('.') && !remark.contains("Versions:"), "{name}: {remark}");
            }
        }
        assert_eq!(remark("postgres/archiver", "Versions").as_deref(), Some("PostgreSQL 12 to 18."));
        assert_eq!(remark("postgres/archiver", "Version"), None);
    }

    #[test]
    fn a_pack_is_found_with_and_without_its_prefix() {
        assert!(text("postgres/locks").is_some());
        assert_eq!(text("builtin:postgres/locks"), text("postgres/locks"));
        assert_eq!(text("postgres/nothing"), None);
    }
}
