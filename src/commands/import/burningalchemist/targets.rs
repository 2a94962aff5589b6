//! Targets: `target`, those of `jobs`, and peekjef72's `targets`, with the collectors that each runs.

use std::collections::{BTreeSet, HashMap};

use regex_lite::Regex;

use super::super::address;
use super::super::address::dburl::{self, SeparateLogin};
use super::super::dialect::{ImportOptions, entries, scalar};
use super::super::drivers::SourceDriver;
use super::super::model::{Entry, ImportedTarget, Value};
use super::super::report::Report;
use super::super::section::Section;
use super::super::unique_names::UniqueNames;
use super::{SourceParts, duration};
use crate::config::glob;
use crate::yaml::document::MapEntry;

/// A target of the source.
pub(super) struct FoundTarget {
    pub(super) target: ImportedTarget,
    /// Its driver, or what it needs.
    pub(super) driver: Result<&'static str, String>,
    /// Which of the collectors run there.
    pub(super) collectors: BTreeSet<usize>,
}

/// Name, address and labels: what is the same in all is one target.
type Identity = (String, String, Vec<(String, String)>);

/// The targets that were found so far.
#[derive(Default)]
struct FoundTargets {
    list: Vec<FoundTarget>,
    names: UniqueNames,
    by_identity: HashMap<Identity, usize>,
}

/// Finds the targets.
pub(super) struct TargetFinder<'t, 's> {
    pub(super) parts: &'t SourceParts<'s>,
    pub(super) options: &'t ImportOptions,
    pub(super) report: &'t Report,
}

/// One target before its address is read.
struct Described {
    name: String,
    entry: Entry,
    address: String,
    labels: Vec<(String, String)>,
    collectors: BTreeSet<usize>,
    login: SeparateLogin,
    /// A name where another target has the first one; without it that one gets a number.
    second_name: Option<String>,
}

impl TargetFinder<'_, '_> {
    pub(super) fn find(&self) -> Vec<FoundTarget> {
        let mut found = FoundTargets::default();
        for section in &self.parts.targets {
            self.target(section, &mut found);
        }
        for job in &self.parts.jobs {
            self.job(job, &mut found);
        }
        found.list
    }

    /// The items of `static_configs`.
    fn job(&self, job: &Section<'_>, found: &mut FoundTargets) {
        let name = job.text("job_name").unwrap_or_default();
        let collectors = self.collectors(job);
        job.take("enable_ping");
        let before = found.list.len();
        // Above its first target.
        let mut comments = job.comments();
        for config in job.sections("static_configs") {
            let mut labels = config.pairs("labels");
            // A label `job` of the configuration is refused there.
            if self.options.keep_labels && labels.iter().all(|(key, _)| key != "job") {
                labels.push(("job".to_owned(), name.clone()));
            }
            let pairs = config.take("targets").map(|targets| entries(&targets.node)).unwrap_or_default();
            // Each target has the labels, and runs the collectors.
            let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            if !config.may_copy((bytes + collectors.len()) * pairs.len()) {
                continue;
            }
            for pair in pairs {
                let mut entry = entry_of_pair(&config, pair);
                entry.comments.splice(0..0, std::mem::take(&mut comments));
                let described = Described {
                    second_name: Some(format!("{}_{name}", pair.key)),
                    name: pair.key.clone(),
                    entry,
                    address: scalar(&pair.node).unwrap_or_default().to_owned(),
                    labels: labels.clone(),
                    collectors: collectors.clone(),
                    login: SeparateLogin::default(),
                };
                self.add(described, found);
            }
            config.dead_keys();
        }
        job.dead_keys();
        if found.list.iter().skip(before).all(|found| found.driver.is_err()) {
            return;
        }
        own_metrics(job);
        if !self.options.keep_labels {
            job.note(
                "job_name",
                "the label `job` of all samples is left out: Prometheus has one of its own (--keep-labels)",
            );
        }
    }

