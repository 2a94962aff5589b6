//! The compat packs show the families of the exporters that they stand for: `families/*.txt` has a line for each with its
//! name, type, labels and versions. The facts about those exporters are beside the repository; where they are, the lists
//! are compared with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::checker::Page;
use crate::exporter::Setup;
use crate::judges::judge;
use crate::servers::Postgres;

use super::failed;
use super::scene::{Scene, entry_of_exporter};
use super::scene_mysql;

/// A line of a list.
struct Promise {
    /// `pg_settings_*` stands for many.
    name: &'static str,
    kind: &'static str,
    labels: BTreeSet<&'static str>,
    /// The first version of the server that has it.
    since: Option<(u32, u32)>,
    /// No server of the tests shows it: another engine, another fork, a cluster.
    elsewhere: bool,
}

/// What a page shows of a family.
#[derive(Debug, Clone, PartialEq)]
struct Shown {
    kind: String,
    /// Label names, without those of the target and of a histogram's buckets.
    labels: BTreeSet<String>,
}

struct Exporter {
    name: &'static str,
    list: &'static str,
    /// What of its families is not in the list, and why.
    exceptions: &'static [(&'static str, &'static str)],
    /// What dashboards know from older versions of it.
    older: &'static [&'static str],
}

const OWN: &str = "It describes that exporter itself: see the exporter's own metrics.";
const IN_A_TEXT: &str = "It is only in the text of `SHOW ENGINE INNODB STATUS`, which SQL cannot take apart.";
const OLD: &str = "Only servers before PostgreSQL 10 have it.";

const POSTGRES: Exporter = Exporter {
    name: "postgres_exporter",
    list: include_str!("families/postgres_exporter.txt"),
    exceptions: &[
        ("pg_exporter_user_queries_load_error", OWN),
        ("pg_scrape_collector_duration_seconds", OWN),
        ("pg_scrape_collector_success", OWN),
        ("postgres_exporter_build_info", OWN),
        ("pg_replication_slots_pg_xlog_location_diff", OLD),
        ("pg_stat_replication_pg_xlog_location_diff", OLD),
        ("pg_xlog_location_bytes", OLD),
    ],
    older: &[],
};

const MYSQL: Exporter = Exporter {
    name: "mysqld_exporter",
    list: include_str!("families/mysqld_exporter.txt"),
    exceptions: &[
        ("mysql_exporter_collector_success", OWN),
        ("mysql_exporter_collector_duration_seconds", OWN),
        ("mysqld_exporter_build_info", OWN),
        ("mysql_engine_innodb_queries_inside_innodb", IN_A_TEXT),
        ("mysql_engine_innodb_queries_in_queue", IN_A_TEXT),
        ("mysql_engine_innodb_read_views_open_inside_innodb", IN_A_TEXT),
        ("mysql_engine_tokudb_*", "The engine is gone from MySQL 8.0 and MariaDB 10.6."),
    ],
    older: &["mysql_exporter_last_scrape_duration_seconds", "mysql_exporter_last_scrape_error"],
};

const PGBOUNCER: Exporter = Exporter {
    name: "pgbouncer_exporter",
    list: include_str!("families/pgbouncer_exporter.txt"),
    exceptions: &[("pgbouncer_stats_totals_queries_total", "Only PgBouncer before 1.8 has the column.")],
    older: &[],
};

const EXPORTERS: &[&Exporter] = &[&POSTGRES, &MYSQL, &PGBOUNCER];

