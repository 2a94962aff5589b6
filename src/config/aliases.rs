//! Names that a collector file gives to metrics of the exporter's own, for the targets that run it: `up`, `last_scrape`,
//! `scrapes`.
//! Dashboards and alerts of another exporter find them under its names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::SourcePosition;
use crate::exposition::{Family, FamilyKind, reserved_names};
use crate::metric::naming::our_prefix;
use crate::name::MetricName;
use crate::yaml::keys::{Keys, Reader};
use crate::yaml::writer::digest_of;

use super::conflicts;
use super::target::TargetConfig;

/// What stands under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasOf {
    /// `sql_exporter_target_up`.
    TargetUp,
    /// `sql_exporter_scrape_duration_seconds`.
    ScrapeDuration,
    /// Whether the target is down or a query of the collectors failed: the opposite of all their `query_success`.
    ScrapeError,
    /// How many scrapes the target had.
    Scrapes,
}

impl AliasOf {
    /// In a word, as `/config` shows it.
    pub fn as_str(self) -> &'static str {
        self.described().0
    }

    /// A word for it, its type and its help.
    fn described(self) -> (&'static str, FamilyKind, &'static str) {
        use FamilyKind::{Counter, Gauge};
        match self {
            AliasOf::TargetUp => {
                ("target_up", Gauge, "Whether a session was opened or answered in this scrape.")
            }
            AliasOf::ScrapeDuration => {
                ("scrape_duration_seconds", Gauge, "Time from the request to the rendering of this page.")
            }
            AliasOf::ScrapeError => {
                ("scrape_error", Gauge, "Whether a query failed in this scrape, or the target is down.")
            }
            AliasOf::Scrapes => {
                ("scrapes_total", Counter, "Scrapes of the target since the exporter started.")
            }
        }
    }
}

/// One such name on one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The family under that name.
    pub family: Arc<Family>,
    /// What it shows.
    pub of: AliasOf,
    /// The collectors that give the name and run on the target: it stands on pages with one of them.
    pub collectors: Vec<Arc<str>>,
}

/// One name as a file gives it.
pub(super) struct AliasEntry {
    family: Arc<Family>,
    of: AliasOf,
    collector: Arc<str>,
    place: SourcePosition,
}

/// The keys that give a name, and what they add to it.
const NAMES: [(&str, &str, AliasOf); 4] = [
    ("up", "", AliasOf::TargetUp),
    ("last_scrape", "_duration_seconds", AliasOf::ScrapeDuration),
    ("last_scrape", "_error", AliasOf::ScrapeError),
    ("scrapes", "", AliasOf::Scrapes),
];

/// Takes the keys `up`, `help`, `last_scrape` and `scrapes` of a collector file.
pub(super) fn read(keys: &mut Keys<'_>, collector: &Arc<str>) -> Vec<AliasEntry> {
    let own_help = keys.text("help");
    if keys.has("help") && !keys.has("up") {
        let message = "`help` goes with `up`: a metric has its own under `metrics`";
        keys.lacks("help", &["up"], message, None);
    }
    let mut entries = Vec::new();
    for (key, suffix, of) in NAMES {
        // A prefix that is not legal is one fault.
        let Some(name) = name(keys, key, "").and_then(|_| name(keys, key, suffix)) else { continue };
        if of == AliasOf::Scrapes && !name.as_str().ends_with("_total") {
            let message = format!("{name} is the name of a counter, and does not end in `_total`");
            keys.fault_with_hint(key, message, format!("call it {name}_total"));
        }
        let (_, kind, about) = of.described();
        let help = own_help.clone().filter(|_| of == AliasOf::TargetUp).unwrap_or_else(|| about.to_owned());
        let family = Arc::new(Family::new(name, kind, help));
        entries.push(AliasEntry { family, of, collector: Arc::clone(collector), place: keys.place(key) });
    }
    entries
}

