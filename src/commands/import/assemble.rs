//! Brings what a dialect made into the files that were asked for: one file, or a folder with a main file.

use super::address;
use super::dialect::ImportOptions;
use super::model::{Entry, Imported, ImportedTarget, OutputFile, Value};
use super::report::Report;
use super::unique_names::UniqueNames;

/// The main file in a folder.
const MAIN: &str = "sql-exporter.yaml";
/// Keys of an included file that each of its queries may have itself.
const INHERITED: [&str; 4] = ["databases", "driver", "timeout", "interval"];

/// The files to write, the main one first.
pub(super) fn files(imported: Imported, options: &ImportOptions, report: &Report) -> Vec<OutputFile> {
    let Imported { main, mut included } = imported;
    // A target without an origin is that of `--url`.
    let is_named = |main: &OutputFile| main.databases.iter().all(|target| target.entry.origin.is_some());
    if options.url.is_some() && main.as_ref().is_some_and(is_named) {
        report.left_out(None, "--url: the source names its databases, so this one is not used");
    }
    let of_url = |url: &String| OutputFile { databases: vec![target(url, report)], ..OutputFile::default() };
    let mut main = main.or_else(|| options.url.as_ref().map(of_url));
    if options.is_folder {
        let mut names = UniqueNames::default();
        for file in &mut included {
            let stem = file.name.trim_end_matches(".yaml").trim_end_matches(".yml");
            file.name = format!("{}.yaml", names.take(stem));
        }
        if let Some(main) = &mut main {
            main.name = MAIN.to_owned();
            if !included.is_empty() {
                main.top.set("include", Value::list(included.iter().map(|file| file.name.clone())));
            }
        }
        return main.into_iter().chain(included).collect();
    }
    let mut whole = match main {
        Some(main) => main,
        None if included.len() == 1 => return included,
        None => OutputFile { name: "imported.yaml".to_owned(), ..OutputFile::default() },
    };
    let one_target = whole.databases.len() == 1;
    included.into_iter().for_each(|file| absorb(&mut whole, file, one_target));
    if whole.name.is_empty() {
        whole.name = MAIN.to_owned();
    }
    vec![whole]
}

/// The target of `--url`.
pub(super) fn target(text: &str, report: &Report) -> ImportedTarget {
    let name = address::database(text).unwrap_or_else(|| "db".to_owned());
    let mut entry = Entry::default();
    entry.set("url", Value::Expanded(address::without_password(text, &name, report)));
    ImportedTarget { name, entry }
}

/// Adds the queries of a file, with what the file says for all of them.
fn absorb(whole: &mut OutputFile, file: OutputFile, one_target: bool) {
    let OutputFile { top, queries, databases, tail, .. } = file;
    whole.top.comments.extend(top.comments.iter().cloned());
    whole.tail.extend(tail);
    whole.databases.extend(databases);
    for mut query in queries {
        for (key, value) in top.keys().iter().filter(|(key, _)| INHERITED.contains(key)) {
            let selects = ["database", "databases", "driver"];
            let is_selected =
                selects.contains(key) && selects.iter().any(|key| query.entry.get(key).is_some());
            // The only target runs everything.
            let is_needless = one_target && *key == "driver";
            if query.entry.get(key).is_none() && !is_selected && !is_needless {
                query.entry.set(key, value.clone());
            }
        }
        whole.queries.push(query);
    }
}