/// `15.18` of `15.18 (Debian …)`.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Promise {
    fn read(line: &'static str) -> Self {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{line:?} lacks a word"));
        let (name, kind, labels) = (word(), word(), word());
        let labels = labels.split(',').filter(|label| *label != "-").collect();
        let last = words.next();
        let since = last.and_then(|text| text.strip_prefix(">=")).map(version);
        assert!(last.is_none() || since.is_some() || last == Some("elsewhere"), "{line:?}");
        Promise { name, kind, labels, since, elsewhere: last == Some("elsewhere") }
    }

    fn fits(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((begin, end)) => name.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end)),
        }
    }

    /// Whether a family has these labels; `label?` may be missing, `*` stands for any.
    fn has_labels(&self, labels: &BTreeSet<String>) -> bool {
        let known = |label: &String| self.labels.iter().any(|known| known.trim_end_matches('?') == label);
        let there = |known: &&str| known.ends_with('?') || labels.contains(*known);
        self.labels.contains("*") || (labels.iter().all(known) && self.labels.iter().all(there))
    }
}

impl Exporter {
    fn promises(&self) -> Vec<Promise> {
        self.list.lines().map(Promise::read).collect()
    }

    /// What is wrong with the families of pages beside the list.
    fn faults(&self, pages: &[Page]) -> Vec<String> {
        let shown = shown(pages);
        let server = server_version(pages);
        let due = |promise: &Promise| promise.since.is_none_or(|since| since <= server);
        let promises: Vec<Promise> = self.promises().into_iter().filter(due).collect();
        let mut faults: Vec<String> =
            shown.iter().filter_map(|(name, family)| fault(&promises, name, family)).collect();
        faults.retain(|fault| !self.older.iter().any(|name| *fault == format!("{name} is not in the list")));
        // What MySQL and MariaDB show differs between versions: the list is about the one that `make test` has.
        let all = self.name != MYSQL.name || server == (10, 11);
        let is_absent =
            |promise: &&Promise| all && !promise.elsewhere && !shown.keys().any(|name| promise.fits(name));
        faults.extend(promises.iter().filter(is_absent).map(|promise| format!("{} is absent", promise.name)));
        faults
    }
}

/// What is wrong with one family: a line with its own name counts before one that stands for many.
fn fault(promises: &[Promise], name: &str, family: &Shown) -> Option<String> {
    let own = promises.iter().find(|promise| promise.name == name);
    let as_promised = |promise: &Promise| promise.kind == family.kind && promise.has_labels(&family.labels);
    let of_many = || promises.iter().filter(|promise| promise.fits(name)).collect();
    let candidates: Vec<&Promise> = own.map_or_else(of_many, |promise| vec![promise]);
    if candidates.is_empty() {
        return Some(format!("{name} is not in the list"));
    }
    let expected = || candidates.iter().map(|promise| (promise.kind, &promise.labels)).collect::<Vec<_>>();
    (!candidates.iter().any(|promise| as_promised(promise)))
        .then(|| format!("{name}: {family:?}, not one of {:?}", expected()))
}

const SUFFIXES: &[&str] = &["_bucket", "_sum", "_count", "_gsum", "_gcount"];

/// The families of pages, without the exporter's own.
fn shown(pages: &[Page]) -> BTreeMap<String, Shown> {
    let mut families = BTreeMap::new();
    for page in pages {
        for sample in &page.samples {
            let stem = SUFFIXES.iter().find_map(|suffix| sample.name.strip_suffix(suffix));
            let stem = stem.filter(|stem| page.types.contains_key(*stem));
            let name = stem.unwrap_or(&sample.name);
            if name.starts_with("sql_exporter_") {
                continue;
            }
            let labels =
                sample.labels.keys().filter(|label| !matches!(label.as_str(), "target" | "le" | "quantile"));
            let family = Shown { kind: page.types[name].clone(), labels: labels.cloned().collect() };
            let first = families.entry(name.to_owned()).or_insert_with(|| family.clone());
            assert_eq!(*first, family, "{name}");
        }
    }
    families
}

fn server_version(pages: &[Page]) -> (u32, u32) {
    let page = pages.first().expect("a page");
    version(&page.series("sql_exporter_target_info")[0].labels["version"])
}