/// The name under `key` with a suffix, if it is one that a metric may have.
fn name(keys: &mut Keys<'_>, key: &'static str, suffix: &str) -> Option<MetricName> {
    let name = keys.text(key)? + suffix;
    if let Some(prefix) = our_prefix(&name) {
        let message = format!("{name}: names that begin with {prefix} are reserved for the exporter");
        keys.fault_with_hint(key, message, "give it another name");
        return None;
    }
    keys.valid(key, MetricName::new(&name))
}

/// Gives each target its names. Clashes among them and with the metrics of queries are recorded; a name that two files give
/// to the same thing is one family, with the first one's help.
pub(super) fn assign(entries: Vec<AliasEntry>, targets: &mut [TargetConfig], reader: &Reader<'_>) {
    let running: Vec<AliasEntry> =
        entries.into_iter().filter(|entry| targets.iter().any(|target| runs(target, entry))).collect();
    let mut known: HashMap<&str, &AliasEntry> = HashMap::new();
    for entry in &running {
        let first = *known.entry(entry.family.name.as_str()).or_insert(entry);
        check(entry, first, reader);
    }
    clashes(&running, targets, reader);
    for target in targets {
        target.aliases = of_target(target, &running, &known);
        if !target.aliases.is_empty() {
            target.digest = digest_of(&[&target.digest, format!("{:?}", target.aliases).as_bytes()]);
        }
    }
}

/// No two families, of queries or under names of ours, write or reserve one name.
fn clashes(running: &[AliasEntry], targets: &[TargetConfig], reader: &Reader<'_>) {
    let mut owners: HashMap<String, &AliasEntry> = HashMap::new();
    let clash = |entry: &AliasEntry, taken: &str, other: &str, place: &SourcePosition| {
        let (name, at) = (&entry.family.name, conflicts::file_and_line(place));
        let both = if name.as_str() == other { String::new() } else { format!(": both own {taken}") };
        let message = format!("{name} clashes with the metric {other} at {at}{both}");
        reader.fault_at(&entry.place, message, "give one of them another name");
    };
    for entry in running {
        for taken in reserved_names(entry.family.name.as_str(), entry.family.kind) {
            match owners.get(&taken) {
                Some(first) if first.family.name != entry.family.name => {
                    clash(entry, &taken, first.family.name.as_str(), &first.place);
                }
                Some(_) => {}
                None => {
                    owners.insert(taken, entry);
                }
            }
        }
    }
    for (_, metric) in conflicts::running(targets) {
        let mut reserved = reserved_names(metric.naming.text(), metric.naming.kind()).into_iter();
        if let Some((entry, taken)) = reserved.find_map(|taken| Some((*owners.get(&taken)?, taken))) {
            clash(entry, &taken, metric.naming.text(), &metric.place);
        }
    }
}

/// True where an enabled query of the collector is assigned to the target.
fn runs(target: &TargetConfig, entry: &AliasEntry) -> bool {
    target.running().any(|query| query.collector == entry.collector)
}

fn of_target(
    target: &TargetConfig,
    running: &[AliasEntry],
    known: &HashMap<&str, &AliasEntry>,
) -> Vec<Alias> {
    let mut aliases: Vec<Alias> = Vec::new();
    for entry in running.iter().filter(|entry| runs(target, entry)) {
        let family = &known[entry.family.name.as_str()].family;
        match aliases.iter_mut().find(|alias| alias.family.name == family.name) {
            Some(alias) => alias.collectors.push(Arc::clone(&entry.collector)),
            None => aliases.push(Alias {
                family: Arc::clone(family),
                of: entry.of,
                collectors: vec![Arc::clone(&entry.collector)],
            }),
        }
    }
    aliases
}

/// One name that two files may give.
fn check(entry: &AliasEntry, first: &AliasEntry, reader: &Reader<'_>) {
    let (name, at) = (&entry.family.name, conflicts::file_and_line(&first.place));
    if entry.of != first.of {
        let message = format!("{name} is another metric at {at}");
        reader.fault_at(&entry.place, message, "give one of them another name");
    } else if entry.family.help != first.family.help {
        let message = format!("{name} has a different help at {at}");
        reader.warn_at(&entry.place, message, "the first one is shown");
    }
}
