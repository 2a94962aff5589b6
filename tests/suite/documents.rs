//! The documents: links and anchors lead somewhere, tables have the form that GitHub shows, what a page names exists,
//! shell and YAML blocks work ([`blocks`]), the first steps lead to metrics ([`getting_started`]), and generated tables are up to date ([`generated`]).

mod blocks;
mod generated;
mod getting_started;
mod packs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One Markdown file.
pub(crate) struct Page {
    /// Relative to the repository: `docs/metrics.md`.
    name: String,
    text: String,
}

/// A fenced block of a page.
struct Block {
    /// What follows the fence: `sh run`.
    info: String,
    /// Without the indentation of its fence.
    text: String,
    /// The line of the fence.
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one page.
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page that users and contributors read.
pub(crate) fn pages() -> Vec<Page> {
    let mut names: Vec<String> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    let mut found = Vec::new();
    documents(&root().join("docs"), &mut found);
    names.extend(found.iter().map(|path| path.strip_prefix(root()).expect("below").display().to_string()));
    names.sort();
    assert!(names.len() >= 16, "{names:?}");
    names.iter().map(|name| Page::read(name)).collect()
}

/// The blocks of a page with their first lines: info and text.
pub(crate) fn blocks_of(name: &str) -> Vec<(String, String)> {
    Page::read(name).blocks().into_iter().map(|block| (block.info, block.text)).collect()
}

/// The YAML blocks of all pages, by the page's name.
pub(crate) fn yaml_blocks() -> Vec<(String, String)> {
    let of_page = |page: &Page| {
        let yaml = page.blocks().into_iter().filter(|block| block.info == "yaml");
        yaml.map(|block| (format!("{}:{}", page.name, block.line), block.text)).collect::<Vec<_>>()
    };
    pages().iter().flat_map(of_page).collect()
}

impl Page {
    fn read(name: &str) -> Page {
        Page { text: read(name), name: name.to_owned() }
    }

    fn path(&self) -> PathBuf {
        root().join(&self.name)
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut indent = None;
        for (line, text) in (1..).zip(self.text.lines()) {
            let content = text.trim_start();
            match (indent, content.strip_prefix("```")) {
                (None, Some(info)) => {
                    indent = Some(text.len() - content.len());
                    blocks.push(Block { info: info.to_owned(), text: String::new(), line });
                }
                (Some(_), Some(_)) => indent = None,
                (Some(width), None) => {
                    let block = blocks.last_mut().expect("a fence has opened it");
                    block.text += text.get(width..).unwrap_or_default();
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(indent.is_none(), "{}: a fence is not closed", self.name);
        blocks
    }

    /// The lines outside of blocks, with their numbers.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut code = false;
        let mut outside = |line: &str| {
            let fence = line.trim_start().starts_with("```");
            code ^= fence;
            !code && !fence
        };
        (1..).zip(self.text.lines()).filter(|(_, line)| outside(line)).collect()
    }

    /// The anchors that GitHub makes of the headings.
    fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let Some((_, heading)) =
                line.split_once("# ").filter(|(marks, _)| marks.trim_matches('#').is_empty())
            else {
                continue;
            };
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
            let slug: String = heading.to_lowercase().chars().filter(kept).collect();
            let slug = slug.replace(' ', "-");
            let mut again = (1..).map(|number| format!("{slug}-{number}"));
            let slug =
                if anchors.contains(&slug) { again.find(|slug| !anchors.contains(slug)) } else { Some(slug) };
            anchors.extend(slug);
        }
        anchors
    }

