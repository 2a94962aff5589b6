//! One `databases:` entry: as read ([`TargetEntry`]), and with the queries that run there ([`TargetConfig`]).
//!
//! The keys that all drivers share are taken here; the driver takes its own through `Driver::endpoint`,
//! `connect_timeout` among them, which only it needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::connection::ConnectionConfig;
use crate::driver::{Drivers, Endpoint, RelationName, UNSUPPORTED_DRIVERS};
use crate::error::SourcePosition;
use crate::file;
use crate::name::LabelName;
use crate::yaml::keys::{Keys, Origin};
use crate::yaml::writer::{Digest, YamlValue, digest_of};

use super::aliases::Alias;
use super::discover::{Discover, DiscoveredBy};
use super::driver_name::DriverName;
use super::glob;
use super::query::Query;
use super::selection::{CollectorSelection, Overrides};
use super::settings::{Settings, Show, Written, above_zero, at_least_one, at_most, settings};
use super::source::EntrySource;

settings! {
    /// One configured database with the queries that run on it.
    #[derive(Clone)]
    pub struct TargetConfig, as written WrittenTarget {
        keys {
            /// `false`: nothing runs there.
            enabled: bool = true, Keys::flag;
            /// The number of queries that run at once on this target. With more than 20 targets on a server, the default is
            /// 1. At most 10,000.
            max_connections: u32 = 3, sessions;
            /// The number of sessions that all targets with this host, port and user have together. A session that idles is
            /// closed for a target that has none. Of targets with different numbers the least counts.
            max_server_connections: u32 = 20, at_least_one;
            /// How long a session may be idle before it is closed, within half a minute. `0` closes it at the end of each
            /// scrape.
            idle_timeout: Duration = Duration::from_secs(10 * 60), Keys::duration;
            /// How long a session lives before it is closed, ± 10 % and within half a minute.
            max_lifetime: Duration = Duration::from_secs(30 * 60), above_zero;
            /// `true`: all queries of one scrape see the database at one moment; `interval` does not apply then.
            snapshot: bool = false, Keys::flag;
        }
        fields {
            /// The key under `databases`, the value of the label `target`.
            name: String = String::new();
            /// The driver's label value: `postgres`, `pgbouncer`, `mysql`, `sqlite`; empty when it is wrong.
            driver: &'static str = "";
            /// Makes sessions. `None` for a known driver that is not built in (then no enabled query needs the target).
            endpoint: Option<Arc<dyn Endpoint>> = None;
            /// Constant labels on every sample of this target and on its `target_*` and `query_*` rows.
            labels: Vec<(LabelName, String)> = Vec::new();
            /// Its queries in configuration order, `overrides` applied.
            queries: Vec<Arc<Query>> = Vec::new();
            /// How it finds databases of its server, which become targets, too.
            discover: Option<Arc<Discover>> = None;
            /// The target that found it; `None` for one that is configured itself.
            discovered_by: Option<DiscoveredBy> = None;
            /// Names that its collectors give to the exporter's own metrics about it.
            aliases: Vec<Alias> = Vec::new();
            /// The entry as it may be shown.
            redacted: YamlValue = YamlValue::default();
            /// How it is written, for the lints.
            source: EntrySource = EntrySource::default();
            /// Of the way to the database: while it is the same, a reload keeps the sessions.
            connection: Digest = Digest::default();
            /// Of all that makes it what it is, its queries included: equal ones are the same target.
            digest: Digest = Digest::default();
        }
    }
}

/// Keys of an entry that say nothing about how its sessions are made, beside those of [`TargetConfig`].
const NOT_OF_SESSIONS: [&str; 5] = ["labels", "collectors", "overrides", "lint_off", "discover"];

/// The most sessions of a target: no server gives one client more, and the pool reserves memory for all of them.
pub const MAX_SESSIONS: u32 = 10_000;

/// Keys under which a URL is a slip. Its password would stand in messages: as the name of a database or of a file.
const NEVER_URLS: [&str; 6] = ["driver", "socket", "database", "username", "password_file", "url_file"];

