//! The pages of the packs: an overview for docs/packs.md, and a page per database in docs/packs/ with a section per pack.

use crate::packs::described::{Described, Family, all};

/// A folder of packs: its name, its heading, and what its page begins with.
const FOLDERS: &[(&str, &str, &str)] = &[
    ("postgres", "PostgreSQL", "Include all with `builtin:postgres/*`, or single ones."),
    ("mysql", "MySQL and MariaDB", "Include all with `builtin:mysql/*`, or single ones."),
    ("mariadb", "MariaDB", "What only MariaDB has. Include all with `builtin:mariadb/*`, or single ones."),
    (
        "pgbouncer",
        "PgBouncer",
        "The target is PgBouncer's console: `driver: pgbouncer`. Include all with `builtin:pgbouncer/*`.",
    ),
    ("sqlite", "SQLite", "Include all with `builtin:sqlite/*`, or single ones."),
    (
        "compat",
        "Compatibility",
        "Metrics under the names that postgres_exporter, mysqld_exporter and pgbouncer_exporter give them. \
         [Packs](../packs.md#move-from-another-exporter) says how to move from these.",
    ),
];

fn folder(pack: &Described) -> &'static str {
    pack.name.split('/').next().unwrap_or_default()
}

fn of<'p>(packs: &'p [Described], name: &'p str) -> impl Iterator<Item = &'p Described> {
    packs.iter().filter(move |pack| folder(pack) == name)
}

/// The folders that have packs. Each folder of `queries/` has a line above.
fn folders(packs: &[Described]) -> Vec<(&'static str, &'static str, &'static str)> {
    for pack in packs {
        assert!(
            FOLDERS.iter().any(|(name, ..)| *name == folder(pack)),
            "{} has no line in FOLDERS",
            pack.name
        );
    }
    FOLDERS.iter().copied().filter(|(name, ..)| of(packs, name).next().is_some()).collect()
}

/// The text of a cell or of a paragraph: identifiers are in backquotes, and a table's line is not text.
fn plain(text: &str) -> String {
    let part =
        |(number, part): (usize, &str)| if number % 2 == 0 { marked(part) } else { format!("`{part}`") };
    text.replace('|', r"\|").split('`').enumerate().map(part).collect()
}

/// Puts words with an underscore or an asterisk into backquotes.
fn marked(text: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '/' | '.' | '-');
    let mut marked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_of_word) {
        let end = rest[start..].find(|c| !is_of_word(c)).map_or(rest.len(), |length| start + length);
        // A full stop ends a sentence, not a word.
        let end = rest[..end].trim_end_matches('.').len().max(start + 1);
        let (before, word) = (&rest[..start], &rest[start..end]);
        marked += &before.replace('<', "&lt;");
        marked += &if word.contains(['_', '*']) { format!("`{word}`") } else { word.to_owned() };
        rest = &rest[end..];
    }
    marked + &rest.replace('<', "&lt;")
}

/// What comes first in a text of several sentences or clauses.
fn in_short(text: &str) -> String {
    let is_open = |text: &str| text.matches('(').count() > text.matches(')').count();
    let ends = [". ", ", which ", ", else ", ": "].into_iter().flat_map(|mark| text.match_indices(mark));
    let end = ends.map(|(end, _)| end).filter(|end| !is_open(&text[..*end])).min();
    plain(text[..end.unwrap_or(text.len())].trim_end_matches('.'))
}

fn anchor(pack: &Described) -> String {
    pack.name.replace('/', "")
}

/// The tables of docs/packs.md.
pub(super) fn overview() -> String {
    let packs = all();
    let mut text = String::new();
    for (name, heading, _) in folders(&packs) {
        text += &format!(
            "\n### {heading}\n\n| pack | what it measures | families | privileges |\n|---|---|---|---|\n"
        );
        for pack in of(&packs, name) {
            let link = format!("[`{}`](packs/{name}.md#{})", pack.name, anchor(pack));
            let (what, privileges) = (plain(&pack.head.what), in_short(&pack.head.privileges));
            text += &format!("| {link} | {what} | {} | {privileges} |\n", pack.families.len());
        }
    }
    text + "\n"
}

/// The pages of docs/packs/: their paths and texts.
pub(super) fn pages() -> Vec<(String, String)> {
    let packs = all();
    let page = |(name, heading, begin): (&'static str, &'static str, &'static str)| {
        let sections: String = of(&packs, name).map(section).collect();
        let text = format!(
            "<!-- `make docs` writes this page from the files in queries/{name}/. -->\n\n# {heading} packs\n\n{begin}\n{sections}"
        );
        (format!("docs/packs/{name}.md"), text)
    };
    folders(&packs).into_iter().map(page).collect()
}

fn section(pack: &Described) -> String {
    let head = &pack.head;
    let paragraphs: String = head.more.iter().map(|text| format!("{}\n\n", plain(text))).collect();
    let rows: String = pack.families.iter().map(row).collect();
    format!(
        "\n## `{}`\n\n{}\n\n{paragraphs}- Cost: {}\n- Privileges: {}\n- Versions: {}\n\n\
         | family | type | labels | |\n|---|---|---|---|\n{rows}",
        pack.name,
        plain(&head.what),
        plain(&head.cost),
        plain(&head.privileges),
        plain(&head.versions)
    )
}

fn row(family: &Family) -> String {
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let name = family.name.replace('|', r"\|");
    format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join(", "), plain(&family.help))
}