    /// The targets of links, with their lines. Links in backquotes are not links.
    fn links(&self) -> Vec<(usize, String)> {
        let text: Vec<(usize, &str)> = self.prose();
        let mut links = Vec::new();
        for (line, text) in text {
            let shown: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for rest in shown.split("](").skip(1) {
                links.push((line, rest.split(')').next().unwrap_or_default().to_owned()));
            }
        }
        links
    }
}

/// The texts in single backquotes on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_link_and_every_anchor_leads_somewhere() {
    let pages = pages();
    let (mut count, mut broken) = (0, Vec::new());
    for page in &pages {
        for (line, link) in page.links() {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = page.path().parent().expect("a folder").join(path);
            let target = if path.is_empty() { page.path() } else { target };
            let target = target.canonicalize().unwrap_or(target);
            let known = pages.iter().find(|known| known.path() == target);
            let fits = |page: &Page| anchor.is_empty() || page.anchors().contains(anchor);
            let leads = match known {
                Some(page) => fits(page),
                None => target.exists() && anchor.is_empty(),
            };
            if !leads {
                broken.push(format!("{}:{line}: {link}", page.name));
            }
        }
    }
    assert!(count > 100, "{count}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_of_docs_is_reached_from_the_readme() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.name == "README.md").expect("a README");
    let links: Vec<String> = readme.links().into_iter().map(|(_, link)| link).collect();
    let packs = read("docs/packs.md");
    for page in pages.iter().filter(|page| page.name.starts_with("docs/")) {
        match page.name.strip_prefix("docs/packs/") {
            Some(name) => assert!(packs.contains(&format!("](packs/{name}#")), "{name} is not in packs.md"),
            None => assert!(links.contains(&page.name), "{} is not in the README", page.name),
        }
    }
    assert!(readme.text.lines().count() <= 200, "the README has at most 200 lines");
}

/// A file that documents name: relative to the repository, to `src/` or to the test suite.
fn is_there(path: &str) -> bool {
    ["", "src", "tests/suite"].iter().any(|folder| root().join(folder).join(path).exists())
}

#[test]
fn every_source_file_and_folder_that_a_page_names_is_there() {
    let is_source = |text: &&str| {
        let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
        let source =
            [".rs", ".py", ".sh", ".c"].iter().any(|suffix| text.ends_with(suffix)) || text.ends_with('/');
        let is_made = text.starts_with('/') || text.starts_with("target/");
        plain && source && text.trim_end_matches('/').contains('/') && !is_made
    };
    let (mut count, mut missing) = (0, Vec::new());
    for page in pages().iter().filter(|page| page.name != "CHANGELOG.md") {
        for (line, text) in page.prose() {
            for path in quoted(text).filter(is_source) {
                count += 1;
                if !is_there(path) {
                    missing.push(format!("{}:{line}: {path}", page.name));
                }
            }
        }
    }
    assert!(count > 60, "{count}");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The sources below these folders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn the_sources_cite_pages_of_docs_that_exist() {
    let mut missing = BTreeSet::new();
    for file in sources(&["src", "tests/suite", "tests/fuzz/src"]) {
        let text = std::fs::read_to_string(&file).expect("text");
        for rest in text.split("docs/").skip(1) {
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "-_.".contains(*c)).collect();
            if name.ends_with(".md") && !root().join("docs").join(&name).exists() {
                missing.insert(format!("{}: docs/{name}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Documents that the sources do not cite: some are outside of the repository, the others only lead to `docs/`.
const NOT_CITED: &[&str] =
    &["DESIGN ", "DESIGN.md", "ARCHITECTURE ", "ARCHITECTURE.md", "README", "SECURITY.md"];

#[test]
fn the_sources_cite_no_other_documents() {
    let mut found = Vec::new();
    for file in sources(&["src"]) {
        let text = std::fs::read_to_string(&file).expect("text");
        for (line, text) in (1..).zip(text.lines()) {
            if NOT_CITED.iter().any(|name| text.contains(name)) {
                found.push(format!("{}:{line}: {}", file.display(), text.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Cells of a row: in a cell `\\|` stands for the character, also in backquotes.
fn cells(row: &str) -> usize {
    row.trim().replace(r"\|", "").trim_matches('|').split('|').count()
}

/// Rows with another number of cells than their table's first, by their line.
fn uneven(text: &str) -> Vec<String> {
    let (mut faults, mut columns, mut code) = (Vec::new(), None, false);
    for (line, row) in (1..).zip(text.lines()) {
        code ^= row.trim_start().starts_with("```");
        if code || !row.trim_start().starts_with('|') {
            columns = None;
        } else if cells(row) != *columns.get_or_insert(cells(row)) {
            faults.push(format!("{line}: {row}"));
        }
    }
    faults
}

#[test]
fn each_row_of_a_table_has_as_many_cells_as_its_head() {
    let mut found = Vec::new();
    documents(root(), &mut found);
    assert!(found.len() >= 4, "{found:?}");
    for path in found {
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(uneven(&text), Vec::<String>::new(), "{}: write \\| in a cell", path.display());
    }
}

#[test]
fn a_row_with_a_bare_line_in_a_cell_is_found() {
    let table = "| a | b |\n|---|---|\n| `x\\|y` | 1 |\n| `x|y` | 1 |\n```\n| x | y | z |\n```\n";
    assert_eq!(uneven(table), ["4: | `x|y` | 1 |"]);
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# A `b`, c\n## It's x.y\n## Same\n```\n# no\n```\n## Same\n".to_owned();
    let page = Page { name: String::new(), text };
    let expected = ["a-b-c", "its-xy", "same", "same-1"].map(str::to_owned);
    assert_eq!(page.anchors(), BTreeSet::from(expected));
}