/// One entry as read, before its queries are known.
pub(super) struct TargetEntry {
    /// Without its queries.
    pub(super) config: TargetConfig,
    pub(super) collectors: CollectorSelection,
    pub(super) overrides: Overrides,
    /// `max_connections` is written, here or in the defaults.
    pub(super) has_own_max_connections: bool,
    /// What says which driver.
    pub(super) driver_place: SourcePosition,
}

impl std::ops::Deref for TargetEntry {
    type Target = TargetConfig;

    fn deref(&self) -> &TargetConfig {
        &self.config
    }
}

impl TargetConfig {
    /// How to log in; `None` for a file, and where the driver is not built in.
    pub fn login(&self) -> Option<&ConnectionConfig> {
        self.endpoint.as_ref()?.connection_config()
    }

    /// The queries that run: the enabled ones, and none on a target that is disabled.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Query>> {
        self.queries.iter().filter(|query| self.enabled && query.enabled)
    }

    /// The relations of which the conditions of its queries ask, each once.
    pub fn relations(&self) -> Vec<RelationName> {
        let conditions = self.running().filter_map(|query| query.when.as_ref());
        let mut relations: Vec<_> = conditions.flat_map(|when| when.relations.iter().cloned()).collect();
        relations.sort_unstable();
        relations.dedup();
        relations
    }
}

impl TargetEntry {
    /// The driver is known and not built in.
    pub(super) fn is_not_built_in(&self) -> bool {
        UNSUPPORTED_DRIVERS.contains(&self.driver)
    }

    /// Takes all keys of one entry. Faults are recorded; what could be read is kept, so that queries find it.
    pub(super) fn read(name: String, mut keys: Keys<'_>, drivers: &Drivers) -> TargetEntry {
        check_name(&name, &keys);
        let has_misplaced_url = refuse_urls(&keys);
        let (named, by_url) =
            if has_misplaced_url { (None, false) } else { DriverName::of_entry(&mut keys, drivers) };
        let mut config = TargetConfig {
            name,
            driver: named.as_ref().map_or("", DriverName::label),
            labels: labels(&mut keys),
            source: EntrySource::read(&mut keys),
            ..TargetConfig::default()
        };
        let written = WrittenTarget::read(&mut keys);
        let has_own_max_connections = written.max_connections.is_some();
        config.set(written);
        if config.snapshot && config.driver == "pgbouncer" {
            keys.fault("snapshot", "PgBouncer's console has no transactions");
        }
        let mut entry = TargetEntry {
            config,
            collectors: CollectorSelection::read(&mut keys),
            overrides: Overrides::read(&mut keys),
            has_own_max_connections,
            driver_place: keys.place(if keys.has("driver") { "driver" } else { "" }),
        };
        if has_misplaced_url {
            return entry;
        }
        // Which other keys are right is the driver's to say.
        match named {
            // The keys of a driver that is not built in are not checked.
            Some(DriverName::NotBuiltIn(_)) => return entry,
            Some(DriverName::BuiltIn(driver)) => {
                let config = &mut entry.config;
                config.endpoint = driver.endpoint(&mut keys);
                config.discover = Discover::read(&mut keys, config.endpoint.as_deref(), &config.labels);
                config.redacted = redacted(&mut keys, config.endpoint.as_deref());
                (config.connection, config.digest) = digests(&mut keys);
                config.source.note_values(&keys, config.endpoint.as_deref());
            }
            Some(DriverName::Slip(driver)) if !by_url => {
                drop(driver.endpoint(&mut keys));
                Discover::read(&mut keys, None, &[]);
            }
            // Faults of a URL would follow from its wrong scheme. What no driver knows is unknown all the same.
            Some(DriverName::Slip(_)) | None => {
                for driver in drivers.names().filter_map(|name| drivers.find(name)) {
                    driver.endpoint(&mut keys.rehearsal());
                }
                Discover::read(&mut keys, None, &[]);
            }
        }
        keys.finish();
        entry
    }

