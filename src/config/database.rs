//! One `databases:` entry: as read ([`DatabaseEntry`]), and cooked ([`Database`]).
//!
//! The keys that all drivers share are taken here; the driver takes its own through `Driver::endpoint`,
//! `connect_timeout` among them, which only it needs.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::connection::AddressSyntax;
use crate::driver::{Drivers, Endpoint};
use crate::error::SourcePosition;
use crate::name::LabelName;
use crate::yaml::keys::{Keys, Origin};
use crate::yaml::writer::{Digest, YamlValue, digest_of};

use super::collector_selection::CollectorSelection;
use super::driver_name::DriverName;
use super::overrides::Overrides;
use super::query::Query;
use super::source;
use super::source::DatabaseSource;
use super::{glob, text_file};

/// One configured database with the queries that run on it.
pub struct Database {
    /// The key under `databases`, the value of the label `target`.
    pub name: String,
    /// The driver's label value: `postgres`, `pgbouncer`, `mysql`, `sqlite`.
    pub driver: &'static str,
    /// Makes sessions. `None` for a known driver that is not built in (then no enabled query needs the target).
    pub endpoint: Option<Arc<dyn Endpoint>>,
    /// False: nothing runs, nothing is shown but that it is disabled.
    pub enabled: bool,
    /// Constant labels on every sample of this target and on its `target_*` and `query_*` rows.
    pub labels: Vec<(LabelName, String)>,
    /// Lanes: sessions at once.
    pub max_connections: u32,
    /// An idle session is closed after this.
    pub idle_timeout: Duration,
    /// A session is closed after this, ± 10 %.
    pub max_lifetime: Duration,
    /// All its queries of one scrape see the database at one moment.
    pub snapshot: bool,
    /// Its queries in configuration order, `overrides` applied.
    pub queries: Vec<Arc<Query>>,
    /// The entry as it may be shown.
    pub redacted: YamlValue,
    /// How it is written, for the lints.
    pub source: DatabaseSource,
    /// Of the way to the database: while it is the same, a reload keeps the sessions.
    pub connection: Digest,
    /// Of all that makes it what it is, its queries included: equal ones are the same target.
    pub digest: Digest,
}

/// Keys of an entry that say nothing about how its sessions are made.
const NOT_OF_SESSIONS: &[&str] = &[
    "enabled",
    "labels",
    "collectors",
    "overrides",
    "max_connections",
    "idle_timeout",
    "max_lifetime",
    "snapshot",
    "lint_off",
];

/// One entry as read, before its queries are known.
pub(super) struct DatabaseEntry {
    pub(super) name: String,
    /// The driver's one name; empty when it is wrong.
    pub(super) driver: &'static str,
    pub(super) enabled: bool,
    pub(super) labels: Vec<(LabelName, String)>,
    pub(super) collectors: CollectorSelection,
    pub(super) overrides: Overrides,
    /// The driver is known and not built in.
    pub(super) elsewhere: bool,
    /// What says which driver.
    pub(super) driver_place: SourcePosition,
    /// How it is written.
    pub(super) source: DatabaseSource,
    pub(super) endpoint: Option<Arc<dyn Endpoint>>,
    max_connections: u32,
    pub(super) snapshot: bool,
    times: Times,
    redacted: YamlValue,
    connection: Digest,
    digest: Digest,
}

#[derive(Clone, Copy)]
struct Times {
    idle: Duration,
    life: Duration,
}

