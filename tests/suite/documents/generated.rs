//! Tables between markers that the code's own declarations make: `make docs` writes them, this test compares them.

use super::{packs, read, root};
use crate::own::{Group, families};
use sql_exporter::metric::lint_off::{LINTS, Lint};

/// A table of a page, by the marker in front of it: `<!-- lints -->`.
struct Table {
    page: &'static str,
    marker: &'static str,
    rows: String,
}

/// The text between `<!-- marker -->` and the closing marker, `<!-- /…`, as a range of bytes.
fn between(text: &str, marker: &str) -> std::ops::Range<usize> {
    let open = format!("<!-- {marker} -->\n");
    let start = text.find(&open).unwrap_or_else(|| panic!("{open} is missing")) + open.len();
    let length = text[start..].find("<!-- /").unwrap_or_else(|| panic!("{marker} has no end"));
    start..start + length
}

fn metrics(group: Option<Group>) -> String {
    let mut rows = "| metric | type | labels | |\n|---|---|---|---|\n".to_owned();
    for family in families().into_iter().filter(|family| family.group == group) {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        rows +=
            &format!("| `{}` | {} | {} | {} |\n", family.name, family.kind, labels.join(", "), family.help);
    }
    rows
}

fn lints() -> String {
    let row = |lint: &Lint| format!("| `{}` | {} |\n", lint.code, lint.about);
    "| code | finds |\n|---|---|\n".to_owned() + &LINTS.iter().map(row).collect::<String>()
}

fn tables() -> Vec<Table> {
    let metrics = |marker, group| Table { page: "docs/metrics.md", marker, rows: metrics(group) };
    vec![
        metrics("metrics: target", Some(Group::Target)),
        metrics("metrics: scrape", Some(Group::Scrape)),
        metrics("metrics: process", Some(Group::Process)),
        metrics("metrics: Prometheus", None),
        Table { page: "docs/command-line.md", marker: "lints", rows: lints() },
        Table { page: "docs/packs.md", marker: "packs", rows: packs::overview() },
    ]
}

#[test]
fn the_generated_tables_are_what_the_code_declares() {
    for Table { page, marker, rows } in tables() {
        let mut text = read(page);
        let range = between(&text, marker);
        if std::env::var_os("TEST_BLESS").is_some() {
            text.replace_range(range, &rows);
            std::fs::write(root().join(page), text).expect("written");
        } else {
            assert_eq!(text[range], rows, "{page}, {marker}: run make docs");
        }
    }
}

#[test]
fn the_pages_of_the_packs_are_what_their_files_say() {
    let bless = std::env::var_os("TEST_BLESS").is_some();
    let folder = root().join("docs/packs");
    let pages = packs::pages();
    if bless {
        std::fs::create_dir_all(&folder).expect("a folder");
    }
    for (page, text) in &pages {
        if bless {
            std::fs::write(root().join(page), text).expect("written");
        } else {
            assert_eq!(&read(page), text, "{page}: run make docs");
        }
    }
    let there = std::fs::read_dir(folder).expect("docs/packs").count();
    assert_eq!(there, pages.len(), "docs/packs has a page of a folder that is gone");
}
