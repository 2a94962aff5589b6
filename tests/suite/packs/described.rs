//! What a pack's file says about itself: the parts of its head comment, and the families of its queries. docs/packs.md and
//! docs/packs/ are generated from this.

use std::collections::BTreeSet;

use serde_yaml::Value;
use sql_exporter::config::packs;

/// One pack.
pub(crate) struct Described {
    /// `postgres/locks`.
    pub(crate) name: &'static str,
    pub(crate) head: Head,
    /// In the file's order, each once.
    pub(crate) families: Vec<Family>,
}

/// The comment at the top of its file; what goes on over several lines is one text here.
#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    /// Its first line.
    pub(crate) what: String,
    /// Further paragraphs.
    pub(crate) more: Vec<String>,
    pub(crate) cost: String,
    pub(crate) privileges: String,
    pub(crate) versions: String,
}

/// One family, or as many as a name with a column makes.
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) labels: Vec<String>,
    pub(crate) help: String,
}

/// All built-in packs.
pub(crate) fn all() -> Vec<Described> {
    packs::names().into_iter().map(described).collect()
}

fn described(name: &'static str) -> Described {
    let text = packs::text(name).expect("its file");
    let value: Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let head = head(text).unwrap_or_else(|fault| panic!("queries/{name}.yaml: {fault}"));
    let mut families = families(&value);
    families.splice(0..0, aliases(&value));
    Described { name, head, families }
}

/// Reads the comment at the top of a file.
fn head(text: &str) -> Result<Head, String> {
    let lines = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let mut lines = lines.peekable();
    let what = lines.next().unwrap_or_default().to_owned();
    if !what.ends_with('.') {
        return Err(format!("the first line is not one sentence: {what:?}"));
    }
    // Paragraphs: an empty line ends one, a keyword begins one.
    let mut paragraphs = vec![String::new()];
    for line in lines {
        if line.is_empty() || KEYWORDS.iter().any(|keyword| line.starts_with(keyword)) {
            paragraphs.push(String::new());
        }
        let paragraph = paragraphs.last_mut().expect("one is open");
        if !paragraph.is_empty() && !line.is_empty() {
            paragraph.push(' ');
        }
        paragraph.push_str(line);
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    let mut part = |keyword: &str| {
        let is_it = |paragraph: &String| paragraph.starts_with(keyword);
        let place = paragraphs.iter().position(is_it);
        let place = place.ok_or_else(|| format!("the comment at its top has no line `# {keyword} …`"))?;
        let text = paragraphs.remove(place)[keyword.len()..].trim().to_owned();
        if text.ends_with('.') { Ok(text) } else { Err(format!("`{keyword}` has no text or no full stop")) }
    };
    let [cost, privileges, versions] = KEYWORDS.map(&mut part);
    let (cost, privileges, versions) = (cost?, privileges?, versions?);
    let has_keyword = |text: &&String| KEYWORDS.iter().any(|keyword| text.contains(keyword));
    if let Some(second) = [&cost, &privileges, &versions].into_iter().chain(&paragraphs).find(has_keyword) {
        return Err(format!("a part stands twice, or not at the beginning of a line: {second}"));
    }
    Ok(Head { what, more: paragraphs, cost, privileges, versions })
}

const KEYWORDS: [&str; 3] = ["Cost:", "Privileges:", "Versions:"];

/// The names that the file gives to facts about its targets.
fn aliases(file: &Value) -> Vec<Family> {
    let family = |name: String, help: &str| Family {
        name,
        kind: "gauge".to_owned(),
        labels: Vec::new(),
        help: help.to_owned(),
    };
    let up = file["up"]
        .as_str()
        .map(|name| family(name.to_owned(), file["help"].as_str().unwrap_or("1 while the target is up.")));
    let prefix = file["last_scrape"].as_str();
    let duration =
        prefix.map(|prefix| family(format!("{prefix}_duration_seconds"), "How long the scrape took."));
    let error = prefix.map(|prefix| {
        family(format!("{prefix}_error"), "1 if the target is down or a query of the pack failed, else 0.")
    });
    let scrapes = file["scrapes"].as_str().map(|name| Family {
        kind: "counter".to_owned(),
        ..family(name.to_owned(), "Pages that showed the target since the exporter started.")
    });
    [up, duration, error, scrapes].into_iter().flatten().collect()
}

fn families(file: &Value) -> Vec<Family> {
    let mut seen = BTreeSet::new();
    let mut families = Vec::new();
    for query in list(file, "queries") {
        for metric in list(query, "metrics") {
            let family = family(query, metric);
            if seen.insert(family.name.clone()) {
                families.push(family);
            }
        }
    }
    families
}

fn family(query: &Value, metric: &Value) -> Family {
    let mut labels = names(&metric["labels"]);
    labels.extend(names(&metric["static_labels"]));
    labels.extend(metric["value_label"].as_str().map(str::to_owned));
    assert!(query["foreach"].is_null(), "describe the labels of foreach");
    let kind = metric["type"].as_str().unwrap_or("gauge").to_owned();
    let name = text_of(metric, "name");
    if kind == "stateset" {
        labels.push(name.clone());
    }
    let help = text_of(metric, "help");
    Family { name, kind, labels, help }
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is missing: {value:?}")).to_owned()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_sequence().map(Vec::as_slice).unwrap_or_default()
}

/// The names of labels, as a list or as the keys of a map.
fn names(labels: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a label's name").to_owned();
    match labels {
        Value::Sequence(list) => list.iter().map(text).collect(),
        Value::Mapping(map) => map.keys().map(text).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_pack_says_what_it_measures_what_it_costs_and_which_privileges_and_versions_it_needs() {
    let packs = all();
    assert_eq!(packs.len(), packs::names().len());
    for Described { name, head, families, .. } in packs {
        assert!(head.what.chars().count() <= 140, "{name}: {}", head.what);
        for family in families {
            assert!(family.help.ends_with('.'), "{name}, {}: {:?}", family.name, family.help);
        }
    }
}

#[test]
fn the_parts_of_a_head_are_told_apart_and_a_missing_one_is_named() {
    let text = "# All.\n# More\n# of it.\n#\n# Last.\n# Cost: none.\n# Privileges: a,\n# b.\n# Versions: 1.\nqueries: []\n# no\n";
    let expected = Head {
        what: "All.".to_owned(),
        more: vec!["More of it.".to_owned(), "Last.".to_owned()],
        cost: "none.".to_owned(),
        privileges: "a, b.".to_owned(),
        versions: "1.".to_owned(),
    };
    assert_eq!(head(text), Ok(expected));
    for (cut, fault) in [
        ("# All.\n", "the first line is not one sentence: \"More\""),
        ("# Cost: none.\n", "the comment at its top has no line `# Cost: …`"),
        ("# Privileges: a,\n# b.\n", "the comment at its top has no line `# Privileges: …`"),
        ("# Versions: 1.\n", "the comment at its top has no line `# Versions: …`"),
    ] {
        assert_eq!(head(&text.replace(cut, "")), Err(fault.to_owned()));
    }
    let twice = head(&text.replace("# Versions", "# Cost: more.\n# Versions"));
    assert!(twice.is_err_and(|fault| fault.contains("stands twice")));
}