impl DatabaseEntry {
    /// Takes all keys of one entry. Faults are recorded; what could be read is kept, so that queries find it.
    pub(super) fn read(name: String, mut keys: Keys<'_>, drivers: &Drivers) -> DatabaseEntry {
        check_name(&name, &keys);
        keys.refuse("discover");
        let (named, by_url) = driver(&mut keys, drivers);
        let mut draft = DatabaseEntry {
            name,
            driver: named.as_ref().map_or("", DriverName::label),
            enabled: keys.flag("enabled").unwrap_or(true),
            labels: labels(&mut keys),
            collectors: CollectorSelection::read(&mut keys),
            overrides: Overrides::read(&mut keys),
            elsewhere: matches!(named, Some(DriverName::Elsewhere(_))),
            driver_place: keys.place(if keys.has("driver") { "driver" } else { "" }),
            source: DatabaseSource::read(&mut keys),
            endpoint: None,
            max_connections: max_connections(&mut keys),
            snapshot: keys.flag("snapshot").unwrap_or(false),
            times: times(&mut keys),
            redacted: YamlValue::Map(Vec::new()),
            connection: Digest::default(),
            digest: Digest::default(),
        };
        if draft.snapshot && draft.driver == "pgbouncer" {
            keys.fault("snapshot", "PgBouncer's console knows no transaction");
        }
        // Which other keys are right is the driver's to say.
        match named {
            // A driver known elsewhere: they are left alone.
            Some(DriverName::Elsewhere(_)) => return draft,
            Some(DriverName::BuiltIn(driver)) => {
                draft.endpoint = driver.endpoint(&mut keys);
                draft.redacted = redacted(&mut keys, draft.endpoint.as_deref());
                (draft.connection, draft.digest) = digests(&mut keys);
                draft.source.secrets = source::secrets(&keys);
                draft.source.note_comments(&keys, draft.endpoint.as_deref());
            }
            Some(DriverName::Slip(driver)) if !by_url => drop(driver.endpoint(&mut keys)),
            // Faults of a URL would follow from its wrong scheme. What no driver knows is unknown all the same.
            Some(DriverName::Slip(_)) | None => {
                for driver in drivers.names().filter_map(|name| drivers.find(name)) {
                    driver.endpoint(&mut keys.rehearsal());
                }
            }
        }
        keys.finish();
        draft
    }

    /// The target with its queries.
    pub(super) fn resolve(self, queries: Vec<Arc<Query>>) -> Database {
        let parts: Vec<&[u8]> = queries.iter().map(|query| query.digest.as_slice()).collect();
        let digest = digest_of(&[[self.name.as_bytes(), &self.digest].as_slice(), &parts].concat());
        Database {
            redacted: self.redacted,
            source: self.source,
            connection: self.connection,
            digest,
            name: self.name,
            driver: self.driver,
            endpoint: self.endpoint,
            enabled: self.enabled,
            labels: self.labels,
            max_connections: self.max_connections,
            idle_timeout: self.times.idle,
            max_lifetime: self.times.life,
            snapshot: self.snapshot,
            queries,
        }
    }
}

/// The entry without secrets: of a URL what tells where it leads, of a `password_command` its program.
fn redacted(keys: &mut Keys<'_>, endpoint: Option<&dyn Endpoint>) -> YamlValue {
    let mut redacted = keys.redacted();
    for key in ["url", "connection_string"] {
        let place =
            endpoint.map_or_else(YamlValue::hidden, |endpoint| YamlValue::Text(endpoint.redacted_url()));
        redacted.set(key, place, false);
    }
    if let Some(program) = keys.texts("password_command").and_then(|words| words.into_iter().next()) {
        let command = YamlValue::List(vec![YamlValue::Text(program), YamlValue::hidden()]);
        redacted.set("password_command", command, false);
    }
    redacted
}

/// Of what makes its sessions, and of all. The file behind `url_file` is read at load only.
fn digests(keys: &mut Keys<'_>) -> (Digest, Digest) {
    let url = keys.file("url_file").and_then(|path| text_file::read(&path).ok()).unwrap_or_default();
    let with_url = |digest: Digest| digest_of(&[&digest, url.as_bytes()]);
    (with_url(keys.digest_without(NOT_OF_SESSIONS)), with_url(keys.digest()))
}

fn check_name(name: &str, keys: &Keys<'_>) {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        keys.fault("", "a target's name is one line of printable text");
    } else if !glob::is_plain(name) || name.starts_with('!') {
        let message = format!("a target cannot be called {name:?}");
        keys.fault_with_hint("", message, "`*`, `?`, `[`, `{` and a leading `!` make a pattern");
    }
}