/// What `test` warns about a user of the grants scripts.
fn excess_privileges(entry: &str) -> serde_json::Value {
    let config = format!("databases: {{it: {entry}}}\n");
    let output = Setup::new(&config).args(&["test", "--format", "json"]).output();
    let report: serde_json::Value = serde_json::from_str(output.text()).expect("JSON");
    assert_eq!(report["targets"][0]["verdict"], "pass", "{report}");
    report["targets"][0]["warnings"].clone()
}

/// One scrape of these packs, in which no query fails.
fn whole_page(entry: &str, packs: &[&str], more: &str) -> Page {
    let includes: Vec<String> = packs.iter().map(|pack| format!("'builtin:{pack}'")).collect();
    let config = format!("databases: {{it: {entry}}}\ninclude: [{}]\n{more}\n", includes.join(", "));
    let output = Setup::new(&config).once();
    let page = judge(output.text());
    assert_eq!(failed(&page), [""; 0], "{packs:?}: {}", output.errors());
    page
}

#[test]
fn the_packs_of_postgres_show_what_they_promise_to_the_role_of_the_grants() {
    let scene = Scene::new();
    let entries = [scene.shop(), scene.copy()].map(|access| entry_of_exporter(&access));

    let packs = ["compat/postgres_exporter", "compat/postgres_exporter_optional/*"];
    let more = "overrides: {compat_pg_stat_statements_query: {enabled: true}}";
    let pages = entries.each_ref().map(|entry| whole_page(entry, &packs, more));
    assert_eq!(POSTGRES.faults(&pages), [""; 0]);
    let settings = shown(&pages).keys().filter(|name| name.starts_with("pg_settings_")).count();
    assert!(settings >= 200, "{settings}");

    let pages = entries.each_ref().map(|entry| whole_page(entry, &["postgres/*"], ""));
    let families = shown(&pages).len();
    assert!(families >= 250, "{families}");
    assert_eq!(thirty(&entries, "postgres/essential"), 30);
    assert_eq!(excess_privileges(&entries[0]), serde_json::json!([]));
}

#[test]
fn the_packs_of_mariadb_show_what_they_promise_to_the_user_of_the_grants() {
    let scene = scene_mysql::Scene::new();
    let entries = [scene.source(), scene.replica()].map(scene_mysql::entry_of_exporter);

    let packs = ["compat/mysqld_exporter", "compat/mysqld_exporter_optional/*"];
    let more = "overrides: {compat_mysql_user_privileges: {enabled: true}}";
    let pages = entries.each_ref().map(|entry| whole_page(entry, &packs, more));
    assert_eq!(MYSQL.faults(&pages), [""; 0]);

    // Each family counts once, however many names a column makes of it.
    let pages = entries.each_ref().map(|entry| whole_page(entry, &["mysql/*", "mariadb/*"], ""));
    let families = shown(&pages).keys().filter(|name| !name.starts_with("mysql_status_")).count();
    assert!(families >= 150, "{families}");
    assert_eq!(thirty(&entries, "mysql/essential"), 30);
    // The script only proposes it, and says what else it allows.
    let proposed = ["exporter@% has REPLICATION MASTER ADMIN on *.*"];
    assert_eq!(excess_privileges(&entries[0]), serde_json::json!(proposed));
}

/// How many series an essential pack has on a server and its replica: one each, and none is on one page twice.
fn thirty(entries: &[String], pack: &str) -> usize {
    let pages: Vec<Page> = entries.iter().map(|entry| whole_page(entry, &[pack], "")).collect();
    let families = shown(&pages);
    for page in &pages {
        for name in families.keys() {
            assert!(page.series(name).len() <= 1, "{name} has several series");
        }
    }
    families.len()
}

/// The console of the shared PgBouncer.
fn console() -> Postgres {
    Postgres::shared("pgbouncer").through_pgbouncer()
}