    /// `target`, or an item of `targets`.
    fn target(&self, section: &Section<'_>, found: &mut FoundTargets) {
        if section.has("targets_files") {
            section.take("targets_files");
            section.dead_keys();
            return;
        }
        let address = section.text("data_source_name").or_else(|| section.text("dsn"));
        // An address that the environment holds names no database either.
        let named = address.filter(|address| self.options.url.is_none() || !dburl::is_variable(address));
        let is_ours = named.is_none() && self.options.url.is_some();
        let given = named.or_else(|| self.options.url.clone()).unwrap_or_default();
        // Of another text, any part may be a piece of a password.
        let of_url = || address::database(&given).filter(|_| given.contains("://"));
        let name = section.text("name").or_else(of_url).unwrap_or_else(|| "db".to_owned());
        section.take("enable_ping");
        if duration(section, "scrape_timeout").is_some_and(|time| !time.is_zero()) {
            section.note(
                "scrape_timeout",
                "a target has no timeout of its own: Prometheus sends that of a scrape",
            );
        }
        let collectors = self.collectors(section);
        if !section.may_copy(collectors.len()) {
            return;
        }
        let mut entry = section.entry();
        entry.origin = entry.origin.filter(|_| !is_ours);
        let described = Described {
            second_name: None,
            login: self.login(section, &name, is_ours),
            entry,
            address: given,
            labels: section.pairs("labels"),
            collectors,
            name,
        };
        self.add(described, found);
        section.dead_keys();
        if found.list.last().is_none_or(|found| found.driver.is_err()) {
            return;
        }
        if self.parts.is_peekjef72 {
            section.note(
                "name",
                "the metrics `…_up`, `…_scrape_duration_seconds` and `…_collector_status` are `sql_exporter_target_up`, \
                 `sql_exporter_scrape_duration_seconds` and `sql_exporter_query_success`",
            );
        } else if section.has("name") {
            own_metrics(section);
        } else {
            section.note(
                "name",
                "samples get the label `target`, which a target without a name has not there (`exporter.target_label: \"\"` \
                 leaves it out)",
            );
        }
    }

    /// peekjef72's user and password; those of `--url` stand in it.
    fn login(&self, section: &Section<'_>, target: &str, is_of_url: bool) -> SeparateLogin {
        let name = section.text("auth_name");
        let own = section.section("auth_config");
        if is_of_url {
            return SeparateLogin::default();
        }
        let named = name.as_ref().and_then(|name| self.parts.logins.iter().find(|(known, _)| known == name));
        if let Some(name) = name.as_ref().filter(|_| named.is_none()) {
            section.left_out("auth_name", format!("`auth_configs` has no {name}"));
        }
        match (named, &own) {
            (Some((_, login)), _) => self.read_login(login, target),
            (None, Some(login)) => self.read_login(login, target),
            (None, None) => SeparateLogin::default(),
        }
    }

    fn read_login(&self, login: &Section<'_>, target: &str) -> SeparateLogin {
        let read = |text: String, is_secret: bool| match text.strip_prefix("$env:") {
            Some(variable) => {
                Value::Expanded(self.report.of_source(variable, "as the other exporter reads it", "1"))
            }
            None if text.starts_with("/encrypted/") => {
                let what = format!("the password of {target}, decrypted");
                Value::Expanded(self.report.variable(&format!("{target}_PASSWORD"), &what, "1"))
            }
            None if is_secret => Value::Expanded(self.report.password(target, &text, "")),
            None => Value::from(text),
        };
        let username = login.text("user").map(|user| read(user, false));
        let password = login.text("password").map(|password| read(password, true));
        if login.has("realm") {
            login.note("realm", "a realm has no counterpart");
        }
        login.take("realm");
        login.dead_keys();
        SeparateLogin { username, password }
    }