/// `driver`, else what stands before `:` in the URL, and whether it was that. An entry's own URL counts more than a
/// `driver` of the defaults.
fn driver(keys: &mut Keys<'_>, drivers: &Drivers) -> (Option<DriverName>, bool) {
    let urls = ["url", "connection_string", "url_file"];
    let own_url = urls.iter().any(|key| keys.origin(key) == Some(Origin::Own));
    DriverName::names("driver", keys, drivers);
    let written = keys.has("driver");
    let name = keys.text("driver");
    if written && (keys.origin("driver") == Some(Origin::Own) || !own_url) {
        return (name.and_then(|name| DriverName::find(&name, "driver", keys, drivers)), false);
    }
    let Some(key) = urls.into_iter().find(|key| keys.has(key)) else {
        let names: Vec<&str> = drivers.names().collect();
        let hint = Some(format!("drivers: {}", names.join(", ")));
        keys.lacks(
            "",
            &["driver", "url", "connection_string", "url_file"],
            "has neither `driver` nor `url`",
            hint,
        );
        return (None, false);
    };
    (of_url(key, keys, drivers), true)
}

fn of_url(key: &'static str, keys: &mut Keys<'_>, drivers: &Drivers) -> Option<DriverName> {
    let url = if key == "url_file" {
        let path = keys.file(key)?;
        text_file::read(&path).map_err(|message| keys.fault(key, message)).ok()?
    } else {
        keys.secret(key)?.expose().to_owned()
    };
    // Only what stands before `:` may be shown, and only where it looks like a scheme: the rest may be a secret.
    let (message, hint) = match AddressSyntax::of(&url) {
        AddressSyntax::Url(scheme) if scheme == "jdbc" => {
            ("is a URL for Java", "leave `jdbc:` out: DRIVER://USER@HOST/DATABASE")
        }
        AddressSyntax::Url(scheme)
            if scheme.contains('+') && drivers.find(before_plus(&scheme)).is_some() =>
        {
            ("is a URL for Python", "leave out the `+` and what follows it: DRIVER://USER@HOST/DATABASE")
        }
        AddressSyntax::Url(scheme) => return DriverName::find(&scheme, key, keys, drivers),
        AddressSyntax::Keywords => return DriverName::find("postgres", key, keys, drivers),
        AddressSyntax::Go => {
            ("is the form of the Go driver for MySQL", "write mysql://USER:PASSWORD@HOST:PORT/DATABASE")
        }
        AddressSyntax::Unknown => ("is no URL", "write DRIVER://USER@HOST/DATABASE or sqlite:PATH"),
    };
    keys.fault_with_hint(key, message, hint);
    None
}

fn before_plus(scheme: &str) -> &str {
    scheme.split('+').next().unwrap_or_default()
}

fn labels(keys: &mut Keys<'_>) -> Vec<(LabelName, String)> {
    let pairs = keys.pairs("labels").unwrap_or_default();
    let legal = |(name, value): (String, String)| match LabelName::new(&name) {
        Ok(name) => Some((name, value)),
        Err(message) => {
            keys.fault("labels", message);
            None
        }
    };
    let mut labels: Vec<_> = pairs.into_iter().filter_map(legal).collect();
    // As on the samples: an order that does not depend on what `defaults` say first.
    labels.sort();
    labels
}

fn max_connections(keys: &mut Keys<'_>) -> u32 {
    let lanes = keys.number("max_connections", "a whole number of at least 1").unwrap_or(3);
    if lanes == 0 {
        keys.fault("max_connections", "0 connections run nothing: write a whole number of at least 1");
    }
    lanes
}

fn times(keys: &mut Keys<'_>) -> Times {
    let mut time = |key, default| {
        let time = keys.duration(key).unwrap_or(default);
        if time.is_zero() {
            keys.fault(key, "0 would close every session at once: write a duration above 0");
        }
        time
    };
    Times {
        idle: time("idle_timeout", Duration::from_secs(10 * 60)),
        life: time("max_lifetime", Duration::from_secs(30 * 60)),
    }
}