    /// The target with its queries.
    pub(super) fn resolve(self, queries: Vec<Arc<Query>>) -> TargetConfig {
        let parts: Vec<&[u8]> = queries.iter().map(|query| query.digest.as_slice()).collect();
        let digest = digest_of(&[[self.name.as_bytes(), &self.digest].as_slice(), &parts].concat());
        TargetConfig { digest, queries, ..self.config }
    }
}

/// A number of sessions of one target.
pub(super) fn sessions(keys: &mut Keys<'_>, key: &'static str) -> Option<u32> {
    at_most(keys, key, MAX_SESSIONS, "sessions that a target can have")
}

/// Whether a URL stands where none can; a fault for each.
fn refuse_urls(keys: &Keys<'_>) -> bool {
    let found: Vec<&str> = NEVER_URLS
        .into_iter()
        .filter(|key| keys.peek(key).is_some_and(|text| text.expose().contains("://")))
        .collect();
    for key in &found {
        keys.fault_with_hint(key, format!("`{key}` is a URL"), "the URL of a database belongs under `url`");
    }
    !found.is_empty()
}

/// The entry without secrets: of a URL what tells where it leads, of a `password_command` its program.
fn redacted(keys: &mut Keys<'_>, endpoint: Option<&dyn Endpoint>) -> YamlValue {
    let mut redacted = keys.redacted();
    for key in ["url", "connection_string"] {
        let place =
            endpoint.map_or_else(YamlValue::hidden, |endpoint| YamlValue::Text(endpoint.redacted_url()));
        redacted.set(key, place, false);
    }
    if let Some(login) = endpoint.and_then(Endpoint::connection_config) {
        let socket = keys.file("socket");
        // A default that the entry or its URL replaces says nothing about the target.
        let is_used = |key: &str, text: &str| match key {
            "host" => {
                let host = text.trim_matches(['[', ']']);
                login.hosts.iter().any(|known| known.host == host)
                    || login.socket.as_deref() == Some(Path::new(host))
            }
            "socket" => login.socket == socket,
            "port" => login.hosts.iter().any(|known| known.port.to_string() == text.trim()),
            "database" => login.database.as_deref() == Some(text),
            "username" => login.username.as_deref() == Some(text),
            _ => true,
        };
        redacted.retain(|key, value| match (keys.origin(key), value) {
            (Some(Origin::Default), YamlValue::Text(text)) => is_used(key, text),
            _ => true,
        });
    }
    if let Some(program) = keys.texts("password_command").and_then(|argv| argv.into_iter().next()) {
        let command = YamlValue::List(vec![YamlValue::Text(program), YamlValue::hidden()]);
        redacted.set("password_command", command, false);
    }
    redacted
}

/// Of what makes its sessions, and of all. The file behind `url_file` is read at load only.
fn digests(keys: &mut Keys<'_>) -> (Digest, Digest) {
    let url = keys.file("url_file").and_then(|path| file::small_text(&path).ok()).unwrap_or_default();
    let with_url = |digest: Digest| digest_of(&[&digest, url.as_bytes()]);
    let own = TargetConfig::ABOUT.iter().map(|(key, _)| *key).chain(NOT_OF_SESSIONS);
    (with_url(keys.digest_without(&own.collect::<Vec<_>>())), with_url(keys.digest()))
}

fn check_name(name: &str, keys: &Keys<'_>) {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        keys.fault("", "a target's name is one line of printable text");
    } else if !glob::is_plain(name) || name.starts_with('!') {
        let message = format!("a target cannot be called {name:?}");
        keys.fault_with_hint("", message, "`*`, `?`, `[`, `{` and a leading `!` make a pattern");
    }
}

fn labels(keys: &mut Keys<'_>) -> Vec<(LabelName, String)> {
    let pairs = keys.pairs("labels").unwrap_or_default();
    let legal = |(name, value): (String, String)| Some((keys.valid("labels", LabelName::new(&name))?, value));
    let mut labels: Vec<_> = pairs.into_iter().filter_map(legal).collect();
    // As on the samples: an order that does not depend on what `defaults` say first.
    labels.sort();
    labels
}