    /// Adds a target; to the one that it is the same as.
    fn add(&self, described: Described, found: &mut FoundTargets) {
        let Described { name, mut entry, address, labels, collectors, login, second_name } = described;
        let identity = (name.clone(), address.clone(), labels.clone());
        if let Some(known) = found.by_identity.get(&identity).and_then(|at| found.list.get_mut(*at)) {
            known.collectors.extend(collectors);
            return;
        }
        let names: Vec<String> = std::iter::once(name.clone()).chain(second_name).collect();
        let unique = found.names.take_first(&names);
        if unique != name {
            self.report.note(entry.origin.clone(), format!("the target {unique} was another {name} there"));
        }
        let place = entry.origin.clone();
        let source = dburl::AddressReader {
            target: &unique,
            report: self.report,
            fallback: self.told(&collectors),
            login,
        };
        let driver = match address.as_str() {
            "template" => source.template(&mut entry),
            // That of `--url`.
            url if place.is_none() => {
                entry.set("url", Value::Expanded(address::without_password(url, &unique, self.report)));
                url.split(':')
                    .next()
                    .and_then(SourceDriver::known)
                    .unwrap_or(SourceDriver::Ours("postgres"))
                    .ours()
            }
            address => source.set(&mut entry, address),
        };
        if let Err(why) = &driver {
            self.report.left_out(place, format!("the target {unique} {why}"));
        }
        if !labels.is_empty() {
            entry.set("labels", Value::map(labels.iter().map(|(key, value)| (key, value.as_str()))));
        }
        found.by_identity.insert(identity, found.list.len());
        found.list.push(FoundTarget { target: ImportedTarget { name: unique, entry }, driver, collectors });
    }

    /// The database that collectors tell; of an address that does not.
    fn told(&self, collectors: &BTreeSet<usize>) -> SourceDriver {
        let mut collectors = collectors.iter().filter_map(|index| self.parts.collectors.get(*index));
        collectors.find_map(|collector| collector.told.clone()).unwrap_or(SourceDriver::Ours("postgres"))
    }

    /// The collectors that the patterns of `collectors` mean.
    fn collectors(&self, section: &Section<'_>) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        for pattern in section.texts("collectors") {
            let matches = matcher(&pattern, self.parts.is_peekjef72);
            let named = self.parts.collectors.iter().enumerate();
            let mut meant =
                named.filter(|(_, collector)| matches(&collector.name)).map(|(index, _)| index).peekable();
            if meant.peek().is_none() {
                let message =
                    format!("there is no collector {pattern}: name its file on the command line as well");
                section.left_out("collectors", message);
            }
            all.extend(meant);
        }
        all
    }
}

/// The entry of one pair of `targets`.
fn entry_of_pair(config: &Section<'_>, pair: &MapEntry) -> Entry {
    let path = format!("{}.targets.{}", config.path(), pair.key);
    let mut entry = Entry::at(config.input.document.place(pair.at, &path));
    entry.comments = pair.at.map(|at| config.input.comments_above(at)).unwrap_or_default();
    entry
}

fn own_metrics(section: &Section<'_>) {
    section.note(
        "collectors",
        "the metrics `up` and `scrape_duration_seconds` are `sql_exporter_target_up` and \
         `sql_exporter_scrape_duration_seconds`",
    );
}

/// Whether a name is meant: `~regex` and `!~regex` of peekjef72, patterns of Go's `filepath.Match`.
fn matcher(pattern: &str, is_peekjef72: bool) -> Box<dyn Fn(&str) -> bool> {
    let regex = |text: &str| Regex::new(text.trim()).ok();
    if let Some(text) = pattern.strip_prefix('~') {
        let regex = regex(text);
        return Box::new(move |name| regex.as_ref().is_some_and(|regex| regex.is_match(name)));
    }
    if let Some(text) = pattern.strip_prefix("!~") {
        let regex = regex(text);
        return Box::new(move |name| regex.as_ref().is_some_and(|regex| !regex.is_match(name)));
    }
    let plain = pattern.to_owned();
    if is_peekjef72 {
        return Box::new(move |name| name == plain);
    }
    // Braces are letters in Go's patterns.
    let text = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = glob::matcher(&text).ok();
    Box::new(move |name| name == plain || glob.as_ref().is_some_and(|glob| glob.is_match(name)))
}