#[test]
fn the_packs_of_pgbouncer_show_what_they_promise() {
    let server = Postgres::fresh("packs_pooled").through_pgbouncer();
    let mut client = server.client();
    client.batch_execute("BEGIN; SELECT 1").expect("asked");
    let entry = console().entry_with("lint_off: [L010]").replace("driver: postgres", "driver: pgbouncer");
    let entry = entry.replace("database: pgbouncer, ", "");
    let pages = [whole_page(&entry, &["compat/pgbouncer_exporter"], "")];
    assert_eq!(PGBOUNCER.faults(&pages), [""; 0]);
    let pages = [whole_page(&entry, &["pgbouncer/*"], "")];
    let families = shown(&pages).len();
    assert!(families >= 40, "{families}");
}

#[test]
fn a_list_names_a_family_once_and_no_exception() {
    for exporter in EXPORTERS {
        let promises = exporter.promises();
        let names: BTreeSet<&str> = promises.iter().map(|promise| promise.name).collect();
        let kinds: BTreeSet<(&str, &str)> =
            promises.iter().map(|promise| (promise.name, promise.kind)).collect();
        assert_eq!((names.len(), kinds.len()), (promises.len(), promises.len()), "{}", exporter.name);
        for (name, _) in exporter.exceptions {
            assert!(!names.contains(name), "{name} is in the list and an exception");
        }
    }
}

#[test]
fn the_document_names_each_exception() {
    let document = crate::documents::read("docs/packs.md");
    let quoted: Vec<&str> = document.split('`').skip(1).step_by(2).collect();
    let named = |name: &str| {
        quoted
            .iter()
            .any(|text| *text == name || text.strip_suffix('*').is_some_and(|stem| name.starts_with(stem)))
    };
    for exporter in EXPORTERS {
        for (name, reason) in exporter.exceptions {
            assert!(named(name), "docs/packs.md does not name {name}: {reason}");
        }
    }
}

/// A table of facts: its columns `metric`, `type` and `labels`, and the last version that has the family.
fn facts(text: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let mut lines =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect::<Vec<_>>());
    let heads = lines.next().expect("a head");
    let column = |name: &str| heads.iter().position(|head| *head == name).unwrap_or_else(|| panic!("{name}"));
    let (metric, kind, labels) = (column("metric"), column("type"), column("labels"));
    let fact = |cells: Vec<&str>| {
        let names = cells[labels].split(',').filter(|label| !label.is_empty() && *label != "server");
        (pattern(cells[metric]), cells[kind].to_owned(), names.map(pattern).collect())
    };
    lines.map(fact).collect()
}

/// `a_{b}_{c}_total` as the lists have it: `a_*_total`.
fn pattern(text: &str) -> String {
    let (Some(start), Some(end)) = (text.find('{'), text.rfind('}')) else { return text.to_owned() };
    format!("{}*{}", &text[..start], &text[end + 1..])
}

#[test]
fn the_lists_are_the_facts_without_the_exceptions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/metrics");
    if !folder.exists() {
        eprintln!("left out: {} is not there", folder.display());
        return;
    }
    for exporter in EXPORTERS {
        let text = std::fs::read_to_string(folder.join(format!("{}.tsv", exporter.name))).expect("the facts");
        let facts = facts(&text);
        let promises = exporter.promises();
        for (name, kind, labels) in &facts {
            let excepted = exporter.exceptions.iter().any(|(exception, _)| exception == name);
            let promise = promises.iter().find(|promise| promise.name == name);
            let as_promised = promise
                .map(|promise| (promise.kind == kind, promise.has_labels(labels) || labels.contains("*")));
            let expected = if excepted { None } else { Some((true, true)) };
            assert_eq!(as_promised, expected, "{name}");
        }
        for promise in promises {
            assert!(facts.iter().any(|(name, ..)| name == promise.name), "{} is not a fact", promise.name);
        }
        // Names that no server has are not counted as missing.
        let left_out = exporter.exceptions.iter().filter(|(_, reason)| *reason != OLD).count();
        let most = facts.len() / 20;
        assert!(left_out <= most, "{}: {left_out} exceptions, at most {most}", exporter.name);
    }
}
